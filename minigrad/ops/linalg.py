"""Matrix products. Each forward has its gradient rules beneath."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from minigrad.backend import Array, backend_of
from minigrad.ops.reduction import sum
from minigrad.ops.shape import expand_dims, matrix_transpose, permute_dims, reshape, squeeze
from minigrad.primitive import defvjp, primitive
from minigrad.tensor import Tensor, as_tensor


@primitive
def matmul(xp: Any, x1: Array, x2: Array, /) -> Array:
    """The matrix product x1 @ x2 of the last two axes, broadcast over the others.

    Args:
        x1: (..., n, k), or a vector (k,).
        x2: (..., k, m), or a vector (k,).

    Returns:
        (..., n, m); a vector's axis is left out.

    >>> mg.matmul(mg.ones((5, 2, 3)), mg.ones((3, 4))).shape
    (5, 2, 4)
    """
    return _product(x1, x2)


def _product(x1: Array, x2: Array) -> Array:
    """x1 @ x2; a single product where x2 is one matrix, and not one for each in x1."""
    if not (hasattr(x1, "ndim") and hasattr(x2, "ndim")):
        return x1 @ x2
    multiply = backend_of(x1).matmul
    if x1.ndim < 3 or x2.ndim != 2:
        return multiply(x1, x2)
    y = multiply(x1.reshape(prod(x1.shape[:-1]), x1.shape[-1]), x2)
    return y.reshape(*x1.shape[:-1], y.shape[-1])


def _times(x1: Any, x2: Any) -> Any:
    """x1 @ x2 of tensors, or of arrays."""
    return matmul(x1, x2) if isinstance(x1, Tensor) else _product(x1, x2)


def _matmul_left(g: Any, x1: Any, x2: Any) -> Any:
    if len(x1.shape) > 1 < len(x2.shape):
        return _times(g, _transposed(x2))
    if len(x2.shape) == 1:
        return expand_dims(g, -1) * x2
    return squeeze(expand_dims(g, -2) @ _transposed(x2), -2)


def _matmul_right(g: Any, x1: Any, x2: Any) -> Any:
    if len(x2.shape) == 2 < len(x1.shape):
        return _times(_rows(x1).T, _rows(g))
    if len(x1.shape) > 1 < len(x2.shape):
        return _times(_transposed(x1), g)
    if len(x1.shape) == 1:
        return g * x1 if len(x2.shape) == 1 else expand_dims(x1, -1) * expand_dims(g, -2)
    return squeeze(expand_dims(g, -2) @ x1, -2)


def _transposed(x: Any) -> Any:
    return x.T if len(x.shape) == 2 else matrix_transpose(x)


defvjp(matmul, _matmul_left, _matmul_right)


@primitive
def linear(xp: Any, x: Array, weight: Array, bias: Array | None = None, /) -> Array:
    """y = x @ weight.T + bias.

    Args:
        x: (..., in_features).
        weight: (out_features, in_features).
        bias: (out_features,), or None.

    Returns:
        (..., out_features).
    """
    y = _product(x, weight.T)
    if bias is None:
        return y
    if getattr(bias, "dtype", None) == y.dtype and bias.ndim < 2:
        y += bias  # which nobody else has
        return y
    return y + bias


defvjp(
    linear,
    lambda g, x, weight: _times(g, weight),
    lambda g, x, weight: _times(_rows(g).T, _rows(x)),
    lambda g, x, weight: sum(_rows(g), 0),
)


def _rows(x: Any) -> Any:
    """All axes but the last as one."""
    return x if len(x.shape) == 2 else reshape(x, (prod(x.shape[:-1]), x.shape[-1]))


def tensordot(x1: Any, x2: Any, axes: int | tuple[Sequence[int], Sequence[int]] = 2) -> Tensor:
    """The sum of products over pairs of axes.

    Args:
        x1, x2: tensors or arrays.
        axes: how many of the last axes of `x1` and the first of `x2` to pair, or two sequences that name them.

    Returns:
        The free axes of `x1`, then those of `x2`.

    >>> mg.tensordot(mg.ones((2, 3, 4)), mg.ones((4, 3, 5)), ((1, 2), (1, 0))).shape
    (2, 5)
    """
    a, b = as_tensor(x1), as_tensor(x2)
    if isinstance(axes, int):
        axes = (range(a.ndim - axes, a.ndim), range(axes))
    if not all(-x.ndim <= axis < x.ndim for x, named in zip((a, b), axes, strict=True) for axis in named):
        raise ValueError(f"tensordot: axes {axes} are out of range for shapes {a.shape} and {b.shape}")
    left, right = [axis % a.ndim for axis in axes[0]], [axis % b.ndim for axis in axes[1]]
    if [a.shape[axis] for axis in left] != [b.shape[axis] for axis in right]:
        raise ValueError(f"tensordot: axes {left} of {a.shape} and {right} of {b.shape} differ in size")
    free_a = [axis for axis in range(a.ndim) if axis not in left]
    free_b = [axis for axis in range(b.ndim) if axis not in right]
    inner = prod(a.shape[axis] for axis in left)
    rows = reshape(permute_dims(a, (*free_a, *left)), (prod(a.shape[axis] for axis in free_a), inner))
    columns = reshape(permute_dims(b, (*right, *free_b)), (inner, prod(b.shape[axis] for axis in free_b)))
    return reshape(matmul(rows, columns), tuple([a.shape[i] for i in free_a] + [b.shape[i] for i in free_b]))
