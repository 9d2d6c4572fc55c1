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
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
from cuda_races import Races
from fake_cuda_blas import Blas, Work

from minigrad.backend import CuPyBackend
from minigrad.questions import Questions
from minigrad.testing.strict import StrictArray, StrictBackend, StrictNamespace

SHIM = Path(__file__).with_name("cuda_shim.h")
ABOVE = 1 << 40
"""Fake stream pointers begin here."""


class OutOfMemoryError(MemoryError):
    """What CuPy raises."""


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
        with self.cuda.races.lock:  # one at a time, as one stream's work is done
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


class Cuda:
    """What stands for the module `cupy.cuda`."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.races = Races()
        self.streams = Stream.all
        self.null = Stream(self)
        self._local = threading.local()
        self.copied: list[str] = []
        """For each copy to the host the module of minigrad that asked for it."""
        self.launched: list[tuple[int, Any]] = []
        """For each launch of a graph its stream, and what it comes after."""
        self.device = 0
        self.elsewhere: dict[int, int] = {}
        """Devices of arrays that are not on device 0, by the identity of their host array."""
        self.runtime = SimpleNamespace(runtimeGetVersion=lambda: 12090)
        self.memory = SimpleNamespace(OutOfMemoryError=OutOfMemoryError)
        self.blas = Blas(self)

    @property
    def current(self) -> list[Stream]:
        """This thread's streams; the last one is the current one."""
        found: list[Stream] = self._local.__dict__.setdefault("streams", [self.null])
        return found

    def Stream(self, non_blocking: bool = False) -> Stream:  # noqa: N802  # CuPy's name
        return Stream(self, non_blocking)

    def Device(self) -> SimpleNamespace:  # noqa: N802  # CuPy's name
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
    to_host, require, answer = CuPyBackend.to_host, CuPyBackend.require, CuPyBackend.answer

    def __init__(self) -> None:
        self.xp = Namespace()
        self.questions = Questions(self.xp)
        self._sides: dict[Any, Any] = {}


_THROUGH = {f"minigrad.{name}" for name in ("tensor", "backend", "questions", "testing.strict")}


def _asked_by() -> str:
    """The module from which an array's values are asked for, but those that everybody asks through."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if name.startswith("minigrad.") and name not in _THROUGH:
            return name
        frame = frame.f_back
    return ""


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
            backend.xp.cuda.copied.append(_asked_by())
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
