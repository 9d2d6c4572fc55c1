"""Long short-term memory."""

from __future__ import annotations

from minigrad.cells.gated import GatedCell
from minigrad.ops import sigmoid, split, tanh
from minigrad.tensor import Tensor

__all__ = ["LSTMCell"]


class LSTMCell(GatedCell):
    """Long short-term memory with forget gates (Hochreiter and Schmidhuber 1997; Gers et al. 2000).

        i, f, g, o = W_ih x + b_ih + W_hh h + b_hh            (stacked in this order)
        c' = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h' = sigmoid(o) * tanh(c')                            (the output)

    Args:
        input_size: I, the size of x (B, I).
        hidden_size: H, the size of h and c (B, H); the state is (h, c).
        bias: whether there are biases.
        recurrent_init: `"uniform"` or `"orthogonal"`.
        forget_bias: initial bias of the forget gate; 1 lets gradients through from the start (Jozefowicz et al. 2015).
            None leaves it random, as PyTorch does.

    >>> y, (h, c) = mg.LSTMCell(3, 5)(mg.ones((2, 3)))
    >>> c.shape
    (2, 5)
    """

    gates = 4

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        recurrent_init: str = "uniform",
        forget_bias: float | None = 1.0,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, recurrent_init)
        if forget_bias is not None:
            self.bias_gate(1, forget_bias)

    def init_state(self, batch_size: int) -> tuple[Tensor, Tensor]:
        return self.zero_state(batch_size), self.zero_state(batch_size)

    def step(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        h, c = state
        i, f, g, o = split(self.from_input(x) + self.from_state(h), 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(c)
        return h, (h, c)
