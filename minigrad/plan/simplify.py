"""Rules that make the step cheaper: each looks at a new value and may offer an equal one.

Sums and products are brought into an order in which values of a lower level meet first, so that as much as possible
can be computed once, or for all steps at once, outside the loop: (g * a) * b becomes g * (a * b) where g is a cotangent
and a, b are known before the backward loop, and (W x + b) + (U h + c) becomes U h + (W x + (b + c)). What a slice sends
back is laid into zeros; such pieces become one value, which no sum has to go over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import prod
from typing import Any

from minigrad.backend import is_floating
from minigrad.plan import pieces, tables
from minigrad.plan.bounds import has_reciprocal
from minigrad.plan.graph import Graph, Level, Operand, Value, is_a, level_of
from minigrad.plan.operations import (
    ADD,
    DIVIDE,
    ELEMENTWISE,
    LINEAR,
    MATMUL,
    MULTIPLY,
    NEGATIVE,
    NOT_EQUAL,
    SUBTRACT,
    SUM,
    WHERE,
)
from minigrad.primitive import Primitive


def simplify(
    graph: Graph, op: Primitive | str, inputs: tuple[Operand, ...], attrs: dict[str, Any], shape: Any, dtype: Any
) -> Value | None:
    """A simpler value equal to `op(*inputs, **attrs)`, or None."""
    name = op if isinstance(op, str) else op.name
    if name in ELEMENTWISE:
        stripped = _stripped(inputs, shape)
        if any(a is not b for a, b in zip(stripped, inputs, strict=True)):
            return graph.add(op, stripped, attrs, shape, dtype)
    if name in _ARITHMETIC and not (is_floating(dtype) and _have(dtype, inputs)):
        return None
    rule = _RULES.get(name)
    return rule(graph, inputs, attrs, shape, dtype) if rule is not None else None


def _stripped(inputs: tuple[Operand, ...], shape: tuple[int, ...]) -> tuple[Operand, ...]:
    """Operands with what repeats them taken off, where broadcasting repeats them anyway."""
    operands = list(inputs)
    for position, value in enumerate(operands):
        others = [v for n, v in enumerate(operands) if n != position and isinstance(v, Value)]
        known = is_a(value, "broadcast_to") and any(other.shape == shape for other in others)
        if known and len(value.values[0].shape) == len(shape):
            operands[position] = value.values[0]
    return tuple(operands)


def _pairs(value: Operand, name: str) -> list[tuple[Operand, Operand]]:
    """The two operands of a sum or a product, that of the higher level first; nothing if it is something else.

    Nor if they are of different dtypes: booleans and integers do not add and multiply like floating-point numbers.
    """
    if not isinstance(value, Value) or value.name != name or not _have(value.dtype, value.inputs):
        return []
    p, q = sorted(value.inputs, key=level_of, reverse=True)
    return [(p, q)]


def _have(dtype: Any, operands: Iterable[Operand]) -> bool:
    return all(v.dtype == dtype for v in operands if isinstance(v, Value))


# --- sums


def _add(graph: Graph, inputs: Any, attrs: Any, shape: Any, dtype: Any) -> Value | None:
    a, b = sorted(inputs, key=level_of, reverse=True)
    for one, other in ((a, b), (b, a)):
        if is_a(other, "negative"):
            return graph.apply(SUBTRACT, one, other.inputs[0])
    if is_a(a, "assemble") and is_a(b, "assemble") and a.shape == b.shape:
        return pieces.merged(graph, a, b)
    if (same := _with_one_factor(graph, ADD, a, b, shape)) is not None:
        return same
    if level_of(b) < level_of(a):
        for p, q in _pairs(a, "add"):
            if level_of(q) < level_of(a):
                return graph.apply(ADD, p, _sum(graph, q, b))
    return None


def _subtract(graph: Graph, inputs: Any, attrs: Any, shape: Any, dtype: Any) -> Value | None:
    a, b = inputs
    if is_a(b, "negative"):
        return graph.apply(ADD, a, b.inputs[0])
    return _with_one_factor(graph, SUBTRACT, a, b, shape)


def _sum(graph: Graph, a: Operand, b: Operand) -> Operand:
    return graph.apply(ADD, a, b) if isinstance(a, Value) or isinstance(b, Value) else a + b


def _with_one_factor(graph: Graph, op: Primitive, a: Operand, b: Operand, shape: Any) -> Value | None:
    """g * a + g * b as g * (a + b), where g is a cotangent and a, b are not."""
    (g, factor), (other, second) = _term(a), _term(b)
    if not isinstance(g, Value) or g is not other or g.level < Level.COTANGENT:
        return None
    if isinstance(factor, Value) or isinstance(second, Value):
        total: Operand = graph.apply(op, factor, second)
    else:
        total = factor + second if op is ADD else factor - second
    made = graph.apply(MULTIPLY, g, total)
    return made if made.shape == shape else None


def _term(value: Operand) -> tuple[Operand, Operand]:
    """A cotangent and its coefficient."""
    for p, q in _pairs(value, "multiply"):
        if level_of(q) < Level.COTANGENT:
            return p, q
    return value, 1.0


# --- products


def _multiply(graph: Graph, inputs: Any, attrs: Any, shape: Any, dtype: Any) -> Value | None:
    a, b = sorted(inputs, key=level_of, reverse=True)
    if not isinstance(b, Value) and b == 1:
        return a if a.shape == shape and a.dtype == dtype else None
    if level_of(b) >= level_of(a):
        for one, other in ((a, b), (b, a)):
            number, rest = _number_in(one)
            if number is not None and prod(other.shape) < prod(one.shape):
                return graph.apply(MULTIPLY, rest, graph.apply(MULTIPLY, other, number))
        return None
    for p, q in _pairs(a, "multiply"):
        if level_of(q) < level_of(a):
            return graph.apply(MULTIPLY, p, _product(graph, q, b))
    if a.level < Level.COTANGENT:
        return None
    if is_a(a, "negative"):
        return graph.apply(MULTIPLY, a.inputs[0], _negated(graph, b))
    return None


def _number_in(value: Operand) -> tuple[Any, Operand]:
    """A number that something is multiplied with, and that; None if there is no number."""
    for rest, number in _pairs(value, "multiply"):
        if not isinstance(number, Value):
            return number, rest
    return None, value


def _product(graph: Graph, a: Operand, b: Operand) -> Operand:
    return graph.apply(MULTIPLY, a, b) if isinstance(a, Value) or isinstance(b, Value) else a * b


def _negated(graph: Graph, value: Operand) -> Operand:
    return graph.apply(NEGATIVE, value) if isinstance(value, Value) else -value


def _negative(graph: Graph, inputs: Any, attrs: Any, shape: Any, dtype: Any) -> Value | None:
    (a,) = inputs
    if is_a(a, "negative"):
        found: Value = a.inputs[0]
        return found
    if a.level < Level.COTANGENT:
        return None
    g, factor = _term(a)
    if g is not a:
        return graph.apply(MULTIPLY, g, _negated(graph, factor))
    return None


def _divide(graph: Graph, inputs: Any, attrs: Any, shape: Any, dtype: Any) -> Value | None:
    a, b = inputs
    if level_of(a) < Level.COTANGENT or level_of(b) >= level_of(a) or not has_reciprocal(b, dtype):
        return None
    if not isinstance(b, Value):
        return graph.apply(MULTIPLY, a, 1 / b)
    return graph.apply(MULTIPLY, a, graph.apply(DIVIDE, 1.0, b))


# --- linear maps and shapes


def _reduction(graph: Graph, inputs: Any, attrs: Any, shape: Any, dtype: Any) -> Value | None:
    """A factor that is the same for all elements is taken out of the sum."""
    (a,) = inputs
    if is_a(a, "negative"):
        return graph.apply(NEGATIVE, graph.apply(SUM, a.inputs[0], **attrs))
    number, rest = _number_in(a)
    return None if number is None else graph.apply(MULTIPLY, graph.apply(SUM, rest, **attrs), number)


def _linear(graph: Graph, inputs: Any, attrs: Any, shape: Any, dtype: Any) -> Value | None:
    if len(inputs) < 3:
        x, weight = inputs
        if weight.level is not Level.CONSTANT:
            return None
        return tables.multiplied(graph, LINEAR, x, weight) or pieces.by_pieces(graph, LINEAR, x, weight, 1)
    product = graph.add(LINEAR, inputs[:2], attrs, shape, dtype)
    return product if inputs[2] is None else graph.apply(ADD, product, inputs[2])


def _matmul(graph: Graph, inputs: Any, attrs: Any, shape: Any, dtype: Any) -> Value | None:
    a, b = inputs
    if not (isinstance(a, Value) and isinstance(b, Value)) or len(b.shape) != 2:
        return None
    if b.level is not Level.CONSTANT:
        return tables.of_weight(graph, a, b)
    return tables.multiplied(graph, MATMUL, a, b) or pieces.by_pieces(graph, MATMUL, a, b, 0)


def _where(graph: Graph, inputs: Any, attrs: Any, shape: Any, dtype: Any) -> Value | None:
    """A condition of numbers is true where they are not 0."""
    condition, x1, x2 = inputs
    if not isinstance(condition, Value) or condition.dtype == bool:
        return None
    return graph.add(WHERE, (graph.apply(NOT_EQUAL, condition, 0), x1, x2), attrs, shape, dtype)


def _same(graph: Graph, inputs: Any, attrs: Any, shape: Any, dtype: Any) -> Value | None:
    """Nothing to do."""
    (a,) = inputs
    return a if a.shape == shape and a.dtype == dtype else None


def _transpose(graph: Graph, inputs: Any, attrs: Any, shape: Any, dtype: Any) -> Value | None:
    (a,) = inputs
    return a.inputs[0] if is_a(a, "matrix_transpose") else None


_ARITHMETIC = frozenset({"add", "subtract", "multiply", "divide", "negative", "sum"})
_RULES: dict[str, Callable[..., Value | None]] = {
    "add": _add,
    "subtract": _subtract,
    "multiply": _multiply,
    "negative": _negative,
    "divide": _divide,
    "linear": _linear,
    "matmul": _matmul,
    "sum": _reduction,
    "reshape": _same,
    "broadcast_to": _same,
    "astype": _same,
    "detach": _same,
    "squeeze": _same,
    "matrix_transpose": _transpose,
    "where": _where,
    "concat": pieces.concat,
    "stack": pieces.stack,
    "pad": pieces.pad,
    "getitem_transpose": pieces.from_slice,
    "getitem": pieces.getitem,
    "take_transpose": tables.of_table,
}
