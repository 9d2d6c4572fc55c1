"""The device memory of one run, laid out once and used again: a captured graph knows its addresses."""

from __future__ import annotations

from math import prod
from typing import Any

from minigrad.plan.cuda.layout import Array, Columns, Place, Product, Sum
from minigrad.plan.cuda.schedule import Schedule

ONE_MORE = frozenset({"carry", "carried"})
"""Kinds of arrays that have one entry more than there are steps: what is between these."""

FOR_ONE_STEP = frozenset({"scratch", "constant", "matrix"})
"""Kinds of arrays that have no entry for each step."""


class Memory:
    """Memory for a run of so many steps.

    Args:
        schedule: what needs it.
        in_loop: numbers of the arrays that the loop reads or writes, whose addresses may not change.
        xp: makes it.
        steps, span: how many there are, and for how many everything is kept at once.

    Attributes:
        spans: (first, last) of the stretches of steps whose saved values are kept at once.
        span: the one whose values are there.
        arrays: by number.
        graphs: of the loop, by what they are of.
    """

    def __init__(self, schedule: Schedule, in_loop: set[int], xp: Any, steps: int, span: int) -> None:
        self.schedule, self.in_loop, self.xp, self.steps = schedule, in_loop, xp, steps
        self.spans = [(a, min(a + span, steps)) for a in range(0, steps, span)]
        self.span = -1
        self.arrays: dict[int, Any] = {}
        self.graphs: dict[Any, Any] = {}
        self.runs: dict[Any, int] = {}
        shapes = {array.number: self._shape(array, span) for array in schedule.arrays if self.is_fixed(array)}
        try:
            for number, shape in shapes.items():
                self.arrays[number] = xp.empty(shape, dtype=schedule.real)
            self.ones = xp.ones(span * schedule.batch, dtype=schedule.real)
        except MemoryError as error:
            raise MemoryError(self._told(shapes, span, str(error))) from error

    def _shape(self, array: Array, span: int) -> tuple[int, ...]:
        """What an array takes for so many steps."""
        shape = array.value.shape
        return shape if array.kind in FOR_ONE_STEP else (span + (array.kind in ONE_MORE), *shape)

    def _told(self, shapes: dict[int, tuple[int, ...]], span: int, reason: str) -> str:
        """That there is too little memory: for what, and what to reduce."""
        sizes = {number: prod(shape) * self.schedule.real.itemsize for number, shape in shapes.items()}
        large = sorted(sizes, key=lambda number: -sizes[number])[:3]
        arrays = ", ".join(f"{self.schedule.arrays[n].name} {shapes[n]} {sizes[n]:,} bytes" for n in large)
        more = "" if span < self.steps else ", and checkpoint_every=n keeps every n-th state only"
        return (
            f"a run of {self.steps} steps of x {self.schedule.step.x.shape} keeps {sum(sizes.values()):,} bytes for "
            f"{span} steps on the GPU (the largest: {arrays}), and that is more than is free: {reason.rstrip('.')}. "
            f"A smaller batch or a shorter window of steps (k2 of mg.tbptt) takes less{more}"
        )

    def is_fixed(self, array: Array) -> bool:
        """Whether an array is always in the same memory."""
        if array.kind in ("given", "constant", "matrix"):
            return array.number in self.in_loop
        x_grad = self.schedule.x_grad
        given_away = array.kind == "total" or (x_grad is not None and array is x_grad.array)
        return array.number in self.in_loop or not given_away

    def put(self, array: Array, values: Any, count: int | None = None) -> None:
        """Let kernels and products read what is given.

        Args:
            array: which.
            values: of the device, of its shape; count: of its first axis, if there may be fewer than there is room for.
        """
        if array.number in self.arrays and self.is_fixed(array):
            memory = self.arrays[array.number]
            self.xp.copyto(memory if count is None else memory[:count], values)
        else:
            self.arrays[array.number] = self.xp.ascontiguousarray(values, dtype=self.schedule.real)

    def at(self, columns: Columns | Place, row: int) -> tuple[int, int]:
        """The address of some columns in a row of all steps, and the elements from one row to the next."""
        place = columns.place if isinstance(columns, Columns) else columns
        array, batch = place.array, self.schedule.batch
        if array.kind == "scratch":
            row %= batch
        elif place.is_later:
            row += batch
        element = row * array.row + columns.first
        address: int = self.arrays[array.number].data.ptr + element * self.schedule.real.itemsize
        return address, array.row

    def multiply(self, blas: Any, product: Product, first: int, rows: int) -> None:
        """A product of so many rows from one on."""
        operand, k = self.at(product.operand, first), product.operand.count
        matrix = self.arrays[product.matrix.number]
        n = product.matrix.value.shape[0 if product.transposed else 1]
        b = matrix.data.ptr, product.matrix.row, product.transposed
        out = self.at(product.place, first)
        blas.product(self.schedule.real.itemsize, (*operand, False), b, out, (rows, n, k), product.adds)

    def add_up(self, blas: Any, total: Sum, steps: int, adds: bool) -> None:
        """A sum over so many steps, from the first of a span on."""
        itemsize, batch = self.schedule.real.itemsize, self.schedule.batch
        out, (left, row) = self.arrays[total.array.number].data.ptr, self.at(total.left, 0)
        if total.right is not None:
            right, right_row = self.at(total.right, 0)
            m, n = total.left.count, total.right.count
            b = right, right_row, False
            blas.product(itemsize, (left, row, True), b, (out, n), (m, n, steps * batch), adds)
            return
        n, rows = total.left.count, steps * batch
        if total.base.by_row:
            n, row, rows = n * batch, row * batch, steps
        blas.product(itemsize, (self.ones.data.ptr, 1, True), (left, row, False), (out, n), (1, n, rows), adds)
