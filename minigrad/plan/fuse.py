"""What can be made cheaper only when the whole step is known.

Sigmoids that can be computed at once are laid side by side and become one operation (`fuse`). A cell with three gates
calls for three sigmoids of the same shape, each of several array calls in the loop over time; as one of thrice the size
they cost a third of the calls. The gates themselves become slices of the result. What the sigmoids are of is computed
right where it is needed: where several gates are slices of one sum, such as (W x + U h)[:, a:b], each gate's part of
the sum is computed separately, (W x)[:, a:b] + (U h)[:, a:b].

Where pieces are put together only to be multiplied, each piece is multiplied (`distribute`), which can often be done
together with what it has been multiplied with before.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from minigrad.plan.graph import Graph, Level, Value, is_a, level_of, needed, rebuild
from minigrad.plan.operations import ADD, GETITEM, MULTIPLY, SIGMOID, SUBTRACT
from minigrad.plan.pieces import side_by_side

Span = tuple[Value, int, int]
"""A part of a value's last axis: from where to where."""


def fuse(graph: Graph, roots: list[Value]) -> dict[int, Value]:
    """New values for what `roots` are computed from, and for these themselves, by the index of the old ones."""
    values = needed(roots)
    depths = _depths(values)
    alike: dict[Any, list[Value]] = {}
    for value in values:
        if _is_gate(value):
            alike.setdefault((depths[value.index], value.shape[:-1], value.dtype), []).append(value)
    groups = [_Group(gates) for gates in alike.values() if len(gates) > 1]
    group_of = {gate.index: group for group in groups for gate in group.gates}
    split = _split(values, [span for group in groups if len(group.spans) > 1 for span in group.spans])

    def part(new: dict[int, Value], value: Value, start: int, stop: int) -> Value:
        if value.index not in split:
            return _sliced(graph, new[value.index], start, stop)
        operands = [_sliced(graph, new[v.index], start, stop) if isinstance(v, Value) else v for v in value.inputs]
        return graph.apply(value.op, *operands)  # type: ignore[arg-type]  # it is a sum

    def change(value: Value, new: dict[int, Value]) -> Value | None:
        source, start, stop = _span(value)
        if value.index in group_of:
            group = group_of[value.index]
            if group.whole is None:
                group.whole = graph.apply(SIGMOID, side_by_side(graph, [part(new, *span) for span in group.spans]))
            return _sliced(graph, group.whole, *group.places[value.index])
        return part(new, source, start, stop) if source is not value and source.index in split else None

    return rebuild(graph, sorted(values, key=lambda v: (depths[v.index], _is_gate(v), v.index)), change)


class _Group:
    """Sigmoids that become one.

    Attributes:
        gates: the sigmoids.
        spans: what the one sigmoid is of, side by side; parts that adjoin are one.
        places: where in it each gate is, by the gate's index.
        whole: the one sigmoid, once it is made.
    """

    def __init__(self, gates: list[Value]) -> None:
        self.gates = gates
        self.spans: list[Span] = []
        self.places: dict[int, tuple[int, int]] = {}
        self.whole: Value | None = None
        size = 0
        for gate in sorted(gates, key=_order):
            source, start, stop = _span(gate.values[0])
            self.places[gate.index] = size, size + stop - start
            size += stop - start
            if self.spans and self.spans[-1][0] is source and self.spans[-1][2] == start:
                start = self.spans.pop()[1]
            self.spans.append((source, start, stop))


def _order(gate: Value) -> tuple[int, int]:
    source, start, _ = _span(gate.values[0])
    return source.index, start


def _is_gate(value: Value) -> bool:
    return value.op is SIGMOID and value.level is Level.CARRY and len(value.shape) > 1


def _depths(values: list[Value]) -> dict[int, int]:
    """How many sigmoids there are at most on a way from the carry to each value; those of one depth are independent."""
    depths: dict[int, int] = {}
    for value in values:
        depths[value.index] = max((depths[v.index] + _is_gate(v) for v in value.values), default=0)
    return depths


def _span(value: Value) -> Span:
    """What a value is a part of: of itself, as a whole, unless it is a slice of the last axis of another one."""
    itself = value, 0, value.shape[-1] if value.shape else 1
    if value.name != "getitem" or value.level is not Level.CARRY:
        return itself
    (source,), index = value.values, value.attrs["index"]
    index = index if isinstance(index, tuple) else (index,)
    if len(index) == 2 and index[0] is Ellipsis:
        index = (slice(None),) * (len(source.shape) - 1) + index[1:]
    whole = all(type(part) is slice and part == slice(None) for part in index[:-1])
    if not whole or len(index) != len(source.shape) or type(index[-1]) is not slice:
        return itself
    start, stop, stride = index[-1].indices(source.shape[-1])
    return (source, start, stop) if stride == 1 and stop > start else itself


def _sliced(graph: Graph, value: Value, start: int, stop: int) -> Value:
    return graph.apply(GETITEM, value, index=(*(slice(None),) * (len(value.shape) - 1), slice(start, stop)))


def _split(values: list[Value], spans: list[Span]) -> set[int]:
    """The sums that are to be computed part by part: nothing reads them but slices that do not overlap."""
    unread = {
        value.index: value.shape[-1]
        for value, _, _ in spans
        if value.op in (ADD, SUBTRACT) and all(v.shape[-1:] == value.shape[-1:] for v in value.values)
    }
    for value in values:
        source, start, stop = _span(value)
        for operand in value.values:
            if operand.index in unread:
                unread[operand.index] -= stop - start if source is operand else operand.shape[-1] + 1
    return {index for index, size in unread.items() if size >= 0}


def distribute(graph: Graph, roots: list[Value]) -> dict[int, Value]:
    """Multiply pieces and not what they make up, where nothing else reads that; new values by the index of the old."""
    values = needed(roots)
    uses = Counter(operand.index for value in values for operand in value.values)
    uses.update(root.index for root in roots)

    def change(value: Value, new: dict[int, Value]) -> Value | None:
        if value.name != "multiply" or value.level < Level.COTANGENT:
            return None
        a, b = sorted(value.inputs, key=level_of, reverse=True)
        whole = isinstance(b, Value)
        if (
            not is_a(a, "assemble")
            or uses[a.index] > 1
            or (whole and (b.level >= a.level or not a.shape == b.shape == value.shape))
        ):
            return None
        parts = [
            graph.apply(MULTIPLY, new[piece.index], graph.apply(GETITEM, new[b.index], index=place) if whole else b)
            for piece, place in zip(a.inputs, a.attrs["places"], strict=True)
        ]
        return graph.add("assemble", tuple(parts), a.attrs, value.shape, value.dtype)

    return rebuild(graph, values, change)
