"""The device memory of one run, laid out once and used again: a captured graph knows its addresses."""

from __future__ import annotations

from math import prod
from typing import Any
from weakref import WeakKeyDictionary

from minigrad.plan.cuda.layout import NARROW, Product, is_later
from minigrad.plan.cuda.schedule import Schedule
from minigrad.plan.native.places import Array, Columns, Place, Sum

ONE_MORE = frozenset({"carry", "carried"})
"""Kinds of arrays that have one entry more than there are steps: what is between these."""


ADVICE = "A smaller batch or a shorter window of steps (k2 of mg.tbptt) takes less"


class Memory:
    """Memory for a run of so many steps.

    Args:
        schedule: what needs it.
        in_loop: numbers of the arrays that the loop reads or writes, whose addresses may not change.
        xp: makes it.
        steps, span: how many there are, and for how many everything is kept at once.
        converter: of narrow arrays, if there are any.

    Attributes:
        spans: (first, last) of the stretches of steps whose saved values are kept at once.
        span: the one whose values are there.
        arrays: by number.
        stream: where it was allocated: only there it is used, and given back.
        graphs: of the loop, by the lane whose memory for products they use, and by what they are of; None until a loop
            has run once.
    """

    def __init__(
        self, schedule: Schedule, in_loop: set[int], xp: Any, steps: int, span: int, converter: Any = None
    ) -> None:
        self.schedule, self.in_loop, self.xp, self.steps, self.converter = schedule, in_loop, xp, steps, converter
        self.spans = [(a, min(a + span, steps)) for a in range(0, steps, span)]
        self.span = -1
        self.arrays: dict[int, Any] = {}
        self.stream = xp.cuda.get_current_stream().ptr
        self.graphs: WeakKeyDictionary[Any, dict[tuple[str, int], Any]] = WeakKeyDictionary()
        shapes = {array.number: self._shape(array, span) for array in schedule.arrays if self.is_fixed(array)}
        try:
            for number, shape in shapes.items():
                self.arrays[number] = xp.empty(shape, dtype=schedule.arrays[number].dtype)
            parts = max((total.base.parts for total in schedule.sums), default=1)
            self.ones = {schedule.real: xp.ones(span * schedule.batch * parts, dtype=schedule.real)}
            if converter is not None:
                self.ones[NARROW] = self._narrowed(self.ones[schedule.real])
        except MemoryError as error:
            raise MemoryError(self._told(shapes, span, str(error))) from error

    def _shape(self, array: Array, span: int) -> tuple[int, ...]:
        """What an array takes for so many steps."""
        if array.kind in ("constant", "matrix", "flag"):
            sizes = {"constant": (array.size,), "matrix": array.value.shape, "flag": (1,)}
            return sizes[array.kind]
        shape, batch = array.value.shape, self.schedule.batch
        if prod(shape) != batch * array.row:
            shape = batch, array.row
        return shape if array.kind == "scratch" else (span + (array.kind in ONE_MORE), *shape)

    def _told(self, shapes: dict[int, tuple[int, ...]], span: int, reason: str) -> str:
        """That there is too little memory: for what, and what to reduce."""
        sizes = {number: prod(shape) * self.schedule.arrays[number].dtype.itemsize for number, shape in shapes.items()}
        large = sorted(sizes, key=lambda number: -sizes[number])[:3]
        names = [self.schedule.name(self.schedule.arrays[number]) for number in large]
        arrays = ", ".join(f"{name} {shapes[n]} {sizes[n]:,} bytes" for name, n in zip(names, large, strict=True))
        more = "" if span < self.steps else ", and checkpoint_every=n keeps every n-th state only"
        return (
            f"a run of {self.steps} steps of x {self.schedule.step.x.shape} keeps {sum(sizes.values()):,} bytes for "
            f"{span} steps on the GPU (the largest: {arrays}), and that is more than is free: {reason.rstrip('.')}. "
            f"{ADVICE}{more}"
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
        if array.kind == "constant":
            values = self._by_rows(array, values)
        is_narrow = array.dtype == NARROW
        if array.number in self.arrays and self.is_fixed(array):
            memory = self.arrays[array.number] if count is None else self.arrays[array.number][:count]
            if is_narrow:
                self.converter.narrow(values, memory)
            else:
                self.xp.copyto(memory, values, casting="unsafe")
        else:
            found = self._narrowed(values) if is_narrow else self.xp.ascontiguousarray(values, dtype=array.dtype)
            self.arrays[array.number] = found

    def _narrowed(self, values: Any) -> Any:
        found = self.xp.empty(values.shape, dtype=NARROW)
        self.converter.narrow(values, found)
        return found

    def _by_rows(self, array: Array, values: Any) -> Any:
        """A constant as it is read: by rows, or the one row that all sequences have."""
        if values.size == array.size and not array.axis:
            return values.reshape(-1)
        found = self.xp.broadcast_to(values, array.shape)
        if array.axis is not None:
            found = self.xp.moveaxis(found, array.axis, 0)
            found = found if array.row else found[0]
        return found.reshape(-1)

    # --- products and sums

    def at(self, columns: Columns | Place, row: int) -> tuple[int, int]:
        """The address of some columns in a row of all steps, and the elements from one row to the next."""
        place, first = (columns.place, columns.start) if isinstance(columns, Columns) else (columns, 0)
        array, batch = place.array, self.schedule.batch
        if array.kind == "scratch":
            row %= batch
        elif is_later(place):
            row += batch
        element = row * array.row + first
        address: int = self.arrays[array.number].data.ptr + element * array.dtype.itemsize
        return address, array.row

    def multiply(self, blas: Any, product: Product, first: int, rows: int) -> None:
        """A product of so many rows from one on; a sequence may have several of them, side by side."""
        source, target, matrix = product.operand.place.array, product.place.array, self.arrays[product.matrix.number]
        (a, a_row), (out, out_row) = self.at(product.operand, first), self.at(product.place, first)
        of, out_of = map(self.schedule.kind_of, (source, target))
        k, n = product.sizes
        parts = product.parts
        b = matrix.data.ptr, product.matrix.row, product.transposed
        if a_row == parts * k and out_row == parts * n:
            a_row, out_row, rows, parts = k, n, rows * parts, 1
        for part in range(parts):
            left = a + part * k * source.dtype.itemsize, a_row, False
            to = out + part * n * target.dtype.itemsize, out_row, out_of
            blas.product(of, left, b, to, (rows, n, k), product.adds)

    def add_up(self, blas: Any, total: Sum, steps: int, adds: bool) -> None:
        """A sum over so many steps, from the first of a span on."""
        batch, base, array = self.schedule.batch, total.base, total.left.place.array
        of, out_of = self.schedule.kind_of(array), self.schedule.kind_of(total.array)
        out, (left, row) = self.arrays[total.array.number].data.ptr, self.at(total.left, 0)
        rows, n = steps * batch, total.left.count
        if base.how == "apart":
            rows, n, row = steps, n * batch, row * batch
        elif base.parts > 1:
            rows, n = rows * base.parts, n // base.parts
            row = n
        if total.right is None:
            ones = self.ones[array.dtype].data.ptr, 1, True
            blas.product(of, ones, (left, row, False), (out, n, out_of), (1, n, rows), adds)
            return
        right, right_row = self.at(total.right, 0)
        m = total.right.count // base.parts
        right_row = right_row if base.parts == 1 else m
        blas.product(of, (left, row, True), (right, right_row, False), (out, m, out_of), (n, m, rows), adds)

    def scatter(self, backend: Any, total: Sum, steps: int, adds: bool) -> None:
        """A sum over so many steps of rows that go to those of a table."""
        out, indices = self.arrays[total.array.number], total.right
        assert indices is not None
        before, size, after = total.base.shape
        tables = out.reshape(before, size, after)
        if not adds:
            out.fill(0)
        rows, where = (
            self.arrays[columns.place.array.number][int(is_later(columns.place)) :][:steps]
            for columns in (total.left, indices)
        )
        rows = self.converter.widened(rows) if rows.dtype == NARROW else rows
        parts = rows.reshape(steps * self.schedule.batch, before, -1, after)
        for number in range(before):
            backend.add_at(tables[number], (where.reshape(-1),), parts[:, number].reshape(-1, after))
