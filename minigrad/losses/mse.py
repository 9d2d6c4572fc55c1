"""The mean squared error."""

from __future__ import annotations

from typing import Any

from minigrad.losses.parts import reduce_errors
from minigrad.ops import square
from minigrad.tensor import Tensor


def mse(outputs: Any, targets: Any, reduction: str = "mean", lengths: Any = None) -> Tensor:
    """(outputs - targets)**2: the mean squared error.

    Args:
        outputs: any shape.
        targets: the shape of the outputs; integers are taken as floats.
        reduction: "mean", "sum", or "none" for a loss per element.
        lengths: (B,) with outputs (T, B, ...), time first: positions t >= lengths[b] do not count.

    Returns:
        A scalar, or the shape of the outputs with reduction "none". A mean over no elements is 0.

    Raises:
        ValueError: the shapes differ (nothing is broadcast), or an option does not fit.

    >>> from minigrad.losses import mse
    >>> mse(mg.tensor([1.0, 2.0]), mg.tensor([1.0, 4.0]))
    tensor(2., dtype=float32)

    Source: Bishop, Pattern Recognition and Machine Learning (2006), equation 3.12.
    """
    return reduce_errors(square, outputs, targets, reduction, lengths)
