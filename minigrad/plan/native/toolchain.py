"""The machine's C compiler: found, run with a time limit, and its libraries loaded from the cache.

`load(source)` gives a library, or a `NativeUnavailable` that says why there is none; it does not raise. A compiler that
is missing, fails or does not end is warned of once in a process.

| environment variable | what it does |
| --- | --- |
| `MINIGRAD_NATIVE=0` | no native code |
| `MINIGRAD_CC` | the compiler, and options to it; no other is tried |
| `CC` | the compiler that is tried first; then `cc`, `gcc`, `clang`, and Zig if the package `ziglang` is installed |
| `MINIGRAD_CACHE` | the folder for compiled code, see `cache.py` |
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import hashlib
import importlib.util
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from minigrad.plan.native import programs
from minigrad.plan.native.cache import ZIG, Store, open_store, temporary_store, warn_once

FLAGS = (
    "-O3",
    "-std=gnu11",
    "-fPIC",
    "-shared",
    "-pthread",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-sanitize=undefined",  # Zig's compiler has it on
    "-w",
)
"""What every source is compiled with, beside the flag for the machine's own processor."""

COMPILE_SECONDS = 60.0
"""The time limit of a compilation."""

VERSION_SECONDS = 10.0
"""The time limit of asking a compiler for its version."""

_FORMAT = 1  # part of every key; to be counted up when entries of earlier versions must not be found


@dataclass(frozen=True)
class NativeUnavailable:
    """Why there is no native code, in words for `explain()` and `minigrad info`."""

    reason: str


@dataclass(frozen=True)
class Compiler:
    """A C compiler that answered.

    Attributes:
        command: the program, with its full path, and its options.
        version: what it said of itself, first line.
    """

    command: tuple[str, ...]
    version: str


def load(source: str, flags: Sequence[str] = ()) -> ctypes.CDLL | NativeUnavailable:
    """The library of a C source: from this process, from the cache, or compiled now.

    Args:
        source: the text of one translation unit; it includes nothing but system headers.
        flags: further flags of the compiler, after `FLAGS`.
    """
    if is_off():
        return NativeUnavailable(_OFF)
    found = _loaded_once(source, tuple(flags))
    if isinstance(found, NativeUnavailable):
        _warn(found)
    return found


def load_ahead(source: str) -> None:
    """Begin to compile what `load` will be asked for, beside whatever else is compiled."""
    if (source, (), _environment()) not in _loaded and not is_off():
        thread = threading.Thread(target=_loaded_once, args=(source, ()), daemon=True)
        with contextlib.suppress(RuntimeError):  # no more threads are allowed here: one after the other, then
            thread.start()
            _ahead.append(thread)


def is_off() -> bool:
    """Whether the user has switched native code off."""
    return os.environ.get("MINIGRAD_NATIVE") == "0"


def unavailable() -> NativeUnavailable | None:
    """Why there can be no native code here, as far as can be told without compiling; None if nothing speaks against."""
    if is_off():
        return NativeUnavailable(_OFF)
    found = find_compiler()
    return found if isinstance(found, NativeUnavailable) else None


def describe() -> dict[str, str]:
    """For `minigrad info`: the compiler, the processor and the cache, or why there is no native code."""
    without = unavailable()
    if without is not None:
        return {"native code": f"no: {without.reason}"}
    compiler = find_compiler()
    assert isinstance(compiler, Compiler)
    try:
        store = open_store()
        entries = store.entries()
        tried = _compile(compiler, [*compiler.command, *FLAGS], "int answer(void) { return 42; }\n", store)
    except (OSError, ImportError, RuntimeError) as error:
        return {"native code": f"no: {error}"}
    if isinstance(tried, NativeUnavailable):
        return {"native code": f"no: {tried.reason}"}
    size = sum(status.st_size for _, status in entries) / 2**20
    kept = f"{store.path}, {len(entries)} libraries, {size:.1f} MiB"
    return {
        "native code": f"{shlex.join(compiler.command)} ({compiler.version})",
        "processor": ", ".join(processor().splitlines()[:2]),
        "cache of native code": f"{kept}; temporary, because {store.note}" if store.note else kept,
    }


def find_compiler() -> Compiler | NativeUnavailable:
    """The first compiler that answers, asked once for each setting of the environment."""
    return _find_compiler(_environment())


@cache
def processor() -> str:
    """What `-march=native` depends on: the architecture, the model, and the instructions it has."""
    found = [platform.machine()]
    if sys.platform == "darwin":
        names = ("machdep.cpu.brand_string", "machdep.cpu.features", "machdep.cpu.leaf7_features")
        found += [programs.run(["sysctl", "-n", name], VERSION_SECONDS).output.strip() for name in names]
    else:
        try:
            first = Path("/proc/cpuinfo").read_text(errors="replace").split("\n\n")[0]
        except OSError:
            first = ""
        pairs = (line.partition(":") for line in first.splitlines())
        fields = {name.strip(): value.strip() for name, _, value in pairs}
        wanted = ("model name", "vendor_id", "cpu family", "model", "flags", "CPU implementer", "CPU part", "Features")
        found += [fields[name] for name in wanted if name in fields]
    return "\n".join(found)


def _environment() -> tuple[str | None, ...]:
    """The settings on which the compiler and the cache depend."""
    return tuple(os.environ.get(name) for name in ("MINIGRAD_CC", "CC", "PATH", "MINIGRAD_CACHE", "HOME"))


@cache
def _find_compiler(environment: tuple[str | None, ...]) -> Compiler | NativeUnavailable:
    if os.name != "posix":
        return NativeUnavailable(f"native code has not been made to work on {platform.system()} yet")
    chosen = os.environ.get("MINIGRAD_CC")
    refused = []
    candidates = [chosen] if chosen else [os.environ.get("CC") or "cc", "cc", "gcc", "clang"]
    if not chosen and importlib.util.find_spec("ziglang"):
        candidates.append(shlex.join([sys.executable, "-m", "ziglang", "cc"]))
    for candidate in dict.fromkeys(candidates):
        found = _ask(candidate)
        if isinstance(found, Compiler):
            return found
        refused.append(f"{candidate}: {found}")
    advice = "install gcc or clang, or Zig's compiler by pip install 'minigrad[native]', or set MINIGRAD_CC"
    advice = "MINIGRAD_CC must name one" if chosen else advice
    return NativeUnavailable(f"no C compiler works; {advice} ({'; '.join(refused)})")


def _ask(text: str) -> Compiler | str:
    """The compiler of a command, or what is wrong with it."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        return str(error)
    program = shutil.which(words[0]) if words else None
    if program is None:
        return "not found"
    if sys.platform == "darwin" and program.startswith("/usr/bin/"):
        # a stand-in that opens a window unless the developer tools are installed
        if programs.run(["xcode-select", "-p"], VERSION_SECONDS).status != 0:
            return "needs the developer tools (xcode-select --install)"
    command = (os.path.abspath(program), *words[1:])
    try:
        with tempfile.TemporaryDirectory(prefix="minigrad-compile-") as folder:
            ended = programs.run([*command, "--version"], VERSION_SECONDS, folder, folder)
    except OSError as error:  # no room for temporary files
        return str(error)
    if ended.status != 0:
        return programs.failure(ended, VERSION_SECONDS)
    return Compiler(command, next(iter(ended.output.splitlines()), "no version"))


def _loaded_once(source: str, flags: tuple[str, ...]) -> ctypes.CDLL | NativeUnavailable:
    """What `load` gives; who asks for what another thread is at work on waits for that."""
    asked = source, flags, _environment()
    while asked not in _loaded:
        done = threading.Event()
        try:
            if _begun.setdefault(asked, done) is not done:
                _begun.get(asked, _DONE).wait()
            elif asked not in _loaded:  # nobody else has been here in between
                _loaded[asked] = _load(source, flags)
        except (OSError, ImportError, ValueError, RuntimeError, subprocess.SubprocessError) as error:
            _loaded[asked] = NativeUnavailable(f"{type(error).__name__}: {error}")
        finally:  # after an interrupt, too: whoever waits for this begins anew
            if _begun.get(asked) is done:
                del _begun[asked]
            done.set()
    return _loaded[asked]


def _load(source: str, flags: tuple[str, ...]) -> ctypes.CDLL | NativeUnavailable:
    compiler = find_compiler()
    if isinstance(compiler, NativeUnavailable):
        return compiler
    own = [] if compiler in _without_own else _own_processor()
    found = _load_by(compiler, source, [*own, *flags])
    if own and isinstance(found, NativeUnavailable):
        plain = _load_by(compiler, source, flags)  # not every compiler knows every processor that it runs on
        if isinstance(plain, ctypes.CDLL):
            _without_own.add(compiler)
            return plain
    return found


def _load_by(compiler: Compiler, source: str, flags: Sequence[str]) -> ctypes.CDLL | NativeUnavailable:
    """The library of a source, compiled with these flags after the fixed ones."""
    if compiler in _hanging:
        return NativeUnavailable(_hanging[compiler])
    command = [*compiler.command, *FLAGS, *flags]
    what = [_FORMAT, source, command, compiler.version, processor()]
    key = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]
    store = open_store()
    path = store.find(key)
    if path is not None:
        library = _open(store, path)
        if isinstance(library, ctypes.CDLL):
            return library
    contents = _compile(compiler, command, source, store)
    if isinstance(contents, NativeUnavailable):
        return contents
    library = _put_and_open(store, key, contents)
    if isinstance(library, NativeUnavailable) and not store.note:  # a full disk, or one that code may not run from
        library = _put_and_open(temporary_store(library.reason), key, contents)
    return library


def _put_and_open(store: Store, key: str, contents: bytes) -> ctypes.CDLL | NativeUnavailable:
    try:
        path = store.put(key, contents)
    except OSError as error:
        return NativeUnavailable(f"compiled code cannot be written to {store.path}: {error}")
    return _open(store, path)


def _open(store: Store, path: Path) -> ctypes.CDLL | NativeUnavailable:
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        store.discard(path)
        return NativeUnavailable(f"compiled code cannot be loaded: {error}")


def _compile(compiler: Compiler, command: list[str], source: str, store: Store) -> bytes | NativeUnavailable:
    """The bytes of the library; the names of files are relative, so that equal sources give equal bytes."""
    with tempfile.TemporaryDirectory(prefix="minigrad-compile-") as folder:
        Path(folder, "source.c").write_text(source, encoding="utf-8")
        ended = programs.run(
            [*command, "source.c", "-o", "library.so", "-lm"], COMPILE_SECONDS, folder, str(store.path / ZIG)
        )
        if ended.status != 0:
            reason = f"{shlex.join(compiler.command)}: {programs.failure(ended, COMPILE_SECONDS)}"
            if ended.status is None:
                _hanging[compiler] = reason
            return NativeUnavailable(reason)
        try:
            return Path(folder, "library.so").read_bytes()
        except OSError:
            return NativeUnavailable(f"{shlex.join(compiler.command)}: ended well, but wrote no library")


def _own_processor() -> list[str]:
    """The flag that lets the compiler use all instructions of this machine."""
    by_name = platform.machine() in ("arm64", "aarch64", "ppc64", "ppc64le")
    return ["-mcpu=native" if by_name else "-march=native"]


def _warn(found: NativeUnavailable) -> None:
    """One warning in a process, however many sources fail."""
    global _warned_of_failure
    if not _warned_of_failure:
        _warned_of_failure = True
        warn_once(f"No native code, which is slower but gives the same results: {found.reason}")


def _forget_threads() -> None:
    """After a fork: other threads of the parent may have been at work, and are not here any more."""
    _begun.clear()
    _ahead.clear()
    programs.running.clear()


def _end_threads() -> None:
    """When the program ends: what has been begun ahead is not waited for, but leaves nothing behind."""
    for _ in range(100):  # a thread may try another compiler, or another flag, before it ends
        if any(thread.is_alive() for thread in _ahead):
            programs.stop_all()
            _ahead[-1].join(0.01)


_OFF = "MINIGRAD_NATIVE=0 switches native code off"
_loaded: dict[object, ctypes.CDLL | NativeUnavailable] = {}
_begun: dict[object, threading.Event] = {}  # what is at work, and is set when that is over
_DONE = threading.Event()
_DONE.set()
_ahead: list[threading.Thread] = []
_hanging: dict[Compiler, str] = {}
_without_own: set[Compiler] = set()  # those that do not take the flag for the machine's own processor
_warned_of_failure = False
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
atexit.register(_end_threads)
