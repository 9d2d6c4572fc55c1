"""Beam search: the likeliest sequences, among those whose beginnings stay among the likeliest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, isfinite
from numbers import Real
from typing import Any

from minigrad.backend import Array
from minigrad.decoding.arguments import as_scores, as_start, check_count, check_end, check_end_in, step_once
from minigrad.nest import map_nest
from minigrad.ops import log_softmax, take
from minigrad.tape import no_grad
from minigrad.tensor import Tensor

__all__ = ["Beams", "beam_search"]


@dataclass(frozen=True)
class Beams:
    """What `beam_search` found, for each of B starts the W best sequences, best first.

    Attributes:
        sequences: (T, B, W) int64; past a sequence's length they are `end` (or 0 without one). T is max_length, or
            less if all sequences have ended before.
        lengths: (B, W) int64, how many classes each sequence has, `end` included.
        log_probs: (B, W) float64, log P of each sequence given its start.
        scores: (B, W) float64, what they are ordered by: log P / lp(length).

    Where there are fewer than W sequences, the rest have log_probs and scores of minus infinity and length 0.
    """

    sequences: Tensor
    lengths: Tensor
    log_probs: Tensor
    scores: Tensor


def beam_search(
    step: Callable[[Tensor, Any], tuple[Tensor, Any]],
    start: Any,
    state: Any,
    width: int,
    max_length: int,
    end: int | None = None,
    length_penalty: float = 0.6,
) -> Beams:
    """The sequences Y = y_1 ... y_n with the highest scores that a beam of a certain width finds.

        log P(Y) = sum_t log_softmax(scores_t)[y_t]           (scores_t, s_t = step(y_{t-1}, s_{t-1}); y_0 = start)
        score(Y) = log P(Y) / lp(n),  lp(n) = ((5 + n) / 6) ** length_penalty

    A sequence ends with `end`, or after max_length classes. After each step the beam holds the `width` sequences of
    highest score among those that have ended and all continuations, by one class, of those that have not; so a width
    of 1 is the greedy choice, and one that holds all sequences finds the best of all. Of equal scores the first stays.
    A sequence that has not ended and that no class can follow, all its scores being minus infinity, is dropped.

    Nothing is recorded for gradients. Modules run in the mode they are in: call `model.eval()` before.

    Args:
        step: `step(x, state) -> (scores, state)` with x (B * width,) int64 and scores (B * width, C): the beams of each
            start are rows next to each other.
        start: (B,) integers, what the first step is fed.
        state: before the first step, for B sequences: any nest of tensors with the batch first. None passes as it is.
        width: W, how many sequences to keep for each start.
        max_length: the most classes in a sequence, 0 or more.
        end: a class after which a sequence has ended; None for none.
        length_penalty: 0 compares probabilities, which favours short sequences; higher values favour longer ones.
            0.6 is what Vaswani et al. (2017) take for translation.

    Returns:
        The sequences with their lengths, log-probabilities and scores, as `Beams`.

    Raises:
        ValueError: an argument, or what `step` returns, has a shape or value that does not fit.
        TypeError: or a type.

    >>> from minigrad.decoding import beam_search
    >>> table = mg.log(mg.tensor([[0.5, 0.4, 0.1], [0.0625, 0.0625, 0.875], [0.3, 0.3, 0.4]], dtype="float64"))
    >>> found = beam_search(lambda x, state: (mg.take(table, x), state), [0], None, width=2, max_length=2, end=2)
    >>> found.sequences[:, 0].T, mg.exp(found.log_probs)       # the greedy choice, 0 0, has 0.25
    (tensor([[1, 2],
           [0, 0]]), tensor([[0.35, 0.25]]))

    Source: Wu et al. (2016), section 7, equation 14, without coverage; Sutskever et al. (2014), section 3.2, on the
    search.
    """
    width, steps = check_count(1, width=width), check_count(0, max_length=max_length)
    end, x = check_end(end), as_start(start)
    if isinstance(length_penalty, bool) or not isinstance(length_penalty, Real) or not isfinite(length_penalty):
        raise ValueError(f"length_penalty is a finite number; got {length_penalty!r}")
    batch, xp = x.shape[0], x.backend.xp
    rows = xp.arange(batch)[:, None]
    state = map_nest(lambda leaf: _rows_of(leaf, rows + xp.zeros((1, width), dtype="int64"), batch), state)
    beam = _Beam(xp, batch, width, float(length_penalty), end)
    x = Tensor(xp.broadcast_to(x.data[:, None], (batch, width)).reshape(-1))
    with no_grad():
        for _ in range(steps):
            scores, state = step_once(step, x, state)
            check_end_in(end, scores.shape[-1])
            parents = beam.extend(scores)
            if beam.over:
                break
            state = map_nest(lambda leaf, at=parents: _rows_of(leaf, rows * width + at, batch * width), state)
            x = Tensor(beam.chosen[-1].reshape(-1))
    return beam.result()


class _Beam:
    """The sequences kept so far, as arrays (B, W), best first.

    Attributes:
        log_probs, scores, lengths: see `Beams`; minus infinity where there is no sequence.
        ended: whether it ends with `end`.
        chosen: for each step the class that each sequence has there; parents: which sequence of the step before it
            continues.
    """

    def __init__(self, xp: Any, batch: int, width: int, penalty: float, end: int | None) -> None:
        self.xp, self.penalty, self.end = xp, penalty, end
        self.log_probs = xp.full((batch, width), -inf)
        self.log_probs[:, 0] = 0
        self.lengths = xp.zeros((batch, width), dtype="int64")
        self.ended = xp.zeros((batch, width), dtype="bool")
        self.chosen: list[Array] = []
        self.parents: list[Array] = []

    @property
    def scores(self) -> Array:
        return self.log_probs / self._lp(self.lengths)

    @property
    def over(self) -> bool:
        """Whether no sequence can be continued."""
        return bool((self.ended | (self.log_probs == -inf)).all())

    def extend(self, scores: Tensor) -> Array:
        """Take the best of all continuations; returns the sequence (B, W) that each of them continues."""
        xp, (batch, width) = self.xp, self.log_probs.shape
        over = self.ended | (self.log_probs == -inf)
        stuck = (scores.data == -inf).all(axis=-1).reshape(batch, width)
        silent = over | stuck
        scores = as_scores(Tensor(xp.where(silent.reshape(-1, 1), 0.0, scores.data.astype("float64"))))
        classes = scores.shape[-1]
        steps = log_softmax(scores).data.reshape(batch, width, classes)
        log_probs = self.log_probs[:, :, None] + xp.where(silent[:, :, None], -inf, steps)
        if self.end is not None:  # a sequence that has ended stays as it is
            log_probs[:, :, self.end] = xp.where(over, self.log_probs, log_probs[:, :, self.end])
        lengths = self.lengths + ~self.ended
        ranking = log_probs / self._lp(lengths)[:, :, None]
        at, found = _best(xp, ranking.reshape(batch, width * classes), width)
        parents, chosen = at // classes, at % classes
        kept = xp.take_along_axis(log_probs.reshape(batch, width * classes), at, axis=1)
        self.log_probs = xp.where(found, kept, -inf)
        self.lengths = xp.where(found, xp.take_along_axis(lengths, parents, axis=1), 0)
        self.ended = (chosen == self.end) if self.end is not None else xp.zeros((batch, width), dtype="bool")
        self.chosen.append(chosen)
        self.parents.append(parents)
        return parents

    def result(self) -> Beams:
        """The sequences, followed back from the end of each to its start."""
        xp, (batch, width) = self.xp, self.log_probs.shape
        sequences = xp.zeros((len(self.chosen), batch, width), dtype="int64")
        at = xp.zeros((batch, 1), dtype="int64") + xp.arange(width)
        for t in reversed(range(len(self.chosen))):
            sequences[t] = xp.take_along_axis(self.chosen[t], at, axis=1)
            at = xp.take_along_axis(self.parents[t], at, axis=1)
        past = xp.arange(len(self.chosen))[:, None, None] >= self.lengths[None]
        sequences = xp.where(past, 0 if self.end is None else self.end, sequences)
        return Beams(*map(Tensor, (sequences, self.lengths, self.log_probs, self.scores)))

    def _lp(self, lengths: Array) -> Array:
        """The length penalty, equation 14 of Wu et al."""
        return ((5.0 + lengths) / 6.0) ** self.penalty


def _best(xp: Any, values: Array, count: int) -> tuple[Array, Array]:
    """Where the `count` largest values of each row are (B, count), largest first; and whether there was one above -inf.

    A few passes over all values are faster than sorting them.
    """
    values, rows, places, found = values.copy(), xp.arange(values.shape[0]), [], []
    for _ in range(count):
        at = values.argmax(axis=1)
        places.append(at)
        found.append(values[rows, at] > -inf)
        values[rows, at] = -inf
    return xp.stack(places, axis=1), xp.stack(found, axis=1)


def _rows_of(leaf: Any, at: Array, batch: int) -> Any:
    """A tensor of the state for other rows of the batch."""
    if not isinstance(leaf, Tensor):
        return leaf
    if leaf.shape[:1] != (batch,):
        raise ValueError(
            f"in a beam search tensors of the state have the batch first, {batch} rows; this one has shape {leaf.shape}"
        )
    return take(leaf, Tensor(at.reshape(-1)), axis=0)
