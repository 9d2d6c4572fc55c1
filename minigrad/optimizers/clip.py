"""Limits on the size of gradients, against their explosion through time."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import reduce
from typing import Any

from minigrad.ops import add, clip
from minigrad.optimizers._arguments import is_number, listed, no_parameters, plain_value
from minigrad.tape import no_grad
from minigrad.tensor import Tensor


def clip_grad_norm(params: Iterable[Tensor], max_norm: float) -> float:
    """Scale all gradients by one factor so that their joint L2 norm is at most `max_norm`.

    Args:
        params: parameters; those without a gradient are passed over.
        max_norm: the limit, >= 0.

    Returns:
        The norm before, 0.0 without gradients. Squares are summed in float64, so that exploding float32 gradients have
        a norm too; that of float64 gradients beyond 1e154 is infinite. If it is infinite or NaN, the gradients are left
        as they are, for the caller to see and to skip the step. Reading the norm makes the host wait for the device,
        once.

    Raises:
        ValueError: `max_norm` is no number >= 0, or there are no parameters at all.

    >>> from minigrad.optimizers import clip_grad_norm
    >>> weight = mg.Parameter([0.0, 0.0])
    >>> weight.grad = mg.tensor([3.0, 4.0])
    >>> clip_grad_norm([weight], 1.0), [round(value.item(), 4) for value in weight.grad]
    (5.0, [0.6, 0.8])

    Source: Pascanu, Mikolov and Bengio, On the Difficulty of Training Recurrent Neural Networks (2013), algorithm 1.
    """
    max_norm = _checked("max_norm", max_norm)
    params = listed(params)
    total = sum_of_squares(params)
    norm = 0.0 if total is None else math.sqrt(total.item())
    scale_grads(params, norm, max_norm)
    return norm


def sum_of_squares(params: Iterable[Tensor]) -> Tensor | None:
    """Of all elements of all gradients, in float64; None without gradients. The host does not wait for it."""
    with no_grad():
        squares = [Tensor(g.backend.sum_of_squares(g.data)) for _, g in _with_gradients(params)]
        return reduce(add, squares) if squares else None


def scale_grads(params: Iterable[Tensor], norm: float, max_norm: float) -> None:
    """What `clip_grad_norm` does with gradients of this norm."""
    if norm > max_norm and math.isfinite(norm):
        with no_grad():
            for parameter, gradient in _with_gradients(params):
                parameter.grad = gradient * (max_norm / norm)


def clip_grad_value(params: Iterable[Tensor], limit: float) -> None:
    """Limit each element of each gradient to [-limit, limit]. NaN stays NaN.

    Args:
        params: parameters; those without a gradient are passed over.
        limit: the limit, >= 0.

    Raises:
        ValueError: `limit` is no number >= 0, or there are no parameters at all.

    >>> from minigrad.optimizers import clip_grad_value
    >>> weight = mg.Parameter([0.0, 0.0])
    >>> weight.grad = mg.tensor([-3.0, 0.5])
    >>> clip_grad_value([weight], 1.0)
    >>> weight.grad
    tensor([-1. ,  0.5], dtype=float32)
    """
    limit = _checked("limit", limit)
    with no_grad():
        for parameter, gradient in _with_gradients(params):
            parameter.grad = clip(gradient, -limit, limit)


def _checked(name: str, value: Any) -> float:
    value = plain_value(value)
    if not (is_number(value) and value >= 0):
        raise ValueError(f"{name} is {value!r}; it must be a number >= 0")
    return float(value)


def _with_gradients(params: Iterable[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Each parameter that has a gradient, once, with it."""
    members = dict.fromkeys(listed(params))
    if not members:
        raise no_parameters()
    return [(parameter, parameter.grad) for parameter in members if parameter.grad is not None]
