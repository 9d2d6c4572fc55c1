"""The memory of a run, and what the code is told about it."""

from __future__ import annotations

import ctypes
from math import prod
from typing import Any

import numpy as np

from minigrad.plan.native.places import LARGEST_VECTOR, Array, whole_vectors
from minigrad.plan.native.schedule import Schedule
from minigrad.plan.native.source import scratch_offsets
from minigrad.plan.native.tasks import matrix_shape

CHUNK_BYTES = 1 << 20
"""How much memory what is computed for many steps at once may take."""

CHUNK_ROWS = 256
"""How many rows sums over steps should have at least, whatever memory that takes."""

FOREVER = 1 << 62


class Job(ctypes.Structure):
    """`struct job` of run.h."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("kernels", "arrays", "strides", "origins", "periods")),
        *((name, ctypes.c_void_p) for name in ("packed", "matrices", "matrix_rows", "matrix_columns")),
        *((name, ctypes.c_void_p) for name in ("scratch", "from_", "many_from", "to", "many_to")),
        *((name, ctypes.c_long) for name in ("scratch_row", "batch", "chunk", "first", "last", "add", "phase", "pack")),
    ]


class Memory:
    """The memory of a run of so many steps, and the addresses that the code takes.

    Attributes:
        spans: (first, last) of the stretches of steps whose saved values are kept at once.
        span: the one whose values are there.
    """

    def __init__(self, schedule: Schedule, kernels: int, steps: int, span: int) -> None:
        self.schedule, self.steps, self.span, self.first = schedule, steps, -1, 0
        self.spans = [(a, min(a + span, steps)) for a in range(0, steps, span)]
        self.batch = schedule.batch
        real = schedule.real
        per_step = sum(prod(a.value.shape) * a.dtype.itemsize for a in schedule.arrays if a.kind == "chunk")
        self.chunk = max(1, min(span, max(CHUNK_BYTES // max(per_step, 1), -(-CHUNK_ROWS // self.batch))))
        count = len(schedule.arrays)
        self.addresses = np.zeros(count, np.uint64)
        self.strides, self.origins = np.zeros(count, np.int64), np.zeros(count, np.int64)
        self.periods = np.full(count, FOREVER)
        self.arrays: dict[int, Any] = {}
        given_out = {place.array.number for place in schedule.outputs}
        carries = span + 1 if schedule.keeps else 2
        entries = {"saved": span, "chunk": self.chunk, "carried": 2, "carry": carries, "flag": 1}
        for array in schedule.arrays:
            self.strides[array.number] = prod(array.value.shape) * array.dtype.itemsize // real.itemsize
            if array.kind in entries and array.number not in given_out:
                self.put(array, aligned((entries[array.kind], *array.value.shape), array.dtype))
                self.periods[array.number] = entries[array.kind]
        _, self.scratch_row = scratch_offsets(schedule)
        self.scratch = aligned((self.scratch_row * self.batch,), real)
        sizes = [k * whole_vectors(n) for k, n in (matrix_shape(value) for value, _ in schedule.packed)]
        self.packed = [aligned((size,), real) for size in sizes]
        self.packed_addresses = np.array([address(array) for array in self.packed], np.uint64)
        self.matrices = np.zeros(len(self.packed), np.uint64)
        self.matrix_rows, self.matrix_columns = (np.zeros(len(self.packed), np.int64) for _ in range(2))
        self.weights: list[Any] = [None] * len(self.packed)
        self.rows = [np.empty(self.batch * steps, np.uint64) for steps in (1, self.chunk, 1, self.chunk)]
        self.job = Job(
            kernels, address(self.addresses), address(self.strides), address(self.origins), address(self.periods),
            address(self.packed_addresses), address(self.matrices), address(self.matrix_rows),
            address(self.matrix_columns), address(self.scratch), *map(address, self.rows),
            self.scratch_row, self.batch, self.chunk,
        )  # fmt: skip
        self.job.pack = 1

    def put(self, array: Array, memory: Any) -> None:
        """Let the code use this memory."""
        if self.arrays.get(array.number) is not memory:
            self.arrays[array.number] = memory
            self.addresses[array.number] = address(memory)

    def put_weight(self, number: int, weight: Any, transposed: bool) -> None:
        """Let the code pack this matrix."""
        if self.weights[number] is weight:
            return
        if any(stride % weight.itemsize for stride in weight.strides):
            weight = np.ascontiguousarray(weight)
        self.weights[number] = weight
        rows, columns = weight.strides[:: -1 if transposed else 1]
        self.matrices[number] = address(weight)
        self.matrix_rows[number], self.matrix_columns[number] = rows // weight.itemsize, columns // weight.itemsize

    def between(self, array: Array, boundary: int) -> Any:
        """What an array of a state, or its gradient, holds between two steps."""
        number = array.number
        return self.arrays[number][(boundary - self.origins[number]) % self.periods[number]]


def address(array: Any) -> int:
    """Where an array begins."""
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(array))
    except (TypeError, ValueError):  # read-only, or with gaps, or without elements: this takes four times as long
        found: int = array.__array_interface__["data"][0]
        return found


def aligned(shape: tuple[int, ...], dtype: Any) -> Any:
    """An array that begins where a vector may: one that lies across two lines of the cache takes twice as long."""
    size = prod(shape)
    memory = np.empty(size + LARGEST_VECTOR // dtype.itemsize, dtype)
    first = -address(memory) % LARGEST_VECTOR // dtype.itemsize
    return memory[first : first + size].reshape(shape)
