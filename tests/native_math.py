"""The functions of vector_math.h, compiled into a library that applies them and measures their errors."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import minigrad
from minigrad.plan.native.toolchain import NativeUnavailable, load

DRIVER = Path(__file__).parent.parent / "benchmarks" / "vector_math_driver.c"
HEADER = Path(minigrad.__file__).parent / "plan" / "native" / "c" / "vector_math.h"
DTYPES = {"float": np.float32, "double": np.float64}

LIMITS = {
    "exp": 1.1,
    "expm1": 2.2,
    "tanh": 3.0,
    "sigmoid": 3.0,
    "log": 0.9,
    "log1p": 0.9,
    "softplus": 1.8,
    "sin": 2.5,
    "cos": 2.5,
    "sqrt": 0.5,
    "abs": 0.0,
    "sign": 0.0,
}
"""The largest error of each function, in ulp of the exact result, with and without fused multiply-add."""


class VectorMath:
    """The driver for one type and one set of flags; `change` alters the header's text first."""

    def __init__(self, real: str, flags: Sequence[str] = (), change: tuple[str, str] | None = None) -> None:
        header = HEADER.read_text()
        if change is not None:
            assert change[0] in header
            header = header.replace(*change)
        source = DRIVER.read_text().replace('#include "vector_math.h"', header)
        library = load(source, ["-Wno-psabi", f"-DREAL={real}", *flags])
        assert not isinstance(library, NativeUnavailable), library.reason
        self.real, self.dtype, self.library = real, DTYPES[real], library
        self._scalar = ctypes.c_float if real == "float" else ctypes.c_double
        library.worst.restype = ctypes.c_double
        self.lanes: int = library.lanes()

    def _find(self, function: str) -> int:
        found: int = self.library.find(function.encode())
        assert found >= 0, function
        return found

    def apply(self, function: str, x: Any) -> Any:
        """f(x) of a contiguous array."""
        x = np.ascontiguousarray(x, self.dtype)
        y = np.empty_like(x)
        self.library.apply(self._find(function), _pointer(x), _pointer(y), ctypes.c_long(x.size))
        return y

    def worst(self, function: str, x: Any) -> tuple[float, float]:
        """The largest error over an array, in ulp, and where."""
        x, where = np.ascontiguousarray(x, self.dtype), self._scalar()
        size = ctypes.c_long(x.size)
        return self.library.worst(self._find(function), _pointer(x), size, ctypes.byref(where)), where.value

    def worst_of_all(self, function: str, first: int, stride: int) -> tuple[float, float]:
        """The largest error over the floats whose bits are first, first + stride, ..., and where."""
        worst, where = self.library.worst_of_all, self._scalar()
        worst.restype = ctypes.c_double
        arguments = ctypes.c_uint64(first), ctypes.c_uint64(stride)
        return worst(self._find(function), *arguments, ctypes.byref(where)), where.value


def boundaries(dtype: Any) -> Any:
    """Of each sign and exponent the first, the last and some between: zeros, subnormals, infinities and NaN, too."""
    bits, mantissa = (32, 23) if dtype == np.float32 else (64, 52)
    size = 1 << mantissa
    chosen = [
        0,
        1,
        2,
        3,
        size // 3,
        size // 2 - 1,
        size // 2,
        size // 2 + 1,
        int(size * 0.41421356),
        size - 2,
        size - 1,
    ]
    heads = np.arange(1 << (bits - mantissa), dtype=np.uint64) << np.uint64(mantissa)
    patterns = heads[:, None] | np.array(chosen, dtype=np.uint64)
    return patterns.astype(np.uint32 if bits == 32 else np.uint64).ravel().view(dtype)


def spread(dtype: Any, count: int = 20_000) -> Any:
    """Numbers of all sizes, most where the functions bend."""
    rng = np.random.default_rng(0)
    scales = (1e-6, 1e-2, 0.4, 1, 4, 20, 90, 750, 1e4, 1e5, 1e8)
    return np.concatenate([rng.uniform(-s, s, count) for s in scales]).astype(dtype)


def _pointer(array: Any) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
