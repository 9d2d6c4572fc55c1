"""An array without values: what a cell's step is traced with.

It has a shape and a dtype and goes through NumPy's functions and operators like an array. Whatever would need a value
(a Python branch, `item`, a conversion to NumPy) raises, so that nothing in a trace can depend on one.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from minigrad.backend import by_type, load_backend
from minigrad.errors import PlanError

READS = (
    "the step reads the value of a tensor (a Python if or while on it, item(), numpy(), float(), iteration by value), "
    "so its code may take another way at another step. Choose by value with mg.where, or keep it out of step; and if "
    "it looks values up in a NumPy array, as mg.take(table, indices) does, make a table a tensor: mg.tensor(table)"
)


class Abstract(np.lib.mixins.NDArrayOperatorsMixin):
    """An array of which only shape and dtype are known."""

    __slots__ = ("dtype", "shape")
    __hash__ = None  # type: ignore[assignment]  # as for arrays
    has_values = False

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self.shape = shape
        self.dtype = dtype

    ndim = property(lambda self: len(self.shape))
    size = property(lambda self: prod(self.shape))
    itemsize = property(lambda self: self.dtype.itemsize)
    nbytes = property(lambda self: self.size * self.itemsize)
    T = property(lambda self: Abstract(self.shape[::-1], self.dtype))

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if ufunc is np.matmul and method == "__call__":
            return _product(*inputs)
        if method == "at":  # adds in place, where there is nothing
            return None
        options.pop("out", None)  # of y += 1, which makes a new one here
        if method == "__call__" and not options and ufunc.signature is None and ufunc.nout == 1:
            try:
                return _elementwise(ufunc, inputs)
            except ValueError:
                pass  # the shapes do not fit: NumPy says so in its own words
        return _abstract(getattr(ufunc, method)(*_stand_ins(inputs), **options))

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return _abstract(function(*_stand_ins(args), **_stand_ins(kwargs)))

    def __getitem__(self, index: Any) -> Abstract:
        for part in index if isinstance(index, tuple) else (index,):
            if getattr(part, "dtype", None) == np.bool_ and isinstance(part, Abstract):
                raise PlanError("the step selects with a mask, so a shape depends on values: use mg.where")
        made: Abstract = _abstract(_stand_in(self)[_stand_ins(index)])
        return made

    def __setitem__(self, index: Any, value: Any) -> None:
        """There is nothing to set."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not callable(getattr(np.ndarray, name, None)):
            raise AttributeError(name)
        method = getattr(_stand_in(self), name)
        return lambda *args, **kwargs: _abstract(method(*_stand_ins(args), **kwargs))

    def __len__(self) -> int:
        return self.shape[0]

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        raise PlanError(READS)

    __array__ = __bool__ = __int__ = __float__ = __complex__ = __index__ = _refuse

    def __repr__(self) -> str:
        return f"Abstract({self.shape}, {self.dtype})"


def _stand_in(array: Abstract) -> Any:
    """A real array of that shape which costs no memory."""
    return np.ndarray(array.shape, array.dtype, np.zeros(1, array.dtype), strides=(0,) * len(array.shape))


def _stand_ins(value: Any) -> Any:
    if isinstance(value, Abstract):
        return _stand_in(value)
    if isinstance(value, tuple | list):
        return type(value)(map(_stand_ins, value))
    if isinstance(value, dict):
        return {key: _stand_ins(part) for key, part in value.items()}
    return value


def _abstract(value: Any) -> Any:
    """Results with their values forgotten. What is no array has been read from one."""
    if isinstance(value, np.ndarray | np.generic):
        return Abstract(value.shape, value.dtype)
    if isinstance(value, tuple | list) and value and all(isinstance(part, np.ndarray) for part in value):
        return type(value)(map(_abstract, value))
    raise PlanError(READS)


def _elementwise(ufunc: Any, inputs: tuple[Any, ...]) -> Abstract:
    """The shape and dtype of an elementwise operation, found with one element of each array."""
    shape = np.broadcast_shapes(*[x.shape if isinstance(x, Abstract) else np.shape(x) for x in inputs])
    made = ufunc(*[np.zeros(1, x.dtype) if hasattr(x, "shape") else x for x in inputs])
    return Abstract(shape, made.dtype)


def _product(x1: Any, x2: Any) -> Abstract:
    """The shape of a matrix product, found without multiplying: nothing is left of the axis that is summed over."""
    if x1.shape[-1] == x2.shape[-2 if len(x2.shape) > 1 else 0]:
        x1, x2 = x1[..., :0], x2[..., :0, :] if len(x2.shape) > 1 else x2[:0]
    return Abstract((made := np.matmul(*_stand_ins((x1, x2)))).shape, made.dtype)


by_type[Abstract] = load_backend("numpy")
