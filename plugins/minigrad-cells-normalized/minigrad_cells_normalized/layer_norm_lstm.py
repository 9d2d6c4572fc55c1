"""Long short-term memory with layer normalisation."""

from __future__ import annotations

import minigrad as mg

__all__ = ["LayerNormLSTMCell"]

State = tuple[mg.Tensor, mg.Tensor]


class LayerNormLSTMCell(mg.Cell):
    """Long short-term memory with layer normalisation (Ba et al. 2016, supplementary material).

        i, f, g, o = LN_ih(W_ih x) + LN_hh(W_hh h) + b        (stacked in this order, normalised together)
        c' = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h' = sigmoid(o) * tanh(LN_c(c'))                      (the output)

    Each LN has a gain and a shift of its own: LN(a) = (a - mean(a)) / sqrt(var(a) + eps) * weight + bias.

    Args:
        input_size: I, the size of x (B, I).
        hidden_size: H, the size of h and c (B, H); the state is (h, c).
        eps: added to the variances.

    Attributes:
        weight_ih: (4H, I); weight_hh: (4H, H). Drawn from U(-k, k) with k = 1 / sqrt(H).
        bias: (4H,), zeros at first, but 1 for the forget gate.
        norm_ih, norm_hh, norm_c: `mg.LayerNorm` of 4H, 4H and H, with gains of 1 and shifts of 0 at first.

    Raises:
        ValueError: a size is no integer of 0 or more.

    >>> import minigrad as mg
    >>> y, (h, c) = LayerNormLSTMCell(3, 5)(mg.ones((2, 3)))
    >>> c.shape
    (2, 5)
    """

    def __init__(self, input_size: int, hidden_size: int, eps: float = 1e-5) -> None:
        mg.check_size(input_size=input_size, hidden_size=hidden_size)
        self.input_size, self.hidden_size = input_size, hidden_size
        self.weight_ih = mg.Parameter(mg.init.recurrent_uniform((4 * hidden_size, input_size), hidden_size))
        self.weight_hh = mg.Parameter(mg.init.recurrent_uniform((4 * hidden_size, hidden_size), hidden_size))
        zeros, ones = mg.zeros(hidden_size), mg.ones(hidden_size)
        self.bias = mg.Parameter(mg.concat([zeros, ones, zeros, zeros]))
        self.norm_ih = mg.LayerNorm(4 * hidden_size, eps)
        self.norm_hh = mg.LayerNorm(4 * hidden_size, eps)
        self.norm_c = mg.LayerNorm(hidden_size, eps)

    def init_state(self, batch_size: int) -> State:
        return mg.zeros((batch_size, self.hidden_size)), mg.zeros((batch_size, self.hidden_size))

    def step(self, x: mg.Tensor, state: State) -> tuple[mg.Tensor, State]:
        h, c = state
        from_x, from_h = self.norm_ih(mg.linear(x, self.weight_ih)), self.norm_hh(mg.linear(h, self.weight_hh))
        i, f, g, o = mg.split(from_x + from_h + self.bias, 4, axis=-1)
        c = mg.sigmoid(f) * c + mg.sigmoid(i) * mg.tanh(g)
        h = mg.sigmoid(o) * mg.tanh(self.norm_c(c))
        return h, (h, c)
