"""`check_loss`: what a loss promises to whoever trains with it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from minigrad.backend import use_backend
from minigrad.testing.loss_checks import LOSS_CHECKS
from minigrad.testing.loss_runs import Example, Subject
from minigrad.testing.results import CheckResult, no_factory, run_checks

__all__ = ["LOSS_CHECKS", "check_loss"]


def check_loss(
    factory: Callable[..., Any],
    *,
    example: Example | None = None,
    expected_failures: Mapping[str, str] | None = None,
    only: str | Collection[str] | None = None,
) -> list[CheckResult]:
    """Check that a loss keeps its contract: gradients, reductions, padding, extreme values, backends, dtypes, errors.

    Args:
        factory: `factory(**options)`, which returns `loss(outputs, targets, lengths=None)`.
        example: `example(generator)`, with a NumPy generator, which returns host arrays (outputs, targets): outputs
            (T, B, ...), T and B at least 2; targets an array or a tuple of arrays, each with a target per step
            (T, B, ...), a target per sequence (B, ...), or neither. T, B and other sizes should differ. By default
            `factory.example`, if there is one, or else two normal arrays (5, 3, 4).
        expected_failures: checks that are known to fail, with the reasons; by default `factory.expected_failures`.
        only: names of the checks to run; by default all.

    Returns:
        A result per check, none left out: one that does not apply is "not run", with the reason.

    >>> from minigrad.testing import check_loss
    >>> def factory():
    ...     return lambda outputs, targets, lengths=None: mg.square(outputs - targets).mean()
    >>> [result.status for result in check_loss(factory, only=["gradients", "padding"])]
    ['passed', 'failed']
    """
    if not callable(factory) or _needs_arguments(factory):
        raise no_factory(factory, "check_loss", "minigrad.losses.factory(my_loss)")
    example = getattr(factory, "example", None) if example is None else example
    expected = getattr(factory, "expected_failures", None) if expected_failures is None else expected_failures
    with use_backend("numpy"):
        return run_checks(LOSS_CHECKS, Subject(factory, example or _normal), expected, only)


def _needs_arguments(function: Callable[..., Any]) -> bool:
    """Whether a function cannot be called without arguments, as a loss cannot, where its factory can."""
    try:
        inspect.signature(function).bind()
    except TypeError:
        return True
    except ValueError:  # it has no signature to be seen
        return False
    return False


def _normal(generator: np.random.Generator) -> tuple[Any, Any]:
    return generator.normal(size=(5, 3, 4)), generator.normal(size=(5, 3, 4))
