"""All of a program as sections: forward and backward, each before, in and after the loop over time."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from functools import partial
from typing import Any

from minigrad.plan.cuda.join import joined
from minigrad.plan.cuda.layout import NARROW
from minigrad.plan.cuda.sections import Section
from minigrad.plan.graph import Level, Value, is_draw
from minigrad.plan.native import schedule as native
from minigrad.plan.native.parts import NotExpressibleError
from minigrad.plan.native.places import Array, Place, Sum
from minigrad.plan.native.sums import bases_of
from minigrad.plan.program import Program

FORWARD, BACKWARD = native.FORWARD, native.BACKWARD

_WHEN = {"saved": "all", "scratch": "step"}
"""What an array of a computed value is called after: whether it holds all steps or one."""

_RESERVED = frozenset(
    """tanh exp expm1 log log1p sqrt sin cos fabs pow larger smaller sigmoid softplus sign q j i first rows x alive
    int float double long short char bool const new delete this class struct template auto register default
    switch case for while do if else return break continue void static extern float16 bfloat16 REAL STORAGE NAN
    INFINITY LOAD STORE VM union signed unsigned inline enum friend mutable namespace operator private protected
    public throw try catch typedef typeid typename using virtual volatile wchar_t and or not xor bitand bitor
    compl and_eq or_eq xor_eq not_eq asm constexpr decltype explicit export goto nullptr noexcept sizeof
    static_assert static_cast dynamic_cast const_cast reinterpret_cast alignas alignof thread_local
    true false""".split()  # noqa: SIM905  # a list of names
)


class Schedule(native.Schedule):
    """All of a program, or `NotExpressibleError`. Arrays are those of the native executor's schedule.

    Attributes:
        sections: those of the forward and of the backward: before, in and after the loop.
        draws: values that are drawn.
        sums: over all steps; later: for each total the value that it is the sum of, and what to evaluate once.
        in_loop: whether what is computed now is computed step by step.
        storage: the type of numbers in narrow arrays; empty if there are none.
        copies: where narrow copies of states are, by the index of the state before a step and of the one after it.
    """

    storage = ""

    def __init__(self, program: Program) -> None:
        self.draws = [value for value in program.bins["input"] if is_draw(value)]
        self.sections: dict[str, list[Section]] = {}
        self.sums: list[Sum] = []
        self.later: list[tuple[Value, Value, list[Value]]] = []
        self.in_loop = False
        self.copies: dict[int, Place] = {}
        self._names: dict[int, str] = {}
        self._matrices: dict[int, Array] = {}
        super().__init__(joined(program))

    # --- arrays

    def array(self, kind: str, value: Value, row: int | None = None) -> Array:
        """A new one; what is computed for all steps at once is kept for all."""
        kind = "saved" if kind in ("scratch", "chunk") and not self.in_loop else kind
        return super().array(kind, value, row)

    def room(self, value: Value, count: int) -> Array:
        """Memory for so many numbers of each row, to compute a value with."""
        return self.array("scratch", value, count)

    def matrix(self, value: Value) -> Array:
        """The array of parameters that rows are multiplied with."""
        if value.index not in self._matrices:
            self._matrices[value.index] = self.array("matrix", value, value.shape[1])
        return self._matrices[value.index]

    def kind_of(self, array: Array) -> str:
        """The type of an array's elements: a dtype, or what its 16 bits stand for."""
        return self.storage if array.dtype == NARROW else str(array.dtype)

    def name(self, array: Array) -> str:
        """A name for an array: the cell's own for what is given, and that of `explain()` for what is computed."""
        if array.number not in self._names:
            word = name = _word(array.kind, array.value)
            number = 1
            while name in self._names.values():
                number += 1
                name = f"{word}_v{number}"
            self._names[array.number] = name
        return self._names[array.number]

    # --- sections

    def section(self, *arguments: Any) -> Section:
        """A new one, see `Section`."""
        return Section(self, *arguments)

    def _forward(self) -> Section:  # that of the loop
        step, program = self.step, self.program
        split = _Split(self, "forward", [program.bins[name] for name in FORWARD])
        split.before([*step.results, *step.outputs, *program.saved])
        for carry, result in zip(step.carries, step.results, strict=True):
            self._check_order(result)
            split.loop.want(result, Place(self.places[carry.index].array, after=True))
        for output in step.outputs:
            self._check_order(output)
            place = split.loop.places.get(output.index)
            if place is None or not place.after:
                place = Place(self.array("output", output))
                split.want(output, place)
            self.outputs.append(place)
        split.keep(program.saved)
        split.finish_loop()
        return split.finish()

    def _backward(self) -> Section:  # that of the loop
        step, program = self.step, self.program
        bases = []
        for total in program.bins["total"]:
            found, later = bases_of(total.attrs["of"], self.rows)
            self.later.append((total, total.attrs["of"], later))
            bases += found
        rows = [value for base in bases for value in base.rows]
        grads = [grad for _, grad in program.loops["backward"]]
        split = _Split(self, "backward", [program.bins[name] for name in BACKWARD])
        split.before([*grads, *rows, *([step.x_grad] if step.x_grad is not None else [])])
        for seed, grad in program.loops["backward"]:
            split.loop.want(grad, Place(self.places[seed.index].array, after=True))
        if step.x_grad is not None:
            self.x_grad = Place(self.array("output", step.x_grad))
            split.want(step.x_grad, self.x_grad)
        split.keep(rows)
        after = split.finish_loop()
        for base in {base.value.index: base for base in bases}.values():
            whole = base.parts > 1 or base.how in ("apart", "table")
            find = after.factor if base.how == "products" else partial(after.columns, kind="saved")
            left, *right = (find(value, whole=whole) for value in base.rows)
            array = self.array("total", base.value, 0)
            self.sums.append(Sum(base, array, left, right[0] if right else None))
        return split.finish()

    def settle(self, section: Section) -> None:
        """Remember what a section leaves in memory for all steps."""
        section.finish()
        self.places |= {index: place for index, place in section.places.items() if place.array.kind != "scratch"}

    def _check_order(self, value: Value) -> None:
        """Raise if the axis of sequences of what the caller gets is not the first."""
        if value.level is not Level.CONSTANT and self.rows.axis(value):
            raise NotExpressibleError(f"{value.name} of shape {value.shape} has its sequences in another axis")


def _word(kind: str, value: Value) -> str:
    """What an array is called, if nothing else is."""
    given = value.attrs.get("name")
    if kind in ("total", "flag"):
        return f"{kind}_{value.index}"
    if given is not None:
        word = ("d_" if value.op == "carried" else "") + re.sub(r"\W+", "_", given, flags=re.ASCII).strip("_")
        return word if word[:1].isalpha() and word not in _RESERVED else f"p_{word}"
    if value.is_source:
        return f"d_output_{value.attrs['number']}" if value.op == "cotangent" else value.name
    return f"{_WHEN.get(kind, kind)}_{value.name}_{value.index}"


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
            if self._is_operation(value) or any(operand.index in self._heavy for operand in value.values):
                self._heavy.add(value.index)
        self._later: list[tuple[Value, Place | None]] = []

    def is_in_loop(self, value: Value) -> bool:
        """Whether a value is computed in the loop."""
        number = self._bin.get(value.index, 0)
        return number == 1 or (number == 2 and value.index not in self._heavy)

    def before(self, roots: Iterable[Value]) -> None:
        """Compute for all steps at once what needs no carry and costs a product or a reduction."""
        early, loop, last = self.bins
        self._uses = Counter(operand.index for values in self.bins for value in values for operand in value.values)
        roots = list(roots)
        self._uses.update(root.index for root in roots)
        section = self._before = self.schedule.section(f"{self.name}_before", early, False, self._uses)
        read = {operand.index for value in (*loop, *last) for operand in value.values} | {v.index for v in roots}
        for value in early:
            if value.index not in read:
                continue
            while self._is_moved(value) and value.name != "assemble" and self._bin.get(value.index) == 0:
                value = value.values[0]
            found = self._leaves(value)
            if any(map(self._mixes, [value, *found])):
                continue  # unless somebody asks for it
            if len(found) == 1:
                section.keep(found[0])
            elif found:
                section.keep(value)
        self.schedule.settle(section)
        light = [value for value in last if self.is_in_loop(value)]
        self.loop = self.schedule.section(self.name, [*early, *loop, *light], True, self._uses)

    def _is_moved(self, value: Value) -> bool:
        return not self._mixes(value) and self.schedule.rows.is_moved(value)

    def _is_operation(self, value: Value) -> bool:
        """Whether a value costs a product or a reduction; also if sequences meet in it, which is left for later."""
        return self._mixes(value) or self.schedule.rows.is_operation(value)

    def _mixes(self, value: Value) -> bool:
        try:
            self.schedule.rows.axis(value)
        except NotExpressibleError:
            return True
        return False

    def _leaves(self, value: Value) -> list[Value]:
        """The products and reductions that a value of the first bin is computed from."""
        found, stack, seen = [], [value], set()
        while stack:
            at = stack.pop()
            if at.index in seen or self._bin.get(at.index) != 0:
                continue
            seen.add(at.index)
            if self._is_operation(at):
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
        self._after = self.schedule.section(f"{self.name}_after", [*early, *last], False, self._uses)
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
            if at.index in seen or at.level is Level.CONSTANT or at.index in self.schedule.places:
                continue
            seen.add(at.index)
            place = self.loop.places.get(at.index)
            if place is not None and place.array.kind != "scratch":
                continue
            if self._bin.get(at.index) == 1:
                self.loop.keep(at)
            stack += at.values if self._bin.get(at.index) != 1 or self._is_moved(at) else []

    def finish(self) -> Section:
        """That of the loop; all of them are noted."""
        self.schedule.settle(self._after)
        self.schedule.sections[self.name] = [self._before, self.loop, self._after]
        return self.loop
