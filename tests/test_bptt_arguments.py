"""What truncated backpropagation refuses, when, and what an error leaves behind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from bptt_oracles import MODES, gradients, mse, same
from cells_zoo import DictState

import minigrad as mg

pytestmark = pytest.mark.both_engines
every_mode = pytest.mark.parametrize("stale", MODES)


class Untouched(mg.Module):
    """A model that must not be run."""

    def __init__(self) -> None:
        self.w = mg.Parameter([1.0])

    def forward(self, x: Any, state: Any = None) -> Any:
        raise AssertionError("the model has been run")


class UntouchedGRU(mg.Recurrent):
    """A layer that must not be run."""

    def __init__(self) -> None:
        super().__init__(mg.GRUCell(2, 3))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("the model has been run")


def call(model: Any = None, **changed: Any) -> Any:
    """tbptt with good arguments but for those given."""
    good = {"xs": mg.zeros((5, 4, 2)), "ys": mg.zeros((5, 4, 3)), "loss": mse, "k1": 2, "k2": 3}
    return mg.tbptt(UntouchedGRU() if model is None else model, **(good | changed))


A_STEP = r"is a number of steps, an integer of at least 1; got "
BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"k1": 0}, ValueError, f"k1 {A_STEP}0"),
    ({"k1": -3}, ValueError, f"k1 {A_STEP}-3"),
    ({"k1": True}, ValueError, f"k1 {A_STEP}True"),
    ({"k1": 2.0}, ValueError, f"k1 {A_STEP}2.0"),
    ({"k1": "2"}, ValueError, f"k1 {A_STEP}'2'"),
    ({"k2": 0}, ValueError, f"k2 {A_STEP}0"),
    ({"k2": 3.5}, ValueError, f"k2 {A_STEP}3.5"),
    ({"k2": np.bool_(True)}, ValueError, f"k2 {A_STEP}.*True"),
    ({"k2": 1}, ValueError, "k2 must be at least k1, .*; got k1=2, k2=1"),
    ({"stale": "ignore"}, ValueError, "stale is 'recompute', 'keep' or 'error', not 'ignore'"),
    ({"reduction": "none"}, ValueError, "reduction is 'mean' or 'sum', not 'none'"),
    ({"ys": [[0.0] * 4] * 6}, ValueError, r"xs and ys must both be \(T, B, ...\); they are \(5, 4, 2\) and \(6, 4\)"),
    ({"ys": [[0.0] * 3] * 5}, ValueError, r"xs and ys must .* \(5, 4, 2\) and \(5, 3\)"),
    ({"xs": [0.0] * 5, "ys": [0.0] * 5}, ValueError, r"xs and ys must .* \(5,\) and \(5,\)"),
    ({"state": "h"}, ValueError, r"state must be built like init_state's, Tensor\[4, 3\]; this is str"),
    ({"reset": [True] * 5}, ValueError, r"reset must be booleans of shape \(T, B\) = \(5, 4\); it is bool \(5,\)"),
    ({"reset": [[True] * 5] * 4}, ValueError, r"reset must be .* = \(5, 4\); it is bool \(4, 5\)"),
    ({"reset": [[1] * 4] * 5}, ValueError, r"reset must be booleans .*; it is int64 \(5, 4\)"),
    ({"lengths": [5, 5, 5]}, ValueError, r"lengths must have 4 entries"),
    ({"lengths": [5, 6, 5, 5]}, ValueError, r"lengths\[1\] is 6; it must be in 0..5"),
    ({"lengths": [5, 5, 5, -1]}, ValueError, r"lengths\[3\] is -1; it must be in 0..5"),
    ({"lengths": [1.0, 2.0, 3.0, 4.0]}, TypeError, "lengths must be integers"),
    (
        {"loss": "mse"},
        TypeError,
        r"loss must be a function of \(outputs, targets\), such as mg.loss\('mse'\); got 'mse'",
    ),
    ({"loss": None}, TypeError, "loss must be a function"),
]


@pytest.mark.parametrize(("changed", "error", "message"), BAD, ids=[str(changed) for changed, _, _ in BAD])
@every_mode
@pytest.mark.one_engine("it is told before an engine is chosen")
def test_bad_arguments_are_told_at_the_call(changed: Any, error: Any, message: str, stale: str) -> None:
    with pytest.raises(error, match=message):
        call(**({"stale": stale} | changed))


@pytest.mark.one_engine("it is told before an engine is chosen")
def test_bad_models_are_told_at_the_call() -> None:
    for model in (lambda x, state: (x, state), mg.GRU, "lstm", [mg.RNN(2, 3)]):
        with pytest.raises(TypeError, match=r"model must be a mg\.Module, so that its gradients can be cleared; got "):
            call(model)
    with pytest.raises(TypeError, match=r"model must run over time; wrap the cell: mg\.Recurrent\(GRUCell\(...\)\)"):
        call(mg.GRUCell(2, 3))
    with pytest.raises(ValueError, match=r"model must be time first, .* batch_first=True"):
        call(mg.GRU(2, 3, batch_first=True))
    with pytest.raises(TypeError, match=r"with lengths, the model must take them: Untouched\(x, state, lengths=...\)"):
        call(Untouched(), lengths=[1, 2, 3, 4])


@pytest.mark.one_engine("it is told before an engine is chosen")
def test_a_state_that_does_not_fit_is_told_at_the_call() -> None:
    build = r"state must be built like init_state's, Tensor\[4, 3\]; this is "
    for state, shown in [
        (mg.zeros((5, 3)), r"Tensor\[5, 3\]"),
        (mg.zeros((4, 2)), r"Tensor\[4, 2\]"),
        ((mg.zeros((4, 3)),), r"\(Tensor\[4, 3\],\)"),
        ({"h": mg.zeros((4, 3))}, r"\{'h': Tensor\[4, 3\]\}"),
    ]:
        with pytest.raises(ValueError, match=build + shown):
            call(state=state)
    with pytest.raises(TypeError, match="state is float64 where init_state's is float32"):
        call(state=mg.zeros((4, 3), dtype="float64"))
    with pytest.raises(ValueError, match=r"this is \{'mean': Tensor\[4, 3\]\}"):
        call(mg.Recurrent(DictState()), state={"mean": mg.zeros((4, 3))})
    for state in (mg.zeros((5, 3)), (mg.zeros((4, 3)), [mg.zeros((1, 3))]), mg.zeros(()), 4):  # no init_state to ask
        with pytest.raises(ValueError, match="state must have the batch of xs, 4, as its first axis; it is "):
            call(Untouched(), state=state)


@every_mode
@pytest.mark.one_engine("it is told before an engine is chosen")
def test_data_with_a_history_are_told_at_the_call(stale: str) -> None:
    source = mg.ones((5, 4, 2), requires_grad=True)
    with pytest.raises(ValueError, match=r"xs has a history, .* pass xs.detach\(\), or compute it in the model"):
        call(xs=source * 2, stale=stale)
    with pytest.raises(ValueError, match="ys has a history"):
        call(ys=source.sum(-1, keepdims=True) * mg.ones(3), stale=stale)


# --- what only a run can show


@every_mode
def test_models_and_losses_that_return_the_wrong_thing(stale: str) -> None:
    class Returning(mg.Module):
        def __init__(self, result: Any) -> None:
            self.w, self.result = mg.Parameter([1.0]), lambda: result

        def forward(self, x: Any, state: Any = None) -> Any:
            return self.result()

    y = mg.ones((2, 4, 3))
    for result, shown in [
        (y, r"Tensor\[2, 4, 3\]"),
        ((y,), r"\(Tensor\[2, 4, 3\],\)"),
        ((y, y, y), r"\(Tensor.*\)"),
        ([y, y], r"\[Tensor.*\]"),
        (({"y": y}, y), r"\(\{'y': Tensor"),
        (None, "NoneType"),
    ]:
        with pytest.raises(TypeError, match=r"model\(x, state\) must return \(outputs, state\), .* returned " + shown):
            next(call(Returning(result), stale=stale))
    for loss, shown in [
        (lambda y, t: y, r"Tensor\[2, 4, 3\]"),
        (lambda y, t: 0.5, "float"),
        (lambda y, t: y.sum().item(), "float"),
        (lambda y, t: None, "NoneType"),
        (lambda y, t: (y.sum(), y), r"\(Tensor\[\]"),
    ]:
        with pytest.raises(ValueError, match="loss must return a tensor of one element; it returned " + shown):
            next(call(mg.GRU(2, 3), loss=loss, stale=stale))


@every_mode
def test_a_loss_of_one_element_may_have_any_shape(stale: str) -> None:
    model, xs = mg.GRU(2, 3), mg.normal(shape=(5, 4, 2))
    found = []
    for shape in ((), (1,), (1, 1)):
        windows = call(model, xs=xs, loss=lambda y, t, shape=shape: mse(y, t).reshape(shape), stale=stale)
        found.append([gradients(model) for _ in windows])
    same(found[1], found[0], rtol=0, atol=0)
    same(found[2], found[0], rtol=0, atol=0)


@every_mode
def test_a_loss_without_history_is_told_and_so_is_no_grad(stale: str) -> None:
    model = mg.GRU(2, 3)
    with pytest.raises(RuntimeError, match=r"needs no gradient: .* detached"):
        next(call(model, loss=lambda y, t: mse(y.detach(), t), stale=stale))
    with pytest.raises(RuntimeError, match=r"needs no gradient: .* detached"):
        next(call(model, loss=lambda y, t: mse(y.detach(), t), stale=stale, lengths=[1, 0, 0, 0]))
    windows = call(model, stale=stale)
    with mg.no_grad(), pytest.raises(RuntimeError, match=r"needs no gradient: .* no_grad\(\)"):
        next(windows)
    for _ in call(model, stale=stale):
        with mg.no_grad():  # the body may be in one
            mg.clip_grad_norm(model.parameters(), 1.0)
    assert all(p.grad is not None for p in model.parameters())


@every_mode
def test_an_exception_leaves_the_gradients_of_the_window_before(stale: str) -> None:
    calls = []

    def failing(outputs: Any, targets: Any) -> mg.Tensor:
        calls.append(outputs)
        if len(calls) == 2:
            raise FloatingPointError("too much")
        return mse(outputs, targets)

    model = mg.GRU(2, 3)
    windows = call(model, xs=mg.normal(shape=(5, 4, 2)), loss=failing, stale=stale)
    next(windows)
    before = gradients(model)
    assert any(value.any() for value in before.values())
    with pytest.raises(FloatingPointError, match="too much"):
        next(windows)
    same(gradients(model), before, rtol=0, atol=0)
    assert list(windows) == []


@every_mode
def test_a_loop_that_raises_or_breaks_can_be_taken_up_from_its_state(stale: str) -> None:
    model, xs, ys = mg.GRU(2, 3), mg.normal(shape=(6, 4, 2)), mg.normal(shape=(6, 4, 3))
    whole = [(window.state, window.loss) for window in mg.tbptt(model, xs, ys, mse, k1=2, k2=2, stale=stale)]
    kept = []

    def interrupted() -> None:
        for window in mg.tbptt(model, xs, ys, mse, k1=2, k2=2, stale=stale):
            kept.append(window)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    (window,) = kept
    rest = mg.tbptt(model, xs[window.steps :], ys[window.steps :], mse, window.state, k1=2, k2=2, stale=stale)
    same([(window.state, window.loss) for window in rest], whole[1:])


@every_mode
def test_gradients_from_elsewhere_are_not_added_to(stale: str) -> None:
    model, xs = mg.GRU(2, 3), mg.normal(shape=(5, 4, 2))
    expected = [gradients(model) for _ in call(model, xs=xs, stale=stale)]
    found = []
    windows = call(model, xs=xs, stale=stale)
    for _ in range(3):
        for parameter in model.parameters():
            parameter.grad = mg.ones(parameter.shape)
        next(windows)
        found.append(gradients(model))
    same(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: mg.Recurrent(mg.GRUCell(2, 3), reverse=True), "must run forward in time; this one runs backward"),
        (lambda: mg.Bidirectional(mg.GRUCell(2, 3)), "must run forward in time; backward_layer runs backward"),
        (
            lambda: mg.Stack(mg.Recurrent(mg.GRUCell(2, 3)), mg.Recurrent(mg.GRUCell(3, 3), reverse=True)),
            r"must run forward in time; layers\.1 runs backward",
        ),
        (
            lambda: mg.Sequential(mg.GRU(2, 3)),
            r"model must carry a state: write a module with forward\(self, x, state\)",
        ),
    ],
    ids=["reverse", "bidirectional", "stacked", "sequential"],
)
@pytest.mark.one_engine("it is told before an engine is chosen")
def test_models_without_a_past_to_carry_are_refused(model: Any, message: str) -> None:
    error = TypeError if "carry" in message else ValueError
    with pytest.raises(error, match=message):
        mg.tbptt(model(), mg.ones((4, 2, 2)), mg.zeros((4, 2, 3)), mg.loss("mse"), k1=2)


def test_a_model_must_give_an_output_for_each_step() -> None:
    class Last(mg.Module):
        def __init__(self) -> None:
            self.layer = mg.GRU(2, 3)

        def forward(self, x: mg.Tensor, state: Any = None) -> Any:
            ys, state = self.layer(x, state)
            return ys[-1:], state

    windows = mg.tbptt(Last(), mg.ones((4, 2, 2)), mg.zeros((4, 2, 3)), lambda ys, _: ys.sum(), k1=2)
    with pytest.raises(ValueError, match=r"an output for each of the 2 steps it is given, \(T, \.\.\.\); its outputs"):
        next(windows)


def test_weights_that_are_nan_and_stay_so_are_not_called_updated() -> None:
    model = mg.RNN(2, 3)
    model.cell.weight_hh.data = model.cell.weight_hh.data * float("nan")
    windows = mg.tbptt(model, mg.ones((4, 2, 2)), mg.zeros((4, 2, 3)), mg.loss("mse"), k1=1, k2=2, stale="error")
    assert [window.loss.item() == window.loss.item() for window in windows] == [False] * 4
