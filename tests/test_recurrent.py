"""Recurrent layers of any cell: equal to stepping by hand, equal to unpadded runs, and exact in their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cells_zoo import BUILT_IN, CELLS, H, I, Reading, Substituted, draw_state, draw_x
from gradcheck import check_gradients
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.nest import leaves, map_nest

pytestmark = pytest.mark.both_engines
every_cell = pytest.mark.parametrize("name", CELLS)
both_directions = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
GARBAGE = [float("nan"), float("inf"), 1e30]


def same(found: Any, expected: Any, **tolerance: float) -> None:
    """Whether two nests of tensors have equal values."""
    tolerance = tolerance or {"rtol": 1e-12, "atol": 1e-14}
    map_nest(lambda a, b: np.testing.assert_allclose(a.numpy(), b.numpy(), **tolerance), found, expected)


def total(*nests: Any) -> mg.Tensor:
    """A loss in which every element has a weight of its own."""
    parts = [leaf for nest in nests for leaf in leaves(nest) if leaf.dtype.kind == "f"]
    flat = mg.concat([part.reshape(-1) for part in parts])
    return (flat * mg.cos(mg.arange(flat.size).astype(flat.dtype))).sum()


def with_garbage(x: mg.Tensor, lengths: Any, requires_grad: bool = False) -> mg.Tensor:
    """x with NaN, infinity and huge numbers past each length (the last embedding, for integers)."""
    values = x.numpy().copy()
    for row, length in enumerate(lengths):
        past = values[length:, row]
        past[...] = np.resize(GARBAGE, past.shape) if values.dtype.kind == "f" else 999
    return mg.tensor(values, requires_grad)


# --- a layer is its cell, step by step


@every_cell
@both_directions
def test_a_layer_is_the_loop_over_its_cell(name: str, reverse: bool) -> None:
    mg.set_default_dtype("float64")
    cell = CELLS[name]()
    x, start = draw_x(cell, 4, 2), draw_state(cell, 2)
    ys, last, states = mg.Recurrent(cell, reverse=reverse)(x, start, return_states=True)
    state = start
    for t in (3, 2, 1, 0) if reverse else (0, 1, 2, 3):
        y, state = cell(x[t], state)
        same(ys[t], y)
        same(map_nest(lambda leaf, t=t: leaf[t], states), state)
    same(last, state)


@every_cell
def test_batch_first_is_the_same_transposed(name: str) -> None:
    mg.set_default_dtype("float64")
    cell = CELLS[name]()
    x, start, lengths = draw_x(cell, 4, 3), draw_state(cell, 3), [4, 1, 2]
    swapped = mg.permute_dims(x, (1, 0, *range(2, x.ndim)))
    ys, last, states = mg.Recurrent(cell)(x, start, lengths, return_states=True)
    ys_first, last_first, states_first = mg.Recurrent(cell, batch_first=True)(swapped, start, lengths, True)
    exchange = lambda leaf: mg.permute_dims(leaf, (1, 0, *range(2, leaf.ndim)))  # noqa: E731
    same(ys_first, exchange(ys))
    same(last_first, last)
    same(states_first, map_nest(exchange, states))


@every_cell
def test_two_halves_with_the_state_carried_over_are_the_whole(name: str) -> None:
    mg.set_default_dtype("float64")
    cell = CELLS[name]()
    layer, x = mg.Recurrent(cell), draw_x(cell, 5, 2)
    ys, last = layer(x)
    first, state = layer(x[:2])
    second, state = layer(x[2:], state)
    same(mg.concat([first, second]), ys)
    same(state, last)


@every_cell
def test_each_sequence_of_a_batch_is_on_its_own(name: str) -> None:
    mg.set_default_dtype("float64")
    cell = CELLS[name]()
    layer, x, start = mg.Recurrent(cell), draw_x(cell, 3, 3), draw_state(cell, 3)
    ys, last = layer(x, start)
    for row in range(3):
        ys_row, last_row = layer(x[:, row : row + 1], map_nest(lambda leaf, r=row: leaf[r : r + 1], start))
        same(ys[:, row : row + 1], ys_row)
        same(map_nest(lambda leaf, r=row: leaf[r : r + 1], last), last_row)


# --- padding


def compare_with_unpadded(layer: Any, cell: mg.Cell, x: mg.Tensor, start: Any, lengths: list[int]) -> None:
    """Values and gradients with garbage in the padding, against a run of each sequence cut to its length."""
    floating = not isinstance(cell, Reading)
    steps = x.shape[0]
    start = map_nest(lambda leaf: mg.tensor(leaf, requires_grad=leaf.dtype.kind == "f"), start)
    padded = with_garbage(x, lengths, requires_grad=floating)
    ys, last, states = layer(padded, start, lengths, return_states=True)
    wanted = [*layer.parameters(), *(leaf for leaf in leaves(start) if leaf.requires_grad)]
    found = mg.grad(total(ys, last, states), [*wanted, padded] if floating else wanted)

    begin = map_nest(lambda leaf: mg.tensor(leaf, requires_grad=leaf.dtype.kind == "f"), start)
    cut = mg.tensor(x, requires_grad=floating)
    rows = []
    for row, length in enumerate(lengths):
        part = cut[:length, row : row + 1]
        ys_row, last_row, states_row = layer(part, map_nest(lambda leaf, r=row: leaf[r : r + 1], begin), None, True)
        still = last_row if not getattr(layer, "reverse", False) else begin_of(begin, row)
        rest = steps - length
        states_row = map_nest(lambda s, h, n=rest: mg.concat([s, *[h.reshape((1, *h.shape))] * n]), states_row, still)
        zeros = mg.zeros((rest, *ys_row.shape[1:]))
        rows.append((mg.concat([ys_row, zeros]), last_row, states_row))
    ys_cut = mg.concat([ys_row for ys_row, _, _ in rows], axis=1)
    last_cut = map_nest(lambda *parts: mg.concat(list(parts)), *(last_row for _, last_row, _ in rows))
    states_cut = map_nest(lambda *parts: mg.concat(list(parts), axis=1), *(states_row for *_, states_row in rows))
    same(ys, ys_cut)
    same(last, last_cut)
    same(states, states_cut)
    wanted = [*layer.parameters(), *(leaf for leaf in leaves(begin) if leaf.requires_grad)]
    expected = mg.grad(total(ys_cut, last_cut, states_cut), [*wanted, cut] if floating else wanted)
    same(list(found), list(expected), rtol=1e-10, atol=1e-12)
    for row, length in enumerate(lengths):
        np.testing.assert_array_equal(ys.numpy()[length:, row], 0)
        if floating:
            np.testing.assert_array_equal(found[-1].numpy()[length:, row], 0)


def begin_of(begin: Any, row: int) -> Any:
    return map_nest(lambda leaf: leaf[row : row + 1], begin)


@every_cell
@both_directions
@pytest.mark.parametrize("lengths", [[4, 0, 1, 3], [2, 3, 1, 0]], ids=["to the end", "short of it"])
def test_padding_does_not_matter(name: str, reverse: bool, lengths: list[int]) -> None:
    mg.set_default_dtype("float64")
    cell = CELLS[name]()
    layer = mg.Recurrent(cell, reverse=reverse)
    compare_with_unpadded(layer, cell, draw_x(cell, 4, 4), draw_state(cell, 4), lengths)


@given(data=st.data(), steps=st.integers(1, 5), batch=st.integers(1, 4), name=st.sampled_from(sorted(BUILT_IN)))
def test_any_lengths_are_as_if_unpadded(data: Any, steps: int, batch: int, name: str) -> None:
    mg.set_default_dtype("float64")
    lengths = data.draw(st.lists(st.integers(0, steps), min_size=batch, max_size=batch))
    cell = BUILT_IN[name]()
    layer = mg.Recurrent(cell, reverse=data.draw(st.booleans()))
    compare_with_unpadded(layer, cell, draw_x(cell, steps, batch), draw_state(cell, batch), lengths)


@pytest.mark.parametrize("kind", ["list", "array", "tensor", "int32 tensor", "numpy integers"])
def test_lengths_come_in_any_form(kind: str) -> None:
    layer, x, lengths = mg.GRU(I, H), mg.normal(shape=(4, 3, I)), [2, 4, 0]
    forms = {
        "list": lengths,
        "array": np.array(lengths),
        "tensor": mg.tensor(lengths),
        "int32 tensor": mg.tensor(lengths, dtype="int32"),
        "numpy integers": list(np.array(lengths)),
    }
    given_form, plain = layer(x, lengths=forms[kind]), layer(x, lengths=lengths)
    same(given_form, plain, rtol=0)
    assert np.abs(given_form[0].numpy()[3, 1]).min() > 0


def test_full_lengths_are_no_lengths() -> None:
    layer, x = mg.LSTM(I, H, num_layers=2, bidirectional=True), mg.normal(shape=(4, 3, I))
    same(layer(x, lengths=[4, 4, 4]), layer(x), rtol=0)


# --- gradients


@every_cell
@both_directions
def test_gradients_of_a_layer(name: str, reverse: bool) -> None:
    """First order, to everything, over four steps of two sequences, one of them shorter."""
    mg.set_default_dtype("float64")
    cell = CELLS[name]()
    substituted = Substituted(mg.Recurrent(cell, reverse=reverse))
    count, start = len(substituted.names), draw_state(cell, 2, requires_grad=True)
    x = draw_x(cell, 4, 2, requires_grad=not isinstance(cell, Reading))

    def run(*tensors: mg.Tensor) -> mg.Tensor:
        rest = iter(tensors[count + 1 :])
        state = map_nest(lambda leaf: next(rest), start)
        ys, last = substituted(tensors[:count], tensors[count], state, lengths=[4, 3])
        return mg.concat([ys.reshape(-1), *(leaf.reshape(-1) for leaf in leaves(last) if leaf.dtype.kind == "f")])

    check_gradients(run, *substituted.parameters(), x, *leaves(start), order=1)


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru", "gru-reset-before", "NestedState", "Starting"])
def test_second_gradients_of_a_layer(name: str) -> None:
    mg.set_default_dtype("float64")
    cell = CELLS[name]()
    substituted = Substituted(mg.Recurrent(cell, reverse=True))
    count = len(substituted.names)

    def run(*tensors: mg.Tensor) -> mg.Tensor:
        return substituted(tensors[:count], tensors[count], lengths=[3, 2])[0]

    check_gradients(run, *substituted.parameters(), draw_x(cell, 3, 2, requires_grad=True))


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_gradients_of_a_stack_of_bidirectional_layers(name: str) -> None:
    mg.set_default_dtype("float64")
    layer = mg.recurrent(name, I, 2, num_layers=2, bidirectional=True, learn_initial_state=True)
    substituted = Substituted(layer)
    count = len(substituted.names)
    assert sum("initial_state" in parameter for parameter in substituted.names) == (8 if name == "lstm" else 4)

    def run(*tensors: mg.Tensor) -> mg.Tensor:
        ys, last = substituted(tensors[:count], tensors[count], lengths=[3, 2])
        return mg.concat([ys.reshape(-1), *(leaf.reshape(-1) for leaf in leaves(last))])

    check_gradients(run, *substituted.parameters(), mg.tensor(mg.normal(shape=(3, 2, I)), True), order=1)


def test_a_gradient_reaches_the_first_step_from_the_last() -> None:
    """No step of a long sequence loses its part: with h' = h + x each x has the gradient 1."""

    class Sum(mg.Cell):
        def init_state(self, batch_size: int) -> Any:
            return mg.zeros((batch_size, 1))

        def step(self, x: mg.Tensor, state: Any) -> Any:
            return state + x, state + x

    x = mg.ones((3000, 2, 1), requires_grad=True)
    _, last = mg.Recurrent(Sum())(x, lengths=[3000, 1])
    last.sum().backward()
    expected = np.ones((3000, 2, 1))
    expected[1:, 1] = 0
    np.testing.assert_array_equal(x.grad.numpy(), expected)
