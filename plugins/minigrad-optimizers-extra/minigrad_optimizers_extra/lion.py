"""Lion: steps of one size, in the direction of the sign of an interpolated momentum."""

from __future__ import annotations

from typing import Any, ClassVar

import minigrad as mg
from minigrad.optimizers import Optimizer


class Lion(Optimizer):
    """p <- p - lr (sign(b1 m + (1 - b1) g) + weight_decay p), and then m <- b2 m + (1 - b2) g, with m beginning at 0.

    Each element moves by lr, whatever the size of its gradient, so lr is to be smaller than Adam's (the paper: 3 to 10
    times), and weight_decay larger by as much. Half of Adam's memory is needed.

    Args:
        params: see `minigrad.optimizers.Optimizer`.
        lr: learning rate.
        betas: b1 and b2, in [0, 1).
        weight_decay: how much the weights shrink, in units of lr.

    >>> from minigrad_optimizers_extra import Lion
    >>> weight = mg.Parameter([1.0, -2.0])
    >>> (weight * weight).sum().backward()
    >>> Lion([weight], lr=0.5).step()
    >>> weight.numpy()
    array([ 0.5, -1.5], dtype=float32)

    Source: Chen et al., Symbolic Discovery of Optimization Algorithms (2023), program 1 and algorithm 2.
    """

    required_state = ("momentum",)
    limits: ClassVar[dict[str, tuple[float, float]]] = {"betas": (0, 1)}

    @staticmethod
    def update(
        parameter: Any,
        gradient: Any,
        state: dict[str, Any],
        *,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> tuple[Any, dict[str, Any]]:
        """One update; see `Optimizer.update`."""
        beta1, beta2 = betas
        direction, momentum = (1 - beta1) * gradient, (1 - beta2) * gradient
        if state:
            direction = direction + beta1 * state["momentum"]
            momentum = momentum + beta2 * state["momentum"]
        step = mg.sign(direction)
        if weight_decay:
            step = step + weight_decay * parameter
        return parameter - lr * step, {"momentum": momentum}
