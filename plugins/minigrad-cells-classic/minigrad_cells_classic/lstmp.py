"""Long short-term memory with a recurrent projection."""

from __future__ import annotations

import minigrad as mg

__all__ = ["LSTMPCell"]

State = tuple[mg.Tensor, mg.Tensor]


class LSTMPCell(mg.GatedCell):
    """Long short-term memory whose output is projected to a smaller size (Sak et al. 2014, without peepholes).

        i, f, g, o = W_ih x + b_ih + W_hh h + b_hh            (stacked in this order)
        c' = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h' = W_hr (sigmoid(o) * tanh(c'))                     (the output)

    This is PyTorch's `nn.LSTM(..., proj_size=P)`, and its weights load as they are.

    Args:
        input_size: I, the size of x (B, I).
        hidden_size: H, the size of c (B, H).
        proj_size: P, the size of h and the output (B, P); by default half of H, at least 1. The state is (h, c).
        bias: whether there are biases.

    Attributes:
        output_size: P.
        weight_ih: (4H, I); weight_hh: (4H, P); bias_ih, bias_hh: (4H,) or None; weight_hr: (P, H).
            All drawn from U(-k, k) with k = 1 / sqrt(H), but the biases of the forget gate are 1 and 0.

    Raises:
        ValueError: a size is no integer of 0 or more.

    >>> import minigrad as mg
    >>> y, (h, c) = LSTMPCell(3, 5, proj_size=2)(mg.ones((4, 3)))
    >>> y.shape, c.shape
    ((4, 2), (4, 5))
    """

    gates = 4

    def __init__(self, input_size: int, hidden_size: int, proj_size: int | None = None, bias: bool = True) -> None:
        mg.check_size(hidden_size=hidden_size)
        self.output_size = max(hidden_size // 2, 1) if proj_size is None else proj_size
        mg.check_size(proj_size=self.output_size)
        super().__init__(input_size, hidden_size, bias, recurrent_size=self.output_size)
        self.bias_gate(1, 1.0)
        self.weight_hr = mg.Parameter(mg.init.recurrent_uniform((self.output_size, hidden_size), hidden_size))

    def init_state(self, batch_size: int) -> State:
        return mg.zeros((batch_size, self.output_size)), self.zero_state(batch_size)

    def step(self, x: mg.Tensor, state: State) -> tuple[mg.Tensor, State]:
        h, c = state
        i, f, g, o = mg.split(self.from_input(x) + self.from_state(h), 4, axis=-1)
        c = mg.sigmoid(f) * c + mg.sigmoid(i) * mg.tanh(g)
        h = mg.linear(mg.sigmoid(o) * mg.tanh(c), self.weight_hr)
        return h, (h, c)
