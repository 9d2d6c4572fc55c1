"""Around strangers' cells and around each other, in both engines; sizes; and input that does not fit."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import odd_cells
import pytest
from minigrad_regularizers import Highway, RecurrentDropout, Residual, VariationalDropout, Zoneout

import minigrad as mg

WRAPPERS = {
    "zoneout": lambda cell: Zoneout(cell, 0.3),
    "variational_dropout": lambda cell: VariationalDropout(cell, 0.3, 0.3),
    "recurrent_dropout": lambda cell: RecurrentDropout(cell, 0.3),
    "residual": Residual,
    "highway": Highway,
}
each = pytest.mark.parametrize("name", WRAPPERS)


def runs(layer, x, engine):
    """Outputs, the last state and all gradients, with the same random numbers."""
    for _, part in layer.named_modules():
        if isinstance(part, mg.Recurrent):
            part.engine = engine
    mg.seed(3)
    x = mg.tensor(x, requires_grad=True)
    layer.zero_grad()
    ys, state = layer(x, lengths=[5, 2, 4])
    mg.square(ys + 0.3).sum().backward()
    state = mg.nest.map_nest(lambda _, leaf: leaf, layer.init_state(3), state)  # in one order of keys
    leaves = [leaf.numpy() for leaf in mg.nest.leaves(state)]
    return [ys.numpy(), *leaves, x.grad.numpy(), *(p.grad.numpy() for p in layer.parameters() if p.grad is not None)]


def assert_engines_agree(layer, size):
    x = np.random.default_rng(0).standard_normal((5, 3, size))
    by_plan, by_tape = runs(layer, x, "plan"), runs(layer, x, "tape")
    assert len(by_plan) == len(by_tape)
    for found, wanted in zip(by_plan, by_tape, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)
    runs(layer, x, "auto")
    layers = [part for _, part in layer.named_modules() if isinstance(part, mg.Recurrent)]
    assert layer.explain().count(": engine plan.\nThe latest run was of this program") == len(layers)


@each
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("cell", odd_cells.CELLS)
def test_strangers_cells_run_through_the_plan(name, cell, training):
    assert_engines_agree(mg.Recurrent(WRAPPERS[name](cell())).train(training), odd_cells.SIZE)


@each
@pytest.mark.parametrize("outer", WRAPPERS)
@pytest.mark.parametrize("training", [True, False])
def test_around_each_other(name, outer, training):
    cell = WRAPPERS[outer](WRAPPERS[name](mg.LSTMCell(4, 4)))
    assert_engines_agree(mg.Recurrent(cell).train(training), 4)


@each
def test_in_both_directions_and_stacked(name):
    def cell():
        return WRAPPERS[name](mg.GRUCell(4, 4))

    layer = mg.Stack(mg.Bidirectional(cell(), merge="sum"), mg.Recurrent(cell(), reverse=True), dropout=0.2)
    ahead, back = layer.layers[0].forward_layer.cell, layer.layers[0].backward_layer.cell
    assert type(back) is type(ahead)
    assert (back.cell.weight_ih.numpy() != ahead.cell.weight_ih.numpy()).any()
    assert_engines_agree(layer, 4)


@pytest.mark.parametrize("name", ["zoneout", "recurrent_dropout"])
def test_what_must_not_be_mixed_is_left_alone(name):
    cell = WRAPPERS[name](odd_cells.Nested())
    ys, state = mg.Recurrent(cell)(np.ones((5, 2, 3)))
    np.testing.assert_array_equal(state["count"].numpy(), [5, 5])
    assert ys.shape == (5, 2, 3)
    both = WRAPPERS[name](VariationalDropout(mg.GRUCell(3, 3), 0.5, 0.5)).eval()
    masks = [mg.tensor([[0.0, 2.0, 2.0]]), mg.tensor([[2.0, 0.0, 2.0]])]
    _, (_, after) = both(mg.ones((1, 3)), (mg.zeros((1, 3)), masks))
    assert all(found is given for found, given in zip(after, masks, strict=True))


def test_rates_by_name_and_for_whole_branches():
    cell = Zoneout(odd_cells.Nested(), rate={"count": 0.5, "both": (1.0, 0.0)})
    _, state = mg.Recurrent(cell)(np.ones((3, 2, 3)))
    np.testing.assert_array_equal(state["both"][0].numpy(), 0)
    assert (state["both"][1].numpy() != 0).all()
    cell = Zoneout(odd_cells.Nested(), rate={"both": 1.0, "count": 1.0})
    _, state = mg.Recurrent(cell)(np.ones((3, 2, 3)))
    np.testing.assert_array_equal(state["both"][1].numpy(), 0)
    np.testing.assert_array_equal(state["count"].numpy(), 3)
    _, state = mg.Recurrent(Zoneout(odd_cells.Named(), rate=(1.0, 0.0)))(np.ones((3, 2, 3)))
    np.testing.assert_array_equal(state.fast.numpy(), 0)
    assert (state.slow.numpy() != 0).all()


class Swapping(odd_cells.Odd):
    """A dict whose keys come back in another order."""

    def init_state(self, batch_size):
        return {"a": self.zeros(batch_size), "b": self.zeros(batch_size)}

    def step(self, x, state):
        return mg.concat([state["a"], state["b"]], axis=-1), {"b": x * 1.0, "a": x * 1.0}


def test_masks_belong_to_names_whatever_the_order_of_keys():
    layer = mg.Recurrent(VariationalDropout(Swapping(), {"a": 0.5, "b": 0.9}, 0), engine="tape")
    ys, (_, masks) = layer(np.ones((4, 2, 3)))
    for t in range(1, 4):
        np.testing.assert_array_equal(ys.numpy()[t], np.concatenate([mask.numpy() for mask in masks], axis=-1))
    assert {*np.unique(masks[0].numpy())} <= {0.0, 2.0}
    ys, _ = mg.Recurrent(Zoneout(Swapping(), {"a": 1.0, "b": 0.0}), engine="tape")(np.ones((4, 2, 3)))
    np.testing.assert_array_equal(ys.numpy()[3], np.tile([0, 0, 0, 1, 1, 1], (2, 1)))


@each
def test_by_name_with_the_sizes_of_the_cell(name):
    cell = mg.wrapper(name, mg.LSTMCell(4, 4))
    assert type(cell) is type(WRAPPERS[name](mg.LSTMCell(4, 4)))
    assert (cell.input_size, cell.hidden_size) == (4, 4)
    assert not hasattr(cell, "output_size")
    if name not in ("residual", "highway"):
        assert mg.wrapper(name, odd_cells.Echo()).output_size == 9
        assert not hasattr(mg.wrapper(name, odd_cells.Silent()), "hidden_size")
    with pytest.raises(ValueError, match=f"{type(cell).__name__} has input_size 4"):
        mg.Recurrent(cell)(np.ones((2, 1, 3)))


def test_the_gate_of_a_highway_is_in_the_dtype_of_the_cell():
    cell = mg.GRUCell(4, 4).to(dtype="float32")
    assert {str(p.dtype) for p in Highway(cell).parameters()} == {"float32"}


def test_a_cell_without_sizes():
    assert VariationalDropout(odd_cells.Silent()).input_p == 0
    assert VariationalDropout(mg.RNNCell(np.int64(3), 3)).input_p == 0.25
    for wrap in (Zoneout, VariationalDropout, RecurrentDropout, Residual):
        assert_engines_agree(mg.Recurrent(wrap(odd_cells.Silent())), odd_cells.SIZE)


class Letters(mg.Cell):
    """Integers in."""

    input_size = 4

    def __init__(self):
        self.table, self.inner = mg.Embedding(4, 3), mg.RNNCell(3, 3)

    def init_state(self, batch_size):
        return self.inner.init_state(batch_size)

    def step(self, x, state):
        return self.inner.step(self.table(x), state)


def test_integers_in():
    x = np.array([[0, 1], [2, 3]])
    for wrap in (Zoneout, RecurrentDropout, lambda cell: VariationalDropout(cell, input_p=0)):
        layer = mg.Recurrent(wrap(Letters()), engine="plan")
        assert layer(x)[0].shape == (2, 2, 3)
    with pytest.raises(TypeError, match="x are int64, which cannot be masked: pass input_p=0"):
        VariationalDropout(Letters())(x[0])


class Mean(odd_cells.Silent):
    """Its outputs could be broadcast to its inputs."""

    def __init__(self, input_size=None):
        super().__init__()
        self.input_size = input_size

    def step(self, x, state):
        y, state = super().step(x, state)
        return y.mean(-1, keepdims=True), state


BAD = {
    "a class": (lambda: Zoneout(mg.LSTMCell), TypeError, "Zoneout wraps a cell, not the class LSTMCell itself"),
    "a layer": (lambda: Residual(mg.RNN(2, 2)), TypeError, "Residual wraps a cell, not Recurrent; put mg.Recurrent"),
    "a rate": (
        lambda: Zoneout(mg.RNNCell(2, 2), 1.5),
        ValueError,
        r"rate is 1.5; .* probability in \[0, 1\]",
    ),
    "text": (lambda: Zoneout(mg.RNNCell(2, 2), "0.1"), ValueError, "rate is '0.1'"),
    "True": (lambda: RecurrentDropout(mg.RNNCell(2, 2), True), ValueError, "p is True"),
    "a rate in a nest": (lambda: RecurrentDropout(mg.LSTMCell(2, 2), (0.1, -1)), ValueError, r"p is \(0.1, -1\)"),
    "state_p": (lambda: VariationalDropout(mg.RNNCell(2, 2), 2), ValueError, "state_p is 2"),
    "input_p": (lambda: VariationalDropout(mg.RNNCell(2, 2), 0.1, 2), ValueError, "input_p is 2"),
    "several input_p": (lambda: VariationalDropout(mg.RNNCell(2, 2), 0.1, (0.1, 0.2)), ValueError, "one probability"),
    "input_p without a size": (
        lambda: VariationalDropout(odd_cells.Silent(), input_p=0.1),
        ValueError,
        "Silent has no input_size, an integer, .*or pass input_p=0",
    ),
    "other rates": (
        lambda: mg.Recurrent(Zoneout(mg.LSTMCell(2, 2), (0.1, 0.2, 0.3)))(np.ones((1, 1, 2))),
        ValueError,
        r"rate is \(0.1, 0.2, 0.3\); the state or this part of it is a tuple of 2: one rate for each",
    ),
    "rates for one tensor": (
        lambda: mg.Recurrent(RecurrentDropout(mg.GRUCell(2, 2), (0.1, 0.2)))(np.ones((1, 1, 2))),
        ValueError,
        "p is .* is one tensor",
    ),
    "other names": (
        lambda: Zoneout(odd_cells.Nested(), {"both": 0.1, "counts": 0})(np.ones((1, 3))),
        ValueError,
        "rate is .* a dict of 'count', 'both'",
    ),
    "state_p of another build": (
        lambda: VariationalDropout(mg.LSTMCell(2, 2), {"h": 0.1}).init_state(1),
        ValueError,
        "state_p is .* a tuple of 2",
    ),
    "residual sizes": (lambda: Residual(mg.GRUCell(3, 4)), ValueError, "this GRUCell takes 3 features and gives 4"),
    "highway sizes": (lambda: Highway(odd_cells.Echo()), ValueError, "this Echo takes 3 features and gives 9"),
    "highway without sizes": (lambda: Highway(odd_cells.Silent()), ValueError, "Silent has none: set it in the cell"),
    "shapes at the first step": (
        lambda: mg.Recurrent(Residual(Mean()))(np.ones((2, 1, 3))),
        ValueError,
        r"x is \(1, 3\), the output of Mean is \(1, 1\)",
    ),
    "shapes at the first step, highway": (
        lambda: mg.Recurrent(Highway(Mean(3)))(np.ones((2, 1, 3))),
        ValueError,
        r"x is \(1, 3\), the output of Mean is \(1, 1\)",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call()


def test_the_readme_runs():
    blocks = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[1] / "README.md").read_text("utf-8"), re.DOTALL)
    assert blocks
    exec("\n".join(blocks), {})
