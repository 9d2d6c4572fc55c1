"""Choosing a class by its score: the best one, or a random one."""

from __future__ import annotations

from math import isfinite
from numbers import Real
from typing import Any

from minigrad.backend import generator
from minigrad.decoding.arguments import as_scores, check_count
from minigrad.tensor import Tensor

__all__ = ["greedy", "sample"]


def greedy(scores: Any) -> Tensor:
    """The class with the highest score, argmax_c scores[c]; the first of equals.

    Args:
        scores: (B, C) logits, or any (..., C). Minus infinity is the score of what is impossible.

    Returns:
        (B,) int64, or the shape of the scores without their last axis.

    Raises:
        ValueError: there is no class, or the largest score of a row is not finite.
        TypeError: the scores are no floating-point numbers.

    >>> from minigrad.decoding import greedy
    >>> greedy(mg.tensor([[0.1, 2.0, 1.0], [3.0, 3.0, 0.0]]))
    tensor([1, 0])
    """
    given = as_scores(scores)
    return Tensor(given.backend.xp.asarray(given.data.argmax(axis=-1), dtype="int64"))


def sample(scores: Any, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None) -> Tensor:
    """A class drawn from p = softmax(scores / temperature), cut off to the likeliest.

        top_k   keeps the k likeliest classes,
        top_p   keeps the fewest likeliest classes whose probabilities sum to at least top_p (the nucleus),

    and p is normalised again after each. With both, top_k comes first. Of equally likely classes the first is kept.

    Args:
        scores: (B, C) logits, or any (..., C). Minus infinity is the score of what is impossible.
        temperature: positive; below 1 likelier classes gain, above 1 they lose.
        top_k: at least 1; a k above C keeps all.
        top_p: in (0, 1]; 1 keeps all.

    Returns:
        (B,) int64, or the shape of the scores without their last axis. `mg.seed` makes the draws repeatable: a uniform
        number per row from the host's generator, which on every backend gives the same class.

    Raises:
        ValueError: an option is out of its range, there is no class, or the largest score of a row is not finite.
        TypeError: the scores are no floating-point numbers.

    >>> from minigrad.decoding import sample
    >>> scores = mg.log(mg.tensor([[0.5, 0.3, 0.15, 0.05]]))
    >>> drawn = sample(mg.broadcast_to(scores, (1000, 4)), top_p=0.7)
    >>> sorted(set(drawn.numpy().tolist()))                    # 0.5 alone is below 0.7; 0.5 + 0.3 is not
    [0, 1]

    Source: Fan et al. (2018) on top_k; Holtzman et al. (2020), sections 3.1 on top_p and 3.3 on the temperature.
    """
    _check_options(temperature, top_k, top_p)
    given = as_scores(scores)
    xp = given.backend.xp
    logits = given.data.astype("float64")
    order = xp.argsort(-logits, axis=-1, kind="stable")
    ranked = xp.take_along_axis(logits, order, axis=-1)
    below = xp.maximum(ranked - ranked[..., :1], -800.0 * temperature)  # exp(-800) is 0, and nothing overflows
    mass = xp.exp(below / temperature)
    if top_k is not None:
        mass[..., int(top_k) :] = 0
    if top_p is not None:
        total = xp.cumsum(mass, axis=-1)
        mass = xp.where(total - mass < top_p * total[..., -1:], mass, 0.0)
    total = xp.cumsum(mass, axis=-1)
    point = given.backend.asarray(generator().random(given.shape[:-1]))[..., None] * total[..., -1:]
    rank = (total <= point).sum(axis=-1)
    rank = xp.minimum(rank, (mass > 0).sum(axis=-1) - 1)  # should the product above be rounded up to the total
    return Tensor(xp.asarray(xp.take_along_axis(order, rank[..., None], axis=-1)[..., 0], dtype="int64"))


def _check_options(temperature: Any, top_k: Any, top_p: Any) -> None:
    if not _is_number(temperature) or not isfinite(temperature) or temperature <= 0:
        hint = ": the limit at 0 is the likeliest class, mg.decoding.greedy" if temperature == 0 else ""
        raise ValueError(f"temperature is a finite number above 0; got {temperature!r}{hint}")
    if top_k is not None:
        check_count(1, top_k=top_k)
    if top_p is not None and (not _is_number(top_p) or not 0 < top_p <= 1):
        raise ValueError(f"top_p is a probability in (0, 1]; got {top_p!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
