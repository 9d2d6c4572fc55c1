"""`check_optimizer`: what an optimizer promises to whoever trains with it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from minigrad.backend import use_backend
from minigrad.testing.optimizer_checks import OPTIMIZER_CHECKS
from minigrad.testing.optimizer_runs import Subject
from minigrad.testing.results import CheckResult, no_factory, run_checks

__all__ = ["OPTIMIZER_CHECKS", "check_optimizer"]


def check_optimizer(
    factory: Callable[..., Any],
    *,
    expected_failures: Mapping[str, str] | None = None,
    only: str | Collection[str] | None = None,
) -> list[CheckResult]:
    """Check that an optimizer keeps its contract: descent, saving, groups, missing gradients, backends, dtypes, errors.

    It is checked with its default hyperparameters but for `lr`; check others by a factory that sets them, such as
    `functools.partial(SGD, momentum=0.9)`.

    Args:
        factory: `factory(params, **hyperparameters)`, such as a subclass of `minigrad.optimizers.Optimizer`.
        expected_failures: checks that are known to fail, with the reasons; by default `factory.expected_failures`.
        only: names of the checks to run; by default all.

    Returns:
        A result per check, none left out: one that does not apply is "not run", with the reason.

    >>> from minigrad.optimizers import Adam
    >>> from minigrad.testing import check_optimizer
    >>> for result in check_optimizer(Adam, only=["rosenbrock", "checkpoint"]):
    ...     print(result.name, result.status, result.tolerance)
    rosenbrock passed 0.05
    checkpoint passed None
    """
    if not callable(factory) or (hasattr(factory, "step") and not isinstance(factory, type)):
        raise no_factory(factory, "check_optimizer", "a class of optimizers")
    expected = getattr(factory, "expected_failures", None) if expected_failures is None else expected_failures
    with use_backend("numpy"):
        return run_checks(OPTIMIZER_CHECKS, Subject(factory), expected, only)
