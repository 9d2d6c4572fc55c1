"""Sequences from a model that is fed its own choices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from minigrad.decoding.arguments import as_start, check_count, check_end, check_end_in, step_once
from minigrad.decoding.sampling import greedy
from minigrad.ops import stack
from minigrad.tape import no_grad
from minigrad.tensor import Tensor, as_tensor

__all__ = ["Generated", "generate"]


@dataclass(frozen=True)
class Generated:
    """What `generate` made.

    Attributes:
        sequences: (T, B) int64, the classes chosen; past a sequence's length they are `end`. T is max_length, or less
            if all sequences have ended before.
        lengths: (B,) int64, how many of them each sequence has, `end` included.
        state: after the last step: to go on from where no sequence has ended.
    """

    sequences: Tensor
    lengths: Tensor
    state: Any


def generate(
    step: Callable[[Tensor, Any], tuple[Tensor, Any]],
    start: Any,
    state: Any,
    max_length: int,
    end: int | None = None,
    choose: Callable[[Tensor], Tensor] = greedy,
) -> Generated:
    """Sequences in which each class is chosen by the scores that the model gives after the ones before.

        scores_t, s_t = step(y_{t-1}, s_{t-1})
        y_t = choose(scores_t)                                (t = 1, 2, ..., max_length; y_0 = start)

    Nothing is recorded for gradients. Modules run in the mode they are in: call `model.eval()` before.

    Args:
        step: `step(x, state) -> (scores, state)` with x (B,) int64 and scores (B, C).
        start: (B,) integers, what the first step is fed.
        state: before the first step: whatever `step` takes.
        max_length: how many steps at most, 0 or more.
        end: a class after which a sequence has ended; None for none.
        choose: from scores (B, C) to classes (B,): `greedy`, `sample`, or a function of one's own.

    Returns:
        The sequences, their lengths and the state, as `Generated`.

    Raises:
        ValueError: an argument, or what `step` or `choose` returns, has a shape or value that does not fit.
        TypeError: or a type.

    >>> from functools import partial
    >>> from minigrad.decoding import generate, sample
    >>> def counting(x, state):                                # always the next of five
    ...     return mg.one_hot((x + 1) - 5 * (x == 4).astype("int64"), 5) * 99.0, state
    >>> made = generate(counting, [0, 2], None, max_length=6, end=4, choose=partial(sample, temperature=0.5))
    >>> made.sequences.T, made.lengths
    (tensor([[1, 2, 3, 4],
           [3, 4, 4, 4]]), tensor([4, 2]))
    """
    steps, end, x = check_count(0, max_length=max_length), check_end(end), as_start(start)
    xp = x.backend.xp
    chosen: list[Tensor] = []
    lengths, ended = xp.zeros(x.shape, dtype="int64"), xp.zeros(x.shape, dtype="bool")
    with no_grad():
        for _ in range(steps):
            scores, state = step_once(step, x, state)
            check_end_in(end, scores.shape[-1])
            if end is not None:  # what an ended sequence would go on with does not matter, even if it is NaN
                scores = Tensor(xp.where(ended[:, None], 0, scores.data))
            x = _choice(choose, scores)
            lengths = lengths + ~ended
            if end is not None:
                x = Tensor(xp.where(ended, end, x.data))
                ended = ended | (x.data == end)
            chosen.append(x)
            if end is not None and bool(ended.all()):
                break
    sequences = stack(chosen) if chosen else Tensor(xp.zeros((0, *x.shape), dtype="int64"))
    return Generated(sequences, Tensor(lengths), state)


def _choice(choose: Callable[[Tensor], Tensor], scores: Tensor) -> Tensor:
    """The classes chosen, or an error if they are none."""
    found = as_tensor(choose(scores), like=scores)
    if found.shape != scores.shape[:1] or found.dtype.kind not in "iu":
        raise ValueError(
            f"choose must return a class per sequence, integers of shape {scores.shape[:1]}; it returned "
            f"{found.dtype} of shape {found.shape}"
        )
    return found.astype("int64")
