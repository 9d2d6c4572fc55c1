"""A stand-in for CuPy on a GPU with CUDA: the strict stand-in's arrays, and kernels that a C++ compiler makes.

Streams, graphs and cuBLAS are pretended too: a graph records what is launched on its stream and runs it when it is
launched itself. While a stream is captured any other work is an error, as memory must not be allocated then. So is work
that reads what another stream writes, if no event has put the two in order (`cuda_races.py`).
"""

from __future__ import annotations

import ctypes
import hashlib
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, NamedTuple

import numpy as np
from cuda_races import Races

from minigrad.backend import CuPyBackend
from minigrad.testing.strict import StrictArray, StrictBackend, StrictNamespace

SHIM = Path(__file__).with_name("cuda_shim.h")
ABOVE = 1 << 40
"""Fake stream pointers begin here."""


class OutOfMemoryError(MemoryError):
    """What CuPy raises."""


class Work(NamedTuple):
    """A kernel or a product, and the memory that it reads and writes."""

    name: str
    do: Callable[[], None]
    reads: list[Any]
    writes: list[Any]


class Stream:
    """A stream, which does everything at once unless it is captured."""

    all: ClassVar[dict[int, Stream]] = {}

    def __init__(self, cuda: Cuda, non_blocking: bool = True) -> None:
        self.cuda, self.non_blocking = cuda, non_blocking
        self.ptr = ABOVE + len(Stream.all)
        Stream.all[self.ptr] = self
        self.recorded: list[Work] | None = None
        self.waited_for: list[int] = []

    def __enter__(self) -> Stream:
        self.cuda.current.append(self)
        return self

    def __exit__(self, *error: Any) -> None:
        self.cuda.current.pop()

    def begin_capture(self, mode: Any = None) -> None:
        assert self is not self.cuda.null, "the default stream cannot be captured"
        assert self.recorded is None
        self.recorded = []
        self.cuda.counts["captures"] += 1

    def end_capture(self) -> Graph:
        work, self.recorded = self.recorded, None
        assert work is not None
        return Graph(self.cuda, work)

    def do(self, work: Work) -> None:
        """Do it, or record it."""
        if self.recorded is not None:
            self.recorded.append(work)
        else:
            self.cuda.refuse_in_capture("a launch on another stream")
            self.run(work)

    def run(self, work: Work) -> None:
        self.cuda.races.access(self.ptr, work.reads, work.writes, work.name)
        work.do()

    def record(self) -> SimpleNamespace:
        return SimpleNamespace(stream=self.ptr, clock=self.cuda.races.event(self.ptr))

    def wait_event(self, event: Any) -> None:
        self.waited_for.append(event.stream)
        self.cuda.races.wait(self.ptr, event.clock)

    def synchronize(self) -> None:
        self.cuda.counts["synchronized"] += 1
        self.cuda.races.wait_on_host(self.ptr)


class Graph:
    def __init__(self, cuda: Cuda, work: list[Work]) -> None:
        self.cuda, self.work = cuda, work

    def launch(self, stream: Any = None) -> None:
        self.cuda.counts["graphs"] += 1
        stream = stream or self.cuda.current[-1]
        self.cuda.launched.append((stream.ptr, self.cuda.races.event(stream.ptr)))
        for work in self.work:
            stream.run(work)


class Kernel:
    def __init__(self, cuda: Cuda, name: str, function: Any, parameters: list[str], barriers: bool) -> None:
        self.cuda, self.name, self.function, self.barriers = cuda, name, function, barriers
        self.parameters = parameters

    def __call__(self, grid: tuple[int], block: tuple[int], arguments: tuple[Any, ...]) -> None:
        assert 0 < grid[0] < 2**31
        assert 0 < block[0] <= 1024
        assert not self.barriers or block[0] % 32 == 0
        assert len(arguments) == len(self.parameters)
        for argument, parameter in zip(arguments, self.parameters, strict=True):
            assert isinstance(argument, StrictArray if "*" in parameter else int), (argument, parameter)
            assert "*" not in parameter or argument.flags.c_contiguous
        values = [a._host.__array_interface__["data"][0] if isinstance(a, StrictArray) else a for a in arguments]
        words = (ctypes.c_longlong * len(values))(*values)
        self.cuda.counts["kernels"] += 1

        def work(held: Any = arguments) -> None:
            self.function(grid[0], block[0], int(self.barriers), words)

        stream, races = self.cuda.current[-1], self.cuda.races
        used = [(races.of(a, stream.ptr), p) for a, p in zip(arguments, self.parameters, strict=True) if "*" in p]
        reads, writes = ([memory for memory, p in used if p.startswith("const ") is wanted] for wanted in (True, False))
        stream.do(Work(self.name, work, reads, writes))


class RawModule:
    """A module made by the C++ compiler, with a function for each kernel that takes its arguments as an array."""

    cuda: Cuda
    cache: ClassVar[dict[str, ctypes.CDLL]] = {}
    folder = tempfile.TemporaryDirectory(prefix="fake-cuda-")

    def __init__(self, code: str, options: tuple[str, ...] = ()) -> None:
        self.code = code
        self.kernels = {
            name: [part.strip() for part in given.split(",")]
            for name, given in re.findall(r'extern "C" __global__ void (\w+)\(([^)]*)\)', code)
        }
        self.library = self.cache.get(code) or self.cache.setdefault(code, self._made())

    def _made(self) -> ctypes.CDLL:
        lines = [f'#include "{SHIM}"', self.code]
        for name, parameters in self.kernels.items():
            words = ", ".join(f"({p.rsplit(' ', 1)[0].rstrip('*')}{'*' if '*' in p else ''})words[{n}]"
                              for n, p in enumerate(parameters))  # fmt: skip
            words = words.replace("const REAL*", "const REAL *")
            lines.append(
                f"static long long *words_of_{name};\n"
                f"static void call_{name}() {{ long long *words = words_of_{name}; {name}({words}); }}\n"
                f'extern "C" void run_{name}(int blocks, int threads, int barriers, long long *words) '
                f"{{ words_of_{name} = words; run_grid(blocks, threads, barriers, call_{name}); }}"
            )
        text = "\n".join(lines)
        stem = Path(self.folder.name) / hashlib.sha256(text.encode()).hexdigest()[:16]
        stem.with_suffix(".cpp").write_text(text, encoding="utf-8")
        command = ["g++", "-std=c++14", "-O0", "-w", "-shared", "-fPIC", "-o", f"{stem}.so", f"{stem}.cpp"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert not done.returncode, done.stderr
        return ctypes.CDLL(f"{stem}.so")

    def get_function(self, name: str) -> Kernel:
        part = self.code[self.code.index(f"void {name}(") :]
        barriers = "q = first + blockIdx.x;" in part.split('extern "C"')[0]
        function = getattr(self.library, f"run_{name}")
        function.restype = None
        return Kernel(self.cuda, name, function, self.kernels[name], barriers)


class Blas:
    """What stands for the library cuBLAS: products of memory by address, written down as its manual has them."""

    def __init__(self, cuda: Cuda) -> None:
        self.cuda, self.stream, self.workspace, self.mode = cuda, 0, 0, None
        self.cublasSgemm_v2 = _Gemm(self, np.float32)
        self.cublasDgemm_v2 = _Gemm(self, np.float64)
        self.cublasGemmEx = _GemmEx(self, np.float32)

    def cublasCreate_v2(self, handle: Any) -> int:  # noqa: N802
        handle._obj.value = 77
        return 0

    def cublasSetMathMode(self, handle: Any, mode: Any) -> int:  # noqa: N802
        self.mode = mode.value
        return 0

    def cublasSetStream_v2(self, handle: Any, stream: Any) -> int:  # noqa: N802
        self.stream, self.workspace = stream.value, 0
        return 0

    def cublasSetWorkspace_v2(self, handle: Any, memory: Any, size: Any) -> int:  # noqa: N802
        self.workspace = memory.value
        return 0


class _Gemm:
    argtypes: Any = None

    def __init__(self, blas: Blas, real: Any) -> None:
        self.blas, self.real = blas, real

    def __call__(self, handle: Any, ta: int, tb: int, m: int, n: int, k: int, one: Any, a: int, lda: int, b: int,
                 ldb: int, beta: Any, c: int, ldc: int) -> int:  # fmt: skip
        kind = 0 if self.real is np.float32 else 1
        return self.multiply(ta, tb, m, n, k, one, a, kind, lda, b, kind, ldb, beta, c, kind, ldc)

    def multiply(self, ta: int, tb: int, m: int, n: int, k: int, one: Any, a: int, a_kind: int, lda: int, b: int,
                 b_kind: int, ldb: int, beta: Any, c: int, c_kind: int, ldc: int) -> int:  # fmt: skip
        blas, scale = self.blas, beta.contents.value
        assert blas.workspace, "a product without a workspace of its own"
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
        Stream.all[blas.stream].do(Work("a product", work, reads, [*writes, blas.cuda.races.at(blas.workspace)]))
        return 0


class _GemmEx(_Gemm):
    def __call__(self, handle: Any, *arguments: Any) -> int:
        *given, compute, algorithm = arguments
        *_, a_kind, _, _, b_kind, _, _, _, c_kind, _ = given
        assert (compute, algorithm) == (68, -1), "sums are to be of float32"
        if a_kind != b_kind or a_kind not in (2, 14) or c_kind not in (a_kind, 0):
            return 15  # as cuBLAS's manual has it of this compute type
        return self.multiply(*given)


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


class Cuda:
    """What stands for the module `cupy.cuda`."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.races = Races()
        self.null = Stream(self)
        self.current = [self.null]
        self.launched: list[tuple[int, Any]] = []
        """For each launch of a graph its stream, and what it comes after."""
        self.device = 0
        self.elsewhere: dict[int, int] = {}
        """Devices of arrays that are not on device 0, by the identity of their host array."""
        self.runtime = SimpleNamespace(runtimeGetVersion=lambda: 12090)
        self.memory = SimpleNamespace(OutOfMemoryError=OutOfMemoryError)
        self.blas = Blas(self)

    def Stream(self, non_blocking: bool = False) -> Stream:  # noqa: N802
        return Stream(self, non_blocking)

    def Device(self) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(id=self.device, compute_capability="90")

    def get_current_stream(self) -> Stream:
        return self.current[-1]

    def get_cublas_handle(self) -> int:
        return 1

    def refuse_in_capture(self, what: str) -> None:
        if any(stream.recorded is not None for stream in self.current):
            raise RuntimeError(f"{what} while a stream is captured")


class Namespace(StrictNamespace):
    """What stands for the module `cupy`."""

    def __init__(self) -> None:
        super().__init__()
        self.cuda = Cuda()
        self.RawModule = type("RawModule", (RawModule,), {"cuda": self.cuda})
        for name, function in list(vars(self).items()):
            if type(function).__name__ == "StrictFunction":
                setattr(self, name, _Refusing(self.cuda, function))

        empty = self.empty

        def unwritten(shape: Any, dtype: Any = float) -> Any:
            array = empty(shape, dtype=dtype)
            array.fill(np.nan if array.dtype.kind == "f" else 0x7FFF if array.dtype == "uint16" else 77)  # NaN in both
            return array

        self.empty = unwritten  # so that nothing depends on what nobody has written

    def asarray(self, data: Any, dtype: Any = None) -> Any:
        if not isinstance(data, StrictArray):
            self.cuda.counts["to device"] += 1
            self.cuda.refuse_in_capture("a copy to the device")
        made = super().asarray(data, dtype)
        self.cuda.races.called(self.cuda.current[-1].ptr, "asarray", (data,), {}, made)
        return made


class _Refusing:
    """A function that must not be called during a capture."""

    def __init__(self, cuda: Cuda, function: Any) -> None:
        self._cuda, self._function = cuda, function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._cuda.refuse_in_capture(self._function.__name__)
        self._cuda.counts["array functions"] += 1
        made = self._function(*args, **kwargs)
        self._cuda.races.called(self._cuda.current[-1].ptr, self._function.__name__, args, kwargs, made)
        return made

    def at(self, *args: Any) -> None:
        self._function.at(*args)
        self._cuda.races.called(self._cuda.current[-1].ptr, "at", args, {}, None)


class FakeCudaBackend(StrictBackend):
    """The backend: registered in place of the strict one, whose arrays it uses."""

    name = "fake-cuda"
    compiles = "cuda"
    tf32 = False
    aside, join, _side, place = CuPyBackend.aside, CuPyBackend.join, CuPyBackend._side, CuPyBackend.place

    def __init__(self) -> None:
        self.xp = Namespace()
        self._sides: dict[Any, Any] = {}


def install(monkeypatch: Any) -> FakeCudaBackend:
    """A fresh device as the current backend, until the test is over."""
    import minigrad as mg
    from minigrad import backend as backends
    from minigrad.plan.cuda import blas, device

    backend = FakeCudaBackend()
    counts = backend.xp.cuda.counts

    def counted(name: str) -> Any:
        method = getattr(StrictArray, name)

        def to_host(self: Any, *args: Any) -> Any:
            counts["to host"] += 1
            backend.xp.cuda.refuse_in_capture("a copy to the host")
            return method(self, *args)

        return to_host

    backend.xp.cuda.races.watch(monkeypatch, backend.xp.cuda)
    for name in ("get", "item", "tolist", "__bool__", "__int__", "__float__", "__index__"):
        monkeypatch.setattr(StrictArray, name, counted(name))
    pointer = property(lambda self: SimpleNamespace(ptr=self._host.__array_interface__["data"][0]))
    monkeypatch.setattr(StrictArray, "data", pointer, raising=False)
    device_of = property(lambda self: SimpleNamespace(id=backend.xp.cuda.elsewhere.get(id(self._host), 0)))
    monkeypatch.setattr(StrictArray, "device", device_of, raising=False)
    monkeypatch.setitem(backends.by_type, StrictArray, backend)
    monkeypatch.setattr(device, "load_library", lambda xp: xp.cuda.blas)
    monkeypatch.setattr(blas, "WORKSPACE_BYTES", 1 << 12)
    monkeypatch.setattr(device, "_devices", {})
    mg.set_backend(backend)
    return backend
