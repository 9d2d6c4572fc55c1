"""Learning-rate schedules: the factor that the optimizer's learning rate is multiplied by at each update.

A schedule is any function of the number of updates done, 0 before the first; before update t + 1 each group of the
optimizer has lr = (its own lr) * schedule(t). Schedules multiply, `WarmUp(100) * Cosine(1000)`, follow one another,
`WarmUp(100).then(100, Cosine(900))`, and mix with plain functions. To count in epochs multiply by `len(train)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from numbers import Integral
from typing import Any

from minigrad.optimizers import is_number

__all__ = ["Cosine", "Plateau", "Schedule", "StepDecay", "WarmUp"]


class Schedule:
    """Base class: define `__call__`; and for one with a memory `observe`, `state_dict` and `load_state_dict`.

    >>> from minigrad.train import Schedule
    >>> class InverseRoot(Schedule):
    ...     def __call__(self, step):
    ...         return (step + 1) ** -0.5
    >>> InverseRoot()(3), (InverseRoot() * (lambda step: 10.0))(3)
    (0.5, 5.0)
    """

    def __call__(self, step: int) -> float:
        """The factor after `step` updates."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__(self, step)")

    def observe(self, step: int, improved: bool) -> None:
        """Told after each validation: the updates done, and whether the monitored metric is the best so far."""

    @property
    def observes(self) -> bool:
        """Whether it goes by validations, so that `fit` must be given data for them."""
        return type(self).observe is not Schedule.observe

    def state_dict(self) -> dict[str, Any]:
        """What it remembers, ready for JSON."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken.

        Raises:
            ValueError: it is another schedule's.
        """
        here = self.state_dict()
        if state.keys() != here.keys():
            raise ValueError(f"{type(self).__name__} remembers {list(here)}; the state dict has {list(state)}")
        vars(self).update(state)

    def __mul__(self, other: Callable[[int], float]) -> Schedule:
        return _Joined(None, self, as_schedule(other))

    __rmul__ = __mul__

    def then(self, steps: int, other: Callable[[int], float]) -> Schedule:
        """This one for so many updates, and then another, which counts from 0."""
        return _Joined(_positive("steps", steps), self, as_schedule(other))


class StepDecay(Schedule):
    """gamma ** floor(t / every).

    >>> from minigrad.train import StepDecay
    >>> [StepDecay(every=10, gamma=0.5)(t) for t in (0, 9, 10, 20)]
    [1.0, 1.0, 0.5, 0.25]

    Source: He, Zhang, Ren and Sun, Deep Residual Learning (2016), section 3.4.
    """

    def __init__(self, every: int, gamma: float = 0.1) -> None:
        self.every, self.gamma = _positive("every", every), _fraction("gamma", gamma)

    def __call__(self, step: int) -> float:
        return self.gamma ** (step // self.every)


class Cosine(Schedule):
    """floor + (1 - floor) * (1 + cos(pi * min(t, steps) / steps)) / 2: half a cosine, from 1 down to the floor.

    >>> from minigrad.train import Cosine
    >>> [round(Cosine(100, floor=0.1)(t), 4) for t in (0, 50, 100, 200)]
    [1.0, 0.55, 0.1, 0.1]

    Source: Loshchilov and Hutter, SGDR (2017), equation 5, without restarts.
    """

    def __init__(self, steps: int, floor: float = 0.0) -> None:
        self.steps, self.floor = _positive("steps", steps), _fraction("floor", floor)

    def __call__(self, step: int) -> float:
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * min(step, self.steps) / self.steps)) / 2


class WarmUp(Schedule):
    """min(1, (t + 1) / steps): a straight rise, which ends at 1 with update number `steps`.

    >>> from minigrad.train import WarmUp
    >>> [WarmUp(4)(t) for t in range(5)]
    [0.25, 0.5, 0.75, 1.0, 1.0]

    Source: Goyal et al., Accurate, Large Minibatch SGD (2017), section 2.2.
    """

    def __init__(self, steps: int) -> None:
        self.steps = _positive("steps", steps)

    def __call__(self, step: int) -> float:
        return min(1.0, (step + 1) / self.steps)


class Plateau(Schedule):
    """gamma ** n, where n rises by one after each `patience` validations in a row without a new best.

    It needs `fit(..., validation=...)`, and goes by the metric that `monitor` names.

    Attributes:
        waited: validations since the last best or the last fall.
        falls: n.

    >>> from minigrad.train import Plateau
    >>> schedule = Plateau(patience=2, gamma=0.5)
    >>> for step, improved in enumerate([True, False, False, False]):
    ...     schedule.observe(step, improved)
    ...     print(step, schedule(step))
    0 1.0
    1 1.0
    2 0.5
    3 0.5

    Source: Bengio, Practical Recommendations for Gradient-Based Training (2012), section 3.1.1. ReduceLROnPlateau of
    Keras, with min_delta=0, is the same; that of PyTorch, with threshold=0, falls one validation later.
    """

    def __init__(self, patience: int, gamma: float = 0.1) -> None:
        self.patience, self.gamma = _positive("patience", patience), _fraction("gamma", gamma)
        self.waited = self.falls = 0

    def __call__(self, step: int) -> float:
        return self.gamma**self.falls

    def observe(self, step: int, improved: bool) -> None:
        self.waited = 0 if improved else self.waited + 1
        if self.waited == self.patience:
            self.waited, self.falls = 0, self.falls + 1

    def state_dict(self) -> dict[str, Any]:
        return {"waited": self.waited, "falls": self.falls}


class _Function(Schedule):
    """A plain function as a schedule."""

    def __init__(self, function: Callable[[int], float]) -> None:
        self.function = function

    def __call__(self, step: int) -> float:
        return self.function(step)


class _Joined(Schedule):
    """Two schedules: their product, or one after the other."""

    def __init__(self, turn: int | None, first: Schedule, second: Schedule) -> None:
        self.turn, self.first, self.second = turn, first, second

    def __call__(self, step: int) -> float:
        if self.turn is None:
            return self.first(step) * self.second(step)
        return self.first(step) if step < self.turn else self.second(step - self.turn)

    def observe(self, step: int, improved: bool) -> None:
        if self.turn is None or step < self.turn:
            self.first.observe(step, improved)
        if self.turn is None or step >= self.turn:
            self.second.observe(step - (self.turn or 0), improved)

    @property
    def observes(self) -> bool:
        return self.first.observes or self.second.observes

    def state_dict(self) -> dict[str, Any]:
        return {"first": self.first.state_dict(), "second": self.second.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state.keys() != {"first", "second"}:
            raise ValueError(f"two joined schedules remember first and second; the state dict has {list(state)}")
        self.first.load_state_dict(state["first"])
        self.second.load_state_dict(state["second"])


def as_schedule(schedule: Any) -> Schedule:
    """A schedule or a plain function as a `Schedule`; None stays at 1."""
    if schedule is None:
        return _Function(lambda step: 1.0)
    if isinstance(schedule, Schedule):
        return schedule
    if not callable(schedule) or isinstance(schedule, type):
        raise TypeError(f"a schedule is a function of the number of updates done, or a Schedule; got {schedule!r}")
    return _Function(schedule)


def _positive(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name} is an integer of at least 1; got {value!r}")
    return int(value)


def _fraction(name: str, value: Any) -> float:
    if not is_number(value) or not 0 <= value <= 1:
        raise ValueError(f"{name} is a number in [0, 1]; got {value!r}")
    return float(value)
