"""What the cells share: checked sizes, and weights with PyTorch's names, layout and initial values."""

from __future__ import annotations

from math import sqrt
from numbers import Integral

import minigrad as mg

__all__ = ["GatedCell", "check_size", "uniform"]


class GatedCell(mg.Cell):
    """A cell of `gates` blocks of H rows, each with an input product, a recurrent product, and two biases.

    Args:
        input_size: I, the size of x.
        hidden_size: H, the size of a gate.
        bias: whether there are biases.
        recurrent_size: the size of what the recurrent weights are applied to; by default H.

    Attributes:
        weight_ih: (gates * H, I); weight_hh: (gates * H, recurrent_size); bias_ih, bias_hh: (gates * H,) or None.
            All drawn from U(-k, k) with k = 1 / sqrt(H); but the two biases of the gate number `forget_gate`, if that
            is not None, add up to 1 at first (Jozefowicz et al. 2015).
    """

    gates: int
    forget_gate: int | None = None

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, recurrent_size: int | None = None) -> None:
        check_size(input_size=input_size, hidden_size=hidden_size)
        self.input_size, self.hidden_size = input_size, hidden_size
        rows, columns = self.gates * hidden_size, hidden_size if recurrent_size is None else recurrent_size
        self.weight_ih = uniform((rows, input_size), hidden_size)
        self.weight_hh = uniform((rows, columns), hidden_size)
        self.bias_ih = self._bias(1.0) if bias else None
        self.bias_hh = self._bias(0.0) if bias else None

    def _bias(self, forget: float) -> mg.Parameter:
        gates = mg.split(uniform((self.gates * self.hidden_size,), self.hidden_size).detach(), self.gates)
        return mg.Parameter(
            mg.concat([mg.full(self.hidden_size, forget) if n == self.forget_gate else b for n, b in enumerate(gates)])
        )

    def from_input(self, x: mg.Tensor) -> mg.Tensor:
        """x W_ih^T + b_ih, for all gates at once: (B, gates * H)."""
        return mg.linear(x, self.weight_ih, self.bias_ih)

    def from_state(self, h: mg.Tensor) -> mg.Tensor:
        """h W_hh^T + b_hh, for all gates at once: (B, gates * H)."""
        return mg.linear(h, self.weight_hh, self.bias_hh)

    def zeros(self, batch_size: int) -> mg.Tensor:
        """(B, H)."""
        return mg.zeros((batch_size, self.hidden_size))


def uniform(shape: tuple[int, ...], hidden_size: int) -> mg.Parameter:
    """A parameter drawn from U(-k, k) with k = 1 / sqrt(hidden_size)."""
    return mg.Parameter(mg.init.symmetric_uniform(shape, 1 / sqrt(max(hidden_size, 1))))


def check_size(**sizes: int) -> None:
    """Raise an error that names the argument, unless each is an integer of at least 0."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, Integral) or size < 0:
            raise ValueError(f"{name} is a number of elements, an integer of 0 or more; got {size!r}")
