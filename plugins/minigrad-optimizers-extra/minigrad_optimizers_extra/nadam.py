"""NAdam: Adam with Nesterov's momentum."""

from __future__ import annotations

from math import inf
from typing import Any, ClassVar

import minigrad as mg
from minigrad.optimizers import Optimizer


class NAdam(Optimizer):
    """Adam whose momentum is looked up one step ahead, with a momentum that grows over time.

        u_t = b1 (1 - 0.96^(t * momentum_decay) / 2)                                    at step t = 1, 2, ...
        m <- b1 m + (1 - b1) g,  v <- b2 v + (1 - b2) g^2
        m' = u_{t+1} m / (1 - u_1 ... u_{t+1}) + (1 - u_t) g / (1 - u_1 ... u_t)
        p <- p - lr m' / (sqrt(v / (1 - b2^t)) + eps)

    Args:
        params: see `minigrad.optimizers.Optimizer`.
        lr: learning rate.
        betas: b1 and b2, in [0, 1).
        eps: keeps the division from 0.
        weight_decay: this times p is added to g; or, if decoupled, p shrinks by lr times this before its update.
        momentum_decay: how fast u_t grows from b1 / 2 to b1.
        decoupled_weight_decay: whether the decay passes m and v by, as in AdamW.

    >>> from minigrad_optimizers_extra import NAdam
    >>> weight = mg.Parameter([1.0, 2.0])
    >>> (weight * weight).sum().backward()
    >>> NAdam([weight], lr=0.5, eps=0.0).step()
    >>> [round(value.item(), 4) for value in weight]
    [0.4718, 1.4718]

    Source: Dozat, Incorporating Nesterov Momentum into Adam (2016), algorithm 2, with the schedule and the form of
    PyTorch's `torch.optim.NAdam`.
    """

    required_state = ("step", "mean", "square", "momentum_product")
    limits: ClassVar[dict[str, tuple[float, float]]] = {"betas": (0, 1), "eps": (0, inf), "momentum_decay": (0, inf)}

    @staticmethod
    def update(
        parameter: Any,
        gradient: Any,
        state: dict[str, Any],
        *,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
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
        now, ahead = (beta1 * (1 - 0.5 * 0.96 ** (t * momentum_decay)) for t in (step, step + 1))
        product = state.get("momentum_product", 1.0) * now
        scale = mg.sqrt(square / (1 - beta2**step)) + eps
        momentum = mean * (ahead / (1 - product * ahead)) + gradient * ((1 - now) / (1 - product))
        new_state = {"step": step, "mean": mean, "square": square, "momentum_product": product}
        return parameter - lr * momentum / scale, new_state
