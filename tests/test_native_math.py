"""vector_math.h: errors against the C library in a wider type, ends of the range, parts of vectors, every width."""

from __future__ import annotations

import ctypes
import platform
import subprocess
from functools import cache

import numpy as np
import pytest
from native_math import DRIVER, DTYPES, HEADER, LIMITS, VectorMath, boundaries, spread

from minigrad.plan.native.toolchain import Compiler, find_compiler

COMPILER = find_compiler()
X86 = platform.machine() in ("x86_64", "AMD64")
WIDTHS = {
    "machine": (),
    "16 bytes": ("-DVECTOR_BYTES=16",),
    "32 bytes": ("-DVECTOR_BYTES=32",),
    "64 bytes": ("-DVECTOR_BYTES=64",),
    "no FMA": ("-ffp-contract=off", *(("-mno-avx",) if X86 else ())),
}
WIDE_ENOUGH = np.finfo(np.longdouble).eps < np.finfo(np.float64).eps / 100

pytestmark = [
    pytest.mark.host_only("C code that knows no backend"),
    pytest.mark.skipif(not isinstance(COMPILER, Compiler), reason=f"no C compiler: {COMPILER}"),
]
reals = pytest.mark.parametrize("real", DTYPES)
functions = pytest.mark.parametrize("function", LIMITS)


@pytest.fixture(autouse=True)
def native(monkeypatch):
    """Other tests do without native code."""
    monkeypatch.setenv("MINIGRAD_NATIVE", "1")


@cache
def vector_math(real: str, width: str = "machine") -> VectorMath:
    return VectorMath(real, WIDTHS[width])


@functions
def test_every_97th_float(function):
    error, where = vector_math("float").worst_of_all(function, first=11, stride=97)
    assert error <= LIMITS[function], where


@reals
@functions
@pytest.mark.parametrize("width", WIDTHS)
def test_errors_with_every_width(real, function, width):
    if real == "double" and not WIDE_ENOUGH:
        pytest.skip("long double is no wider than double here: there is nothing to compare with")
    x = np.concatenate([boundaries(DTYPES[real]), spread(DTYPES[real])])
    error, where = vector_math(real, width).worst(function, x)
    assert error <= LIMITS[function], where


def test_the_widths_are_what_they_say():
    assert [vector_math("float", f"{n} bytes").lanes for n in (16, 32, 64)] == [4, 8, 16]
    assert [vector_math("double", f"{n} bytes").lanes for n in (16, 32, 64)] == [2, 4, 8]


@pytest.mark.parametrize(
    ("function", "change"),
    [
        ("tanh", ("0.131107375f", "0.1313f")),
        ("exp", ("0x1.0bfbe8p-15f", "0x1.0bfb00p-15f")),
        ("sigmoid", ("v_select(x < 0, b, a)", "a")),
        ("log", ("VM(25, 54)", "VM(24, 53)")),
        ("sin", (" - n * 0x1.68cp-39f", "")),
        ("sin", ("^ ((bits)x & VM_SIGN)", "")),
        ("expm1", ("return vm_with_sign(result, x)", "return result")),
        ("log1p", ("return v_select(x == 0, x, y)", "return y")),
    ],
)
def test_a_slip_is_found(function, change):
    found = VectorMath("float", change=change).worst_of_all(function, first=0, stride=1 << 10)
    assert found[0] > 1.2 * LIMITS[function]


@reals
@pytest.mark.parametrize("function", ["exp", "expm1", "tanh", "log", "log1p", "sin", "cos", "sqrt", "abs", "sign"])
def test_ends_are_numpys(real, function):
    tiny = np.finfo(DTYPES[real]).smallest_subnormal
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, tiny, -tiny, 1, -1, 2, -2, 1e30, -1e30], DTYPES[real])
    with np.errstate(all="ignore"):
        expected = getattr(np, function)(x)
    got = vector_math(real).apply(function, x)
    plain = np.isnan(expected) | np.isinf(expected) | (expected == 0)
    np.testing.assert_array_equal(got[plain], expected[plain])
    np.testing.assert_array_equal(np.isfinite(got), np.isfinite(expected))
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(got[numbers]), np.signbit(expected[numbers]))


@reals
def test_sigmoid_keeps_its_digits_in_both_tails(real):
    x = np.array([-np.inf, -80, 0, 80, np.inf, np.nan], DTYPES[real])
    expected = np.array([0, np.exp(-80.0), 0.5, 1, 1, np.nan])
    np.testing.assert_allclose(vector_math(real).apply("sigmoid", x), expected, rtol=3e-7)
    smallest = {"float": (-103.0, np.exp(-103.0)), "double": (-745.0, np.exp(-745.0))}[real]
    assert vector_math(real).apply("sigmoid", [smallest[0]])[0] == DTYPES[real](smallest[1]) > 0


@reals
@pytest.mark.parametrize("width", WIDTHS)
def test_parts_of_vectors_give_the_same_and_touch_nothing_else(real, width):
    library = vector_math(real, width)
    x = spread(DTYPES[real], 4)[: 2 * library.lanes + 1]
    whole = library.apply("tanh", np.concatenate([x, np.zeros(library.lanes, DTYPES[real])]))
    for count in range(x.size + 1):
        y = np.full(x.size + 3, 7, DTYPES[real])
        pointers = ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(y.ctypes.data)
        library.library.apply(library.library.find(b"tanh"), *pointers, ctypes.c_long(count))
        np.testing.assert_array_equal(y[:count], whole[:count])
        assert (y[count:] == 7).all()


@reals
@pytest.mark.parametrize("width", WIDTHS)
def test_maximum_and_minimum_propagate_nan(real, width):
    values = np.array([1.5, -2, 0, np.inf, -np.inf, np.nan, 3, -7], DTYPES[real])
    a, b = (np.ascontiguousarray(m) for m in np.meshgrid(values, values))
    for name, ufunc in (("apply_max", np.maximum), ("apply_min", np.minimum)):
        y = np.empty_like(a)
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in (a, b, y)]
        getattr(vector_math(real, width).library, name)(*pointers, ctypes.c_long(a.size))
        np.testing.assert_array_equal(y, ufunc(a, b))


@reals
@pytest.mark.parametrize("width", WIDTHS)
def test_any_and_sum_see_every_lane(real, width):
    library = vector_math(real, width)
    n = library.lanes
    x = np.vstack([np.eye(n), -np.eye(n), np.arange(n)]).astype(DTYPES[real])
    positive, total = np.empty(len(x), np.intc), np.empty(len(x), DTYPES[real])
    library.library.apply_any_positive(
        ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(positive.ctypes.data), ctypes.c_long(len(x))
    )
    library.library.apply_sum(ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(total.ctypes.data), ctypes.c_long(len(x)))
    np.testing.assert_array_equal(positive, (x > 0).any(axis=1))
    np.testing.assert_array_equal(total, x.sum(axis=1))


@reals
def test_compiles_without_a_warning(real, tmp_path):
    assert isinstance(COMPILER, Compiler)
    words = [*COMPILER.command, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", f"-DREAL={real}"]
    command = [*words, f"-I{HEADER.parent}", "-c", str(DRIVER), "-o", str(tmp_path / "driver.o")]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
