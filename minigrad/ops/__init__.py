"""All operations, and their binding to the operators and methods of `Tensor`."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from minigrad.ops.activation import elu, gelu, leaky_relu, relu, sigmoid, softplus, tanh
from minigrad.ops.elementwise import (
    _detach,
    abs,
    add,
    astype,
    clip,
    cos,
    divide,
    equal,
    exp,
    expm1,
    greater,
    greater_equal,
    isfinite,
    less,
    less_equal,
    log,
    log1p,
    logical_and,
    logical_not,
    logical_or,
    maximum,
    minimum,
    multiply,
    negative,
    not_equal,
    power,
    sign,
    sin,
    sqrt,
    square,
    subtract,
    where,
)
from minigrad.ops.indexing import getitem, one_hot, take, take_along_axis
from minigrad.ops.linalg import linear, matmul, tensordot
from minigrad.ops.random import dropout, dropout_mask, normal, uniform
from minigrad.ops.reduction import argmax, log_softmax, logsumexp, max, mean, min, softmax, sum, var
from minigrad.ops.shape import (
    broadcast_to,
    concat,
    expand_dims,
    flip,
    matrix_transpose,
    pad,
    permute_dims,
    reshape,
    split,
    squeeze,
    stack,
)
from minigrad.tensor import Tensor

__all__ = [
    "abs",
    "add",
    "argmax",
    "astype",
    "broadcast_to",
    "clip",
    "concat",
    "cos",
    "divide",
    "dropout",
    "dropout_mask",
    "elu",
    "equal",
    "exp",
    "expand_dims",
    "expm1",
    "flip",
    "gelu",
    "getitem",
    "greater",
    "greater_equal",
    "isfinite",
    "leaky_relu",
    "less",
    "less_equal",
    "linear",
    "log",
    "log1p",
    "log_softmax",
    "logical_and",
    "logical_not",
    "logical_or",
    "logsumexp",
    "matmul",
    "matrix_transpose",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "multiply",
    "negative",
    "normal",
    "not_equal",
    "one_hot",
    "pad",
    "permute_dims",
    "power",
    "relu",
    "reshape",
    "sigmoid",
    "sign",
    "sin",
    "softmax",
    "softplus",
    "split",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "subtract",
    "sum",
    "take",
    "take_along_axis",
    "tanh",
    "tensordot",
    "uniform",
    "var",
    "where",
]


def _swapped(function: Any) -> Any:
    return lambda self, other: function(other, self)


def _reshape(self: Tensor, *shape: Any) -> Tensor:
    """The same values in another shape, given as a tuple or as separate sizes."""
    return reshape(self, tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], Integral) else shape)


def _transposed(self: Tensor) -> Tensor:
    """The axes in reverse order."""
    return matrix_transpose(self) if self.ndim == 2 else permute_dims(self, tuple(range(self.ndim))[::-1])


def _detached(self: Tensor) -> Tensor:
    """The same values, cut off from the tape."""
    return _detach(self)


for _name, _value in {
    "__add__": add,
    "__radd__": _swapped(add),
    "__sub__": subtract,
    "__rsub__": _swapped(subtract),
    "__mul__": multiply,
    "__rmul__": _swapped(multiply),
    "__truediv__": divide,
    "__rtruediv__": _swapped(divide),
    "__pow__": power,
    "__rpow__": _swapped(power),
    "__matmul__": matmul,
    "__rmatmul__": _swapped(matmul),
    "__neg__": negative,
    "__abs__": abs,
    "__eq__": equal,
    "__ne__": not_equal,
    "__lt__": less,
    "__le__": less_equal,
    "__gt__": greater,
    "__ge__": greater_equal,
    "__and__": logical_and,
    "__or__": logical_or,
    "__invert__": logical_not,
    "__getitem__": getitem,
    "T": property(_transposed),
    "mT": property(lambda self: matrix_transpose(self)),
    "astype": astype,
    "detach": _detached,
    "sum": sum,
    "mean": mean,
    "max": max,
    "min": min,
    "var": var,
    "reshape": _reshape,
    "squeeze": squeeze,
}.items():
    setattr(Tensor, _name, _value)
