"""Operations element by element, with NumPy's broadcasting. Each forward has its gradient rules beneath.

Arguments are tensors, arrays or numbers of any floating dtype (comparisons: of any dtype); numbers and bare arrays
take the dtype of the tensors they meet, so that float32 stays float32.
"""

from __future__ import annotations

import math
from typing import Any

from minigrad.backend import Array, as_dtype, is_floating
from minigrad.primitive import defvjp, primitive
from minigrad.tensor import Tensor

# --- no gradient: comparisons and logic


@primitive
def equal(xp: Any, x1: Array, x2: Array, /) -> Array:
    """x1 == x2, as booleans."""
    return x1 == x2


@primitive
def not_equal(xp: Any, x1: Array, x2: Array, /) -> Array:
    """x1 != x2, as booleans."""
    return x1 != x2


@primitive
def less(xp: Any, x1: Array, x2: Array, /) -> Array:
    """x1 < x2, as booleans."""
    return x1 < x2


@primitive
def less_equal(xp: Any, x1: Array, x2: Array, /) -> Array:
    """x1 <= x2, as booleans."""
    return x1 <= x2


@primitive
def greater(xp: Any, x1: Array, x2: Array, /) -> Array:
    """x1 > x2, as booleans."""
    return x1 > x2


@primitive
def greater_equal(xp: Any, x1: Array, x2: Array, /) -> Array:
    """x1 >= x2, as booleans."""
    return x1 >= x2


@primitive
def logical_and(xp: Any, x1: Array, x2: Array, /) -> Array:
    """Whether both are true."""
    return xp.logical_and(x1, x2)


@primitive
def logical_or(xp: Any, x1: Array, x2: Array, /) -> Array:
    """Whether one or both are true."""
    return xp.logical_or(x1, x2)


@primitive
def logical_not(xp: Any, x: Array, /) -> Array:
    """Whether it is false."""
    return xp.logical_not(x)


@primitive
def isfinite(xp: Any, x: Array, /) -> Array:
    """Whether it is neither infinite nor NaN."""
    return xp.isfinite(x)


# --- selection


@primitive
def where(xp: Any, condition: Array, x1: Array, x2: Array, /) -> Array:
    """x1 where the condition holds, x2 elsewhere.

    Args:
        condition: booleans.
        x1, x2: values; all three are broadcast together.

    A NaN on the side that is not taken does not reach the gradient.
    """
    y = xp.where(condition, x1, x2)
    numbers = not (hasattr(x1, "dtype") or hasattr(x2, "dtype")) and is_floating(y.dtype)
    return y.astype(as_dtype(None)) if numbers else y


defvjp(where, None, lambda g, condition: where(condition, g, 0.0), lambda g, condition: where(condition, 0.0, g))


# --- arithmetic


@primitive
def add(xp: Any, x1: Array, x2: Array, /) -> Array:
    """x1 + x2."""
    return x1 + x2


defvjp(add, lambda g: g, lambda g: g)


@primitive
def subtract(xp: Any, x1: Array, x2: Array, /) -> Array:
    """x1 - x2."""
    return x1 - x2


defvjp(subtract, lambda g: g, lambda g: -g)


@primitive
def multiply(xp: Any, x1: Array, x2: Array, /) -> Array:
    """x1 * x2."""
    return x1 * x2


defvjp(multiply, lambda g, x1, x2: g * x2, lambda g, x1, x2: g * x1)


@primitive
def divide(xp: Any, x1: Array, x2: Array, /) -> Array:
    """x1 / x2."""
    return x1 / x2


defvjp(divide, lambda g, y, x2: g / x2, lambda g, y, x2: -g * y / x2)


@primitive
def negative(xp: Any, x: Array, /) -> Array:
    """-x."""
    return -x


defvjp(negative, lambda g: -g)


@primitive
def log(xp: Any, x: Array, /) -> Array:
    """The natural logarithm."""
    return xp.log(x)


defvjp(log, lambda g, x: g / x)


@primitive
def power(xp: Any, x1: Array, x2: Array, /) -> Array:
    """x1 ** x2. Where x1 <= 0 the gradient with respect to x2 is taken as 0.

    >>> x = mg.tensor([0.0, 3.0], requires_grad=True)
    >>> (x**2).sum().backward()
    >>> x.grad
    tensor([0., 6.], dtype=float32)
    """
    return x1**x2


defvjp(
    power,
    lambda g, y, x1, x2: g * x2 * x1 ** _lowered(x1, x2),
    lambda g, y, x1, x2: g * y * _log_of_positive(x1),
)


def _lowered(x1: Any, x2: Any) -> Any:
    """x2 - 1; but 0 where that would make 0 ** -1 of 0 ** 0, so that the derivative there is 0 and not NaN."""
    if isinstance(x2, int | float):
        return x2 - 1 if x2 else 0
    return where(logical_and(equal(x1, 0), equal(x2, 0)), 1.0, x2) - 1


def _log_of_positive(x: Any) -> Any:
    if isinstance(x, int | float):
        return math.log(x) if x > 0 else 0.0
    return log(where(greater(x, 0), x, 1.0))


@primitive
def square(xp: Any, x: Array, /) -> Array:
    """x * x."""
    return x * x


defvjp(square, lambda g, x: 2 * g * x)


# --- exponentials and friends


@primitive
def exp(xp: Any, x: Array, /) -> Array:
    """e ** x."""
    return xp.exp(x)


defvjp(exp, lambda g, y: g * y)


@primitive
def expm1(xp: Any, x: Array, /) -> Array:
    """e ** x - 1, exact near 0."""
    return xp.expm1(x)


defvjp(expm1, lambda g, y: g * (y + 1))


@primitive
def log1p(xp: Any, x: Array, /) -> Array:
    """log(1 + x), exact near 0."""
    return xp.log1p(x)


defvjp(log1p, lambda g, x: g / (1 + x))


@primitive
def sqrt(xp: Any, x: Array, /) -> Array:
    """The square root. Its gradient at 0 is infinite."""
    return xp.sqrt(x)


defvjp(sqrt, lambda g, y: 0.5 * g / y)


@primitive
def sin(xp: Any, x: Array, /) -> Array:
    """The sine of x in radians."""
    return xp.sin(x)


@primitive
def cos(xp: Any, x: Array, /) -> Array:
    """The cosine of x in radians."""
    return xp.cos(x)


defvjp(sin, lambda g, x: g * cos(x))
defvjp(cos, lambda g, x: -g * sin(x))


# --- kinks: at a kink the gradient is that of the smooth neighbour stated, or the mean of both


@primitive
def sign(xp: Any, x: Array, /) -> Array:
    """-1, 0 or 1. The gradient is 0 everywhere."""
    return xp.sign(x)


@primitive
def abs(xp: Any, x: Array, /) -> Array:
    """|x|. The gradient at 0 is 0."""
    return xp.abs(x)


defvjp(abs, lambda g, x: g * sign(x))


@primitive
def maximum(xp: Any, x1: Array, x2: Array, /) -> Array:
    """The larger of the two. Where they are equal, each receives half of the gradient."""
    return xp.maximum(x1, x2)


defvjp(maximum, lambda g, x1, x2: _share(g, x1, x2), lambda g, x1, x2: _share(g, x2, x1))


@primitive
def minimum(xp: Any, x1: Array, x2: Array, /) -> Array:
    """The smaller of the two. Where they are equal, each receives half of the gradient."""
    return xp.minimum(x1, x2)


defvjp(minimum, lambda g, x1, x2: _share(g, x2, x1), lambda g, x1, x2: _share(g, x1, x2))


def _share(g: Any, larger: Any, smaller: Any) -> Any:
    """What of `g` belongs to `larger`: all where it is, half where both are equal."""
    return where(equal(larger, smaller), 0.5 * g, where(greater(larger, smaller), g, 0.0))


@primitive
def clip(xp: Any, x: Array, /, min: float | None = None, max: float | None = None) -> Array:
    """x limited to [min, max] (numbers; None for no limit). The gradient is 1 inside and on the limits, 0 outside."""
    if min is None and max is None:
        return x
    return xp.clip(x, min, max)


defvjp(clip, lambda g, x, min, max: where(_inside(x, min, max), g, 0.0))


def _inside(x: Any, low: float | None, high: float | None) -> Any:
    return logical_and(
        greater_equal(x, -math.inf if low is None else low), less_equal(x, math.inf if high is None else high)
    )


# --- where a gradient ends


@primitive
def _detach(xp: Any, x: Array, /) -> Array:
    return x


# --- dtype


@primitive
def _astype(xp: Any, x: Array, /, dtype: Any) -> Array:
    return x.astype(dtype)


defvjp(_astype, lambda g, x_dtype, dtype: astype(g, x_dtype))


@primitive
def _astype_discrete(xp: Any, x: Array, /, dtype: Any) -> Array:
    return x.astype(dtype)


def astype(x: Any, dtype: Any) -> Tensor:
    """x in another dtype, such as `"float64"`. The gradient comes back in the old one; through integers none flows.

    >>> mg.astype(mg.tensor([1.9, -1.9]), "int64")
    tensor([ 1, -1])
    """
    dtype = as_dtype(dtype)
    return _astype(x, dtype=dtype) if is_floating(dtype) else _astype_discrete(x, dtype=dtype)
