"""Gradients against central differences, as an assertion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minigrad.testing.gradients import gradient_errors


def check_gradients(function: Callable[..., Any], *inputs: Any, **options: Any) -> None:
    """Assert that all gradients are what differences say; the arguments are those of the public `check_gradients`."""
    for measured in gradient_errors(function, *inputs, **options):
        assert measured.error <= measured.tolerance, measured
