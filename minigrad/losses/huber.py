"""The Huber loss: quadratic near 0, linear further out."""

from __future__ import annotations

from typing import Any

from minigrad.losses.options import check_options
from minigrad.losses.parts import reduce_errors
from minigrad.ops import clip
from minigrad.tensor import Tensor


def huber(outputs: Any, targets: Any, delta: float = 1.0, reduction: str = "mean", lengths: Any = None) -> Tensor:
    """e**2 / 2 where |e| <= delta, and delta * (|e| - delta / 2) elsewhere, for e = outputs - targets.

    Args:
        outputs: any shape.
        targets: the shape of the outputs; integers are taken as floats.
        delta: where the linear part begins, > 0.
        reduction: "mean", "sum", or "none" for a loss per element.
        lengths: (B,) with outputs (T, B, ...), time first: positions t >= lengths[b] do not count.

    Returns:
        A scalar, or the shape of the outputs with reduction "none". A mean over no elements is 0.

    Raises:
        ValueError: the shapes differ (nothing is broadcast), or an option does not fit.

    >>> from minigrad.losses import huber
    >>> huber(mg.tensor([0.5, 3.0]), mg.tensor([0.0, 0.0]), reduction="none")
    tensor([0.125, 2.5  ], dtype=float32)

    Source: Huber, Robust Estimation of a Location Parameter (1964), section 4.
    """
    check_options(delta=delta)

    def formula(errors: Tensor) -> Tensor:
        near = clip(errors, -delta, delta)
        return near * (errors - near * 0.5)

    return reduce_errors(formula, outputs, targets, reduction, lengths)
