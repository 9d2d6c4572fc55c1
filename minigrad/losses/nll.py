"""The negative log-likelihood of class indices."""

from __future__ import annotations

from typing import Any

from minigrad.losses.options import check_options
from minigrad.losses.parts import (
    as_outputs,
    as_real,
    as_values,
    check_indices,
    check_integers,
    reduce,
    time_mask,
    without_padding,
)
from minigrad.ops import astype, expand_dims, not_equal, squeeze, take, take_along_axis, where
from minigrad.tensor import Tensor


def nll(
    log_probabilities: Any,
    targets: Any,
    weight: Any = None,
    ignore_index: int | None = None,
    reduction: str = "mean",
    lengths: Any = None,
) -> Tensor:
    """-weight[y] * log p[y] for each target y; their mean is weighted: divided by the sum of the weights used.

    Args:
        log_probabilities: (..., C), for instance from `mg.log_softmax`. The class axis is the last.
        targets: class indices in [0, C), integers of shape (...).
        weight: how much each class counts, (C,).
        ignore_index: a target value whose positions do not count.
        reduction: "mean", "sum", or "none" for a loss per position.
        lengths: (B,) with log_probabilities (T, B, ..., C), time first: positions t >= lengths[b] do not count.

    Returns:
        A scalar, or (...) with reduction "none". A mean over no positions is 0.

    Raises:
        ValueError, TypeError: a shape, dtype or option does not fit.
        IndexError: a target is no class. On a GPU this comes with the next number that is read.

    >>> from minigrad.losses import nll
    >>> loss = nll(mg.log(mg.tensor([[0.5, 0.5], [0.2, 0.8]])), mg.tensor([0, 1]))
    >>> round(loss.item(), 4)
    0.4581

    Source: Bishop, Pattern Recognition and Machine Learning (2006), equation 4.108.
    """
    check_options(reduction=reduction, ignore_index=ignore_index)
    log_probabilities = as_outputs(log_probabilities)
    targets = as_real("targets", targets, like=log_probabilities)
    mask = time_mask(lengths, log_probabilities.shape[:-1], log_probabilities)
    weight = class_weight(weight, log_probabilities)
    losses, weights = index_losses(log_probabilities, targets, weight, ignore_index, mask)
    return reduce(losses, reduction, mask, weights)


def class_weight(weight: Any, outputs: Tensor) -> Tensor | None:
    """The weight of each class as a tensor, checked against outputs (..., C)."""
    if not outputs.ndim:
        raise ValueError("the outputs are 0-d; they need a last axis of classes: (..., C)")
    if weight is None:
        return None
    values = as_values("weight", weight, outputs)
    if values.shape != outputs.shape[-1:]:
        raise ValueError(
            f"weight has shape {values.shape}; with {outputs.shape[-1]} classes it must be {outputs.shape[-1:]}"
        )
    return values


def index_losses(
    log_probabilities: Tensor, targets: Tensor, weight: Tensor | None, ignore_index: int | None, mask: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """The loss of each position, and its share of a mean's denominator (None if all count the same)."""
    *shape, classes = log_probabilities.shape
    if targets.shape != tuple(shape):
        raise ValueError(
            f"targets have shape {targets.shape}; as class indices for outputs of shape {log_probabilities.shape} "
            f"(..., C) they must have {tuple(shape)}. The class axis is the last: use mg.permute_dims(outputs, axes)"
        )
    check_integers("targets", targets)
    targets = without_padding(targets, mask)
    kept = None
    if ignore_index is not None:
        kept = not_equal(targets, ignore_index)
        targets = where(kept, targets, 0)
    check_indices("targets", targets, classes)
    losses = -squeeze(take_along_axis(log_probabilities, expand_dims(targets, -1)), -1)
    weights = None
    if weight is not None:
        weights = take(weight, targets)
        losses = losses * weights
    if kept is not None:
        losses = where(kept, losses, 0.0)
        weights = astype(kept, losses.dtype) if weights is None else where(kept, weights, 0.0)
    return losses, weights
