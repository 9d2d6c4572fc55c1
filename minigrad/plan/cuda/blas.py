"""Matrix products by cuBLAS, called directly: CuPy's own calls refuse to be captured in a graph."""

from __future__ import annotations

import ctypes
import os
import weakref
from typing import Any

WORKSPACE_BYTES = 32 << 20
"""Memory that cuBLAS may use for a product; NVIDIA's advice for compute capability 9.0. A captured graph keeps it."""

DEFAULT_MATH, TF32_MATH, SUMS_IN_FLOAT32 = 0, 3, 16
"""The last is added to one of the others: no sum of 16-bit numbers is kept in 16 bits, not even for a while."""

_REAL = {"float32": ctypes.c_float, "float64": ctypes.c_double}
_PLAIN = {"float32": "cublasSgemm_v2", "float64": "cublasDgemm_v2"}
_TYPES = {"float32": 0, "float16": 2, "bfloat16": 14}
"""What cuBLAS calls the types of numbers."""

_COMPUTE_FLOAT32, _ANY_ALGORITHM = 68, -1

_STATUS = {
    1: "not initialized",
    3: "out of memory",
    7: "invalid value",
    8: "not supported by this device",
    11: "an access to memory failed",
    13: "the product failed on the device",
    14: "internal error",
    15: "not supported",
}


class BlasError(RuntimeError):
    """cuBLAS refused a call; says which and why."""


def load_library(xp: Any) -> Any:
    """The cuBLAS that CuPy uses."""
    xp.cuda.get_cublas_handle()  # CuPy finds and loads it
    major = xp.cuda.runtime.runtimeGetVersion() // 1000
    names = (f"cublas64_{major}.dll",) if os.name == "nt" else (f"libcublas.so.{major}", "libcublas.so")
    reasons = []
    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError as error:
            reasons.append(str(error))
    raise BlasError(f"cuBLAS of CUDA {major} cannot be loaded: {'; '.join(reasons)}")


class Blas:
    """A cuBLAS handle with memory of its own, for the products of one stream at a time.

    Args:
        xp: CuPy.
        library: cuBLAS.
        tf32: whether products of float32 numbers may round their factors to 10 bits of mantissa.
    """

    def __init__(self, xp: Any, library: Any, tf32: bool) -> None:
        self._library = library
        handle = ctypes.c_void_p()
        self._check("cublasCreate_v2", library.cublasCreate_v2(ctypes.byref(handle)))
        self._handle = handle
        weakref.finalize(self, library.cublasDestroy_v2, handle).atexit = False  # the device may be gone before
        self._workspace = xp.empty(WORKSPACE_BYTES, dtype="uint8")
        mode = ctypes.c_int((TF32_MATH if tf32 else DEFAULT_MATH) | SUMS_IN_FLOAT32)
        self._check("cublasSetMathMode", library.cublasSetMathMode(handle, mode))
        pointer, whole = ctypes.c_void_p, ctypes.c_int
        before = [pointer, whole, whole, whole, whole, whole, pointer]
        for name in _PLAIN.values():
            getattr(library, name).argtypes = [*before, pointer, whole, pointer, whole, pointer, pointer, whole]
        matrix = [pointer, whole, whole]
        library.cublasGemmEx.argtypes = [*before, *matrix, *matrix, pointer, *matrix, whole, whole]
        self._numbers = {(name, n): ctypes.pointer(real(n)) for name, real in _REAL.items() for n in (0, 1)}

    def use(self, stream: Any) -> None:
        """Put further products on a stream."""
        pointer = ctypes.c_void_p(stream.ptr)
        self._check("cublasSetStream_v2", self._library.cublasSetStream_v2(self._handle, pointer))
        memory = ctypes.c_void_p(self._workspace.data.ptr), ctypes.c_size_t(WORKSPACE_BYTES)
        self._check("cublasSetWorkspace_v2", self._library.cublasSetWorkspace_v2(self._handle, *memory))

    def product(self, of: str, a: Any, b: Any, out: Any, sizes: tuple[int, int, int], adds: bool) -> None:
        """out (m, n) = a (m, k) b (k, n), all by rows; added to what is there if it `adds`.

        Args:
            of: the dtype of the factors: "float32", "float64", or "float16" and "bfloat16", whose products are summed
                in float32.
            a, b: (address, elements from one row to the next, whether it is stored transposed).
            out: (address, elements from one row to the next, dtype): that of the factors, or "float32".
            sizes: m, n, k.
        """
        m, n, k = sizes
        (a_at, a_row, a_swapped), (b_at, b_row, b_swapped), (out_at, out_row, out_of) = a, b, out
        summed = of if of in _PLAIN else "float32"
        one, before = self._numbers[summed, 1], self._numbers[summed, int(adds)]
        # cuBLAS counts by columns, and sees each matrix transposed: out.T = b.T a.T.
        shape = self._handle, int(b_swapped), int(a_swapped), n, m, k, one
        if of in _PLAIN:
            name = _PLAIN[of]
            status = getattr(self._library, name)(*shape, b_at, b_row, a_at, a_row, before, out_at, out_row)
        else:
            name, kind, out_kind = "cublasGemmEx", _TYPES[of], _TYPES[out_of]
            factors, result = (b_at, kind, b_row, a_at, kind, a_row), (out_at, out_kind, out_row)
            status = self._library.cublasGemmEx(*shape, *factors, before, *result, _COMPUTE_FLOAT32, _ANY_ALGORITHM)
        self._check(name, status)

    def _check(self, call: str, status: int) -> None:
        if status:
            raise BlasError(f"{call}: {_STATUS.get(status, 'failed')} (status {status})")
