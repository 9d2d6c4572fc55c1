"""The kernels of a schedule as CUDA."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from minigrad.plan.cuda.expressions import Loop, address
from minigrad.plan.cuda.layout import NARROW, Kernel
from minigrad.plan.cuda.schedule import Schedule
from minigrad.plan.cuda.sections import Section
from minigrad.plan.native.moves import is_move
from minigrad.plan.native.operations import body, room
from minigrad.plan.native.parts import PRODUCTS, REDUCTIONS, is_elementwise, reduced_axes
from minigrad.plan.native.places import Array, Place, RowOperation
from minigrad.plan.native.scalars import stored

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
    for section in (*schedule.sections["forward"], *schedule.sections["backward"]):
        for item in section.work:
            if isinstance(item, Kernel):
                found[item.name] = _kernel(section, item)
    return found


def module(schedule: Schedule, kernels: dict[str, Written]) -> str:
    """The translation unit."""
    return "\n".join([preamble(schedule.real, schedule.storage), *(kernel.text for kernel in kernels.values())])


def preamble(real: Any, kept_in: str = "") -> str:
    """What stands before the kernels of programs of one dtype, which may keep numbers in 16 bits."""
    lines = [f"#define REAL {'float' if real.itemsize == 4 else 'double'}", prelude()]
    return "\n".join([*lines, f"#define STORAGE {kept_in}", prelude("storage")] if kept_in else lines)


@cache
def prelude(name: str = "prelude") -> str:
    """What all kernels call; or what those with 16-bit numbers need besides, `"storage"`."""
    return (files("minigrad.plan.cuda") / f"{name}.cuh").read_text(encoding="utf-8")


def _kernel(section: Section, kernel: Kernel) -> Written:
    lines: list[str] = []
    used: dict[int, tuple[Array, bool]] = {}  # by number, and whether it is written
    size, name, flag = 1, section.schedule.name, section.schedule.flag

    def use(array: Array, writes: bool) -> None:
        used[array.number] = array, writes or used.get(array.number, (array, False))[1]

    for position, (number, stage) in enumerate(kernel.stages.items()):
        if position:
            lines.append("__syncthreads();")
        for operation in stage.operations:
            lines += _operation(section, operation)
            for columns in filter(None, operation.operands):
                use(columns.place.array, False)
                size = max(size, columns.count)
            use(operation.place.array, True)
            if operation.room is not None:
                use(operation.room.array, True)
        if flag is not None and any("out_of_range" in line for line in lines):
            use(flag, True)
        if stage.operations and stage.stores:
            lines.append("__syncthreads();")
        for width, stores in sorted(stage.stores.items()):
            loop = Loop(section, number, width, stores)
            for place in loop.places:
                use(place.array, False)
            for store in stores:
                use(store.place.array, True)
            size = max(size, width)
            lines += _by_row(loop) if kernel.by_rows else _by_element(loop)
    if kernel.by_rows:
        head = "for (rows_t q = first + blockIdx.x; q < first + rows; q += gridDim.x) {"
        lines = [head, *("    " + line for line in lines), "}"]
    arrays = [used[number] for number in sorted(used)]
    given = [
        f"{'' if writes else 'const '}{_type(section, array)} *{'out_of_range' if array is flag else name(array)}"
        for array, writes in arrays
    ]
    head = f'extern "C" __global__ void {kernel.name}({", ".join([*given, "rows_t first", "rows_t rows"])})'
    text = "\n".join([f"{head} {{", *("    " + line for line in lines), "}", ""])
    return Written(kernel, text, [array for array, _ in arrays], size)


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


# --- operations on rows in memory


def _operation(section: Section, operation: RowOperation) -> list[str]:
    """By the whole block, as far as its threads can do it without waiting for each other; if not, by one of them."""
    value, rows = operation.value, section.rows
    if not operation.copies and _is_of_whole_rows(section, operation):
        return _reduction(section, operation)
    lines = [
        f"const {_type(section, columns.place.array)} *in{n} = {_at(section, columns.place, columns.start)};"
        for n, columns in enumerate(operation.operands)
        if columns is not None
    ]
    lines.append(f"{_type(section, operation.place.array)} *out = {_at(section, operation.place, 0)};")
    if operation.room is not None:
        lines.append(f"REAL *t = {_at(section, operation.room, 0)};")
    if operation.copies:
        done = [f"for (long j = 0; j < {rows.width(value)}; j++) out[j] = in0[j];"]
    else:
        done = [part for line in body(value, rows) for part in _with_own_types(line)]
    done = _shared(done, "j" if operation.copies else _own_loops(section, operation))
    return ["{", *("    " + line for line in [*lines, *done]), "}"]


def _type(section: Section, array: Array) -> str:
    """What an array's elements are in CUDA."""
    kind = section.schedule.kind_of(array)
    return kind if array.dtype == NARROW else stored(array.dtype)


def _with_own_types(line: str) -> list[str]:
    """A row of one operand and one of another, of which but one may be narrow."""
    rows = re.match(r"const REAL \*x = (.*), \*y = (.*);", line.strip())
    return [f"const auto *x = {rows[1]};", f"const auto *y = {rows[2]};"] if rows else [line]


def _at(section: Section, place: Place, column: int) -> str:
    return " + ".join([*address(section, place), *([str(column)] if column else [])])


def _is_of_whole_rows(section: Section, operation: RowOperation) -> bool:
    """Whether an operation reduces each row to one number, or is softmax of each."""
    value, rows = operation.value, section.rows
    if value.name not in REDUCTIONS or value.name == "argmax" or value.values[0].dtype != rows.real:
        return False
    (x,) = value.values
    return len(reduced_axes(value)) >= len(rows.sizes(x)) if len(x.shape) > 1 else False


def _reduction(section: Section, operation: RowOperation) -> list[str]:
    """A reduction of a row by the whole block; softmax puts its row down itself."""
    value, (operand,) = operation.value, operation.operands
    assert operand is not None
    source, target = _at(section, operand.place, operand.start), _at(section, operation.place, 0)
    if value.name in ("softmax", "log_softmax"):
        return [f"block_{value.name}({source}, {target}, {operand.count});"]
    name = f"{value.name}_{value.index}"
    return [
        f"const REAL {name} = block_{value.name}({source}, {operand.count});",
        f"if (threadIdx.x == 0) *({target}) = {name};",
    ]


def _own_loops(section: Section, operation: RowOperation) -> str:
    """The loops of which each turn has elements of its own, as a pattern of their counters; none if it is empty."""
    value, rows = operation.value, section.rows
    if is_move(value):
        return "" if rows.move(value).adds else r"j|i\d"
    if value.name in PRODUCTS:
        return "n"
    if value.name in REDUCTIONS:
        return "" if room(value, rows) else r"i\d"
    return r"i|j" if is_elementwise(value) or value.name in ("take", "take_along_axis", "one_hot") else ""


def _shared(lines: list[str], counters: str) -> list[str]:
    """Statements with the outermost of these loops shared by the threads of a block; by one thread if there is none.

    Between one loop and the next the threads wait for each other. What is outside of loops declares something.
    """
    heads = [match for line in lines if (match := _LOOP.match(line))]
    own = re.compile(rf"for \(long ({counters}) = 0; \1 < (\d+); \1\+\+\)")
    if counters != "n" and not (counters and heads and all(own.match(head[0]) for head in heads)):
        return ["if (threadIdx.x == 0) {", *("    " + line for line in lines), "}"]
    found: list[str] = []
    for line in lines:
        if counters == "n" or own.match(line):
            waits = counters != "n" and any("threadIdx.x" in before for before in found)
            found += ["__syncthreads();"] * waits
            line = own.sub(r"for (long \1 = threadIdx.x; \1 < \2; \1 += blockDim.x)", line, count=1)
        found.append(line)
    return found


_LOOP = re.compile(r"for \(long \w+ = 0; [^)]*\)")
