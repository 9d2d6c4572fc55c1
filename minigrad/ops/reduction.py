"""Reductions over axes, and the softmax family. Each forward has its gradient rules beneath.

`axis` is an integer, a tuple of integers, or None for all axes; `keepdims` leaves reduced axes with size 1.
"""

from __future__ import annotations

from math import prod
from typing import Any

from minigrad.backend import Array
from minigrad.ops.elementwise import astype, equal, exp, where
from minigrad.ops.shape import broadcast_to, reshape
from minigrad.primitive import defvjp, primitive
from minigrad.tensor import Tensor

Axis = int | tuple[int, ...] | None


@primitive
def sum(xp: Any, x: Array, /, axis: Axis = None, keepdims: bool = False) -> Array:
    """The sum. Of nothing it is 0.

    >>> mg.sum(mg.ones((2, 3)), axis=1)
    tensor([3., 3.], dtype=float32)
    """
    return x.sum(axis=axis, keepdims=keepdims)


defvjp(sum, lambda g, x_shape, axis, keepdims: broadcast_to(_kept(g, x_shape, axis), x_shape))


@primitive
def mean(xp: Any, x: Array, /, axis: Axis = None, keepdims: bool = False) -> Array:
    """The arithmetic mean. Of nothing it is NaN."""
    return x.mean(axis=axis, keepdims=keepdims) if x.size else _mean_of_empty(xp, x, axis, keepdims)


defvjp(
    mean,
    lambda g, x_shape, axis, keepdims: broadcast_to(_kept(g, x_shape, axis) / (count(x_shape, axis) or 1), x_shape),
)


def _mean_of_empty(xp: Any, x: Array, axis: Axis, keepdims: bool) -> Array:
    return xp.full_like(x.sum(axis=axis, keepdims=keepdims), xp.nan)


@primitive
def max(xp: Any, x: Array, /, axis: Axis = None, keepdims: bool = False) -> Array:
    """The largest value. Equal ones share the gradient evenly."""
    return x.max(axis=axis, keepdims=keepdims)


defvjp(max, lambda g, y, x, axis, keepdims: _shared(g, y, x, axis))


@primitive
def min(xp: Any, x: Array, /, axis: Axis = None, keepdims: bool = False) -> Array:
    """The smallest value. Equal ones share the gradient evenly."""
    return x.min(axis=axis, keepdims=keepdims)


defvjp(min, lambda g, y, x, axis, keepdims: _shared(g, y, x, axis))


def _shared(g: Any, y: Any, x: Any, axis: Axis) -> Any:
    """`g` given to the elements of `x` that equal the extreme `y`, in equal parts."""
    hit = astype(equal(x, _kept(y, x.shape, axis)), g.dtype)
    return hit * (_kept(g, x.shape, axis) / sum(hit, axis, keepdims=True))


@primitive
def argmax(xp: Any, x: Array, /, axis: int | None = None, keepdims: bool = False) -> Array:
    """The index of the largest value (the first of equals). No gradient."""
    return x.argmax(axis=axis, keepdims=keepdims)


def var(x: Any, axis: Axis = None, correction: float = 0, keepdims: bool = False) -> Tensor:
    """The variance: the mean of squared distances from the mean, over n - correction."""
    centred = x - mean(x, axis, keepdims=True)
    return sum(centred * centred, axis, keepdims) / (count(x.shape, axis) - correction)


@primitive
def logsumexp(xp: Any, x: Array, /, axis: Axis = None, keepdims: bool = False) -> Array:
    """log(sum(exp(x))), computed relative to the maximum: no overflow. Of minus infinities it is minus infinity."""
    top = x.max(axis=axis, keepdims=True)
    top = xp.where(xp.isfinite(top), top, 0)
    total = xp.exp(x - top).sum(axis=axis, keepdims=True)
    y = xp.log(xp.where(total == 0, 1, total)) + xp.where(total == 0, -xp.inf, top)
    return y if keepdims else y.reshape(_reduced(x.shape, axis))


defvjp(
    logsumexp,
    lambda g, y, x, axis, keepdims: _kept(g, x.shape, axis) * exp(x - _finite(_kept(y, x.shape, axis))),
)


def _finite(y: Any) -> Any:
    """`y` with minus infinity as 0, so that exp(-inf - y) is 0 and not NaN."""
    return where(equal(y, -float("inf")), 0.0, y)


@primitive
def softmax(xp: Any, x: Array, /, axis: int = -1) -> Array:
    """exp(x) / sum(exp(x)) along one axis, computed relative to the maximum: no overflow.

    >>> mg.softmax(mg.tensor([1000.0, 1000.0]))
    tensor([0.5, 0.5], dtype=float32)
    """
    y = xp.exp(x - x.max(axis=axis, keepdims=True))
    return y / y.sum(axis=axis, keepdims=True)


defvjp(softmax, lambda g, y, axis: y * (g - sum(g * y, axis, keepdims=True)))


@primitive
def log_softmax(xp: Any, x: Array, /, axis: int = -1) -> Array:
    """log(softmax(x)) along one axis, without ever taking the logarithm of a rounded 0."""
    shifted = x - x.max(axis=axis, keepdims=True)
    return shifted - xp.log(xp.exp(shifted).sum(axis=axis, keepdims=True))


defvjp(log_softmax, lambda g, y, axis: g - exp(y) * sum(g, axis, keepdims=True))


# --- axes


def _axes(ndim: int, axis: Axis) -> tuple[int, ...]:
    if axis is None or not ndim:
        return tuple(range(ndim))
    return tuple(a % ndim for a in (axis if isinstance(axis, tuple) else (axis,)))


def count(shape: tuple[int, ...], axis: Axis) -> int:
    """How many elements a reduction over `axis` takes together."""
    return prod(shape[a] for a in _axes(len(shape), axis))


def _reduced(shape: tuple[int, ...], axis: Axis) -> tuple[int, ...]:
    axes = _axes(len(shape), axis)
    return tuple(size for a, size in enumerate(shape) if a not in axes)


def _kept(value: Any, shape: tuple[int, ...], axis: Axis) -> Any:
    """A reduced value with the reduced axes put back as 1, so that it broadcasts against `shape`."""
    axes = _axes(len(shape), axis)
    return reshape(value, tuple(1 if a in axes else size for a, size in enumerate(shape)))
