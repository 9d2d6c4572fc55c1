"""Operations at the extremes: no overflow, no NaN and no warning (warnings are errors), and what happens at kinks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from gradcheck import check_gradients

import minigrad as mg

INF = math.inf
EXTREMES = [-INF, -1000.0, 0.0, 1000.0]

# name, values at EXTREMES, slopes there
STABLE = [
    ("sigmoid", [0, 0, 0.5, 1], [0, 0, 0.25, 0]),
    ("tanh", [-1, -1, 0, 1], [0, 0, 1, 0]),
    ("softplus", [0, 0, math.log(2), 1000], [0, 0, 0.5, 1]),
    ("elu", [-1, -1, 0, 1000], [0, 0, 1, 1]),
    ("relu", [0, 0, 0, 1000], [0, 0, 0, 1]),
    ("leaky_relu", [-INF, -10, 0, 1000], [0.01, 0.01, 0.01, 1]),
    ("abs", [INF, 1000, 0, 1000], [-1, -1, 0, 1]),
]


def leaf(values: Any, dtype: str = "float32") -> mg.Tensor:
    return mg.tensor(np.array(values, dtype), requires_grad=True)


def both_ways(function: Any, x: mg.Tensor, cotangent: Any = None) -> tuple[Any, Any]:
    y = function(x)
    (slope,) = mg.grad(y, x, np.ones(y.shape) if cotangent is None else cotangent)
    return y.numpy(), slope.numpy()


@pytest.mark.parametrize(("name", "values", "slopes"), STABLE, ids=[row[0] for row in STABLE])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_activations_at_the_extremes(name: str, values: list[float], slopes: list[float], dtype: str) -> None:
    value, slope = both_ways(getattr(mg, name), leaf(EXTREMES, dtype))
    np.testing.assert_allclose(value, values, rtol=1e-6, atol=1e-37)
    np.testing.assert_allclose(slope, slopes, rtol=1e-6, atol=1e-37)


@pytest.mark.parametrize(
    ("row", "expected", "slope"),
    [
        ([1000.0, 1000.0], 1000 + math.log(2), [0.5, 0.5]),
        ([-1000.0, -1000.0], -1000 + math.log(2), [0.5, 0.5]),
        ([-INF, 3.0], 3.0, [0, 1]),
        ([-INF, -INF], -INF, [0, 0]),
        ([1000.0, -1000.0], 1000.0, [1, 0]),
    ],
)
def test_logsumexp_at_the_extremes(row: list[float], expected: float, slope: list[float]) -> None:
    value, found = both_ways(mg.logsumexp, leaf(row))
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(found, slope, rtol=1e-4)  # exp(x - y), and y near 1000 has float32's 4e-5 of rounding


def test_logsumexp_of_infinity_and_nan() -> None:
    assert mg.logsumexp(leaf([INF, 1.0])).item() == INF
    assert math.isnan(mg.logsumexp(leaf([math.nan, 1.0])).item())


@pytest.mark.parametrize("row", [[1000.0, 1000.0], [-1000.0, 0.0], [-INF, 0.0], [1000.0, -INF]])
def test_softmax_at_the_extremes(row: list[float]) -> None:
    below = np.array(row) - max(row)
    expected = np.exp(below) / np.exp(below).sum()
    for cotangent in ([1.0, 0.0], [0.0, 2.0]):
        value, slope = both_ways(mg.softmax, leaf(row), cotangent)
        np.testing.assert_allclose(value, expected, rtol=1e-6)
        np.testing.assert_allclose(slope, expected * (cotangent - (cotangent * expected).sum()), atol=1e-7)
        value, slope = both_ways(mg.log_softmax, leaf(row), cotangent)
        np.testing.assert_allclose(value, below - math.log(np.exp(below).sum()), rtol=1e-6)
        np.testing.assert_allclose(slope, cotangent - expected * sum(cotangent), atol=1e-7)


def test_small_numbers_keep_their_digits() -> None:
    x = leaf([1e-12], "float64")
    assert mg.expm1(x).item() == pytest.approx(1e-12 + 5e-25, rel=1e-15)
    assert mg.log1p(x).item() == pytest.approx(1e-12 - 5e-25, rel=1e-15)


@pytest.mark.parametrize(("dtype", "rel"), [("float32", 1e-6), ("float64", 1e-14)])
def test_sigmoid_keeps_its_digits_far_into_both_tails(dtype: str, rel: float) -> None:
    for x in (-80.0, -30.0, -15.0, -1.0, 0.0, 1.0, 15.0):
        expected = math.exp(x) / (1 + math.exp(x))
        value, slope = both_ways(mg.sigmoid, leaf([x], dtype))
        assert value[0] == pytest.approx(expected, rel=rel)
        if x < 2:  # above, 1 - y has few digits left
            assert slope[0] == pytest.approx(expected / (1 + math.exp(x)), rel=10 * rel)


def test_division_by_large_numbers_has_a_finite_gradient() -> None:
    x = leaf([1e25])
    value, slope = both_ways(lambda x: 1e25 / x, x)
    assert value == pytest.approx(1.0)
    assert slope == pytest.approx(-1e-25)


@pytest.mark.parametrize(
    ("base", "exponent", "by_base", "by_exponent"),
    [
        (0.0, 2.0, 0.0, 0.0),
        (0.0, 1.0, 1.0, 0.0),
        (0.0, 0.0, 0.0, 0.0),
        (3.0, 0.0, 0.0, math.log(3)),
        (-2.0, 3.0, 12.0, 0.0),
        (2.0, -1.0, -0.25, 0.5 * math.log(2)),
    ],
)
def test_power_at_its_edges(base: float, exponent: float, by_base: float, by_exponent: float) -> None:
    x, n = leaf(base, "float64"), leaf(exponent, "float64")
    found = mg.grad(x**n, [x, n])
    assert [g.item() for g in found] == pytest.approx([by_base, by_exponent])
    assert mg.grad(x**exponent, x)[0].item() == pytest.approx(by_base)
    assert mg.grad(base**n, n)[0].item() == pytest.approx(by_exponent)


def test_power_differentiates_twice_at_an_exponent_of_zero() -> None:
    check_gradients(mg.power, leaf([1.5, 2.0], "float64"), leaf([0.0, 1.0], "float64"))


@pytest.mark.parametrize("name", ["max", "min"])
def test_equal_extremes_share_the_gradient(name: str) -> None:
    sign = 1 if name == "max" else -1
    x = leaf(sign * np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]]))
    _, slope = both_ways(lambda x: getattr(mg, name)(x, axis=1), x)
    np.testing.assert_allclose(slope, [[0, 0.5, 0.5], [1 / 3, 1 / 3, 1 / 3]], rtol=1e-6)
    elementwise = mg.maximum if name == "max" else mg.minimum
    _, slope = both_ways(lambda x: elementwise(x, sign * 2.0), x)
    np.testing.assert_allclose(slope, [[0, 1, 1], [0.5, 0.5, 0.5]])


def test_clip_is_flat_outside_and_includes_its_limits() -> None:
    value, slope = both_ways(lambda x: mg.clip(x, -1.0, np.float64(1.0)), leaf([-2.0, -1.0, 0.0, 1.0, 2.0]))
    np.testing.assert_array_equal(value, [-1, -1, 0, 1, 1])
    np.testing.assert_array_equal(slope, [0, 1, 1, 1, 0])
    assert value.dtype == slope.dtype == np.float32


def test_where_keeps_a_nan_on_the_other_side_out_of_the_gradient() -> None:
    x = leaf([4.0, math.nan])
    value, slope = both_ways(lambda x: mg.where(mg.isfinite(x), mg.sqrt(x), 0.0), x)
    np.testing.assert_array_equal(value, [2.0, 0.0])
    assert slope[0] == 0.25
    y = mg.tensor([math.nan, 1.0])
    z = leaf([1.0, 2.0])
    np.testing.assert_array_equal(both_ways(lambda z: mg.where(mg.isfinite(y), y, z), z)[1], [1.0, 0.0])


def test_where_of_two_numbers_has_the_default_dtype() -> None:
    mask = mg.tensor([True, False])
    assert mg.where(mask, 1.0, 0.0).dtype == np.float32
    assert mg.where(mask, 1, 0).dtype == np.int64
    with mg.default_dtype("float64"):
        assert mg.where(mask, 1.0, 0.0).dtype == np.float64


def test_through_integers_no_gradient_flows() -> None:
    x = leaf([1.5, -2.5])
    whole = x.astype("int64")
    assert not whole.requires_grad
    np.testing.assert_array_equal(whole.numpy(), [1, -2])
    (slope,) = mg.grad((x * whole).sum(), x)
    np.testing.assert_array_equal(slope.numpy(), [1, -2])


def test_astype_brings_the_gradient_back_in_the_old_dtype() -> None:
    x = leaf([1.0, 2.0])
    inner = x * 1.0
    wide = inner.astype("float64")
    assert wide.dtype == np.float64
    assert mg.grad((wide * wide).sum(), inner)[0].dtype == np.float32


def test_gelu_is_near_the_exact_form() -> None:
    x = np.linspace(-4, 4, 81)
    exact = np.array([0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in x])
    assert np.abs(mg.gelu(mg.tensor(x)).numpy() - exact).max() < 5e-4


def test_dropout_keeps_the_mean_and_the_extremes() -> None:
    x = mg.ones(10_000)
    dropped = mg.dropout(x, 0.25).numpy()
    assert set(np.unique(dropped)) == {np.float32(0), np.float32(1 / 0.75)}
    assert dropped.mean() == pytest.approx(1.0, abs=0.02)
    assert mg.dropout(x, 1.0).numpy().max() == 0
    assert mg.dropout(x, 0.0) is x
    assert mg.dropout(x, 0.5, training=False) is x
