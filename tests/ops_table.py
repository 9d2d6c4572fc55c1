"""One row or more per public operation: how to call it, what it must give, and where to try it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import minigrad as mg


@dataclass(frozen=True)
class Row:
    """An operation called in one way.

    Attributes:
        name: of the public function.
        call: takes tensors.
        oracle: the same with NumPy, takes host arrays.
        inputs: makers of host arrays; floats may be differentiated.
        variant: tells the rows of one operation apart.
        gradient: whether gradients flow.
        shapes: elementwise operations take all inputs in any shapes that broadcast together.
    """

    name: str
    call: Callable[..., Any]
    oracle: Callable[..., Any]
    inputs: tuple[Callable[..., Any], ...]
    variant: str = ""
    gradient: bool = True
    elementwise: bool = False

    def __str__(self) -> str:
        return f"{self.name}-{self.variant}" if self.variant else self.name

    def arrays(self, dtype: str = "float64") -> list[Any]:
        generator = np.random.default_rng(7)
        made = [maker(generator) for maker in self.inputs]
        return [a.astype(dtype) if a.dtype.kind == "f" else a for a in made]

    def arrays_of(self, *shapes: tuple[int, ...], dtype: str = "float64") -> list[Any]:
        generator = np.random.default_rng(7)
        made = [maker(generator, shape) for maker, shape in zip(self.inputs, shapes, strict=True)]
        return [a.astype(dtype) if a.dtype.kind == "f" else a for a in made]


def real(*shape: int) -> Callable[..., Any]:
    """Both signs, distinct sizes, all further than 0.05 from 0 and from each other: away from kinks and ties."""

    def make(generator: Any, shape: tuple[int, ...] = shape) -> Any:
        size = math.prod(shape)
        steps = generator.permutation(size) + generator.uniform(0.3, 0.7)
        return ((steps - size // 2) * (4.0 / max(size, 8)) * 0.9).reshape(shape)

    return make


def positive(*shape: int) -> Callable[..., Any]:
    return lambda generator, shape=shape: generator.uniform(0.5, 2.0, shape)


def integers(high: int, *shape: int) -> Callable[..., Any]:
    return lambda generator, shape=shape: np.asarray(generator.integers(-high, high, shape))


def booleans(*shape: int) -> Callable[..., Any]:
    return lambda generator, shape=shape: np.asarray(generator.random(shape) < 0.5)


def unary(name: str, oracle: Any, maker: Any = real, gradient: bool = True) -> Row:
    return Row(name, getattr(mg, name), oracle, (maker(3, 4),), "", gradient, elementwise=True)


def binary(name: str, oracle: Any, makers: Any = (real, real), gradient: bool = True) -> Row:
    inputs = tuple(maker(3, 4) for maker in makers)
    return Row(name, getattr(mg, name), oracle, inputs, "", gradient, elementwise=True)


def with_(name: str, inputs: tuple[Any, ...], oracle: Any, gradient: bool = True, **attrs: Any) -> Row:
    """An operation with attributes, which name the variant."""
    variant = ",".join(f"{key}={value}" for key, value in attrs.items())
    function = getattr(mg, name)
    return Row(name, lambda *xs: function(*xs, **attrs), lambda *xs: oracle(*xs, **attrs), inputs, variant, gradient)


def np_softmax(x: Any, axis: int = -1) -> Any:
    return np.exp(x) / np.exp(x).sum(axis=axis, keepdims=True)


def np_logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    return np.log(np.exp(x).sum(axis=axis, keepdims=keepdims))


def np_var(x: Any, axis: Any = None, correction: float = 0, keepdims: bool = False) -> Any:
    return x.var(axis=axis, ddof=correction, keepdims=keepdims)


def np_gelu(x: Any) -> Any:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def np_mask(x: Any, p: float) -> Any:
    return (np.random.default_rng(3).random(x.shape, dtype="float32") >= p) / (1 - p)


def seeded(function: Any, **attrs: Any) -> Any:
    """The same draw at every call."""

    def call(*xs: Any) -> Any:
        mg.seed(3)
        return function(*xs, **attrs)

    return call


AXES = [{}, {"axis": 0}, {"axis": -1, "keepdims": True}, {"axis": (0, -1)}, {"axis": (1,), "keepdims": True}]
INDEX = np.array([[2, 0], [2, -1]])

ROWS = [
    unary("abs", np.abs),
    unary("cos", np.cos),
    unary("elu", lambda x: np.where(x > 0, x, np.expm1(x))),
    unary("exp", np.exp),
    unary("expm1", np.expm1),
    unary("gelu", np_gelu),
    unary("leaky_relu", lambda x: np.where(x > 0, x, 0.01 * x)),
    unary("log", np.log, positive),
    unary("log1p", np.log1p, positive),
    unary("negative", np.negative),
    unary("relu", lambda x: np.maximum(x, 0)),
    unary("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
    unary("sin", np.sin),
    unary("softplus", lambda x: np.log1p(np.exp(x))),
    unary("sqrt", np.sqrt, positive),
    unary("square", np.square),
    unary("tanh", np.tanh),
    unary("isfinite", np.isfinite, gradient=False),
    unary("logical_not", np.logical_not, booleans, gradient=False),
    unary("sign", np.sign, gradient=False),
    binary("add", np.add),
    binary("subtract", np.subtract),
    binary("multiply", np.multiply),
    binary("divide", np.divide, (real, positive)),
    binary("maximum", np.maximum, (real, positive)),
    binary("minimum", np.minimum, (real, positive)),
    binary("power", np.power, (positive, real)),
    binary("equal", np.equal, gradient=False),
    binary("not_equal", np.not_equal, gradient=False),
    binary("less", np.less, gradient=False),
    binary("less_equal", np.less_equal, gradient=False),
    binary("greater", np.greater, gradient=False),
    binary("greater_equal", np.greater_equal, gradient=False),
    binary("logical_and", np.logical_and, (booleans, booleans), gradient=False),
    binary("logical_or", np.logical_or, (booleans, booleans), gradient=False),
    Row("where", mg.where, np.where, (booleans(3, 4), real(3, 4), real(3, 4)), "", elementwise=True),
    Row("power", lambda x: x**3, lambda x: x**3, (real(3, 4),), "cube"),
    Row("power", lambda x: x**-1.5, lambda x: x**-1.5, (positive(3, 4),), "negative"),
    Row("power", lambda x: x**0, lambda x: x**0, (real(3, 4),), "zero"),
    Row("power", lambda x: 2**x, lambda x: 2**x, (real(3, 4),), "of-a-number"),
    with_("leaky_relu", (real(3, 4),), lambda x, negative_slope: np.where(x > 0, x, 0.2 * x), negative_slope=0.2),
    with_("elu", (real(3, 4),), lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(x)), alpha=0.7),
    with_("clip", (real(3, 4),), np.clip, min=-0.5, max=1.0),
    with_("clip", (real(3, 4),), np.clip, min=0.1, max=None),
    with_("clip", (real(3, 4),), lambda x, min, max: x, min=None, max=None),
    with_("astype", (real(3, 4),), lambda x, dtype: x.astype(dtype), dtype="float64"),
    with_("astype", (real(3, 4),), lambda x, dtype: x.astype(dtype), gradient=False, dtype="int64"),
    *[with_("sum", (real(2, 3, 4),), np.sum, **axes) for axes in AXES],
    *[with_("mean", (real(2, 3, 4),), np.mean, **axes) for axes in AXES],
    *[with_("max", (real(2, 3, 4),), np.max, **axes) for axes in AXES],
    *[with_("min", (real(2, 3, 4),), np.min, **axes) for axes in AXES],
    *[with_("logsumexp", (real(2, 3, 4),), np_logsumexp, **axes) for axes in AXES],
    *[with_("var", (real(2, 3, 4),), np_var, **axes) for axes in AXES],
    with_("var", (real(2, 3),), np_var, axis=-1, correction=1),
    with_("argmax", (real(3, 4),), np.argmax, gradient=False),
    with_("argmax", (real(3, 4),), np.argmax, gradient=False, axis=-2, keepdims=True),
    with_("softmax", (real(2, 3, 4),), np_softmax),
    with_("softmax", (real(2, 3, 4),), np_softmax, axis=1),
    with_("log_softmax", (real(2, 3, 4),), lambda x: np.log(np_softmax(x))),
    with_("log_softmax", (real(2, 3, 4),), lambda x, axis: np.log(np_softmax(x, axis)), axis=0),
    with_("reshape", (real(2, 6),), np.reshape, shape=(3, -1)),
    with_("permute_dims", (real(2, 3, 4),), np.transpose, axes=(2, 0, -2)),
    Row("matrix_transpose", mg.matrix_transpose, lambda x: x.swapaxes(-1, -2), (real(2, 3, 4),)),
    with_("expand_dims", (real(2, 3),), np.expand_dims, axis=-2),
    with_("squeeze", (real(1, 3, 1),), np.squeeze, axis=-1),
    with_("squeeze", (real(1, 3, 1),), np.squeeze, axis=(0, 2)),
    with_("broadcast_to", (real(3, 1),), np.broadcast_to, shape=(2, 3, 4)),
    with_("broadcast_to", (real(),), np.broadcast_to, shape=(2, 2)),
    with_("flip", (real(2, 3),), np.flip),
    with_("flip", (real(2, 3),), np.flip, axis=-1),
    Row("pad", lambda x: mg.pad(x, [(1, 0), (2, 1)], 5.0),
        lambda x: np.pad(x, [(1, 0), (2, 1)], constant_values=5.0), (real(2, 3),)),
    Row("concat", lambda *xs: mg.concat(xs, axis=-1), lambda *xs: np.concatenate(xs, axis=-1),
        (real(2, 1), real(2, 3), real(2, 0))),
    Row("concat", lambda x: mg.concat([x, x]), lambda x: np.concatenate([x, x]), (real(2, 3),), "one-twice"),
    Row("stack", lambda *xs: mg.stack(xs, axis=-1), lambda *xs: np.stack(xs, axis=-1), (real(2, 3), real(2, 3))),
    Row("split", lambda x: mg.stack(mg.split(x, 3, axis=-1)[::-1]), lambda x: np.stack(np.split(x, 3, -1)[::-1]),
        (real(2, 6),), "equal"),
    Row("split", lambda x: mg.concat(mg.split(x, [1, 3])[1:]), lambda x: x[1:], (real(4, 2),), "at"),
    Row("matmul", mg.matmul, np.matmul, (real(2, 3), real(3, 4)), "matrices"),
    Row("matmul", mg.matmul, np.matmul, (real(3), real(3)), "vectors"),
    Row("matmul", mg.matmul, np.matmul, (real(2, 3), real(3)), "matrix-vector"),
    Row("matmul", mg.matmul, np.matmul, (real(3), real(3, 2)), "vector-matrix"),
    Row("matmul", mg.matmul, np.matmul, (real(3), real(2, 3, 2)), "vector-batch"),
    Row("matmul", mg.matmul, np.matmul, (real(2, 2, 3), real(3)), "batch-vector"),
    Row("matmul", mg.matmul, np.matmul, (real(2, 1, 2, 3), real(3, 3, 2)), "broadcast"),
    Row("linear", mg.linear, lambda x, w, b: x @ w.T + b, (real(2, 2, 3), real(4, 3), real(4))),
    Row("linear", mg.linear, lambda x, w, b: x @ w.T + b, (real(3), real(4, 3), real(4)), "vector"),
    Row("linear", mg.linear, lambda x, w: x @ w.T, (real(2, 3), real(4, 3)), "no-bias"),
    Row("tensordot", mg.tensordot, np.tensordot, (real(2, 3, 2), real(3, 2, 2)), "two"),
    with_("tensordot", (real(2, 3), real(3, 2)), np.tensordot, axes=1),
    with_("tensordot", (real(2), real(3)), np.tensordot, axes=0),
    with_("tensordot", (real(2, 3, 2), real(2, 3)), np.tensordot, axes=((-1, 1), (0, -1))),
    Row("getitem", lambda x: mg.getitem(x, (slice(None, None, -2), 1)), lambda x: x[::-2, 1], (real(3, 4),), "basic"),
    Row("getitem", lambda x: x[..., None, -1], lambda x: x[..., None, -1], (real(3, 4),), "ellipsis"),
    Row("getitem", lambda x: x[mg.tensor(INDEX)], lambda x: x[INDEX], (real(3, 4),), "repeated"),
    Row("getitem", lambda x: mg.getitem(x, ([0, 0, 2], slice(None), [1, 1, 0])),
        lambda x: x[[0, 0, 2], :, [1, 1, 0]], (real(3, 2, 3),), "lists"),
    Row("getitem", lambda x, m: x[m], lambda x, m: x[m], (real(3, 4), booleans(3, 4)), "mask"),
    Row("take", lambda x, i: mg.take(x, i, axis=1), lambda x, i: np.take(x, i, axis=1),
        (real(2, 3), integers(3, 2, 4))),
    Row("take", mg.take, lambda x, i: np.take(x, i, axis=0), (real(5, 2), integers(5, 7)), "rows"),
    Row("take_along_axis", lambda x, i: mg.take_along_axis(x, i, axis=0), lambda x, i: np.take_along_axis(x, i, 0),
        (real(3, 4), integers(3, 5, 4))),
    Row("one_hot", lambda i: mg.one_hot(i, 3), lambda i: np.eye(3)[i % 3] * (i >= 0)[..., None], (integers(3, 2, 4),),
        gradient=False),
    Row("normal", seeded(mg.normal, shape=(2, 3), mean=1.0, std=2.0),
        lambda: np.random.default_rng(3).normal(1, 2, (2, 3)), (), gradient=False),
    Row("uniform", seeded(mg.uniform, shape=(4,), low=-1.0),
        lambda: np.random.default_rng(3).uniform(-1, 1, 4), (), gradient=False),
    Row("dropout_mask", seeded(mg.dropout_mask, p=0.3), lambda x: np_mask(x, 0.3), (real(4, 5),), gradient=False),
    Row("dropout", seeded(mg.dropout, p=0.3), lambda x: x * np_mask(x, 0.3), (real(4, 5),)),
    Row("dropout", seeded(mg.dropout, training=False), lambda x: x, (real(4, 5),), "off"),
]  # fmt: skip
