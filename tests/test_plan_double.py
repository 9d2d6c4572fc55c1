"""Gradients that are recorded themselves (`create_graph=True`), through runs of the compiled engine."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from plan_runs import agree, host, weighted

import minigrad as mg

X = np.random.default_rng(0).normal(size=(4, 2, 3))

pytestmark = pytest.mark.both_executors


@pytest.fixture(autouse=True)
def _float64(backend: Any) -> None:
    mg.set_default_dtype("float64")


def twice(layer: mg.Recurrent, x: mg.Tensor, start: mg.Tensor) -> Any:
    ys, h = layer(x, start)
    return weighted(*layer(ys, h))


def windows(layer: mg.Recurrent, x: mg.Tensor, start: mg.Tensor) -> Any:
    first, h = layer(x[:2], start)
    return weighted(first, *layer(x[2:], h))


def x_of_a_weight(layer: mg.Recurrent, x: mg.Tensor, start: mg.Tensor) -> Any:
    return weighted(*layer(x @ layer.cell.weight_hh, start))


def state_of_a_weight(layer: mg.Recurrent, x: mg.Tensor, start: mg.Tensor) -> Any:
    return weighted(*layer(x, start @ layer.cell.weight_hh))


def x_is_a_weight(layer: mg.Recurrent, x: mg.Tensor, start: mg.Tensor) -> Any:
    whole = mg.stack([layer.cell.weight_hh[:2]])
    return weighted(*layer(whole, start)) + x.sum()


@pytest.mark.parametrize("build", [twice, windows, x_of_a_weight, state_of_a_weight, x_is_a_weight])
def test_what_lies_before_a_run_counts_once(build: Callable[..., Any]) -> None:
    found = []
    for engine in ("tape", "plan"):
        mg.seed(0)
        layer = mg.Recurrent(mg.RNNCell(3, 3), engine=engine)
        x, start = mg.tensor(X, requires_grad=True), mg.tensor(X[0], requires_grad=True)
        wanted = [x, start, *layer.parameters()]
        plain = mg.grad(build(layer, x, start), wanted)
        first = mg.grad(build(layer, x, start), wanted, create_graph=True)
        second = mg.grad(weighted(list(first)), wanted)
        agree([host(g) for g in first], [host(g) for g in plain])
        found.append([host(g) for g in (*first, *second)])
    agree(*found)


@pytest.mark.parametrize("create_graph", [False, True])
def test_one_tensor_in_two_places(create_graph: bool) -> None:
    found = []
    for engine in ("tape", "plan"):
        mg.seed(0)
        layer = mg.Recurrent(mg.LSTMCell(3, 3), engine=engine)
        h = mg.tensor(np.ones((2, 3)), requires_grad=True)
        ys, _ = layer(mg.stack([h, h]), (h, h))
        found.append(host(mg.grad(weighted(ys), h, create_graph=create_graph)[0]))
    agree(*found)


class Scaled(mg.Cell):
    """A bias, whose value no gradient needs, and something else that is read."""

    def __init__(self, held: Any, read: Callable[[Any], Any]) -> None:
        self.bias, self.held, self.read = mg.Parameter(np.full(3, 0.3)), held, read

    def init_state(self, batch_size: int) -> mg.Tensor:
        return mg.zeros((batch_size, 3))

    def step(self, x: mg.Tensor, state: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
        h = mg.tanh(state + x * self.read(self.held) + self.bias)
        return h, h


def gradients(change: Callable[[Scaled], Any], make: Callable[[], Any], read: Any, engine: str) -> list[Any]:
    """Of one loss, plain and recorded, after a change that came when the run was over."""
    cell = Scaled(make(), read)
    x = mg.tensor(X, requires_grad=True)
    loss = weighted(mg.Recurrent(cell, engine=engine)(x)[0])
    change(cell)
    plain = host(mg.grad(loss, x, retain_graph=True)[0])
    return [plain, host(mg.grad(loss, x, create_graph=True)[0])]


CHANGES: dict[str, tuple[Callable[[Scaled], Any], Callable[[], Any], Callable[[Any], Any]]] = {
    "an attribute": (lambda cell: setattr(cell, "held", 5.0), lambda: 2.0, lambda held: held),
    "an object": (
        lambda cell: setattr(cell.held, "scale", 5.0),
        lambda: types.SimpleNamespace(scale=2.0),
        lambda held: held.scale,
    ),
    "a list": (lambda cell: cell.held.__setitem__(0, 5.0), lambda: [2.0], lambda held: held[0]),
    "a mode": (lambda cell: cell.held.eval(), lambda: mg.Dropout(0.5), lambda held: 2.0 if held.training else 5.0),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_recorded_gradient_is_that_of_the_cell_as_it_was(name: str) -> None:
    found = [gradients(*CHANGES[name], engine) for engine in ("tape", "plan")]
    agree(found[1], found[0])
    agree(found[1][1], found[1][0])


@pytest.mark.host_only("an array attribute is the host's")
def test_an_array_is_kept_as_it_was() -> None:
    case = lambda cell: cell.held.fill(5.0), lambda: np.full(3, 2.0), lambda held: held
    found = [gradients(*case, engine) for engine in ("tape", "plan")]
    agree(found[1], found[0])
    agree(found[1][1], found[1][0])


def test_a_constant_tensor_is_kept_as_it_was() -> None:
    def change(cell: Scaled) -> None:
        cell.held.data = cell.held.data * 2.5

    found = gradients(change, lambda: mg.tensor([2.0, 2.0, 2.0]), lambda held: held, "plan")
    agree(found[1], found[0])


def test_a_parameter_that_has_been_updated_is_told() -> None:
    """Its value is gone, if an optimizer has written into it: the recorded gradient would mix old values with new."""

    def update(cell: Scaled) -> None:
        cell.bias.data -= 0.1

    with pytest.raises(mg.StaleParameterError, match=r"Scaled\.bias has been updated since recurrent"):
        gradients(update, lambda: 1.0, lambda held: held, "plan")


def test_a_change_that_no_copy_escapes_is_told() -> None:
    class Held(Scaled):
        scale = 2.0

        def step(self, x: mg.Tensor, state: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
            h = mg.tanh(state + x * self.scale + self.bias)
            return h, h

    x = mg.tensor(X, requires_grad=True)
    loss = weighted(mg.Recurrent(Held(None, float), engine="plan")(x)[0])
    Held.scale = 5.0
    with pytest.raises(mg.PlanError, match="something on its class of Held has changed since the run"):
        mg.grad(loss, x, create_graph=True)


def test_the_default_dtype_of_the_run_counts() -> None:
    class Counting(Scaled):
        def step(self, x: mg.Tensor, state: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
            h = mg.tanh(state + x * mg.zeros(3) + x * mg.full(3, 0.1))
            return h, h

    found = []
    for engine in ("tape", "plan"):
        x = mg.tensor(X, requires_grad=True)
        loss = weighted(mg.Recurrent(Counting(None, float), engine=engine)(x)[0])
        with mg.default_dtype("float32"):
            found.append(host(mg.grad(loss, x, create_graph=True)[0]))
    agree(*found, rtol=1e-12, atol=1e-12)


def test_all_parameters_are_there_in_a_recorded_gradient() -> None:
    """A step that asks for its parameters finds those of the run, by name."""

    class Penalized(mg.RNNCell):
        def step(self, x: mg.Tensor, state: mg.Tensor) -> Any:
            y, h = super().step(x, state)
            return y * sum(mg.square(parameter).sum() for parameter in self.parameters()), h

    found = []
    for engine in ("tape", "plan"):
        mg.seed(0)
        cell = Penalized(3, 3)
        loss = weighted(mg.Recurrent(cell, engine=engine)(X)[0])
        first = mg.grad(loss, list(cell.parameters()), create_graph=True)
        second = mg.grad(weighted(list(first)), list(cell.parameters()))
        found.append([host(g) for g in (*first, *second)])
    agree(*found)
