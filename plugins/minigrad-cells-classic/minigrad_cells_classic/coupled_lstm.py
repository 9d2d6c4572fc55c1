"""Long short-term memory with coupled gates."""

from __future__ import annotations

import minigrad as mg

__all__ = ["CoupledLSTMCell"]

State = tuple[mg.Tensor, mg.Tensor]


class CoupledLSTMCell(mg.GatedCell):
    """Long short-term memory that writes as much as it forgets (Greff et al. 2017, "CIFG", without peepholes).

        f, g, o = W_ih x + b_ih + W_hh h + b_hh               (stacked in this order)
        c' = sigmoid(f) * c + (1 - sigmoid(f)) * tanh(g)
        h' = sigmoid(o) * tanh(c')                            (the output)

    Args:
        input_size: I, the size of x (B, I).
        hidden_size: H, the size of h and c (B, H); the state is (h, c).
        bias: whether there are biases.

    Attributes:
        weight_ih: (3H, I); weight_hh: (3H, H); bias_ih, bias_hh: (3H,) or None.
            All drawn from U(-k, k) with k = 1 / sqrt(H), but the biases of the forget gate are 1 and 0.

    Raises:
        ValueError: a size is no integer of 0 or more.

    >>> import minigrad as mg
    >>> y, (h, c) = CoupledLSTMCell(3, 5)(mg.ones((2, 3)))
    >>> c.shape
    (2, 5)
    """

    gates = 3

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True) -> None:
        super().__init__(input_size, hidden_size, bias)
        self.bias_gate(0, 1.0)

    def init_state(self, batch_size: int) -> State:
        return self.zero_state(batch_size), self.zero_state(batch_size)

    def step(self, x: mg.Tensor, state: State) -> tuple[mg.Tensor, State]:
        h, c = state
        f, g, o = mg.split(self.from_input(x) + self.from_state(h), 3, axis=-1)
        g = mg.tanh(g)
        c = g + mg.sigmoid(f) * (c - g)
        h = mg.sigmoid(o) * mg.tanh(c)
        return h, (h, c)
