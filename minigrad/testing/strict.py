"""A stand-in for a GPU: NumPy arrays that refuse, as CuPy's do, to be mixed with or turned into host arrays.

Whatever runs on this backend never hands a device array to NumPy nor a NumPy array to a device function. It is
stricter than CuPy in a few places (NumPy scalars, lists as indices), so that code which passes here is on the safe
side. Functions and methods that CuPy lacks are missing here too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.backend import Backend


class StrictArray:
    """A NumPy array that only meets its own kind and Python numbers. Results stay arrays, also 0-d ones."""

    __slots__ = ("_host",)
    __array_ufunc__ = None
    __hash__ = None  # type: ignore[assignment]  # as CuPy's

    def __init__(self, host: Any) -> None:
        self._host = np.asarray(host)

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __array_function__(self, function: Any, *args: Any) -> Any:
        raise TypeError(f"numpy.{function.__name__} was called on a device array")

    def get(self) -> Any:
        """A copy on the host."""
        return self._host.copy()

    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    strides = property(lambda self: self._host.strides)
    flags = property(lambda self: self._host.flags)
    base = property(lambda self: self._host if self._host.base is None else self._host.base)
    T = property(lambda self: StrictArray(self._host.T))

    def __getitem__(self, index: Any) -> StrictArray:
        return StrictArray(self._host[_index(index)])

    def __setitem__(self, index: Any, value: Any) -> None:
        self._host[_index(index)] = _operand(value)

    def __len__(self) -> int:
        return len(self._host)

    def __iter__(self) -> Any:
        return (StrictArray(row) for row in self._host)

    def __repr__(self) -> str:
        return repr(self._host)

    def __bool__(self) -> bool:
        return bool(self._host)

    def __int__(self) -> int:
        return int(self._host)

    def __float__(self) -> float:
        return float(self._host)

    def __index__(self) -> int:
        return self._host.__index__()

    def item(self, *args: int) -> Any:
        return self._host.item(*args)

    def tolist(self) -> Any:
        return self._host.tolist()


def _operand(value: Any) -> Any:
    if isinstance(value, StrictArray):
        return value._host
    if isinstance(value, np.generic | np.ndarray) or not isinstance(value, bool | int | float | complex):
        raise TypeError(f"Unsupported type {type(value)}")
    return value


def _index(index: Any) -> Any:
    if isinstance(index, tuple):
        return tuple(_index(part) for part in index)
    if isinstance(index, StrictArray):
        return index._host
    if index is None or index is Ellipsis or isinstance(index, bool | int | slice):
        return index
    raise IndexError(f"Unsupported index type {type(index)}")


def _operator(name: str) -> Any:
    def operator(self: StrictArray, other: Any) -> StrictArray:
        return StrictArray(getattr(self._host, name)(_operand(other)))

    return operator


def _in_place(name: str) -> Any:
    def operator(self: StrictArray, other: Any) -> StrictArray:
        getattr(self._host, name)(_operand(other))
        return self

    return operator


def _unary(name: str) -> Any:
    return lambda self: StrictArray(getattr(self._host, name)())


_BINARY = "add sub mul truediv floordiv mod pow matmul and or xor lshift rshift".split()  # noqa: SIM905
for _name in _BINARY:
    setattr(StrictArray, f"__{_name}__", _operator(f"__{_name}__"))
    setattr(StrictArray, f"__r{_name}__", _operator(f"__r{_name}__"))
    setattr(StrictArray, f"__i{_name}__", _in_place(f"__i{_name}__"))
for _name in ["eq", "ne", "lt", "le", "gt", "ge"]:
    setattr(StrictArray, f"__{_name}__", _operator(f"__{_name}__"))
for _name in ["neg", "pos", "abs", "invert"]:
    setattr(StrictArray, f"__{_name}__", _unary(f"__{_name}__"))


# --- functions and methods ----------------------------------------------------------------------------------


def _wrapped(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return StrictArray(value)
    if type(value) in (tuple, list):
        return type(value)(_wrapped(part) for part in value)
    return value


def _unwrapped(name: str, value: Any) -> Any:
    if isinstance(value, StrictArray):
        return value._host
    if isinstance(value, np.ndarray | np.generic):
        raise TypeError(f"{name}: Unsupported type {type(value)}")
    if type(value) in (tuple, list):
        return type(value)(_unwrapped(name, part) for part in value)
    return value


def _call(name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if refused := kwargs.keys() & {"initial", "like", *(() if name == "copyto" else ("where",))}:
        raise TypeError(f"{name} takes no {sorted(refused)} on the device")
    args = tuple(_unwrapped(name, arg) for arg in args)
    return _wrapped(function(*args, **{key: _unwrapped(name, value) for key, value in kwargs.items()}))


def _method(name: str) -> Any:
    def method(self: StrictArray, *args: Any, **kwargs: Any) -> Any:
        return _call(name, getattr(self._host, name), args, kwargs)

    return method


_METHODS = """all any argmax argmin argsort astype clip conj copy cumprod cumsum diagonal dot fill flatten max mean min
nonzero prod ravel repeat reshape round sort squeeze std sum swapaxes take trace transpose var view""".split()  # noqa: SIM905
for _name in _METHODS:
    setattr(StrictArray, _name, _method(_name))


class StrictFunction:
    """A NumPy function between device arrays."""

    def __init__(self, name: str, function: Any) -> None:
        self.__name__ = name
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _call(self.__name__, self._function, args, kwargs)

    def at(self, buffer: StrictArray, index: Any, values: Any = ()) -> None:
        """`ufunc.at`, for the few that have it on the device."""
        if self.__name__ not in ("add", "maximum", "minimum"):
            raise AttributeError(f"{self.__name__}.at is missing on the device")
        self._function.at(buffer._host, _index(index), _operand(values))


_FUNCTIONS = """
abs absolute add all allclose amax amin any arange arccos arccosh arcsin arcsinh arctan arctan2 arctanh argmax argmin
argsort argwhere around array array_equal array_split ascontiguousarray atleast_1d atleast_2d atleast_3d average
bincount broadcast_arrays broadcast_to cbrt ceil clip column_stack concatenate copysign copyto cos cosh count_nonzero
cumprod cumsum deg2rad diag diagonal diff divide divmod dot dstack einsum empty empty_like equal exp exp2 expand_dims
expm1 eye flatnonzero flip fliplr flipud float_power floor floor_divide fmax fmin fmod full full_like gradient greater
greater_equal hstack hypot identity inner isclose isfinite isin isinf isnan kron less less_equal linspace log log10
log1p log2 logaddexp logical_and logical_not logical_or logical_xor matmul max maximum mean median meshgrid min
minimum mod moveaxis multiply nan_to_num nanmax nanmean nanmin nansum negative nonzero not_equal ones ones_like outer
pad positive power prod ravel reciprocal remainder repeat reshape roll rollaxis rot90 round searchsorted sign signbit
sin sinh sort split sqrt square squeeze stack std subtract sum swapaxes take take_along_axis tan tanh tensordot tile
trace transpose tri tril triu true_divide trunc unique unravel_index var vdot vsplit vstack where zeros zeros_like
""".split()  # noqa: SIM905

_AS_THEY_ARE = """bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 complex128
dtype inf nan pi e newaxis finfo iinfo floating integer""".split()  # noqa: SIM905


class StrictStrideTricks:
    """What stands for the module `cupy.lib.stride_tricks`."""

    @staticmethod
    def as_strided(x: StrictArray, shape: Any, strides: Any) -> StrictArray:
        return StrictArray(np.lib.stride_tricks.as_strided(x._host, shape, strides))


class StrictLib:
    """What stands for the module `cupy.lib`."""

    stride_tricks = StrictStrideTricks


class StrictNamespace:
    """What stands for the module `cupy`: `asarray` takes host data, every other function device data alone."""

    ndarray = StrictArray
    lib = StrictLib

    def __init__(self) -> None:
        for name in _FUNCTIONS:
            setattr(self, name, StrictFunction(name, getattr(np, name)))
        for name in _AS_THEY_ARE:
            setattr(self, name, getattr(np, name))

    def asarray(self, data: Any, dtype: Any = None) -> StrictArray:
        """Host data copied to the device; an array that is there already as it is."""
        if isinstance(data, StrictArray):
            return data if dtype is None or data.dtype == np.dtype(dtype) else StrictArray(data.get().astype(dtype))
        return StrictArray(np.array(data, dtype=dtype))

    def asnumpy(self, array: StrictArray) -> Any:
        return array.get()

    def result_type(self, *values: Any) -> Any:
        return np.result_type(*(value._host if isinstance(value, StrictArray) else value for value in values))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the device's namespace has no {name!r}")


class StrictBackend(Backend):
    """The backend "strict"."""

    name = "strict"
    xp = StrictNamespace()
    array_types = (StrictArray,)

    def to_host(self, array: Any) -> Any:
        return array.get()

    def add_at(self, buffer: Any, index: Any, values: Any) -> None:
        self.xp.add.at(buffer, index, values)
