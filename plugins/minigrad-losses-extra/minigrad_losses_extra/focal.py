"""The focal loss: cross-entropy that passes over what is already classified well."""

from __future__ import annotations

from typing import Any

import minigrad as mg
from minigrad.losses import as_outputs, as_values, check_option, is_number, nll, reduce, time_mask, without_padding

SMALLEST = 1e-12
"""Of 1 - p: below it the factor no longer falls, so that its derivative stays finite for every gamma."""


def focal(
    logits: Any,
    targets: Any,
    gamma: float = 2.0,
    alpha: Any = None,
    ignore_index: int | None = None,
    reduction: str = "mean",
    lengths: Any = None,
) -> mg.Tensor:
    """-alpha[y] (1 - p)^gamma log p, where p = softmax(logits)[y] is the probability of the right class y.

    With gamma = 0 it is the cross-entropy. 1 - p is computed as -expm1(log p), which is exact near p = 1.

    Args:
        logits: (..., C). The class axis is the last.
        targets: class indices in [0, C), integers of shape (...).
        gamma: >= 0; the larger, the less count positions that are classified well.
        alpha: how much each class counts, (C,); by default 1.
        ignore_index: a target value whose positions do not count.
        reduction: "mean" (over the positions that count, whatever their alpha), "sum", or "none" for a loss per
            position.
        lengths: (B,) with logits (T, B, ..., C), time first: positions t >= lengths[b] do not count.

    Returns:
        A scalar, or (...) with reduction "none". A mean over no positions is 0.

    Raises:
        ValueError, TypeError: a shape, dtype or option does not fit.
        IndexError: a target is no class. On a GPU this comes with the next number that is read.

    >>> from minigrad_losses_extra import focal
    >>> logits = mg.log(mg.tensor([[0.9, 0.1], [0.4, 0.6]]))
    >>> [round(loss.item(), 5) for loss in focal(logits, mg.tensor([0, 0]), reduction="none")]
    [0.00105, 0.32986]

    Source: Lin et al., Focal Loss for Dense Object Detection (2017), equations 4 and 5, for several classes.
    """
    check_gamma(gamma)
    logits = as_outputs(logits)
    if not logits.ndim:
        raise ValueError("the outputs are 0-d; they need a last axis of classes: (..., C)")
    if alpha is not None:
        alpha = as_values("alpha", alpha, logits)
        if alpha.shape != logits.shape[-1:]:
            raise ValueError(f"alpha has shape {alpha.shape}; with {logits.shape[-1]} classes it must be one of each")
    mask = time_mask(lengths, logits.shape[:-1], logits)
    log_p = mg.log_softmax(without_padding(logits, mask))
    options = {"ignore_index": ignore_index, "reduction": "none", "lengths": lengths}
    surprise = nll(log_p, targets, **options)  # -log p; 0 where it does not count
    weighted = surprise if alpha is None else nll(log_p, targets, weight=alpha, **options)
    losses = mg.clip(-mg.expm1(-surprise), min=SMALLEST) ** gamma * weighted
    counted = None
    if ignore_index is not None:
        counted = mg.astype(mg.not_equal(mg.as_tensor(targets, like=logits), ignore_index), losses.dtype)
    return reduce(losses, reduction, mask, counted)


def check_gamma(gamma: Any = 2.0, **others: Any) -> None:
    """Raise a ValueError if gamma fits no input."""
    check_option("gamma", gamma, is_number(gamma) and gamma >= 0, "a number >= 0")
