"""Random numbers, drawn from the generator that `mg.seed` seeds. No gradient flows through a draw."""

from __future__ import annotations

from typing import Any

from minigrad.backend import Array, as_dtype, backend_of, generator, get_backend
from minigrad.primitive import primitive
from minigrad.tensor import Tensor


@primitive
def normal(
    xp: Any, /, shape: tuple[int, ...] | int = (), mean: float = 0.0, std: float = 1.0, dtype: Any = None
) -> Array:
    """Draws from the normal distribution, on the current backend."""
    return get_backend().asarray(generator().normal(mean, std, shape).astype(as_dtype(dtype)))


@primitive
def uniform(
    xp: Any, /, shape: tuple[int, ...] | int = (), low: float = 0.0, high: float = 1.0, dtype: Any = None
) -> Array:
    """Draws from the uniform distribution on [low, high), on the current backend."""
    return get_backend().asarray(generator().uniform(low, high, shape).astype(as_dtype(dtype)))


@primitive
def dropout_mask(xp: Any, x: Array, /, p: float) -> Array:
    """A mask like x: 0 with probability p, 1 / (1 - p) otherwise, so that the mean is 1."""
    if not 0 <= p <= 1:
        raise ValueError(f"p is a probability in [0, 1]; got {p}")
    keep = generator().random(x.shape, dtype="float32") >= p
    return backend_of(x).asarray(keep).astype(x.dtype) * (1 / (1 - p) if p < 1 else 0.0)


def dropout(x: Any, p: float = 0.5, training: bool = True) -> Tensor:
    """x with elements set to 0 with probability p and the others scaled by 1 / (1 - p) (Srivastava et al. 2014).

    Out of training, or with p = 0, x itself.
    """
    masked: Tensor = x * dropout_mask(x, p) if training and p else x
    return masked
