"""What checks of losses and optimizers demand: numbers that agree, errors that are raised, a backend that is there."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import minigrad as mg
from minigrad.testing.results import CheckError, Measured, NotApplicableError

EXACT = 1e-9
"""What two ways to the same number in float64 may differ by."""


def number(value: Any) -> str:
    """A value for a message."""
    return f"{float(value):.6g}" if np.size(value) == 1 else f"an array of shape {np.shape(value)}"


def difference(where: str, found: Any, wanted: Any, tolerance: float = EXACT) -> Measured:
    """The largest difference of two arrays over the largest value wanted (or 1). Equal infinities do not differ."""
    found, wanted = np.asarray(found, "float64"), np.asarray(wanted, "float64")
    if found.shape != wanted.shape:
        raise CheckError(f"{where}: the shape is {found.shape}; it should be {wanted.shape}")
    with np.errstate(invalid="ignore"):
        errors = np.where(found == wanted, 0.0, np.abs(found - wanted))
    if not errors.size:
        return Measured(0.0, tolerance, where)
    scale = max(1.0, np.abs(wanted[np.isfinite(wanted)]).max(initial=0.0))
    place = np.unravel_index(errors.argmax(), errors.shape)  # the first NaN, if there is one
    at = f" at {tuple(map(int, place))}" if place else ""
    shown = f"{where.rstrip(',')}, is {number(found[place])}{at} and should be {number(wanted[place])}; off by"
    return Measured(float(errors.max() / scale), tolerance, shown)


def must_raise(where: str, call: Callable[[], Any], *kinds: type[Exception], naming: str = "") -> None:
    """Raise unless the call raises an error of one of these kinds, with a message that holds `naming`."""
    names = " or ".join(kind.__name__ for kind in kinds)
    try:
        result = call()
    except kinds as error:
        if naming.lower() not in str(error).lower() or not str(error):
            named = f" that names {naming}" if naming else ""
            raise CheckError(f"{where}: {type(error).__name__}({str(error)!r}) has no message{named}") from error
        return
    except Exception as error:
        raise CheckError(f"{where}: it raises {type(error).__name__} ({error}), not {names}") from error
    shown = f" but gives {number(result)}" if isinstance(result, np.ndarray) else ""
    raise CheckError(
        f"{where}: nothing is raised{shown}; it must be {names}, with a message that says what does not fit"
    )


@contextmanager
def float_errors_raise(where: str) -> Iterator[None]:
    """NumPy's overflows, divisions by 0 and invalid operations fail the check here, and so do warnings."""
    try:
        with np.errstate(over="raise", divide="raise", invalid="raise"), warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
    except (FloatingPointError, Warning) as error:
        raise CheckError(f"{where}: {type(error).__name__}: {error}") from error


def require_backend(name: str) -> None:
    """Raise unless there is this backend."""
    try:
        with mg.use_backend(name):
            pass
    except mg.BackendUnavailableError as error:
        raise NotApplicableError(str(error)) from None


@contextmanager
def same_backend(where: str) -> Iterator[None]:
    """Say where arrays of two backends met."""
    try:
        yield
    except TypeError as error:  # a DeviceMismatchError, or what the array library says
        advice = "make new arrays where the arguments are: mg.zeros_like(x), mg.as_tensor(value, like=x), and so on"
        raise CheckError(f"{where}: {type(error).__name__}: {error} ({advice})") from error
