"""All that a native program does: its arrays, and its two phases."""

from __future__ import annotations

from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from minigrad.plan.graph import Level, Value, is_draw
from minigrad.plan.native.operations import work
from minigrad.plan.native.parts import SHARP, NotExpressibleError, is_integer
from minigrad.plan.native.phase import Phase
from minigrad.plan.native.places import Array, Place
from minigrad.plan.native.rows import Rows, check
from minigrad.plan.program import Program

FORWARD = ("input", "recurrent", "output")
BACKWARD = ("coefficient", "cotangent", "sink")


class Schedule:
    """All of a program, or `NotExpressibleError`.

    Attributes:
        real: the floating-point dtype; batch: how many sequences there are.
        rows: what each of them has.
        arrays: in the order in which the code takes them.
        flag: the one that says that an index was out of range; None if there are no indices.
        forward, backward: the phases; the backward has no stages if there is none.
        packed: the products whose matrices are packed before a run, by number: value, and forward or backward.
        outputs, x_grad: where the results are.
    """

    def __init__(self, program: Program) -> None:
        self.program, self.step = program, program.step
        step = program.step
        self.real = _real(step.x, *step.carries, *step.outputs)
        self.batch = step.x.shape[0] if step.x.shape else 0
        self.rows = Rows(step.graph, self.batch, self.real)
        self.arrays: list[Array] = []
        self.flag: Array | None = None
        self.packed: list[tuple[Value, str]] = []
        self.places: dict[int, Place] = {}
        self._constants: dict[Any, Array] = {}
        self._give(step.x, "given")
        self._give(step.alive, "given")
        for value in program.bins["input"]:
            if is_draw(value):
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

    @cached_property
    def work(self) -> int:
        """About how many operations on numbers a step is worth, forward and backward, for all sequences."""
        stages = self.forward.stages + self.backward.stages
        return self.batch * sum(work(o.value, self.rows) for stage in stages for o in stage.operations)

    @property
    def keeps(self) -> bool:
        """Whether a backward reads what the forward has left."""
        return bool(self.backward.stages or self.backward.sums)

    # --- arrays

    def array(self, kind: str, value: Value, row: int | None = None) -> Array:
        """A new one."""
        row = self.rows.width(value) if row is None else row
        self.arrays.append(Array(len(self.arrays), kind, value, row, self.stored(value)))
        return self.arrays[-1]

    def room(self, value: Value, count: int) -> Array:
        """Memory for so many numbers of each row, to compute a value with."""
        self.arrays.append(Array(len(self.arrays), "scratch", value, count, self.real))
        return self.arrays[-1]

    def constant(self, value: Value, shape: tuple[int, ...], axis: int | None, dtype: Any) -> Array:
        """The array of what depends on parameters alone, as it is seen from a shape with this axis of sequences."""
        if prod(value.shape) == 1:
            shape, axis = value.shape, None
        own = None if axis is None else axis - len(shape) + len(value.shape)
        varies = own is not None and own >= 0 and value.shape[own] == self.batch
        key = value.index, shape, axis, dtype
        if key not in self._constants:
            row = prod(size for a, size in enumerate(shape) if a != axis)
            size = row * self.batch if varies else row
            row = row if varies else 0
            array = Array(len(self.arrays), "constant", value, row, dtype, shape, axis, size)
            self.arrays.append(array)
            self._constants[key] = array
        return self._constants[key]

    def use_flag(self, value: Value) -> None:
        """Have an array that says that an index was out of range."""
        if self.flag is None:
            self.flag = Array(len(self.arrays), "flag", value, 0, np.dtype(np.int64))
            self.arrays.append(self.flag)

    def stored(self, value: Value) -> Any:
        """The dtype of a value's elements in memory."""
        return np.dtype(np.int64) if is_integer(value.dtype) else self.real

    def _give(self, value: Value | None, kind: str) -> None:
        if value is not None:
            check(value, self.rows)
            self.places[value.index] = Place(self.array(kind, value))

    # --- phases

    def kept(self) -> list[Value]:
        """What the backward needs of the forward, without what it can as well compute anew from the rest of that.

        What is compared is kept: computed anew it may round otherwise, and the maximum be equal to none of its values.
        What is computed from parameters is kept: they may have been changed in place since.
        """
        saved = {value.index: value for value in self.program.saved}
        values = [value for values in self.program.bins.values() for value in values]
        compared = {self.rows.whole(v).index for value in values if value.name in SHARP for v in value.values}
        for value in self.program.saved:
            roots = self._roots(value)
            there = all(root.index in saved or root.index in self.places for root in roots)
            if roots and there and value.index not in compared:
                del saved[value.index]
        return list(saved.values())

    def _roots(self, value: Value) -> list[Value]:
        """What a value can be computed from anew: its operands, and of a slice what it is a slice of."""
        try:
            if not self.rows.is_arithmetic(value):
                return []
            operands = [operand for operand in self.rows.operands(value) if isinstance(operand, Value)]
        except NotExpressibleError:
            return []  # which is said where it is computed
        fixed = any(operand.level is Level.CONSTANT for operand in operands)
        return [] if fixed else [self.rows.whole(operand) for operand in operands]

    def _forward(self) -> Phase:
        step, program = self.step, self.program
        phase = Phase(self, "forward", [v for name in FORWARD for v in program.bins[name]])
        for carry, result in zip(step.carries, step.results, strict=True):
            phase.want(result, Place(self.places[carry.index].array, after=True))
        for output in step.outputs:
            place = phase.places.get(output.index)
            if place is None or not place.after:
                place = Place(self.array("output", output))
                phase.want(output, place)
            self.outputs.append(place)
        for value in self.kept():
            phase.keep(value)
        phase.finish()
        lasting = {i: p for i, p in phase.places.items() if p.after or p.array.kind in ("saved", "output")}
        self.places |= lasting
        return phase

    def _backward(self) -> Phase:
        step, program = self.step, self.program
        phase = Phase(self, "backward", [v for name in BACKWARD for v in program.bins[name]])
        for seed, grad in program.loops["backward"]:
            phase.want(grad, Place(self.places[seed.index].array, after=True))
        if step.x_grad is not None:
            self.x_grad = Place(self.array("output", step.x_grad))
            phase.want(step.x_grad, self.x_grad)
        for total in program.bins["total"]:
            phase.total(total)
        phase.finish()
        return phase


def _real(*values: Value) -> Any:
    """The floating-point dtype of all of them."""
    found = {value.dtype for value in values if value.dtype.kind == "f"} or {np.dtype(np.float64)}
    if len(found) > 1 or next(iter(found)).itemsize not in (4, 8):
        names = ", ".join(sorted(dtype.name for dtype in found))
        raise NotExpressibleError(f"it computes in {names}; a program has one dtype, float32 or float64")
    return found.pop()
