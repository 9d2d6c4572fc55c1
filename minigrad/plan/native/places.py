"""What a native program has in memory, and what it does with it: the parts that a schedule is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minigrad.plan.graph import Value
from minigrad.plan.native.sums import Base

LARGEST_VECTOR = 64
"""Bytes; where arrays begin, and what packed matrices are cut into."""


def whole_vectors(count: int) -> int:
    """So many floats, and as many more as fill the last of the largest vectors."""
    floats = LARGEST_VECTOR // 4
    return -(-count // floats) * floats


@dataclass(frozen=True)
class Array:
    """Memory that the code is given.

    Attributes:
        number: its place among the arguments.
        kind: `"given"` (for each step, by the caller), `"carry"`, `"carried"` (state and its gradient, between steps),
            `"saved"` (for the backward), `"output"` (for the caller), `"chunk"` (for the steps computed at once),
            `"scratch"` (for a thread's rows, or one of them, at one step), `"constant"`, `"total"`, `"flag"` (not 0 if
            an index was out of range).
        value: what is in it.
        row: elements from one sequence's row to the next one's; 0 if all have the same.
        dtype: of an element: integers have 64 bits, booleans are floating-point numbers, 1 or 0.
        shape, axis: of a constant, the shape it is broadcast to, and which axis of that counts sequences; size: how
            many elements there are then.
    """

    number: int
    kind: str
    value: Value
    row: int
    dtype: Any
    shape: tuple[int, ...] = ()
    axis: int | None = None
    size: int = 0

    def arranged(self, array: Any) -> Any:
        """A constant's array as the code takes it: by rows, or the one row that all sequences have."""
        if array.size == self.size and not self.axis:
            return np.ascontiguousarray(array, self.dtype)
        found = np.broadcast_to(array, self.shape)
        if self.axis is not None:
            found = np.moveaxis(found, self.axis, 0)
            found = found if self.row else found[0]
        return np.ascontiguousarray(found, self.dtype)


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
    """A product with a matrix of parameters, or whatever else is computed from rows in memory.

    Attributes:
        value: the result; place: where it goes.
        operands: the rows; None for a number. A copy has but one: the value elsewhere.
        packed: the number of the packed matrix; None for anything but a product with one.
        room: memory for numbers that are to lie side by side.
        batched: whether it is done for all steps of a chunk before the loop over steps.
        copies: whether it does nothing but copy.
    """

    value: Value
    place: Place
    operands: tuple[Columns | None, ...]
    packed: int | None = None
    room: Place | None = None
    batched: bool = False
    copies: bool = False


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
