"""The gated recurrent unit with layer normalisation."""

from __future__ import annotations

import minigrad as mg

__all__ = ["LayerNormGRUCell"]


class LayerNormGRUCell(mg.Cell):
    """The gated recurrent unit with layer normalisation (Ba et al. 2016, supplementary material).

        r, z = sigmoid(LN_ih(W_i x) + LN_hh(W_h h))           (both gates normalised together)
        n = tanh(LN_in(W_in x) + r * LN_hn(W_hn h))
        h' = (1 - z) * n + z * h                              (the output)

    Each LN has a gain and a shift of its own: LN(a) = (a - mean(a)) / sqrt(var(a) + eps) * weight + bias. The update
    gate has PyTorch's sense, as in `mg.GRUCell`: z keeps the old state, where the paper's takes the new.

    Args:
        input_size: I, the size of x (B, I).
        hidden_size: H, the size of the state h (B, H).
        eps: added to the variances.

    Attributes:
        weight_ih: (3H, I); weight_hh: (3H, H). Stacked in the order r, z, n, and drawn from U(-k, k) with
            k = 1 / sqrt(H).
        norm_ih, norm_hh: `mg.LayerNorm` of 2H; norm_in, norm_hn: of H. Gains of 1 and shifts of 0 at first.

    Raises:
        ValueError: a size is no integer of 0 or more.

    >>> import minigrad as mg
    >>> y, h = LayerNormGRUCell(3, 5)(mg.ones((2, 3)))
    >>> h.shape
    (2, 5)
    """

    def __init__(self, input_size: int, hidden_size: int, eps: float = 1e-5) -> None:
        mg.check_size(input_size=input_size, hidden_size=hidden_size)
        self.input_size, self.hidden_size = input_size, hidden_size
        self.weight_ih = mg.Parameter(mg.init.recurrent_uniform((3 * hidden_size, input_size), hidden_size))
        self.weight_hh = mg.Parameter(mg.init.recurrent_uniform((3 * hidden_size, hidden_size), hidden_size))
        self.norm_ih, self.norm_hh = mg.LayerNorm(2 * hidden_size, eps), mg.LayerNorm(2 * hidden_size, eps)
        self.norm_in, self.norm_hn = mg.LayerNorm(hidden_size, eps), mg.LayerNorm(hidden_size, eps)

    def init_state(self, batch_size: int) -> mg.Tensor:
        return mg.zeros((batch_size, self.hidden_size))

    def step(self, x: mg.Tensor, state: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
        h, cut = state, 2 * self.hidden_size
        gates_x, candidate_x = mg.split(mg.linear(x, self.weight_ih), [cut], axis=-1)
        gates_h, candidate_h = mg.split(mg.linear(h, self.weight_hh), [cut], axis=-1)
        r, z = mg.split(mg.sigmoid(self.norm_ih(gates_x) + self.norm_hh(gates_h)), 2, axis=-1)
        n = mg.tanh(self.norm_in(candidate_x) + r * self.norm_hn(candidate_h))
        h = n + z * (h - n)
        return h, h
