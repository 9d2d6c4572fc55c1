"""Matrix products by cuBLAS, called directly: CuPy's own calls refuse to be captured in a graph."""

from __future__ import annotations

import ctypes
import os
from typing import Any

WORKSPACE_BYTES = 32 << 20
"""Memory that cuBLAS may use for a product; NVIDIA's advice for compute capability 9.0. A captured graph keeps it."""

NO_TRANSPOSE, TRANSPOSE = 0, 1
DEFAULT_MATH, TF32_MATH = 0, 3

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
        self._workspace = xp.empty(WORKSPACE_BYTES, dtype="uint8")
        mode = ctypes.c_int(TF32_MATH if tf32 else DEFAULT_MATH)
        self._check("cublasSetMathMode", library.cublasSetMathMode(handle, mode))
        self._functions: dict[int, Any] = {}
        pointer, whole = ctypes.c_void_p, ctypes.c_int
        for itemsize, name in ((4, "cublasSgemm_v2"), (8, "cublasDgemm_v2")):
            function = getattr(library, name)
            function.argtypes = [
                *(pointer, whole, whole, whole, whole, whole),
                *(pointer, pointer, whole, pointer, whole, pointer, pointer, whole),
            ]
            self._functions[itemsize] = function
        real = {4: ctypes.c_float, 8: ctypes.c_double}
        self._numbers = {(size, n): ctypes.pointer(real[size](n)) for size in real for n in (0, 1)}

    def use(self, stream: Any) -> None:
        """Put further products on a stream."""
        pointer = ctypes.c_void_p(stream.ptr)
        self._check("cublasSetStream_v2", self._library.cublasSetStream_v2(self._handle, pointer))
        memory = ctypes.c_void_p(self._workspace.data.ptr), ctypes.c_size_t(WORKSPACE_BYTES)
        self._check("cublasSetWorkspace_v2", self._library.cublasSetWorkspace_v2(self._handle, *memory))

    def product(self, itemsize: int, a: Any, b: Any, out: Any, sizes: tuple[int, int, int], adds: bool) -> None:
        """out (m, n) = a (m, k) b (k, n), all by rows; added to what is there if it `adds`.

        Args:
            itemsize: of the numbers, 4 or 8 bytes.
            a, b: (address, elements from one row to the next, whether it is stored transposed).
            out: (address, elements from one row to the next).
            sizes: m, n, k.
        """
        m, n, k = sizes
        (a_at, a_row, a_swapped), (b_at, b_row, b_swapped), (out_at, out_row) = a, b, out
        one, before = self._numbers[itemsize, 1], self._numbers[itemsize, int(adds)]
        # cuBLAS counts by columns, and sees each matrix transposed: out.T = b.T a.T.
        shape = int(b_swapped), int(a_swapped), n, m, k
        status = self._functions[itemsize](self._handle, *shape, one, b_at, b_row, a_at, a_row, before, out_at, out_row)
        self._check("cublasSgemm_v2" if itemsize == 4 else "cublasDgemm_v2", status)

    def _check(self, call: str, status: int) -> None:
        if status:
            raise BlasError(f"{call}: {_STATUS.get(status, 'failed')} (status {status})")
