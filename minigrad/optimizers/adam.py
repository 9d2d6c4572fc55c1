"""Adam: momentum divided by the running size of the gradient, both corrected for their start at 0."""

from __future__ import annotations

import math
from typing import ClassVar

from minigrad.backend import Array
from minigrad.ops import maximum, sqrt
from minigrad.optimizers.base import Limits, Optimizer, State


class Adam(Optimizer):
    """m <- b1 m + (1 - b1) g, v <- b2 v + (1 - b2) g^2, p <- p - lr m' / (sqrt(v') + eps) at step t = 1, 2, ...

    Here m' = m / (1 - b1^t) and v' = v / (1 - b2^t).

    Args:
        params: see `Optimizer`.
        lr: learning rate.
        betas: b1 and b2, in [0, 1).
        eps: keeps the division from 0.
        weight_decay: this times p is added to g (see `AdamW` for decay that does not pass through m and v).
        amsgrad: divide by the largest v so far.

    >>> from minigrad.optimizers import Adam
    >>> weight = mg.Parameter([1.0, 2.0])
    >>> (weight * weight).sum().backward()
    >>> Adam([weight], lr=0.5).step()
    >>> [round(value.item(), 4) for value in weight]
    [0.5, 1.5]

    Source: Kingma and Ba, Adam (2015), algorithm 1; amsgrad: Reddi, Kale and Kumar, On the Convergence of Adam and
    Beyond (2018), algorithm 2.
    """

    required_state = ("step", "mean", "square")
    optional_state = ("largest_square",)
    limits: ClassVar[Limits] = {"betas": (0, 1), "eps": (0, math.inf)}

    @staticmethod
    def update(
        parameter: Array,
        gradient: Array,
        state: State,
        *,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
    ) -> tuple[Array, State]:
        """One update; see `Optimizer.update`."""
        if weight_decay:
            gradient = gradient + weight_decay * parameter
        beta1, beta2 = betas
        step = state.get("step", 0) + 1
        mean = (1 - beta1) * gradient
        square = gradient * gradient
        square *= 1 - beta2
        if state:
            mean += beta1 * state["mean"]
            square += beta2 * state["square"]
        new_state = {"step": step, "mean": mean, "square": square}
        largest = square
        if amsgrad:
            new_state["largest_square"] = largest = maximum(state.get("largest_square", 0.0), square)
        change = sqrt(largest)
        change /= (1 - beta2**step) ** 0.5
        change += eps
        change = mean / change
        change *= -lr / (1 - beta1**step)
        change += parameter
        return change, new_state
