"""When and where a native program computes what: arrays, and for each step stages of row operations and loops.

A stage begins with products and reductions of rows that are in memory, and goes on with loops over columns, one for
each width. What is computed element by element is computed right in the loop that needs it and never stored, unless
somebody else needs it too: a later stage, the backward, the next step, a row operation, a sum, or the caller.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from minigrad.plan.graph import Level, Value
from minigrad.plan.native.parts import (
    PRODUCTS,
    REDUCTIONS,
    NotExpressibleError,
    check,
    cuts,
    is_moved,
    moved,
    slices_read,
    width,
)
from minigrad.plan.native.sums import Base, bases_of
from minigrad.plan.program import Program

FORWARD = ("input", "recurrent", "output")
BACKWARD = ("coefficient", "cotangent", "sink")


@dataclass(frozen=True)
class Array:
    """Memory that the code is given.

    Attributes:
        number: its place among the arguments.
        kind: `"given"` (for each step, by the caller), `"carry"`, `"carried"` (state and its gradient, between steps),
            `"saved"` (for the backward), `"output"` (for the caller), `"chunk"` (for the steps computed at once),
            `"scratch"` (for a thread's rows at one step), `"constant"`, `"total"`.
        value: what is in it.
        row: elements from one sequence's row to the next one's; 0 if all have the same.
    """

    number: int
    kind: str
    value: Value
    row: int


@dataclass(frozen=True)
class Place:
    """Where a value is: in an array; `after`, if that is between steps and the value is the one after this step."""

    array: Array
    after: bool = False


@dataclass(frozen=True)
class Columns:
    """Some columns of what is in a place."""

    place: Place
    start: int
    count: int


@dataclass(frozen=True)
class Store:
    """Columns of a value, from `start` on, to be computed and put into the same columns of a place."""

    value: Value
    start: int
    place: Place


@dataclass(frozen=True)
class RowOperation:
    """A product with a matrix of parameters, or a reduction, of rows in memory.

    Attributes:
        value: the result; place: where it goes.
        operand: the rows.
        number: of the packed matrix; None for a reduction.
        batched: whether it is done for all steps of a chunk before the loop over steps.
    """

    value: Value
    place: Place
    operand: Columns
    number: int | None
    batched: bool


@dataclass
class Stage:
    """Row operations, and after them what is stored, by the width of the loop."""

    operations: list[RowOperation] = field(default_factory=list)
    stores: dict[int, list[Store]] = field(default_factory=dict)


@dataclass(frozen=True)
class Sum:
    """A sum over steps: into an array, of rows, or of products of the elements of two rows."""

    base: Base
    array: Array
    left: Columns
    right: Columns | None


class Schedule:
    """All of a program, or `NotExpressibleError`.

    Attributes:
        arrays: in the order in which the code takes them.
        forward, backward: the phases; the backward has no stages if there is none.
        packed: the products whose matrices are packed before a run, by number: value, and forward or backward.
        outputs, x_grad: where the results are.
    """

    def __init__(self, program: Program) -> None:
        self.program, self.step = program, program.step
        step = program.step
        self.real = step.x.dtype
        self.batch = step.x.shape[0] if step.x.shape else 0
        self.arrays: list[Array] = []
        self.packed: list[tuple[Value, str]] = []
        self.known: dict[int, Place] = {}
        self._constants: dict[tuple[int, int], Array] = {}
        if self.real.kind != "f" or self.real.itemsize not in (4, 8):
            raise NotExpressibleError(f"x is {self.real}; rows are of float32 or float64")
        for source in [step.x, *step.carries, *step.outputs]:
            check_rows(source, self.batch, self.real)
        self._give(step.x, "given")
        self._give(step.alive, "given")
        for value in program.bins["input"]:
            if not value.inputs:
                self._give(value, "given")  # random numbers
        for carry in step.carries:
            self._give(carry, "carry")
        self.outputs: list[Place] = []
        self.forward = self._forward()
        for cotangent in step.cotangents:
            self._give(cotangent, "given")
        for seed in step.carried:
            self._give(seed, "carried")
        self.x_grad: Place | None = None
        self.backward = self._backward()

    @property
    def keeps(self) -> bool:
        """Whether a backward reads what the forward has left."""
        return bool(self.backward.stages or self.backward.sums)

    # --- arrays

    def array(self, kind: str, value: Value, row: int | None = None) -> Array:
        """A new one."""
        self.arrays.append(Array(len(self.arrays), kind, value, width(value) if row is None else row))
        return self.arrays[-1]

    def _give(self, value: Value | None, kind: str) -> None:
        if value is not None:
            self.known[value.index] = Place(self.array(kind, value))

    def constant(self, value: Value, rank: int) -> Array:
        """The array of what depends on parameters alone, as operands of results with so many axes see it."""
        shape = (1,) * (rank - len(value.shape)) + value.shape
        per_row = len(value.shape) == rank and shape[0] == self.batch
        key = value.index, (*shape, 1)[1] if per_row else 0
        if key not in self._constants:
            self._constants[key] = self.array("constant", value, key[1])
        return self._constants[key]

    # --- phases

    def _forward(self) -> Phase:
        step, program = self.step, self.program
        phase = Phase(self, "forward", [v for name in FORWARD for v in program.bins[name]])
        for carry, result in zip(step.carries, step.results, strict=True):
            phase.want(result, Place(self.known[carry.index].array, after=True))
        for output in step.outputs:
            place = phase.places.get(output.index)
            if place is None or not place.after:
                place = Place(self.array("output", output))
                phase.want(output, place)
            self.outputs.append(place)
        for value in program.saved:
            phase.keep(value)
        phase.finish()
        lasting = {i: p for i, p in phase.places.items() if p.after or p.array.kind in ("saved", "output")}
        self.known |= lasting
        return phase

    def _backward(self) -> Phase:
        step, program = self.step, self.program
        phase = Phase(self, "backward", [v for name in BACKWARD for v in program.bins[name]])
        for seed, grad in program.loops["backward"]:
            phase.want(grad, Place(self.known[seed.index].array, after=True))
        if step.x_grad is not None:
            self.x_grad = Place(self.array("output", step.x_grad))
            phase.want(step.x_grad, self.x_grad)
        for total in program.bins["total"]:
            phase.total(total)
        phase.finish()
        return phase


def check_rows(value: Value, batch: int, real: Any) -> None:
    """Raise unless a value that is given, or given out, has rows of floating-point numbers."""
    if len(value.shape) not in (1, 2) or value.shape[0] != batch or value.dtype != real:
        raise NotExpressibleError(
            f"{value.name} has the shape {value.shape} and {value.dtype}; rows are (B, n) of {real}"
        )


class Phase:
    """One direction of a program: its stages, found by asking what must be in memory.

    Args:
        schedule: makes arrays, and knows what is there before.
        name: `"forward"` or `"backward"`.
        values: what this phase may compute, in order.

    Attributes:
        places: where values are read; those that are not there are computed where they are needed.
        stages, sums: what to do.
        later: for each total the value that it is the sum of, and what to evaluate once to have it from `sums`.
    """

    def __init__(self, schedule: Schedule, name: str, values: list[Value]) -> None:
        self.schedule, self.name, self.values = schedule, name, values
        self.mine = {value.index for value in values} - schedule.known.keys()
        self.places = dict(schedule.known)
        self.stages: list[Stage] = []
        self.sums: list[Sum] = []
        self.later: list[tuple[Value, Value, list[Value]]] = []
        self._summed: set[int] = set()
        self._read = slices_read(values)
        self._wanted: list[tuple[Value, Place]] = []
        self._operations: dict[int, RowOperation | None] = {}
        self._stage_of: dict[int, int] = {}

    # --- what is to be in memory

    def want(self, value: Value, place: Place) -> None:
        """Put a value into this place. The first place of a value is where others read it."""
        self._wanted.append((value, place))
        if value.index in self.mine and not is_moved(value):
            self.places.setdefault(value.index, place)

    def keep(self, value: Value) -> None:
        """Have a value in memory that lasts until the backward; of a slice, what it is a slice of."""
        while is_moved(value) and value.name != "assemble":
            value = value.values[0]
        if value.level is not Level.CONSTANT and value.index in self.mine and value.index not in self.places:
            self.want(value, Place(self.schedule.array("saved", value)))
            self.places.setdefault(value.index, self._wanted[-1][1])

    def columns(self, value: Value, kind: str) -> Columns:
        """Where a value's rows lie side by side in memory: as columns of another, or in memory made for them."""
        at, start, size = value, 0, width(value)
        lasts = ("carried", "scratch") if kind == "chunk" else ()
        while at.index not in self.places or self.places[at.index].array.kind in lasts:
            part = moved(at, start, size) if is_moved(at) and len(cuts(at, {}, self._is_there)) == 2 else None
            if part is None or width(part[0]) < size or part[0].level is Level.CONSTANT:
                place = Place(self.schedule.array(kind, value))
                if is_moved(value):
                    self.mine.add(value.index)  # it is put together in this phase now
                self.want(value, place)
                self.places.setdefault(value.index, place)
                return Columns(place, 0, size)
            at, start = part
        return Columns(self.places[at.index], start, size)

    def total(self, total: Value) -> None:
        """A sum over steps."""
        of: Value = total.attrs["of"]
        bases, later = bases_of(of, self.schedule.batch)
        self.later += [(total, of, later)]
        for base in bases:
            if base.value.index in self._summed:
                continue
            self._summed.add(base.value.index)
            left, *right = (self.columns(rows, "chunk") for rows in base.rows)
            if base.by_row and left.count != left.place.array.row:
                raise NotExpressibleError("the gradient of a tensor of the state is a part of other rows")
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
        for value, place in self._wanted:
            if value.index in self._operations and self.places[value.index] == place:
                continue
            stores = self.stages[self.stage(value)].stores
            for start, stop in pairwise(cuts(value, self._read, self._is_there)):
                stores.setdefault(stop - start, []).append(Store(value, start, place))

    def _is_there(self, value: Value) -> bool:
        """Whether a value is in memory before the step is computed."""
        return value.index not in self.mine

    def stage(self, value: Value) -> int:
        """How many times row operations must be waited for before a value can be computed."""
        if value.index not in self.mine or value.level is Level.CONSTANT:
            return 0
        if value.index not in self._stage_of:
            operands = [v for v in value.values if v.level is not Level.CONSTANT]
            stage = max((self.stage(v) for v in operands), default=0)
            if value.name in REDUCTIONS or (value.name in PRODUCTS and not self._given(operands[0])):
                stage += 1
            self._stage_of[value.index] = stage
        return self._stage_of[value.index]

    def _given(self, value: Value) -> bool:
        """Whether the rows of a value are in memory before the step is computed."""
        while is_moved(value) and (value.index in self.mine or value.index not in self.places):
            if value.name in ("assemble", "broadcast_to"):
                return False  # its rows are put together first
            value = value.values[0]
        return value.index not in self.mine

    def _ask(self, wanted: Value, stage: int) -> None:
        """See to it that what a value is computed from is in memory, or can be computed in the same loop."""
        stack, seen = [wanted], set()
        while stack:
            at = stack.pop()
            if at.index in seen or at.level is Level.CONSTANT:
                continue
            seen.add(at.index)
            if not at.is_source:
                check(at, self.schedule.batch, self.schedule.real)
            if at.index not in self.mine:
                if at.index not in self.places:
                    if not is_moved(at):
                        raise NotExpressibleError(f"the backward needs {at.name}, which is not kept")
                    stack += at.values
            elif at.name in PRODUCTS or at.name in REDUCTIONS:
                self._operation(at)
            elif at is wanted or self.stage(at) == stage or is_moved(at):
                stack += at.values
            elif at.index not in self.places:
                self.want(at, Place(self.schedule.array("scratch", at)))

    def _operation(self, value: Value) -> None:
        if value.index in self._operations:
            return
        self._operations[value.index] = None
        operand = next(v for v in value.values if v.level is not Level.CONSTANT)
        number, batched = None, False
        if value.name in PRODUCTS:
            number = len(self.schedule.packed)
            self.schedule.packed.append((value, self.name))
            batched = operand is self.schedule.step.x and value.index not in self.places
        place = self.places.get(value.index)
        if place is None:
            place = self.places[value.index] = Place(self.schedule.array("chunk" if batched else "scratch", value))
        self._operations[value.index] = RowOperation(value, place, self.columns(operand, "scratch"), number, batched)
