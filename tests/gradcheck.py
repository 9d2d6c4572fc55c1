"""Gradients of the tape against central differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import minigrad as mg


def check_gradients(
    function: Callable[..., Any], *inputs: Any, order: int = 2, step: float = 1e-6, tolerance: float = 1e-6
) -> None:
    """Compare the tape's gradients of `function(*inputs)` with central differences, in float64.

    The result is projected on random weights, so that every element of it counts. With `order=2` the gradients
    themselves are projected and checked in the same way.

    Args:
        function: takes as many tensors as there are inputs; returns a tensor.
        inputs: tensors, float64 where they need a gradient; those that need none are held fixed.
        order: 1 or 2.
        step: of the differences; sqrt(eps) errors stay below `tolerance` for values around 1.
        tolerance: absolute, and relative to the largest element.
    """
    points = [Point(x) for x in inputs]
    moving = [point for point in points if point.moves]
    assert moving, "no input needs a gradient"
    _compare(function, points, moving, order, step, tolerance)


class Point:
    """An input: host values, and whether it moves."""

    def __init__(self, x: mg.Tensor) -> None:
        self.values, self.moves, self.place = np.array(x.numpy()), x.requires_grad, x.backend
        assert not self.moves or self.values.dtype == np.float64, "check gradients in float64"

    def tensor(self, values: Any = None) -> mg.Tensor:
        array = self.place.asarray(np.array(self.values if values is None else values))
        return mg.Tensor(array, requires_grad=self.moves)


def _compare(
    function: Callable[..., Any], points: list[Point], moving: list[Point], order: int, step: float, tolerance: float
) -> None:
    generator = np.random.default_rng(17)
    tensors = [point.tensor() for point in points]
    output = function(*tensors)
    if not output.requires_grad:  # constant in all inputs: then the differences must vanish
        weights, gradients = _weights(generator, output), [np.zeros(point.values.shape) for point in moving]
    else:
        weights = _weights(generator, output)
        wanted = [x for x, point in zip(tensors, points, strict=True) if point.moves]
        found = mg.grad(output, wanted, weights, create_graph=order > 1)
        gradients = [g.numpy() for g in found]
    for point, gradient in zip(moving, gradients, strict=True):
        assert gradient.shape == point.values.shape, f"gradient of shape {gradient.shape} for {point.values.shape}"
        differences = _differences(function, points, point, weights.numpy(), step)
        scale = max(1.0, float(np.abs(differences).max(initial=0.0)))
        np.testing.assert_allclose(
            gradient, differences, rtol=0, atol=tolerance * scale, err_msg=f"input {points.index(point)}, tape first"
        )
    if order > 1 and output.requires_grad:
        _compare(_gradient_of(function, points, weights), points, moving, order - 1, step, tolerance)


def _gradient_of(function: Callable[..., Any], points: list[Point], weights: mg.Tensor) -> Callable[..., Any]:
    """A function of the same inputs: all gradients of the projected output, side by side."""

    def gradient(*tensors: Any) -> mg.Tensor:
        tensors = tuple(
            x if x.requires_grad or not p.moves else mg.Tensor(x.data, True)
            for x, p in zip(tensors, points, strict=True)
        )
        wanted = [x for x, point in zip(tensors, points, strict=True) if point.moves]
        found = mg.grad(function(*tensors), wanted, weights, create_graph=True)
        return mg.concat([g.reshape(-1) for g in found])

    return gradient


def _weights(generator: np.random.Generator, output: mg.Tensor) -> mg.Tensor:
    return mg.Tensor(output.backend.asarray(generator.uniform(0.5, 1.5, output.shape)))


def _differences(function: Callable[..., Any], points: list[Point], point: Point, weights: Any, step: float) -> Any:
    result = np.zeros(point.values.shape)
    for index in np.ndindex(*point.values.shape):
        sides = []
        for sign in (1, -1):
            moved = point.values.copy()
            moved[index] += sign * step
            output = function(*(p.tensor(moved if p is point else None) for p in points))
            sides.append(float((output.numpy() * weights).sum()))
        result[index] = (sides[0] - sides[1]) / (2 * step)
    return result
