"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from minigrad.backend import Array
from minigrad.optimizers.base import Limits, Optimizer, State


class SGD(Optimizer):
    """Gradient descent: p <- p - lr g. With momentum m: b <- m b + (1 - dampening) g, p <- p - lr b (b begins as g).

    Args:
        params: see `Optimizer`.
        lr: learning rate.
        momentum: m; 0 for none.
        dampening: how much less than fully a new gradient enters b.
        weight_decay: this times p is added to g.
        nesterov: p <- p - lr (g + m b), the gradient as if looked up one step ahead; needs momentum and no dampening.

    >>> from minigrad.optimizers import SGD
    >>> weight = mg.Parameter([1.0, 2.0])
    >>> (weight * weight).sum().backward()
    >>> SGD([weight], lr=0.25).step()
    >>> weight.numpy()
    array([0.5, 1. ], dtype=float32)

    Source: Sutskever et al., On the Importance of Initialization and Momentum (2013), section 2, in PyTorch's form.
    """

    optional_state = ("momentum_buffer",)
    limits: ClassVar[Limits] = {"momentum": (0, math.inf)}

    @staticmethod
    def update(
        parameter: Array,
        gradient: Array,
        state: State,
        *,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> tuple[Array, State]:
        """One update; see `Optimizer.update`."""
        if weight_decay:
            gradient = gradient + weight_decay * parameter
        if not momentum:
            return parameter - lr * gradient, {}
        if "momentum_buffer" in state:
            buffer = momentum * state["momentum_buffer"] + (1 - dampening) * gradient
        else:
            buffer = gradient.copy()
        direction = gradient + momentum * buffer if nesterov else buffer
        return parameter - lr * direction, {"momentum_buffer": buffer}

    @classmethod
    def check(cls, hyperparameters: Mapping[str, Any]) -> None:
        super().check(hyperparameters)
        if hyperparameters["nesterov"] and not (hyperparameters["momentum"] and not hyperparameters["dampening"]):
            raise ValueError("nesterov needs momentum > 0 and dampening 0")
