"""The kernels of a schedule as CUDA."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from minigrad.plan.cuda.expressions import Loop, address
from minigrad.plan.cuda.layout import Array, Kernel, Reduction
from minigrad.plan.cuda.rows import width
from minigrad.plan.cuda.schedule import Schedule
from minigrad.plan.cuda.sections import Section

THREADS = 128
"""Of a block whose threads have an element each."""

MOST_THREADS = 256
"""Of a block that has whole rows."""


@dataclass
class Written:
    """A kernel as text.

    Attributes:
        arrays: what it is given, in order; after them come the first row and how many.
        size: the elements of a row that are computed, at most.
    """

    kernel: Kernel
    text: str
    arrays: list[Array]
    size: int

    def blocks(self, rows: int) -> tuple[int, int]:
        """How many blocks, of how many threads, have something to do."""
        if self.kernel.by_rows:
            return rows, min(MOST_THREADS, -(-self.size // 32) * 32)
        return -(-rows * self.size // THREADS), THREADS


def write(schedule: Schedule) -> dict[str, Written]:
    """All kernels, by name."""
    found = {}
    for section in (*schedule.forward, *schedule.backward):
        for item in section.work:
            if isinstance(item, Kernel):
                found[item.name] = _kernel(section, item)
    return found


def module(schedule: Schedule, kernels: dict[str, Written]) -> str:
    """The translation unit."""
    real = "float" if schedule.real.itemsize == 4 else "double"
    return "\n".join([f"#define REAL {real}", prelude(), *(kernel.text for kernel in kernels.values())])


@cache
def prelude() -> str:
    """What all kernels call."""
    return (files("minigrad.plan.cuda") / "prelude.cuh").read_text(encoding="utf-8")


def _kernel(section: Section, kernel: Kernel) -> Written:
    body: list[str] = []
    used: dict[Array, bool] = {}
    size = 1
    for position, (number, stage) in enumerate(zip(kernel.numbers, kernel.stages, strict=True)):
        if position:
            body.append("__syncthreads();")
        for reduction in stage.reductions:
            body += _reduction(section, reduction)
            used.setdefault(reduction.operand.place.array, False)
            used[reduction.place.array] = True
            size = max(size, reduction.operand.count)
        if stage.reductions and stage.stores:
            body.append("__syncthreads();")
        for columns, stores in sorted(stage.stores.items()):
            loop = Loop(section, number, columns, stores)
            for place in loop.places:
                used.setdefault(place.array, False)
            for store in stores:
                used[store.place.array] = True
            size = max(size, columns)
            body += _by_row(loop) if kernel.by_rows else _by_element(loop)
    if kernel.by_rows:
        head = "for (rows_t q = first + blockIdx.x; q < first + rows; q += gridDim.x) {"
        body = [head, *("    " + line for line in body), "}"]
    arrays = sorted(used, key=lambda array: array.number)
    given = [f"{'' if used[array] else 'const '}REAL *{array.name}" for array in arrays]
    head = f'extern "C" __global__ void {kernel.name}({", ".join([*given, "rows_t first", "rows_t rows"])})'
    text = "\n".join([f"{head} {{", *("    " + line for line in body), "}", ""])
    return Written(kernel, text, arrays, size)


def _by_row(loop: Loop) -> list[str]:
    return [
        f"for (int j = threadIdx.x; j < {loop.size}; j += blockDim.x) {{",
        *("    " + line for line in loop.body),
        "}",
    ]


def _by_element(loop: Loop) -> list[str]:
    return [
        f"for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < (int)rows * {loop.size}; "
        "i += gridDim.x * blockDim.x) {",
        f"    const rows_t q = first + i / {loop.size};",
        f"    const int j = i % {loop.size};",
        *("    " + line for line in loop.body),
        "}",
    ]


def _reduction(section: Section, reduction: Reduction) -> list[str]:
    """A reduction of a row by the whole block; softmax puts its row down itself."""
    batch, value, operand = section.schedule.batch, reduction.value, reduction.operand
    source = address(operand.place, batch) + (f" + {operand.start}" if operand.start else "")
    target = address(reduction.place, batch)
    if width(value) > 1 or value.name in ("softmax", "log_softmax"):
        return [f"row_{value.name}({source}, {target}, {operand.count});"]
    name = f"{value.name}_{value.index}"
    return [
        f"const REAL {name} = row_{value.name}({source}, {operand.count});",
        f"if (threadIdx.x == 0) *({target}) = {name};",
    ]
