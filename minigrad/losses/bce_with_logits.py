"""Binary cross-entropy of logits: independent yes-or-no questions."""

from __future__ import annotations

from typing import Any

from minigrad.losses.options import check_options
from minigrad.losses.parts import as_values, check_broadcasts, paired, reduce
from minigrad.ops import softplus
from minigrad.tensor import Tensor


def bce_with_logits(
    logits: Any,
    targets: Any,
    weight: Any = None,
    pos_weight: Any = None,
    reduction: str = "mean",
    lengths: Any = None,
) -> Tensor:
    """-weight * (pos_weight * y * log sigmoid(x) + (1 - y) * log(1 - sigmoid(x))).

    Computed as weight * (pos_weight * y * softplus(-x) + (1 - y) * softplus(x)): no overflow, no logarithm of 0, and
    no difference of large numbers.

    Args:
        logits: x, any shape.
        targets: y in [0, 1], the shape of the logits.
        weight: how much each element counts; broadcasts to the shape of the logits. A mean divides by the number of
            elements all the same, as PyTorch's does.
        pos_weight: how much more y counts than 1 - y; broadcasts to the shape of the logits.
        reduction: "mean", "sum", or "none" for a loss per element.
        lengths: (B,) with logits (T, B, ...), time first: positions t >= lengths[b] do not count.

    Returns:
        A scalar, or the shape of the logits with reduction "none". A mean over no elements is 0.

    Raises:
        ValueError: a shape or an option does not fit.

    >>> from minigrad.losses import bce_with_logits
    >>> loss = bce_with_logits(mg.tensor([0.0, 1000.0]), mg.tensor([1.0, 0.0]), reduction="none")
    >>> [round(value.item(), 4) for value in loss]
    [0.6931, 1000.0]

    Source: Bishop, Pattern Recognition and Machine Learning (2006), equation 4.90.
    """
    check_options(reduction=reduction)
    logits, targets, mask = paired(logits, targets, lengths)
    positive = targets * softplus(-logits)
    if pos_weight is not None:
        pos_weight = as_values("pos_weight", pos_weight, logits)
        check_broadcasts("pos_weight", pos_weight, logits.shape)
        positive = positive * pos_weight
    losses = positive + (1 - targets) * softplus(logits)
    if weight is not None:
        weight = as_values("weight", weight, logits)
        check_broadcasts("weight", weight, logits.shape)
        losses = losses * weight
    return reduce(losses, reduction, mask)
