"""Truncated backpropagation over real data: lengths, resets, bare arrays, learnt and given initial states."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from bptt_oracles import MODES, draw, gradients, mse, of_everything, of_windows, row_by_row, same, square_sum
from cells_zoo import CELLS, H, I, draw_state

import minigrad as mg
from minigrad.nest import leaves, map_nest

pytestmark = pytest.mark.both_engines
every_mode = pytest.mark.parametrize("stale", MODES)
sizes = pytest.mark.parametrize(("k1", "k2"), [(1, 3), (3, 3), (3, 5), (4, 30)])
CAUSAL = [name for name in CELLS if name != "Bare"]


@pytest.fixture(autouse=True)
def _float64(backend: Any) -> None:
    mg.set_default_dtype("float64")


class Tagger(mg.Module):
    """Layers between an embedding and a linear map; no init_state of its own."""

    def __init__(self) -> None:
        self.table = mg.Embedding(7, I)
        self.layers = mg.Stack(mg.Recurrent(mg.LSTMCell(I, H)), mg.Recurrent(mg.GRUCell(H, 2)))
        self.out = mg.Linear(2, 5)

    def forward(self, x: Any, state: Any = None, lengths: Any = None) -> Any:
        y, state = self.layers(self.table(x), state, lengths=lengths)
        return self.out(y), state


# --- lengths


@sizes
@every_mode
@pytest.mark.parametrize("lengths", [[7, 4, 1], [0, 6, 3], [2, 0, 1]])
@pytest.mark.parametrize("name", ["lstm", "gru", "DictState", "Counting"])
def test_sequences_that_end_are_runs_of_their_own(name: str, lengths: list[int], stale: str, k1: int, k2: int) -> None:
    layer = mg.Recurrent(CELLS[name]())
    xs, ys = draw(layer, 7, 3)
    options: dict[str, Any] = {"k1": k1, "k2": k2, "lengths": lengths}
    expected, last = row_by_row(layer, xs, ys, **options)
    windows = mg.tbptt(layer, xs, ys, mse, stale=stale, **options)
    for window, gradient in zip(windows, expected, strict=True):
        same(gradients(layer), gradient)
        state = list(leaves(window.state))
    same([[leaf[row : row + 1] for leaf in state] for row in range(3)], last)


@every_mode
@pytest.mark.parametrize("form", [list, np.array, mg.tensor])
def test_nan_in_the_padding_does_no_harm(stale: str, form: Any) -> None:
    model = mg.Stack(mg.Recurrent(mg.LSTMCell(I, H)), mg.Recurrent(mg.GRUCell(H, H)))
    lengths = [6, 2, 0, 5]
    clean = np.array(mg.normal(shape=(6, 4, I)).numpy()), np.array(mg.normal(shape=(6, 4, H)).numpy())
    dirty = clean[0].copy(), clean[1].copy()
    for row, length in enumerate(lengths):
        for array in dirty:
            array[length:, row] = np.nan
    found = []
    for xs, ys in (clean, dirty):
        windows = mg.tbptt(model, xs, ys, mse, k1=2, k2=4, stale=stale, lengths=form(lengths))
        found.append([(window.loss, window.state, gradients(model)) for window in windows])
    same(found[1], found[0], rtol=0, atol=0)


class Packed(mg.Module):
    """Runs no step at all where no sequence has one."""

    def __init__(self) -> None:
        self.layer = mg.Recurrent(mg.LSTMCell(I, H))

    def forward(self, x: Any, state: Any = None, lengths: Any = None) -> Any:
        return self.layer(x, state, lengths) if any(lengths) else (mg.zeros((*x.shape[:2], H)), state)


@every_mode
@pytest.mark.parametrize("make", [Packed, lambda: mg.LSTM(I, H)], ids=["packed", "layer"])
@pytest.mark.parametrize("k2", [2, 4])
def test_a_window_past_every_end_has_no_gradient(stale: str, make: Any, k2: int) -> None:
    model = make()
    xs, ys = mg.normal(shape=(7, 2, I)), mg.normal(shape=(7, 2, H))
    losses, steps, states, moved = [], [], [], []
    for window in mg.tbptt(model, xs, ys, mse, k1=2, k2=k2, stale=stale, lengths=[3, 1]):
        losses.append(window.loss.item())
        steps.append(window.steps)
        states.append(window.state)
        moved.append(any(value.any() for value in gradients(model).values()))
    assert [loss > 0 for loss in losses] == moved == [True, True, False, False]
    assert losses[2:] == [0, 0]
    assert steps == [2, 2, 2, 1]
    same(states[3], states[1])


def test_the_loss_gets_lengths_if_it_takes_them() -> None:
    seen: list[Any] = []

    def taking(outputs: Any, targets: Any, lengths: Any = None, power: int = 2) -> mg.Tensor:
        seen.append(lengths)
        return (abs(outputs - targets) ** power).mean()

    class Learned(mg.Module):
        def __init__(self) -> None:
            self.scale = mg.Parameter(1.0)

        def forward(self, outputs: Any, targets: Any, lengths: Any) -> mg.Tensor:
            return taking(outputs * self.scale, targets, lengths)

    layer = mg.Recurrent(mg.GRUCell(I, H))
    xs, ys = draw(layer, 5, 2)
    parts = [[2, 2], [2, 1], [1, 0]]
    learned = Learned()
    for loss in (taking, partial(taking, power=3), lambda *args, **kwargs: taking(*args, **kwargs), learned):
        seen.clear()
        list(mg.tbptt(layer, xs, ys, loss, k1=2, lengths=[5, 3]))
        assert seen == parts
    seen.clear()
    list(mg.tbptt(layer, xs, ys, taking, k1=2))
    list(mg.tbptt(layer, xs, ys, lambda outputs, targets: taking(outputs, targets, "none"), k1=2, lengths=[5, 3]))
    assert seen == [None] * 3 + ["none"] * 3
    (window,) = mg.tbptt(layer, xs, ys, mg.loss("mse"), k1=5, lengths=[5, 3])
    assert window.loss.item() == pytest.approx(mse(layer(xs, lengths=[5, 3])[0], ys, lengths=[5, 3]).item())
    assert learned.scale.grad is not None


@every_mode
def test_parameters_of_the_loss_get_the_window_s_gradient_alone(stale: str) -> None:
    layer, scale = mg.Recurrent(mg.GRUCell(I, H)), mg.Parameter(1.5)
    xs, ys = draw(layer, 4, 2)
    windows = mg.tbptt(layer, xs, ys, lambda y, target: mse(y * scale, target), k1=2, k2=4, stale=stale)
    for window, part in zip(windows, (slice(0, 2), slice(2, 4)), strict=True):
        y, target = layer(xs)[0][part].numpy(), ys[part].numpy()
        assert scale.grad is not None
        assert scale.grad.item() == pytest.approx(2 * ((1.5 * y - target) * y).mean())
        assert window.steps == 2


# --- resets


def at(*places: tuple[int, Any], steps: int = 7, batch: int = 3) -> Any:
    """A mask that is true at the given steps and rows."""
    mask = np.zeros((steps, batch), bool)
    for t, rows in places:
        mask[t, rows] = True
    return mask


RESETS = {
    "first step": at((0, slice(None))),
    "first step of some": at((0, [1])),
    "window edges": at((3, [0]), (6, [2])),
    "two successive steps": at((2, [0, 1]), (3, [1, 2])),
    "all rows": at((4, slice(None))),
    "all steps": at(*((t, slice(None)) for t in range(7))),
    "last step": at((6, [1])),
}
every_reset = pytest.mark.parametrize("reset", RESETS.values(), ids=RESETS)


@sizes
@every_reset
@pytest.mark.parametrize("lengths", [None, [7, 4, 0]], ids=["whole", "lengths"])
@pytest.mark.parametrize("name", ["gru", "NestedState", "Starting"])
def test_a_reset_splits_the_sequence(name: str, lengths: Any, reset: Any, k1: int, k2: int) -> None:
    layer = mg.Recurrent(CELLS[name]())
    xs, ys = draw(layer, 7, 3)
    state = draw_state(layer.cell, 3, requires_grad=True)
    options: dict[str, Any] = {"k1": k1, "k2": k2, "lengths": lengths, "reset": reset}
    expected, last = row_by_row(layer, xs, ys, state=state, **options)
    for stale in MODES:
        windows = mg.tbptt(layer, xs, ys, mse, state, stale=stale, **options)
        for window, gradient in zip(windows, expected, strict=True):
            same(gradients(layer, state), gradient)
            carried = list(leaves(window.state))
        same([[leaf[row : row + 1] for leaf in carried] for row in range(3)], last)


@every_mode
def test_a_model_without_init_state_starts_again_from_what_no_steps_leave(stale: str) -> None:
    model = Tagger()
    xs = mg.tensor((mg.uniform(shape=(7, 3), high=7).numpy()).astype("int64"))
    ys = (mg.uniform(shape=(7, 3), high=5).numpy()).astype("int64")
    reset, loss = at((0, [1]), (4, [0, 1])), mg.loss("cross_entropy", reduction="sum")
    parts = [slice(0, 4), slice(4, 7)]
    expected = [of_everything(model, xs[part, :2], mg.tensor(ys[part, :2]), loss) for part in parts]
    whole = of_everything(model, xs[:, 2:], mg.tensor(ys[:, 2:]), loss)
    found = of_windows(model, mg.tbptt(model, xs, ys, loss, k1=7, stale=stale, reset=reset))
    same(found, [{name: expected[0][name] + expected[1][name] + whole[name] for name in whole}])
    assert len(of_windows(model, mg.tbptt(model, xs, ys, loss, k1=2, k2=3, stale=stale, reset=reset))) == 4


@every_mode
@pytest.mark.parametrize("reset", [None, at((2, [0]), batch=2), at((5, [0, 1]), batch=2)], ids=["none", "2", "5"])
def test_a_learnt_initial_state_gets_a_gradient_while_it_is_within_reach(stale: str, reset: Any) -> None:
    layer = mg.Recurrent(mg.LSTMCell(I, H), learn_initial_state=True)
    xs, ys = draw(layer, 7, 2)
    options: dict[str, Any] = {"k1": 1, "k2": 3, "reset": reset}
    expected, _ = row_by_row(layer, xs, ys, **options)
    found = of_windows(layer, mg.tbptt(layer, xs, ys, mse, stale=stale, **options))
    same(found, expected)
    starts = {0} if reset is None else {0, *np.flatnonzero(reset.any(1))}
    for t, part in enumerate(found):
        reached = any(t - 2 <= start <= t for start in starts)
        assert bool(part["initial_state.0"].any()) == reached


# --- given states, frozen weights, inputs that want a gradient


@every_mode
def test_a_given_leaf_gets_each_window_s_gradient_and_nothing_of_the_last(stale: str) -> None:
    layer = mg.Recurrent(mg.LSTMCell(I, H))
    xs, ys = draw(layer, 6, 2)
    state = draw_state(layer.cell, 2, requires_grad=True)
    map_nest(lambda leaf: setattr(leaf, "grad", mg.ones(leaf.shape)), state)
    expected, _ = row_by_row(layer, xs, ys, k1=2, k2=4, state=state)
    windows = mg.tbptt(layer, xs, ys, mse, state, k1=2, k2=4, stale=stale)
    found = [(gradients(layer, state), [leaf.grad is None for leaf in state]) for _ in windows]
    same([part for part, _ in found], expected)
    assert [missing for _, missing in found] == [[False, False], [False, False], [True, True]]


@every_mode
def test_inputs_that_want_a_gradient_get_the_window_s(stale: str) -> None:
    layer = mg.Recurrent(mg.RNNCell(I, H))
    xs, ys = draw(layer, 5, 2)
    xs = mg.tensor(xs, requires_grad=True)
    for window, (start, stop) in zip(
        mg.tbptt(layer, xs, ys, mse, k1=2, k2=3, stale=stale), [(0, 2), (1, 4), (2, 5)], strict=True
    ):
        assert xs.grad is not None
        assert [bool(step.any()) for step in xs.grad.numpy()] == [start <= t < stop for t in range(5)]
        assert window.steps == (2 if start < 2 else 1)


@every_mode
def test_frozen_weights_get_no_gradient_and_change_no_other(stale: str) -> None:
    layer = mg.Recurrent(mg.GRUCell(I, H))
    xs, ys = draw(layer, 5, 2)
    options: dict[str, Any] = {"k1": 2, "k2": 4, "stale": stale}
    expected = of_windows(layer, mg.tbptt(layer, xs, ys, mse, **options))
    layer.cell.weight_hh.requires_grad = False
    found = []
    for _ in mg.tbptt(layer, xs, ys, mse, **options):
        assert layer.cell.weight_hh.grad is None
        found.append(gradients(layer))
    for part in expected:
        part["cell.weight_hh"][...] = 0
    same(found, expected)
    for parameter in layer.parameters():
        parameter.requires_grad = False
    with pytest.raises(RuntimeError, match="needs no gradient"):
        next(mg.tbptt(layer, xs, ys, mse, **options))


# --- bare data


@every_mode
def test_bare_data_take_the_dtype_of_the_model(stale: str) -> None:
    mg.set_default_dtype("float32")
    layer = mg.Recurrent(mg.LSTMCell(I, H))
    xs, ys = (np.random.default_rng(0).normal(size=(5, 2, size)) for size in (I, H))
    reset = at((3, [1]), steps=5, batch=2)
    state = (np.ones((2, H)), np.zeros((2, H)))
    tensors = [mg.tensor(array, dtype="float32") for array in (xs, ys)]
    options: dict[str, Any] = {"k1": 2, "k2": 4, "stale": stale}
    expected = [
        (w.loss, w.state, gradients(layer))
        for w in mg.tbptt(layer, *tensors, mse, (mg.ones((2, H)), mg.zeros((2, H))), reset=mg.tensor(reset), **options)
    ]
    assert xs.dtype == np.float64
    for form in (lambda array: array, lambda array: array.tolist()):
        windows = mg.tbptt(layer, form(xs), form(ys), mse, state, reset=form(reset), **options)
        found = [(w.loss, w.state, gradients(layer)) for w in windows]
        same(found, expected, rtol=1e-6, atol=1e-7)
        assert {str(leaf.dtype) for leaf in leaves(found)} == {"float32"}


def test_bare_data_are_copied() -> None:
    layer = mg.Recurrent(mg.GRUCell(I, H))
    xs, ys = (mg.normal(shape=(4, 2, size)).numpy().copy() for size in (I, H))
    expected = of_windows(layer, mg.tbptt(layer, xs, ys, mse, k1=2, k2=4, stale="keep"))
    windows = mg.tbptt(layer, xs, ys, mse, k1=2, k2=4, stale="keep")
    xs[:], ys[:] = 0, 0  # a buffer that is filled anew
    same(of_windows(layer, windows), expected)


@pytest.mark.parametrize("integer", [int, np.int64])
def test_window_sizes_are_integers_of_any_kind_and_k2_is_k1_by_default(integer: Any) -> None:
    layer = mg.Recurrent(mg.GRUCell(I, H))
    xs, ys = draw(layer, 5, 2)
    windows = mg.tbptt(layer, xs, ys, square_sum, k1=integer(2))
    expected = of_windows(layer, mg.tbptt(layer, xs, ys, square_sum, k1=2, k2=2))
    same(of_windows(layer, windows), expected)
