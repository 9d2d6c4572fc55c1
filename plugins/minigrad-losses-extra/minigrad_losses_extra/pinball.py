"""The pinball loss, whose smallest mean is at a quantile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import minigrad as mg
from minigrad.losses import as_outputs, as_values, check_option, is_number, paired, reduce


def pinball(
    outputs: Any,
    targets: Any,
    quantiles: float | Sequence[float] = 0.5,
    reduction: str = "mean",
    lengths: Any = None,
) -> mg.Tensor:
    """max(q e, (q - 1) e) for e = targets - outputs: q for a target above, and 1 - q for one below.

    Where it is smallest on average, a share q of the targets lies below the output. At e = 0 its gradient is the mean
    of both sides'. With q = 0.5 it is half the absolute error.

    Args:
        outputs: any shape, for one quantile; (..., Q) for several, one beside the other.
        targets: the shape of the outputs, for one quantile; (...) for several. Integers are taken as floats.
        quantiles: q in (0, 1), or a sequence of Q such.
        reduction: "mean" (over all elements, those of several quantiles too), "sum", or "none" for a loss per element.
        lengths: (B,) with outputs (T, B, ...), time first: positions t >= lengths[b] do not count.

    Returns:
        A scalar, or the shape of the outputs with reduction "none". A mean over no elements is 0.

    Raises:
        ValueError: the shapes do not fit, or an option.

    >>> from minigrad_losses_extra import pinball
    >>> outputs = mg.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])  # the 10th, 50th and 90th percentiles of two forecasts
    >>> loss = pinball(outputs, mg.tensor([2.5, 4.0]), quantiles=(0.1, 0.5, 0.9), reduction="none")
    >>> [[round(value.item(), 4) for value in row] for row in loss]
    [[0.15, 0.25, 0.05], [0.3, 1.0, 0.9]]

    Source: Koenker and Bassett, Regression Quantiles (1978), section 2.
    """
    check_quantiles(quantiles)
    outputs = as_outputs(outputs)
    level: Any = quantiles
    if isinstance(quantiles, Sequence):
        level = as_values("quantiles", list(quantiles), outputs)
        targets = _beside(as_values("targets", targets, outputs), outputs, len(level))
    outputs, targets, mask = paired(outputs, targets, lengths)
    errors = targets - outputs
    return reduce(mg.maximum(level * errors, (level - 1) * errors), reduction, mask)


def _beside(targets: mg.Tensor, outputs: mg.Tensor, count: int) -> mg.Tensor:
    """Targets (...) beside each other, once for each quantile: (..., Q)."""
    if outputs.shape[-1:] != (count,) or targets.shape != outputs.shape[:-1]:
        raise ValueError(
            f"with {count} quantiles outputs have the shape (..., {count}), and targets (...); they are "
            f"{outputs.shape} and {targets.shape}"
        )
    return mg.broadcast_to(mg.expand_dims(targets, -1), outputs.shape)


def check_quantiles(quantiles: Any = 0.5, **others: Any) -> None:
    """Raise a ValueError if the quantiles fit no input."""
    several = isinstance(quantiles, Sequence) and not isinstance(quantiles, str)
    levels = quantiles if several else [quantiles]
    fits = len(levels) > 0 and all(is_number(level) and 0 < level < 1 for level in levels)
    check_option("quantiles", quantiles, fits, "a number in (0, 1), or a sequence of such")
