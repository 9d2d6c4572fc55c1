"""The mean absolute error."""

from __future__ import annotations

from typing import Any

from minigrad.losses.parts import reduce_errors
from minigrad.ops import abs
from minigrad.tensor import Tensor


def mae(outputs: Any, targets: Any, reduction: str = "mean", lengths: Any = None) -> Tensor:
    """|outputs - targets|: the mean absolute error. Its gradient is 0 where they are equal.

    Args:
        outputs: any shape.
        targets: the shape of the outputs; integers are taken as floats.
        reduction: "mean", "sum", or "none" for a loss per element.
        lengths: (B,) with outputs (T, B, ...), time first: positions t >= lengths[b] do not count.

    Returns:
        A scalar, or the shape of the outputs with reduction "none". A mean over no elements is 0.

    Raises:
        ValueError: the shapes differ (nothing is broadcast), or an option does not fit.

    >>> from minigrad.losses import mae
    >>> mae(mg.tensor([1.0, 2.0]), mg.tensor([1.0, 4.0]))
    tensor(1., dtype=float32)

    Source: Hastie, Tibshirani and Friedman, The Elements of Statistical Learning (2009), section 10.6.
    """
    return reduce_errors(abs, outputs, targets, reduction, lengths)
