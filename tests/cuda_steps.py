"""A training step of a layer on the stand-in for a GPU, as several tests take it."""

from __future__ import annotations

from typing import Any

import minigrad as mg

STEPS = 6


def data(steps: int = STEPS) -> Any:
    return mg.normal(shape=(steps, 3, 2))


def step(layer: Any, x: Any) -> None:
    """A training step, without anything that wants to see a number."""
    ys, _ = layer(x)
    (ys * ys).sum().backward()
    layer.zero_grad()
