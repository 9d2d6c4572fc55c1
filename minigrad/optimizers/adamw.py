"""AdamW: Adam with weight decay on the weights themselves."""

from __future__ import annotations

from minigrad.backend import Array
from minigrad.optimizers.adam import Adam
from minigrad.optimizers.base import State


class AdamW(Adam):
    """p <- (1 - lr * weight_decay) p, then `Adam`'s update: the decay does not pass through m and v.

    Args:
        params: see `Optimizer`.
        lr: learning rate.
        betas: b1 and b2, in [0, 1).
        eps: keeps the division from 0.
        weight_decay: how much the weights shrink, in units of lr.
        amsgrad: divide by the largest v so far.

    >>> from minigrad.optimizers import AdamW
    >>> weight = mg.Parameter([1.0, 2.0])
    >>> (weight * weight).sum().backward()
    >>> AdamW([weight], lr=0.5, weight_decay=1.0).step()
    >>> [round(value.item(), 4) for value in weight]
    [0.0, 0.5]

    Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization (2019), algorithm 2, in PyTorch's form.
    """

    @staticmethod
    def update(
        parameter: Array,
        gradient: Array,
        state: State,
        *,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
    ) -> tuple[Array, State]:
        """One update; see `Optimizer.update`."""
        decayed = parameter * (1 - lr * weight_decay)
        return Adam.update(decayed, gradient, state, lr=lr, betas=betas, eps=eps, amsgrad=amsgrad)
