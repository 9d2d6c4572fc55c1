"""Truncated backpropagation against its definition: full backpropagation, and the double sum written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from bptt_oracles import (
    MODES,
    added,
    draw,
    gradients,
    mse,
    of_everything,
    of_windows,
    row_by_row,
    same,
    small_weights,
    small_windows,
    square_sum,
)
from cells_zoo import CELLS, H, I, draw_state
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.nest import leaves

pytestmark = pytest.mark.both_engines
every_mode = pytest.mark.parametrize("stale", MODES)
every_cell = pytest.mark.parametrize("name", [name for name in CELLS if name != "Bare"])


@pytest.fixture(autouse=True)
def _float64(backend: Any) -> None:
    mg.set_default_dtype("float64")


# --- k1 = k2 = T is full backpropagation


@every_cell
@pytest.mark.parametrize(("steps", "batch"), [(5, 2), (1, 1)])
def test_one_window_over_everything_is_full_backpropagation(name: str, steps: int, batch: int) -> None:
    layer = mg.Recurrent(CELLS[name]())
    xs, ys = draw(layer, steps, batch)
    outputs, last = layer(xs)
    expected = of_everything(layer, xs, ys)
    windows = mg.tbptt(layer, xs, ys, mse, k1=steps, k2=steps)
    window = next(windows)
    same(gradients(layer), expected)
    assert steps == 1 or any(value.any() for value in expected.values())  # a relu may be off
    same(window.state, last)
    same(window.loss, mse(outputs, ys))
    assert window.steps == steps
    assert next(windows, None) is None
    same(gradients(layer), expected)


@every_cell
@every_mode
@pytest.mark.parametrize(("k1", "k2"), [(1, 6), (2, 5), (4, 6)])
def test_windows_that_reach_back_to_the_start_add_up_to_full_backpropagation(
    name: str, stale: str, k1: int, k2: int
) -> None:
    layer = mg.Recurrent(CELLS[name]())
    steps = min(k2, 5)
    xs, ys = draw(layer, steps, 2)
    state = draw_state(layer.cell, 2)
    expected = of_everything(layer, xs, ys, square_sum, state)
    windows = mg.tbptt(layer, xs, ys, square_sum, state, k1=k1, k2=k2, stale=stale, reduction="sum")
    same(added(of_windows(layer, windows)), expected)


@every_mode
@pytest.mark.parametrize("k1", [1, 3, 4])
def test_a_stack_with_more_around_it(stale: str, k1: int) -> None:
    class Tagger(mg.Module):
        def __init__(self) -> None:
            self.table = mg.Embedding(7, I)
            self.layers = mg.Stack(mg.Recurrent(mg.LSTMCell(I, H)), mg.Recurrent(mg.GRUCell(H, 2)))
            self.out = mg.Linear(2, 5)

        def forward(self, x: Any, state: Any = None) -> Any:
            y, state = self.layers(self.table(x), state)
            return self.out(y), state

    model = Tagger()
    xs = (mg.uniform(shape=(4, 3), high=7).numpy()).astype("int64")
    ys = (mg.uniform(shape=(4, 3), high=5).numpy()).astype("int64")
    loss = mg.loss("cross_entropy", reduction="sum")
    expected = of_everything(model, mg.tensor(xs), mg.tensor(ys), loss)
    windows = mg.tbptt(model, xs, ys, loss, k1=k1, k2=4, stale=stale, reduction="sum")
    same(added(of_windows(model, windows)), expected)


@every_mode
def test_no_steps_give_no_windows_and_leave_gradients_alone(stale: str) -> None:
    layer = mg.Recurrent(mg.LSTMCell(I, H))
    layer.cell.bias_ih.grad = before = mg.ones(4 * H)
    windows = mg.tbptt(layer, mg.zeros((0, 2, I)), mg.zeros((0, 2, H)), mse, k1=1, k2=2, stale=stale)
    assert list(windows) == []
    assert layer.cell.bias_ih.grad is before


# --- the double sum

GRID = [(k1, k2, steps) for k1, k2 in [(1, 1), (1, 3), (2, 2), (2, 3), (2, 5), (3, 4), (4, 9)] for steps in (1, 4, 7)]


@every_mode
@pytest.mark.parametrize("size", [1, 3], ids=["scalar", "small"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_each_window_is_the_double_sum(stale: str, size: int, reduction: str) -> None:
    layer = mg.Recurrent(mg.RNNCell(2, size))
    loss = mse if reduction == "mean" else square_sum
    for k1, k2, steps in GRID:
        xs, ys = draw_numpy(layer, steps, 2)
        expected, _, last = small_windows(small_weights(layer), xs, ys, k1, k2, reduction=reduction)
        state = None
        windows = mg.tbptt(layer, xs, ys, loss, k1=k1, k2=k2, stale=stale, reduction=reduction)
        for window, gradient in zip(windows, expected, strict=True):
            same({name.removeprefix("cell."): value for name, value in gradients(layer).items()}, gradient)
            state = window.state
        same(state, last)


def draw_numpy(layer: mg.Recurrent, steps: int, batch: int) -> tuple[Any, Any]:
    size = len(layer.cell.bias_ih)
    return mg.normal(shape=(steps, batch, 2)).numpy(), mg.normal(shape=(steps, batch, size)).numpy()


class Linear(mg.Cell):
    """h_t = w h_{t-1} + u x_t."""

    def __init__(self, w: float, u: float) -> None:
        self.w, self.u = mg.Parameter([w]), mg.Parameter([u])

    def init_state(self, batch_size: int) -> mg.Tensor:
        return mg.zeros((batch_size, 1))

    def step(self, x: mg.Tensor, h: mg.Tensor) -> Any:
        h = self.w * h + self.u * x
        return h, h


@every_mode
def test_a_retained_state_does_not_bring_its_old_gradient_along(stale: str) -> None:
    """With w = 0.6 and x = (0.3, 0, 0), dh_3/du = w^2 x_1 = 0.108.

    The state h_1 has got dh_2/dh_1 = w from the window before. Whoever keeps it adds that to its w^2 of now, and gets
    (w + w^2) x_1 = 0.288.
    """
    w, u = mg.Parameter([[0.6]]), mg.Parameter([[1.0]])
    h, pieces = mg.zeros((1, 1)), []
    for x in (0.3, 0.0, 0.0):  # as in the forum: leaves between the steps, and their .grad handed on
        leaf = mg.tensor(h, requires_grad=True)
        h = w * leaf + u * x
        pieces.append((leaf, h))
        w.grad = u.grad = None
        h.backward(retain_graph=True)
        for (_, end), (later, _) in zip(pieces[-2::-1], pieces[:0:-1], strict=True):
            end.backward(later.grad, retain_graph=True)
    assert u.grad is not None
    assert u.grad.item() == pytest.approx(0.288)

    layer = mg.Recurrent(Linear(0.6, 1.0))
    xs = np.array([0.3, 0.0, 0.0]).reshape(3, 1, 1)
    windows = mg.tbptt(layer, xs, xs, lambda y, _: y.sum(), k1=1, k2=3, stale=stale)
    found = [(layer.cell.u.grad.item(), layer.cell.w.grad.item()) for _ in windows]
    # dh_t/du = sum_k w^(t-k) x_k and dh_t/dw = sum_k w^(t-k) h_(k-1)
    same(found, [(0.3, 0.0), (0.18, 0.3), (0.108, 0.6 * 0.3 + 0.18)])


@st.composite
def problems(draw_: Any) -> dict[str, Any]:
    steps, batch = draw_(st.integers(1, 8)), draw_(st.integers(1, 3))
    k1 = draw_(st.integers(1, steps + 1))
    masks = st.lists(st.lists(st.booleans(), min_size=batch, max_size=batch), min_size=steps, max_size=steps)
    return {
        "steps": steps,
        "batch": batch,
        "k1": k1,
        "k2": draw_(st.integers(k1, steps + 2)),
        "lengths": draw_(st.none() | st.lists(st.integers(0, steps), min_size=batch, max_size=batch)),
        "reset": draw_(st.none() | masks),
        "reduction": draw_(st.sampled_from(["mean", "sum"])),
        "learn": draw_(st.booleans()),
        "given_state": draw_(st.booleans()),
    }


@given(problems())
def test_all_modes_are_runs_of_single_sequences(problem: dict[str, Any]) -> None:
    steps, batch, reduction = problem["steps"], problem["batch"], problem["reduction"]
    options = {name: problem[name] for name in ("k1", "k2", "reset", "lengths", "reduction")}
    layer = mg.Recurrent(mg.LSTMCell(I, 2), learn_initial_state=problem["learn"])
    for parameter in layer.parameters():
        parameter.data = mg.normal(shape=parameter.shape, std=0.7).data
    xs, ys = draw(layer, steps, batch)
    state = draw_state(layer, batch, requires_grad=True) if problem["given_state"] else None
    expected, last = row_by_row(layer, xs, ys, state=state, **options)
    loss = mse if reduction == "mean" else mg.loss("mse", reduction="sum")
    for stale in MODES:
        windows = mg.tbptt(layer, xs, ys, loss, state, stale=stale, **options)
        carried = None
        for window, gradient in zip(windows, expected, strict=True):
            same(gradients(layer, state), gradient)
            carried = window.state
        same([[leaf[row : row + 1] for leaf in leaves(carried)] for row in range(batch)], last)


# --- carrying on


@every_cell
@every_mode
def test_two_halves_with_carried_state_are_the_whole(name: str, stale: str) -> None:
    layer = mg.Recurrent(CELLS[name]())
    xs, ys = draw(layer, 8, 2)
    whole = list(mg.tbptt(layer, xs, ys, mse, k1=2, stale=stale))
    first = list(mg.tbptt(layer, xs[:4], ys[:4], mse, k1=2, stale=stale))
    second = list(mg.tbptt(layer, xs[4:], ys[4:], mse, first[-1].state, k1=2, stale=stale))
    same([w.loss for w in first + second], [w.loss for w in whole])
    same([w.state for w in first + second], [w.state for w in whole])
    same(second[-1].state, layer(xs)[1])


@every_mode
def test_two_halves_train_as_the_whole_does(stale: str) -> None:
    trained = []
    for parts in ([slice(0, 8)], [slice(0, 4), slice(4, 8)]):
        mg.seed(1)
        layer = mg.Recurrent(mg.GRUCell(I, H))
        xs, ys = draw(layer, 8, 2)
        optimizer, state = mg.optimizer("adam", layer.parameters(), lr=0.1), None
        for part in parts:
            for window in mg.tbptt(layer, xs[part], ys[part], mse, state, k1=2, stale=stale):
                optimizer.step()
                state = window.state
        trained.append((layer.state_dict(), state))
    same(trained[0], trained[1])


def test_history_before_the_first_step_is_cut_off() -> None:
    layer = mg.Recurrent(mg.LSTMCell(I, H))
    xs, ys = draw(layer, 6, 2)
    state = layer(xs[:3])[1]
    assert all(leaf.requires_grad for leaf in leaves(state))
    (window,) = mg.tbptt(layer, xs[3:], ys[3:], mse, state, k1=3)
    same(gradients(layer), of_everything(layer, xs[3:], ys[3:], mse, mg.detach(state)))
    assert not any(leaf.requires_grad or leaf.node for leaf in leaves(window.state))
    assert not window.loss.requires_grad
    assert window.loss.node is None
