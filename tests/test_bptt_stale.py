"""Weights that are updated between windows: replayed, kept, or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from bptt_oracles import (
    MODES,
    draw,
    gradients,
    mse,
    replayed_windows,
    same,
    small_weights,
    small_windows,
    square_sum,
)
from cells_zoo import CELLS, H, I, Passing

import minigrad as mg
from minigrad.nest import leaves

pytestmark = pytest.mark.both_engines
LR = 0.05
every_cell = pytest.mark.parametrize("name", [name for name in CELLS if name != "Bare"])


@pytest.fixture(autouse=True)
def _float64(backend: Any) -> None:
    mg.set_default_dtype("float64")


def reached(model: mg.Module) -> list[mg.Parameter]:
    return [p for p in model.parameters() if p.grad is not None]


def by_optimizer(model: mg.Module) -> Callable[[], None]:
    return mg.optimizer("sgd", model.parameters(), lr=LR).step


def by_new_arrays(model: mg.Module) -> Callable[[], None]:
    def update() -> None:
        for p in reached(model):
            p.data = p.data - LR * p.grad.data

    return update


def in_place(model: mg.Module) -> Callable[[], None]:
    def update() -> None:
        for p in reached(model):
            p.data -= LR * p.grad.data

    return update


def by_writing(model: mg.Module) -> Callable[[], None]:
    def update() -> None:
        for p in reached(model):
            p.data[...] = p.data - LR * p.grad.data

    return update


def through_old_arrays(model: mg.Module) -> Callable[[], None]:
    arrays = [p.data for p in model.parameters()]  # taken once, before training

    def update() -> None:
        for array, p in zip(arrays, model.parameters(), strict=True):
            array -= LR * p.grad.data

    return update


UPDATES = (by_optimizer, by_new_arrays, in_place, by_writing, through_old_arrays)
every_update = pytest.mark.parametrize("updating", UPDATES, ids=lambda update: update.__name__)


def trained(layer: mg.Recurrent, xs: Any, ys: Any, updating: Any, **options: Any) -> tuple[list[Any], Any]:
    """The gradients of each window, an update after each, and the last state."""
    update, found, state = updating(layer), [], None
    for window in mg.tbptt(layer, xs, ys, square_sum, reduction="sum", **options):
        found.append(gradients(layer))
        update()
        state = window.state
    return found, state


# --- recompute


@every_cell
@pytest.mark.parametrize(("k1", "k2"), [(1, 4), (2, 3), (2, 20), (3, 3)])
def test_recompute_replays_from_the_stored_state_with_the_weights_of_the_day(name: str, k1: int, k2: int) -> None:
    layer, other = mg.Recurrent(CELLS[name]()), mg.Recurrent(CELLS[name]())
    other.load_state_dict(layer.state_dict())
    xs, ys = draw(layer, 7, 2)
    expected = replayed_windows(other, xs, ys, k1, k2, by_new_arrays(other))
    same(trained(layer, xs, ys, by_optimizer, k1=k1, k2=k2, stale="recompute"), expected)
    same(layer.state_dict(), other.state_dict())


@every_update
def test_recompute_does_not_care_how_the_weights_are_updated(updating: Any) -> None:
    layer, other = mg.Recurrent(mg.LSTMCell(I, H)), mg.Recurrent(mg.LSTMCell(I, H))
    other.load_state_dict(layer.state_dict())
    xs, ys = draw(layer, 7, 2)
    expected = replayed_windows(other, xs, ys, 2, 5, by_new_arrays(other))
    same(trained(layer, xs, ys, updating, k1=2, k2=5), expected)
    same(layer.state_dict(), other.state_dict())


def test_the_stored_state_is_no_view_of_a_weight() -> None:
    layer = mg.Recurrent(Passing(), learn_initial_state=True)  # half of its state goes through unchanged
    xs, ys = draw(layer, 4, 1)
    for window in mg.tbptt(layer, xs, ys, mse, k1=2):
        before = [leaf.numpy().copy() for leaf in leaves(window.state)]
        for p in layer.parameters():
            p.data[...] = p.data + 1.0
        same(list(leaves(window.state)), before)


# --- keep


@every_update
@pytest.mark.parametrize(("k1", "k2"), [(1, 1), (1, 4), (2, 3), (2, 20), (3, 5)])
def test_keep_is_the_double_sum_with_the_weights_that_each_step_has_used(updating: Any, k1: int, k2: int) -> None:
    layer = mg.Recurrent(mg.RNNCell(2, 3))
    xs, ys = (mg.normal(shape=(7, 2, size)).numpy() for size in (2, 3))
    expected, weights, last = small_windows(small_weights(layer), xs, ys, k1, k2, lr=LR)
    found, state = trained(layer, xs, ys, updating, k1=k1, k2=k2, stale="keep")
    same([{name.removeprefix("cell."): value for name, value in part.items()} for part in found], expected)
    same(small_weights(layer), weights)
    same(state, last)


@every_cell
def test_keep_is_a_chain_of_copies_of_the_model(name: str) -> None:
    layer, today = mg.Recurrent(CELLS[name]()), mg.Recurrent(CELLS[name]())
    today.load_state_dict(layer.state_dict())
    xs, ys = draw(layer, 7, 2)
    k1, k2 = 2, 5
    copies: list[mg.Recurrent] = []  # one per step, with the weights that it has used
    states, expected = [mg.detach(today.init_state(2))], []
    for newest in range(0, 7, k1):
        stop = min(newest + k1, 7)
        for t in range(newest, stop):
            copies.append(mg.Recurrent(CELLS[name]()))
            copies[t].load_state_dict(today.state_dict())
            states.append(mg.detach(copies[t].cell(xs[t], states[t])[1]))
        start = max(0, stop - k2)
        state, total = states[start] if start else copies[0].init_state(2), mg.tensor(0.0)
        for t in range(start, stop):
            y, state = copies[t].cell(xs[t], state)
            total = total + square_sum(y, ys[t]) if t >= newest else total
        for copy in copies:
            copy.zero_grad()
        total.backward()
        parts = [gradients(copy) for copy in copies]
        expected.append({key: sum(part[key] for part in parts) for key in parts[0]})
        for key, p in today.named_parameters():
            p.data = p.data - LR * p.backend.asarray(expected[-1][key])
    found, state = trained(layer, xs, ys, by_optimizer, k1=k1, k2=k2, stale="keep")
    same(found, expected)
    same(state, states[-1])


def test_keep_leaves_the_weights_where_they_are() -> None:
    layer = mg.Recurrent(mg.RNNCell(I, H))
    xs, ys = draw(layer, 6, 2)
    arrays = [p.data for p in layer.parameters()]
    earlier = mse(*(layer(xs)[0], ys))
    for _ in mg.tbptt(layer, xs, ys, mse, k1=1, k2=3, stale="keep"):
        assert all(p.data is array for p, array in zip(layer.parameters(), arrays, strict=True))
    layer.zero_grad()
    earlier.backward()  # raises if the weights looked updated

    class BreakingError(Exception):
        pass

    def breaking(outputs: Any, state: Any = None) -> Any:
        raise BreakingError

    layer.forward = breaking
    with pytest.raises(BreakingError):
        next(mg.tbptt(layer, xs, ys, mse, k1=1, k2=3, stale="keep"))
    assert all(p.data is array for p, array in zip(layer.parameters(), arrays, strict=True))


def test_the_modes_differ_once_weights_change() -> None:
    found = []
    for stale in ("recompute", "keep"):
        mg.seed(0)
        layer = mg.Recurrent(mg.GRUCell(I, H))
        xs, ys = draw(layer, 6, 2)
        found.append(trained(layer, xs, ys, by_optimizer, k1=2, k2=6, stale=stale)[0])
    same(found[0][0], found[1][0])
    for name, value in found[0][1].items():
        assert np.abs(value - found[1][1][name]).max() > 1e-4


# --- error


@every_update
@pytest.mark.parametrize(("k1", "k2"), [(1, 2), (2, 3), (3, 20)])
def test_error_raises_as_soon_as_old_steps_meet_new_weights(updating: Any, k1: int, k2: int) -> None:
    layer = mg.Recurrent(mg.LSTMCell(I, H))
    xs, ys = draw(layer, 7, 2)
    update = updating(layer)
    windows = mg.tbptt(layer, xs, ys, mse, k1=k1, k2=k2, stale="error")
    next(windows)
    next(windows)
    update()
    left = gradients(layer)
    with pytest.raises(mg.StaleParameterError, match=r"LSTMCell\.weight_ih .*recompute.*keep"):
        next(windows)
    same(gradients(layer), left)


@pytest.mark.parametrize("name", ["weight_ih", "weight_hh", "bias_ih", "bias_hh"])
@pytest.mark.parametrize("frozen", [False, True])
def test_error_names_the_weight_also_a_bias_or_a_frozen_one(name: str, frozen: bool) -> None:
    layer = mg.Recurrent(mg.RNNCell(I, H))
    getattr(layer.cell, name).requires_grad = not frozen
    xs, ys = draw(layer, 4, 2)
    windows = mg.tbptt(layer, xs, ys, mse, k1=1, k2=2, stale="error")
    next(windows)
    parameter = getattr(layer.cell, name)
    parameter.data = parameter.data + 1.0
    with pytest.raises(mg.StaleParameterError, match=f"RNNCell.{name} has been updated"):
        next(windows)


def test_error_lets_pass_what_mixes_nothing() -> None:
    layer, same_weights = mg.Recurrent(mg.GRUCell(I, H)), mg.Recurrent(mg.GRUCell(I, H))
    same_weights.load_state_dict(layer.state_dict())
    xs, ys = draw(layer, 7, 2)
    options: dict[str, Any] = {"k1": 2, "k2": 4, "stale": "error"}
    for window in mg.tbptt(layer, xs, ys, mse, **options):  # no update at all, or after the last window
        last = window.steps == 1
    assert last
    by_optimizer(layer)()
    found = trained(layer, xs, ys, by_optimizer, k1=3, k2=3, stale="error")  # nothing old is within reach
    same_weights.load_state_dict(layer.state_dict())
    assert len(found[0]) == 3
    windows = mg.tbptt(layer, xs, ys, mse, **options)
    assert len(list(windows)) == 4


@pytest.mark.parametrize("stale", MODES)
def test_without_overlap_all_modes_are_the_same(stale: str) -> None:
    layer, other = mg.Recurrent(mg.GRUCell(I, H)), mg.Recurrent(mg.GRUCell(I, H))
    other.load_state_dict(layer.state_dict())
    xs, ys = draw(layer, 7, 2)
    expected = replayed_windows(other, xs, ys, 3, 3, by_new_arrays(other))
    same(trained(layer, xs, ys, in_place, k1=3, k2=3, stale=stale), expected)
    same(layer.state_dict(), other.state_dict())


# --- what is random


@pytest.mark.parametrize("stale", MODES)
def test_dropout_between_layers_follows_the_seed(stale: str) -> None:
    runs = []
    for seed in (5, 5, 6):
        mg.seed(0)
        model = mg.GRU(I, H, num_layers=2, dropout=0.5)
        xs, ys = mg.normal(shape=(6, 2, I)), mg.normal(shape=(6, 2, H))
        mg.seed(seed)
        losses = []
        for window in mg.tbptt(model, xs, ys, mse, k1=2, k2=4, stale=stale):
            losses.append(window.loss.item())
            assert all(p.grad is not None for p in model.parameters())
        runs.append((losses, gradients(model)))
    same(runs[0], runs[1], rtol=0, atol=0)
    assert runs[0][0] != runs[2][0]
