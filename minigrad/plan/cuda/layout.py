"""What a CUDA program keeps in the device's memory, and the work that is done on it."""

from __future__ import annotations

from dataclasses import dataclass, field

from minigrad.plan.cuda.sums import Base
from minigrad.plan.graph import Value

IN_TIME = frozenset({"given", "carry", "carried", "saved", "output"})
"""Kinds of arrays that have rows for each step."""


@dataclass(frozen=True)
class Array:
    """Memory that kernels and products are given.

    Attributes:
        number: its place among all arrays.
        kind: `"given"` (for each step, by the caller), `"carry"`, `"carried"` (state and its gradient, between steps),
            `"saved"` (for all steps), `"output"` (for the caller), `"scratch"` (for one step), `"constant"`,
            `"matrix"` (of parameters, to multiply with), `"total"` (a sum over all steps).
        value: what is in it.
        row: elements from one sequence's row to the next one's; 0 if all have the same.
        name: what it is called in the source.
    """

    number: int
    kind: str
    value: Value
    row: int
    name: str


@dataclass(frozen=True)
class Place:
    """Where a value is: in an array; `after`, if that is between steps and the value is the one after this step.

    Attributes:
        first: the column of the array with the value's first column.
    """

    array: Array
    after: bool = False
    first: int = 0

    @property
    def is_later(self) -> bool:
        """Whether the rows of a step lie one step further on: a state after it, or a gradient that comes to it."""
        if self.array.kind == "carry":
            return self.after
        return self.array.kind == "carried" and not self.after


@dataclass(frozen=True)
class Columns:
    """Some columns of an array, side by side."""

    place: Place
    start: int
    count: int

    @property
    def first(self) -> int:
        """The first of them, counted in the array."""
        return self.place.first + self.start


@dataclass(frozen=True)
class Store:
    """Columns of a value, from `start` on, to be computed and put into the same columns of a place."""

    value: Value
    start: int
    place: Place


@dataclass(frozen=True)
class Product:
    """Rows times a matrix of parameters.

    Attributes:
        value: the result; place: where it goes.
        operand: the rows.
        matrix: the parameters; transposed: whether the product is with its transpose, as in `linear`.
        adds: whether it is added to what is there.
    """

    value: Value
    place: Place
    operand: Columns
    matrix: Array
    transposed: bool
    adds: bool = False


@dataclass(frozen=True)
class Reduction:
    """A reduction of rows in memory to one number for each row, or of softmax to as many."""

    value: Value
    place: Place
    operand: Columns


@dataclass
class Stage:
    """What is done when the products before it are: reductions, and then what is stored, by the width of the loop."""

    reductions: list[Reduction] = field(default_factory=list)
    stores: dict[int, list[Store]] = field(default_factory=dict)


@dataclass
class Kernel:
    """Stages with no product between them."""

    name: str
    numbers: list[int]
    stages: list[Stage]

    @property
    def by_rows(self) -> bool:
        """Whether a block has whole rows, because one column depends on others."""
        return len(self.stages) > 1 or any(stage.reductions for stage in self.stages)


@dataclass(frozen=True)
class Sum:
    """A sum over steps and sequences, or over steps alone, of rows, or of products of the elements of two rows.

    Attributes:
        base: what is added up.
        array: where it goes.
        left, right: the rows.
    """

    base: Base
    array: Array
    left: Columns
    right: Columns | None
