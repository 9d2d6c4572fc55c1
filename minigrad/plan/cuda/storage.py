"""Storage in 16 bits, where it is asked for: numbers kept in float16 or bfloat16, and computed with in float32.

Of a program of float32 these are narrow: x, the matrices of parameters, what is kept for the backward, and so all
factors of products. States and their gradients are not, nor are sums over steps, what an operation on rows has given,
and what the caller gets. Beside a state that is multiplied with a matrix there is a narrow copy, made with it.

A kernel reads narrow numbers as float32 and rounds what it puts down, to nearest; a product sums in float32. A number
beyond the largest of float16, 65504, becomes infinite, and shows in the results. One below the smallest, 6e-8, becomes
0, as gradients may: multiply the loss by some thousands and divide the gradients, or take bfloat16.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from typing import Any

import numpy as np

from minigrad.plan.cuda.layout import NARROW
from minigrad.plan.cuda.schedule import Schedule
from minigrad.plan.cuda.sections import Section
from minigrad.plan.graph import Value
from minigrad.plan.native.parts import is_integer
from minigrad.plan.native.places import Array, Columns, Place
from minigrad.plan.program import Program

VARIABLE = "MINIGRAD_STORAGE"
WIDE = ("", "float32")
OLDEST = {"float16": 53, "bfloat16": 80}
"""The types of 16 bits, and for each the oldest compute capability, times 10, whose products take it."""

THREADS = 256


def chosen(backend: Any) -> str:
    """In what a backend's programs are to keep numbers: by its attribute `storage`, or the environment; empty if wide.

    What cannot be had is told in a warning, and float32 taken.
    """
    name = getattr(backend, "storage", None)
    source = "the backend's attribute storage" if name is not None else f"the environment variable {VARIABLE}"
    name = os.environ.get(VARIABLE, "") if name is None else name
    if name in WIDE:
        return ""
    if name not in OLDEST:
        reason = f"{source} is {name!r}; it may be 'float16', 'bfloat16', or 'float32', as without it"
    elif int(backend.xp.cuda.Device().compute_capability) < OLDEST[name]:
        oldest = f"{OLDEST[name] // 10}.{OLDEST[name] % 10}"
        reason = f"{source} is {name!r}, which takes a GPU of compute capability {oldest} or newer"
    else:
        return str(name)
    warnings.warn(f"{reason}. Numbers are kept in float32", stacklevel=2)
    return ""


def schedule_of(program: Program, storage: str) -> Schedule:
    """The schedule of a program, with storage in 16 bits if that is asked for and the program is one of float32."""
    step = program.step
    floats = {value.dtype for value in (step.x, *step.carries, *step.outputs) if value.dtype.kind == "f"}
    return NarrowSchedule(program, storage) if storage and floats == {np.dtype(np.float32)} else Schedule(program)


# --- what is narrow


class NarrowSchedule(Schedule):
    """A schedule with narrow arrays.

    Args:
        program: in float32.
        storage: the type of narrow numbers.
    """

    def __init__(self, program: Program, storage: str) -> None:
        self.storage = storage
        super().__init__(program)

    def array(self, kind: str, value: Value, row: int | None = None) -> Array:
        made = super().array(kind, value, row)
        return self._narrowed(made) if self._is_narrow(made) else made

    def narrow(self, kind: str, value: Value) -> Place:
        """A new narrow array for a value."""
        return Place(self._narrowed(super().array(kind, value)))

    def _narrowed(self, array: Array) -> Array:
        self.arrays[array.number] = replace(array, dtype=NARROW)
        return self.arrays[array.number]

    def _is_narrow(self, array: Array) -> bool:
        kind, value = array.kind, array.value
        if kind == "matrix" or (kind == "given" and value is self.step.x):
            return not is_integer(value.dtype)
        is_wide = self.rows.is_operation(value) and not self.rows.is_packed(value)
        return kind == "saved" and not is_wide and not is_integer(value.dtype)

    def section(self, *arguments: Any) -> Section:
        return NarrowSection(self, *arguments)


class NarrowSection(Section):
    """A section whose products have narrow factors."""

    def stage(self, value: Value) -> int:
        known = value.index in self._stage_of or self.is_there(value)
        if not known and self.rows.is_packed(value):
            rows = self.rows.varying(value)[0]
            self._stage_of[value.index] = self.stage(rows) + (not self._lies_narrow(rows))
        return super().stage(value)

    def factor(self, value: Value, whole: bool = False) -> Columns:
        if value.dtype != self.schedule.real:
            return super().factor(value, whole)
        at, start, size = value, 0, self.rows.width(value)
        is_early = self._lies_narrow(value)
        while True:
            place = self._narrow_place(at) if self.is_there(at) or not is_early else None
            if place is not None and not (whole and place.array.row != size):
                return Columns(place, start, size)
            part = self._part(at, start, size)
            if part is None:
                return Columns(self._narrow_copy(value), 0, size)
            at, start = part

    def _lies_narrow(self, value: Value) -> bool:
        """Whether a value's columns lie in narrow memory before a step is computed, or will when that is made."""
        there = self._there(value)
        return there is not None and (self._is_own_state(there) or self._narrow_place(there) is not None)

    def _narrow_place(self, value: Value) -> Place | None:
        """Where a value is narrow."""
        if self._is_own_state(value) and value.index not in self.schedule.copies:
            self._copy_state(value)
        place = self.schedule.copies.get(value.index, self.places.get(value.index))
        return place if place is not None and place.array.dtype == NARROW else None

    def _is_own_state(self, value: Value) -> bool:
        """Whether a value is a state before a step, and this is where the one after it is computed."""
        return self.in_loop and self.name == "forward" and value.op == "carry"

    def _copy_state(self, carry: Value) -> None:
        """Have each state put down in 16 bits, too."""
        step, copies = self.schedule.step, self.schedule.copies
        result = step.results[step.carries.index(carry)]
        place = copies[carry.index] = self.schedule.narrow("carry", carry)
        after = Place(place.array, after=True)
        if result.op != "carry":
            copies.setdefault(result.index, after)
        self.want(result, after)

    def _narrow_copy(self, value: Value) -> Place:
        key = value.index, "narrow"
        if key not in self._copies:
            kind = "scratch" if self.in_loop else "saved"
            place = self._copies[key] = self.schedule.narrow(kind, value)
            self._wanted.append((value, place))
        return self._copies[key]


# --- numbers that are converted


class Converter:
    """Converts arrays of float32 to narrow ones and back.

    Args:
        xp: CuPy.
        functions: the kernels of a module.
    """

    def __init__(self, xp: Any, functions: dict[str, Any]) -> None:
        self._xp, self._functions = xp, functions

    def narrow(self, values: Any, into: Any) -> None:
        """Round numbers into a narrow array of as many."""
        self._convert("narrow", self._xp.ascontiguousarray(values, dtype="float32"), into)

    def widened(self, array: Any) -> Any:
        """A narrow array's numbers, in float32."""
        found = self._xp.empty(array.shape, dtype="float32")
        self._convert("widen", array, found)
        return found

    def _convert(self, name: str, source: Any, into: Any) -> None:
        self._functions[name]((-(-into.size // THREADS),), (THREADS,), (source, into, 0, into.size))
