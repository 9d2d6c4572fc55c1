"""RMSprop: steps divided by the running size of the gradient."""

from __future__ import annotations

import math
from typing import ClassVar

from minigrad.backend import Array
from minigrad.ops import maximum, sqrt
from minigrad.optimizers.base import Limits, Optimizer, State


class RMSprop(Optimizer):
    """v <- alpha v + (1 - alpha) g^2, p <- p - lr g / (sqrt(v) + eps), with v beginning at 0.

    Args:
        params: see `Optimizer`.
        lr: learning rate.
        alpha: how much of v stays, in [0, 1).
        eps: keeps the division from 0.
        weight_decay: this times p is added to g.
        momentum: m; b <- m b + g / (sqrt(v) + eps), p <- p - lr b; 0 for none.
        centered: subtract the square of the gradient's running mean from v: an estimate of its variance.

    >>> from minigrad.optimizers import RMSprop
    >>> weight = mg.Parameter([1.0, 2.0])
    >>> (weight * weight).sum().backward()
    >>> RMSprop([weight], lr=0.01).step()
    >>> [round(value.item(), 4) for value in weight]
    [0.9, 1.9]

    Source: Tieleman and Hinton, Lecture 6.5 (2012); centred: Graves, Generating Sequences with Recurrent Neural
    Networks (2013), equations 38 to 41, with eps outside the root as in PyTorch.
    """

    required_state = ("square_average",)
    optional_state = ("gradient_average", "momentum_buffer")
    limits: ClassVar[Limits] = {"alpha": (0, 1), "eps": (0, math.inf), "momentum": (0, math.inf)}

    @staticmethod
    def update(
        parameter: Array,
        gradient: Array,
        state: State,
        *,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ) -> tuple[Array, State]:
        """One update; see `Optimizer.update`."""
        if weight_decay:
            gradient = gradient + weight_decay * parameter
        square_average = gradient * gradient * (1 - alpha)
        if "square_average" in state:
            square_average += alpha * state["square_average"]
        new_state = {"square_average": square_average}
        variance = square_average
        if centered:
            average = gradient * (1 - alpha)
            if "gradient_average" in state:
                average += alpha * state["gradient_average"]
            new_state["gradient_average"] = average
            variance = maximum(square_average - average * average, 0)  # rounding could make it negative
        step = gradient / (sqrt(variance) + eps)
        if momentum:
            if "momentum_buffer" in state:
                step += momentum * state["momentum_buffer"]
            new_state["momentum_buffer"] = step
        return parameter - lr * step, new_state
