"""`Bidirectional` and `Stack`: merges, shared and different cells, dropout, learned initial states, `recurrent`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cells_zoo import BUILT_IN, CELLS, DictState, H, I, NestedState, draw_x

import minigrad as mg
from minigrad.nest import leaves, map_nest

pytestmark = pytest.mark.both_engines


def same(found: Any, expected: Any) -> None:
    map_nest(lambda a, b: np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6, atol=1e-7), found, expected)


# --- Bidirectional

MERGES: dict[str, Any] = {
    "concat": lambda a, b: mg.concat([a, b], axis=-1),
    "sum": lambda a, b: a + b,
    "mean": lambda a, b: (a + b) / 2,
}


def gate(ahead: mg.Tensor, back: mg.Tensor) -> mg.Tensor:
    return ahead * mg.sigmoid(back)


@pytest.mark.parametrize("merge", [*MERGES, gate])
@pytest.mark.parametrize("name", CELLS)
def test_it_is_one_layer_ahead_and_one_back(name: str, merge: Any) -> None:
    cell, other = CELLS[name](), CELLS[name]()
    x, lengths = draw_x(cell, 4, 3), [2, 4, 0]
    ys, state, states = mg.Bidirectional(cell, other, merge=merge)(x, lengths=lengths, return_states=True)
    ahead, state_ahead, states_ahead = mg.Recurrent(cell)(x, None, lengths, True)
    back, state_back, states_back = mg.Recurrent(other, reverse=True)(x, None, lengths, True)
    same(ys, MERGES.get(merge, merge)(ahead, back))
    same(state, (state_ahead, state_back))
    same(states, (states_ahead, states_back))
    assert np.abs(ahead.numpy() - back.numpy()).max() > 1e-3


def test_each_direction_takes_its_own_state() -> None:
    layer, x = mg.Bidirectional(mg.LSTMCell(I, H)), mg.normal(shape=(4, 2, I))
    start = map_nest(lambda leaf: mg.normal(shape=leaf.shape), layer.init_state(2))
    ys, (ahead, back) = layer(x, start)
    ys_ahead, state_ahead = layer.forward_layer(x, start[0])
    ys_back, state_back = layer.backward_layer(x, start[1])
    same((ys, ahead, back), (mg.concat([ys_ahead, ys_back], axis=-1), state_ahead, state_back))


def test_the_cells_may_differ() -> None:
    layer = mg.Bidirectional(mg.LSTMCell(I, H), mg.GRUCell(I, 5))
    ys, ((h, c), g) = layer(mg.normal(shape=(4, 2, I)))
    assert ys.shape == (4, 2, H + 5)
    same((ys[3, :, :H], ys[0, :, H:]), (h, g))
    assert c.shape == h.shape


@pytest.mark.one_engine("no layer runs")
def test_the_other_cell_is_made_alike_with_weights_of_its_own() -> None:
    layer = mg.Bidirectional(mg.GRUCell(I, H, bias=False, reset_after=False, recurrent_init="orthogonal"))
    ahead, back = layer.forward_layer.cell, layer.backward_layer.cell
    assert back.reset_after is False
    assert back.bias_ih is None
    hh = back.weight_hh.numpy().reshape(3, H, H)
    np.testing.assert_allclose(hh @ hh.swapaxes(1, 2), np.broadcast_to(np.eye(H), hh.shape), atol=1e-6)
    assert len(list(layer.parameters())) == 4
    assert np.abs(ahead.weight_ih.numpy() - back.weight_ih.numpy()).min() > 0


def test_the_other_cell_has_the_dtype_of_the_first() -> None:
    layer = mg.Bidirectional(mg.GRUCell(I, H).to(dtype="float64"), learn_initial_state=True)
    assert {parameter.dtype.name for parameter in layer.parameters()} == {"float64"}
    assert layer(mg.ones((2, 1, I), dtype="float64"))[0].dtype == "float64"


def test_one_cell_for_both_directions_shares_its_weights() -> None:
    cell = mg.RNNCell(I, H)
    layer, x = mg.Bidirectional(cell, cell), mg.normal(shape=(4, 2, I))
    assert len(list(layer.parameters())) == 4
    assert list(layer.state_dict()) == [f"forward_layer.cell.{name}" for name in cell.state_dict()]
    ys, _ = layer(x)
    mirrored, _ = layer(mg.flip(x, 0))
    same(mg.flip(mirrored, 0), mg.concat([ys[:, :, H:], ys[:, :, :H]], axis=-1))
    ys.sum().backward()
    shared = cell.weight_ih.grad.numpy().copy()
    apart = mg.Bidirectional(cell, other := cell.clone())
    other.load_state_dict(cell.state_dict())
    apart.zero_grad()
    apart(x)[0].sum().backward()
    np.testing.assert_allclose(shared, (cell.weight_ih.grad + other.weight_ih.grad).numpy(), rtol=1e-5, atol=1e-6)
    assert len(list(layer.clone().parameters())) == 4


# --- Stack


def test_the_outputs_of_each_layer_are_the_inputs_of_the_next() -> None:
    layers = [mg.Recurrent(mg.LSTMCell(I, H)), mg.Bidirectional(DictState(H, 2)), mg.Recurrent(mg.GRUCell(4, 2))]
    x, lengths = mg.normal(shape=(4, 3, I)), [2, 4, 0]
    ys, state, states = mg.Stack(*layers)(x, lengths=lengths, return_states=True)
    rests = []
    for layer in layers:
        x, *rest = layer(x, None, lengths, True)
        rests.append(rest)
    same(ys, x)
    same((state, states), tuple(zip(*rests, strict=True)))


def test_a_stack_in_a_stack_is_a_longer_stack() -> None:
    a, b, c = (mg.Recurrent(mg.GRUCell(I, I)) for _ in range(3))
    x = mg.normal(shape=(4, 2, I))
    ys, ((s_a, s_b), s_c) = mg.Stack(mg.Stack(a, b), c)(x)
    same((ys, (s_a, s_b, s_c)), mg.Stack(a, b, c)(x))


def test_a_stack_carries_its_state() -> None:
    stack, x = mg.LSTM(I, H, num_layers=3), mg.normal(shape=(5, 2, I))
    first, state = stack(x[:2])
    second, state = stack(x[2:], state)
    same((mg.concat([first, second]), state), stack(x))


@pytest.mark.parametrize("layers", [1, 3])
def test_dropout_is_between_layers_only_and_only_in_training(layers: int) -> None:
    """With p = 1 nothing passes from one layer to the next: those above the first see zeros."""
    stack = mg.GRU(I, H, num_layers=3, dropout=1.0) if layers == 3 else mg.Stack(mg.GRU(I, H), dropout=1.0)
    x = mg.normal(shape=(4, 2, I))
    ys, state = stack(x)
    if layers == 3:
        silent, silent_state = stack.layers[2](mg.zeros((4, 2, H)))
        same((ys, state[2]), (silent, silent_state))
        same(state[0], stack.layers[0](x)[1])
    else:
        same((ys, state[0]), stack.layers[0](x))
    evaluated, _ = stack.eval()(x)
    expected = x
    for layer in stack.layers:
        expected, _ = layer(expected)
    same(evaluated, expected)
    assert np.abs(evaluated.numpy() - ys.numpy()).max() > 1e-3 or layers == 1


def test_dropout_zeroes_its_share_and_scales_the_rest() -> None:
    class Identity(mg.Cell):
        def init_state(self, batch_size: int) -> Any:
            return ()

        def step(self, x: mg.Tensor, state: Any) -> Any:
            return x, state

    stack = mg.Stack(mg.Recurrent(Identity()), mg.Recurrent(Identity()), dropout=0.3)
    x = mg.ones((50, 20, 40), requires_grad=True)
    ys, _ = stack(x)
    values = ys.numpy()
    np.testing.assert_allclose(np.unique(values), [0, np.float32(1 / 0.7)])
    assert abs((values == 0).mean() - 0.3) < 0.01
    assert len({column.tobytes() for column in values[:, 0, :]}) == 50  # a mask of its own at every step
    ys.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), values)  # the mask of the forward run


def test_one_seed_gives_one_run() -> None:
    def run(seed: int) -> Any:
        mg.seed(seed)
        stack = mg.LSTM(I, H, num_layers=2, dropout=0.5)
        return stack(mg.normal(shape=(4, 2, I)))[0].numpy()

    np.testing.assert_array_equal(run(3), run(3))
    assert np.abs(run(3) - run(4)).max() > 1e-3


# --- learned initial states


@pytest.mark.parametrize("name", CELLS)
def test_a_learned_initial_state_is_a_parameter_per_leaf(name: str) -> None:
    cell = CELLS[name]()
    layer = mg.Recurrent(cell, learn_initial_state=True)
    fresh = {id(p) for p in layer.parameters()} - {id(p) for p in cell.parameters()}
    floating = [leaf for leaf in leaves(cell.init_state(1)) if leaf.dtype.kind == "f"]
    assert len(fresh) == len(floating)
    x = draw_x(cell, 3, 2)
    same(layer(x), mg.Recurrent(cell)(x))
    own = [leaf for leaf in leaves(layer.initial_state) if isinstance(leaf, mg.Parameter)]
    for leaf in own:
        assert leaf.name.startswith("Recurrent.initial_state")
        leaf.data = leaf.backend.asarray(np.full(leaf.shape, 0.5, dtype="float32"))
    start = map_nest(lambda leaf: mg.full(leaf.shape, 0.5) if leaf.dtype.kind == "f" else leaf, cell.init_state(2))
    ys, last = layer(x)
    same((ys, last), mg.Recurrent(cell)(x, start))
    sum((leaf.sum() for leaf in leaves(last) if leaf.requires_grad), ys.sum()).backward()
    assert all(leaf.grad is not None and np.abs(leaf.grad.numpy()).max() > 0 for leaf in own)


def test_a_learned_initial_state_has_the_dtype_of_the_cell() -> None:
    layer = mg.Recurrent(mg.LSTMCell(I, H).to(dtype="float64"), learn_initial_state=True)
    assert [leaf.dtype.name for leaf in layer.initial_state] == ["float64"] * 2
    assert layer(mg.ones((2, 1, I), dtype="float64"))[0].dtype == "float64"


# --- recurrent(name, ...)


@pytest.mark.parametrize(("name", "make"), [("rnn", mg.RNN), ("lstm", mg.LSTM), ("gru", mg.GRU)])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("num_layers", [1, 3])
def test_layers_by_name(name: str, make: Any, bidirectional: bool, num_layers: int) -> None:
    mg.seed(5)
    layer = mg.recurrent(name, I, H, num_layers=num_layers, bidirectional=bidirectional, batch_first=True)
    mg.seed(5)
    same_layer = make(I, H, num_layers, bidirectional=bidirectional, batch_first=True)
    x = mg.normal(shape=(2, 4, I))
    same(layer(x), same_layer(x))
    assert list(layer.state_dict()) == list(same_layer.state_dict())
    assert layer(x)[0].shape == (2, 4, H * (2 if bidirectional else 1))
    directions = num_layers * (2 if bidirectional else 1)
    cells = [module for _, module in layer.named_modules() if isinstance(module, mg.Cell)]
    assert [type(cell) for cell in cells] == [type(BUILT_IN[name]())] * directions


@pytest.mark.one_engine("no layer runs")
def test_cell_options_reach_every_cell() -> None:
    layer = mg.GRU(I, H, num_layers=2, bidirectional=True, bias=False, reset_after=False)
    cells = [module for _, module in layer.named_modules() if isinstance(module, mg.GRUCell)]
    assert [(cell.reset_after, cell.bias_hh) for cell in cells] == [(False, None)] * 4


def test_a_cell_says_how_large_its_output_is() -> None:
    layer = mg.Recurrent(NestedState())
    assert layer(mg.ones((4, 3, I)))[0].shape == (4, 3, NestedState.output_size)


@pytest.mark.one_engine("no layer runs")
def test_layers_explain_themselves() -> None:
    text = mg.LSTM(I, H, num_layers=2, bidirectional=True).explain()
    assert text.count("LSTMCell") == 4
    for word in ("layer 0", "layer 1", "forward", "backward"):
        assert word in text
