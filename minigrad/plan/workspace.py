"""The memory of one run, and the views of it that the flat code takes."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from minigrad.backend import Backend
from minigrad.plan.flat import Code, Slot
from minigrad.plan.graph import Level, Value
from minigrad.plan.layout import Extent, Layout, Track, is_feature_major, is_view

CHUNK_BYTES = 4 << 20
"""How much memory the values of one chunk may take: about what fits the cache."""

CHUNK_COLUMNS = 512
"""How many columns the products that sum over steps should have at least, whatever memory that takes."""

PADDING = 16
"""So many elements between rows that lie far apart: without them all rows may fall on the same lines of the cache."""


@dataclass(frozen=True)
class Place:
    """Where an array lies in the memory of its owner, in bytes; the first axis is time, except for one step alone."""

    owner: Value
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Workspace:
    """The memory of one run.

    Attributes:
        chunks: the steps (start, stop) of each chunk; spans: the chunks of each span.
        span: the span whose values are there.
    """

    def __init__(self, layout: Layout, code: Code, backend: Backend, steps: int, checkpoint_every: int | None) -> None:
        self.layout, self.code, self.backend, self.steps = layout, code, backend, steps
        self.values = layout.program.step.graph.values
        span = min(checkpoint_every or steps, steps)
        per_step = sum(prod(b.shape) * b.dtype.itemsize for b in layout.buffers if b.extent is Extent.CHUNK)
        joined = [self.values[slot.value] for slot in code.slots["backward"] if slot.kind == "joined"]
        per_step += sum(prod(value.shape) * value.dtype.itemsize for value in joined)
        columns = max((value.shape[0] for value in joined), default=1)
        length = max(1, min(span, max(CHUNK_BYTES // max(per_step, 1), -(-CHUNK_COLUMNS // columns))))
        self.chunks: list[tuple[int, int]] = []
        self.spans: list[list[int]] = []
        self.span_starts: list[int] = []
        for start in range(0, steps, span):
            stop = min(start + span, steps)
            ranges = [(a, min(a + length, stop)) for a in range(start, stop, length)]
            self.spans.append(list(range(len(self.chunks), len(self.chunks) + len(ranges))))
            self.chunks += ranges
            self.span_starts += [start] * len(ranges)
        self.span = 0
        self._lengths = {Extent.CHUNK: length, Extent.SPAN: span, Extent.RUN: steps}
        self._memory = [None if b.extent is Extent.RUN else self._allocate(b) for b in layout.buffers]
        self._places: dict[Slot, Place] = {}
        self._fixed: dict[str, list[Any]] = {}
        self._joined: dict[tuple[int, bool], Any] = {}

    # --- memory

    def _allocate(self, buffer: Any) -> Any:
        make = self.backend.xp.zeros if buffer.zeroed else self.backend.xp.empty
        return make(self._stored_shape(buffer), buffer.dtype)

    def _stored_shape(self, buffer: Any) -> tuple[int, ...]:
        if buffer.extent is Extent.STEP:
            shape: tuple[int, ...] = buffer.shape
            return shape
        return self._lengths[buffer.extent] + buffer.slots_more, *buffer.shape

    def fresh(self, phase: str) -> dict[int, Any]:
        """New memory for what a phase gives to the caller."""
        return {
            number: self._allocate(self.layout.buffers[number])
            for number, given_by in self.layout.given_out.items()
            if given_by == phase
        }

    def _array(self, owner: Value, arrays: dict[int, Any]) -> Any:
        number = self.layout.buffer_of[owner.index]
        memory = self._memory[number]
        return arrays[number] if memory is None else memory

    # --- where a carry is

    def _start(self, extent: Extent, c: int) -> int:
        """The first step that the memory of a value holds when chunk `c` is computed."""
        if extent is Extent.CHUNK:
            return self.chunks[c][0]
        return self.span_starts[c] if extent is Extent.SPAN else 0

    def _entry(self, track: Track, boundary: int, c: int) -> tuple[Any, ...]:
        """Where in its memory a carry is between steps boundary-1 and boundary, seen from chunk `c`."""
        extent = self.layout.extent_of(track.source)
        return (...,) if extent is Extent.STEP else (boundary - self._start(extent, c), ...)

    def at(self, track: Track, boundary: int, arrays: dict[int, Any], c: int) -> Any:
        """A carry between two steps, batch first."""
        array = self._array(track.source, arrays)[self._entry(track, boundary, c)]
        return array.swapaxes(-1, -2) if is_feature_major(track.source) else array

    def carry_over(self, phase: str, done: int, to: int, arrays: dict[int, Any]) -> None:
        """Take the carries along from one chunk to the next, where these do not lie side by side."""
        boundary = self.chunks[done][1 if phase == "forward" else 0]
        for track in self.layout.tracks[phase]:
            here, there = self._entry(track, boundary, done), self._entry(track, boundary, to)
            if here != there:
                array = self._array(track.source, arrays)
                self.backend.xp.copyto(array[there], array[here])

    # --- views

    def _place(self, slot: Slot) -> Place:
        """Found out on an array that has a shape and no memory of its own."""
        place = self._places.get(slot)
        if place is None:
            value = self.values[slot.value]
            owner = self.layout.owner(value)
            buffer = self.layout.buffers[self.layout.buffer_of[owner.index]]
            base = _blank(self._stored_shape(buffer), buffer.dtype)
            view = self._natural(value, base, slot.kind == "after")
            if slot.part is not None:
                view = _part_of(view, tuple(slice(*p) if isinstance(p, tuple) else p for p in slot.part))
            view = _shaped(view, slot.rank, slot.swapped)
            shape, strides = view.shape, view.strides
            if buffer.extent is not Extent.STEP:
                shape, strides = (self._lengths[buffer.extent], *shape), (base.strides[0], *strides)
            offset = _address(view) - _address(base)
            place = self._places[slot] = Place(owner, offset, shape, strides)
        return place

    def _natural(self, value: Value, base: Any, after: bool = False) -> Any:
        """A value at the first step of its memory, batch first."""
        if value.index in self.layout.pieces:
            whole, part = self.layout.pieces[value.index]
            return _part_of(self._natural(whole, base), part)
        if is_view(value):
            operand = self._natural(value.values[0], base)
            if value.name == "getitem":
                return _part_of(operand, value.attrs["index"])
            return value.op.forward(np, operand, **value.attrs)  # type: ignore[union-attr]
        if self.layout.extent_of(value) is not Extent.STEP:
            base = _part_of(base, self.layout.offset(value, after))
        return base.swapaxes(-1, -2) if is_feature_major(value) else base

    def over_time(self, slot: Slot, arrays: dict[int, Any]) -> Any:
        """A value at all the steps that its memory holds."""
        if self.values[slot.value] is self.layout.direct:
            x = arrays[-1] if slot.part is None else arrays[-1][(slice(None), *slot.part)]
            return x.swapaxes(-1, -2) if slot.swapped else x
        place = self._place(slot)
        return self.backend.strided(self._array(place.owner, arrays), place.offset, place.shape, place.strides)

    def _side_by_side(self, slot: Slot) -> list[Any]:
        """For each chunk the memory for the values of its steps side by side: (n, steps * m), or (steps, n, m)."""
        value = self.values[slot.value]
        n, m = value.shape[:: -1 if slot.swapped else 1]
        key = slot.value, slot.swapped
        if key not in self._joined:
            columns = m * self._lengths[Extent.CHUNK]
            self._joined[key] = self.backend.xp.empty((n, columns + PADDING), value.dtype)[:, :columns]
        arrays = [(self._joined[key][:, : m * (b - a)], b - a) for a, b in self.chunks]
        if slot.kind != "joining":
            return [array for array, _ in arrays]
        return [array.reshape(n, steps, m).transpose(1, 0, 2) for array, steps in arrays]

    def _argument(self, slot: Slot, arrays: dict[int, Any]) -> Any:
        if slot.kind in ("joined", "joining"):
            return self._side_by_side(slot)
        extent = self.layout.extent_of(self.values[slot.value])
        batched = self.over_time(slot, arrays)
        if extent is Extent.STEP:
            return batched
        starts = [self._start(extent, c) for c in range(len(self.chunks))]
        if slot.per == "chunk":
            return [batched[a - start : b - start] for (a, b), start in zip(self.chunks, starts, strict=True)]
        each = [_part_of(batched, n) for n in range(len(batched))] if batched.ndim == 1 else list(batched)
        if extent is Extent.RUN or len(self.chunks) == 1:
            return each
        return [each[t - start] for (a, b), start in zip(self.chunks, starts, strict=True) for t in range(a, b)]

    def arguments(self, phase: str, arrays: dict[int, Any], known: dict[int, Any]) -> list[Any]:
        """What the code of a phase takes."""
        slots = self.code.slots[phase]
        if phase not in self._fixed:
            self._fixed[phase] = [self._argument(slot, arrays) if self._is_fixed(slot) else None for slot in slots]
        arguments = list(self._fixed[phase])
        for number, slot in enumerate(slots):
            if arguments[number] is None:
                constant = self.values[slot.value].level is Level.CONSTANT
                arguments[number] = self._constant(slot, known) if constant else self._argument(slot, arrays)
        return arguments

    def _constant(self, slot: Slot, known: dict[int, Any]) -> Any:
        array = known[slot.value]
        if slot.kind != "repeated":
            return _shaped(array, slot.rank, slot.swapped)
        xp = self.backend.xp
        return xp.ascontiguousarray(_shaped(xp.broadcast_to(array, slot.part), slot.rank, slot.swapped))

    def _is_fixed(self, slot: Slot) -> bool:
        """Whether an argument is the same for all runs in this memory."""
        value = self.values[slot.value]
        if slot.kind in ("joined", "joining"):
            return True
        if value.level is Level.CONSTANT or value is self.layout.direct:
            return False
        return self.layout.extent_of(value) is not Extent.RUN

    def feed(self, value: Value, c: int, array: Any, arrays: dict[int, Any]) -> None:
        """Put what is given for the steps of a chunk where the code reads it; zeros if there is nothing."""
        if value is self.layout.direct or value.index not in self.layout.extents:
            return
        start, (a, b) = self._start(self.layout.extent_of(value), c), self.chunks[c]
        into = self.over_time(whole(value), arrays)[a - start : b - start]
        into.fill(0) if array is None else self.backend.xp.copyto(into, array[a:b])


def whole(value: Value) -> Slot:
    """A value as it is, batch first."""
    return Slot(value.index, len(value.shape), False, None, "run")


def _blank(shape: tuple[int, ...], dtype: Any) -> Any:
    """An array of which only shape and strides may be used."""
    strides, size = [], dtype.itemsize
    for n in reversed(shape):
        strides.append(size)
        size *= n
    return np.lib.stride_tricks.as_strided(np.empty(1, dtype), shape, strides[::-1])


def _address(array: Any) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def _part_of(array: Any, index: Any) -> Any:
    """A view of a part, also where it is a single element."""
    index = index if isinstance(index, tuple) else (index,)
    return array[index if Ellipsis in index else (*index, ...)]


def _shaped(view: Any, rank: int, swapped: bool) -> Any:
    """With axes of size 1 in front up to a rank, and the last two axes exchanged."""
    if view.ndim < rank:
        view = view.reshape((1,) * (rank - view.ndim) + view.shape)
    return view.swapaxes(-1, -2) if swapped else view


def side_by_side(steps: Any, joining: Any, joined: Any, xp: Any) -> Any:
    """Values of many steps (steps, n, m) side by side, (n, steps * m): as they are if they lie so, or else put there.

    >>> x = np.arange(12.0).reshape(3, 2, 2)
    >>> side_by_side(x.swapaxes(1, 2), None, None, np).base is x.base
    True
    """
    rows = steps.swapaxes(-1, -2)
    count, m, n = rows.shape
    if rows.flags.c_contiguous:
        return rows.reshape(count * m, n).T
    xp.copyto(joining, steps)
    return joined
