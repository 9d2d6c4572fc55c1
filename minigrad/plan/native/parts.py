"""What the native executor calls the operations that it knows, by how they are computed."""

from __future__ import annotations

from typing import Any

from minigrad import ops
from minigrad.plan.graph import Operand, Value
from minigrad.primitive import Primitive

PRODUCTS = frozenset({"linear", "matmul"})
REDUCTIONS = frozenset({"sum", "mean", "max", "min", "argmax", "logsumexp", "softmax", "log_softmax"})
GATHERS = frozenset({"take", "take_transpose", "take_along_axis", "take_along_axis_transpose", "one_hot"})
"""Operations that find elements by integers that are computed."""

VECTORS = frozenset(
    """add subtract multiply divide negative square tanh sigmoid exp expm1 log log1p sqrt sin cos abs sign maximum
    minimum clip relu leaky_relu elu softplus where equal not_equal less less_equal greater greater_equal logical_and
    logical_or logical_not isfinite astype""".split()  # noqa: SIM905  # a list of names
)
"""Operations that work element by element, and on a vector of numbers or of masks at once."""

COSTLY = frozenset({"tanh", "sigmoid", "exp", "expm1", "log", "log1p", "sqrt", "sin", "cos", "elu", "softplus"})
"""Those of them that take longer than to read the result from memory."""

SCALARS = frozenset(
    """add subtract multiply negative square abs sign maximum minimum clip where equal not_equal less less_equal
    greater greater_equal logical_and logical_or logical_not isfinite astype astype_discrete in_range
    power""".split()  # noqa: SIM905  # a list of names
)
"""Operations that work element by element, and on a number, an integer or a boolean at a time."""

MASKS = frozenset(
    """equal not_equal less less_equal greater greater_equal logical_and logical_or logical_not
    isfinite""".split()  # noqa: SIM905  # a list of names
)
"""Operations that give booleans."""


def _primitive(function: Any) -> Primitive:
    op: Primitive = function.op
    return op


BROADCAST, EXPAND_DIMS, MULTIPLY = map(_primitive, (ops.broadcast_to, ops.expand_dims, ops.multiply))
ASTYPE = _primitive(ops.elementwise._astype)


SHARP = MASKS | {"sign", "argmax"}
"""Operations whose result jumps."""


class NotExpressibleError(Exception):
    """A program cannot be written in C; says which operation stops it."""


def is_integer(dtype: Any) -> bool:
    return bool(dtype.kind in "iu")


def is_boolean(dtype: Any) -> bool:
    return bool(dtype.kind == "b")


def is_same(value: Value) -> bool:
    """Whether an operation gives its operand as it is."""
    return value.name == "detach" or (value.name == "astype" and value.dtype == value.values[0].dtype)


def is_elementwise(value: Value) -> bool:
    return (value.name in VECTORS or value.name in SCALARS) and not is_same(value)


def reduced_axes(value: Value) -> tuple[int, ...]:
    """The axes over which a reduction goes."""
    rank, axis = len(value.values[0].shape), value.attrs["axis"]
    if axis is None:
        return tuple(range(rank))
    return tuple(sorted(a % rank for a in (axis if isinstance(axis, tuple) else (axis,))))


def literal(operand: Operand) -> Any:
    """The array that an operand is if the step makes it itself; None if it is only known when the program runs."""
    return operand.attrs["array"] if isinstance(operand, Value) and operand.op == "constant" else None
