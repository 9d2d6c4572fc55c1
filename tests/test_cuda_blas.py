"""How cuBLAS is called: with a library of the same functions for the CPU in its place."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from minigrad.plan.cuda import blas as module
from minigrad.plan.cuda.blas import Blas, BlasError, load_library

pytestmark = [
    pytest.mark.host_only("it has a stand-in of its own"),
    pytest.mark.skipif(not shutil.which("gcc"), reason="there is no gcc to compile the stand-in for cuBLAS"),
]


def memory(size: int, dtype: str) -> Any:
    host = np.zeros(size, dtype)
    return SimpleNamespace(data=SimpleNamespace(ptr=host.__array_interface__["data"][0]), host=host)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("cublas") / "libcublas.so"
    source = Path(__file__).with_name("cublas_on_cpu.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", str(out), str(source)], check=True)
    return ctypes.CDLL(str(out))


def made(library: Any, tf32: bool = False) -> Blas:
    return Blas(SimpleNamespace(empty=memory), library, tf32)


def address(array: Any) -> int:
    found: int = array.__array_interface__["data"][0]
    return found


@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize("a_swapped", [False, True])
@pytest.mark.parametrize("b_swapped", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products(library: Any, dtype: str, a_swapped: bool, b_swapped: bool, adds: bool) -> None:
    rng = np.random.default_rng(0)
    m, n, k = 3, 4, 5
    a_rows = rng.normal(size=(k, m + 2) if a_swapped else (m, k + 2)).astype(dtype)  # rows longer than what is read
    b_rows = rng.normal(size=(n, k + 1) if b_swapped else (k, n + 1)).astype(dtype)
    out = rng.normal(size=(m, n + 3)).astype(dtype)
    a = a_rows[:, :m].T if a_swapped else a_rows[:, :k]
    b = b_rows[:, :k].T if b_swapped else b_rows[:, :n]
    expected = out.copy()
    expected[:, :n] = a @ b + (out[:, :n] if adds else 0)
    first = address(a_rows), a_rows.shape[1], a_swapped
    second = address(b_rows), b_rows.shape[1], b_swapped
    made(library).product(dtype, first, second, (address(out), n + 3, dtype), (m, n, k), adds)
    np.testing.assert_allclose(out, expected, rtol=1e-5)


def test_a_result_that_is_not_there_yet_is_not_read(library: Any) -> None:
    a, out = np.ones((1, 1)), np.full((1, 1), np.nan)
    made(library).product(
        "float64", (address(a), 1, False), (address(a), 1, False), (address(out), 1, "float64"), (1, 1, 1), False
    )
    assert out[0, 0] == 1


def test_a_stream_is_given_with_memory_of_its_own(library: Any) -> None:
    made(library).use(SimpleNamespace(ptr=1234))
    assert ctypes.c_int.in_dll(library, "stream_set").value == 1234
    assert ctypes.c_int.in_dll(library, "workspace_set").value == module.WORKSPACE_BYTES


def narrow(array: Any) -> Any:
    """The bits of numbers of which bfloat16 has enough."""
    return (array.astype("float32").view("uint32") >> 16).astype("uint16")


@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize("out_of", ["float32", "bfloat16"])
def test_products_of_16_bit_numbers(library: Any, out_of: str, adds: bool) -> None:
    rng = np.random.default_rng(0)
    a, b, before = (rng.integers(-8, 9, size=size) for size in ((3, 5), (4, 5), (3, 4)))
    expected = a @ b.T + (before if adds else 0)
    out = narrow(before) if out_of == "bfloat16" else before.astype("float32")
    kept_a, kept_b = narrow(a), narrow(b)
    factors = (address(kept_a), 5, False), (address(kept_b), 5, True)
    made(library).product("bfloat16", *factors, (address(out), 4, out_of), (3, 4, 5), adds)
    assert (expected % 2).any()
    found = (out.astype("uint32") << 16).view("float32") if out_of == "bfloat16" else out
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("tf32", "mode"), [(False, 0 + 16), (True, 3 + 16)])
def test_tf32_is_asked_for(library: Any, tf32: bool, mode: int) -> None:
    made(library, tf32)
    assert ctypes.c_int.in_dll(library, "mode").value == mode


def test_a_refused_call_says_which_and_why(library: Any) -> None:
    a = np.ones((2, 2))
    factors = (address(a), 1, False), (address(a), 2, False)
    with pytest.raises(BlasError, match=r"cublasDgemm_v2: invalid value \(status 7\)"):
        made(library).product("float64", *factors, (address(a), 2, "float64"), (2, 2, 2), False)


def test_a_library_that_is_missing_says_which() -> None:
    cuda = SimpleNamespace(get_cublas_handle=lambda: 1, runtime=SimpleNamespace(runtimeGetVersion=lambda: 99010))
    with pytest.raises(BlasError, match=r"cuBLAS of CUDA 99 cannot be loaded: .*libcublas.so.99"):
        load_library(SimpleNamespace(cuda=cuda))
