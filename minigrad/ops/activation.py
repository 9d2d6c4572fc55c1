"""Activation functions, element by element. Each forward has its gradient rule beneath."""

from __future__ import annotations

import math
from typing import Any

from minigrad.backend import Array
from minigrad.ops.elementwise import exp, greater, minimum, multiply, square, where
from minigrad.primitive import defvjp, primitive
from minigrad.tensor import Tensor


@primitive
def tanh(xp: Any, x: Array, /) -> Array:
    """The hyperbolic tangent."""
    return xp.tanh(x)


defvjp(tanh, lambda g, y: g * (1 - y * y))


@primitive
def sigmoid(xp: Any, x: Array, /) -> Array:
    """1 / (1 + exp(-x)), with -x limited so that nothing over- or underflows: accurate far into both tails."""
    y = xp.negative(x)
    y = xp.exp(xp.minimum(y, 708.0 if y.dtype.itemsize == 8 else 87.0))
    y += 1
    return 1 / y


defvjp(sigmoid, lambda g, y: g * (y * (1 - y)))


@primitive
def relu(xp: Any, x: Array, /) -> Array:
    """max(x, 0). The gradient at 0 is 0."""
    return xp.maximum(x, 0)


defvjp(relu, lambda g, y: where(greater(y, 0), g, 0.0))


@primitive
def leaky_relu(xp: Any, x: Array, /, negative_slope: float = 0.01) -> Array:
    """x where x > 0, negative_slope * x elsewhere."""
    return xp.where(x > 0, x, x * negative_slope)


defvjp(leaky_relu, lambda g, x, negative_slope: where(greater(x, 0), g, g * negative_slope))


@primitive
def elu(xp: Any, x: Array, /, alpha: float = 1.0) -> Array:
    """x where x > 0, alpha * (exp(x) - 1) elsewhere (Clevert et al. 2015, equation 15)."""
    return xp.where(x > 0, x, alpha * xp.expm1(xp.minimum(x, 0)))


defvjp(elu, lambda g, x, alpha: g * where(greater(x, 0), 1.0, alpha * exp(minimum(x, 0.0))))


@primitive
def softplus(xp: Any, x: Array, /) -> Array:
    """log(1 + exp(x)), computed as max(x, 0) + log(1 + exp(-|x|)): no overflow."""
    return xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x)))


defvjp(softplus, lambda g, x: g * sigmoid(x))


def gelu(x: Any) -> Tensor:
    """x * Phi(x) with the tanh form of the normal distribution function Phi.

    0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))): within 5e-4 of the exact form (Hendrycks and Gimpel 2016,
    section 2).
    """
    return multiply(multiply(x, 0.5), tanh(multiply(multiply(x, math.sqrt(2 / math.pi)), square(x) * 0.044715 + 1)) + 1)
