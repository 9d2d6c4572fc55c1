"""A dozen cells of odd sizes, compiled with sanitizers of addresses, undefined behaviour and threads."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from native_sanitized import CELLS, SIZES

from minigrad.plan.native.toolchain import Compiler, find_compiler

COMPILER = find_compiler()
SCRIPT = Path(__file__).with_name("native_sanitized.py")
LIBRARIES = {"address,undefined": ("libasan.so", "libubsan.so"), "thread": ("libtsan.so",)}
GROUPS = [list(CELLS)[place::4] for place in range(4)]

pytestmark = [
    pytest.mark.host_only("compiled code knows no backend"),
    pytest.mark.skipif(not isinstance(COMPILER, Compiler), reason=f"no C compiler: {COMPILER}"),
]


def run(sanitizer: str, *names: str) -> subprocess.CompletedProcess[str]:
    """The script with the sanitizer's libraries loaded before all others, as Python is not linked with them."""
    assert isinstance(COMPILER, Compiler)
    paths = []
    for library in LIBRARIES[sanitizer]:
        asked = subprocess.run([*COMPILER.command, f"-print-file-name={library}"], capture_output=True, text=True)
        paths.append(asked.stdout.strip())
        if not os.path.isabs(paths[-1]) or not os.path.exists(paths[-1]):
            pytest.skip(f"{COMPILER.version} has no {library}")
    environment = {
        **os.environ,
        "MINIGRAD_NATIVE": "1",
        "LD_PRELOAD": " ".join(paths),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
        "TSAN_OPTIONS": "halt_on_error=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    command = [sys.executable, str(SCRIPT), sanitizer, *names]
    if setarch := shutil.which("setarch"):  # the sanitizer of threads knows fewer places for memory than Linux uses
        command = [setarch, "--addr-no-randomize", *command]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    if "unexpected memory mapping" in ended.stderr or "Operation not permitted" in ended.stderr:
        pytest.skip(f"the sanitizer cannot run here: {ended.stderr[:200]}")
    return ended


@pytest.mark.parametrize("names", GROUPS, ids=", ".join)
@pytest.mark.parametrize("sanitizer", LIBRARIES)
def test_nothing_is_found(sanitizer: str, names: list[str]) -> None:
    ended = run(sanitizer, *names)
    assert ended.returncode == 0, ended.stderr[-6000:]
    lines = [line.rsplit(" ", 1) for line in ended.stdout.splitlines()]
    assert len(lines) == 2 * len(names)
    assert {compiled for _, compiled in lines} == {str(len(SIZES))}


@pytest.mark.parametrize("sanitizer", LIBRARIES)
def test_nothing_is_found_in_products_outside_of_layers(sanitizer: str) -> None:
    ended = run(sanitizer, "products")
    assert ended.returncode == 0, ended.stderr[-6000:]
    assert ended.stdout == "products\n"


@pytest.mark.parametrize(
    ("sanitizer", "found"), [("address,undefined", "heap-buffer-overflow"), ("thread", "data race")]
)
def test_what_is_planted_is_found(sanitizer: str, found: str) -> None:
    ended = run(sanitizer, "planted")
    assert ended.returncode != 0
    assert found in ended.stderr


def test_every_size_comes_up() -> None:
    places = range(len(CELLS))
    assert {SIZES[(place + turn) % 4] for place in places for turn in (0, 1)} == set(SIZES)
    assert {SIZES[(place // 4 + 3 * turn + 1) % 4] for place in places for turn in (0, 1)} == set(SIZES)
