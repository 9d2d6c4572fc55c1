"""Cross-entropy between logits and classes, given as indices or as probabilities."""

from __future__ import annotations

from typing import Any

from minigrad.backend import is_floating
from minigrad.losses.nll import class_weight, index_losses
from minigrad.losses.options import check_options
from minigrad.losses.parts import as_outputs, as_real, as_values, reduce, time_mask, without_padding
from minigrad.ops import log_softmax, not_equal, sum, where
from minigrad.tensor import Tensor


def cross_entropy(
    logits: Any,
    targets: Any,
    weight: Any = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    lengths: Any = None,
) -> Tensor:
    """-sum_c weight[c] * q[c] * log softmax(logits)[c], where q is the target distribution.

    A class index y stands for q[c] = 1 at c = y and 0 elsewhere. Label smoothing e mixes q with the uniform
    distribution: (1 - e) q + e / C. The mean over indices is weighted (divided by the sum of weight[y]); the mean over
    probabilities is divided by the number of positions. Both are PyTorch's conventions.

    Args:
        logits: (..., C). The class axis is the last.
        targets: class indices in [0, C), integers of shape (...); or probabilities, floats of shape (..., C).
        weight: how much each class counts, (C,).
        ignore_index: a target index whose positions do not count.
        label_smoothing: e in [0, 1].
        reduction: "mean", "sum", or "none" for a loss per position.
        lengths: (B,) with logits (T, B, ..., C), time first: positions t >= lengths[b] do not count.

    Returns:
        A scalar, or (...) with reduction "none". A mean over no positions is 0.

    Raises:
        ValueError, TypeError: a shape, dtype or option does not fit.
        IndexError: a target is no class. On a GPU this comes with the next number that is read.

    >>> from minigrad.losses import cross_entropy
    >>> logits = mg.tensor([[2.0, 0.0], [0.0, 0.0]], requires_grad=True)
    >>> loss = cross_entropy(logits, mg.tensor([0, 1]))
    >>> round(loss.item(), 4)
    0.41

    Source: Bishop, Pattern Recognition and Machine Learning (2006), equation 4.108; label smoothing: Szegedy et al.,
    Rethinking the Inception Architecture (2016), section 7.
    """
    check_options(reduction=reduction, ignore_index=ignore_index, label_smoothing=label_smoothing)
    logits = as_outputs(logits)
    targets = as_real("targets", targets, like=logits)
    weight = class_weight(weight, logits)
    mask = time_mask(lengths, logits.shape[:-1], logits)
    log_probabilities = log_softmax(without_padding(logits, mask))
    uniform = label_smoothing / max(logits.shape[-1], 1)

    if is_floating(targets.dtype):
        _check_probabilities(logits, targets, ignore_index)
        targets = without_padding(as_values("targets", targets, logits), mask)
        if label_smoothing:
            targets = targets * (1 - label_smoothing) + uniform
        return reduce(-sum(_weighted(log_probabilities * targets, weight), -1), reduction, mask)

    losses, weights = index_losses(log_probabilities, targets, weight, ignore_index, mask)
    if label_smoothing:
        spread = -sum(_weighted(log_probabilities, weight), -1)
        if ignore_index is not None:
            spread = where(not_equal(targets, ignore_index), spread, 0.0)
        losses = losses * (1 - label_smoothing) + spread * uniform
    return reduce(losses, reduction, mask, weights)


def _weighted(terms: Tensor, weight: Tensor | None) -> Tensor:
    return terms if weight is None else terms * weight


def _check_probabilities(logits: Tensor, targets: Tensor, ignore_index: int | None) -> None:
    if targets.shape != logits.shape:
        raise ValueError(
            f"targets are floats of shape {targets.shape}: probabilities must have the shape of the logits, "
            f"{logits.shape}; class indices must be integers (targets.astype('int64')) of shape {logits.shape[:-1]}"
        )
    if ignore_index is not None:
        raise ValueError("ignore_index needs targets that are class indices; these are probabilities")
