"""The C source of a schedule: a function for each phase over a thread's rows, one for sums, one that packs matrices."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from minigrad.plan.native.expressions import pointer
from minigrad.plan.native.phase import Phase
from minigrad.plan.native.places import Array, Columns, Place, RowOperation, Sum, whole_vectors
from minigrad.plan.native.scalars import stored
from minigrad.plan.native.schedule import Schedule
from minigrad.plan.native.tasks import at_each_step, element, matrix_shape, product_call

IN_TIME = frozenset({"given", "carry", "carried", "saved", "output", "chunk"})
"""Kinds of arrays that have a place for each of several steps."""


def source(schedule: Schedule) -> str:
    """The translation unit."""
    real = "float" if schedule.real.itemsize == 4 else "double"
    parts = [f"#define REAL {real}", text("vector_math.h"), text("run.h"), text("rows.h")]
    parts += [
        _rows(schedule.forward),
        _rows(schedule.backward),
        _totals(schedule),
        _packing(schedule),
        text("entry.h"),
    ]
    return "\n".join(parts)


def kernels_source(real: Any) -> str:
    """The products, for all programs of a dtype."""
    name = "float" if real.itemsize == 4 else "double"
    return "\n".join([f"#define REAL {name}", *map(text, ("vector_math.h", "run.h", "kernels.c", "multiply.c"))])


def text(name: str) -> str:
    """One of the files that sources are made of."""
    return (files("minigrad.plan.native") / "c" / name).read_text(encoding="utf-8")


def scratch_offsets(schedule: Schedule) -> tuple[dict[int, int], int]:
    """Where the arrays of a thread's rows begin in its scratch memory, in elements per row; and how many in all."""
    offsets, total = {}, 0
    scratch = [array for array in schedule.arrays if array.kind == "scratch"]
    # For their alignment first those that are whole vectors, and then the largest elements.
    for array in sorted(scratch, key=lambda array: (array.row != whole_vectors(array.row), -array.dtype.itemsize)):
        offsets[array.number] = total
        total += array.row * (array.dtype.itemsize // schedule.real.itemsize)
    return offsets, whole_vectors(total)


# --- one phase


def _rows(phase: Phase) -> str:
    """All steps of a chunk for the rows of one thread."""
    lines: list[str] = []
    body, used = at_each_step(phase)
    batched = [operation for stage in phase.stages for operation in stage.operations if operation.batched]
    for operation in batched:
        lines += _batched(operation, phase)
    first, last = ("first", "last") if phase.name == "forward" else ("last - 1", "first - 1")
    step = "t++" if phase.name == "forward" else "t--"
    lines.append(f"for (long t = {first}; t != {last}; {step}) {{")
    for place in used:
        if place.array.kind in IN_TIME:
            lines.append(f"    {_declared(place)} = {_at(place.array, 't + 1' if _is_next(phase, place) else 't')};")
    lines += ["    " + line for line in body]
    lines.append("}")
    offsets, _ = scratch_offsets(phase.schedule)
    fixed = []
    for place in used:
        if place.array.kind == "constant":
            fixed.append(f"const {_declared(place)} = {_cast(place.array)}job->arrays[{place.array.number}];")
        elif place.array.kind == "scratch":
            offset = offsets[place.array.number]
            fixed.append(f"{_declared(place)} = {_cast(place.array)}(scratch + {offset} * rows);")
    if phase.schedule.flag is not None:
        fixed.append(f"int64_t *out_of_range = (int64_t *)job->arrays[{phase.schedule.flag.number}];")
        fixed.append("(void)out_of_range;")
    head = [
        f"static void {phase.name}_rows(void *context, int worker, int workers) {{",
        "    struct job *job = context;",
        "    const long r0 = job->batch * worker / workers, r1 = job->batch * (worker + 1) / workers, rows = r1 - r0;",
        "    const long first = job->first, last = job->last;",
        "    REAL *scratch = job->scratch + (size_t)r0 * job->scratch_row;",
        "    const REAL **from = job->from + r0; REAL **to = job->to + r0;",
        "    if (!rows || first == last) return;",
        "    (void)scratch; (void)from; (void)to;",
    ]
    return "\n".join([*head, *("    " + line for line in fixed + lines), "}", ""])


def _is_next(phase: Phase, place: Place) -> bool:
    """Whether a place is one step further in time than the step: a carry after it, or a gradient carried to it."""
    if place.array.kind == "carry":
        return place.after
    return place.array.kind == "carried" and not place.after


def _declared(place: Place) -> str:
    """The declaration of the pointer to a place."""
    return f"{stored(place.array.dtype)} *{pointer(place)}"


def _cast(array: Array) -> str:
    """From a pointer to numbers to one to what is in the array."""
    kind = stored(array.dtype)
    return "" if kind == "REAL" else f"({kind} *)"


def _at(array: Array, step: str) -> str:
    n = array.number
    found = f"job->arrays[{n}] + ({step} - job->origins[{n}]) % job->periods[{n}] * job->strides[{n}]"
    return f"{_cast(array)}({found})" if _cast(array) else found


def _batched(operation: RowOperation, phase: Phase) -> list[str]:
    """A product with what is given for each step, for many steps at once."""
    operand, place = operation.operands[0], operation.place
    assert operand is not None
    return [
        "{",
        "    const REAL **many_from = job->many_from + r0 * job->chunk;",
        "    REAL **many_to = job->many_to + r0 * job->chunk;",
        "    long at = 0;",
        "    for (long t = first; t < last; t++) {",
        f"        REAL *{pointer(operand.place)} = {_at(operand.place.array, 't')};",
        f"        REAL *{pointer(place)} = {_at(place.array, 't')};",
        "        for (long r = r0; r < r1; r++, at++) {",
        f"            many_from[at] = {element(operand.place, operand.start)};",
        f"            many_to[at] = {element(place, 0)};",
        "        }",
        "    }",
        f"    {product_call('many_from', 'many_to', 'at', operation, phase)}",
        "}",
    ]


# --- sums over steps, and packing


def _totals(schedule: Schedule) -> str:
    """Each thread adds up some rows of each sum over all steps of a chunk and all sequences."""
    lines = [
        "static void totals(void *context, int worker, int workers) {",
        "    struct job *job = context;",
        "    const long count = (job->last - job->first) * job->batch;",
        "    (void)worker; (void)workers; (void)count;",
    ]
    lines += ["    " + _total(total) for total in schedule.backward.sums]
    return "\n".join([*lines, "}", ""])


def _total(total: Sum) -> str:
    base, left, right, out = total.base, total.left, total.right, f"job->arrays[{total.array.number}]"
    if base.how == "table":
        assert right is not None
        before, size, after = base.shape
        where = f"{_flat(right)}, {right.count}, {_flat(left)}, count, {out}, {before}, {size}, {after}"
        return f"scatter_rows({where}, {_share(after)});"
    row, size, rows = left.place.array.row, left.count, "count"
    if base.how == "apart":
        each = f"{_flat(left)}, {row} * job->batch, job->last - job->first, {out}"
        return f"job->kernels->column_sums({each}, {_share(f'{size} * job->batch')});"
    if right is None:
        return f"job->kernels->column_sums({_flat(left)}, {row}, count, {out}, {_share(size)});"
    columns, right_row = right.count, right.place.array.row
    if base.parts > 1:
        row = size = size // base.parts
        right_row = columns = columns // base.parts
        rows = f"count * {base.parts}"
    factors = f"{_flat(left)}, {row}, {_flat(right)}, {right_row}, {rows}, {out}, {columns}"
    return f"job->kernels->outer_product({factors}, {_share(size)});"


def _share(size: int | str) -> str:
    """A thread's part of so many sums, and whether they go on."""
    return f"{size} * worker / workers, {size} * (worker + 1L) / workers, job->add"


def _flat(columns: Columns) -> str:
    """Where the columns are at the first step of a chunk."""
    place = columns.place
    after = " + 1" if place.array.kind == "carry" and place.after else ""
    return f"{_at(place.array, f'job->first{after}')} + {columns.start}"


def _packing(schedule: Schedule) -> str:
    lines = [
        "static void pack_all(void *context, int worker, int workers) {",
        "    struct job *job = context;",
        "    (void)worker; (void)workers; (void)job;",
    ]
    for number, (value, phase) in enumerate(schedule.packed):
        rows, columns = matrix_shape(value)
        wanted = "job->phase == 0" if phase == "forward" else "job->phase == 1"
        lines += [
            f"    if ({wanted})",
            f"        job->kernels->pack(job->matrices[{number}], job->matrix_rows[{number}], "
            f"job->matrix_columns[{number}], {rows}, {columns}, job->packed[{number}], worker, workers);",
        ]
    return "\n".join([*lines, "}", ""])
