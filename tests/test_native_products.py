"""Products of matrices in native code: right for any sizes, types and places, and left to NumPy where it cannot."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from native_toolchain import needs_compiler

import minigrad as mg
from minigrad.backend import SMALL, load_backend
from minigrad.plan.native import products
from minigrad.plan.native.pool import get_num_threads, set_num_threads

pytestmark = [pytest.mark.host_only("compiled code knows no backend"), needs_compiler]


@pytest.fixture(autouse=True)
def _native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIGRAD_NATIVE", "1")


LAYOUTS = {
    "rows": lambda a: a,
    "columns": lambda a: np.asfortranarray(a),
    "rows with gaps": lambda a: np.repeat(np.pad(a, ((0, 0), (0, 3))), 2, axis=0)[::2, : a.shape[1]],
    "every other column": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "reversed rows": lambda a: a[::-1].copy()[::-1],
    "reversed columns": lambda a: a[:, ::-1].copy()[:, ::-1],
    "one row for all": lambda a: np.broadcast_to(a[:1], a.shape),
    "read-only": lambda a: (a.setflags(write=False), a)[1],
}
SIZES = st.one_of(st.integers(1, 20), st.sampled_from([31, 32, 33, 63, 64, 65, 97, 130, 257, 300]))


@given(SIZES, SIZES, SIZES, *[st.sampled_from(sorted(LAYOUTS))] * 2, st.sampled_from("fd"), st.integers(1, 3))
def test_products(m: int, k: int, n: int, left: str, right: str, char: str, threads: int) -> None:
    random = np.random.default_rng(m * 7 + k * 3 + n)
    a = LAYOUTS[left](random.normal(size=(m, k)).astype(char))
    b = LAYOUTS[right](random.normal(size=(k, n)).astype(char))
    expected, size = a.astype("d") @ b.astype("d"), np.abs(a).astype("d") @ np.abs(b).astype("d")
    before = get_num_threads()
    try:
        set_num_threads(threads)
        found = products.multiply(a, b)
    finally:
        set_num_threads(before)
    assert found.dtype == char
    assert np.all(np.abs(found - expected) <= size * np.finfo(char).eps * (k + 1))


@pytest.mark.parametrize("char", ["f", "d"])
@pytest.mark.parametrize("rows", [50, 1301])
def test_neither_threads_nor_layouts_change_a_bit(rows: int, char: str) -> None:
    """As a model that is resumed has its parameters in another layout, or runs on another machine."""
    random = np.random.default_rng(0)
    a, b = random.normal(size=(rows, 700)).astype(char), random.normal(size=(700, 147)).astype(char)
    layouts = ["rows", "columns", "rows with gaps", "every other column", "reversed rows"]
    before, found = get_num_threads(), []
    try:
        for threads in (1, 2, 3, 5):
            set_num_threads(threads)
            found += [products.multiply(LAYOUTS[left](a), LAYOUTS[right](b)) for left in layouts for right in layouts]
    finally:
        set_num_threads(before)
    assert all(np.array_equal(found[0], other) for other in found[1:])
    assert np.array_equal(found[0][:20], products.multiply(a[:20], b))


@pytest.mark.parametrize("left", ["rows", "columns"])
def test_what_is_no_number_shows(left: str) -> None:
    a, b = np.ones((70, 80), "f"), np.ones((80, 90), "f")
    a[3, 4], a[5, 6], b[7, 8], b[9, 10] = np.nan, np.inf, -np.inf, 0
    a[5, 9], b[6, 10] = 0, 0
    with np.errstate(all="ignore"):
        expected = a @ b
    np.testing.assert_array_equal(products.multiply(LAYOUTS[left](a), b), expected)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.ones((2, 3), "f"), np.ones((3, 2), "d")),
        (np.ones((2, 3), "e"), np.ones((3, 2), "e")),
        (np.ones((2, 3), "i"), np.ones((3, 2), "i")),
        (np.ones((2, 3), ">f4"), np.ones((3, 2), ">f4")),
        (np.ones((2, 0)), np.ones((0, 2))),
        (np.ones((0, 3)), np.ones((3, 2))),
        (np.ones((2, 3)), np.ones((2, 3))),
        (np.ones((4, 3)), np.ones((3, 2), [("x", "f8"), ("y", "f4")])["x"]),
    ],
    ids=[
        "two types",
        "float16",
        "integers",
        "swapped bytes",
        "nothing between",
        "no rows",
        "misfit",
        "uneven gaps",
    ],
)
def test_what_is_left_to_numpy(a: Any, b: Any) -> None:
    assert products.multiply(a, b) is None


# --- where it is used


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The sizes of each product that native code has done."""
    found: list[tuple[int, ...]] = []
    multiply = products.multiply

    def noted(a: Any, b: Any) -> Any:
        made = multiply(a, b)
        if made is not None:
            found.append((*a.shape, b.shape[1]))
        return made

    monkeypatch.setattr(products, "multiply", noted)
    return found


def gradients(layer: Any, x: mg.Tensor) -> list[Any]:
    layer.zero_grad()
    x.grad = None
    y = layer(x)
    (y * y).sum().backward()
    tensors = [x, *layer.parameters()]
    return [y.numpy(), *(tensor.grad.numpy() for tensor in tensors if tensor.grad is not None)]


def test_a_linear_layer_forward_and_backward(seen: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = mg.Linear(48, 40), mg.tensor(mg.normal(shape=(50, 8, 48)), True)
    found = gradients(layer, x)
    assert seen == [(400, 48, 40), (400, 40, 48), (40, 400, 48)]
    monkeypatch.setenv("MINIGRAD_NATIVE", "0")
    expected = gradients(layer, x)
    assert len(seen) == 3
    assert len(found) == len(expected) == 4
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("leading", [(50,), (5, 10)])
def test_several_matrices_times_one_are_one_product(leading: tuple[int, ...], seen: list[tuple[int, ...]]) -> None:
    a, b = (mg.tensor(mg.normal(shape=shape, dtype="float64"), True) for shape in ((*leading, 8, 48), (48, 40)))
    (y := a @ b).sum().backward()
    assert seen == [(400, 48, 40), (400, 40, 48), (48, 400, 40)]
    np.testing.assert_allclose(y.numpy(), np.matmul(a.numpy(), b.numpy()), rtol=1e-12)
    assert a.grad is not None
    assert b.grad is not None
    np.testing.assert_allclose(a.grad.numpy(), np.broadcast_to(b.numpy().sum(1), a.shape), rtol=1e-12)
    rows = a.numpy().reshape(400, 48).sum(0)
    np.testing.assert_allclose(b.grad.numpy(), np.broadcast_to(rows[:, None], b.shape), rtol=1e-12)


@pytest.mark.parametrize(("left", "right"), [((3,), (3,)), ((2, 3), (3,)), ((), (3,)), ((1, 3), (2, 1))])
def test_products_side_by_side(left: tuple[int, ...], right: tuple[int, ...], seen: list[tuple[int, ...]]) -> None:
    """As of attention; where one matrix is for several, its gradient is their sum."""
    a, b = (mg.normal(shape=shape, dtype="float64") for shape in ((*left, 70, 48), (*right, 48, 90)))
    given = [mg.tensor(x, True) for x in (a, b)]
    y = given[0] @ given[1]
    (y * mg.cos(y)).sum().backward()
    assert seen[: y.size // (70 * 90)] == [(70, 48, 90)] * (y.size // (70 * 90))
    expected = np.matmul(a.numpy(), b.numpy())
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-10, atol=1e-12)
    g = np.cos(expected) - expected * np.sin(expected)
    wholes = np.matmul(g, b.numpy().swapaxes(-1, -2)), np.matmul(a.numpy().swapaxes(-1, -2), g)
    for tensor, whole in zip(given, wholes, strict=True):
        missing = tuple(range(whole.ndim - tensor.ndim))
        repeated = tuple(axis for axis, size in enumerate(tensor.shape) if size == 1)
        assert tensor.grad is not None
        wanted = whole.sum(missing).sum(repeated, keepdims=True)
        np.testing.assert_allclose(tensor.grad.numpy(), wanted, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("left", "right"), [((3,), (2,)), ((3,), ())])
def test_what_does_not_fit_side_by_side_is_told(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="matmul"):
        mg.ones((*left, 70, 48)) @ mg.ones((*right, 47 if not right else 48, 90))


def test_small_products_and_vectors_are_numpys(seen: list[tuple[int, ...]]) -> None:
    numpy = load_backend("numpy")
    side = round(products.LARGE ** (1 / 3))
    a, b = np.ones((side, side)), np.ones((side, side))
    assert side**3 == products.LARGE >= SMALL
    assert (numpy.matmul(a, b) == side).all()
    assert numpy.matmul(np.ones(products.LARGE), np.ones((products.LARGE, 2))).tolist() == [
        products.LARGE,
        products.LARGE,
    ]
    assert seen == []
    assert (numpy.matmul(np.ones((side + 1, side)), b) == side).all()
    assert seen == [(side + 1, side, side)]


@pytest.mark.parametrize("shape", [(1, 1024, 1024), (8, 500, 500), (100_000, 9, 1), (1, 100_000, 9), (900, 2, 900)])
def test_narrow_products_are_numpys(shape: tuple[int, int, int], seen: list[tuple[int, ...]]) -> None:
    """NumPy does them without copying a factor, or by other means."""
    m, k, n = shape
    assert (load_backend("numpy").matmul(np.ones((m, k)), np.ones((k, n))) == k).all()
    assert seen == []


def test_without_native_code_it_is_numpys(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 100, 100))
    monkeypatch.setattr(products, "_function", lambda char: None)
    assert products.multiply(a, b) is None
    np.testing.assert_array_equal(load_backend("numpy").matmul(a, b), a @ b)


def test_misfits_are_told_in_the_usual_words() -> None:
    with pytest.raises(ValueError, match=r"matmul.*\(100, 99\).*\(100, 100\)"):
        mg.ones((100, 99)) @ mg.ones((100, 100))
