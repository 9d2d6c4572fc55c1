"""New tensors on the current backend: constants, ranges, and copies of another tensor's shape."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from minigrad.backend import as_dtype, get_backend, is_floating
from minigrad.tensor import Tensor

__all__ = ["arange", "full", "ones", "ones_like", "zeros", "zeros_like"]

Shape = int | tuple[int, ...]


def zeros(shape: Shape, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros, by default of the default dtype.

    >>> mg.zeros((2, 3)).shape
    (2, 3)
    """
    return _made("zeros", dtype, requires_grad, shape)


def ones(shape: Shape, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones, by default of the default dtype."""
    return _made("ones", dtype, requires_grad, shape)


def full(shape: Shape, fill_value: float, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """One value everywhere, by default of the default dtype."""
    return _made("full", dtype, requires_grad, shape, fill_value)


def arange(start: float, stop: float | None = None, step: float = 1, dtype: Any = None) -> Tensor:
    """start, start + step, ... below stop; with one argument 0, 1, ... below it. Integers give integers."""
    start, stop = (0, start) if stop is None else (start, stop)
    if dtype is None and all(isinstance(value, Integral) for value in (start, stop, step)):
        dtype = "int64"
    return Tensor(get_backend().xp.arange(start, stop, step, dtype=as_dtype(dtype)))


def zeros_like(x: Tensor) -> Tensor:
    """Zeros in the shape and dtype and on the backend of x."""
    return Tensor(x.backend.xp.zeros(x.shape, dtype=x.dtype))


def ones_like(x: Tensor) -> Tensor:
    """Ones in the shape and dtype and on the backend of x."""
    return Tensor(x.backend.xp.ones(x.shape, dtype=x.dtype))


def _made(function: str, dtype: Any, requires_grad: bool, *arguments: Any) -> Tensor:
    """A tensor of what one of the current backend's functions gives."""
    found = as_dtype(dtype)
    if requires_grad and not is_floating(found):
        raise ValueError(f"requires_grad needs floating-point values; these are {found}")
    return Tensor(getattr(get_backend().xp, function)(*arguments, dtype=found), requires_grad)
