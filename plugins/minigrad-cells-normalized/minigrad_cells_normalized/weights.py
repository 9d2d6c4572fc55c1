"""What the cells share: checked sizes, and PyTorch's initial weights."""

from __future__ import annotations

from math import sqrt
from numbers import Integral

import minigrad as mg

__all__ = ["check_size", "uniform"]


def uniform(shape: tuple[int, ...], hidden_size: int) -> mg.Parameter:
    """A parameter drawn from U(-k, k) with k = 1 / sqrt(hidden_size)."""
    return mg.Parameter(mg.init.symmetric_uniform(shape, 1 / sqrt(max(hidden_size, 1))))


def check_size(**sizes: int) -> None:
    """Raise an error that names the argument, unless each is an integer of at least 0."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, Integral) or size < 0:
            raise ValueError(f"{name} is a number of elements, an integer of 0 or more; got {size!r}")
