"""Operations that move values without changing them. Each forward has its gradient rules beneath."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from numbers import Integral
from typing import Any

from minigrad.backend import Array
from minigrad.primitive import defvjp, primitive
from minigrad.tensor import Tensor


@primitive
def reshape(xp: Any, x: Array, /, shape: tuple[int, ...]) -> Array:
    """The same values in another shape; one size may be -1.

    >>> mg.reshape(mg.arange(6), (2, -1)).shape
    (2, 3)
    """
    return x.reshape(shape)


defvjp(reshape, lambda g, x_shape, shape: reshape(g, x_shape), view=True)


@primitive
def permute_dims(xp: Any, x: Array, /, axes: tuple[int, ...]) -> Array:
    """The axes in another order: axis i of the result is axis `axes[i]` of x."""
    return x.transpose(axes)


defvjp(permute_dims, lambda g, axes: permute_dims(g, _inverse(axes)), view=True)


def _inverse(axes: Sequence[int]) -> tuple[int, ...]:
    positive = [axis % len(axes) for axis in axes]
    return tuple(positive.index(axis) for axis in range(len(axes)))


@primitive
def matrix_transpose(xp: Any, x: Array, /) -> Array:
    """The last two axes exchanged."""
    return x.swapaxes(-1, -2)


defvjp(matrix_transpose, lambda g: matrix_transpose(g), view=True)


@primitive
def expand_dims(xp: Any, x: Array, /, axis: int = 0) -> Array:
    """A new axis of size 1 at position `axis`."""
    return xp.expand_dims(x, axis)


defvjp(expand_dims, lambda g, x_shape, axis: reshape(g, x_shape), view=True)


@primitive
def squeeze(xp: Any, x: Array, /, axis: int | tuple[int, ...]) -> Array:
    """Without the axes named, which must have size 1."""
    return x.squeeze(axis)


defvjp(squeeze, lambda g, x_shape, axis: reshape(g, x_shape), view=True)


@primitive
def broadcast_to(xp: Any, x: Array, /, shape: tuple[int, ...]) -> Array:
    """x repeated along new axes and axes of size 1 until it has this shape."""
    return x if x.shape == shape else xp.broadcast_to(x, shape)


defvjp(broadcast_to, lambda g, shape: g, view=True)  # the walk sums it back


@primitive
def flip(xp: Any, x: Array, /, axis: int | tuple[int, ...] | None = None) -> Array:
    """The order of elements reversed along `axis`, or along all axes."""
    return xp.flip(x, axis)


defvjp(flip, lambda g, axis: flip(g, axis), view=True)


@primitive
def pad(xp: Any, x: Array, /, pad_width: Sequence[tuple[int, int]], value: float = 0.0) -> Array:
    """x with `value` around it.

    Args:
        x: any shape.
        pad_width: for each axis how many to put before and after.
        value: what to put there.

    >>> mg.pad(mg.ones(2), [(1, 2)])
    tensor([0., 1., 1., 0., 0.], dtype=float32)
    """
    if len(pad_width) != x.ndim:
        raise ValueError(f"pad_width names {len(pad_width)} axes; the tensor has {x.ndim}")
    return xp.pad(x, pad_width, constant_values=value)


defvjp(
    pad,
    lambda g, x_shape, pad_width, value: g[
        tuple(slice(before, before + size) for (before, _), size in zip(pad_width, x_shape, strict=True))
    ],
)


@primitive
def _concat(xp: Any, *xs: Array, axis: int) -> Array:
    return xp.concatenate(xs, axis=axis)


defvjp(_concat, each=lambda index, g, xs_shape, axis: g[_piece(index, xs_shape, axis)])


def _piece(index: int, shapes: Sequence[tuple[int, ...]], axis: int) -> tuple[slice, ...]:
    """Where input `index` lies in the concatenation."""
    axis %= len(shapes[0])
    start = sum(shape[axis] for shape in shapes[:index])
    return (slice(None),) * axis + (slice(start, start + shapes[index][axis]),)


def concat(xs: Sequence[Any], /, axis: int = 0) -> Tensor:
    """Tensors joined along an axis that they have; the other sizes must agree.

    >>> mg.concat([mg.ones((2, 1)), mg.zeros((2, 2))], axis=1).shape
    (2, 3)
    """
    if not len(xs):
        raise ValueError("concat needs at least one tensor")
    return _concat(*xs, axis=axis)


@primitive
def _stack(xp: Any, *xs: Array, axis: int) -> Array:
    return xp.stack(xs, axis=axis)


defvjp(_stack, each=lambda index, g, xs_shape, axis: g[(slice(None),) * (axis % len(g.shape)) + (index,)])


def stack(xs: Sequence[Any], /, axis: int = 0) -> Tensor:
    """Tensors of one shape joined along a new axis.

    >>> mg.stack([mg.ones(3), mg.zeros(3)]).shape
    (2, 3)
    """
    if not len(xs):
        raise ValueError("stack needs at least one tensor")
    return _stack(*xs, axis=axis)


def split(x: Any, sections: int | Sequence[int], axis: int = 0) -> list[Any]:
    """x cut along an axis.

    Args:
        x: a tensor.
        sections: into how many equal parts, or the positions at which to cut.
        axis: which axis.

    >>> [part.shape for part in mg.split(mg.ones((2, 6)), 3, axis=1)]
    [(2, 2), (2, 2), (2, 2)]
    """
    if not -len(x.shape) <= axis < len(x.shape):
        raise ValueError(f"split: axis {axis} is out of range for shape {x.shape}")
    axis %= len(x.shape)
    size = x.shape[axis]
    if not isinstance(sections, Integral):
        cuts = [0, *sections, size]  # type: ignore[misc]  # mypy takes no int for Integral
    elif sections < 1 or size % sections:
        raise ValueError(f"split: cannot cut axis {axis} of size {size} into {sections} equal parts")
    else:
        cuts = [part * (size // int(sections)) for part in range(int(sections) + 1)]
    before = (slice(None),) * axis
    return [x[(*before, slice(start, stop))] for start, stop in pairwise(cuts)]
