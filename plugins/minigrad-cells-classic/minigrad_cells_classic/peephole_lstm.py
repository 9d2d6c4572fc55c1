"""Long short-term memory with peepholes."""

from __future__ import annotations

import minigrad as mg

__all__ = ["PeepholeLSTMCell"]

State = tuple[mg.Tensor, mg.Tensor]


class PeepholeLSTMCell(mg.GatedCell):
    """Long short-term memory whose gates see the memory (Gers and Schmidhuber 2000).

        i, f, g, o = W_ih x + b_ih + W_hh h + b_hh            (stacked in this order)
        c' = sigmoid(f + w_cf * c) * c + sigmoid(i + w_ci * c) * tanh(g)
        h' = sigmoid(o + w_co * c') * tanh(c')                (the output)

    The names of the peepholes are those of Graves (2013, equations 7 to 11).

    Args:
        input_size: I, the size of x (B, I).
        hidden_size: H, the size of h and c (B, H); the state is (h, c).
        bias: whether there are biases.

    Attributes:
        weight_ih: (4H, I); weight_hh: (4H, H); bias_ih, bias_hh: (4H,) or None; weight_ci, weight_cf, weight_co: (H,).
            All drawn from U(-k, k) with k = 1 / sqrt(H), but the biases of the forget gate are 1 and 0.

    Raises:
        ValueError: a size is no integer of 0 or more.

    >>> import minigrad as mg
    >>> y, (h, c) = PeepholeLSTMCell(3, 5)(mg.ones((2, 3)))
    >>> c.shape
    (2, 5)
    """

    gates = 4

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True) -> None:
        super().__init__(input_size, hidden_size, bias)
        self.bias_gate(1, 1.0)
        self.weight_ci = mg.Parameter(mg.init.recurrent_uniform((hidden_size,), hidden_size))
        self.weight_cf = mg.Parameter(mg.init.recurrent_uniform((hidden_size,), hidden_size))
        self.weight_co = mg.Parameter(mg.init.recurrent_uniform((hidden_size,), hidden_size))

    def init_state(self, batch_size: int) -> State:
        return self.zero_state(batch_size), self.zero_state(batch_size)

    def step(self, x: mg.Tensor, state: State) -> tuple[mg.Tensor, State]:
        h, c = state
        i, f, g, o = mg.split(self.from_input(x) + self.from_state(h), 4, axis=-1)
        c = mg.sigmoid(f + self.weight_cf * c) * c + mg.sigmoid(i + self.weight_ci * c) * mg.tanh(g)
        h = mg.sigmoid(o + self.weight_co * c) * mg.tanh(c)
        return h, (h, c)
