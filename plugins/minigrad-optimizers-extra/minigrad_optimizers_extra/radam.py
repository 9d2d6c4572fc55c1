"""RAdam: Adam that does without its adaptive rate until enough gradients have been seen to trust it."""

from __future__ import annotations

from math import inf
from typing import Any, ClassVar

import minigrad as mg
from minigrad.optimizers import Optimizer


class RAdam(Optimizer):
    """Adam with a rectified adaptive learning rate.

        m <- b1 m + (1 - b1) g,  v <- b2 v + (1 - b2) g^2                               at step t = 1, 2, ...
        r_inf = 2 / (1 - b2) - 1,  r_t = r_inf - 2 t b2^t / (1 - b2^t)
        p <- p - lr m / (1 - b1^t) * R_t sqrt(1 - b2^t) / (sqrt(v) + eps)               where r_t > 5
        p <- p - lr m / (1 - b1^t)                                                      elsewhere

    R_t^2 = (r_t - 4) (r_t - 2) r_inf / ((r_inf - 4) (r_inf - 2) r_t): at first the variance of the adaptive rate is so
    large that it does harm, which warm-up heals in practice.

    Args:
        params: see `minigrad.optimizers.Optimizer`.
        lr: learning rate.
        betas: b1 and b2, in [0, 1).
        eps: keeps the division from 0.
        weight_decay: this times p is added to g; or, if decoupled, p shrinks by lr times this before its update.
        decoupled_weight_decay: whether the decay passes m and v by, as in AdamW.

    >>> from minigrad_optimizers_extra import RAdam
    >>> weight = mg.Parameter([1.0, 2.0])
    >>> (weight * weight).sum().backward()
    >>> RAdam([weight], lr=0.25).step()
    >>> [round(value.item(), 4) for value in weight]
    [0.5, 1.0]

    Source: Liu et al., On the Variance of the Adaptive Learning Rate and Beyond (2020), algorithm 2, in the form of
    PyTorch's `torch.optim.RAdam`.
    """

    required_state = ("step", "mean", "square")
    limits: ClassVar[dict[str, tuple[float, float]]] = {"betas": (0, 1), "eps": (0, inf)}

    @staticmethod
    def update(
        parameter: Any,
        gradient: Any,
        state: dict[str, Any],
        *,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
    ) -> tuple[Any, dict[str, Any]]:
        """One update; see `Optimizer.update`."""
        if decoupled_weight_decay:
            parameter = parameter * (1 - lr * weight_decay)
        elif weight_decay:
            gradient = gradient + weight_decay * parameter
        beta1, beta2 = betas
        step = state.get("step", 0) + 1
        mean, square = (1 - beta1) * gradient, (1 - beta2) * gradient * gradient
        if state:
            mean = mean + beta1 * state["mean"]
            square = square + beta2 * state["square"]
        change = mean * (lr / (1 - beta1**step))
        whole = 2 / (1 - beta2) - 1
        seen = whole - 2 * step * beta2**step / (1 - beta2**step)
        if seen > 5:
            rectification = (seen - 4) * (seen - 2) * whole / ((whole - 4) * (whole - 2) * seen)
            change = change * (rectification * (1 - beta2**step)) ** 0.5 / (mg.sqrt(square) + eps)
        return parameter - change, {"step": step, "mean": mean, "square": square}
