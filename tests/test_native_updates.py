"""Updates of all parameters in one compiled pass: the same numbers as one by one, and for any algorithm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from native_toolchain import needs_compiler

import minigrad as mg
from minigrad.optimizers import Optimizer
from minigrad.plan.native import sweep, updates
from minigrad.plan.native.elements import NotElementwiseError

pytestmark = [pytest.mark.host_only("compiled code knows no backend"), needs_compiler]

SHAPES = [(33, 7), (17,), (), (0, 3), (5, 2, 3), (16,)]


@pytest.fixture(autouse=True)
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many groups each compiled pass has had."""
    counted: list[int] = []
    original = sweep.sweep

    def counting(lines: Any, results: Any, read: Any, written: Any, numbers: Any) -> bool:
        done = original(lines, results, read, written, numbers)
        counted.extend([len(read)] * done)
        return done

    monkeypatch.setattr(sweep, "sweep", counting)
    monkeypatch.setattr(updates, "LARGE", 1)
    monkeypatch.setenv("MINIGRAD_NATIVE", "1")
    return counted


def train(make: Callable[[Any], Optimizer], native: bool, dtype: str = "float32", steps: int = 5) -> dict[str, Any]:
    """Parameters and states after some steps, with numbers that change, and gradients that are missing now and then."""
    random = np.random.default_rng(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIGRAD_NATIVE", "1" if native else "0")
        parameters = [mg.Parameter(mg.tensor(random.normal(size=shape), dtype=dtype)) for shape in SHAPES]
        mg.seed(1)
        optimizer = make(parameters)
        kept = []
        for step in range(steps):
            for number, parameter in enumerate(parameters):
                parameter.grad = mg.tensor(random.normal(size=parameter.shape), dtype=dtype)
                kept.append((parameter.data, parameter.data.copy(), parameter.grad.data, parameter.grad.data.copy()))
                if step == 2 and number == 1:
                    parameter.grad = None
            optimizer.groups[0]["lr"] *= 0.9
            optimizer.step()
        for data, data_then, gradient, gradient_then in kept:
            np.testing.assert_array_equal(data, data_then)
            np.testing.assert_array_equal(gradient, gradient_then)
        states = [optimizer.state.get(parameter, {}) for parameter in parameters]
    return {"parameters": [p.numpy() for p in parameters], "states": states, "drawn": mg.normal(shape=(2,)).numpy()}


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for one, other in zip(found["parameters"], expected["parameters"], strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    for one, other in zip(found["states"], expected["states"], strict=True):
        assert list(one) == list(other)
        for name in one:
            assert np.asarray(one[name]).dtype == np.asarray(other[name]).dtype
            np.testing.assert_array_equal(one[name], other[name])
    np.testing.assert_array_equal(found["drawn"], expected["drawn"])


ALGORITHMS: list[tuple[str, dict[str, Any]]] = [
    ("sgd", {}),
    ("sgd", {"momentum": 0.9, "weight_decay": 0.1}),
    ("sgd", {"momentum": 0.9, "nesterov": True}),
    ("adam", {}),
    ("adam", {"amsgrad": True, "weight_decay": 0.1}),
    ("adamw", {}),
    ("rmsprop", {}),
    ("rmsprop", {"centered": True, "momentum": 0.5}),
    ("adagrad", {"lr_decay": 0.1}),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "options"), ALGORITHMS)
def test_every_bit_is_as_one_by_one(name: str, options: dict[str, Any], dtype: str, passes: list[int]) -> None:
    def make(parameters: Any) -> Optimizer:
        return mg.optimizer(name, parameters, lr=0.1, **options)

    expected = train(make, False, dtype)
    assert not passes
    assert_same(train(make, True, dtype), expected)
    assert sum(passes) >= 4 * (len(SHAPES) - 1) - 1  # all but the first update of each, and what has no axes


def algorithm(update: Callable[..., Any]) -> type[Optimizer]:
    return type("Algorithm", (Optimizer,), {"update": staticmethod(update)})


@algorithm
def operations(parameter, gradient, state, *, lr=0.1):
    small = np.where((abs(gradient) < 0.5) & (gradient > -0.4), gradient, mg.sign(gradient) * 0.5)
    kept = gradient.copy()
    kept += state.get("sum", 0.0)
    kept *= 0.5
    scale = 1 / (1 + np.sqrt(np.maximum(kept**2, 1e-3))) + (kept**2) ** 0.5
    small = np.where(np.logical_not(np.isfinite(small)), 0.0, small)
    return -(-parameter + lr * (small / scale)), {"sum": kept, "count": state.get("count", 0) + 1}


@algorithm
def branches(parameter, gradient, state, *, lr=0.1):
    step = state.get("step", 0) + 1
    direction = gradient if step % 2 else mg.sign(gradient)
    return parameter - lr / step * direction, {"step": step}


@algorithm
def history(parameter, gradient, state, *, lr=0.1):
    """What was the newest becomes the one before, and stays as it was."""
    newest = 0.5 * gradient
    if "newest" not in state:
        return parameter - lr * newest, {"newest": newest, "before": gradient * 0}
    return parameter - lr * (newest + state["before"]), {"newest": newest, "before": state["newest"]}


@algorithm
def one_array_twice(parameter, gradient, state, *, lr=0.1):
    step = state.get("step", 0) + 1
    made = gradient * 0.5 + state.get("first", 0.0)
    second = made if step % 2 else made + state["second"]
    return parameter - lr * second, {"step": step, "first": made, "second": second}


@algorithm
def keeps_what_it_is_given(parameter, gradient, state, *, lr=0.1):
    if state and state["step"] % 2:
        kept = {"parameter": parameter * 2, "gradient": gradient * 3}
    else:
        kept = {"parameter": parameter, "gradient": gradient}
    return parameter - lr * gradient, {"step": state.get("step", 0) + 1, **kept}


@algorithm
def keeps_copies(parameter, gradient, state, *, lr=0.1):
    return parameter - lr * gradient, {"step": 1, "parameter": parameter.copy(), "gradient": np.positive(gradient)}


@algorithm
def asks_for_kinds(parameter, gradient, state, *, lr=0.1):
    if isinstance(gradient, np.ndarray):
        gradient = gradient * 2
    chosen = np.where(gradient > 0, parameter, 0.0)
    assert chosen.dtype == parameter.dtype
    return parameter - lr * gradient * (chosen + 1), {"step": 1 << 2000}


@algorithm
def hands_the_state_over(parameter, gradient, state, *, lr=0.1):
    step = state.get("step", 0) + 1
    if step % 3 == 0:
        return state["z"], {"step": step, "z": state["z"]}
    return parameter - lr * gradient, {"step": step, "z": parameter - gradient}


@algorithm
def the_state_is_the_parameter(parameter, gradient, state, *, lr=0.1):
    made = parameter - lr * gradient
    return made, {"parameter": made}


@pytest.mark.parametrize(
    "made",
    [
        operations,
        branches,
        history,
        one_array_twice,
        keeps_what_it_is_given,
        keeps_copies,
        asks_for_kinds,
        hands_the_state_over,
        the_state_is_the_parameter,
    ],
    ids=lambda made: made.update.__name__,
)
def test_algorithms_of_ones_own(made: type[Optimizer], passes: list[int]) -> None:
    expected = train(lambda parameters: made(parameters, lr=0.1), False, steps=7)
    assert_same(train(lambda parameters: made(parameters, lr=0.1), True, steps=7), expected)
    assert passes


@algorithm
def by_norm(parameter, gradient, state, *, lr=0.1):
    return parameter - lr * gradient / (1 + (gradient**2).sum() ** 0.5), {"step": state.get("step", 0) + 1}


@algorithm
def by_shape(parameter, gradient, state, *, lr=0.1):
    return parameter - lr * (gradient if parameter.ndim > 1 else 2 * gradient), {"step": 1}


@algorithm
def noisy(parameter, gradient, state, *, lr=0.1):
    noise = mg.normal(shape=(1,)).numpy()[0].item()
    return parameter - lr * gradient + noise * mg.tanh(parameter).reshape(parameter.shape), {"step": 1}


@algorithm
def noisy_by_numbers(parameter, gradient, state, *, lr=0.1):
    return parameter - lr * (gradient + mg.normal(shape=()).item()), {"step": 1}


@algorithm
def catches(parameter, gradient, state, *, lr=0.1):
    try:
        size = float(abs(gradient).sum())
    except Exception:
        size = 1.0
    return parameter - lr * gradient / (1 + size), {"step": 1}


@algorithm
def in_place(parameter, gradient, state, *, lr=0.1):
    copy = parameter.copy()
    copy[...] = parameter - lr * gradient
    return copy, {"step": 1}


@algorithm
def the_parameter_as_it_is(parameter, gradient, state, *, lr=0.1):
    return parameter, {"sum": state.get("sum", 0.0) + gradient}


@algorithm
def widened(parameter, gradient, state, *, lr=0.1):
    return (parameter - np.float64(lr) * gradient).astype(gradient.dtype), {"step": 1}


@algorithm
def flags(parameter, gradient, state, *, lr=0.1):
    return parameter - lr * gradient, {"rising": gradient > 0}


@pytest.mark.parametrize(
    "made",
    [by_norm, by_shape, noisy, noisy_by_numbers, catches, in_place, the_parameter_as_it_is, widened, flags],
    ids=lambda made: made.update.__name__,
)
def test_what_is_not_the_same_for_each_element_is_done_one_by_one(made: type[Optimizer], passes: list[int]) -> None:
    expected = train(lambda parameters: made(parameters, lr=0.1), False)
    assert_same(train(lambda parameters: made(parameters, lr=0.1), True), expected)
    assert not passes


def test_a_copy_in_the_state_is_nobody_elses() -> None:
    parameter = mg.Parameter(mg.ones(40))
    optimizer = keeps_copies([parameter])
    for _ in range(3):
        parameter.grad = mg.ones(40)
        optimizer.step()
        parameter.grad.data[...] = 7.0
    assert (optimizer.state[parameter]["gradient"] == 1.0).all()


def test_an_array_that_two_states_have_is_written_by_neither() -> None:
    found = []
    for native in ("0", "1"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MINIGRAD_NATIVE", native)
            parameters = [mg.Parameter(mg.ones(40)) for _ in range(2)]
            optimizer = mg.optimizer("adam", parameters, lr=0.1)
            for step in range(5):
                for number, parameter in enumerate(parameters):
                    parameter.grad = mg.ones(40) * (number + 1.0)
                optimizer.step()
                if step == 2:
                    optimizer.state[parameters[1]] = optimizer.state[parameters[0]]
                    optimizer.state[parameters[0]]["mean"].flags.writeable = False
            found.append([parameter.numpy() for parameter in parameters])
    np.testing.assert_array_equal(*found)


def test_an_update_that_keeps_what_it_is_given_is_told() -> None:
    kept: list[Any] = []

    @algorithm
    def keeping(parameter, gradient, state, *, lr=0.1):
        made = parameter - lr * gradient
        kept.append(gradient)
        return (made + kept[-2] if len(kept) > 3 else made), {"step": 1}

    parameter = mg.Parameter(mg.ones(4))
    optimizer = keeping([parameter])

    def train() -> None:
        for _ in range(5):
            parameter.grad = mg.ones(4)
            optimizer.step()

    with pytest.raises(NotElementwiseError, match="pure function of its arguments"):
        train()


def test_in_portions(monkeypatch: pytest.MonkeyPatch, passes: list[int]) -> None:
    def make(parameters: Any) -> Optimizer:
        return mg.optimizer("adam", parameters, lr=0.1)

    expected = train(make, True)
    assert max(passes) == len(SHAPES) - 1
    passes.clear()
    monkeypatch.setattr(updates, "MOST", 40)
    assert_same(train(make, True), expected)
    assert 1 < max(passes) < len(SHAPES) - 1


def test_groups_and_parameters_that_come_later() -> None:
    def make(parameters: Any) -> Optimizer:
        return mg.optimizer("adam", [{"params": parameters[:2], "lr": 0.1}, {"params": parameters[2:], "lr": 0.01}])

    assert_same(train(make, True), train(make, False))


@pytest.mark.parametrize("native", [False, True])
def test_going_on_from_a_state_that_was_saved(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIGRAD_NATIVE", str(int(native)))
    random = np.random.default_rng(0)

    def run(optimizer: Any, parameters: Any, gradients: Any) -> None:
        for some in gradients:
            for parameter, gradient in zip(parameters, some, strict=True):
                parameter.grad = mg.tensor(gradient)
            optimizer.step()

    gradients = [[random.normal(size=shape).astype("f4") for shape in SHAPES] for _ in range(6)]
    first = [mg.Parameter(mg.ones(shape)) for shape in SHAPES]
    optimizer = mg.optimizer("adam", first, lr=0.1)
    run(optimizer, first, gradients[:3])
    saved, values = optimizer.state_dict(), [p.numpy().copy() for p in first]
    run(optimizer, first, gradients[3:])
    second = [mg.Parameter(mg.tensor(value)) for value in values]
    resumed = mg.optimizer("adam", second, lr=0.1)
    resumed.load_state_dict(saved)
    run(resumed, second, gradients[3:])
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    assert saved["state"][0]["step"] == 3
    assert not np.array_equal(saved["state"][0]["mean"], optimizer.state[first[0]]["mean"])


def test_an_error_in_an_update_is_told() -> None:
    @algorithm
    def failing(parameter, gradient, state, *, lr=0.1):
        if state.get("step") == 2:
            raise RuntimeError("of the algorithm")
        return parameter - lr * gradient, {"step": state.get("step", 0) + 1}

    parameter = mg.Parameter(mg.ones(4))
    optimizer = failing([parameter])
    parameter.grad = mg.ones(4)
    optimizer.step()
    optimizer.step()
    with pytest.raises(RuntimeError, match="of the algorithm"):
        optimizer.step()
    assert optimizer.state[parameter]["step"] == 2


def test_few_elements_are_done_one_by_one(monkeypatch: pytest.MonkeyPatch, passes: list[int]) -> None:
    monkeypatch.setattr(updates, "LARGE", 1 << 17)
    train(lambda parameters: mg.optimizer("adam", parameters, lr=0.1), True)
    assert not passes


def test_layouts_with_gaps_are_done_one_by_one(passes: list[int]) -> None:
    found = []
    for native in ("0", "1"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MINIGRAD_NATIVE", native)
            parameter = mg.Parameter(mg.ones((4, 3)))
            optimizer = mg.optimizer("adam", [parameter], lr=0.1)
            for step in range(3):
                parameter.data = np.asfortranarray(parameter.data)
                parameter.grad = mg.tensor(np.arange(12.0).reshape(4, 3) - step)
                optimizer.step()
            found.append(parameter.numpy())
    np.testing.assert_array_equal(*found)
    assert not passes


def test_without_a_compiler_updates_are_done_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = train(lambda parameters: mg.optimizer("adam", parameters, lr=0.1), False)
    monkeypatch.setattr(sweep, "_function", lambda *key: None)
    assert_same(train(lambda parameters: mg.optimizer("adam", parameters, lr=0.1), True), expected)
