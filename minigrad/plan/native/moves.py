"""Operations that move elements and compute nothing: which columns of whose rows the columns of a value are.

Where elements go is not worked out operation by operation: the operation itself is done, on an array of no values of
which only the address counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from math import prod
from typing import Any

import numpy as np

from minigrad.plan.graph import Value
from minigrad.plan.native.parts import NotExpressibleError, is_same, literal
from minigrad.plan.pieces import has_gaps

VIEWS = frozenset(
    {"getitem", "reshape", "expand_dims", "squeeze", "broadcast_to", "permute_dims", "matrix_transpose", "flip"}
)
"""Operations that only say where elements are to be read."""
_LAID = frozenset({"assemble", "concat", "stack", "pad"})
"""Operations that lay values side by side. Pieces of one dtype are "assemble"."""

MOST_SEGMENTS = 8
"""From how many places at most the columns of a value may come to be read there; from more they are copied first."""


@dataclass(frozen=True)
class Piece:
    """Elements of an operand, by column: from which of its columns to which of the value's. Both of one shape.

    Its `axis` is the operand's that counts sequences, also if the operand is constant.
    """

    operand: Value
    source: Any
    target: Any
    axis: int | None


@dataclass(frozen=True)
class Move:
    """How a value is put together.

    Attributes:
        axis: the axis of the value that counts sequences; None if there is but one sequence.
        pieces: from what.
        fill: what is where no piece is; has_gaps: whether there is such a place.
        adds: whether pieces are added up where they overlap.
    """

    axis: int | None
    pieces: list[Piece]
    fill: float = 0.0
    has_gaps: bool = False
    adds: bool = False


@dataclass(frozen=True)
class Segment:
    """Columns that lie side by side: from `start` on, those of an operand from `at` on, or all its column `at`."""

    start: int
    size: int
    operand: Value
    axis: int | None
    at: int
    spread: bool


Axis = Callable[[Value], "int | None"]


def is_move(value: Value) -> bool:
    """Whether an operation only moves elements."""
    if value.name in ("take", "take_transpose"):
        return literal(value.inputs[1]) is not None and value.inputs[0].level > 0
    return value.name in VIEWS or value.name in _LAID or value.name == "getitem_transpose" or is_same(value)


def move_of(value: Value, batch: int, axis_of: Axis) -> Move:
    """How a value is put together.

    Raises:
        NotExpressibleError: sequences meet in it.
    """
    if value.name in _LAID:
        return _put_together(value, list(zip(value.values, _places(value), strict=True)), batch, axis_of)
    if value.name in ("getitem_transpose", "take_transpose"):
        return _sent_back(value, batch, axis_of)
    chain = [value]
    while not _has_axis(chain[-1].values[0], axis_of) and chain[-1].values[0].name in VIEWS:
        chain.append(chain[-1].values[0])  # sequences lie apart again after another move
    x = chain[-1].values[0]

    def select(blank: Any) -> Any:
        return reduce(lambda made, at: _forward(at, made), chain[::-1], blank)

    axis, source = _found(value, value.shape, x.shape, axis_of(x), batch, select)
    return Move(axis, [Piece(x, source, np.arange(source.size).reshape(source.shape), axis_of(x))])


def _has_axis(value: Value, axis_of: Axis) -> bool:
    try:
        axis_of(value)
    except NotExpressibleError:
        return False
    return True


def _forward(value: Value, blank: Any) -> Any:
    """The operation done on another array."""
    more = [literal(v) if isinstance(v, Value) else v for v in value.inputs[1:]]
    return value.op.forward(np, blank, *more, **value.attrs)  # type: ignore[union-attr]  # a primitive


def _places(value: Value) -> Any:
    """Where the pieces of a value lie: for each axis a slice with all three numbers, or an integer."""
    if value.name == "assemble":
        return value.attrs["places"]
    whole = [slice(0, size, 1) for size in value.shape]
    if value.name == "pad":
        sizes = zip(value.attrs["pad_width"], value.values[0].shape, strict=True)
        return [tuple(slice(before, before + size, 1) for (before, _), size in sizes)]
    axis, start, places = value.attrs["axis"] % len(value.shape), 0, []
    for n, piece in enumerate(value.values):
        stop = start + (piece.shape[axis] if value.name == "concat" else 1)
        places.append((*whole[:axis], slice(start, stop, 1) if value.name == "concat" else n, *whole[axis + 1 :]))
        start = stop
    return places


def _sent_back(value: Value, batch: int, axis_of: Axis) -> Move:
    """What a selection sends back: elements added up where they came from."""
    g, attrs = value.values[0], value.attrs

    def select(blank: Any) -> Any:
        if value.name == "getitem_transpose":
            return blank[attrs["index"]]
        return np.take(blank, literal(value.inputs[1]), axis=attrs["axis"])

    for axis in [a for a, size in enumerate(value.shape) if size == batch] if batch > 1 else [None]:
        try:
            g_axis, target = _found(value, g.shape, value.shape, axis, batch, select)
        except NotExpressibleError:
            continue
        if g_axis == axis_of(g):
            size = prod(value.shape) // batch
            covered = len(np.unique(target))
            piece = Piece(g, np.arange(target.size).reshape(target.shape), target, g_axis)
            return Move(axis, [piece], has_gaps=covered < size, adds=covered < target.size)
    raise mixes(value)


def _found(
    value: Value, shape: tuple[int, ...], of: tuple[int, ...], axis: int | None, batch: int, select: Any
) -> tuple[int | None, Any]:
    """Which axis of a selection counts sequences, and the columns that are selected.

    Args:
        value: for messages.
        shape, select: of the selection; what makes it.
        of, axis: the shape of what is selected from, and its axis of sequences.
    """
    blank = np.empty(of, np.int8)
    selected = select(blank)
    if np.may_share_memory(selected, blank):
        strides = selected.strides
        elements = np.full((1,) * len(shape), _address(selected) - _address(blank))
    else:
        strides = None
        elements = select(np.arange(prod(of)).reshape(of))
    if axis is None:
        return None, _elements(elements, shape, strides, None)
    after = prod(of[axis + 1 :])
    for candidate, size in enumerate(shape):
        if size != batch or (strides is not None and strides[candidate] != after):
            continue
        first = _elements(elements, shape, strides, candidate)
        if strides is None:
            rows = np.moveaxis(elements // after % batch, candidate, -1)
            if not (rows == np.arange(batch)).all():
                continue
        elif (first // after % batch).any():
            continue
        return candidate, first // (after * batch) * after + first % after
    raise mixes(value)


def _elements(elements: Any, shape: tuple[int, ...], strides: Any, axis: int | None) -> Any:
    """Which elements the first sequence has: all of them, or what strides say."""
    if strides is not None:
        for a, (size, stride) in enumerate(zip(shape, strides, strict=True)):
            if a != axis:
                elements = elements + np.arange(size).reshape([-1 if b == a else 1 for b in range(len(shape))]) * stride
    return elements if axis is None else elements.take(0, axis=axis)


def _put_together(value: Value, pieces: list[tuple[Value, Any]], batch: int, axis_of: Axis) -> Move:
    """Pieces laid side by side."""
    axis, fill = None, float(value.attrs.get("value", 0.0))
    if batch > 1:
        axes = {_kept(place)[axis_of(piece) or 0] for piece, place in pieces if piece.level > 0}
        if len(axes) != 1 or any(place[next(iter(axes))] != slice(0, batch, 1) for _, place in pieces):
            raise mixes(value)
        (axis,) = axes
    found = []
    after = 1 if axis is None else prod(value.shape[axis + 1 :])
    for piece, place in pieces:
        blank = np.empty(value.shape, np.int8)
        part = blank[place]
        start = np.full((1,) * part.ndim, _address(part) - _address(blank))
        inner = None if axis is None else _kept(place).index(axis)
        target = _elements(start, part.shape, part.strides, inner)
        if axis is not None:
            target = target // (after * batch) * after + target % after
        found.append(Piece(piece, np.arange(target.size).reshape(target.shape), target, inner))
    gaps = has_gaps(value) or value.name == "pad"
    return Move(axis, found, fill, gaps)


def _kept(place: Any) -> list[int]:
    """Which axes of the whole a piece has."""
    return [axis for axis, part in enumerate(place) if isinstance(part, slice)]


def mixes(value: Value) -> NotExpressibleError:
    return NotExpressibleError(f"{value.name} of shape {value.shape} mixes sequences")


def _address(array: Any) -> int:
    found: int = array.__array_interface__["data"][0]
    return found


def segments_of(move: Move) -> list[Segment] | None:
    """The columns of a value, in order, by where they come from; None if that are too many places."""
    if move.adds or (move.has_gaps and move.fill):
        return None
    found: list[Segment] = []
    for piece in move.pieces:
        source, target = piece.source.reshape(-1), piece.target.reshape(-1)
        order = None if (np.diff(target) > 0).all() else np.argsort(target)
        if order is not None:
            source, target = source[order], target[order]
        step = np.diff(source)
        joint = (np.diff(target) == 1) & ((step == 0) | (step == 1))
        start = 0
        while start < len(target):
            ends = ~joint[start:] | (step[start:] != step[start]) if start < len(step) else np.zeros(0, bool)
            size = int(ends.argmax()) + 1 if ends.any() else len(target) - start
            spread = size > 1 and step[start] == 0
            first, at = int(target[start]), int(source[start])
            found.append(Segment(first, size, piece.operand, piece.axis, at, bool(spread)))
            start += size
            if len(found) > MOST_SEGMENTS:
                return None
    return sorted(found, key=lambda segment: segment.start)


def affine(columns: Any) -> tuple[int, list[int]] | None:
    """(first, steps) if going along an axis always adds the same; else None."""
    first = int(columns.flat[0])
    steps = [int(columns.take(1, axis=a).flat[0]) - first if n > 1 else 0 for a, n in enumerate(columns.shape)]
    built = np.full((1,) * columns.ndim, first)
    for a, step in enumerate(steps):
        built = built + np.arange(columns.shape[a]).reshape([-1 if b == a else 1 for b in range(columns.ndim)]) * step
    return (first, steps) if (built == columns).all() else None
