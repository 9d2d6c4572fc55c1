"""Products of large matrices outside of layers over time, as of `mg.Linear`, on the threads that these use.

NumPy's own are as fast, but their threads go on spinning for some time after each, on the processors that the pool's
threads want next: a layer over time then takes up to twice as long. How matrices lie in memory, and how many threads
there are, does not change a bit of their product.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import numpy as np

from minigrad.plan.native.memory import address
from minigrad.plan.native.pool import get_num_threads, pool_run_address, pool_source
from minigrad.plan.native.source import kernels_source
from minigrad.plan.native.toolchain import NativeUnavailable, is_off, load, load_ahead, unavailable

LARGE = 1 << 18
"""Multiply-adds beyond which NumPy spreads a product over threads."""

NARROW = 16
"""With fewer rows, columns, or products to add, NumPy's way is another, and much faster."""

FOR_TWO = 1_000_000
"""Multiply-adds from which on a second thread is worth its price."""


class Factors(ctypes.Structure):
    """`struct factors` of `c/multiply.c`."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("a", "b")),
        *((name, ctypes.c_long) for name in ("a_row", "a_column", "b_row", "b_column", "M", "K", "N")),
        ("out", ctypes.c_void_p),
    ]


def matmul(a: Any, b: Any) -> Any:
    """The products of the matrices in two arrays, or None where NumPy is to compute them."""
    if a.ndim < 2 or b.ndim < 2:
        return None
    m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
    if m * k * n <= LARGE or min(m, k, n) < NARROW or is_off():
        return None
    if a.ndim == b.ndim == 2:
        return multiply(a, b)
    try:
        shape = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        return None
    a, b = (np.broadcast_to(x, (*shape, *x.shape[-2:])) for x in (a, b))
    out = np.empty((*shape, m, n), a.dtype)
    for place in np.ndindex(shape):
        found = multiply(a[place], b[place])
        if found is None:
            return None
        out[place] = found
    return out


def multiply(a: Any, b: Any) -> Any:
    """The product of two matrices, or None."""
    (m, k), (inner, n), real = a.shape, b.shape, a.dtype
    if inner != k or not m * k * n or real != b.dtype or real not in _REALS:
        return None
    call, size = _function(real.char), real.itemsize
    if call is None or any(stride % size for stride in a.strides + b.strides):
        return None
    by_sums = _is_dense(a, 0, m) and _is_dense(b, 1, n) and not _is_dense(a, 1, k)
    if not (by_sums or _is_dense(a, 1, k)):
        a = np.ascontiguousarray(a)
    out = np.empty((m, n), real)
    places = [stride // size for stride in a.strides + b.strides]
    factors = Factors(_begin(a), _begin(b), *places, m, k, n, address(out))
    call(factors, by_sums, get_num_threads() if m * k * n > FOR_TWO else 1)
    return out


_REALS = np.dtype("float32"), np.dtype("float64")


def _is_dense(matrix: Any, axis: int, size: int) -> bool:
    """Whether elements along an axis have no gaps between them."""
    return bool(matrix.strides[axis] == matrix.itemsize or size == 1)


def _begin(matrix: Any) -> int:
    """Where a matrix begins, which is found sooner for one that is contiguous."""
    return address(matrix.T if matrix.flags.f_contiguous else matrix)


@cache
def _function(char: str) -> Any:
    """The compiled product of a type of numbers, or None if there is none here."""
    if unavailable() is not None:
        return None
    source = kernels_source(np.dtype(char))
    load_ahead(pool_source())
    library, pool = load(source), pool_run_address()
    if isinstance(library, NativeUnavailable) or isinstance(pool, NativeUnavailable):
        return None
    if not hasattr(library, "multiply"):
        return None
    library.multiply.argtypes = [ctypes.POINTER(Factors), ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
    library.multiply.restype = None
    return lambda factors, by_sums, threads: library.multiply(factors, by_sums, pool, threads)
