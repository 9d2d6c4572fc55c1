"""The C source of a schedule: a function for each phase over a thread's rows, one for sums, one that packs matrices."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from minigrad.plan.native.expressions import Loop, pointer
from minigrad.plan.native.parts import width
from minigrad.plan.native.schedule import Array, Columns, Phase, Place, RowOperation, Schedule, Stage

IN_TIME = frozenset({"given", "carry", "carried", "saved", "output", "chunk"})
"""Kinds of arrays that have a place for each of several steps."""


def source(schedule: Schedule) -> str:
    """The translation unit."""
    real = "float" if schedule.real.itemsize == 4 else "double"
    parts = [f"#define REAL {real}", _text("vector_math.h"), _text("run.h")]
    parts += [
        _rows(schedule.forward),
        _rows(schedule.backward),
        _totals(schedule),
        _packing(schedule),
        _text("entry.h"),
    ]
    return "\n".join(parts)


def kernels_source(real: Any) -> str:
    """The products, for all programs of a dtype."""
    name = "float" if real.itemsize == 4 else "double"
    return "\n".join([f"#define REAL {name}", _text("vector_math.h"), _text("run.h"), _text("kernels.c")])


def _text(name: str) -> str:
    return (files("minigrad.plan.native") / "c" / name).read_text(encoding="utf-8")


def scratch_offsets(schedule: Schedule) -> tuple[dict[int, int], int]:
    """Where the arrays of a thread's rows begin in its scratch memory, in elements per row; and how many in all."""
    offsets, total = {}, 0
    for array in schedule.arrays:
        if array.kind == "scratch":
            offsets[array.number] = total
            total += array.row
    return offsets, total


# --- one phase


def _rows(phase: Phase) -> str:
    """All steps of a chunk for the rows of one thread."""
    lines: list[str] = []
    used: dict[Place, None] = {}
    body: list[str] = []
    for number, stage in enumerate(phase.stages):
        body += _stage(phase, number, stage, used)
    batched = [operation for stage in phase.stages for operation in stage.operations if operation.batched]
    for operation in batched:
        lines += _batched(operation)
    first, last = ("first", "last") if phase.name == "forward" else ("last - 1", "first - 1")
    step = "t++" if phase.name == "forward" else "t--"
    lines.append(f"for (long t = {first}; t != {last}; {step}) {{")
    for place in used:
        if place.array.kind in IN_TIME:
            lines.append(
                f"    REAL *{pointer(place)} = {_at(place.array, 't + 1' if _is_next(phase, place) else 't')};"
            )
    lines += ["    " + line for line in body]
    lines.append("}")
    offsets, _ = scratch_offsets(phase.schedule)
    fixed = []
    for place in used:
        if place.array.kind == "constant":
            fixed.append(f"const REAL *{pointer(place)} = job->arrays[{place.array.number}];")
        elif place.array.kind == "scratch":
            fixed.append(f"REAL *{pointer(place)} = scratch + {offsets[place.array.number]} * rows;")
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


def _at(array: Array, step: str) -> str:
    number = array.number
    return (
        f"job->arrays[{number}] + ({step} - job->origins[{number}]) % job->periods[{number}] * job->strides[{number}]"
    )


def _stage(phase: Phase, number: int, stage: Stage, used: dict[Place, None]) -> list[str]:
    lines = []
    for operation in stage.operations:
        if not operation.batched:
            used |= {operation.operand.place: None, operation.place: None}
            lines += _operation(operation)
        else:
            used |= {operation.place: None}
    for size, stores in sorted(stage.stores.items()):
        loop = Loop(phase, number, size, stores)
        used |= loop.places
        lines += _loop(loop)
    return lines


def _operation(operation: RowOperation) -> list[str]:
    """A row operation on the thread's rows at one step."""
    operand, place, value = operation.operand, operation.place, operation.value
    source, target = _element(operand.place, operand.start), _element(place, 0)
    if operation.number is None and value.name in ("softmax", "log_softmax"):
        return [f"for (long r = r0; r < r1; r++) row_{value.name}({source}, {target}, {operand.count});"]
    if operation.number is None:
        reduce, scale = value.name, ""
        if reduce == "mean":
            reduce, scale = "sum", f" * ((REAL)1 / {operand.count})"
        return [f"for (long r = r0; r < r1; r++) *({target}) = row_{reduce}({source}, {operand.count}){scale};"]
    return [
        f"for (long r = r0; r < r1; r++) {{ from[r - r0] = {source}; to[r - r0] = {target}; }}",
        _product("from", "to", "rows", operation),
    ]


def _product(rows: str, results: str, count: str, operation: RowOperation) -> str:
    sizes = f"{operation.operand.count}, {width(operation.value)}"
    return f"job->kernels->product({rows}, {results}, {count}, {sizes}, job->packed[{operation.number}]);"


def _element(place: Place, column: int) -> str:
    array = place.array
    first = "r - r0" if array.kind == "scratch" else "r"
    row = f" + ({first}) * {array.row}" if array.row else ""
    return pointer(place) + row + (f" + {column}" if column else "")


def _batched(operation: RowOperation) -> list[str]:
    """A product with what is given for each step, for many steps at once."""
    operand, place = operation.operand, operation.place
    return [
        "{",
        "    const REAL **many_from = job->many_from + r0 * job->chunk;",
        "    REAL **many_to = job->many_to + r0 * job->chunk;",
        "    long at = 0;",
        "    for (long t = first; t < last; t++) {",
        f"        REAL *{pointer(operand.place)} = {_at(operand.place.array, 't')};",
        f"        REAL *{pointer(place)} = {_at(place.array, 't')};",
        "        for (long r = r0; r < r1; r++, at++) {",
        f"            many_from[at] = {_element(operand.place, operand.start)};",
        f"            many_to[at] = {_element(place, 0)};",
        "        }",
        "    }",
        f"    {_product('many_from', 'many_to', 'at', operation)}",
        "}",
    ]


def _loop(loop: Loop) -> list[str]:
    """The rows of a thread, and of each its columns, vector by vector; what is left over is a partial vector."""
    rest = f"{loop.size} % LANES"
    whole = [line.replace("LOAD(", "v_load(").replace("STORE(", "v_store(") for line in loop.body]
    partial = [_with_count(line, rest) for line in loop.body]
    return [
        "for (long r = r0; r < r1; r++) {",
        *("    " + line for line in loop.row),
        f"    for (long j = 0; j + LANES <= {loop.size}; j += LANES) {{",
        *("        " + line for line in whole),
        "    }",
        f"    if ({rest}) {{",
        f"        const long j = {loop.size} - {rest};",
        *("        " + line for line in partial),
        "    }",
        "}",
    ]


def _with_count(line: str, rest: str) -> str:
    for word, function in (("LOAD(", "v_load_partial("), ("STORE(", "v_store_partial(")):
        if word in line:
            at = line.index(word)
            end = line.rindex(")")
            return f"{line[:at]}{function}{line[at + len(word) : end]}, {rest}{line[end:]}"
    return line


# --- sums over steps, and packing


def _totals(schedule: Schedule) -> str:
    """Each thread adds up some rows of each sum over all steps of a chunk and all sequences."""
    lines = [
        "static void totals(void *context, int worker, int workers) {",
        "    struct job *job = context;",
        "    const long count = (job->last - job->first) * job->batch;",
        "    (void)worker; (void)workers; (void)count;",
    ]
    for total in schedule.backward.sums:
        left, row, size, rows = _flat(total.left), str(total.left.place.array.row), str(total.left.count), "count"
        if total.base.by_row:
            row, size, rows = f"{row} * job->batch", f"{size} * job->batch", "job->last - job->first"
        share = f"{size} * worker / workers, {size} * (worker + 1L) / workers, job->add"
        out = f"job->arrays[{total.array.number}]"
        if total.right is not None:
            right = f"{_flat(total.right)}, {total.right.place.array.row}, {rows}, {out}, {total.right.count}"
            lines.append(f"    job->kernels->outer_product({left}, {row}, {right}, {share});")
        else:
            lines.append(f"    job->kernels->column_sums({left}, {row}, {rows}, {out}, {share});")
    return "\n".join([*lines, "}", ""])


def _flat(columns: Columns) -> str:
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


def matrix_shape(value: Any) -> tuple[int, int]:
    """(K, N) of the matrix that a product's rows are multiplied with."""
    weight = value.values[1]
    rows, columns = weight.shape
    return (columns, rows) if value.name == "linear" else (rows, columns)
