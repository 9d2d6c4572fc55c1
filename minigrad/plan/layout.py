"""Where the flat executor keeps each value: which values share memory, for how many steps, and which are mere views.

A value of shape (B, F) is stored feature-major, as (F, B): the gates of a step are then contiguous blocks, and a
product is weight @ state. Others keep their layout. Only the *owner* of memory is allocated; a view, a piece that is
computed right where it is assembled, and an operation done in place all live in the memory of another value.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from minigrad.plan.graph import Level, Value, is_draw
from minigrad.plan.operations import ELEMENTWISE
from minigrad.plan.pieces import has_gaps
from minigrad.plan.program import Program, is_product, operands_of_total

PHASES = {"forward": ("input", "recurrent", "output"), "backward": ("coefficient", "cotangent", "sink")}
PHASE_OF = {name: phase for phase, names in PHASES.items() for name in names} | {"total": "backward"}
LOOPS = frozenset({"recurrent", "cotangent"})


class Extent(IntEnum):
    """For how many steps a value is kept."""

    STEP = 0  # the one that is being computed
    CHUNK = 1  # those that are computed at once
    SPAN = 2  # all that the backward needs before it computes them anew
    RUN = 3  # all, and given to the caller


@dataclass
class Buffer:
    """Memory of one owner, or of several that need it one after the other."""

    shape: tuple[int, ...]
    dtype: Any
    extent: Extent
    zeroed: bool = False
    slots_more: int = 0


@dataclass(frozen=True)
class Track:
    """A carry, before and after each step: the value after one step is the value before the next.

    If the two are `joined`, they are one sequence in memory, of one more entry than there are steps; otherwise the
    result is copied there at the end of each step.
    """

    source: Value
    result: Value
    joined: bool


class Layout:
    """Decides about every value of a program, in this order, since each decision rests on those before it:

    which carries are one sequence with their results (`tracks`); which pieces are computed where they are assembled
    (`pieces`); in whose memory each value then lives (`owner`), and whether x is read where it is (`direct`); for how
    many steps an owner is kept (`extents`, from `uses`); and which owners share memory (`buffers`).

    Attributes:
        program: whose values they are.
        uses: for each owner the bins that read it, or `"run"` if the caller gets it; extents: see `Extent`.
        buffers: the memory to allocate; `buffer_of` says which one an owner has.
        given_out: the buffers that a caller gets, which are new for each run, with their phase.
        tracks: for each phase, its carries.
        direct: x, if it is read where the caller has it.
        pieces: for a piece that is computed where it is assembled: the whole, and the place in it.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        step = program.step
        self.uses: dict[int, list[str]] = {}
        self.pieces: dict[int, tuple[Value, Any]] = {}
        self.tracks: dict[str, list[Track]] = {"forward": [], "backward": []}
        self._tracked: dict[int, Track] = {}
        self._owners: dict[int, Value] = {}
        for phase, pairs in program.loops.items():
            taken: set[int] = set()
            for source, result in pairs:
                joined = self._is_computed(result) and result.index not in taken and not has_gaps(result)
                joined = joined and (result.shape, result.dtype) == (source.shape, source.dtype)
                taken.add(result.index)
                track = Track(source, result, joined)
                self.tracks[phase].append(track)
                self._tracked[source.index] = track
                if joined:
                    self._tracked[result.index] = track
        for name in ("recurrent", "output", "cotangent", "sink", "input", "coefficient"):
            for value in program.bins[name]:
                if value.name == "assemble":
                    self._place_pieces(value, name)
        self._owners = {value.index: self.owner(value) for value in step.graph.values}
        self.direct = step.x if self._is_direct(step.x) else None
        self.extents: dict[int, Extent] = {}
        self._find_extents(step)
        self.buffers: list[Buffer] = []
        self.buffer_of: dict[int, int] = {}
        self.given_out: dict[int, str] = {}
        self._allocate()

    # --- who owns what

    def bin_of(self, value: Value) -> str:
        """The bin that a value is computed in, or becomes known in."""
        known = {"carry": "recurrent", "carried": "cotangent", "x": "input", "alive": "input"}
        known["cotangent"] = "coefficient"
        return known.get(value.op, "") if value.is_source else self.program.bin_of(value)  # type: ignore[arg-type]

    def _is_computed(self, value: Value) -> bool:
        """Whether the value is computed in a bin, into memory of its own."""
        return not value.is_source and not is_view(value) and value.level is not Level.CONSTANT

    def owner(self, value: Value) -> Value:
        """The value in whose memory this one lives."""
        if value.index in self._owners:
            return self._owners[value.index]
        if value.index in self.pieces:
            return self.owner(self.pieces[value.index][0])
        if is_view(value):
            return self.owner(value.values[0])
        track = self._tracked.get(value.index)
        return track.source if track is not None else value

    def _place_pieces(self, whole: Value, name: str) -> None:
        """Let the pieces of a value be computed right where they belong, as far as that can be."""
        for piece, place in zip(whole.values, whole.attrs["places"], strict=True):
            same_phase = PHASE_OF.get(self.bin_of(piece)) == PHASE_OF[name]
            earlier = self.bin_of(piece) == name or (same_phase and self.bin_of(piece) in LOOPS)
            free = piece.index not in self.pieces and piece.index not in self._tracked and not has_gaps(piece)
            if self._is_computed(piece) and earlier and free and piece is not whole:
                self.pieces[piece.index] = (whole, place)

    # --- for how long

    def extent_of(self, value: Value) -> Extent:
        """For how many steps a value is kept."""
        return Extent.RUN if value is self.direct else self.extents[self.owner(value).index]

    def _is_direct(self, x: Value) -> bool:
        """Whether x can be read where the caller has it: only products of many steps at once read it."""
        program = self.program
        if any(self.owner(output) is x for output in program.step.outputs):
            return False
        readers = [(name, value) for name, values in program.bins.items() for value in values if name in PHASE_OF]
        if any(self.owner(result) is x for _, result in program.loops["forward"]):
            return False
        for name, value in readers:
            if any(o.level is not Level.CONSTANT and self.owner(o) is x for o in value.values):
                product = value.name == "linear" and value.values[0] is x and len(x.shape) == 2
                if not product or name in LOOPS:
                    return False
        return all(
            is_product(total) or all(self.owner(o) is not x for o in operands_of_total(total))
            for total in program.bins["total"]
        )

    def _find_extents(self, step: Any) -> None:
        for name, values in self.program.bins.items():
            for value in values:
                if name == "total":
                    for operand in operands_of_total(value):
                        self._use(operand, name)
                elif name in PHASE_OF:
                    if value.index in self.pieces or is_draw(value):  # a draw is made even if nothing reads it
                        self._use(value, name)
                    for operand in value.values:
                        self._use(operand, name)
        for track in self._tracked.values():
            self._use(track.source, self.bin_of(track.source))
            self._use(track.result, self.bin_of(track.source))
        for output in step.outputs:
            self._use(output, "run")
        if step.x_grad is not None:
            self._use(step.x_grad, "run")
        for phase, tracks in self.tracks.items():
            for track in tracks:
                if not self._in_place(track, phase):
                    owner = self.owner(track.source).index
                    self.extents[owner] = max(self.extents[owner], Extent.CHUNK)

    def _use(self, value: Value, name: str) -> None:
        if value.level is Level.CONSTANT:
            return
        owner = self.owner(value)
        made = self.bin_of(owner)
        self.uses.setdefault(owner.index, []).append(name)
        if name == "run":
            extent = Extent.RUN
        elif PHASE_OF[made] != PHASE_OF[name]:
            extent = Extent.SPAN
        else:
            extent = Extent.STEP if made in LOOPS and name == made else Extent.CHUNK
        self.extents[owner.index] = max(self.extents.get(owner.index, Extent.STEP), extent)

    def _in_place(self, track: Track, phase: str) -> bool:
        """Whether the value after a step may overwrite the one before it: nothing reads that any more."""
        result = track.result
        if not track.joined or result.name not in ELEMENTWISE or self.bin_of(result) not in LOOPS:
            return False
        for value in self.program.bins[PHASES[phase][1]]:
            if value.index > result.index and any(self._reads(value, track) for value in value.values):
                return False
        if any(self._reads(other.result, track) for other in self.tracks[phase] if other is not track):
            return False
        readers = [operand for operand in result.values if self._reads(operand, track)]
        return all(operand is track.source for operand in readers) and _may_overwrite(result, track.source)

    def _reads(self, value: Value, track: Track) -> bool:
        return value.level is not Level.CONSTANT and value is not track.result and self.owner(value) is track.source

    def offset(self, value: Value, after: bool) -> int:
        """At which entry of its memory a value's first step is; `after` for where a track has its result."""
        track = self._tracked.get(value.index)
        if track is None:
            return 0
        forward = track.source.op == "carry"
        return int((after or value is not track.source) == forward)

    # --- memory

    def _allocate(self) -> None:
        """Give every owner a buffer; values that live only in one bin share what others no longer need."""
        for names in PHASES.values():
            for name in names:
                self._share(name)
        for index, extent in self.extents.items():
            if index not in self.buffer_of and (self.direct is None or index != self.direct.index):
                value = self.program.step.graph.values[index]
                self.buffer_of[index] = self._new(value, extent, has_gaps(value), int(index in self._tracked))
                if extent is Extent.RUN:
                    self.given_out[self.buffer_of[index]] = PHASE_OF[self.bin_of(value)]

    def _new(self, value: Value, extent: Extent, zeroed: bool = False, more: int = 0) -> int:
        more = more if extent > Extent.STEP else 0
        self.buffers.append(Buffer(_stored_shape(value), value.dtype, extent, zeroed, more))
        return len(self.buffers) - 1

    def _share(self, name: str) -> None:
        values = self.program.bins[name]
        last: dict[int, int] = {}
        for position, value in enumerate(values):
            for operand in [*value.values, value]:
                if operand.level is not Level.CONSTANT:
                    last[self.owner(operand).index] = position
        free: dict[Any, list[int]] = {}
        for position, value in enumerate(values):
            if self.owner(value) is not value or not self._is_local(value, name):
                dying = []
            else:
                dying = [o for o in dict.fromkeys(value.values) if self._dies(o, last, position, name)]
                key = (_stored_shape(value), value.dtype)
                onto = next((o for o in dying if _may_overwrite(value, o) and self._alone(o, value)), None)
                if onto is not None:
                    self.buffer_of[value.index] = self.buffer_of[onto.index]
                elif free.get(key):
                    self.buffer_of[value.index] = free[key].pop()
                else:
                    self.buffer_of[value.index] = self._new(value, self.extents[value.index])
            mine = self.buffer_of.get(self.owner(value).index) if value.level is not Level.CONSTANT else None
            for operand in {self.owner(o) for o in [*value.values, value] if o.level is not Level.CONSTANT}:
                number = self.buffer_of.get(operand.index)
                if number is None or (number == mine and operand is not self.owner(value)):
                    continue
                if last.get(operand.index) == position and self._is_local(operand, name):
                    buffer = self.buffers[number]
                    free.setdefault((buffer.shape, buffer.dtype), []).append(number)

    def _is_local(self, value: Value, name: str) -> bool:
        """Whether a value is computed and read in one bin alone."""
        copied = any(self.owner(t.result) is value for tracks in self.tracks.values() for t in tracks if not t.joined)
        return not copied and (
            self.bin_of(value) == name
            and self._is_computed(value)
            and value.index not in self._tracked
            and value.name != "assemble"
            and self.extents.get(value.index, Extent.RUN) <= Extent.CHUNK
            and set(self.uses.get(value.index, ())) <= {name}
        )

    def _dies(self, operand: Value, last: dict[int, int], position: int, name: str) -> bool:
        """Whether the memory of an operand is free once this operation is done."""
        return (
            operand.level is not Level.CONSTANT
            and self.owner(operand) is operand
            and last[operand.index] == position
            and operand.index in self.buffer_of
            and self._is_local(operand, name)
        )

    def _alone(self, operand: Value, value: Value) -> bool:
        """Whether no other operand is a view of this one."""
        others = [o for o in value.values if o is not operand and o.level is not Level.CONSTANT]
        return all(self.owner(other) is not operand for other in others)


def is_feature_major(value: Value) -> bool:
    """Whether a value is stored with its two axes exchanged."""
    return len(value.shape) == 2


def _stored_shape(value: Value) -> tuple[int, ...]:
    """The shape in memory."""
    return value.shape[::-1] if is_feature_major(value) else value.shape


def _may_overwrite(value: Value, operand: Value) -> bool:
    """Whether an operation can write its result over this operand while it reads it."""
    if value.name not in ELEMENTWISE or (value.shape, value.dtype) != (operand.shape, operand.dtype):
        return False
    return value.name != "where" or (operand is not value.inputs[0] and operand is not value.inputs[1])


def is_view(value: Value) -> bool:
    """Whether a value is its operand's memory seen in another way."""
    if value.level is Level.CONSTANT or value.is_source:
        return False
    if value.name == "getitem":
        index = value.attrs["index"]
        return all(
            type(part) in (int, slice, type(None), type(...))
            for part in (index if isinstance(index, tuple) else (index,))
        )
    if value.name == "reshape":
        return [n for n in value.shape if n != 1] == [n for n in value.values[0].shape if n != 1]
    return value.name in ("matrix_transpose", "permute_dims", "expand_dims", "squeeze", "broadcast_to", "flip")
