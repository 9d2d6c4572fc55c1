"""Rules that make the step cheaper: each looks at a new value and may offer an equal one.

Sums and products are brought into an order in which values of a lower level meet first, so that as much as possible
can be computed once, or for all steps at once, outside the loop: (g * a) * b becomes g * (a * b) where g is a cotangent
and a, b are known before the backward loop, and (W x + b) + (U h + c) becomes U h + (W x + (b + c)). What a slice sends
back is laid into zeros; such pieces become one value, which no sum has to go over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from math import prod
from typing import Any

from minigrad import ops
from minigrad.backend import is_floating
from minigrad.plan.graph import Graph, Level, Operand, Value, needed, rebuild
from minigrad.primitive import Primitive


def _primitive(function: Any) -> Primitive:
    op: Primitive = function.op
    return op


ADD, SUBTRACT, MULTIPLY = map(_primitive, (ops.add, ops.subtract, ops.multiply))
DIVIDE, NEGATIVE, LINEAR = map(_primitive, (ops.divide, ops.negative, ops.linear))
RESHAPE, GETITEM, SIGMOID = map(_primitive, (ops.reshape, ops.indexing._getitem, ops.sigmoid))
SUM = _primitive(ops.sum)

ELEMENTWISE = frozenset(
    """abs add clip cos divide elu equal exp expm1 greater greater_equal isfinite leaky_relu less less_equal log log1p
    logical_and logical_not logical_or maximum minimum multiply negative not_equal power relu sigmoid sign sin softplus
    sqrt square subtract tanh where astype astype_discrete in_range""".split()  # noqa: SIM905
)
"""Operations that work element by element, whatever the shape."""


def simplify(
    graph: Graph, op: Primitive | str, inputs: tuple[Operand, ...], attrs: dict[str, Any], shape: Any, dtype: Any
) -> Value | None:
    """A simpler value equal to `op(*inputs, **attrs)`, or None."""
    name = op if isinstance(op, str) else op.name
    if name in ELEMENTWISE:
        stripped = tuple(_stripped(value, position, inputs, shape) for position, value in enumerate(inputs))
        if any(a is not b for a, b in zip(stripped, inputs, strict=True)):
            return graph.add(op, stripped, attrs, shape, dtype)
    if name in _ARITHMETIC and not is_floating(dtype):
        return None
    rule = _RULES.get(name)
    return rule(graph, inputs, attrs, shape, dtype) if rule is not None else None


def _stripped(value: Operand, position: int, inputs: tuple[Operand, ...], shape: tuple[int, ...]) -> Operand:
    """What an operand is a repetition of, where broadcasting repeats it anyway."""
    if not isinstance(value, Value) or value.name != "broadcast_to" or len(value.values[0].shape) != len(shape):
        return value
    others = [v for i, v in enumerate(inputs) if i != position and isinstance(v, Value)]
    return value.values[0] if any(other.shape == shape for other in others) else value


def _level(value: Operand) -> int:
    return value.level if isinstance(value, Value) else -1


def _is(value: Operand, name: str) -> bool:
    return isinstance(value, Value) and value.name == name


# --- sums


def _add(graph: Graph, inputs: Any, attrs: Any, shape: Any, dtype: Any) -> Value | None:
    a, b = sorted(inputs, key=_level, reverse=True)
    for one, other in ((a, b), (b, a)):
        if _is(other, "negative"):
            return graph.apply(SUBTRACT, one, other.inputs[0])
    if _is(a, "assemble") and _is(b, "assemble"):
        return _merged(graph, a, b)
    if (same := _with_one_factor(graph, ADD, a, b, shape)) is not None:
        return same
    if _is(a, "add") and _level(b) < _level(a):
        p, q = sorted(a.inputs, key=_level, reverse=True)
        if _level(q) < _level(a):
            return graph.apply(ADD, p, _sum(graph, q, b))
    return None


def _subtract(graph: Graph, inputs: Any, attrs: Any, shape: Any, dtype: Any) -> Value | None:
    a, b = inputs
    if _is(b, "negative"):
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
    if _is(value, "multiply"):
        p, q = sorted(value.inputs, key=_level, reverse=True)
        if _level(q) < Level.COTANGENT:
            return p, q
    return value, 1.0


# --- products


def _multiply(graph: Graph, inputs: Any, attrs: Any, shape: Any, dtype: Any) -> Value | None:
    a, b = sorted(inputs, key=_level, reverse=True)
    if not isinstance(b, Value) and b == 1:
        return a if a.shape == shape and a.dtype == dtype else None
    if _level(b) >= _level(a):
        for one, other in ((a, b), (b, a)):
            number, rest = _number_in(one)
            if number is not None and prod(other.shape) < prod(one.shape):
                return graph.apply(MULTIPLY, rest, graph.apply(MULTIPLY, other, number))
        return None
    if _is(a, "multiply"):
        p, q = sorted(a.inputs, key=_level, reverse=True)
        if _level(q) < _level(a):
            return graph.apply(MULTIPLY, p, _product(graph, q, b))
    if a.level < Level.COTANGENT:
        return None
    if _is(a, "negative"):
        return graph.apply(MULTIPLY, a.inputs[0], _negated(graph, b))
    return None


def distribute(graph: Graph, roots: list[Value]) -> dict[int, Value]:
    """Multiply pieces and not what they make up, where nothing else reads that; new values by the index of the old."""
    values = needed(roots)
    uses = Counter(operand.index for value in values for operand in value.values)
    uses.update(root.index for root in roots)

    def change(value: Value, new: dict[int, Value]) -> Value | None:
        if value.name != "multiply" or value.level < Level.COTANGENT:
            return None
        a, b = sorted(value.inputs, key=_level, reverse=True)
        whole = isinstance(b, Value)
        if not _is(a, "assemble") or uses[a.index] > 1 or (whole and (b.level >= a.level or b.shape != value.shape)):
            return None
        parts = [
            graph.apply(MULTIPLY, new[piece.index], graph.apply(GETITEM, new[b.index], index=place) if whole else b)
            for piece, place in zip(a.inputs, a.attrs["places"], strict=True)
        ]
        return graph.add("assemble", tuple(parts), a.attrs, value.shape, value.dtype)

    return rebuild(graph, values, change)


def _number_in(value: Operand) -> tuple[Any, Operand]:
    """A number that something is multiplied with, and that; None if there is no number."""
    if not _is(value, "multiply") or all(isinstance(factor, Value) for factor in value.inputs):
        return None, value
    number, rest = value.inputs if isinstance(value.inputs[1], Value) else value.inputs[::-1]
    return number, rest


def _product(graph: Graph, a: Operand, b: Operand) -> Operand:
    return graph.apply(MULTIPLY, a, b) if isinstance(a, Value) or isinstance(b, Value) else a * b


def _negated(graph: Graph, value: Operand) -> Operand:
    return graph.apply(NEGATIVE, value) if isinstance(value, Value) else -value


def _negative(graph: Graph, inputs: Any, attrs: Any, shape: Any, dtype: Any) -> Value | None:
    (a,) = inputs
    if _is(a, "negative"):
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
    if _level(a) < Level.COTANGENT or _level(b) >= _level(a):
        return None
    if not isinstance(b, Value):
        return graph.apply(MULTIPLY, a, 1 / b) if b else None
    return graph.apply(MULTIPLY, a, graph.apply(DIVIDE, 1.0, b))


# --- linear maps and shapes


def _reduction(graph: Graph, inputs: Any, attrs: Any, shape: Any, dtype: Any) -> Value | None:
    """A factor that is the same for all elements is taken out of the sum."""
    (a,) = inputs
    if _is(a, "negative"):
        return graph.apply(NEGATIVE, graph.apply(SUM, a.inputs[0], **attrs))
    number, rest = _number_in(a)
    return None if number is None else graph.apply(MULTIPLY, graph.apply(SUM, rest, **attrs), number)


def _linear(graph: Graph, inputs: Any, attrs: Any, shape: Any, dtype: Any) -> Value | None:
    if len(inputs) < 3:
        return None
    product = graph.add(LINEAR, inputs[:2], attrs, shape, dtype)
    return product if inputs[2] is None else graph.apply(ADD, product, inputs[2])


def _same(graph: Graph, inputs: Any, attrs: Any, shape: Any, dtype: Any) -> Value | None:
    """Nothing to do."""
    (a,) = inputs
    return a if a.shape == shape and a.dtype == dtype else None


def _transpose(graph: Graph, inputs: Any, attrs: Any, shape: Any, dtype: Any) -> Value | None:
    (a,) = inputs
    return a.inputs[0] if _is(a, "matrix_transpose") else None


# --- pieces laid into zeros

Places = tuple[tuple[Any, ...], ...]


def _concat(graph: Graph, inputs: Any, attrs: Any, shape: Any, dtype: Any) -> Value | None:
    axis, start, places = attrs["axis"] % len(shape), 0, []
    for value in inputs:
        size = value.shape[axis]
        places.append(_place(shape, (slice(None),) * axis + (slice(start, start + size),)))
        start += size
    return _assembled(graph, inputs, tuple(places), shape, dtype)


def _stack(graph: Graph, inputs: Any, attrs: Any, shape: Any, dtype: Any) -> Value | None:
    before = (slice(None),) * (attrs["axis"] % len(shape))
    return _assembled(graph, inputs, tuple(_place(shape, (*before, i)) for i in range(len(inputs))), shape, dtype)


def _from_slice(graph: Graph, inputs: Any, attrs: Any, shape: Any, dtype: Any) -> Value | None:
    place = _place(shape, attrs["index"] if isinstance(attrs["index"], tuple) else (attrs["index"],))
    return _assembled(graph, inputs, (place,), shape, dtype)


def _pad(graph: Graph, inputs: Any, attrs: Any, shape: Any, dtype: Any) -> Value | None:
    if attrs["value"] != 0:
        return None
    sizes = zip(attrs["pad_width"], inputs[0].shape, strict=True)
    place = tuple(slice(before, before + size, 1) for (before, _), size in sizes)
    return _assembled(graph, inputs, (place,), shape, dtype)


def _assembled(graph: Graph, inputs: Any, places: Any, shape: Any, dtype: Any) -> Value | None:
    if None in places or not all(isinstance(value, Value) and value.dtype == dtype for value in inputs):
        return None
    flat = [part for value, place in zip(inputs, places, strict=True) for part in _flattened(value, place)]
    places = tuple(place for _, place in flat)
    return graph.add("assemble", tuple(value for value, _ in flat), {"places": places}, shape, dtype)


def _flattened(piece: Value, place: tuple[Any, ...]) -> list[tuple[Value, tuple[Any, ...]]]:
    """The pieces of a piece that is assembled itself, where it has no gap."""
    plain = all(isinstance(part, slice) and part.step == 1 for part in place)
    if not _is(piece, "assemble") or not plain or not covers(piece):
        return [(piece, place)]
    return [
        (inner, tuple(_shifted(part, outer.start) for part, outer in zip(where, place, strict=True)))
        for inner, where in zip(piece.inputs, piece.attrs["places"], strict=True)
    ]


def _shifted(part: Any, start: int) -> Any:
    return slice(part.start + start, part.stop + start, part.step) if isinstance(part, slice) else part + start


def _place(shape: tuple[int, ...], index: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """An index of slices and integers, written out for every axis; None for any other."""
    if index.count(Ellipsis) if all(type(part) in (int, slice, type(...)) for part in index) else False:
        at = index.index(Ellipsis)
        index = index[:at] + (slice(None),) * (len(shape) - len(index) + 1) + index[at + 1 :]
    if not all(type(part) in (int, slice) for part in index):
        return None
    index += (slice(None),) * (len(shape) - len(index))
    place: list[Any] = []
    for part, size in zip(index, shape, strict=True):
        if isinstance(part, slice):
            start, stop, step = part.indices(size)
            if step < 0:
                return None
            place.append(slice(start, max(start, stop), step))
        else:
            place.append(part % size)
    return tuple(place)


def _merged(graph: Graph, a: Value, b: Value) -> Value | None:
    """The pieces of both; None where some overlap in part."""
    pieces = dict(zip(map(_ranges, a.attrs["places"]), zip(a.inputs, a.attrs["places"], strict=True), strict=True))
    for piece, place in zip(b.inputs, b.attrs["places"], strict=True):
        where = _ranges(place)
        if where in pieces:
            known, place = pieces[where]
            if piece.shape != known.shape:  # one index is an integer, the other a slice of one element
                piece = graph.apply(RESHAPE, piece, shape=known.shape)
            pieces[where] = (graph.apply(ADD, known, piece), place)
        elif any(not disjoint(known, where) for known in pieces):
            return None
        else:
            pieces[where] = (piece, place)
    ordered = [pieces[where] for where in sorted(pieces, key=lambda ranges: [part.start for part in ranges])]
    return _assembled(graph, [piece for piece, _ in ordered], [place for _, place in ordered], a.shape, a.dtype)


def _ranges(place: tuple[Any, ...]) -> tuple[range, ...]:
    return tuple(range(p.start, p.stop, p.step) if isinstance(p, slice) else range(p, p + 1) for p in place)


def disjoint(a: tuple[range, ...], b: tuple[range, ...]) -> bool:
    """Whether two places have no element in common."""
    for one, other in zip(a, b, strict=True):
        if one.start >= other.stop or other.start >= one.stop:
            return True
        if not (one.step == other.step == 1) and not set(one).intersection(other):
            return True
    return False


def covers(value: Value) -> bool:
    """Whether the pieces of an assembled value leave no gap."""
    return sum(prod(piece.shape) for piece in value.values) == prod(value.shape)


def _getitem(graph: Graph, inputs: Any, attrs: Any, shape: Any, dtype: Any) -> Value | None:
    (a,) = inputs
    if _is(a, "assemble"):
        place = _place(a.shape, attrs["index"] if isinstance(attrs["index"], tuple) else (attrs["index"],))
        for piece, where in zip(a.inputs, a.attrs["places"], strict=True):
            if place == where and piece.shape == shape:
                found: Value = piece
                return found
    return _same(graph, inputs, attrs, shape, dtype) if _is_whole(a, attrs["index"]) else None


def _is_whole(value: Value, index: Any) -> bool:
    place = _place(value.shape, index if isinstance(index, tuple) else (index,))
    return place == tuple(slice(0, size, 1) for size in value.shape)


_ARITHMETIC = frozenset({"add", "subtract", "multiply", "divide", "negative", "sum"})
_RULES: dict[str, Callable[..., Value | None]] = {
    "add": _add,
    "subtract": _subtract,
    "multiply": _multiply,
    "negative": _negative,
    "divide": _divide,
    "linear": _linear,
    "sum": _reduction,
    "reshape": _same,
    "broadcast_to": _same,
    "astype": _same,
    "detach": _same,
    "squeeze": _same,
    "matrix_transpose": _transpose,
    "concat": _concat,
    "stack": _stack,
    "pad": _pad,
    "getitem_transpose": _from_slice,
    "getitem": _getitem,
}
