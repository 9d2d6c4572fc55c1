"""Sources, compilers that fail, and a cache folder of its own for each test of the toolchain and of its cache."""

from __future__ import annotations

import ctypes
import os
import stat
from pathlib import Path

import pytest

from minigrad.plan.native import cache, toolchain
from minigrad.plan.native.toolchain import Compiler, NativeUnavailable, load

FOUND = toolchain.find_compiler()
SOURCE = "int answer(void) { return 42; }\n"
OTHER = "int answer(void) { return 43; }\n"
SAYS_VERSION = '#!/bin/sh\n[ "$1" = --version ] && echo "fake 1.0" && exit 0\n'

needs_compiler = pytest.mark.skipif(not isinstance(FOUND, Compiler), reason=f"no C compiler: {FOUND}")


def forget() -> None:
    """As in a new process."""
    toolchain._loaded.clear()
    toolchain._hanging.clear()
    toolchain._without_own.clear()
    toolchain._find_compiler.cache_clear()
    toolchain._warned_of_failure = False
    cache._warned.clear()
    cache._temporary = None


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where this test's entries go."""
    forget()
    monkeypatch.setenv("MINIGRAD_CACHE", str(tmp_path / "cache"))
    for name in ("MINIGRAD_CC", "CC", "MINIGRAD_NATIVE"):
        monkeypatch.delenv(name, raising=False)
    yield tmp_path / "cache" / "native"
    forget()


def lower(monkeypatch: pytest.MonkeyPatch, level: str) -> None:
    monkeypatch.setattr(toolchain, "FLAGS", tuple(level if flag == "-O3" else flag for flag in toolchain.FLAGS))


def compile_with(monkeypatch: pytest.MonkeyPatch, level: str) -> None:
    """Another level of optimisation than -O3, which takes long, and a folder in the suite's for what is so compiled."""
    lower(monkeypatch, level)
    monkeypatch.setenv("MINIGRAD_CACHE", os.path.join(os.environ["MINIGRAD_CACHE"], level[1:]))


@pytest.fixture
def quick(monkeypatch):
    """Compile in a third of the time, where it is not the code that is tested."""
    lower(monkeypatch, "-O0")


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Makes a shell script the compiler; it is asked for its version first, which it gives."""

    def make(body: str) -> Path:
        path = tmp_path / "fake-cc"
        path.write_text(SAYS_VERSION + body)
        path.chmod(0o755)
        monkeypatch.setenv("MINIGRAD_CC", str(path))
        return path

    return make


@pytest.fixture
def counting(tmp_path, fake):
    """The real compiler, which counts how often it compiles."""
    assert isinstance(FOUND, Compiler)
    log = tmp_path / "log"
    fake(f'echo compiled >> {log}\nexec {FOUND.command[0]} "$@"\n')
    return lambda: log.read_text().count("compiled") if log.exists() else 0


def answer(source: str = SOURCE) -> int:
    library = load(source)
    assert isinstance(library, ctypes.CDLL), library
    value: int = library.answer()
    return value


def answers() -> int:
    return answer() + answer(OTHER)


def load_both() -> ctypes.CDLL | NativeUnavailable:
    """The first source's library, asked for twice, and the other's between."""
    found = load(SOURCE)
    load(OTHER)
    assert load(SOURCE) is found
    return found


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())
