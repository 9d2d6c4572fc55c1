"""The operations that the plan's rules know by name."""

from __future__ import annotations

from typing import Any

from minigrad import ops
from minigrad.primitive import Primitive


def _primitive(function: Any) -> Primitive:
    op: Primitive = function.op
    return op


ADD, SUBTRACT, MULTIPLY = map(_primitive, (ops.add, ops.subtract, ops.multiply))
DIVIDE, NEGATIVE, LINEAR = map(_primitive, (ops.divide, ops.negative, ops.linear))
RESHAPE, GETITEM, SIGMOID = map(_primitive, (ops.reshape, ops.indexing._getitem, ops.sigmoid))
SUM, MATMUL, WHERE, NOT_EQUAL = map(_primitive, (ops.sum, ops.matmul, ops.where, ops.not_equal))
TRANSPOSE, TAKE = map(_primitive, (ops.matrix_transpose, ops.take))
TAKE_TRANSPOSE = _primitive(ops.indexing._take_transpose)

ELEMENTWISE = frozenset(
    """abs add clip cos divide elu equal exp expm1 greater greater_equal isfinite leaky_relu less less_equal log log1p
    logical_and logical_not logical_or maximum minimum multiply negative not_equal power relu sigmoid sign sin softplus
    sqrt square subtract tanh where astype astype_discrete in_range""".split()  # noqa: SIM905
)
"""Operations that work element by element, whatever the shape."""
