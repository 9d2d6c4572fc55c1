"""Attributes of any kind: the compiled engine bears them, runs without them, and leaves them as they are."""

from __future__ import annotations

import itertools
import re
import threading
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from plan_runs import agree
from test_plan_changes import Base, Reading, X

import minigrad as mg

pytestmark = [
    pytest.mark.host_only("it is what a cell holds that is looked at, on the host"),
    pytest.mark.both_executors,
]


@pytest.fixture(autouse=True)
def _float64(backend: Any) -> None:
    mg.set_default_dtype("float64")


class Nothing:
    pass


def itself_in_a_list() -> list[Any]:
    held: list[Any] = [1]
    held.append(held)
    return held


def deep() -> Any:
    held = None
    for _ in range(5000):
        held = types.SimpleNamespace(held=held)
    return held


ODD: dict[str, Callable[[], Any]] = {
    "lock": threading.Lock,
    "event": threading.Event,
    "generator": lambda: (n for n in ()),
    "iterator": lambda: iter([1]),
    "count": itertools.count,
    "match": lambda: re.match("a", "a"),
    "object": object,
    "keys": lambda: {}.keys(),
    "slice": lambda: slice(1),
    "slices": lambda: (slice(None), [slice(0, 3)]),
    "itself in a list": itself_in_a_list,
    "deeply nested": deep,
    "a module of Python": lambda: np,
    "NaN": lambda: float("nan"),
    "a class": lambda: Nothing,
    "an exception": lambda: ValueError("a"),
}
COMPILED = {"object", "slice", "slices", "itself in a list", "a module of Python", "NaN", "a class"}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_attribute_is_no_error(name: str) -> None:
    cell = Reading(ODD[name]())
    layer = mg.Recurrent(cell)
    for _ in range(2):
        agree(layer(X)[0].numpy(), np.cumsum(X, axis=0))
    assert ("engine plan" in layer.explain()) == (name in COMPILED)
    assert len(layer._plans.known) == (name in COMPILED)


def test_a_layer_may_be_part_of_a_cell() -> None:
    class Outer(Base):
        def __init__(self) -> None:
            self.inner = mg.Recurrent(mg.GRUCell(3, 3))

        def step(self, x: mg.Tensor, state: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
            ys, h = self.inner(mg.stack([x, state]))
            return ys[0], h

    cell, found = Outer(), []
    for engine in ("plan", "tape"):
        layer = mg.Recurrent(cell, engine=engine)
        for _ in range(2):
            cell.zero_grad()
            ys = layer(X)[0]
            mg.square(ys).sum().backward()
            found.append([ys.numpy(), *(parameter.grad.numpy() for parameter in cell.parameters())])
    for result in found[:-1]:
        agree(result, found[-1])


# --- what the constructor was given


class Given(Base):
    def __init__(self, source: Any) -> None:
        self.weight = mg.Parameter(np.ones(3))

    def scale_of(self) -> Any:
        return self.weight


@pytest.mark.parametrize("make", [lambda: np.random.default_rng(0), lambda: iter([1]), lambda: np.zeros((9, 9))])
def test_what_a_constructor_has_not_kept_does_not_count(make: Callable[[], Any]) -> None:
    source = make()
    layer = mg.Recurrent(Given(source), engine="plan")
    layer(X)
    if isinstance(source, np.ndarray):
        source[:] = 1.0
        layer(X)
    assert len(layer._plans.known) == 1


# --- what a step changes in place


def noting(held: Any) -> Any:
    """Changes what it is given."""
    if isinstance(held, np.ndarray):
        held[0] += 1
    elif isinstance(held, set):
        held.add(len(held))
    elif isinstance(held, types.SimpleNamespace):
        held.seen.append(1)
    else:
        held.append(1)
    return held


@pytest.mark.parametrize("make", [lambda: np.zeros(2), set, list, lambda: types.SimpleNamespace(seen=[])])
def test_looking_at_a_step_changes_nothing_in_place(make: Callable[[], Any]) -> None:
    held, reasons = [], []
    for engine in ("auto", "tape"):
        cell = Reading(make(), lambda held: 1.0 if noting(held) is held else 0.0)
        layer = mg.Recurrent(cell, engine=engine)
        layer(X)
        held.append(str(cell.held))
        reasons.append(layer.explain())
    assert held[0] == held[1]
    assert "step assigns held" in reasons[0]
