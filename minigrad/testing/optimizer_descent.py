"""Checks of optimizers: do they optimize?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import inf, isfinite

import numpy as np

import minigrad as mg
from minigrad.testing.optimizer_runs import RATE, Subject, set_gradient
from minigrad.testing.results import Measured

__all__ = ["quadratic", "rosenbrock"]


def quadratic(subject: Subject) -> Measured:
    """300 steps on a convex quadratic, curvatures 1 to 20, leave 1 % of the loss, at one of the learning rates."""
    curvatures = (np.array([[1.0, 2.0], [5.0, 20.0]]), np.array([3.0, 1.0, 10.0]))

    def losses(lr: float) -> Iterator[float]:
        params = [mg.Parameter(np.full(c.shape, -1.0)) for c in curvatures]
        optimizer = subject.make(params, lr)
        for _ in range(301):
            optimizer.zero_grad()
            total = mg.zeros((), dtype="float64")
            for curvature, parameter in zip(curvatures, params, strict=True):
                total = total + (mg.square(parameter - 1.0) * mg.tensor(curvature)).sum()
            total.backward()
            yield total.item()
            optimizer.step()

    return _reaches(subject, losses, 0.01, "the loss of a convex quadratic after 300 steps")


def rosenbrock(subject: Subject) -> Measured:
    """3000 steps on Rosenbrock's function from (-1.5, 2) leave 5 % of the loss, at one of the learning rates."""

    def losses(lr: float) -> Iterator[float]:
        point = mg.Parameter(np.array([-1.5, 2.0]))
        optimizer = subject.make([point], lr)
        for _ in range(3001):
            x, y = point.numpy().tolist()
            valley = y - x * x
            yield (1 - x) * (1 - x) + 100 * valley * valley
            set_gradient(point, [2 * (x - 1) - 400 * x * valley, 200 * valley])
            optimizer.step()

    return _reaches(subject, losses, 0.05, "the loss of Rosenbrock's function after 3000 steps")


def _reaches(subject: Subject, losses: Callable[[float], Iterator[float]], target: float, where: str) -> Measured:
    """The last loss over the first, at the first learning rate of a grid that is good enough, or the best."""
    rates = (0.1, 0.03, 0.01, 0.003, 0.001, 0.3, 1.0) if subject.takes_lr else (RATE,)
    best, at = inf, rates[0]
    for lr in rates:
        with np.errstate(all="ignore"):
            share = _share(losses(lr))
        if share < best:
            best, at = share, lr
        if share <= target:
            break
    chosen = f", at lr={at}, the best of {', '.join(map(str, rates))}" if subject.takes_lr else ""
    return Measured(best, target, f"{where}, over the first loss{chosen}")


def _share(losses: Iterator[float]) -> float:
    """The last loss over the first; infinite for one that explodes."""
    first = last = next(losses)
    for last in losses:
        if not last < 1e9 * first:
            return inf
    return last / first if isfinite(last) else inf
