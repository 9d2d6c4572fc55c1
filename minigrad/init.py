"""Initial weights. Each function returns a new tensor to wrap in a `Parameter`.

A shape is (fan_out, fan_in), as in `Linear`: the first axis counts outputs, the second inputs.
"""

from __future__ import annotations

from math import prod, sqrt

from minigrad.backend import get_backend, get_default_dtype, load_backend
from minigrad.ops import normal, uniform
from minigrad.tensor import Tensor

__all__ = [
    "kaiming_normal",
    "kaiming_uniform",
    "orthogonal",
    "recurrent_uniform",
    "symmetric_uniform",
    "xavier_normal",
    "xavier_uniform",
]

Shape = tuple[int, ...]


def symmetric_uniform(shape: Shape, bound: float) -> Tensor:
    """Draws from U(-bound, bound)."""
    return uniform(shape=shape, low=-bound, high=bound)


def recurrent_uniform(shape: Shape, hidden_size: int) -> Tensor:
    """U(-k, k) with k = 1 / sqrt(hidden_size), whatever the shape: what PyTorch's recurrent layers start from.

    >>> bool((mg.abs(mg.init.recurrent_uniform((12, 2), 4)) <= 0.5).numpy().all())
    True
    """
    return symmetric_uniform(shape, 1 / sqrt(max(hidden_size, 1)))


def xavier_uniform(shape: Shape, gain: float = 1.0) -> Tensor:
    """U(-a, a) with a = gain * sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010, equation 16).

    >>> bool((mg.abs(mg.init.xavier_uniform((3, 3))) <= 1.0).numpy().all())
    True
    """
    return symmetric_uniform(shape, gain * sqrt(6 / sum(_fans(shape))))


def xavier_normal(shape: Shape, gain: float = 1.0) -> Tensor:
    """Normal with standard deviation gain * sqrt(2 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    return normal(shape=shape, std=gain * sqrt(2 / sum(_fans(shape))))


def kaiming_uniform(shape: Shape, gain: float = sqrt(2)) -> Tensor:
    """U(-a, a) with a = gain * sqrt(3 / fan_in); the default gain is for ReLU (He et al. 2015, equation 10)."""
    return symmetric_uniform(shape, gain * sqrt(3 / _fans(shape)[0]))


def kaiming_normal(shape: Shape, gain: float = sqrt(2)) -> Tensor:
    """Normal with standard deviation gain / sqrt(fan_in); the default gain is for ReLU (He et al. 2015)."""
    return normal(shape=shape, std=gain / sqrt(_fans(shape)[0]))


def orthogonal(shape: Shape, gain: float = 1.0) -> Tensor:
    """gain times a random matrix with orthonormal rows (or columns, whichever are fewer) (Saxe et al. 2013).

    Drawn uniformly: the QR factor of a normal matrix, with the signs of R's diagonal moved into Q.

    >>> w = mg.init.orthogonal((3, 3))
    >>> mg.abs(w @ w.T - mg.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])).max().item() < 1e-5
    True
    """
    rows, columns = _matrix(shape)
    with_numpy = load_backend("numpy")
    draws = with_numpy.to_host(normal(shape=(max(rows, columns), min(rows, columns)), dtype="float64").numpy())
    q, r = with_numpy.xp.linalg.qr(draws)
    q = q * with_numpy.xp.sign(with_numpy.xp.diagonal(r))
    values = (q.T if rows < columns else q).reshape(shape) * gain
    return Tensor(get_backend().asarray(values.astype(get_default_dtype())))


def _fans(shape: Shape) -> tuple[int, int]:
    rows, columns = _matrix(shape)
    return max(columns, 1), max(rows, 1)


def _matrix(shape: Shape) -> tuple[int, int]:
    if len(shape) < 2:
        raise ValueError(f"this initialiser needs (fan_out, fan_in, ...); the shape is {shape}")
    return shape[0], prod(shape[1:])
