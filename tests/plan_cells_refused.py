"""Cells that cannot be compiled, and cells of which a compiler may compile or refuse, but never get wrong."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
from cells_zoo import H
from plan_cells_ops import Small

import minigrad as mg


class Branching(Small):
    """Asks for a value, and goes one way or the other."""

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h = mg.tanh(self.into(x, state))
        if h.sum().item() > 0:
            h = h * 0.5
        return h, h


class Truth(Small):
    """Takes a tensor for a truth value."""

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h = mg.tanh(self.into(x, state))
        h = h * 0.5 if (h > 0).sum() > 2 else h
        return h, h


class Numeric(Small):
    """Makes a Python number of a result."""

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h = mg.tanh(self.into(x, state))
        return h * float(h.sum()), h


class Bare(Small):
    """Reads the array of a tensor."""

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h = mg.tanh(self.into(x, state))
        return h * mg.Tensor(abs(h.data)), h


class Hosted(Small):
    """Reads values on the host."""

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h = mg.tanh(self.into(x, state))
        return h * float(np.abs(h.numpy()).max()), h


class Remembering(Small):
    """Writes an attribute of itself, and reads it at the next step."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def step(self, x: mg.Tensor, state: Any) -> Any:
        self.seen += 1
        h = mg.tanh(self.into(x, state)) / self.seen
        return h, h


class Collecting(Small):
    """Keeps its states in a list of its own, to be looked at later."""

    def __init__(self) -> None:
        super().__init__()
        self.trace: list[Any] = []

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h = mg.tanh(self.into(x, state))
        self.trace.append(h)
        return h, h


class Gambling(Small):
    """Draws with NumPy's own random numbers."""

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h = mg.tanh(self.into(x, state)) * float(np.random.rand())  # noqa: NPY002  # the old way is the point
        return h, h


REFUSED: dict[str, tuple[Callable[[], mg.Cell], str]] = {
    "Branching": (Branching, r"item|where"),
    "Truth": (Truth, r"bool|truth|where"),
    "Numeric": (Numeric, r"float|item"),
    "Bare": (Bare, r"\.data"),
    "Hosted": (Hosted, r"numpy\(\)"),
    "Remembering": (Remembering, r"seen"),
    "Collecting": (Collecting, r"trace"),
    "Gambling": (Gambling, r"random|mg\.(normal|uniform)"),
}
"""With what the message must name."""


# --- may be refused, must not be wrong


class Chosen(Small):
    """Indexes by integers computed from values: an index, unlike an input, is an attribute of its operation."""

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h = mg.tanh(self.into(x, state))
        rows = mg.arange(x.shape[0])
        return h[rows, mg.argmax(h, axis=-1)], h


class Copying(Small):
    """Makes a new leaf of a result."""

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h = mg.tanh(self.into(x, state))
        return h * mg.tensor(h), h


class Clock:
    """Counts, where no attribute of a cell shows it."""

    def __init__(self) -> None:
        self.now = 0

    def tick(self) -> int:
        self.now += 1
        return self.now

    def seed(self, value: int) -> None:
        self.now = value


class Ticking(Small):
    """Counts with an object that it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h = mg.tanh(self.into(x, state)) / self.clock.tick()
        return h, h


class Dicing(Small):
    """Draws with Python's own random numbers, kept in an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = random.Random(3)

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h = mg.tanh(self.into(x, state)) * self.clock.random()
        return h, h


class Energy(Small):
    """Goes down a slope: takes a gradient inside its step."""

    def step(self, x: mg.Tensor, state: Any) -> Any:
        with mg.enable_grad():
            at = mg.tensor(state, requires_grad=True) if not state.requires_grad else state
            (slope,) = mg.grad(mg.square(mg.tanh(self.into(x, at))).sum(), at, create_graph=True)
        h = state - 0.1 * slope
        return h, h


class OneTruth(Small):
    """Branches on a parameter's value, which is the same at all steps, until it is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = mg.Parameter(mg.ones(1))

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h = mg.tanh(self.into(x, state) * self.gain)
        return (h if self.gain.item() > 0 else -h), h


class Measured(Small):
    """Scaled by a norm taken on the parameter's array."""

    def step(self, x: mg.Tensor, state: Any) -> Any:
        scale = float((self.u.numpy() ** 2).sum())
        h = mg.tanh(x @ self.w + state @ self.u / (1 + scale))
        return h + mg.zeros((len(x), H), dtype=h.dtype), h


DOUBTFUL: dict[str, Callable[[], mg.Cell]] = {
    cell.__name__: cell for cell in (Chosen, Copying, Ticking, Dicing, Energy, OneTruth, Measured)
}
