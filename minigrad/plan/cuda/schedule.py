"""All of a program as sections: forward and backward, each before, in and after the loop over time."""

from __future__ import annotations

import re
from collections.abc import Iterable

from minigrad.plan.cuda.layout import Array, Place, Sum
from minigrad.plan.cuda.rows import PRODUCTS, REDUCTIONS, NotExpressibleError, is_moved, width
from minigrad.plan.cuda.sections import Section
from minigrad.plan.cuda.sums import bases_of
from minigrad.plan.graph import Level, Value, is_draw
from minigrad.plan.program import Program

FORWARD = ("input", "recurrent", "output")
BACKWARD = ("coefficient", "cotangent", "sink")
HEAVY = PRODUCTS | REDUCTIONS
"""Operations that are better done for many steps at once."""


_WHEN = {"saved": "all", "scratch": "step"}
"""What an array of a computed value is called after: whether it holds all steps or one."""

_RESERVED = frozenset(
    """tanh exp expm1 log log1p sqrt sin cos fabs pow larger smaller sigmoid softplus sign q j i first rows x alive
    int float double long short char bool const new delete this class struct template auto register default switch
    case for while do if else return break continue void static extern""".split()  # noqa: SIM905  # a list of names
)


class Schedule:
    """All of a program, or `NotExpressibleError`.

    Attributes:
        arrays: by number.
        forward, backward: their sections in order: before, in and after the loop.
        outputs, x_grad: where the results are.
        sums: over all steps; later: for each total the value that it is the sum of, and what to evaluate once.
    """

    def __init__(self, program: Program) -> None:
        self.program, self.step = program, program.step
        step = program.step
        self.real = step.x.dtype
        self.batch = step.x.shape[0] if step.x.shape else 0
        self.arrays: list[Array] = []
        self.known: dict[int, Place] = {}
        self.sums: list[Sum] = []
        self.later: list[tuple[Value, Value, list[Value]]] = []
        self._constants: dict[tuple[int, str, int], Array] = {}
        self._names: set[str] = set()
        if self.real.kind != "f" or self.real.itemsize not in (4, 8):
            raise NotExpressibleError(f"x is {self.real}; rows are of float32 or float64")
        for source in [step.x, *step.carries, *step.outputs]:
            if len(source.shape) not in (1, 2) or source.shape[0] != self.batch or source.dtype != self.real:
                raise NotExpressibleError(
                    f"{source.name} has the shape {source.shape} and {source.dtype}; rows are (B, n) of {self.real}"
                )
        self.draws = [value for value in program.bins["input"] if is_draw(value)]
        for value in [step.x, step.alive, *self.draws]:
            self._give(value, "given")
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

    # --- arrays

    def array(self, kind: str, value: Value, row: int | None = None) -> Array:
        """A new one."""
        row = width(value) if row is None else row
        self.arrays.append(Array(len(self.arrays), kind, value, row, self._name(kind, value)))
        return self.arrays[-1]

    def _name(self, kind: str, value: Value) -> str:
        """A name for an array: the cell's own for what is given, and that of `explain()` for what is computed."""
        given = value.attrs.get("name")
        if kind == "total":
            word = f"total_{value.index}"
        elif given is not None:
            word = ("d_" if value.op == "carried" else "") + re.sub(r"\W+", "_", given, flags=re.ASCII).strip("_")
            word = word if word[:1].isalpha() and word not in _RESERVED else f"p_{word}"
        elif value.is_source:
            word = f"d_output_{value.attrs['number']}" if value.op == "cotangent" else value.name
        else:
            word = f"{_WHEN.get(kind, kind)}_{value.name}_{value.index}"
        name, number = word, 1
        while name in self._names:
            number += 1
            name = f"{word}_v{number}"
        self._names.add(name)
        return name

    def _give(self, value: Value | None, kind: str) -> None:
        if value is not None:
            self.known[value.index] = Place(self.array(kind, value))

    def constant(self, value: Value, rank: int) -> Array:
        """The array of what depends on parameters alone, as operands of results with so many axes see it."""
        shape = (1,) * (rank - len(value.shape)) + value.shape
        per_row = len(value.shape) == rank and shape[0] == self.batch
        return self._constant(value, "constant", (*shape, 1)[1] if per_row else 0)

    def matrix(self, value: Value) -> Array:
        """The array of parameters that rows are multiplied with."""
        return self._constant(value, "matrix", value.shape[1])

    def _constant(self, value: Value, kind: str, row: int) -> Array:
        key = value.index, kind, row
        if key not in self._constants:
            self._constants[key] = self.array(kind, value, row)
        return self._constants[key]

    # --- sections

    def _forward(self) -> list[Section]:
        step, program = self.step, self.program
        split = _Split(self, "forward", [program.bins[name] for name in FORWARD])
        split.before([*step.results, *step.outputs, *program.saved])
        for carry, result in zip(step.carries, step.results, strict=True):
            split.loop.want(result, Place(self.known[carry.index].array, after=True))
        for output in step.outputs:
            place = split.loop.places.get(output.index)
            if place is None or not place.after:
                place = Place(self.array("output", output))
                split.want(output, place)
            self.outputs.append(place)
        split.keep(program.saved)
        split.finish_loop()
        return split.finish()

    def _backward(self) -> list[Section]:
        step, program = self.step, self.program
        bases = []
        for total in program.bins["total"]:
            found, later = bases_of(total.attrs["of"], self.batch)
            self.later.append((total, total.attrs["of"], later))
            bases += found
        rows = [value for base in bases for value in base.rows]
        grads = [grad for _, grad in program.loops["backward"]]
        split = _Split(self, "backward", [program.bins[name] for name in BACKWARD])
        split.before([*grads, *rows, *([step.x_grad] if step.x_grad is not None else [])])
        for seed, grad in program.loops["backward"]:
            split.loop.want(grad, Place(self.known[seed.index].array, after=True))
        if step.x_grad is not None:
            self.x_grad = Place(self.array("output", step.x_grad))
            split.want(step.x_grad, self.x_grad)
        split.keep(rows)
        after = split.finish_loop()
        for base in {base.value.index: base for base in bases}.values():
            left, *right = (after.columns(value) for value in base.rows)
            if base.by_row and left.count != left.place.array.row:
                raise NotExpressibleError("the gradient of a tensor of the state is a part of other rows")
            array = self.array("total", base.value, 0)
            self.sums.append(Sum(base, array, left, right[0] if right else None))
        return split.finish()

    def settle(self, section: Section) -> None:
        """Remember what a section leaves in memory for all steps."""
        section.finish()
        self.known |= {index: place for index, place in section.places.items() if place.array.kind != "scratch"}


class _Split:
    """Three sections of one direction: which value is computed in which.

    Args:
        schedule, name: whose.
        bins: values that need no carry, that the next carry needs, and that only others need.
    """

    def __init__(self, schedule: Schedule, name: str, bins: list[list[Value]]) -> None:
        self.schedule, self.name, self.bins = schedule, name, bins
        self._bin = {value.index: number for number, values in enumerate(bins) for value in values}
        self._heavy: set[int] = set()
        for value in bins[2]:
            if value.name in HEAVY or any(operand.index in self._heavy for operand in value.values):
                self._heavy.add(value.index)
        self._later: list[tuple[Value, Place | None]] = []

    def is_in_loop(self, value: Value) -> bool:
        """Whether a value is computed in the loop."""
        number = self._bin.get(value.index, 0)
        return number == 1 or (number == 2 and value.index not in self._heavy)

    def before(self, roots: Iterable[Value]) -> None:
        """Compute for all steps at once what needs no carry and costs a product or a reduction."""
        early, loop, last = self.bins
        section = self._before = Section(self.schedule, f"{self.name}_before", early, in_loop=False)
        read = {operand.index for value in (*loop, *last) for operand in value.values} | {v.index for v in roots}
        for value in early:
            if value.index not in read:
                continue
            while is_moved(value) and value.name != "assemble" and self._bin.get(value.index) == 0:
                value = value.values[0]
            found = self._leaves(value)
            if len(found) == 1:
                section.keep(found[0])
            elif found:
                section.keep(value)
        self.schedule.settle(section)
        light = [value for value in last if self.is_in_loop(value)]
        self.loop = Section(self.schedule, self.name, [*early, *loop, *light], in_loop=True)

    def _leaves(self, value: Value) -> list[Value]:
        """The products and reductions that a value of the first bin is computed from."""
        found, stack, seen = [], [value], set()
        while stack:
            at = stack.pop()
            if at.index in seen or self._bin.get(at.index) != 0:
                continue
            seen.add(at.index)
            if at.name in HEAVY:
                found.append(at)
            else:
                stack += at.values
        return found

    def want(self, value: Value, place: Place) -> None:
        """Put a value into a place, in the loop or after it."""
        if self.is_in_loop(value):
            self.loop.want(value, place)
        else:
            self._later.append((value, place))

    def keep(self, values: Iterable[Value]) -> None:
        """Have values in memory for all steps."""
        for value in values:
            if self.is_in_loop(value):
                self.loop.keep(value)
            else:
                self._later.append((value, None))

    def finish_loop(self) -> Section:
        """Settle the loop, and begin with what comes after it."""
        for value, _ in self._later:
            self._frontier(value)
        self.schedule.settle(self.loop)
        early, _, last = self.bins
        self._after = Section(self.schedule, f"{self.name}_after", [*early, *last], in_loop=False)
        for value, place in self._later:
            if place is None:
                self._after.keep(value)
            else:
                self._after.want(value, place)
        return self._after

    def _frontier(self, root: Value) -> None:
        """Keep what a value that is computed after the loop needs from the loop."""
        stack, seen = [root], set()
        while stack:
            at = stack.pop()
            if at.index in seen or at.level is Level.CONSTANT or at.index in self.schedule.known:
                continue
            seen.add(at.index)
            place = self.loop.places.get(at.index)
            if place is not None and place.array.kind != "scratch":
                continue
            if self._bin.get(at.index) == 1:
                self.loop.keep(at)
            stack += at.values if self._bin.get(at.index) != 1 or is_moved(at) else []

    def finish(self) -> list[Section]:
        """The sections."""
        self.schedule.settle(self._after)
        return [self._before, self.loop, self._after]
