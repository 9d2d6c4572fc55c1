"""Layers without time: linear, embedding, dropout, layer normalisation, and a sequence of modules."""

from __future__ import annotations

from math import sqrt
from numbers import Integral, Real
from typing import Any

from minigrad import init
from minigrad.backend import Array, backend_of, is_floating
from minigrad.creation import ones, zeros
from minigrad.module import Module
from minigrad.ops import dropout, linear, mean, normal, square, take
from minigrad.ops import sqrt as sqrt_of
from minigrad.primitive import primitive
from minigrad.tensor import Parameter, Tensor, as_tensor

__all__ = ["Dropout", "Embedding", "LayerNorm", "Linear", "Sequential", "check_size"]


class Linear(Module):
    """y = x W^T + b.

    Args:
        in_features: size of the last axis of x.
        out_features: size of the last axis of y.
        bias: whether there is a b.

    Attributes:
        weight: (out_features, in_features), drawn from U(-k, k) with k = 1 / sqrt(in_features), as PyTorch does.
        bias: (out_features,), drawn likewise; None without.

    >>> mg.Linear(3, 2)(mg.ones((5, 3))).shape
    (5, 2)
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        check_size(in_features=in_features, out_features=out_features)
        bound = 1 / sqrt(max(in_features, 1))
        self.weight = Parameter(init.symmetric_uniform((out_features, in_features), bound))
        self.bias = Parameter(init.symmetric_uniform((out_features,), bound)) if bias else None

    def forward(self, x: Any) -> Tensor:
        return linear(_features(self, x), self.weight, self.bias)


class Embedding(Module):
    """A vector for each of a set of integers.

    Args:
        num_embeddings: how many there are; the integers are 0 .. num_embeddings - 1.
        embedding_dim: size of each vector.

    Attributes:
        weight: (num_embeddings, embedding_dim), drawn from the standard normal distribution.

    >>> mg.Embedding(10, 4)(mg.tensor([[1, 2, 3]])).shape
    (1, 3, 4)
    """

    def __init__(self, num_embeddings: int, embedding_dim: int) -> None:
        check_size(num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        self.weight = Parameter(normal(shape=(num_embeddings, embedding_dim)))

    def forward(self, indices: Any) -> Tensor:
        indices = as_tensor(indices, like=self.weight)
        if indices.dtype.kind not in "iu":
            raise TypeError(f"Embedding takes integers; these are {indices.dtype} (use .astype('int64'))")
        return take(self.weight, _in_range(indices, size=self.weight.shape[0]), axis=0)


@primitive
def _in_range(xp: Any, indices: Array, /, size: int) -> Array:
    """The indices, none of which a GPU would read past the end with without a word."""

    def error() -> IndexError:
        low, high = indices.min().item(), indices.max().item()
        return IndexError(f"Embedding takes integers in 0..{size - 1}; these are in {low}..{high}")

    if getattr(indices, "has_values", True):  # not in a trace
        backend_of(indices).require(((indices >= 0) & (indices < size)).all(), error)
    return indices


class Dropout(Module):
    """In training, sets elements to 0 with probability p and scales the others by 1 / (1 - p); otherwise the identity.

    Args:
        p: the probability, in [0, 1].
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = check_probability(p=p)

    def forward(self, x: Any) -> Tensor:
        return dropout(as_tensor(x), self.p, self.training)


class LayerNorm(Module):
    """(x - mean) / sqrt(variance + eps) * weight + bias over the last axis (Ba et al. 2016, section 3).

    Args:
        size: of the last axis.
        eps: added to the variance.

    Attributes:
        weight: (size,), ones at first.
        bias: (size,), zeros at first.

    >>> x = mg.tensor([[1.0, 2.0, 3.0]])
    >>> mg.LayerNorm(3)(x)
    tensor([[-1.2247356,  0.       ,  1.2247356]], dtype=float32, requires_grad=True)
    """

    def __init__(self, size: int, eps: float = 1e-5) -> None:
        check_size(size=size)
        self.eps = eps
        self.weight = Parameter(ones(size))
        self.bias = Parameter(zeros(size))

    def forward(self, x: Any) -> Tensor:
        x = _features(self, x)
        centred = x - mean(x, -1, keepdims=True)
        scale = sqrt_of(mean(square(centred), -1, keepdims=True) + self.eps)
        normalised: Tensor = centred / scale * self.weight + self.bias
        return normalised


class Sequential(Module):
    """Modules (or functions) applied one after the other.

    >>> mg.Sequential(mg.Linear(3, 4), mg.tanh, mg.Linear(4, 1))(mg.ones((2, 3))).shape
    (2, 1)
    """

    def __init__(self, *modules: Any) -> None:
        for position, module in enumerate(modules):
            if not callable(module):
                raise TypeError(f"Sequential takes modules and functions; argument {position} is {module!r}")
            setattr(self, str(position), module)

    def forward(self, x: Any) -> Any:
        for position in range(len(self)):
            x = self[position](x)
        return x

    def __getitem__(self, position: int) -> Any:
        return vars(self)[str(range(len(self))[position])]

    def __len__(self) -> int:
        return sum(name.isdigit() for name in vars(self))


def _features(layer: Linear | LayerNorm, given: Any) -> Tensor:
    """x as a tensor whose last axis and dtype fit the layer's weight."""
    x = as_tensor(given, like=layer.weight)
    name, size, dtype = type(layer).__name__, layer.weight.shape[-1], layer.weight.dtype
    if not x.ndim or x.shape[-1] != size:
        raise ValueError(f"{name} takes x of shape (..., {size}); this is {x.shape}")
    if x.dtype != dtype:
        raise TypeError(
            f"{name} takes x in the dtype of its weight, {dtype}; this is {x.dtype}: {converting(x, dtype)}"
        )
    return x


def converting(x: Tensor, dtype: Any) -> str:
    """How to make x and a module of this dtype fit, for messages."""
    convert = f"x.astype({str(dtype)!r})"
    return f"{convert} or module.to(dtype={str(x.dtype)!r})" if is_floating(x.dtype) else convert


def check_size(**sizes: int) -> None:
    """Raise an error that names the argument, unless each is an integer of at least 0."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, Integral) or size < 0:
            raise ValueError(f"{name} is a number of elements, an integer of 0 or more; got {size!r}")


def check_probability(**probabilities: float) -> float:
    """The one value given, or an error that names the argument unless it is in [0, 1]."""
    ((name, value),) = probabilities.items()
    if not isinstance(value, Real) or not 0 <= value <= 1:
        raise ValueError(f"{name} is a probability in [0, 1]; got {value!r}")
    return float(value)
