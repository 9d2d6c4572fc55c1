"""The simple recurrent network."""

from __future__ import annotations

from minigrad.cells.gated import GatedCell
from minigrad.ops import relu, tanh
from minigrad.tensor import Tensor

__all__ = ["RNNCell"]


class RNNCell(GatedCell):
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh); the output is h' (Elman 1990).

    Args:
        input_size: I, the size of x (B, I).
        hidden_size: H, the size of the state h (B, H).
        nonlinearity: `"tanh"` or `"relu"`.
        bias: whether there are biases.
        recurrent_init: `"uniform"` or `"orthogonal"`.

    >>> y, h = mg.RNNCell(3, 5)(mg.ones((2, 3)))
    >>> h.shape
    (2, 5)
    """

    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        nonlinearity: str = "tanh",
        bias: bool = True,
        recurrent_init: str = "uniform",
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"nonlinearity is 'tanh' or 'relu', not {nonlinearity!r}")
        super().__init__(input_size, hidden_size, bias, recurrent_init)
        self.nonlinearity = nonlinearity

    def init_state(self, batch_size: int) -> Tensor:
        return self.zero_state(batch_size)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        activation = tanh if self.nonlinearity == "tanh" else relu
        h = activation(self.from_input(x) + self.from_state(state))
        return h, h
