"""The array backend: NumPy on the CPU or CuPy on the GPU, behind one object.

Everything above this file asks a `Backend` for its namespace `xp` and never imports NumPy or CuPy itself.
Which backend an operation runs on follows from the type of its arrays; the *current* backend only decides
where new arrays are made.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np

from minigrad import host_sums
from minigrad.errors import BackendUnavailableError
from minigrad.gpu import check_device
from minigrad.questions import Questions
from minigrad.within import Within

Array = Any
"""An array of some backend (`numpy.ndarray`, `cupy.ndarray`). Backends share an interface, not a base class."""


class Backend:
    """One array library: its namespace, and the few things that the array API does not spell alike.

    Attributes:
        name: what `set_backend` and `Tensor.to` call it.
        xp: the namespace of array functions (`numpy`, `cupy`).
        array_types: the types that this backend's functions return.
        compiles: the language that programs for these arrays can be written in, `"c"` or `"cuda"`; empty if none.
    """

    name: str
    xp: Any
    array_types: tuple[type, ...]
    compiles: str = ""

    def asarray(self, data: Any, dtype: Any = None) -> Array:
        """This backend's array of `data`: host data, or an array that is already here."""
        return self.xp.asarray(data, dtype=dtype)

    def to_host(self, array: Array) -> np.ndarray[Any, Any]:
        """The values of one of this backend's arrays as a NumPy array."""
        raise NotImplementedError

    def require(self, right: Array, error: Callable[[], Exception]) -> None:
        """Raise an error unless `right`, a boolean, is true: now, or on a device with the next number that is read."""
        if not right:
            raise error()

    def answer(self) -> None:
        """Read now what `require` has left for later."""

    def add_at(self, buffer: Array, index: Any, values: Array) -> None:
        """`buffer[index] += values` in place, where an element named twice receives both values."""
        raise NotImplementedError

    def matmul(self, x1: Array, x2: Array) -> Array:
        """x1 @ x2."""
        return x1 @ x2

    def sum_of_squares(self, array: Array) -> Array:
        """Of all elements, in float64."""
        return self.xp.square(array.astype("float64")).sum()

    def strided(self, array: Array, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Array:
        """A view of a contiguous array's memory: from `offset`, with these strides, all in bytes. Unchecked."""
        start = array.reshape(-1)[offset // array.dtype.itemsize :]
        return self.xp.lib.stride_tricks.as_strided(start, shape, strides)

    def place(self, array: Array) -> str:
        """Where an array is, in words: arrays meet only in one place."""
        return self.name

    def aside(self) -> AbstractContextManager[None]:
        """Work that may run beside what follows, until `join`: a second stream of a GPU, and elsewhere nothing new."""
        return nullcontext()

    def join(self) -> None:
        """Let what follows wait for what was put aside."""

    def __repr__(self) -> str:
        return f"<Backend {self.name}>"


SMALL = 1 << 18
"""Elements of one factor times those of the other, up to which a product is small without looking closer."""


class NumPyBackend(Backend):
    """Arrays in the host's memory."""

    name = "numpy"
    xp = np
    compiles = "c"
    array_types = (np.ndarray, *{np.dtype(code).type for code in np.typecodes["All"]})

    def to_host(self, array: Array) -> np.ndarray[Any, Any]:
        return np.asarray(array)

    def matmul(self, x1: Array, x2: Array) -> Array:
        if x1.size * x2.size > SMALL and type(x1) is np.ndarray is type(x2):
            from minigrad.plan.native.products import matmul  # which nobody needs before

            found = matmul(x1, x2)
            if found is not None:
                return found
        return x1 @ x2

    def sum_of_squares(self, array: Array) -> Array:
        return host_sums.of_squares(array)

    def strided(self, array: Array, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Array:
        return np.ndarray(shape, array.dtype, array, offset, strides)  # a fifth of the time that as_strided takes

    def add_at(self, buffer: Array, index: Any, values: Array) -> None:
        rows = index[0] if isinstance(index, tuple) and len(index) == 1 else None
        if isinstance(rows, np.ndarray) and rows.dtype.kind in "iu" and buffer.ndim > 1 and rows.size:
            host_sums.add_rows(buffer, rows.ravel(), values.reshape(rows.size, *buffer.shape[1:]))
        else:
            np.add.at(buffer, index, values)


class CuPyBackend(Backend):
    """Arrays in an NVIDIA GPU's memory. Loading it imports CuPy and asks for a CUDA device.

    Attributes:
        tf32: whether products of float32 may round their factors to TF32's 10 bits of mantissa: only where the
            environment has `CUPY_TF32=1`, which CuPy follows too.
        storage: `"float16"` or `"bfloat16"`, in which plans keep what they can; None: as `MINIGRAD_STORAGE` says.
    """

    name = "cupy"
    compiles = "cuda"
    tf32: bool = False
    storage: str | None = None

    def __init__(self) -> None:
        try:
            import cupy
        except ImportError as error:
            raise BackendUnavailableError(
                "the cupy backend needs CuPy, which is not installed (or does not import: "
                f"{error}). Install it for your CUDA version: pip install 'minigrad[cuda12]' or "
                "pip install 'minigrad[cuda13]'; or use the numpy backend."
            ) from error
        check_device(cupy)
        self.xp = cupy
        self.array_types = (cupy.ndarray,)
        self.tf32 = os.environ.get("CUPY_TF32") == "1"
        self._sides: dict[Any, Any] = {}
        self.questions = Questions(cupy)

    def to_host(self, array: Array) -> np.ndarray[Any, Any]:
        host: np.ndarray[Any, Any] = self.questions.read(array)
        return host

    def require(self, right: Array, error: Callable[[], Exception]) -> None:
        self.questions.ask(right, error)

    def answer(self) -> None:
        self.questions.answer()

    def add_at(self, buffer: Array, index: Any, values: Array) -> None:
        self.xp.add.at(buffer, index, values)

    def place(self, array: Array) -> str:
        return f"CUDA device {array.device.id}"

    @contextmanager
    def aside(self) -> Iterator[None]:
        outside, side = self.xp.cuda.get_current_stream(), self._side()
        if outside.ptr == side.ptr:  # there are only two
            yield
            return
        side.wait_event(outside.record())
        with side:
            yield

    def join(self) -> None:
        current, side = self.xp.cuda.get_current_stream(), self._side()
        if current.ptr != side.ptr:
            current.wait_event(side.record())

    def _side(self) -> Any:
        """The second stream of this thread on the current device."""
        key = threading.get_ident(), self.xp.cuda.Device().id
        if key not in self._sides:
            self._sides[key] = self.xp.cuda.Stream(non_blocking=True)
        return self._sides[key]


# --- which backends there are, and which one is current -----------------------------------------------------

_loaders: dict[str, Callable[[], Backend]] = {"numpy": NumPyBackend, "cupy": CuPyBackend}
_loaded: dict[str, Backend] = {}
by_type: dict[type, Backend] = {}
"""The backend of each array type. Operations look their arrays up here."""


class _Local(threading.local):
    """What `use_backend` and `default_dtype` have changed in this thread."""

    backend: Backend | None = None
    dtype: Any = None


_local = _Local()
_default_backend: Backend | None = None
_default_dtype = np.dtype("float32")


def register_backend(name: str, loader: Callable[[], Backend]) -> None:
    """Offer a further backend under `name`; `loader` is called when it is first asked for."""
    _loaders[name] = loader


def load_backend(name: str | Backend) -> Backend:
    """The backend called `name`, loaded at the first request.

    Raises:
        ValueError: no backend has this name.
        BackendUnavailableError: its library or its device is missing.
    """
    if isinstance(name, Backend):
        return name
    if name not in _loaders:
        raise ValueError(f"unknown backend {name!r}; there are: {', '.join(map(repr, _loaders))}")
    if name not in _loaded:
        backend = _loaders[name]()
        by_type.update(dict.fromkeys(backend.array_types, backend))
        _loaded[name] = backend
    return _loaded[name]


def set_backend(name: str | Backend) -> None:
    """Make new tensors on this backend from now on: `"numpy"` (the default) or `"cupy"`.

    Raises:
        BackendUnavailableError: CuPy or a CUDA device is missing; the message says which, and what to install.
    """
    global _default_backend
    _default_backend = load_backend(name)


def get_backend() -> Backend:
    """The current backend: of `use_backend`, of `set_backend`, of `MINIGRAD_BACKEND`, or numpy, in this order."""
    if _local.backend is not None:
        return _local.backend
    if _default_backend is None:
        try:
            set_backend(os.environ.get("MINIGRAD_BACKEND") or "numpy")
        except ValueError as error:
            raise ValueError(f"the environment variable MINIGRAD_BACKEND: {error}") from error
        assert _default_backend is not None
    return _default_backend


def use_backend(name: str | Backend) -> Within:
    """Make new tensors on this backend inside a `with` block, in this thread.

    >>> with mg.use_backend("numpy") as backend:
    ...     print(backend.name, mg.zeros(2).backend.name)
    numpy numpy
    """
    return Within(_local, "backend", load_backend(name))


def backend_of(array: Array) -> Backend:
    """The backend that `array` lives on."""
    try:
        return by_type[type(array)]
    except KeyError:
        for kind, backend in list(by_type.items()):
            if isinstance(array, kind):
                return backend
    raise TypeError(f"{type(array).__name__} is no array of a loaded backend ({', '.join(_loaded)})")


# --- dtypes -------------------------------------------------------------------------------------------------


def as_dtype(dtype: Any) -> Any:
    """The dtype object that a name such as `"float64"` (or a dtype) stands for; None is the default dtype."""
    return get_default_dtype() if dtype is None else np.dtype(dtype)


def get_default_dtype() -> Any:
    """The dtype of new floating-point tensors: float32 unless changed."""
    return _local.dtype or _default_dtype


def set_default_dtype(dtype: Any) -> None:
    """Make new floating-point tensors and parameters `"float32"` (the default) or `"float64"`."""
    global _default_dtype
    _default_dtype = _floating(dtype)


def default_dtype(dtype: Any) -> Within:
    """`set_default_dtype` for a `with` block, in this thread.

    >>> with mg.default_dtype("float64"):
    ...     print(mg.zeros(2).dtype)
    float64
    """
    return Within(_local, "dtype", _floating(dtype))


def _floating(dtype: Any) -> Any:
    found = np.dtype(dtype)
    if found.kind != "f" or found.itemsize not in (4, 8):
        raise ValueError(f"the default dtype is 'float32' or 'float64', not {dtype!r}")
    return found


def is_floating(dtype: Any) -> bool:
    """Whether values of this dtype can have a gradient."""
    return bool(np.dtype(dtype).kind == "f")


# --- random numbers -----------------------------------------------------------------------------------------

_generator: np.random.Generator | None = None


def seed(number: int) -> None:
    """Seed every random number that minigrad draws: initial weights, dropout masks, samples.

    Numbers are drawn on the host and then moved, so that one seed gives the same run on every backend.
    """
    global _generator
    _generator = np.random.default_rng(number)


def generator() -> np.random.Generator:
    """The generator behind every random draw; without `seed` it starts anywhere."""
    global _generator
    if _generator is None:
        _generator = np.random.default_rng()
    return _generator


def random_state() -> dict[str, Any]:
    """The generator's state, made of dicts, strings and integers: ready for JSON."""
    return dict(generator().bit_generator.state)


def set_random_state(state: dict[str, Any]) -> None:
    """Put the generator into a state that `random_state` returned."""
    generator().bit_generator.state = state


# --- nests of host data -------------------------------------------------------------------------------------


def host_array(data: Any, dtype: Any = None) -> Any:
    """Host data (numbers, nested sequences, anything with `__array__`) as a NumPy array, copied.

    Python floats take `dtype`, by default the default dtype; arrays keep theirs.
    """
    try:
        array = np.array(data)
    except ValueError as error:
        raise ValueError(f"cannot make an array of {_describe(data)}: {error}") from error
    if array.dtype.kind not in "biufc":
        raise ValueError(f"cannot make an array of {_describe(data)}: its rows differ in length or are no numbers")
    if is_floating(array.dtype) and not _holds_arrays(data):
        array = array.astype(as_dtype(dtype))
    return array


def _holds_arrays(data: Any) -> bool:
    while isinstance(data, Sequence) and len(data) and not isinstance(data, str):
        data = data[0]
    return hasattr(data, "__array__")


def _describe(data: Any) -> str:
    text = repr(data)
    return text if len(text) < 60 else text[:57] + "..."


load_backend("numpy")
