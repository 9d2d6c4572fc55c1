"""Selecting elements. The gradient of a selection adds each cotangent where its element came from.

That adding is written once per operation, in place on a buffer: the walk uses it directly (one buffer per tensor,
however many slices of it were taken), and the recorded form of the rule wraps it as an operation of its own.
"""

from __future__ import annotations

from typing import Any

from minigrad.backend import Array, Backend, as_dtype, backend_of, by_type
from minigrad.errors import DeviceMismatchError
from minigrad.primitive import defvjp, primitive
from minigrad.tensor import Tensor

# --- x[index]

_PLAIN = frozenset({int, slice, type(None), type(...), bool})
"""Parts of an index that are no arrays."""


@primitive
def _getitem(xp: Any, x: Array, /, index: Any) -> Array:
    return x[index]


@primitive
def _getitem_transpose(xp: Any, g: Array, /, index: Any, shape: tuple[int, ...]) -> Array:
    buffer = xp.zeros_like(g, shape=shape)
    _add_at(buffer, g, shape, index)
    return buffer


def _add_at(buffer: Array, g: Array, x_shape: tuple[int, ...], index: Any) -> None:
    parts = index if isinstance(index, tuple) else (index,)
    if all(type(part) in _PLAIN for part in parts):
        buffer[index] += g  # slices and integers name each element once
    else:
        backend_of(buffer).add_at(buffer, parts, g)


defvjp(
    _getitem,
    lambda g, x_shape, index: _getitem_transpose(g, index=index, shape=x_shape),
    accumulate=_add_at,
    view=True,
)
defvjp(_getitem_transpose, lambda g, index, shape: _getitem(g, index))


def getitem(x: Any, index: Any) -> Tensor:
    """x[index]: integers, slices, `...`, None, booleans, and integer tensors or arrays, as in NumPy."""
    parts = index if isinstance(index, tuple) else (index,)
    if not all(type(part) in _PLAIN for part in parts):
        like = x.backend if isinstance(x, Tensor) else backend_of(x)
        parts = tuple(_index_part(part, like) for part in parts)
        index = parts if isinstance(index, tuple) else parts[0]
    return _getitem(x, index)


def _index_part(part: Any, like: Backend) -> Any:
    """A tensor, array or sequence as what the array library takes, copied; a 0-d one as a number."""
    if isinstance(part, list | tuple | range):
        return like.asarray(list(part), None if part else "int64")
    part = part.data if isinstance(part, Tensor) else part.copy() if hasattr(part, "copy") else part
    if getattr(part, "shape", None) == ():
        return part.item()
    if type(part) in by_type and by_type[type(part)] is not like:
        place = by_type[type(part)].name
        raise DeviceMismatchError(
            f"getitem: x is on {like.name}, its index is on {place}. Move one of them: index.to({like.name!r}), "
            f"or x.to({place!r})"
        )
    return part


# --- take


@primitive
def take(xp: Any, x: Array, indices: Array, /, axis: int = 0) -> Array:
    """The slices of x at `indices` along an axis.

    Args:
        x: any shape.
        indices: integers of any shape; a negative one counts from the end.
        axis: which axis.

    Returns:
        The shape of x with `axis` replaced by the shape of `indices`.

    >>> mg.take(mg.tensor([10.0, 20.0, 30.0]), mg.tensor([2, 0, 2]))
    tensor([30., 10., 30.], dtype=float32)
    """
    return xp.take(x, indices, axis=axis)


@primitive
def _take_transpose(xp: Any, g: Array, indices: Array, /, axis: int, shape: tuple[int, ...]) -> Array:
    buffer = xp.zeros_like(g, shape=shape)
    _take_add(buffer, g, shape, indices, axis)
    return buffer


def _take_add(buffer: Array, g: Array, x_shape: tuple[int, ...], indices: Array, axis: int) -> None:
    backend_of(buffer).add_at(buffer, (slice(None),) * (axis % len(x_shape)) + (indices,), g)


defvjp(
    take,
    lambda g, x_shape, indices, axis: _take_transpose(g, indices, axis=axis, shape=x_shape),
    None,
    accumulate=_take_add,
)
defvjp(_take_transpose, lambda g, indices, axis, shape: take(g, indices, axis=axis), None)


# --- take_along_axis


@primitive
def take_along_axis(xp: Any, x: Array, indices: Array, /, axis: int = -1) -> Array:
    """For each position the element of x that `indices` names along an axis.

    Args:
        x: any shape.
        indices: integers; as many axes as x, and the same sizes except along `axis`.
        axis: which axis.

    Returns:
        The shape of `indices`.

    >>> mg.take_along_axis(mg.tensor([[1.0, 2.0], [3.0, 4.0]]), mg.tensor([[1], [0]]), axis=1)
    tensor([[2.],
           [3.]], dtype=float32)
    """
    return x[_full_index(xp, x.shape, indices, axis)]


@primitive
def _take_along_axis_transpose(xp: Any, g: Array, indices: Array, /, axis: int, shape: tuple[int, ...]) -> Array:
    buffer = xp.zeros_like(g, shape=shape)
    _take_along_axis_add(buffer, g, shape, indices, axis)
    return buffer


def _take_along_axis_add(buffer: Array, g: Array, x_shape: tuple[int, ...], indices: Array, axis: int) -> None:
    backend = backend_of(buffer)
    backend.add_at(buffer, _full_index(backend.xp, x_shape, indices, axis), g)


def _full_index(xp: Any, shape: tuple[int, ...], indices: Array, axis: int) -> tuple[Array, ...]:
    """`indices` with a counting index for every other axis."""
    axis %= len(shape)
    if len(indices.shape) != len(shape) or any(a != axis and indices.shape[a] != size for a, size in enumerate(shape)):
        raise ValueError(f"indices have shape {indices.shape}; outside axis {axis} it must be that of x, {shape}")
    return tuple(
        indices if a == axis else xp.arange(size).reshape([-1 if b == a else 1 for b in range(len(shape))])
        for a, size in enumerate(shape)
    )


defvjp(
    take_along_axis,
    lambda g, x_shape, indices, axis: _take_along_axis_transpose(g, indices, axis=axis, shape=x_shape),
    None,
    accumulate=_take_along_axis_add,
)
defvjp(_take_along_axis_transpose, lambda g, indices, axis, shape: take_along_axis(g, indices, axis=axis), None)


# --- one_hot


@primitive
def one_hot(xp: Any, indices: Array, /, num_classes: int, dtype: Any = None) -> Array:
    """Vectors with a single 1.

    Args:
        indices: integers in [0, num_classes), any shape. Any other integer gives a vector of zeros.
        num_classes: size of the new last axis.
        dtype: of the result; by default the default dtype.

    >>> mg.one_hot(mg.tensor([2, 0]), 3)
    tensor([[0., 0., 1.],
           [1., 0., 0.]], dtype=float32)
    """
    return (indices[..., None] == xp.arange(num_classes)).astype(as_dtype(dtype))
