"""One direction of a native program: for each step stages of row operations and loops.

A stage begins with products and other operations on rows that are in memory, and goes on with loops over columns, one
for each width. What is computed element by element is computed right in the loop that needs it and never stored, unless
somebody else needs it too: the next step, a row operation, a sum, the caller, or a later stage or the backward to which
it would cost more to compute it anew.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from minigrad.plan.graph import Level, Operand, Value
from minigrad.plan.native.moves import is_move
from minigrad.plan.native.operations import checks, room, seen
from minigrad.plan.native.parts import NotExpressibleError, is_integer
from minigrad.plan.native.places import Columns, Place, RowOperation, Stage, Store, Sum
from minigrad.plan.native.rows import check
from minigrad.plan.native.sums import bases_of

if TYPE_CHECKING:
    from minigrad.plan.native.schedule import Schedule


MOST_READ = 2
"""How many values in memory may be read to compute one anew instead of storing it."""


class Phase:
    """One direction of a program: its stages, found by asking what must be in memory.

    Args:
        schedule: makes arrays, and knows what is in memory before.
        name: `"forward"` or `"backward"`.
        values: what this phase computes, as the program has it.

    Attributes:
        before: where values are that are in memory before a step is computed.
        places: where values are read; those that are not there are computed where they are needed.
        stages, sums: what to do.
        later: for each total the value that it is the sum of, and what to evaluate once to have it from `sums`.
    """

    def __init__(self, schedule: Schedule, name: str, values: list[Value]) -> None:
        self.schedule, self.name, self.rows = schedule, name, schedule.rows
        self.before = dict(schedule.places)
        self.places = dict(schedule.places)
        self.stages: list[Stage] = []
        self.sums: list[Sum] = []
        self.later: list[tuple[Value, Value, list[Value]]] = []
        self._summed: set[int] = set()
        self._copies: dict[tuple[int, str], Place] = {}
        self._values = values
        self._wanted: list[tuple[Value, Place]] = []
        self._operations: dict[int, RowOperation | None] = {}
        self._stage_of: dict[int, int] = {}

    def is_there(self, value: Value) -> bool:
        """Whether a value is in memory before a step is computed."""
        return value.index in self.before

    # --- what is to be in memory

    def want(self, value: Value, place: Place) -> None:
        """Put a value into this place. The first place of a value is where others read it."""
        self._wanted.append((value, place))
        if not self.is_there(value) and value.level is not Level.CONSTANT and not self._is_moved(value):
            self.places.setdefault(value.index, place)

    def keep(self, value: Value) -> None:
        """Have a value in memory that lasts until the backward; of a slice, what it is a slice of."""
        value = self.rows.whole(value)
        if value.level is not Level.CONSTANT and not self.is_there(value) and value.index not in self.places:
            self.want(value, Place(self.schedule.array("saved", value)))
            self.places.setdefault(value.index, self._wanted[-1][1])

    def columns(self, value: Value, kind: str, whole: bool = False) -> Columns:
        """Where a value's rows lie side by side in memory: as columns of another, or in memory made for them.

        With `whole`, these are all the columns of what is in memory. What lies there before the step is read there: an
        operation on it waits for nothing, not even for a copy that is made of it in the step.
        """
        at, start, size = value, 0, self.rows.width(value)
        is_early = kind == "scratch" and self._lies_in_memory(value)
        lasts = ("carried", "scratch") if kind == "chunk" else ()
        while True:
            place = None if is_early and not self.is_there(at) else self.places.get(at.index)
            if place is not None and place.array.kind not in lasts and not (whole and place.array.row != size):
                return Columns(place, start, size)
            part = self._part(at, start, size)
            if part is None:
                return Columns(self._copy(value, kind), 0, size)
            at, start = part

    def _copy(self, value: Value, kind: str) -> Place:
        """Memory of such a kind with a value in it."""
        kind = "chunk" if kind == "scratch" and self._is_of_input(value) else kind
        key = value.index, kind
        if key not in self._copies:
            place = self._copies[key] = Place(self.schedule.array(kind, value))
            self.want(value, place)
            if self._part(value, 0, self.rows.width(value)) is None:
                self.places.setdefault(value.index, place)
        return self._copies[key]

    def _part(self, value: Value, start: int, size: int) -> tuple[Value, int] | None:
        """Whose columns some columns of a moved value are, if they are of one value that varies."""
        if self._is_moved(value):
            for segment in self.rows.segments(value) or ():
                inside = segment.start <= start and start + size <= segment.start + segment.size
                if inside and not segment.spread and segment.operand.level is not Level.CONSTANT:
                    return segment.operand, segment.at + start - segment.start
        return None

    def _is_moved(self, value: Value) -> bool:
        return self.rows.is_moved(value)

    def total(self, total: Value) -> None:
        """A sum over steps."""
        of: Value = total.attrs["of"]
        bases, later = bases_of(of, self.rows)
        self.later += [(total, of, later)]
        for base in bases:
            if base.value.index in self._summed:
                continue
            self._summed.add(base.value.index)
            whole = base.parts > 1 or base.how in ("apart", "table")
            left, *right = (self.columns(rows, "chunk", whole) for rows in base.rows)
            array = self.schedule.array("total", base.value, 0)
            self.sums.append(Sum(base, array, left, right[0] if right else None))

    # --- stages

    def finish(self) -> None:
        """Find the stages: ask what computing the wanted needs in memory, until nothing new turns up."""
        done = 0
        while done < len(self._wanted):
            value, _ = self._wanted[done]
            self._ask(value, self.stage(value))
            done += 1
        operations = [operation for operation in self._operations.values() if operation is not None]
        last = max([self.stage(value) for value, _ in self._wanted], default=-1)
        self.stages = [Stage() for _ in range(last + 1)]
        for operation in operations:
            self.stages[self.stage(operation.value)].operations.append(operation)
        read = self._slices_read()
        for value, place in self._wanted:
            if value.index in self._operations and self.places[value.index] == place:
                continue
            stage = self.stages[self.stage(value)]
            if is_integer(value.dtype):
                stage.operations.append(RowOperation(value, place, (self._rows_of(value, value),), copies=True))
                continue
            for start, stop in pairwise(self._cuts(value, read)):
                stage.stores.setdefault(stop - start, []).append(Store(value, start, place))

    def stage(self, value: Value) -> int:
        """How many times row operations must be waited for before a value can be computed."""
        if self.is_there(value) or value.level is Level.CONSTANT:
            return 0
        if value.index not in self._stage_of:
            operands = self.rows.varying(value)
            stage = max((self.stage(v) for v in operands), default=0)
            if self.rows.is_operation(value) and not all(map(self._lies_in_memory, operands)):
                stage += 1
            self._stage_of[value.index] = stage
        return self._stage_of[value.index]

    def _lies_in_memory(self, value: Value) -> bool:
        """Whether the rows of a value lie side by side in memory before a step is computed."""
        return self._there(value) is not None

    def _there(self, value: Value) -> Value | None:
        """What is in memory before a step is computed and has a value's columns side by side; None if nothing has."""
        start, size = 0, self.rows.width(value)
        while not self.is_there(value):
            part = self._part(value, start, size)
            if part is None:
                return None
            value, start = part
        return value

    def _ask(self, wanted: Value, stage: int) -> None:
        """See to it that what a value is computed from is in memory, or can be computed in the same loop."""
        stack, seen = [wanted], set()
        while stack:
            at = stack.pop()
            if at.index in seen or at.level is Level.CONSTANT or self.is_there(at):
                continue
            seen.add(at.index)
            check(at, self.rows)
            if self.rows.is_operation(at):
                self._operation(at)
            elif at is wanted or self.stage(at) == stage:
                stack += self.rows.varying(at)
            elif at.index not in self.places:
                if self._is_moved(at) or self._is_cheap(at):
                    stack += self.rows.varying(at)
                else:
                    self.want(at, Place(self.schedule.array("scratch", at)))

    def _is_cheap(self, value: Value) -> bool:
        """Whether computing a value anew, from little that is in memory, costs no more than to store and read it."""
        found: set[int] = set()
        seen: set[int] = set()
        stack = [value]
        while stack:
            at = stack.pop()
            if at.index in seen:
                continue
            seen.add(at.index)
            if self.is_there(at) or at.index in self.places or self.rows.is_operation(at):
                found |= {at.index} if self.rows.width(at) > 1 else set()
            elif at.level is not Level.CONSTANT:
                if not (self._is_moved(at) or self.rows.is_arithmetic(at)):
                    return False
                stack += self.rows.varying(at)
        return len(found) <= MOST_READ

    def _operation(self, value: Value) -> None:
        if value.index in self._operations:
            return
        self._operations[value.index] = None
        operands, packed = self.rows.operands(value), None
        if self.rows.is_packed(value):
            operands, packed = operands[:1], len(self.schedule.packed)
            self.schedule.packed.append((value, self.name))
        place = self.places.get(value.index)
        if place is None:
            kind = "chunk" if self._is_of_input(value) else "scratch"
            place = self.places[value.index] = Place(self.schedule.array(kind, value))
        if checks(value):
            self.schedule.use_flag(value)
        count = room(value, self.rows)
        self._operations[value.index] = RowOperation(
            value,
            place,
            tuple(self._rows_of(operand, value) for operand in operands),
            packed,
            Place(self.schedule.room(value, count)) if count else None,
            self._is_of_input(value) and place.array.kind == "chunk",
        )

    def _is_of_input(self, value: Value) -> bool:
        """Whether a value is a product of what is given for each step, and can be computed for many steps at once."""
        x = self.schedule.step.x
        return value.inputs[:1] == (x,) and len(x.shape) == 2 and self.rows.is_packed(value)

    def _rows_of(self, operand: Operand, value: Value) -> Columns | None:
        """The rows of what a value is computed from; None of a number."""
        if not isinstance(operand, Value):
            return None
        if operand.level is not Level.CONSTANT:
            return self.columns(operand, "scratch")
        shape, axis = (value.shape, 0) if operand is value else seen(value, operand, self.rows)
        if operand is not value and is_move(value):
            piece = next(piece for piece in self.rows.move(value).pieces if piece.operand is operand)
            shape, axis = operand.shape, piece.axis
        array = self.schedule.constant(operand, shape, axis, self.schedule.stored(operand))
        return Columns(Place(array), 0, array.row)

    # --- columns

    def _slices_read(self) -> dict[int, set[int]]:
        """For each value the columns where slices of it begin and end."""
        read: dict[int, set[int]] = {}
        for value in self._values:
            if value.name == "getitem" and value.level is not Level.CONSTANT and self._can_be_moved(value):
                for segment in self.rows.segments(value) or ():
                    read.setdefault(segment.operand.index, set()).update({segment.at, segment.at + segment.size})
        return read

    def _can_be_moved(self, value: Value) -> bool:
        try:
            return self._is_moved(value)
        except NotExpressibleError:
            return False  # nobody has asked for it

    def _cuts(self, value: Value, read: dict[int, set[int]]) -> list[int]:
        """Where the columns of a value must be cut, so that each range comes from one place, from 0 to its width."""
        width = self.rows.width(value)
        found = {0, width}
        stack = [(value, 0, 0, width)]  # a value, its column, the column of ours that this is, and how many
        done: set[Any] = set()
        while stack:
            item = stack.pop()
            if item in done:
                continue
            done.add(item)
            at, start, ours, size = item
            found |= {ours + cut - start for cut in read.get(at.index, ()) if start < cut < start + size}
            if at.is_source or at.level is Level.CONSTANT or (self.is_there(at) and at is not value):
                continue
            if self._is_moved(at):
                for segment in self.rows.segments(at) or ():
                    a, b = max(segment.start, start), min(segment.start + segment.size, start + size)
                    if a < b:
                        found |= {ours + a - start, ours + b - start}
                        if not segment.spread:
                            stack.append((segment.operand, segment.at + a - segment.start, ours + a - start, b - a))
            elif self.rows.is_vector(at):
                stack += [(v, start, ours, size) for v in self.rows.varying(at) if self.rows.width(v) > 1]
        return sorted(found)
