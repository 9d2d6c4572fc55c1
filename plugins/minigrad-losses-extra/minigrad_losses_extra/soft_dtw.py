"""Soft dynamic time warping: how far apart two sequences are that run at different speeds."""

from __future__ import annotations

import math
from typing import Any

import minigrad as mg
from minigrad.losses import (
    as_outputs,
    as_values,
    check_lengths,
    check_option,
    is_number,
    reduce,
    time_mask,
    without_padding,
)

NOT_PER_STEP = {
    "reduction": "the loss is one of whole sequences: that of fewer equal steps is another",
    "time_of_one": "the loss is one of whole sequences: that of one step is not half of that of two",
    "mismatched_shapes": "outputs and targets may have different numbers of steps",
}
"""Checks of the conformance kit that hold for losses with a target for each step."""


def soft_dtw(outputs: Any, targets: Any, gamma: float = 1.0, reduction: str = "mean", lengths: Any = None) -> mg.Tensor:
    """The soft minimum, over all alignments of two sequences, of the summed squared distances of aligned steps.

    An alignment goes from (1, 1) to (T, S) by steps in one sequence, the other, or both. With the distances
    d(i, j) = |outputs_i - targets_j|^2 and the soft minimum min_g(a, ...) = -g log(exp(-a / g) + ...),

        r(i, j) = d(i, j) + min_g(r(i-1, j), r(i, j-1), r(i-1, j-1)),    r(0, 0) = 0,  r(i, 0) = r(0, j) = infinity

    and r(T, S) is the loss. It is computed by anti-diagonals i + j, all sequences and all cells of one at once, T + S
    of them. All of it is recorded on the tape, so the gradient is exact, reaches the targets too, and can be
    differentiated again. With gamma -> 0 it is dynamic time warping; it can be negative, and that of two equal
    sequences is not 0.

    Args:
        outputs: (T, B, F), time first.
        targets: (S, B, F), with a number of steps of their own; or a tuple of them and their lengths, (B,) or None.
        gamma: g > 0, how soft the minimum is.
        reduction: "mean" over the sequences that have steps, "sum", or "none" for a loss per sequence.
        lengths: how many steps of each sequence count, (B,), at most T; by default T. Targets without lengths of their
            own have the same ones, so they then need as many steps as the outputs.

    Returns:
        A scalar, or (B,) with reduction "none". The loss of two sequences without steps is 0.

    Raises:
        ValueError, TypeError: a shape, length or option does not fit; or one of a pair of sequences has no steps, so
            that nothing can be aligned.

    >>> from minigrad_losses_extra import soft_dtw
    >>> slow, fast = mg.tensor([1.0, 1.0, 2.0, 2.0, 3.0]), mg.tensor([1.0, 2.0, 3.0])
    >>> loss = soft_dtw(slow.reshape(5, 1, 1), fast.reshape(3, 1, 1), gamma=0.01)
    >>> round(abs(loss.item()), 4)
    0.0

    Source: Cuturi and Blondel, Soft-DTW: a Differentiable Loss Function for Time-Series (2017), equation 1 and
    algorithm 1.
    """
    check_smoothing(gamma)
    outputs = as_outputs(outputs)
    together = not isinstance(targets, tuple)
    targets, target_lengths = (targets, lengths) if together else _pair(targets)
    targets = as_values("targets", targets, outputs)
    _check_shapes(outputs, targets)
    if together and lengths is not None and len(targets) != len(outputs):
        raise ValueError(
            f"lengths are given, and targets have {len(targets)} steps where outputs have {len(outputs)}: give them "
            "lengths of their own, targets=(targets, target_lengths)"
        )
    ends = _ends("outputs", lengths, outputs)
    target_ends = _ends("targets", target_lengths, targets)
    _check_alignable(ends, target_ends)
    outputs = without_padding(outputs, time_mask(ends, outputs.shape, outputs))
    targets = without_padding(targets, time_mask(target_ends, targets.shape, targets))
    if not len(outputs) or not len(targets):
        losses = mg.sum(outputs, (0, 2))  # of padding
    else:
        losses = _best(_distances(outputs, targets) / -gamma, ends, target_ends) * -gamma
    with_steps = as_values("lengths", [float(end > 0) for end in ends], losses)
    return reduce(losses, reduction, weights=with_steps)


def _distances(outputs: mg.Tensor, targets: mg.Tensor) -> mg.Tensor:
    """The squared distances of all pairs of steps, (B, T, S).

    Both are shifted by one vector, which changes no distance: squares of large numbers would lose small differences.
    """
    middle = mg.mean(targets, (0, 1)).detach()
    x, y = (mg.permute_dims(values - middle, (1, 0, 2)) for values in (outputs, targets))
    squares = mg.square(x).sum(-1, keepdims=True) + mg.matrix_transpose(mg.square(y).sum(-1, keepdims=True))
    return squares - 2 * (x @ mg.matrix_transpose(y))


def _best(scores: mg.Tensor, ends: list[int], target_ends: list[int]) -> mg.Tensor:
    """log of the sum over alignments of exp(sum of scores), (B,), of scores (B, T, S) with each sequence's own ends.

    A diagonal i + j is a row (B, T + 1) by i, with the edge i = 0 before it, where nothing is aligned.
    """
    batch, steps, _ = scores.shape
    diagonals = _diagonals(scores)
    edge = mg.full((batch, 1), -math.inf, dtype=scores.dtype).to(scores.backend)
    nothing = mg.full((batch, steps), -math.inf, dtype=scores.dtype).to(scores.backend)
    before, last = mg.concat([mg.zeros_like(edge), nothing], axis=1), mg.concat([edge, nothing], axis=1)
    rows = [before, last]
    for scores_here in diagonals:
        ways = mg.stack([last[:, :-1], last[:, 1:], before[:, :-1]])
        before, last = last, mg.concat([edge, scores_here + mg.logsumexp(ways, axis=0)], axis=1)
        rows.append(last)
    places = [end + target_end for end, target_end in zip(ends, target_ends, strict=True)]
    return mg.stack(rows)[places, range(batch), ends]


def _diagonals(scores: mg.Tensor) -> mg.Tensor:
    """The anti-diagonals of (B, T, S) as rows, (T + S - 1, B, T), with -infinity where they have no cell.

    T cells are put behind each row, and the rows then read as if they were one cell shorter: each is shifted by one.
    """
    batch, steps, target_steps = scores.shape
    width = steps + target_steps - 1
    wide = mg.pad(scores, [(0, 0), (0, 0), (0, steps)], value=-math.inf)
    wide = wide.reshape(batch, steps * (width + 1))
    return mg.permute_dims(wide[:, : steps * width].reshape(batch, steps, width), (2, 0, 1))


def _pair(targets: tuple[Any, ...]) -> tuple[Any, ...]:
    """Targets and their lengths. Only a tuple is such a pair: a list may be rows."""
    if len(targets) != 2:
        raise ValueError(f"targets are a tuple of {len(targets)}; a tuple is a pair: (targets, target lengths)")
    return targets


def _check_shapes(outputs: mg.Tensor, targets: mg.Tensor) -> None:
    if outputs.ndim != 3:
        raise ValueError(f"outputs have shape {outputs.shape}; it must be (T, B, F), time first")
    if targets.ndim != 3 or targets.shape[1:] != outputs.shape[1:]:
        batch, features = outputs.shape[1:]
        raise ValueError(
            f"targets have shape {targets.shape}; with outputs of shape {outputs.shape} it must be "
            f"(S, {batch}, {features}), time first"
        )


def _ends(name: str, lengths: Any, values: mg.Tensor) -> list[int]:
    """How many steps count of each sequence."""
    steps, batch = values.shape[:2]
    if lengths is None:
        return [steps] * batch
    try:
        return check_lengths(lengths, steps, batch)
    except (TypeError, ValueError) as error:
        raise type(error)(f"lengths of the {name}, which are x here: {error}") from None


def _check_alignable(ends: list[int], target_ends: list[int]) -> None:
    for b, (end, target_end) in enumerate(zip(ends, target_ends, strict=True)):
        if (end == 0) != (target_end == 0):
            raise ValueError(
                f"sequence {b} has {end} steps and its target {target_end}: with nothing in one of them there is no "
                "alignment"
            )


def check_smoothing(gamma: Any = 1.0, **others: Any) -> None:
    """Raise a ValueError if gamma fits no input."""
    check_option("gamma", gamma, is_number(gamma) and gamma > 0, "a number > 0")
