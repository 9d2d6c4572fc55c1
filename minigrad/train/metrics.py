"""What a training step returns, and its means over examples (not over batches, of which the last may be small)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Integral
from typing import Any

from minigrad.nest import describe
from minigrad.optimizers import is_number
from minigrad.tensor import Tensor

__all__ = ["Means", "Outcome"]

COLUMNS = ("step", "lr", "grad_norm", "size")
"""What the record of an update holds besides the loss and the metrics."""


@dataclass
class Outcome:
    """One run of the training step.

    Attributes:
        loss: a tensor of one element.
        size: how many examples the batch holds.
        metrics: for each metric its sum and what to divide it by; among them may be the loss.
    """

    loss: Tensor
    size: int
    metrics: dict[str, tuple[float, float]]

    @cached_property
    def value(self) -> float:
        """The loss as a number. To read it the host waits for the device, once."""
        return float(self.loss.item())

    @property
    def sums(self) -> dict[str, tuple[float, float]]:
        """For "loss" and each metric its sum and what to divide it by."""
        return {"loss": (self.value * self.size, self.size), **self.metrics}

    @classmethod
    def of(cls, result: Any, batch: Any) -> Outcome:
        """What `step(model, batch)` has returned, checked.

        Raises:
            TypeError, ValueError: it is not a loss, or a pair of a loss and a dict of metrics.
        """
        loss, metrics = result if isinstance(result, tuple) and len(result) == 2 else (result, {})
        if not isinstance(loss, Tensor) or loss.size != 1:
            raise TypeError(
                "step(model, batch) must return a loss, a tensor of one element, or a pair of it and a dict of "
                f"metrics; it returned {describe(result)}"
            )
        if not isinstance(metrics, Mapping) or not isinstance(metrics.get("loss", ()), tuple):
            raise TypeError(
                "the metrics must be a dict, in which 'loss' can only be a pair (sum, count), of what the loss is the "
                f"mean of; step returned {describe(metrics)}"
            )
        if taken := [name for name in metrics if name in COLUMNS]:
            raise ValueError(f"a metric cannot be called {taken[0]!r}: the record of an update has that of its own")
        size = _size(batch)
        return cls(loss, size, {name: _sum_of(name, metric, size) for name, metric in metrics.items()})

    @property
    def values(self) -> dict[str, float]:
        """The loss and each metric on this batch."""
        return {name: total / count if count else 0.0 for name, (total, count) in self.sums.items()}


@dataclass
class Means:
    """Running means.

    Attributes:
        sums: for each name the sum so far and what to divide it by.
    """

    sums: dict[str, list[float]] = field(default_factory=dict)

    def add(self, outcome: Outcome) -> None:
        """Count one batch."""
        for name, (total, count) in outcome.sums.items():
            before = self.sums.setdefault(name, [0.0, 0.0])
            before[0] += total
            before[1] += count

    def values(self) -> dict[str, float]:
        """The means so far; 0 where nothing has been counted."""
        return {name: total / count if count else 0.0 for name, (total, count) in self.sums.items()}


def _size(batch: Any) -> int:
    size = getattr(batch, "size", None)
    if isinstance(size, bool) or not isinstance(size, Integral) or size < 1:
        raise TypeError(
            f"a batch must have an attribute `size`, how many examples it holds, by which means are weighted; "
            f"{type(batch).__name__} has {size!r}"
        )
    return int(size)


def _sum_of(name: str, metric: Any, size: int) -> tuple[float, float]:
    """A metric as a sum and a count: given as this pair, or as the mean over the batch's examples."""
    if isinstance(metric, tuple) and len(metric) == 2:
        return _number(name, metric[0]), _number(name, metric[1])
    return _number(name, metric) * size, size


def _number(name: str, value: Any) -> float:
    if hasattr(value, "item") and value.size == 1:
        value = value.item()
    if not is_number(value) and not isinstance(value, bool):
        raise TypeError(
            f"the metric {name!r} must be a number, the mean over the batch's examples, or a pair (sum, count); "
            f"step returned {describe(value)}"
        )
    return float(value)
