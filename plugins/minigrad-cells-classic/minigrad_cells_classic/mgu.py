"""The minimal gated unit."""

from __future__ import annotations

import minigrad as mg

__all__ = ["MGUCell"]


class MGUCell(mg.GatedCell):
    """The minimal gated unit: one gate that both forgets and resets (Zhou et al. 2016).

        f = sigmoid(W_if x + b_if + W_hf h + b_hf)
        n = tanh(W_in x + b_in + W_hn (f * h) + b_hn)
        h' = (1 - f) * h + f * n                              (the output)

    Args:
        input_size: I, the size of x (B, I).
        hidden_size: H, the size of the state h (B, H).
        bias: whether there are biases.

    Attributes:
        weight_ih: (2H, I); weight_hh: (2H, H); bias_ih, bias_hh: (2H,) or None. Stacked in the order f, n, and drawn
            from U(-k, k) with k = 1 / sqrt(H).

    Raises:
        ValueError: a size is no integer of 0 or more.

    >>> import minigrad as mg
    >>> y, h = MGUCell(3, 5)(mg.ones((2, 3)))
    >>> h.shape
    (2, 5)
    """

    gates = 2

    def init_state(self, batch_size: int) -> mg.Tensor:
        return self.zero_state(batch_size)

    def step(self, x: mg.Tensor, state: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
        h = state
        gate_x, candidate_x = mg.split(self.from_input(x), 2, axis=-1)
        weight_f, weight_n = mg.split(self.weight_hh, 2)
        bias_f, bias_n = (None, None) if self.bias_hh is None else mg.split(self.bias_hh, 2)
        f = mg.sigmoid(gate_x + mg.linear(h, weight_f, bias_f))
        n = mg.tanh(candidate_x + mg.linear(f * h, weight_n, bias_n))
        h = h + f * (n - h)
        return h, h
