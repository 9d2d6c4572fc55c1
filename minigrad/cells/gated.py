"""`GatedCell`: weights as gated cells have them, with PyTorch's names and layout, gates along the first axis."""

from __future__ import annotations

from minigrad import init
from minigrad.backend import is_floating
from minigrad.contract import Cell
from minigrad.creation import full, zeros
from minigrad.layers import check_size
from minigrad.ops import concat, linear, split
from minigrad.tensor import Parameter, Tensor

__all__ = ["GatedCell"]


class GatedCell(Cell):
    """Base class of cells of `gates` blocks, each with an input product, a recurrent product, and two biases.

    A subclass says how many gates there are, and writes `init_state` and `step`.

    Args:
        input_size: I, the size of x.
        hidden_size: H, the size of a gate.
        bias: whether there are biases.
        recurrent_init: `"uniform"`, or `"orthogonal"` for an orthogonal matrix per gate.
        recurrent_size: R, the size of what goes into the recurrent product; by default H.

    Attributes:
        gates: how many.
        weight_ih: (gates * H, I); weight_hh: (gates * H, R); bias_ih, bias_hh: (gates * H,) or None.
            All drawn from U(-k, k) with k = 1 / sqrt(H), as PyTorch does, unless options say otherwise.

    Raises:
        ValueError: a size is no integer of 0 or more, or the orthogonal matrices would not be square.

    >>> class Leaky(mg.GatedCell):
    ...     gates = 2
    ...     def init_state(self, batch_size):
    ...         return self.zero_state(batch_size)
    ...     def step(self, x, h):
    ...         leak, new = mg.split(self.from_input(x) + self.from_state(h), 2, axis=-1)
    ...         h = h + mg.sigmoid(leak) * (mg.tanh(new) - h)
    ...         return h, h
    >>> Leaky(3, 5).weight_ih.shape
    (10, 3)
    """

    gates: int

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        recurrent_init: str = "uniform",
        recurrent_size: int | None = None,
    ) -> None:
        columns = hidden_size if recurrent_size is None else recurrent_size
        check_size(input_size=input_size, hidden_size=hidden_size, recurrent_size=columns)
        if recurrent_init not in ("uniform", "orthogonal"):
            raise ValueError(f"recurrent_init is 'uniform' or 'orthogonal', not {recurrent_init!r}")
        self.input_size = input_size
        self.hidden_size = hidden_size
        if recurrent_init == "orthogonal" and columns != hidden_size:
            raise ValueError(f"recurrent_init='orthogonal' needs square matrices; these are ({hidden_size}, {columns})")
        rows = self.gates * hidden_size
        self.weight_ih = Parameter(init.recurrent_uniform((rows, input_size), hidden_size))
        if recurrent_init == "orthogonal":
            self.weight_hh = Parameter(concat([init.orthogonal((hidden_size, hidden_size)) for _ in range(self.gates)]))
        else:
            self.weight_hh = Parameter(init.recurrent_uniform((rows, columns), hidden_size))
        self.bias_ih = Parameter(init.recurrent_uniform((rows,), hidden_size)) if bias else None
        self.bias_hh = Parameter(init.recurrent_uniform((rows,), hidden_size)) if bias else None

    def bias_gate(self, number: int, value: float) -> None:
        """Let the two biases of a gate add up to a value at first, if there are any.

        At 1 a forget gate lets gradients through from the start (Jozefowicz et al. 2015, section 2.2).
        """
        if self.bias_ih is not None and self.bias_hh is not None:
            for bias, start in ((self.bias_ih, value), (self.bias_hh, 0.0)):
                parts = split(bias.detach(), self.gates)
                parts = [full(self.hidden_size, start) if n == number else part for n, part in enumerate(parts)]
                bias.data = concat(parts).data

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
