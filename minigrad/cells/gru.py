"""The gated recurrent unit."""

from __future__ import annotations

from minigrad.cells.gated import GatedCell
from minigrad.ops import linear, sigmoid, split, tanh
from minigrad.tensor import Tensor

__all__ = ["GRUCell"]


class GRUCell(GatedCell):
    """The gated recurrent unit (Cho et al. 2014, section 2.3).

        r = sigmoid(W_ir x + b_ir + W_hr h + b_hr)
        z = sigmoid(W_iz x + b_iz + W_hz h + b_hz)
        n = tanh(W_in x + b_in + r * (W_hn h + b_hn))         reset_after=True: as in PyTorch and cuDNN
        n = tanh(W_in x + b_in + W_hn (r * h) + b_hn)         reset_after=False: as in the paper
        h' = (1 - z) * n + z * h                              (the output)

    Args:
        input_size: I, the size of x (B, I).
        hidden_size: H, the size of the state h (B, H).
        bias: whether there are biases.
        reset_after: whether the reset gate is applied after the recurrent product.
        recurrent_init: `"uniform"` or `"orthogonal"`.

    Weights are stacked in the order r, z, n.

    >>> y, h = mg.GRUCell(3, 5)(mg.ones((2, 3)))
    >>> h.shape
    (2, 5)
    """

    gates = 3

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        reset_after: bool = True,
        recurrent_init: str = "uniform",
    ) -> None:
        super().__init__(input_size, hidden_size, bias, recurrent_init)
        self.reset_after = reset_after

    def init_state(self, batch_size: int) -> Tensor:
        return self.zero_state(batch_size)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        h, cut = state, 2 * self.hidden_size
        gates_x, candidate_x = split(self.from_input(x), [cut], axis=-1)
        if self.reset_after:
            gates_h, candidate_h = split(self.from_state(h), [cut], axis=-1)
            r, z = split(sigmoid(gates_x + gates_h), 2, axis=-1)
            n = tanh(candidate_x + r * candidate_h)
        else:
            weight_gates, weight_candidate = split(self.weight_hh, [cut])
            bias_gates, bias_candidate = (None, None) if self.bias_hh is None else split(self.bias_hh, [cut])
            r, z = split(sigmoid(gates_x + linear(h, weight_gates, bias_gates)), 2, axis=-1)
            n = tanh(candidate_x + linear(r * h, weight_candidate, bias_candidate))
        h = n + z * (h - n)
        return h, h
