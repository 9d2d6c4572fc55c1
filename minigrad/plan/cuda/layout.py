"""The work that is done on a CUDA program's arrays, beside what it shares with the native one (`native/places.py`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minigrad.plan.graph import Value
from minigrad.plan.native.places import Array, Columns, Place, Stage

IN_TIME = frozenset({"given", "carry", "carried", "saved", "output"})
"""Kinds of arrays that have rows for each step."""

NARROW = np.dtype(np.uint16)
"""What arrays of 16-bit numbers are to everyone but kernels and cuBLAS: see `storage.py`."""


def is_later(place: Place) -> bool:
    """Whether the rows of a step lie one step further on: a state after it, or a gradient that comes to it."""
    if place.array.kind == "carry":
        return place.after
    return place.array.kind == "carried" and not place.after


@dataclass(frozen=True)
class Product:
    """Rows times a matrix of parameters.

    Attributes:
        value: the result; place: where it goes.
        operand: the rows; parts: how many of them each sequence has.
        matrix: the parameters; transposed: whether the product is with its transpose, as in `linear`.
        adds: whether it is added to what is there.
    """

    value: Value
    place: Place
    operand: Columns
    parts: int
    matrix: Array
    transposed: bool
    adds: bool = False

    @property
    def sizes(self) -> tuple[int, int]:
        """(K, N): of a row of the operand, and of one of the result."""
        rows, columns = self.matrix.value.shape
        return (columns, rows) if self.transposed else (rows, columns)


@dataclass
class Kernel:
    """Stages with no product between them, by number."""

    name: str
    stages: dict[int, Stage]

    @property
    def by_rows(self) -> bool:
        """Whether a block has whole rows, because one column depends on others."""
        return len(self.stages) > 1 or any(stage.operations for stage in self.stages.values())
