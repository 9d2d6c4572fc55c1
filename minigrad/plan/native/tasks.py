"""What a thread does at each step: products over all its rows, and between two products everything else row by row.

All that comes between two products is one loop over rows. What is needed in that loop alone uses the memory of one
row, which stays in the nearest cache however many rows there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any

from minigrad.plan.native.expressions import Loop, pointer, row_pointer
from minigrad.plan.native.operations import body
from minigrad.plan.native.phase import Phase
from minigrad.plan.native.places import Place, RowOperation
from minigrad.plan.native.scalars import stored


@dataclass
class Task:
    """Some lines: for one row, whose places they know by `row_pointer`, or for all.

    Attributes:
        places: what they read and write.
    """

    lines: list[str]
    places: dict[Place, None]
    by_row: bool


def at_each_step(phase: Phase) -> tuple[list[str], dict[Place, None]]:
    """The lines for a step, and the places that they know by `pointer`."""
    tasks = [task for number in range(len(phase.stages)) for task in _tasks(phase, number)]
    groups = [(by_row, list(group)) for by_row, group in groupby(tasks, lambda task: task.by_row)]
    used = [{place: None for task in group for place in task.places} for _, group in groups]
    where: dict[int, set[int]] = {}
    for number, places in enumerate(used):
        for place in places:
            where.setdefault(place.array.number, set()).add(number)
    lines = []
    for (by_row, group), places in zip(groups, used, strict=True):
        if by_row:
            alone = {place.array.number for place in places if len(where[place.array.number]) == 1}
            lines += _by_row(group, places, alone)
        else:
            lines += [line for task in group for line in task.lines]
    return lines, {place: None for places in used for place in places}


def _by_row(tasks: list[Task], places: dict[Place, None], alone: set[int]) -> list[str]:
    lines = ["for (long r = r0; r < r1; r++) {"]
    for place in places:
        array = place.array
        start = pointer(place) if array.kind == "scratch" and array.number in alone else element(place, 0)
        const = "const " if array.kind == "constant" else ""
        lines.append(f"    {const}{stored(array.dtype)} *{row_pointer(place)} = {start};")
    for task in tasks:
        lines += ["    {", *("        " + line for line in task.lines), "    }"]
    return [*lines, "}"]


def element(place: Place, column: int) -> str:
    """A column of row `r` of a place."""
    array = place.array
    first = "r - r0" if array.kind == "scratch" else "r"
    row = f" + ({first}) * {array.row}" if array.row else ""
    return pointer(place) + row + (f" + {column}" if column else "")


def _tasks(phase: Phase, number: int) -> list[Task]:
    """What is to be done at a stage, in order."""
    stage = phase.stages[number]
    tasks = []
    for operation in stage.operations:
        if operation.batched:
            continue  # it is done before the loop over steps
        if operation.packed is not None:
            tasks.append(_product(operation, phase))
        else:
            tasks.append(_operation(operation, phase))
    for size, stores in sorted(stage.stores.items()):
        loop = Loop(phase, number, size, stores)
        tasks.append(Task(_loop(loop), loop.places, True))
    return tasks


def _product(operation: RowOperation, phase: Phase) -> Task:
    """The thread's rows times a packed matrix."""
    (operand,), (parts, sizes) = operation.operands, product_sizes(operation, phase)
    assert operand is not None
    source, target = element(operand.place, operand.start), element(operation.place, 0)
    more = [f" + m * {size}" if parts > 1 else "" for size in sizes]
    lines = [
        f"for (long r = r0; r < r1; r++) {{ from[r - r0] = {source}{more[0]}; to[r - r0] = {target}{more[1]}; }}",
        product_call("from", "to", "rows", operation, phase),
    ]
    if parts > 1:
        lines = [f"for (long m = 0; m < {parts}; m++) {{", *("    " + line for line in lines), "}"]
    return Task(lines, {operand.place: None, operation.place: None}, False)


def product_sizes(operation: RowOperation, phase: Phase) -> tuple[int, tuple[int, int]]:
    """How many rows a packed matrix is multiplied with for each sequence, and its own sizes."""
    sizes = matrix_shape(operation.value)
    return phase.rows.width(operation.value) // sizes[1], sizes


def matrix_shape(value: Any) -> tuple[int, int]:
    """(K, N) of the matrix that a product's rows are multiplied with."""
    weight = value.values[1]
    rows, columns = weight.shape
    return (columns, rows) if value.name == "linear" else (rows, columns)


def product_call(rows: str, results: str, count: str, operation: RowOperation, phase: Phase) -> str:
    _, (k, n) = product_sizes(operation, phase)
    return f"job->kernels->product({rows}, {results}, {count}, {k}, {n}, job->packed[{operation.packed}]);"


def _operation(operation: RowOperation, phase: Phase) -> Task:
    """Any other operation on a row."""
    places = {operation.place: None} | {columns.place: None for columns in operation.operands if columns is not None}
    lines = []
    for n, columns in enumerate(operation.operands):
        if columns is not None:
            kind = stored(columns.place.array.dtype)
            lines.append(f"const {kind} *in{n} = {row_pointer(columns.place)} + {columns.start};")
    lines.append(f"{stored(operation.place.array.dtype)} *out = {row_pointer(operation.place)};")
    if operation.room is not None:
        places[operation.room] = None
        lines.append(f"REAL *t = {row_pointer(operation.room)};")
    if operation.copies:
        lines.append(f"for (long j = 0; j < {phase.rows.width(operation.value)}; j++) out[j] = in0[j];")
    else:
        lines += body(operation.value, phase.rows)
    return Task(lines, places, True)


def _loop(loop: Loop) -> list[str]:
    """The columns of a row, vector by vector; what is left over is a partial vector."""
    rest = f"{loop.size} % LANES"
    return [
        *loop.row,
        f"for (long j = 0; j + LANES <= {loop.size}; j += LANES) {{",
        *("    " + whole(line) for line in loop.body),
        "}",
        f"if ({rest}) {{",
        f"    const long j = {loop.size} - {rest};",
        *("    " + partial(line, rest) for line in loop.body),
        "}",
    ]


def whole(line: str) -> str:
    """A line with LOAD and STORE for whole vectors."""
    return line.replace("LOAD(", "v_load(").replace("STORE(", "v_store(")


def partial(line: str, rest: str) -> str:
    """A line with LOAD and STORE for the first `rest` numbers of a vector."""
    for word, function in (("LOAD(", "v_load_partial("), ("STORE(", "v_store_partial(")):
        if word in line:
            at = line.index(word)
            end = line.rindex(")")
            return f"{line[:at]}{function}{line[at + len(word) : end]}, {rest}{line[end:]}"
    return line
