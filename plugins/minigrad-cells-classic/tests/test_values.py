"""Each cell against its equations in NumPy, in float64; and against the LSTM where that is a special case."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import references
from minigrad_cells_classic import CoupledLSTMCell, JordanCell, LSTMPCell, MGUCell, PeepholeLSTMCell

import minigrad as mg

T, B, I, H, O = 4, 3, 2, 5, 3  # noqa: E741  # steps, batch, sizes of x, h and y

CASES: dict[str, tuple[Callable[[], mg.Cell], Callable[..., Any]]] = {
    "jordan": (lambda: JordanCell(I, H, O), references.jordan),
    "jordan, sigmoid": (lambda: JordanCell(I, H, O, nonlinearity="sigmoid"), references.jordan_sigmoid),
    "peephole_lstm": (lambda: PeepholeLSTMCell(I, H), references.peephole_lstm),
    "peephole_lstm, no bias": (lambda: PeepholeLSTMCell(I, H, bias=False), references.peephole_lstm),
    "coupled_lstm": (lambda: CoupledLSTMCell(I, H), references.coupled_lstm),
    "coupled_lstm, no bias": (lambda: CoupledLSTMCell(I, H, bias=False), references.coupled_lstm),
    "mgu": (lambda: MGUCell(I, H), references.mgu),
    "mgu, no bias": (lambda: MGUCell(I, H, bias=False), references.mgu),
    "lstmp": (lambda: LSTMPCell(I, H, O), references.lstmp),
    "lstmp, no bias": (lambda: LSTMPCell(I, H, O, bias=False), references.lstmp),
}


@pytest.mark.parametrize("engine", ["plan", "tape"])
@pytest.mark.parametrize("name", CASES)
def test_outputs_are_those_of_the_equations(name: str, engine: str) -> None:
    mg.set_default_dtype("float64")
    make, reference = CASES[name]
    cell, x = make(), mg.normal(shape=(T, B, I), std=2.0)
    w, state, expected = cell.state_dict(), mg.nest.map_nest(lambda leaf: leaf.numpy(), cell.init_state(B)), []
    for row in x.numpy():
        y, state = reference(w, row, state)
        expected.append(y)
    ys, last = mg.Recurrent(cell, engine=engine)(x)
    assert np.abs(expected[-1]).max() > 0.05
    np.testing.assert_allclose(ys.numpy(), np.stack(expected), rtol=1e-12, atol=1e-14)
    for found, wanted in zip(mg.nest.leaves(last), mg.nest.leaves(state), strict=True):
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-12, atol=1e-14)


def test_without_peepholes_the_peephole_lstm_is_the_lstm() -> None:
    cell, lstm = PeepholeLSTMCell(I, H), mg.LSTMCell(I, H)
    zeros = {name: np.zeros(H) for name in ("weight_ci", "weight_cf", "weight_co")}
    cell.load_state_dict(lstm.state_dict() | zeros)
    x = mg.normal(shape=(T, B, I))
    np.testing.assert_allclose(mg.Recurrent(cell)(x)[0].numpy(), mg.Recurrent(lstm)(x)[0].numpy(), rtol=1e-6)


def test_the_coupled_lstm_is_the_lstm_whose_input_gate_opposes_its_forget_gate() -> None:
    cell, lstm = CoupledLSTMCell(I, H), mg.LSTMCell(I, H)
    lstm.load_state_dict({name: np.concatenate([-value[:H], value]) for name, value in cell.state_dict().items()})
    x = mg.normal(shape=(T, B, I))
    np.testing.assert_allclose(mg.Recurrent(cell)(x)[0].numpy(), mg.Recurrent(lstm)(x)[0].numpy(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("cell", "number"), [(PeepholeLSTMCell, 1), (CoupledLSTMCell, 0), (LSTMPCell, 1)])
def test_the_forget_gate_starts_open(cell: Callable[..., mg.Cell], number: int) -> None:
    state = cell(I, H).state_dict()
    both = (state["bias_ih"] + state["bias_hh"]).reshape(-1, H)
    np.testing.assert_array_equal(both[number], np.ones(H))
    assert (np.abs(np.delete(both, number, axis=0)) < 1).all()
    assert np.unique(both).size == both.size - H + 1
