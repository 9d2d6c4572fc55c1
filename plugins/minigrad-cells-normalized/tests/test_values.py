"""Each cell against its equations in NumPy, in float64, after its parameters have moved from their initial values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import references
from minigrad_cells_normalized import IndRNNCell, IRNNCell, LayerNormGRUCell, LayerNormLSTMCell

import minigrad as mg

T, B, I, H = 5, 3, 2, 4  # noqa: E741  # steps, batch, sizes of x and h

CASES: dict[str, tuple[Callable[[], mg.Cell], Callable[..., Any]]] = {
    "layer_norm_lstm": (lambda: LayerNormLSTMCell(I, H), references.layer_norm_lstm),
    "layer_norm_gru": (lambda: LayerNormGRUCell(I, H), references.layer_norm_gru),
    "irnn": (lambda: IRNNCell(I, H), references.irnn),
    "indrnn": (lambda: IndRNNCell(I, H), references.indrnn),
    "indrnn, tanh": (lambda: IndRNNCell(I, H, nonlinearity="tanh"), references.indrnn_tanh),
}


@pytest.mark.parametrize("engine", ["plan", "tape"])
@pytest.mark.parametrize("name", CASES)
def test_outputs_are_those_of_the_equations(name: str, engine: str) -> None:
    mg.set_default_dtype("float64")
    make, reference = CASES[name]
    cell, x = make(), mg.normal(shape=(T, B, I), std=2.0)
    for parameter in cell.parameters():
        parameter.data = parameter.data + mg.normal(shape=parameter.shape, std=0.3).data
    w, state, expected = cell.state_dict(), mg.nest.map_nest(lambda leaf: leaf.numpy(), cell.init_state(B)), []
    for row in x.numpy():
        y, state = reference(w, row, state)
        expected.append(y)
    ys, last = mg.Recurrent(cell, engine=engine)(x)
    assert np.abs(expected[-1]).max() > 0.05
    np.testing.assert_allclose(ys.numpy(), np.stack(expected), rtol=1e-11, atol=1e-13)
    for found, wanted in zip(mg.nest.leaves(last), mg.nest.leaves(state), strict=True):
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("cell", [LayerNormLSTMCell, LayerNormGRUCell])
def test_the_scale_of_the_weights_makes_no_difference_under_layer_norm(cell: Callable[..., mg.Cell]) -> None:
    mg.set_default_dtype("float64")
    layer, x = mg.Recurrent(cell(I, H, eps=0.0)), mg.normal(shape=(T, B, I))
    state = mg.nest.map_nest(lambda leaf: mg.normal(shape=leaf.shape), layer.init_state(B))  # LN(0) is 0 / 0
    before = layer(x, state)[0].numpy()
    for weight in (layer.cell.weight_ih, layer.cell.weight_hh):
        weight.data = weight.data * 7.0
    np.testing.assert_allclose(layer(x, state)[0].numpy(), before, rtol=1e-10)


def test_layer_norm_cells_start_with_the_papers_gains_and_an_open_forget_gate() -> None:
    state = LayerNormLSTMCell(I, H).state_dict()
    np.testing.assert_array_equal(state["bias"].reshape(4, H)[[0, 2, 3]], np.zeros((3, H)))
    np.testing.assert_array_equal(state["bias"].reshape(4, H)[1], np.ones(H))
    for cell in (LayerNormLSTMCell(I, H), LayerNormGRUCell(I, H)):
        for name, value in cell.state_dict().items():
            if name.startswith("norm"):
                np.testing.assert_array_equal(value, np.full(value.shape, float(name.endswith("weight"))))


def test_the_irnn_starts_as_the_identity() -> None:
    state = IRNNCell(300, 40, scale=0.5).state_dict()
    np.testing.assert_array_equal(state["weight_hh"], np.eye(40) / 2)
    np.testing.assert_array_equal(state["bias_ih"] + state["bias_hh"], np.zeros(40))
    assert 0.00095 < state["weight_ih"].std() < 0.00105
    assert IRNNCell(300, 40, input_std=0.5).weight_ih.numpy().std() > 0.45


def test_the_indrnn_starts_with_recurrent_weights_of_a_range() -> None:
    u = IndRNNCell(1, 1000, recurrent_max=2 ** (1 / 4)).weight_hh.numpy()
    assert u.shape == (1000,)
    assert 0 <= u.min() < 0.02
    assert 1.17 < u.max() <= 2 ** (1 / 4)
