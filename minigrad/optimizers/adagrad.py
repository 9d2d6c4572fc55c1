"""Adagrad: steps divided by the size of all gradients so far."""

from __future__ import annotations

import math
from typing import ClassVar

from minigrad.backend import Array
from minigrad.ops import sqrt
from minigrad.optimizers.base import Limits, Optimizer, State


class Adagrad(Optimizer):
    """s <- s + g^2, p <- p - lr / (1 + (t - 1) lr_decay) * g / (sqrt(s) + eps) at step t = 1, 2, ...

    Args:
        params: see `Optimizer`.
        lr: learning rate.
        lr_decay: how fast the learning rate falls.
        weight_decay: this times p is added to g.
        initial_accumulator_value: where s begins.
        eps: keeps the division from 0.

    >>> from minigrad.optimizers import Adagrad
    >>> weight = mg.Parameter([1.0, 2.0])
    >>> (weight * weight).sum().backward()
    >>> Adagrad([weight], lr=0.5).step()
    >>> weight.numpy()
    array([0.5, 1.5], dtype=float32)

    Source: Duchi, Hazan and Singer, Adaptive Subgradient Methods (2011), figure 1, in PyTorch's form.
    """

    required_state = ("square_sum", "step")
    limits: ClassVar[Limits] = {
        "lr_decay": (0, math.inf),
        "initial_accumulator_value": (0, math.inf),
        "eps": (0, math.inf),
    }

    @staticmethod
    def update(
        parameter: Array,
        gradient: Array,
        state: State,
        *,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
    ) -> tuple[Array, State]:
        """One update; see `Optimizer.update`."""
        if weight_decay:
            gradient = gradient + weight_decay * parameter
        step = state.get("step", 0) + 1
        square_sum = gradient * gradient
        square_sum += state.get("square_sum", initial_accumulator_value)
        rate = lr / (1 + (step - 1) * lr_decay)
        change = gradient / (sqrt(square_sum) + eps)
        return parameter - rate * change, {"step": step, "square_sum": square_sum}
