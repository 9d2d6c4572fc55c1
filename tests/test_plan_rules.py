"""Steps that once were compiled wrongly: gaps, repetitions, dtypes, shared memory, and what a key did not see.

Memory that nothing has written holds NaN here, so that no result depends on it unnoticed.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg

Step = Callable[[mg.Tensor, mg.Tensor], tuple[mg.Tensor, mg.Tensor]]
X = np.random.default_rng(0).normal(size=(4, 2, 4))
H = np.random.default_rng(1).normal(size=(2, 4))


pytestmark = [pytest.mark.usefixtures("unwritten_is_nan"), pytest.mark.both_executors]


@pytest.fixture(autouse=True)
def _float64(backend: Any) -> None:
    mg.set_default_dtype("float64")


class Given(mg.Cell):
    """A step, and any attributes."""

    def __init__(self, step: Step) -> None:
        self.run = step

    def init_state(self, batch_size: int) -> mg.Tensor:
        return mg.zeros((batch_size, 4))

    def step(self, x: mg.Tensor, state: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
        return self.run(x, state)


def padded(x: mg.Tensor, n: int) -> mg.Tensor:
    return mg.pad(x, ((0, 0), (0, n)))


def rows(x: mg.Tensor) -> mg.Tensor:
    return mg.sum(x, axis=-1, keepdims=True)


def wide(x: mg.Tensor) -> mg.Tensor:
    return mg.broadcast_to(x, (2, 4))


def two_wholes_of_the_same_pieces(x: mg.Tensor, h: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
    one = mg.stack([h[:, 0] * 1.5], 1)
    return padded(one, 3), h * 0.5 + x * one


def two_wholes_of_two_pieces(x: mg.Tensor, h: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
    pieces = [h[:, :1] * 2, h[:, 1:2] * 3]
    return mg.concat(pieces, -1), padded(mg.concat(pieces, -1), 2) + x


def gates_of_a_sum_of_slices(x: mg.Tensor, h: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
    y = (mg.concat([x, h], -1) * 1.5)[:, 2:4] + h[:, :2]
    gates = mg.concat([mg.sigmoid(y[:, :1]), mg.sigmoid(y[:, 1:]), h[:, 2:]], -1)
    return gates, gates * x


STEPS: dict[str, Step] = {
    "a part of the state": lambda x, h: (x * 2, x * h[:, :1]),
    "a state with gaps": lambda x, h: (mg.sin(h), mg.pad(x[:, :2], ((0, 0), (1, 1)))),
    "gaps in a piece": lambda x, h: (
        mg.concat([padded(h[:, :1], 1), h[:, :2], h[:, :1]], -1),
        mg.sin(h) * x,
    ),
    "two wholes of the same pieces": two_wholes_of_the_same_pieces,
    "two wholes of two pieces": two_wholes_of_two_pieces,
    "gates of a sum of slices": gates_of_a_sum_of_slices,
    "both repeated": lambda x, h: (x * 2, h + rows(wide(h[:, :1] * 2) * wide(x[:, :1]))),
    "the mean of what is repeated": lambda x, h: (x * 2, h * mg.mean(wide(h[:, :1]) * x[:, :1], axis=1, keepdims=True)),
    "a row times what is cut": lambda x, h: (x * 2, h * 0.5 + rows(h * mg.detach(x))[:, :1]),
    "pieces of different wholes": lambda x, h: (x * 2, mg.concat([rows(h)[:, :1] * x[:, :1], h[:, 1:]], -1)),
    "booleans added": lambda x, h: (x, (h + (x > 0)) + (x > -1)),
    "booleans as factors": lambda x, h: (x, h * (x > 0) + h * (x > -1)),
    "booleans as factors of a difference": lambda x, h: (x, h * (x > 0) - h * (x > -1)),
    "a number and booleans": lambda x, h: (x, (h + 0.5) + (x > 0)),
    "a number times booleans": lambda x, h: (x, (h * 0.5) * (x[:, :1] > 0)),
    "zeros and ones like the state": lambda x, h: (x, h + mg.zeros_like(h) + x * mg.ones_like(h)),
    "zeros of both signs": lambda x, h: (mg.sign(1 / (h * 0.0 + -0.0)), 1 / (1 + h * h)),
    "products with x and the state side by side": lambda x, h: (
        mg.concat([x, h], -1) @ mg.ones((8, 4), dtype=x.dtype),
        mg.tanh(mg.linear(mg.concat([h, x, h * x], -1), mg.full((4, 12), 0.3, dtype=x.dtype))),
    ),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", STEPS)
def test_a_step_is_compiled_right(name: str, dtype: str) -> None:
    found = []
    for engine in ("tape", "plan"):
        x, h = mg.tensor(X.astype(dtype), True), mg.tensor(H.astype(dtype), True)
        with np.errstate(divide="ignore"):
            ys, last = mg.Recurrent(Given(STEPS[name]), engine=engine)(x, h)
            (mg.sum(ys * ys) + mg.sum(last * last)).backward()
        found.append([tensor.numpy() for tensor in (ys, last, x.grad, h.grad) if tensor is not None])
    for expected, planned in zip(*found, strict=True):
        assert planned.dtype == expected.dtype
        np.testing.assert_allclose(planned, expected, rtol=1e-10 if dtype == "float64" else 1e-4, atol=1e-6)


class Kept(mg.Cell):
    """Two tensors in the state; the new one of the second is a slice."""

    def init_state(self, batch_size: int) -> tuple[mg.Tensor, mg.Tensor]:
        return mg.zeros((batch_size, 4)), mg.zeros((batch_size, 2))

    def step(self, x: mg.Tensor, state: Any) -> tuple[mg.Tensor, Any]:
        part = mg.tanh(state[0] + x)[:, :2]
        return x * 1.5, (mg.cos(mg.sin(state[0]) * x), part)


def test_what_is_copied_at_the_end_of_a_step_is_there_until_then() -> None:
    found = []
    for engine in ("tape", "plan"):
        x = mg.tensor(X, True)
        ys, (a, b) = mg.Recurrent(Kept(), engine=engine)(x)
        (mg.sum(ys * ys) + mg.sum(a * a) + mg.sum(b * b)).backward()
        found.append([tensor.numpy() for tensor in (ys, a, b, x.grad) if tensor is not None])
    for expected, planned in zip(*found, strict=True):
        np.testing.assert_allclose(planned, expected, rtol=1e-10, atol=1e-12)


# --- what the key of a plan sees


class Slotted:
    """Keeps its attribute outside a `__dict__`."""

    __slots__ = ("slope",)

    def __init__(self, slope: float) -> None:
        self.slope = slope


def slope_of(attribute: Any) -> float:
    if isinstance(attribute, functools.partial):
        return float(attribute.keywords["slope"])
    if callable(attribute):
        return float(attribute())
    return float(attribute.slope if isinstance(attribute, Slotted) else max(attribute))


def enclosing(slope: float) -> Callable[[], float]:
    return lambda: slope


@pytest.mark.parametrize(
    "make",
    [
        lambda slope: functools.partial(slope_of, slope=slope),
        lambda slope: {slope},
        lambda slope: frozenset([slope]),
        lambda slope: deque([slope]),
        lambda slope: bytearray([int(10 * slope)]),
        Slotted,
        enclosing,
        lambda slope: [(slope,)][0],
    ],
    ids=["partial", "set", "frozenset", "deque", "bytearray", "slots", "closure", "tuple"],
)
def test_a_changed_attribute_of_any_kind_is_noticed(make: Callable[[float], Any]) -> None:
    cell = Given(lambda x, h: (h + x, h + x))
    cell.step = lambda x, h: (h + x * slope_of(cell.slope), h + x * slope_of(cell.slope))  # type: ignore[method-assign]
    planned, taped = mg.Recurrent(cell), mg.Recurrent(cell, engine="tape")
    results = []
    for slope in (0.1, 0.9):
        cell.slope = make(slope)
        np.testing.assert_allclose(planned(X)[0].numpy(), taped(X)[0].numpy())
        results.append(planned(X)[0].numpy().copy())
    assert not np.allclose(*results)


@pytest.mark.parametrize("attribute", [deque([1]), bytearray(b"1"), Slotted(1.0)])
def test_what_could_change_unnoticed_is_told(attribute: Any) -> None:
    cell = Given(lambda x, h: (x, h + x))
    cell.extra = attribute
    layer = mg.Recurrent(cell, engine="plan")
    with pytest.raises(
        mg.PlanError, match=f"Given holds a .*{type(attribute).__name__}, and the plan would not notice"
    ):
        layer(X)
    assert type(attribute).__name__ in layer.explain()


def test_what_classes_hold_is_noticed() -> None:
    class Mixin:
        slope = 0.5
        slopes = [0.5]  # noqa: RUF012  # that is the point

    class Mixed(Given, Mixin):
        def step(self, x: mg.Tensor, state: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
            h = state + x * self.slope * self.slopes[0]
            return h, h

    layer = mg.Recurrent(Mixed(lambda x, h: (x, h)), engine="plan")
    first = layer(X)[0].numpy().copy()
    Mixin.slope = 1.0
    np.testing.assert_allclose(layer(X)[0].numpy(), 2 * first)
    Mixin.slopes[0] = 1.0
    np.testing.assert_allclose(layer(X)[0].numpy(), 4 * first)


# --- warnings, threads, reasons


def test_saturated_gates_warn_of_nothing() -> None:
    h = mg.tensor(np.full((2, 4), -1e3), True)
    ys, _ = mg.Recurrent(Given(lambda x, h: (mg.softplus(h) + mg.sigmoid(h), h + x)), engine="plan")(mg.tensor(X), h)
    mg.sum(ys).backward()
    assert h.grad is not None
    assert np.isfinite(h.grad.numpy()).all()


@pytest.mark.one_executor("compiled code gives infinity and NaN, but no warnings")
def test_an_overflow_of_the_step_s_own_is_told_as_on_the_tape() -> None:
    for engine in ("tape", "plan"):
        with pytest.warns(RuntimeWarning, match="overflow"):
            mg.Recurrent(Given(lambda x, h: (mg.exp(x * 1e4), h)), engine=engine)(mg.tensor(X))


def test_one_layer_in_several_threads() -> None:
    layer = mg.Recurrent(Given(lambda x, h: (h * x, mg.tanh(h + x))))
    tape = mg.Recurrent(layer.cell, engine="tape")
    xs = {batch: mg.normal(shape=(3, batch, 4)) for batch in range(1, 25)}
    expected = {batch: tape(x)[0].numpy() for batch, x in xs.items()}
    failures: list[Any] = []

    def work(start: int) -> None:
        try:
            for turn in range(72):
                batch = 1 + (start + turn) % 24
                found = layer(xs[batch])[0].numpy()
                np.testing.assert_allclose(found, expected[batch], rtol=1e-10)
        except BaseException as failure:
            failures.append(failure)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(7 * n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not failures


def test_a_reason_is_that_of_the_call() -> None:
    def branching(x: mg.Tensor, h: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
        return (x, h + x) if float(mg.sum(x).item()) > 0 else (x, h)

    layer = mg.Recurrent(Given(branching), engine="plan")
    with pytest.raises(mg.PlanError, match="reads the value"):
        layer(X)
    ys, _ = layer(X[:, :0])
    assert ys.shape == (4, 0, 4)


@pytest.mark.parametrize("steps", [0, -1, 1.5, True, "3"])
def test_checkpoint_every_is_a_number_of_steps(steps: Any) -> None:
    with pytest.raises(ValueError, match="checkpoint_every is a number of steps, an integer of 1 or more, or None"):
        mg.Recurrent(mg.RNNCell(2, 3), checkpoint_every=steps)


@mg.primitive
def spread(xp: Any, x: Any, /) -> Any:
    """Times the elements of a list."""
    return x * [1.0, 2.0, 3.0]


mg.defvjp(spread, lambda g, x: (g * mg.tensor([1.0, 2.0, 3.0], dtype="float64")).sum(axis=-1, keepdims=True))


@pytest.mark.host_only("a device takes no lists")
def test_the_shape_of_a_list_is_seen_in_a_trace() -> None:
    class Spreading(mg.Cell):
        def __init__(self) -> None:
            self.w = mg.Parameter(mg.normal(shape=(2, 1)))

        def init_state(self, batch_size: int) -> Any:
            return mg.zeros((batch_size, 1))

        def step(self, x: mg.Tensor, h: Any) -> Any:
            h = mg.tanh(x @ self.w + h)
            return spread(h), h

    cell, x = Spreading(), mg.ones((4, 2, 2))
    plan, tape = (mg.Recurrent(cell, engine=engine)(x)[0].numpy() for engine in ("plan", "tape"))
    assert plan.shape == (4, 2, 3)
    np.testing.assert_allclose(plan, tape, rtol=1e-12)
