"""Recurrent layers at their edges: empty and single batches and sequences, what they leave alone, and bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cells_zoo import CELLS, H, I, Reading, draw_state, draw_x

import minigrad as mg
from minigrad.nest import leaves, map_nest

pytestmark = pytest.mark.both_engines
every_cell = pytest.mark.parametrize("name", CELLS)


def same(found: Any, expected: Any) -> None:
    """Equal up to the order in which a compiled step adds."""
    map_nest(lambda a, b: np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6, atol=1e-7), found, expected)


# --- sizes


@every_cell
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_no_steps_give_the_state_back(name: str, batch_first: bool, reverse: bool) -> None:
    cell = CELLS[name]()
    layer = mg.Recurrent(cell, reverse=reverse, batch_first=batch_first)
    axes, one = ((3, 0), (3, 1)) if batch_first else ((0, 3), (1, 3))
    start = draw_state(cell, 3)
    ys, last, states = layer(draw_x(cell, *axes), start, return_states=True)
    same(last, start)
    longer, _, longer_states = layer(draw_x(cell, *one), start, return_states=True)
    assert ys.shape == (*axes, *longer.shape[2:])
    assert ys.dtype == longer.dtype
    for none, some in zip(leaves(states), leaves(longer_states), strict=True):
        assert none.shape == (*axes, *some.shape[2:])
        assert none.dtype == some.dtype


@every_cell
@pytest.mark.parametrize("reverse", [False, True])
def test_lengths_of_zero_give_zeros_and_the_state_back(name: str, reverse: bool) -> None:
    cell = CELLS[name]()
    layer, start = mg.Recurrent(cell, reverse=reverse), draw_state(cell, 2)
    ys, last, states = layer(draw_x(cell, 3, 2), start, lengths=[0, 0], return_states=True)
    np.testing.assert_array_equal(ys.numpy(), np.zeros((3, 2, layer(draw_x(cell, 1, 2))[0].shape[2])))
    same(last, start)
    for t in range(3):
        same(map_nest(lambda leaf, t=t: leaf[t], states), start)


@every_cell
@pytest.mark.parametrize("lengths", [None, []])
def test_an_empty_batch_stays_empty_and_has_gradients_of_zero(name: str, lengths: Any) -> None:
    cell = CELLS[name]()
    layer = mg.Recurrent(cell)
    ys, last = layer(draw_x(cell, 3, 0), lengths=lengths)
    assert ys.shape == (3, 0, layer(draw_x(cell, 1, 2))[0].shape[2])
    assert [leaf.shape[0] for leaf in leaves(last)] == [0] * len(list(leaves(last)))
    if lengths is None and ys.requires_grad:
        ys.sum().backward()
        for key, parameter in cell.named_parameters():
            if key != "start":  # a learned initial state is not used by the output of each cell
                np.testing.assert_array_equal(parameter.grad.numpy(), np.zeros(parameter.shape))


@every_cell
def test_one_step_of_one_sequence_is_the_cell(name: str) -> None:
    cell = CELLS[name]()
    x, start = draw_x(cell, 1, 1), draw_state(cell, 1)
    for reverse in (False, True):
        ys, last = mg.Recurrent(cell, reverse=reverse)(x, start, lengths=[1])
        y, state = cell(x[0], start)
        same((ys[0], last), (y, state))


# --- what a layer keeps and leaves alone


@every_cell
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_dtype_is_kept(name: str, dtype: str) -> None:
    cell = CELLS[name]().to(dtype=dtype)
    layer = mg.Bidirectional(cell, merge="mean")
    with mg.default_dtype(dtype):
        x = draw_x(cell, 4, 3, requires_grad=not isinstance(cell, Reading))
    ys, last, states = layer(x, lengths=[4, 2, 0], return_states=True)
    assert ys.dtype == dtype
    assert {leaf.dtype.name for leaf in leaves((last, states))} <= {dtype, "int64"}
    ys.sum().backward()
    gradients = [leaf.grad for leaf in (*layer.parameters(), x) if leaf.requires_grad]
    assert gradients
    assert {gradient.dtype.name for gradient in gradients} == {dtype}


@every_cell
def test_inputs_are_not_changed(name: str) -> None:
    cell = CELLS[name]()
    x, start, lengths = draw_x(cell, 4, 2), draw_state(cell, 2), np.array([1, 4])
    before = x.numpy().copy(), [leaf.numpy().copy() for leaf in leaves(start)]
    ys, _ = mg.Recurrent(cell, reverse=True)(x, start, lengths)
    if ys.requires_grad:
        ys.sum().backward()
    np.testing.assert_array_equal(x.numpy(), before[0])
    for leaf, values in zip(leaves(start), before[1], strict=True):
        np.testing.assert_array_equal(leaf.numpy(), values)
    np.testing.assert_array_equal(lengths, [1, 4])


def test_x_may_be_a_view_of_any_strides() -> None:
    layer = mg.LSTM(I, H)
    wide = mg.normal(shape=(I, 6, 8))
    view = mg.permute_dims(wide, (2, 1, 0))[::-2, 1::2]
    plain = mg.tensor(np.ascontiguousarray(view.numpy()))
    same(layer(view, lengths=[4, 1, 2]), layer(plain, lengths=[4, 1, 2]))


def test_bare_data_will_do() -> None:
    layer = mg.GRU(2, H)
    rows = [[[0.1, 0.2]], [[0.3, 0.4]]]
    same(layer(rows), layer(mg.tensor(rows)))
    same(layer(np.array(rows)), layer(mg.tensor(rows)))
    start = [[0.5] * H]
    same(layer(rows, start), layer(mg.tensor(rows), mg.tensor(start)))


def test_nothing_is_hidden_in_a_layer_between_two_runs() -> None:
    layer, x = mg.LSTM(I, H, num_layers=2, bidirectional=True), mg.normal(shape=(4, 2, I))
    first = layer(x)
    layer(mg.normal(shape=(3, 5, I)))
    same(layer(x), first)


def test_no_grad_gives_the_same_values_and_keeps_no_history() -> None:
    layer, x = mg.GRU(I, H), mg.normal(shape=(4, 2, I))
    with mg.no_grad():
        ys, last = layer(x, lengths=[4, 2])
    assert not ys.requires_grad
    assert ys.node is None
    assert last.node is None
    same((ys, last), layer(x, lengths=[4, 2]))


# --- bad input

LAYERS = {
    "Recurrent": lambda: mg.LSTM(I, H),
    "Bidirectional": lambda: mg.LSTM(I, H, bidirectional=True),
    "Stack": lambda: mg.LSTM(I, H, num_layers=2),
}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (lambda: mg.ones((4, 3, 5)), r"LSTMCell has input_size 2, so x has the shape \(T, B, 2\); this is \(4, 3, 5\)"),
        (lambda: mg.ones((4, I)), r"so x has the shape \(T, B, 2\); this is \(4, 2\)"),
        (lambda: mg.ones((4, 3, 1, I)), r"so x has the shape \(T, B, 2\); this is \(4, 3, 1, 2\)"),
        (lambda: mg.ones(4), r"LSTMCell takes x of shape \(T, B, \.\.\.\); this is \(4,\)"),
        (lambda: mg.ones((4, 3, I), dtype="float64"), r"x is float64, the parameters of LSTMCell are float32"),
        (lambda: mg.ones((4, 3, I), dtype="int64"), r"LSTMCell takes floating-point x; this is int64"),
        (lambda: [[[1.0, 2.0]], [[1.0]]], r"cannot make an array of \[\[\[1\.0, 2\.0\]\], \[\[1\.0\]\]\]"),
    ],
)
def test_a_bad_x_is_told(layer: str, x: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        LAYERS[layer]()(x())


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([5, 1, 1], r"lengths\[0\] is 5; it must be in 0\.\.4, the steps of x"),
        ([1, -1, 1], r"lengths\[1\] is -1; it must be in 0\.\.4"),
        ([1, 2], r"lengths must have 3 entries, one per sequence of x; its shape is \(2,\)"),
        ([[1, 2, 3]], r"lengths must have 3 entries.*its shape is \(1, 3\)"),
        (4, r"lengths must have 3 entries.*its shape is \(\)"),
        ([], r"lengths must have 3 entries.*its shape is \(0,\)"),
        ([1.0, 2.5, 3.0], r"lengths must be integers; these are float32"),
        ([float("nan"), 1, 1], r"lengths must be integers; these are float32"),
        ([True, False, True], r"lengths must be integers; these are bool"),
        ("abc", r"cannot make an array of 'abc'"),
        ([1, None, 1], r"cannot make an array of \[1, None, 1\]"),
    ],
)
@pytest.mark.parametrize("form", ["bare", "tensor"])
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.one_engine("it is told before an engine is chosen")
def test_bad_lengths_are_told(layer: str, lengths: Any, message: str, form: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        LAYERS[layer]()(mg.ones((4, 3, I)), lengths=mg.tensor(lengths) if form == "tensor" else lengths)


@pytest.mark.parametrize(
    ("layer", "state", "message"),
    [
        (
            "Recurrent",
            lambda h: h,
            r"state must be built like init_state's, \(Tensor\[3, 3\], .*this is Tensor\[3, 3\]",
        ),
        (
            "Recurrent",
            lambda h: (h[:1], h[:1]),
            r"state must be built like.*this is \(Tensor\[1, 3\], Tensor\[1, 3\]\)",
        ),
        ("Recurrent", lambda h: (h, h.astype("float64")), r"state is float64 where init_state's is float32"),
        ("Bidirectional", lambda h: h, r"state of Bidirectional is a tuple of 2, \(forward, backward\); got Tensor"),
        ("Bidirectional", lambda h: ((h, h),), r"Bidirectional is a tuple of 2.*got \(\(Tensor"),
        ("Bidirectional", lambda h: (h, h), r"state must be built like init_state's.*this is Tensor\[3, 3\]"),
        ("Stack", lambda h: ((h, h),) * 3, r"state of Stack is a tuple of 2, one entry per layer; got"),
        ("Stack", lambda h: {0: h, 1: h}, r"state of Stack is a tuple of 2.*got \{0: Tensor"),
        ("Stack", lambda h: ((h, h), (h,)), r"state must be built like init_state's.*this is \(Tensor\[3, 3\],\)"),
    ],
)
@pytest.mark.one_engine("it is told before an engine is chosen")
def test_a_bad_state_is_told(layer: str, state: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        LAYERS[layer]()(mg.ones((4, 3, I)), state(mg.zeros((3, H))))


def cell() -> mg.Cell:
    return mg.GRUCell(I, H)


def layer() -> mg.Recurrent:
    return mg.Recurrent(cell())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mg.Recurrent(layer()), r"cell must be a cell, not Recurrent: layers are combined with mg\.Stack"),
        (lambda: mg.Recurrent(mg.Linear(2, 2)), r"cell must be a cell, not Linear: subclass mg\.Cell"),
        (lambda: mg.Recurrent(mg.GRUCell), r"cell must be a cell, not the class GRUCell itself"),
        (lambda: mg.Recurrent("gru"), r"cell must be a cell, not str"),
        (lambda: mg.Recurrent(cell(), engine="fast"), r"engine is one of \(.*'tape'.*\), not 'fast'"),
        (lambda: mg.Bidirectional(layer()), r"cell must be a cell, not Recurrent"),
        (lambda: mg.Bidirectional(cell(), layer()), r"backward_cell must be a cell, not Recurrent"),
        (lambda: mg.Bidirectional(cell(), merge="max"), r"merge is one of 'concat', 'sum', 'mean', .*; not 'max'"),
        (lambda: mg.Bidirectional(cell(), engine="fast"), r"engine is one of .*not 'fast'"),
        (lambda: mg.Stack(layer(), cell()), r"argument 1 is GRUCell \(wrap a cell: mg\.Recurrent\(cell\)\)"),
        (lambda: mg.Stack(mg.Linear(2, 2)), r"Stack takes recurrent layers; argument 0 is Linear"),
        (lambda: mg.Stack([layer()]), r"Stack takes recurrent layers; argument 0 is list"),
        (lambda: mg.Stack(), r"Stack needs at least one layer"),
        (lambda: mg.Stack(layer(), dropout=1.5), r"dropout is a probability in \[0, 1\]; got 1\.5"),
        (lambda: mg.Stack(layer(), dropout=-0.1), r"dropout is a probability in \[0, 1\]; got -0\.1"),
        (lambda: mg.Stack(layer(), dropout=float("nan")), r"dropout is a probability in \[0, 1\]; got nan"),
        (lambda: mg.Stack(layer(), mg.Recurrent(cell(), batch_first=True)), r"must have the same batch_first"),
        (lambda: mg.recurrent("gru", I, H, num_layers=0), r"num_layers must be at least 1; got 0"),
        (lambda: mg.recurrent("gru", I, H, num_layers=1.5), r"num_layers .* got 1\.5"),
        (lambda: mg.recurrent("gru", I, H, dropout=2), r"dropout is a probability in \[0, 1\]; got 2"),
        (lambda: mg.recurrent("gru", -I, H), r"input_size is a number of elements.*got -2"),
        (lambda: mg.recurrent("gru", I, -H), r"hidden_size is a number of elements.*got -3"),
        (lambda: mg.recurrent("gruu", I, H), r"gruu"),
    ],
)
@pytest.mark.one_engine("it is told before an engine is chosen")
def test_bad_options_are_told(make: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError, mg.UnknownNameError), match=message):
        make()


def test_layers_whose_sizes_differ_are_told() -> None:
    stack = mg.Stack(mg.Recurrent(mg.GRUCell(I, H)), mg.Recurrent(mg.LSTMCell(H + 1, H)))
    with pytest.raises(ValueError, match=r"LSTMCell has input_size 4, so x has the shape .*; this is \(2, 1, 3\)"):
        stack(mg.ones((2, 1, I)))


def test_a_state_without_a_batch_axis_is_told_once_lengths_need_it() -> None:
    class Clock(mg.Cell):
        def init_state(self, batch_size: int) -> Any:
            return mg.zeros(())

        def step(self, x: mg.Tensor, state: Any) -> Any:
            return x * state, state + 1

    ys, last = mg.Recurrent(Clock())(mg.ones((3, 2, 1)))
    np.testing.assert_array_equal(ys.numpy()[:, 0, 0], [0, 1, 2])
    assert last.item() == 3
    with pytest.raises(ValueError, match=r"with lengths, .* state have the batch first; this one has shape \(\)"):
        mg.Recurrent(Clock())(mg.ones((3, 2, 1)), lengths=[3, 1])
