"""Generated C on other processors: run with fewer instructions than this one has, compiled for other systems."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import native_sanitized
import numpy as np
import pytest
from native_sanitized import CELLS
from native_toolchain import compile_with, needs_compiler
from plan_runs import agree, is_compiled

import minigrad as mg
from minigrad.plan.native import executor, pool, toolchain
from minigrad.plan.native.parts import NotExpressibleError
from minigrad.plan.native.toolchain import load, processor

INPUTS, UNITS, BATCH, STEPS = 15, 17, 3, 6
NAMES = list(CELLS)
DTYPES = ("float32", "float64")

pytestmark = [
    pytest.mark.host_only("generated code runs on NumPy's arrays"),
    pytest.mark.skipif(os.name != "posix", reason="native code has not been made to work on this system yet"),
]


def data(dtype: str) -> Any:
    return np.random.default_rng(0).normal(size=(STEPS, BATCH, INPUTS)).astype(dtype)


# --- run with the instructions of older processors

LEVELS = {"x86-64": 16, "x86-64-v3": 32, "x86-64-v4": 64}
"""Levels of x86-64, with the bytes of a vector: SSE2, AVX2 and AVX-512."""

WIDTH = """
int width(void) {
#if defined __AVX512F__
    return 64;
#elif defined __AVX__
    return 32;
#else
    return 16;
#endif
}
"""


def highest() -> int:
    """The bytes of this processor's vectors."""
    flags = processor().split()
    return 64 if "avx512f" in flags else 32 if {"avx2", "fma"} <= set(flags) else 16


@needs_compiler
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="levels are x86-64's")
@pytest.mark.parametrize("level", LEVELS)
def test_levels_of_x86(monkeypatch: pytest.MonkeyPatch, level: str) -> None:
    if LEVELS[level] > highest():
        pytest.skip(f"this processor has no instructions of {level}")
    if LEVELS[level] == highest():
        pytest.skip("this processor's own instructions are what all other tests use")
    monkeypatch.setenv("MINIGRAD_NATIVE", "1")
    compile_with(monkeypatch, "-O1")
    monkeypatch.setattr(toolchain, "_own_processor", lambda: [f"-march={level}"])
    monkeypatch.setattr(toolchain, "_loaded", {})  # by source, whatever it was compiled for
    library = load(WIDTH)
    assert isinstance(library, ctypes.CDLL), library
    assert library.width() == LEVELS[level]
    for place, name in enumerate(CELLS):
        dtype = DTYPES[(place + LEVELS[level] // 32) % 2]
        with mg.default_dtype(dtype):
            cell = CELLS[name](INPUTS, UNITS)
        plan, tape = (mg.Recurrent(cell, engine=engine) for engine in ("plan", "tape"))
        found, wanted = (native_sanitized.results(run, data(dtype), [6, 0, 3]) for run in (plan, tape))
        tolerance = 1e-9 if dtype == "float64" else 1e-3
        agree(found, wanted, rtol=tolerance, atol=tolerance, where=name)
        assert is_compiled(plan), name


# --- compiled for other systems

TARGETS = {
    "aarch64-linux-gnu": (),
    "aarch64-macos": (),
    "x86_64-macos": (),
    "x86_64-windows-gnu": (),
    "x86_64-linux-gnu": ("-mcpu=x86_64",),
    "x86_64-linux-musl": ("-mcpu=x86_64_v4",),
    "riscv64-linux-gnu": (),
}


@cache
def zig() -> tuple[str, ...]:
    """Zig's compiler, which knows all systems; empty if it is not here."""
    if importlib.util.find_spec("ziglang"):
        return sys.executable, "-m", "ziglang"
    return tuple(path for path in [shutil.which("zig") or shutil.which("python-zig")] if path)


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """What would be compiled here for each cell, the products and the pool."""
    texts: dict[str, str] = {"pool": pool._source()}

    def record(text: str) -> Any:
        texts[name] = text
        raise NotExpressibleError("recorded")

    monkeypatch.setenv("MINIGRAD_NATIVE", "1")
    monkeypatch.setattr(executor, "unavailable", lambda: None)
    monkeypatch.setattr(executor, "_loaded", record)
    for place, name in enumerate(CELLS):
        dtype = DTYPES[place % 2]
        with mg.default_dtype(dtype):
            mg.Recurrent(CELLS[name](INPUTS, UNITS), engine="plan")(mg.tensor(data(dtype), requires_grad=True))
    texts |= {f"products of {dtype}": executor.kernels_source(np.dtype(dtype)) for dtype in DTYPES}
    assert len(texts) == len(CELLS) + 3
    paths = [tmp_path / f"{name}.c".replace(" ", "_").replace(",", "") for name in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        path.write_text(text)
    return paths


@pytest.mark.skipif(not zig(), reason="Zig's compiler is not here: pip install ziglang")
@pytest.mark.parametrize("target", TARGETS)
def test_compiled_for_other_systems(sources: list[Path], tmp_path: Path, target: str) -> None:
    flags = [flag for flag in toolchain.FLAGS if flag not in ("-O3", "-shared")]
    command = [*zig(), "cc", "-target", target, *TARGETS[target], *flags, "-O1", "-c", "-o", "result"]
    folders = {"ZIG_GLOBAL_CACHE_DIR": str(tmp_path / "zig"), "ZIG_LOCAL_CACHE_DIR": str(tmp_path / "zig")}
    for path in sources:
        ended = subprocess.run(
            [*command, path.name], cwd=tmp_path, env=os.environ | folders, capture_output=True, text=True, timeout=120
        )
        assert ended.returncode == 0, f"{path.name}: {ended.stderr[:4000]}"
        assert (tmp_path / "result").stat().st_size > 1000
        (tmp_path / "result").unlink()
