"""Sequences of different lengths in one batch: which steps of which sequence count."""

from __future__ import annotations

from functools import partial
from typing import Any

from minigrad.backend import Array, by_type, host_array
from minigrad.nest import map_nest
from minigrad.ops import getitem, where
from minigrad.ops import sum as sum_of
from minigrad.tensor import Tensor, as_tensor

__all__ = ["Mask", "check_lengths", "last_outputs"]


class Mask:
    """Which steps of which sequence count. Where none does one is run anyway, for gradients of 0.

    Attributes:
        longest: how many steps to run; shortest: how many of them count for every sequence.
        flags: (T, B) booleans, or None if every step counts.
    """

    def __init__(self, lengths: Any, steps: int, batch: int, x: Tensor) -> None:
        self.counts = None if lengths is None else check_lengths(lengths, steps, batch)
        self.longest = steps if self.counts is None else min(steps, max([1, *self.counts]))
        self.shortest = steps if self.counts is None else min(self.counts, default=0)
        self.flags: Array = None
        if self.shortest < steps:
            xp = x.backend.xp
            self.flags = xp.arange(steps)[:, None] < x.backend.asarray(self.counts)[None, :]

    def alive(self, reverse: bool) -> Array:
        """The flags of the steps to run, in the order in which they are run; None if all of them count."""
        if self.flags is None or self.shortest >= self.longest:
            return None
        flags = self.flags[: self.longest]
        return flags[::-1] if reverse else flags


def silence(alive: Any, y: Tensor) -> Tensor:
    """y with 0 wherever a sequence has ended."""
    return where(_like(alive, y), y, 0)


def hold(alive: Any, new: Any, old: Any) -> Any:
    """The state after a step: as it was where a sequence has ended."""
    return map_nest(partial(_held, alive), new, old)


def _held(alive: Any, new: Any, old: Any) -> Any:
    if new is old:
        return new
    if new.shape[:1] != alive.shape:
        raise ValueError(f"with lengths, tensors of the state have the batch first; this one has shape {new.shape}")
    return where(_like(alive, new), new, old)


def _like(flags: Any, x: Tensor) -> Any:
    """Flags for the first axes of x, with axes of size 1 for the others."""
    return flags.reshape(flags.shape + (1,) * (x.ndim - flags.ndim))


def check_lengths(lengths: Any, steps: int, batch: int) -> list[int]:
    """Lengths as a list of integers, or an error that says what is wrong with them."""
    counts = _on_host(lengths)
    if counts.ndim != 1 or len(counts) != batch:
        raise ValueError(f"lengths must have {batch} entries, one per sequence of x; its shape is {counts.shape}")
    if batch and counts.dtype.kind not in "iu":
        raise TypeError(f"lengths must be integers; these are {counts.dtype}")
    values: list[int] = counts.tolist()
    for position, value in enumerate(values):
        if not 0 <= value <= steps:
            raise ValueError(f"lengths[{position}] is {value}; it must be in 0..{steps}, the steps of x")
    return values


def _on_host(lengths: Any) -> Any:
    """Lengths as a NumPy array; those that are on the host are not sent to the device for it."""
    if isinstance(lengths, Tensor):
        return lengths.numpy()
    backend = by_type.get(type(lengths))
    return host_array(lengths) if backend is None else backend.to_host(lengths)


def last_outputs(ys: Any, lengths: Any = None, batch_first: bool = False) -> Tensor:
    """The output of each sequence at its own last step.

        last[b] = ys[lengths[b] - 1, b]                       (0 if lengths[b] is 0)

    This reads one vector off a sequence of any cell, whatever its state is. Of a layer in both directions it serves the
    forward half: the backward half ends at the first step, `ys[0]`.

    Args:
        ys: outputs (T, B, ...), or (B, T, ...) with batch_first.
        lengths: (B,) integers in 0..T; by default all are T.
        batch_first: whether the first axis of ys is the batch.

    Returns:
        (B, ...), in the dtype of ys.

    Raises:
        ValueError: ys has no such axes, or the lengths do not fit it.
        TypeError: lengths are no integers.

    >>> ys, _ = mg.LSTM(2, 3)(mg.ones((5, 2, 2)), lengths=[5, 2])
    >>> last = mg.last_outputs(ys, [5, 2])
    >>> last.shape, bool((last[1] == ys[1, 1]).numpy().all())
    ((2, 3), True)

    Source: Sutskever et al. (2014), section 2, where the last hidden state of an LSTM stands for the sequence.
    """
    ys = as_tensor(ys)
    if ys.ndim < 2:
        axes = "(B, T, ...)" if batch_first else "(T, B, ...)"
        raise ValueError(f"last_outputs takes outputs of shape {axes}; these are {ys.shape}")
    time, batch = int(batch_first), int(not batch_first)
    steps, count = ys.shape[time], ys.shape[batch]
    counts = [steps] * count if lengths is None else check_lengths(lengths, steps, count)
    if not steps:
        return sum_of(ys, axis=time)
    places = [length - 1 for length in counts], list(range(count))
    last = getitem(ys, places[::-1] if batch_first else places)
    if min(counts, default=1):
        return last
    return where(_like(ys.backend.asarray(counts) > 0, last), last, 0)
