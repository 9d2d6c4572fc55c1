"""How small a value can get, as far as its operations tell: what is needed to divide by it in another order."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from minigrad.backend import is_floating
from minigrad.plan.graph import Operand, Value


def has_reciprocal(divisor: Operand, dtype: Any) -> bool:
    """Whether 1 / divisor is finite for certain, so that 0 * (1 / divisor) is 0 / divisor, and not NaN."""
    return is_floating(dtype) and least(divisor) >= 4 / float(np.finfo(dtype).max)


def least(value: Operand, depth: int = 6) -> float:
    """What a value's absolute value is at least, everywhere, as far as so many operations tell; else 0."""
    if not isinstance(value, Value):
        return abs(float(value))
    bound = _least(value, depth - 1) if depth and is_floating(value.dtype) and prod(value.shape) else 0.0
    return bound if bound and bound >= float(np.finfo(value.dtype).tiny) else 0.0


def _least(value: Value, depth: int) -> float:
    name, operands = value.name, value.inputs
    if name == "constant":
        return float(abs(value.attrs["array"]).min())
    if name in _SAME or (name in ("sum", "mean") and is_nonnegative(operands[0], depth)):
        return least(operands[0], depth)
    if name == "add" and all(is_nonnegative(operand, depth) for operand in operands):
        return least(operands[0], depth) + least(operands[1], depth)
    if name == "maximum":
        return max([0.0, *(float(operand) for operand in operands if not isinstance(operand, Value))])
    if name == "multiply":
        return least(operands[0], depth) * least(operands[1], depth)
    if name == "square":
        return least(operands[0], depth) ** 2
    return float(least(operands[0], depth) ** 0.5) if name == "sqrt" else 0.0


def is_nonnegative(value: Operand, depth: int = 6) -> bool:
    """Whether no element of a value is below 0, as far as so many operations tell."""
    if not isinstance(value, Value):
        return bool(value >= 0)
    name, operands = value.name, value.inputs
    if not depth or name == "constant":
        return name == "constant" and bool((value.attrs["array"] >= 0).all())
    if name == "maximum":
        return any(is_nonnegative(operand, depth - 1) for operand in operands)
    if name == "multiply" and operands[0] is operands[1]:
        return True
    if name in ("add", "multiply"):
        return all(is_nonnegative(operand, depth - 1) for operand in operands)
    return name in _NONNEGATIVE or (name in (*_SAME, "sum", "mean") and is_nonnegative(operands[0], depth - 1))


_SAME = frozenset({"reshape", "broadcast_to", "expand_dims", "squeeze", "getitem", "detach", "matrix_transpose", "abs"})
"""Operations whose elements are those of their operand, or as far from 0."""

_NONNEGATIVE = frozenset({"abs", "square", "sqrt", "exp", "sigmoid", "relu", "softplus", "softmax"})
