"""What stands for cuBLAS on the stand-in for CUDA: products of memory by address, as cuBLAS's manual has them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from fake_cuda import Cuda


class Work(NamedTuple):
    """A kernel or a product, and the memory that it reads and writes."""

    name: str
    do: Callable[[], None]
    reads: list[Any]
    writes: list[Any]


class Blas:
    """What stands for the library cuBLAS: products of memory by address, written down as its manual has them."""

    def __init__(self, cuda: Cuda) -> None:
        self.cuda, self.mode = cuda, None
        self.handles: dict[int, tuple[int, int]] = {}
        """Of each handle its stream and its workspace."""
        self.cublasSgemm_v2 = _Gemm(self, np.float32)
        self.cublasDgemm_v2 = _Gemm(self, np.float64)
        self.cublasGemmEx = _GemmEx(self, np.float32)

    def cublasCreate_v2(self, handle: Any) -> int:  # noqa: N802  # cuBLAS's name
        handle._obj.value = number = max(self.handles, default=76) + 1
        self.handles[number] = 0, 0
        return 0

    def cublasDestroy_v2(self, handle: Any) -> int:  # noqa: N802  # cuBLAS's name
        del self.handles[handle.value]
        return 0

    def cublasSetMathMode(self, handle: Any, mode: Any) -> int:  # noqa: N802  # cuBLAS's name
        self.mode = mode.value
        return 0

    def cublasSetStream_v2(self, handle: Any, stream: Any) -> int:  # noqa: N802  # cuBLAS's name
        self.handles[handle.value] = stream.value, 0
        return 0

    def cublasSetWorkspace_v2(self, handle: Any, memory: Any, size: Any) -> int:  # noqa: N802  # cuBLAS's name
        self.handles[handle.value] = self.handles[handle.value][0], memory.value
        return 0


class _Gemm:
    argtypes: Any = None

    def __init__(self, blas: Blas, real: Any) -> None:
        self.blas, self.real = blas, real

    def __call__(self, handle: Any, ta: int, tb: int, m: int, n: int, k: int, one: Any, a: int, lda: int, b: int,
                 ldb: int, beta: Any, c: int, ldc: int) -> int:  # fmt: skip
        kind = 0 if self.real is np.float32 else 1
        return self.multiply(handle, ta, tb, m, n, k, one, a, kind, lda, b, kind, ldb, beta, c, kind, ldc)

    def multiply(self, handle: Any, ta: int, tb: int, m: int, n: int, k: int, one: Any, a: int, a_kind: int, lda: int,
                 b: int, b_kind: int, ldb: int, beta: Any, c: int, c_kind: int, ldc: int) -> int:  # fmt: skip
        blas, scale = self.blas, beta.contents.value
        stream, workspace = blas.handles[handle.value]
        assert workspace, "a product without a workspace of its own"
        assert one.contents.value == 1
        if min(m, n, k) < 1 or lda < (k if ta else m) or ldb < (n if tb else k) or ldc < m:
            return 7
        first, second = (_columns(a, *((k, m) if ta else (m, k)), lda, a_kind),
                         _columns(b, *((n, k) if tb else (k, n)), ldb, b_kind))  # fmt: skip
        out = _columns(c, m, n, ldc, c_kind)

        def work() -> None:
            x, y = wide(first, a_kind), wide(second, b_kind)
            with np.errstate(all="ignore"):  # a device has nobody to tell
                product = (x.T if ta else x) @ (y.T if tb else y)
                out[...] = narrow(product + (scale * wide(out, c_kind) if scale else 0), c_kind)

        blas.cuda.counts["products"] += 1
        reads, writes = ([blas.cuda.races.at(address) for address in group] for group in ((a, b), (c,)))
        blas.cuda.streams[stream].do(Work("a product", work, reads, [*writes, blas.cuda.races.at(workspace)]))
        return 0


class _GemmEx(_Gemm):
    def __call__(self, handle: Any, *arguments: Any) -> int:
        *given, compute, algorithm = arguments
        *_, a_kind, _, _, b_kind, _, _, _, c_kind, _ = given
        assert (compute, algorithm) == (68, -1), "sums are to be of float32"
        if a_kind != b_kind or a_kind not in (2, 14) or c_kind not in (a_kind, 0):
            return 15  # as cuBLAS's manual has it of this compute type
        return self.multiply(handle, *given)


DTYPES: dict[int, Any] = {0: np.float32, 1: np.float64, 2: np.float16, 14: np.uint16}
"""By cuBLAS's number of a type; bfloat16 as its bits."""


def wide(array: Any, kind: int) -> Any:
    """Numbers of a type as those that are computed with."""
    if kind == 14:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32) if kind == 2 else array


def narrow(array: Any, kind: int) -> Any:
    """The nearest numbers of a type, of two equally near the even one."""
    if kind != 14:
        return array.astype(DTYPES[kind])
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(array), 0x7FFF, rounded).astype(np.uint16)


def _columns(address: int, rows: int, columns: int, leading: int, kind: int) -> Any:
    """A matrix by columns at an address."""
    dtype = np.dtype(DTYPES[kind])
    count = leading * (columns - 1) + rows
    flat = np.frombuffer((ctypes.c_char * (count * dtype.itemsize)).from_address(address), dtype)
    return np.lib.stride_tricks.as_strided(flat, (rows, columns), (dtype.itemsize, dtype.itemsize * leading))
