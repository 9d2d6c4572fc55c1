"""What the functions of decoding check in the same way."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from minigrad.backend import is_floating
from minigrad.nest import describe
from minigrad.ops import astype
from minigrad.tensor import Tensor, as_tensor


def check_count(least: int, **counts: Any) -> int:
    """The one integer given, or an error that names the argument unless it is at least `least`."""
    ((name, value),) = counts.items()
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name} is an integer of at least {least}; got {value!r}")
    return int(value)


def check_end(end: Any) -> int | None:
    """The class that ends a sequence, or None."""
    if end is not None and (isinstance(end, bool) or not isinstance(end, Integral) or end < 0):
        raise ValueError(f"end is the class that ends a sequence, an integer of at least 0, or None; got {end!r}")
    return None if end is None else int(end)


def as_start(start: Any) -> Tensor:
    """The classes before the first step, (B,) integers."""
    given = as_tensor(start)
    if given.ndim != 1:
        raise ValueError(f"start has shape {given.shape}; it must be (B,), a class per sequence: mg.tensor([0])")
    if given.size and given.dtype.kind not in "iu":
        raise TypeError(f"start holds classes, so integers; these are {given.dtype}: start.astype('int64')")
    return astype(given, "int64")


def as_scores(scores: Any) -> Tensor:
    """Scores (..., C) as a floating-point tensor without history, with a class that is possible in each row.

    Minus infinity is the score of what is impossible.
    """
    given = as_tensor(scores).detach()
    if not given.ndim or not given.shape[-1]:
        raise ValueError(f"scores have shape {given.shape}; they must be (B, C) with at least one class")
    if not is_floating(given.dtype):
        raise TypeError(f"scores are floating-point; these are {given.dtype}: scores.astype('float32')")
    xp = given.backend.xp
    if given.size and not bool(xp.isfinite(given.data.max(axis=-1)).all()):
        raise ValueError(
            "the largest score of each row must be finite; a row holds NaN, or infinity, or nothing but minus infinity "
            "(which leaves no class to choose)"
        )
    return given


def step_once(step: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    """What `step` gives for x (B,), or an error that says what it should have given."""
    result = step(x, state)
    if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[0], Tensor):
        raise TypeError(
            f"step must return (scores, state), a tensor and then the state; it returned {describe(result)}"
        )
    scores, state = result
    if scores.ndim != 2 or scores.shape[0] != x.shape[0]:
        raise ValueError(
            f"step must return scores of shape (B, C) for x of shape (B,), with B = {x.shape[0]}; it returned "
            f"{scores.shape}"
        )
    return scores, state


def check_end_in(end: int | None, classes: int) -> None:
    """Raise unless `end` is one of the classes."""
    if end is not None and end >= classes:
        raise ValueError(f"end is {end}; with the {classes} classes that step gives scores for it is below {classes}")
