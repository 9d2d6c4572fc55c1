"""Operations on rows in memory as C: what is neither moved nor a vector at a time, on the columns of one row.

Each is written for a row: its operands are `in0`, `in1`, ..., its result is `out`; `t` is room for `room` numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from minigrad.plan.graph import Level, Value
from minigrad.plan.native.moves import affine, is_move
from minigrad.plan.native.parts import (
    PRODUCTS,
    REDUCTIONS,
    NotExpressibleError,
    is_boolean,
    is_elementwise,
    is_integer,
    reduced_axes,
)
from minigrad.plan.native.rows import Rows
from minigrad.plan.native.scalars import computed, expression, load, number, stored

View = tuple[int, list[int]]
"""Where elements are: the first, and for each loop what to add."""


def body(value: Value, rows: Rows) -> list[str]:
    """The statements for one row."""
    if is_move(value):
        return _move(value, rows)
    if is_elementwise(value):
        return _elementwise(value, rows)
    if value.name in PRODUCTS:
        return _product(value, rows)
    if value.name in REDUCTIONS:
        return _reduction(value, rows)
    return _GATHERS[value.name](value, rows)


def room(value: Value, rows: Rows) -> int:
    """How many numbers must be put side by side first."""
    if value.name not in REDUCTIONS or value.name == "argmax" or value.values[0].dtype != rows.real:
        return 0
    inner = _reduced(value, rows)[1]
    return 0 if _is_contiguous(inner) else prod(size for size, _ in inner)


def work(value: Value, rows: Rows) -> int:
    """About how many multiplications and additions of vectors' elements an operation on a row is worth."""
    if value.name in PRODUCTS:
        return 2 * rows.width(value) * int(value.values[0].shape[-1])
    return 8 * max(
        [rows.width(v) for v in (value, *rows.operands(value)) if isinstance(v, Value) and v.level > 0] or [1]
    )


def checks(value: Value) -> bool:
    """Whether an operation looks whether indices are in range."""
    return value.name in ("in_range", "take", "take_transpose", "take_along_axis", "take_along_axis_transpose")


def seen(value: Value, operand: Value, rows: Rows) -> tuple[tuple[int, ...], int | None]:
    """The shape to which a constant operand is broadcast, and which axis of that counts sequences."""
    axis = rows.axis(value)
    if is_elementwise(value):
        return value.shape, axis
    if value.name in PRODUCTS and axis is not None:
        vectors = sum(len(v.shape) == 1 for v in value.values)
        axis += len(operand.shape) - len(value.shape) - vectors
        return operand.shape, axis if 0 <= axis < len(operand.shape) - 2 else None
    return operand.shape, axis if value.name.startswith("take_along_axis") else None


# --- loops


def _nest(sizes: list[int], views: list[View], statement: Callable[..., str | list[str]], name: str = "i") -> list[str]:
    """Loops over so many sizes around a statement, which is made of where each view is."""
    loops = [n for n, size in enumerate(sizes) if size != 1]
    places = []
    for first, steps in views:
        terms = [f"{name}{n} * {steps[n]}" if steps[n] != 1 else f"{name}{n}" for n in loops if steps[n]]
        places.append(" + ".join([*terms, str(first)] if first or not terms else terms))
    made = statement(*places)
    lines = [made] if isinstance(made, str) else made
    for depth, n in enumerate(reversed(loops)):
        head = f"for (long {name}{n} = 0; {name}{n} < {sizes[n]}; {name}{n}++)"
        lines = (
            [f"{head} {{", *("    " + line for line in lines), "}"]
            if depth or len(lines) > 1
            else [f"{head} {lines[0]}"]
        )
    return lines


def _steps(sizes: tuple[int, ...]) -> list[int]:
    """What to add for each axis, of elements in their order."""
    return [prod(sizes[n + 1 :]) for n in range(len(sizes))]


# --- moves and elementwise operations


def _move(value: Value, rows: Rows) -> list[str]:
    move = rows.move(value)
    lines = []
    if move.has_gaps or move.adds:
        fill = number(move.fill) if not is_integer(value.dtype) else str(int(move.fill))
        lines.append(f"for (long j = 0; j < {rows.width(value)}; j++) out[j] = {fill};")
    for n, piece in enumerate(move.pieces):
        source, target = affine(piece.source), affine(piece.target)
        sign = "+=" if move.adds else "="
        if source is not None and target is not None:
            line = f"out[{{}}] {sign} in{n}[{{}}];"
            lines += _nest(list(piece.source.shape), [target, source], line.format)
        else:
            for word, columns in (("source", piece.source), ("target", piece.target)):
                lines.append(f"static const int {word}{n}[] = {{{', '.join(map(str, columns.flat))}}};")
            lines.append(
                f"for (long j = 0; j < {piece.source.size}; j++) out[target{n}[j]] {sign} in{n}[source{n}[j]];"
            )
    return lines


def _elementwise(value: Value, rows: Rows) -> list[str]:
    operands = []
    for n, operand in enumerate(rows.operands(value)):
        if isinstance(operand, Value):
            constant = operand.level is Level.CONSTANT
            single = prod(operand.shape) == 1 if constant else rows.width(operand) == 1
            operands.append(load(f"in{n}[{0 if single else 'j'}]", operand.dtype))
        elif is_integer(value.dtype) or isinstance(operand, int):
            operands.append(f"INT64_C({int(operand)})")
        else:
            operands.append(number(operand))
    line = f"out[j] = {expression(value, operands)};"
    if value.name == "in_range":
        line = f"{{ row_index(in0[j] < 0 ? INT64_MAX : in0[j], {value.attrs['size']}, out_of_range); {line} }}"
    return [f"for (long j = 0; j < {rows.width(value)}; j++) {line}"]


# --- products


def _product(value: Value, rows: Rows) -> list[str]:
    """Any product of matrices, or of many at once, that is not of rows with one packed matrix."""
    if is_boolean(value.dtype):
        raise NotExpressibleError(f"{value.name} of booleans is not among what can be written in C")
    left, right = value.values
    whole, axis = list(value.shape), rows.axis(value)
    if len(right.shape) == 1:
        whole.append(1)
    if len(left.shape) == 1:
        whole.insert(len(whole) - 1, 1)
        axis = len(whole) - 1 if axis == len(whole) - 2 else axis
    sizes = [1 if place == axis else size for place, size in enumerate(whole)]
    a, b = _along(value, left, 0, rows), _along(value, right, 1, rows)
    if value.name == "linear":
        b[-2:] = b[-1], b[-2]
    a, b = ([0] * (len(sizes) - len(steps)) + steps for steps in (a, b))
    views = [(0, _steps(tuple(sizes))[:-1]), (0, a[:-1]), (0, [*b[:-2], 0])]
    inner, columns = left.shape[-1], sizes[-1]
    return _nest(sizes[:-1], views, lambda *at: _row_product(stored(value.dtype), at, inner, columns, a[-1], b[-2:]))


def _row_product(kind: str, at: tuple[str, ...], inner: int, columns: int, step: int, steps: list[int]) -> list[str]:
    """A row times a matrix: `step` and `steps` are what to add along the row, and along both axes of the matrix."""
    to, x, y = at
    lines = [f"{kind} *o = out + {to};", f"const {kind} *x = in0 + {x}, *y = in1 + {y};"]
    if columns > 1 and steps[1] == 1:
        return [
            *lines,
            f"for (long n = 0; n < {columns}; n++) o[n] = 0;",
            f"for (long k = 0; k < {inner}; k++)",
            f"    for (long n = 0; n < {columns}; n++) o[n] += x[k * {step}] * y[k * {steps[0]} + n];",
        ]
    if kind == "REAL" and step == steps[0] == 1:
        return [*lines, f"for (long n = 0; n < {columns}; n++) o[n] = row_dot(x, y + n * {steps[1]}, {inner});"]
    return [
        *lines,
        f"for (long n = 0; n < {columns}; n++) {{",
        "    o[n] = 0;",
        f"    for (long k = 0; k < {inner}; k++) o[n] += x[k * {step}] * y[k * {steps[0]} + n * {steps[1]}];",
        "}",
    ]


def _along(value: Value, operand: Value, position: int, rows: Rows) -> list[int]:
    """What to add for each axis of a factor; 0 along the axis of sequences, and where it is repeated."""
    shape = list(operand.shape)
    axis = seen(value, operand, rows)[1] if operand.level is Level.CONSTANT else rows.axis(operand)
    if axis is not None and operand.shape[axis] != rows.batch:
        axis = None
    if axis is not None:
        shape[axis] = 1
    steps = [0 if size == 1 else step for size, step in zip(shape, _steps(tuple(shape)), strict=True)]
    if len(shape) == 1:
        steps = [0, *steps] if position == 0 else [*steps, 0]
    return steps


# --- reductions


def _reduced(value: Value, rows: Rows) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Size and step of each axis of a row that a reduction leaves, and of each that it goes over."""
    (x,) = value.values
    axis, sizes = rows.axis(x), rows.sizes(x)
    places = {a - (axis is not None and axis < a) for a in reduced_axes(value)}
    parts = list(zip(sizes, _steps(sizes), strict=True))
    return (
        [part for n, part in enumerate(parts) if n not in places],
        [part for n, part in enumerate(parts) if n in places],
    )


def _is_contiguous(inner: list[tuple[int, int]]) -> bool:
    """Whether what is reduced lies side by side."""
    sizes = [size for size, _ in inner if size > 1]
    return [step for size, step in inner if size > 1] == _steps(tuple(sizes))


def _reduction(value: Value, rows: Rows) -> list[str]:
    (x,), name = value.values, value.name
    outer, inner = _reduced(value, rows)
    sizes = [size for size, _ in outer]
    views = [(0, [step for _, step in outer]), (0, _steps(tuple(sizes)))]
    count, keeps = prod(size for size, _ in inner), name in ("softmax", "log_softmax")

    def within(statement: Callable[..., str | list[str]]) -> list[str]:
        return _nest([size for size, _ in inner], [(0, [step for _, step in inner])], statement, "k")

    def gathered(at: str, to: str) -> list[str]:
        lines = ["long n = 0;", *within(lambda place: f"t[n++] = in0[{at} + {place}];")]
        if not keeps:
            return [*lines, _reduce(name, "t", count).format("", to)]
        back = within(lambda place: f"out[{at} + {place}] = t[n++];")
        return [*lines, f"row_{name}(t, t, {count});", "n = 0;", *back]

    def one_by_one(at: str, to: str) -> list[str]:
        loop = within(lambda place: _counted(value, load(f"in0[{at} + {place}]", x.dtype)))
        scale = f" / {count}" if name == "mean" else ""
        kind = {"sum": "uint64_t", "mean": "REAL"}.get(name, computed(x.dtype))
        result = "at" if name == "argmax" else f"({stored(value.dtype)})all{scale}"
        return [f"{kind} all = 0;", "long n = 0, at = 0;", *loop, f"out[{to}] = {result};", "(void)n, (void)at;"]

    if x.dtype != rows.real or name == "argmax":
        return _nest(sizes, views, one_by_one)
    if not _is_contiguous(inner):
        return _nest(sizes, views, gathered)
    call = f"row_{name}(in0 + {{0}}, out + {{0}}, {count});" if keeps else _reduce(name, "in0 + {0}", count)
    return _nest(sizes, views, call.format)


def _reduce(name: str, source: str, count: int) -> str:
    reduce, scale = ("sum", f" / {count}") if name == "mean" else (name, "")
    return f"out[{{1}}] = row_{reduce}({source}, {count}){scale};"


def _counted(value: Value, element: str) -> str:
    """One more integer or boolean, or number of which the place is sought: `all` so far, `n` of them, `at` the best."""
    x, name = value.values[0], value.name
    if name in ("sum", "mean"):
        return f"all += ({'REAL' if name == 'mean' else 'uint64_t'}){element};"
    if name not in ("max", "min", "argmax"):
        raise NotExpressibleError(f"{name} of {x.dtype} is not among what can be written in C")
    better = f"v {'<' if name == 'min' else '>'} all || (v != v && all == all)"
    return f"{{ const {computed(x.dtype)} v = {element}; if (!n || {better}) {{ all = v; at = n; }} n++; }}"


# --- elements found by integers


def _split(shape: tuple[int, ...], along: int, axis: int | None) -> tuple[int, int]:
    """How many columns there are before an axis and after it."""
    sizes = [1 if a == axis else size for a, size in enumerate(shape)]
    return prod(sizes[:along]), prod(sizes[along + 1 :])


def _own_axis(value: Value, operand: Value, rows: Rows) -> int | None:
    """The axis of an operand that counts sequences, none if it is the same for all."""
    if operand.level is not Level.CONSTANT:
        return rows.axis(operand)
    axis = seen(value, operand, rows)[1]
    return axis if axis is not None and operand.shape[axis] == rows.batch else None


def _columns_of(value: Value, operand: Value, rows: Rows) -> int:
    axis = _own_axis(value, operand, rows)
    return prod(size for a, size in enumerate(operand.shape) if a != axis)


def _take(value: Value, rows: Rows) -> list[str]:
    """Of take, and of what it sends back, in which the table is the result."""
    first, indices = value.values
    back = value.name == "take_transpose"
    table = value.shape if back else first.shape
    along = value.attrs["axis"] % len(table)
    axis = rows.axis(value) if back else _own_axis(value, first, rows)
    before, after = _split(table, along, axis)
    count, size = _columns_of(value, indices, rows), table[along]
    inner = f"(i * {count} + j) * {after} + c"
    there = f"(i * {size} + at) * {after} + c"
    line = f"out[{there}] += in0[{inner}];" if back else f"out[{inner}] = in0[{there}];"
    return [
        *([f"for (long j = 0; j < {rows.width(value)}; j++) out[j] = 0;"] if back else []),
        f"for (long j = 0; j < {count}; j++) {{",
        f"    const long at = row_index(in1[j], {size}, out_of_range);",
        f"    for (long i = 0; i < {before}; i++)",
        f"        for (long c = 0; c < {after}; c++) {line}",
        "}",
    ]


def _take_along(value: Value, rows: Rows) -> list[str]:
    first, indices = value.values
    back = value.name.endswith("transpose")
    table = value.shape if back else first.shape
    along, axis = value.attrs["axis"] % len(table), rows.axis(value)
    before, after = _split(table, along, axis)
    count, size = indices.shape[along], table[along]
    inner = f"(i * {count} + j) * {after} + c"
    there = f"(i * {size} + row_index(in1[{inner}], {size}, out_of_range)) * {after} + c"
    line = f"out[{there}] += in0[{inner}];" if back else f"out[{inner}] = in0[{there}];"
    return [
        *([f"for (long j = 0; j < {rows.width(value)}; j++) out[j] = 0;"] if back else []),
        f"for (long i = 0; i < {before}; i++)",
        f"    for (long j = 0; j < {count}; j++)",
        f"        for (long c = 0; c < {after}; c++) {line}",
    ]


def _one_hot(value: Value, rows: Rows) -> list[str]:
    (indices,) = value.values
    size = value.shape[-1]
    return [
        f"for (long j = 0; j < {rows.width(indices)}; j++)",
        f"    for (long c = 0; c < {size}; c++) out[j * {size} + c] = in0[j] == c;",
    ]


_GATHERS: dict[str, Callable[[Value, Rows], list[str]]] = {
    "take": _take,
    "take_transpose": _take,
    "take_along_axis": _take_along,
    "take_along_axis_transpose": _take_along,
    "one_hot": _one_hot,
}
