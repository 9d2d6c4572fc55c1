"""Native code: what is computed anew instead of kept, and what must be kept."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.plan.native.executor import NativeExecutor

pytestmark = [
    pytest.mark.host_only("native code runs on NumPy's arrays"),
    pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="there is no C compiler on the path"),
]
SIZE = 7


@pytest.fixture(autouse=True)
def _native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIGRAD_NATIVE", "1")
    mg.set_default_dtype("float64")


class Base(mg.Cell):
    """With a matrix and a vector of parameters."""

    def __init__(self) -> None:
        self.w = mg.Parameter(mg.normal(shape=(SIZE, SIZE), std=0.5))
        self.p = mg.Parameter(mg.ones(SIZE))

    def init_state(self, batch_size: int) -> Any:
        return mg.ones((batch_size, SIZE))


class Highest(Base):
    """The gradient of a maximum asks which of the values it is equal to."""

    def step(self, x: mg.Tensor, h: Any) -> Any:
        p = mg.tanh(x) * x
        v = p + h
        m = mg.max(v, axis=-1, keepdims=True)
        h = mg.tanh((p * h) @ self.w)
        return m + v[:, :3], h


class Shifted(Base):
    """No rule of the tape keeps p, so it may be changed in place before the backward."""

    def step(self, x: mg.Tensor, h: Any) -> Any:
        h = 0.5 * h + mg.tanh(x @ self.w)
        return mg.square(x + self.p) + h, h


class Normed(Base):
    """Centred values and the standard deviation are kept; the normalised values follow from them."""

    def step(self, x: mg.Tensor, h: Any) -> Any:
        v = x @ self.w + h
        centred = v - v.mean(axis=-1, keepdims=True)
        deviation = mg.sqrt(mg.square(centred).mean(axis=-1, keepdims=True) + 1e-3)
        h = mg.tanh(centred / deviation * self.p)
        return h, h


class Newton(Base):
    """Each value is used twice by the next one."""

    def step(self, x: mg.Tensor, h: Any) -> Any:
        y = v = h @ self.w
        for _ in range(24):
            y = 0.5 * (y + 0.1 * y * y)
        h = mg.tanh(mg.tanh(y + x) @ self.w + v)
        return h, h


class Passing(Base):
    """A state of integers that goes through unchanged, and a concatenation of several dtypes."""

    def init_state(self, batch_size: int) -> Any:
        return mg.ones((batch_size, SIZE)), mg.zeros(batch_size, dtype="int64")

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h, task = state
        part = mg.concat([h, h > 0.1], axis=-1)[:, 3 : 3 + SIZE] * 0.5
        h = mg.tanh(x @ self.w + h)
        return part * mg.square(part) + part, (h, task)


def layers(cell: type[Base]) -> list[mg.Recurrent]:
    """The same layer by the tape and by native code."""
    made = []
    for engine in ("tape", "plan"):
        mg.seed(1)
        made.append(mg.Recurrent(cell(), engine=engine))
    return made


def gradients(layer: mg.Recurrent, x: mg.Tensor, change: Any = None) -> dict[str, Any]:
    ys, *_ = layer(x, return_states=True)
    total = ys.sum() + (ys * ys).mean()
    if change is not None:
        change(layer.cell)
    total.backward()
    return {name: np.zeros(1) if p.grad is None else p.grad.numpy() for name, p in layer.named_parameters()}


@pytest.mark.parametrize("batch", [1, 5, 64])
@pytest.mark.parametrize("cell", [Highest, Shifted, Normed, Newton, Passing])
def test_what_is_computed_anew_is_the_same(cell: type[Base], batch: int) -> None:
    tape, native = layers(cell)
    x = mg.normal(shape=(12, batch, SIZE))
    expected, found = gradients(tape, x), gradients(native, x)
    latest = native._plans.latest
    assert latest is not None
    assert isinstance(latest.executor, NativeExecutor)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-10, err_msg=name)


def test_a_maximum_is_found_again_in_float32() -> None:
    mg.set_default_dtype("float32")
    tape, native = layers(Highest)
    x = mg.normal(shape=(50, 64, SIZE))
    expected, found = gradients(tape, x)["cell.w"], gradients(native, x)["cell.w"]
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_a_parameter_that_no_rule_keeps_may_change_in_place() -> None:
    def change(cell: Any) -> None:
        cell.p.data += 1.0

    x = mg.normal(shape=(5, 2, SIZE))
    expected, found = (gradients(layer, x, change) for layer in layers(Shifted))
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-10, err_msg=name)


def test_normalised_values_are_not_kept() -> None:
    _, native = layers(Normed)
    gradients(native, mg.normal(shape=(3, 2, SIZE)))
    latest = native._plans.latest
    assert latest is not None
    kept = [array.value.name for array in latest.executor.schedule.arrays if array.kind == "saved"]
    assert sorted(kept) == ["sqrt", "subtract"]
