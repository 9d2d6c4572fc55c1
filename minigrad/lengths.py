"""Sequences of different lengths in one batch: which steps of which sequence count."""

from __future__ import annotations

from functools import partial
from typing import Any

from minigrad.backend import Array
from minigrad.nest import map_nest
from minigrad.ops import where
from minigrad.tensor import Tensor, as_tensor

__all__ = ["Mask", "check_lengths"]


class Mask:
    """Which steps of which sequence count. Where none does one is run anyway, for gradients of 0."""

    def __init__(self, lengths: Any, steps: int, batch: int, x: Tensor) -> None:
        self.counts = None if lengths is None else check_lengths(lengths, steps, batch)
        self.longest = steps if self.counts is None else min(steps, max([1, *self.counts]))
        self.shortest = steps if self.counts is None else min(self.counts, default=0)
        self.flags: Array = None
        if self.shortest < steps:
            xp = x.backend.xp
            self.flags = xp.arange(steps)[:, None] < x.backend.asarray(self.counts)[None, :]

    def clean(self, x: Tensor, time: int) -> Tensor:
        """x with zeros past each end, so that not even a NaN there comes through."""
        if self.flags is None:
            return x
        flags = self.flags.T if time else self.flags
        return where(_like(flags, x), x, 0)

    def output(self, t: int, y: Tensor) -> Tensor:
        return y if t < self.shortest else where(_like(self.flags[t], y), y, 0)

    def state(self, t: int, new: Any, old: Any) -> Any:
        if t < self.shortest:
            return new
        return map_nest(partial(self._leaf, self.flags[t]), new, old)

    @staticmethod
    def _leaf(flags: Array, new: Any, old: Any) -> Any:
        if new is old:
            return new
        if new.shape[:1] != flags.shape:
            raise ValueError(f"with lengths, tensors of the state have the batch first; this one has shape {new.shape}")
        return where(_like(flags, new), new, old)


def _like(flags: Array, x: Tensor) -> Array:
    """Flags for the first axes of x, with axes of size 1 for the others."""
    return flags.reshape(flags.shape + (1,) * (x.ndim - flags.ndim))


def check_lengths(lengths: Any, steps: int, batch: int) -> list[int]:
    """Lengths as a list of integers, or an error that says what is wrong with them."""
    counts = as_tensor(lengths).numpy()
    if counts.ndim != 1 or len(counts) != batch:
        raise ValueError(f"lengths must have {batch} entries, one per sequence of x; its shape is {counts.shape}")
    if batch and counts.dtype.kind not in "iu":
        raise TypeError(f"lengths must be integers; these are {counts.dtype}")
    values: list[int] = counts.tolist()
    for position, value in enumerate(values):
        if not 0 <= value <= steps:
            raise ValueError(f"lengths[{position}] is {value}; it must be in 0..{steps}, the steps of x")
    return values
