"""Gradients of the tape, or of a plan, against central differences."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from minigrad.autograd import grad
from minigrad.ops import concat
from minigrad.tensor import Parameter, Tensor, as_tensor
from minigrad.testing.results import CheckResult, Measured, run_checks

__all__ = ["check_gradients", "gradient_errors"]


def check_gradients(
    function: Callable[..., Any],
    *inputs: Any,
    parameters: Iterable[Parameter] = (),
    order: int = 2,
    step: float = 1e-6,
    tolerance: float = 1e-6,
) -> list[CheckResult]:
    """Compare the gradients of `function(*inputs)` with central differences, (f(x + e) - f(x - e)) / 2e, in float64.

    The result is projected on random weights, so that every element of it counts. With `order=2` the gradients
    themselves are projected and checked in the same way.

    Args:
        function: takes as many tensors as there are inputs; returns a tensor. Called twice it must compute the same:
            seed what it draws.
        inputs: float64 tensors that need a gradient; others are held fixed.
        parameters: further float64 tensors that the function reads, such as `model.parameters()`. They are changed for
            the differences, and put back.
        order: 1 or 2.
        step: e, of the differences; sqrt(eps) errors stay below `tolerance` for values around 1.
        tolerance: absolute, and relative to the largest element.

    Returns:
        A result for each input and parameter, and for each again of order 2.

    Raises:
        ValueError: nothing needs a gradient, or something that does is not float64.

    >>> from minigrad.testing import check_gradients
    >>> x = mg.tensor([0.5, 2.0], requires_grad=True, dtype="float64")
    >>> [result.status for result in check_gradients(mg.log, x)]
    ['passed', 'passed']

    Source: Griewank and Walther, Evaluating Derivatives (2008), section 3.1, on differences and their errors.
    """
    errors = gradient_errors(function, *inputs, parameters=parameters, order=order, step=step, tolerance=tolerance)
    checks = {measured.where: lambda errors, name=measured.where: errors[name] for measured in errors}
    return run_checks(checks, {measured.where: measured for measured in errors})


def gradient_errors(
    function: Callable[..., Any],
    *inputs: Any,
    parameters: Iterable[Parameter] = (),
    order: int = 2,
    step: float = 1e-6,
    tolerance: float = 1e-6,
) -> list[Measured]:
    """The largest error of each gradient; the arguments are those of `check_gradients`."""
    points = [_Point(f"input {n}", as_tensor(x), None) for n, x in enumerate(inputs)]
    points += [_Point(getattr(p, "name", "parameter"), p, p) for p in parameters]
    moving = [point for point in points if point.moves]
    if not moving:
        raise ValueError("no input needs a gradient: make one with requires_grad=True, or pass parameters")
    for point in moving:
        if point.values.dtype != np.float64:
            raise ValueError(f"{point.name} is {point.values.dtype}; gradients are checked in float64")
    try:
        return _errors(function, points, order, step, tolerance)
    finally:
        for point in points:
            point.tensor()


class _Point:
    """An input or a parameter: its name and host values, and whether it moves."""

    def __init__(self, name: str, x: Tensor, parameter: Any) -> None:
        self.name, self.parameter = name, parameter
        self.values, self.moves, self.place = np.array(x.numpy()), x.requires_grad, x.backend

    def tensor(self, values: Any = None) -> Tensor:
        """A tensor of these values, by default its own; a parameter is set to them."""
        array = self.place.asarray(np.array(self.values if values is None else values))
        if self.parameter is None:
            return Tensor(array, requires_grad=self.moves)
        self.parameter.data = array
        found: Tensor = self.parameter
        return found


def _call(function: Callable[..., Any], tensors: list[Tensor], points: list[_Point]) -> Any:
    return function(*(x for x, point in zip(tensors, points, strict=True) if point.parameter is None))


def _errors(
    function: Callable[..., Any], points: list[_Point], order: int, step: float, tolerance: float, again: str = ""
) -> list[Measured]:
    moving = [point for point in points if point.moves]
    generator = np.random.default_rng(17)
    tensors = [point.tensor() for point in points]
    output = _call(function, tensors, points)
    weights = _weights(generator, output)
    if not output.requires_grad:  # constant in all inputs: then the differences must vanish
        gradients = [np.zeros(point.values.shape) for point in moving]
    else:
        wanted = [x for x, point in zip(tensors, points, strict=True) if point.moves]
        gradients = [g.numpy() for g in grad(output, wanted, weights, create_graph=order > 1)]
    found = []
    for point, gradient in zip(moving, gradients, strict=True):
        name = f"the {again}gradient of {point.name}"
        if gradient.shape != point.values.shape:
            raise ValueError(f"{name} has shape {gradient.shape}; it must be {point.values.shape}")
        differences = _differences(function, points, point, weights.numpy(), step)
        error = np.abs(gradient - differences).max(initial=0.0) / max(1.0, np.abs(differences).max(initial=0.0))
        found.append(Measured(float(error), tolerance, name))
    if order > 1 and output.requires_grad:
        gradient_of = _gradient_of(function, points, weights)
        found += _errors(gradient_of, points, order - 1, step, tolerance, f"{again}second ")
    return found


def _gradient_of(function: Callable[..., Any], points: list[_Point], weights: Tensor) -> Callable[..., Any]:
    """A function of the same inputs: all gradients of the projected output, side by side."""

    def gradient(*given: Any) -> Tensor:
        inputs = iter(given)
        tensors = [point.parameter if point.parameter is not None else next(inputs) for point in points]
        tensors = [
            x if x.requires_grad or not p.moves else Tensor(x.data, True) for x, p in zip(tensors, points, strict=True)
        ]
        wanted = [x for x, point in zip(tensors, points, strict=True) if point.moves]
        found = grad(_call(function, tensors, points), wanted, weights, create_graph=True)
        return concat([g.reshape(-1) for g in found])

    return gradient


def _weights(generator: np.random.Generator, output: Tensor) -> Tensor:
    return Tensor(output.backend.asarray(generator.uniform(0.5, 1.5, output.shape)))


def _differences(function: Callable[..., Any], points: list[_Point], point: _Point, weights: Any, step: float) -> Any:
    result = np.zeros(point.values.shape)
    for index in np.ndindex(*point.values.shape):
        sides = []
        for sign in (1, -1):
            moved = point.values.copy()
            moved[index] += sign * step
            tensors = [p.tensor(moved if p is point else None) for p in points]
            sides.append(float((_call(function, tensors, points).numpy() * weights).sum()))
        result[index] = (sides[0] - sides[1]) / (2 * step)
    point.tensor()
    return result
