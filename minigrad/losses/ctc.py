"""Connectionist temporal classification: labels whose alignment with the frames is not known."""

from __future__ import annotations

import math
from typing import Any

from minigrad.lengths import check_lengths
from minigrad.losses.options import check_options
from minigrad.losses.parts import (
    as_outputs,
    as_real,
    check_indices,
    check_integers,
    positions,
    reduce,
)
from minigrad.ops import (
    broadcast_to,
    concat,
    equal,
    expand_dims,
    less,
    logical_or,
    logsumexp,
    not_equal,
    reshape,
    stack,
    take_along_axis,
    where,
)
from minigrad.tensor import Tensor, as_tensor


def ctc(
    log_probabilities: Any,
    targets: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
    lengths: Any = None,
) -> Tensor:
    """-log p(targets): p sums over all frame labels that give the targets, repeats merged and blanks removed.

    With the labels l' = (blank, l_1, blank, l_2, ..., blank) and the log-probability y_t(k) of symbol k at frame t,

        alpha_t(s) = y_t(l'_s) + log(e^alpha_{t-1}(s) + e^alpha_{t-1}(s-1) + [l'_s != l'_{s-2}] e^alpha_{t-1}(s-2))

    and log p is the logarithm of the last frame's sum over the last two s. All of it is recorded on the tape, so the
    gradient can be differentiated again.

    Args:
        log_probabilities: (T, B, C), time first, normalised over C (`mg.log_softmax`).
        targets: labels in [0, C) without the blank, integers (B, S); or a tuple of such labels and how many of each
            row count, (B,). What stands past these is not read.
        blank: the index of the blank.
        reduction: "mean" divides each loss by its target's length (at least 1) and takes the mean over the batch,
            as PyTorch does; "sum"; or "none" for a loss per sequence.
        zero_infinity: let a target that cannot be aligned (too few frames) count as 0 instead of infinity. Its
            gradient is 0 either way.
        lengths: how many frames each sequence has, (B,), at most T; by default T.

    Returns:
        A scalar, or (B,) with reduction "none".

    Raises:
        ValueError, TypeError: a shape, dtype, length or option does not fit.
        IndexError: a label is the blank or no class. On a GPU this comes with the next number that is read.

    >>> from minigrad.losses import ctc
    >>> frames = mg.log(mg.full((2, 1, 2), 0.5))  # "a-", "-a", "aa" and "--" have 1/4 each
    >>> mg.exp(-ctc(frames, mg.tensor([[1]]))).item()
    0.75

    Source: Graves et al., Connectionist Temporal Classification (2006), equations 6 to 8.
    """
    check_options(blank=blank, reduction=reduction, zero_infinity=zero_infinity)
    log_probabilities = as_outputs(log_probabilities)
    targets, target_lengths = _split(targets)
    targets = as_real("targets", targets, like=log_probabilities)
    _check_shapes(log_probabilities, targets, blank)
    (frames, batch, classes), size = log_probabilities.shape, targets.shape[1]
    sizes = [size] * batch if target_lengths is None else _target_lengths(target_lengths, size, batch)
    ends = expand_dims(as_tensor(sizes, like=targets), 1)
    running = None
    if lengths is not None:
        steps = as_tensor(check_lengths(lengths, frames, batch), like=targets)
        running = less(positions(frames, targets)[:, None, None], steps[None, :, None])  # (T, B, 1)

    real = less(positions(size, targets), ends)
    check_indices("targets", targets, classes, counted=real, but_not=blank)
    labels, skips = _extended(where(real, targets, blank), blank)
    scores = take_along_axis(log_probabilities, broadcast_to(expand_dims(labels, 0), (frames, *labels.shape)))

    at = positions(2 * size + 1, targets)
    edge = _full((batch, 2), -math.inf, scores)
    alpha = where(equal(at, 0), _full(labels.shape, 0.0, scores), -math.inf)  # before the first frame
    for step in range(frames):
        before = concat([edge, alpha], 1)
        skipped = where(skips, before[:, :-2], -math.inf)
        after = logsumexp(stack([alpha, before[:, 1:-1], skipped]), 0) + scores[step]
        alpha = after if running is None else where(running[step], after, alpha)
    final = logical_or(equal(at, 2 * ends), equal(at, 2 * ends - 1))
    losses = -logsumexp(where(final, alpha, -math.inf), 1)

    if zero_infinity:
        losses = where(equal(losses, math.inf), 0.0, losses)  # NaN stays
    if reduction == "mean":
        losses = losses / as_tensor([float(max(n, 1)) for n in sizes], like=losses)
    return reduce(losses, reduction)


def _split(targets: Any) -> tuple[Any, Any]:
    """Labels and how many of each row count (None for all). Only a tuple is such a pair: a list may be rows."""
    if not isinstance(targets, tuple):
        return targets, None
    if len(targets) != 2:
        raise ValueError(f"targets are a tuple of {len(targets)}; a tuple is a pair: (labels, target lengths)")
    return targets


def _target_lengths(lengths: Any, size: int, batch: int) -> list[int]:
    try:
        return check_lengths(lengths, size, batch)
    except (TypeError, ValueError) as error:
        raise type(error)(f"the targets' lengths, where x are the labels: {error}") from None


def _extended(targets: Tensor, blank: int) -> tuple[Tensor, Tensor]:
    """The labels with blanks around them, (B, 2S + 1), and where the blank before a label may be skipped."""
    batch, size = targets.shape
    blanks = broadcast_to(as_tensor([[blank]], like=targets), (batch, size + 1))
    pairs = stack([blanks[:, :size], targets], 2)
    labels = concat([reshape(pairs, (batch, 2 * size)), blanks[:, size:]], 1)
    two_before = concat([broadcast_to(blanks[:, size:], (batch, 2)), labels], 1)[:, :-2]
    return labels, not_equal(labels, two_before)


def _full(shape: tuple[int, ...], value: float, like: Tensor) -> Tensor:
    return Tensor(like.backend.xp.full(shape, value, dtype=like.dtype))


def _check_shapes(log_probabilities: Tensor, targets: Tensor, blank: int) -> None:
    if log_probabilities.ndim != 3:
        raise ValueError(f"log_probabilities have shape {log_probabilities.shape}; it must be (T, B, C), time first")
    _, batch, classes = log_probabilities.shape
    if targets.ndim != 2 or targets.shape[0] != batch:
        raise ValueError(
            f"targets have shape {targets.shape}; with log_probabilities of shape {log_probabilities.shape} it must be "
            f"({batch}, S), padded to the longest; targets=(labels, lengths) tells how many labels each has"
        )
    check_integers("targets", targets)
    if not 0 <= blank < classes:
        raise ValueError(f"blank is {blank}; with {classes} classes it must be in [0, {classes})")
