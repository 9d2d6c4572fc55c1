"""Whole sequences against NumPy, with the same random numbers drawn independently."""

from __future__ import annotations

import numpy as np
import pytest
from minigrad_regularizers import Highway, RecurrentDropout, Residual, VariationalDropout, Zoneout
from references import Draws, lstm, sigmoid

import minigrad as mg

STEPS, BATCH, SIZE = 6, 2, 4
SEED = 5


def made(wrap, training):
    """A wrapped LSTM, its weights, and x."""
    cell = wrap(mg.LSTMCell(SIZE, SIZE, forget_bias=None)).train(training)
    return cell, cell.cell.state_dict(), np.random.default_rng(1).standard_normal((STEPS, BATCH, SIZE))


def zeros():
    return np.zeros((BATCH, SIZE)), np.zeros((BATCH, SIZE))


def agree(cell, x, expected, state):
    """Both engines give these outputs and this last state of the inner cell."""
    for engine in ("plan", "tape"):
        mg.seed(SEED)
        ys, last = mg.Recurrent(cell, engine=engine)(x)
        np.testing.assert_allclose(ys.numpy(), np.stack(expected), rtol=0, atol=1e-12, err_msg=engine)
        for found, wanted in zip(list(mg.nest.leaves(last))[:2], state, strict=True):
            np.testing.assert_allclose(found.numpy(), wanted, rtol=0, atol=1e-12, err_msg=engine)


@pytest.mark.parametrize("rate", [0.3, (0.1, 0.6), (0.0, 0.5), (1.0, 0.0)])
@pytest.mark.parametrize("training", [True, False])
def test_zoneout(rate, training):
    cell, weights, x = made(lambda cell: Zoneout(cell, rate), training)
    rates, draws = rate if isinstance(rate, tuple) else (rate, rate), Draws(SEED)
    state, expected = zeros(), []
    for row in x:
        new = lstm(weights, row, state)
        if training:
            parts = zip(new, state, rates, strict=True)
            state = tuple(np.where(draws.kept(a.shape, z), a, b) if z else a for a, b, z in parts)
        else:
            state = tuple(z * b + (1 - z) * a for a, b, z in zip(new, state, rates, strict=True))
        expected.append(state[0])
    agree(cell, x, expected, state)


@pytest.mark.parametrize("p", [0.3, (0.1, 0.6), (0.0, 0.5)])
@pytest.mark.parametrize("training", [True, False])
def test_recurrent_dropout(p, training):
    cell, weights, x = made(lambda cell: RecurrentDropout(cell, p), training)
    rates, draws = p if isinstance(p, tuple) else (p, p), Draws(SEED)
    state, expected = zeros(), []
    for row in x:
        new = lstm(weights, row, state)
        if training:
            parts = zip(new, state, rates, strict=True)
            new = tuple(b + draws.mask(a.shape, q) * (a - b) if q else a for a, b, q in parts)
        state = new
        expected.append(state[0])
    agree(cell, x, expected, state)


@pytest.mark.parametrize(
    ("options", "rates"),
    [
        ({}, (0.25, 0.25, 0.0)),
        ({"state_p": 0.5, "input_p": 0.0}, (0.0, 0.5, 0.0)),
        ({"state_p": 0, "input_p": 0.4}, (0.4, 0.0, 0.0)),
        ({"state_p": (0.2, 0.6), "input_p": 0.1}, (0.1, 0.2, 0.6)),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_variational_dropout(options, rates, training):
    cell, weights, x = made(lambda cell: VariationalDropout(cell, **options), training)
    draws = Draws(SEED)
    masks = [draws.mask((BATCH, SIZE), p) if p and training else np.ones((BATCH, SIZE)) for p in rates]
    state, expected = zeros(), []
    for row in x:
        state = lstm(weights, row * masks[0], (state[0] * masks[1], state[1] * masks[2]))
        expected.append(state[0])
    agree(cell, x, expected, state)


def test_residual():
    cell, weights, x = made(Residual, True)
    state, expected = zeros(), []
    for row in x:
        state = lstm(weights, row, state)
        expected.append(row + state[0])
    agree(cell, x, expected, state)


@pytest.mark.parametrize("bias", [-2.0, 0.5])
def test_highway(bias):
    cell, weights, x = made(lambda cell: Highway(cell, bias), True)
    np.testing.assert_array_equal(cell.gate.bias.numpy(), np.full(SIZE, bias))
    w = cell.gate.weight.numpy()
    state, expected = zeros(), []
    for row in x:
        state = lstm(weights, row, state)
        gate = sigmoid(row @ w.T + bias)
        expected.append(gate * state[0] + (1 - gate) * row)
    agree(cell, x, expected, state)


# --- what the masks are


def test_zoned_out_units_are_exactly_the_old_and_the_others_exactly_the_new():
    cell = Zoneout(mg.GRUCell(SIZE, 500), rate=0.2)
    x, old = mg.normal(shape=(30, SIZE)), mg.normal(shape=(30, 500))
    y, h = cell(x, old)
    new = cell.cell(x, old)[1].numpy()
    kept = h.numpy() == old.numpy()
    np.testing.assert_array_equal(h.numpy()[~kept], new[~kept])
    assert abs(kept.mean() - 0.2) < 0.01
    assert y is h


def test_zoneout_of_rate_1_never_changes_and_of_rate_0_is_the_cell():
    x = mg.normal(shape=(STEPS, BATCH, SIZE))
    inner = mg.GRUCell(SIZE, SIZE)
    start = mg.normal(shape=(BATCH, SIZE))
    for mode in (True, False):
        ys, _ = mg.Recurrent(Zoneout(inner, 1.0)).train(mode)(x, start)
        np.testing.assert_array_equal(ys.numpy(), np.stack([start.numpy()] * STEPS))
        ys, _ = mg.Recurrent(Zoneout(inner, 0.0)).train(mode)(x, start)
        np.testing.assert_array_equal(ys.numpy(), mg.Recurrent(inner)(x, start)[0].numpy())


@pytest.mark.parametrize("wrap", [lambda cell: Zoneout(cell, 0.3), lambda cell: RecurrentDropout(cell, 0.3)])
def test_one_step_in_evaluation_is_the_mean_of_steps_in_training(wrap):
    cell = wrap(mg.GRUCell(SIZE, SIZE))
    x, h = mg.normal(shape=(1, SIZE)), mg.normal(shape=(1, SIZE))
    many = 40_000
    together = cell(mg.broadcast_to(x, (many, SIZE)), mg.broadcast_to(h, (many, SIZE)))[1].numpy()
    calm = cell.eval()(x, h)[1].numpy()[0]
    assert together.std(0).min() > 0.05
    np.testing.assert_allclose(together.mean(0), calm, rtol=0, atol=5 * together.std(0).max() / many**0.5)


def test_masks_have_mean_one():
    cell = VariationalDropout(mg.RNNCell(300, 300), state_p=0.4, input_p=0.1)
    _, (for_input, for_state) = cell.init_state(200)
    for mask, p in ((for_input, 0.1), (for_state, 0.4)):
        values, counts = np.unique(mask.numpy(), return_counts=True)
        np.testing.assert_allclose(values, [0, 1 / (1 - p)], rtol=1e-12)
        assert abs(counts[0] / counts.sum() - p) < 0.01
