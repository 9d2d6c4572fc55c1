"""The weights that the built-in cells share: PyTorch's names and layout, gates stacked along the first axis."""

from __future__ import annotations

from math import sqrt

from minigrad import init
from minigrad.backend import is_floating
from minigrad.contract import Cell
from minigrad.creation import zeros
from minigrad.layers import check_size
from minigrad.ops import concat, linear
from minigrad.tensor import Parameter, Tensor


class GatedCell(Cell):
    """A cell of `gates` blocks, each with an input product, a recurrent product, and two biases.

    Args:
        input_size: I, the size of x.
        hidden_size: H, the size of h.
        bias: whether there are biases.
        recurrent_init: `"uniform"`, or `"orthogonal"` for an orthogonal matrix per gate.

    Attributes:
        weight_ih: (gates * H, I); weight_hh: (gates * H, H); bias_ih, bias_hh: (gates * H,) or None.
            All drawn from U(-k, k) with k = 1 / sqrt(H), as PyTorch does, unless options say otherwise.
    """

    gates: int

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, recurrent_init: str = "uniform") -> None:
        check_size(input_size=input_size, hidden_size=hidden_size)
        if recurrent_init not in ("uniform", "orthogonal"):
            raise ValueError(f"recurrent_init is 'uniform' or 'orthogonal', not {recurrent_init!r}")
        self.input_size = input_size
        self.hidden_size = hidden_size
        rows, bound = self.gates * hidden_size, 1 / sqrt(max(hidden_size, 1))
        self.weight_ih = Parameter(init.symmetric_uniform((rows, input_size), bound))
        if recurrent_init == "orthogonal":
            self.weight_hh = Parameter(concat([init.orthogonal((hidden_size, hidden_size)) for _ in range(self.gates)]))
        else:
            self.weight_hh = Parameter(init.symmetric_uniform((rows, hidden_size), bound))
        self.bias_ih = Parameter(init.symmetric_uniform((rows,), bound)) if bias else None
        self.bias_hh = Parameter(init.symmetric_uniform((rows,), bound)) if bias else None

    def from_input(self, x: Tensor) -> Tensor:
        """x W_ih^T + b_ih, for all gates at once: (B, gates * H)."""
        if not is_floating(x.dtype):
            raise TypeError(f"{type(self).__name__} takes floating-point x; this is {x.dtype}: x.astype('float32')")
        return linear(x, self.weight_ih, self.bias_ih)

    def from_state(self, h: Tensor) -> Tensor:
        """h W_hh^T + b_hh, for all gates at once: (B, gates * H)."""
        return linear(h, self.weight_hh, self.bias_hh)

    def zero_state(self, batch_size: int) -> Tensor:
        """Zeros (B, H)."""
        return zeros((batch_size, self.hidden_size))
