"""Cells made up at random: a program over x, the state, parameters and constants, compiled and on the tape.

A program is a tuple of instructions (operation, numbers of the values it takes, a detail). Values are (B, n), or (n,)
where no batch is in them; each operation takes any of them, so that every example is a cell.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, note, seed, settings
from hypothesis import strategies as st
from plan_runs import Case, agree, everything, is_compiled, pair, run, weighted

import minigrad as mg
from minigrad.nest import leaves

Instruction = tuple[str, tuple[int, ...], Any]

# --- operations: of tensors, with a detail, giving the size of what they give


def broadcast(value: mg.Tensor, batch: int) -> mg.Tensor:
    return mg.broadcast_to(value, (batch, value.shape[-1]))


UNARY: dict[str, Callable[[mg.Tensor], mg.Tensor]] = {
    "tanh": mg.tanh,
    "sigmoid": mg.sigmoid,
    "sin": mg.sin,
    "bounded exp": lambda v: mg.exp(mg.tanh(v)),
    "softmax": lambda v: mg.softmax(v, axis=-1),
    "square": lambda v: mg.sin(mg.square(v)),
    "inverse": lambda v: 1.0 / (1.0 + mg.square(v)),
    "negative": lambda v: -v,
    "absolute": mg.abs,
    "scaled": lambda v: 0.7 * v + 0.2,
    "centred": lambda v: v - mg.mean(v, axis=-1, keepdims=True),
    "reversed": lambda v: v[..., ::-1],
    "there and back": lambda v: mg.reshape(mg.reshape(v, (-1,)), v.shape),
    "as columns": lambda v: mg.squeeze(mg.expand_dims(v, -1) * 1.5, -1),
    "turned": lambda v: v.T.T,
    "one by one": lambda v: mg.concat([v[..., k : k + 1] for k in range(v.shape[-1])][::-1], axis=-1),
    "rolled": lambda v: mg.concat(mg.split(v, [1], axis=-1)[::-1], axis=-1),
    "cut off": lambda v: mg.detach(v) + 0.5 * v,
    "clipped": lambda v: mg.clip(v, -0.6, 0.4),
}
TO_ONE: dict[str, Callable[[mg.Tensor], mg.Tensor]] = {
    "mean": lambda v: mg.mean(v, axis=-1, keepdims=True),
    "sum": lambda v: mg.sum(v, axis=-1, keepdims=True),
    "largest": lambda v: mg.max(v, axis=-1, keepdims=True),
    "sum without": lambda v: mg.expand_dims(mg.sum(v, axis=-1), -1),
    "first": lambda v: v[..., 0, None],
}
BINARY: dict[str, Callable[[mg.Tensor, mg.Tensor], mg.Tensor]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: mg.sin(a * b),
    "maximum": mg.maximum,
    "minimum": mg.minimum,
    "divide": lambda a, b: a / (1.0 + mg.square(b)),
    "where": lambda a, b: mg.where(mg.greater(a, b), a, 0.5 * b),
    "where positive": lambda a, b: mg.where(b > 0, a, -a),
}


class Random(mg.Cell):
    """The cell of a program."""

    def __init__(self, states: tuple[int, ...], program: tuple[Instruction, ...], new: Any, sizes: Any) -> None:
        self.states, self.program, self.new = states, program, new
        self.vectors = [mg.Parameter(mg.normal(shape=(n,))) for n in sizes["vectors"]]
        self.matrices = [mg.Parameter(mg.normal(shape=shape, std=0.6)) for shape in sizes["matrices"]]
        self.constants = [mg.normal(shape=(n,)) for n in sizes["constants"]]
        self.features = (sizes["x"],)

    def init_state(self, batch_size: int) -> Any:
        return tuple(mg.zeros((batch_size, n)) for n in self.states)

    def step(self, x: mg.Tensor, state: Any) -> Any:
        values = [x, *state, *self.vectors, *self.constants]
        for operation, taken, detail in self.program:
            values.append(self.apply(operation, [values[number] for number in taken], detail, len(x)))
        y, *new = (self.shaped(values[number], matrix, len(x)) for number, matrix in self.new)
        return y, tuple(new)

    def shaped(self, value: mg.Tensor, matrix: int | None, batch: int) -> mg.Tensor:
        """As it is, or with another size, bounded."""
        value = broadcast(value, batch) if value.ndim == 1 else value
        return value if matrix is None else mg.tanh(value @ self.matrices[matrix])

    def apply(self, operation: str, values: list[mg.Tensor], detail: Any, batch: int) -> mg.Tensor:
        if operation in UNARY:
            return UNARY[operation](*values)
        if operation in TO_ONE:
            return TO_ONE[operation](*values)
        if operation in BINARY:
            return BINARY[operation](*values)
        if operation == "slice":
            return values[0][..., slice(*detail)]
        if operation == "linear":
            matrix, vector = detail
            bias = None if vector is None else self.vectors[vector]
            return mg.sin(mg.linear(values[0], self.matrices[matrix].T, bias))
        if operation == "matmul":
            return mg.sin(broadcast(values[0], batch) @ self.matrices[detail])
        if operation == "back and forth":
            return mg.sin(
                broadcast(values[0], batch) @ self.matrices[detail] @ mg.matrix_transpose(self.matrices[detail])
            )
        if operation == "over the batch":
            return mg.mean(broadcast(values[0], batch), axis=0)
        values = [broadcast(value, batch) for value in values]
        if operation == "concat":
            return mg.concat(values, axis=detail)
        together = mg.stack(values, axis=1)
        return together.mean(axis=1) if detail == "mean" else together[:, detail]


@st.composite
def cells(draw: Any) -> Random:
    """A cell with a program of up to 14 instructions."""
    size = st.integers(1, 4)
    states = tuple(draw(st.lists(size, min_size=1, max_size=3)))
    sizes: dict[str, Any] = {"x": draw(size), "matrices": []}
    sizes["vectors"] = draw(st.lists(size, max_size=2))
    sizes["constants"] = draw(st.lists(size, max_size=1))
    known = [sizes["x"], *states, *sizes["vectors"], *sizes["constants"]]  # the size of each value
    leaf_count = 1 + len(states)

    def matrix(rows: int, columns: int) -> int:
        """One that is there already, or a new one."""
        fitting = [number for number, shape in enumerate(sizes["matrices"]) if shape == (rows, columns)]
        if fitting and draw(st.booleans()):
            return int(draw(st.sampled_from(fitting)))
        sizes["matrices"].append((rows, columns))
        return len(sizes["matrices"]) - 1

    def any_value(fits: Callable[[int], bool] = lambda n: True) -> int:
        """A value, rather a late one."""
        numbers = [number for number, n in enumerate(known) if fits(n)]
        return int(numbers[-1 - draw(st.integers(0, len(numbers) - 1))])

    def instruction() -> tuple[Instruction, int]:
        first = any_value()
        n = known[first]
        more = ["slice", "linear", "matmul", "back and forth", "over the batch", "stack", "concat"]
        kind = draw(st.sampled_from([*UNARY, *TO_ONE, *BINARY, *BINARY, *more, *more]))
        if kind in TO_ONE:
            return (kind, (first,), None), 1
        if kind in BINARY:
            second = any_value(lambda m: m in (n, 1))
            order = (first, second) if draw(st.booleans()) else (second, first)
            return (kind, order, None), n
        if kind == "slice":
            part = slice(draw(st.integers(-n, n - 1)), None, draw(st.sampled_from([1, 1, 2, -1, -2])))
            return (kind, (first,), (part.start, part.stop, part.step)), len(range(n)[part])
        if kind in ("linear", "matmul"):
            columns = draw(size)
            number = matrix(n, columns)
            biases = [None, *(k for k, m in enumerate(sizes["vectors"]) if m == columns)]
            return (kind, (first,), number if kind == "matmul" else (number, draw(st.sampled_from(biases)))), columns
        if kind == "back and forth":
            return (kind, (first,), matrix(n, draw(size))), n
        if kind == "stack":
            others = tuple(any_value(lambda m: m == n) for _ in range(draw(st.integers(1, 2))))
            return (kind, (first, *others), draw(st.sampled_from(["mean", 0, -1]))), n
        if kind == "concat":
            second = any_value()
            if n + known[second] <= 6:
                return (kind, (first, second), draw(st.sampled_from([1, -1]))), n + known[second]
            return ("tanh", (first,), None), n
        return (kind, (first,), None), n

    program = []
    for _ in range(draw(st.sampled_from([6, 3, 9, 12, 14]))):
        made, n = instruction()
        program.append(made)
        known.append(n)

    def chosen(wanted: int) -> tuple[int, int | None]:
        leaves_that_fit = [number for number in range(leaf_count) if known[number] == wanted]
        if leaves_that_fit and draw(st.integers(0, 3)) == 0:
            return draw(st.sampled_from(leaves_that_fit)), None
        number = any_value()
        return number, matrix(known[number], wanted)

    new = ((any_value(), None), *(chosen(n) for n in states))
    return Random(states, tuple(program), new, sizes)


def as_text(cell: Random) -> str:
    names = ["x", *(f"state[{k}]" for k in range(len(cell.states)))]
    names += [f"vector[{k}]" for k in range(len(cell.vectors))] + ["constant"] * len(cell.constants)
    lines = [f"x {cell.features}, states {cell.states}"]
    for operation, taken, detail in cell.program:
        lines.append(f"v{len(lines) - 1} = {operation}({', '.join(names[k] for k in taken)}) {detail or ''}")
        names.append(f"v{len(lines) - 2}")
    lines.append("output, new state = " + ", ".join(f"{names[k]} @ {m}" for k, m in cell.new))
    return "\n".join(lines)


def first_output_and_leaf(ys: Any, last: Any, states: Any) -> Any:
    return weighted(ys[1:2], list(leaves(last))[:1])


pytestmark = [pytest.mark.usefixtures("unwritten_is_nan"), pytest.mark.both_executors]


@pytest.fixture(autouse=True)
def _float64(backend: Any) -> None:
    mg.set_default_dtype("float64")


def made(data: Any) -> Random:
    mg.set_default_dtype("float64")
    mg.seed(0)
    cell: Random = data.draw(cells())
    note(as_text(cell))
    return cell


@pytest.mark.host_only("the arithmetic is that of the tests which run everywhere")
@pytest.mark.parametrize("part", range(4))
def test_a_random_cell(part: int, compiles: bool) -> None:
    compiled = []

    @seed(part)
    @settings(max_examples=125)
    @given(data=st.data(), steps=st.integers(3, 4), batch=st.integers(2, 3), reverse=st.booleans())
    def check(data: Any, steps: int, batch: int, reverse: bool) -> None:
        cell = made(data)
        lengths = data.draw(st.none() | st.lists(st.integers(0, steps), min_size=batch, max_size=batch))
        case = Case(cell, steps, batch, x_grad=data.draw(st.booleans()), state_grad=data.draw(st.booleans()))
        plan, tape = pair(cell, reverse=reverse, checkpoint_every=data.draw(st.sampled_from([None, None, 2])))
        for parameter in cell.parameters():
            parameter.requires_grad = data.draw(st.integers(0, 4)) > 0
        loss = data.draw(st.sampled_from([everything, first_output_and_leaf]))
        expected = run(tape, case, lengths, loss)
        agree(run(plan, case, lengths, loss), expected, rtol=1e-9, atol=1e-9)
        compiled.append(is_compiled(plan))

    check()
    assert (sum(compiled) > len(compiled) / 2) == compiles


@pytest.mark.host_only("the arithmetic is that of the tests which run everywhere")
@given(data=st.data())
def test_a_random_cell_twice_differentiated(data: Any) -> None:
    cell = made(data)
    case = Case(cell, 3, 2)
    found = []
    for layer in pair(cell):
        x, state = case.leaves()
        wanted = [*cell.parameters(), x, *leaves(state)]
        total = everything(*layer(x, state, return_states=True))
        first = mg.grad(mg.sin(total), wanted, create_graph=True)
        slope = weighted(list(first))
        second = mg.grad(slope, wanted) if slope is not None else ()
        found.append([[value.numpy() for value in gradients] for gradients in (first, second)])
    agree(*found, rtol=1e-8, atol=1e-8)


@pytest.mark.host_only("nothing is computed on a backend that matters")
@pytest.mark.one_executor("nothing is run")
def test_every_operation_comes_up() -> None:
    seen: set[str] = set()

    @settings(max_examples=300)
    @given(cell=cells())
    def collect(cell: Random) -> None:
        seen.update(operation for operation, _, _ in cell.program)

    collect()
    more = {"slice", "linear", "matmul", "back and forth", "over the batch", "stack", "concat"}
    assert seen == {*UNARY, *TO_ONE, *BINARY} | more
