"""Initialisers: the distributions that their papers give, on large samples."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
import pytest

import minigrad as mg

SHAPE = (500, 800)  # fan_out, fan_in
UNIFORM = {
    "symmetric": (lambda: mg.init.symmetric_uniform(SHAPE, 0.3), 0.3),
    "xavier": (lambda: mg.init.xavier_uniform(SHAPE), sqrt(6 / 1300)),
    "xavier gain": (lambda: mg.init.xavier_uniform(SHAPE, gain=2.0), 2 * sqrt(6 / 1300)),
    "kaiming": (lambda: mg.init.kaiming_uniform(SHAPE), sqrt(6 / 800)),
    "kaiming gain": (lambda: mg.init.kaiming_uniform(SHAPE, gain=1.0), sqrt(3 / 800)),
}
NORMAL = {
    "xavier": (lambda: mg.init.xavier_normal(SHAPE), sqrt(2 / 1300)),
    "xavier gain": (lambda: mg.init.xavier_normal(SHAPE, gain=2.0), 2 * sqrt(2 / 1300)),
    "kaiming": (lambda: mg.init.kaiming_normal(SHAPE), sqrt(2 / 800)),
    "kaiming gain": (lambda: mg.init.kaiming_normal(SHAPE, gain=1.0), sqrt(1 / 800)),
}


@pytest.mark.parametrize(("draw", "bound"), UNIFORM.values(), ids=UNIFORM)
def test_uniform(draw: Any, bound: float) -> None:
    values = draw().numpy() / bound
    assert values.dtype == "float32"
    assert 0.9999 < np.abs(values).max() <= 1 + 1e-6
    shares, _ = np.histogram(values, bins=10, range=(-1.000001, 1.000001))
    np.testing.assert_allclose(shares / values.size, 0.1, atol=0.002)


@pytest.mark.parametrize(("draw", "std"), NORMAL.values(), ids=NORMAL)
def test_normal(draw: Any, std: float) -> None:
    values = draw().numpy().astype("float64") / std
    assert abs(values.mean()) < 0.006
    assert abs(values.std() - 1) < 0.005
    assert abs((values**4).mean() - 3) < 0.06
    assert abs((np.abs(values) < 1).mean() - 0.6827) < 0.003


def test_axes_beyond_the_second_count_as_inputs() -> None:
    values = mg.init.kaiming_uniform((100, 20, 5), gain=1.0).numpy()
    assert 0.999 * sqrt(3 / 100) < np.abs(values).max() <= sqrt(3 / 100) * (1 + 1e-6)


@pytest.mark.parametrize("shape", [(6, 6), (9, 4), (4, 9), (1, 5), (5, 1), (6, 2, 5), (50, 50)])
@pytest.mark.parametrize(("dtype", "accuracy"), [("float64", 1e-12), ("float32", 1e-6)])
def test_orthogonal(shape: tuple[int, ...], dtype: str, accuracy: float) -> None:
    with mg.default_dtype(dtype):
        w = mg.init.orthogonal(shape)
    assert w.shape == shape
    assert w.dtype == dtype
    matrix = w.numpy().astype("float64").reshape(shape[0], -1)
    product = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(product, np.eye(len(product)), atol=accuracy)


def test_orthogonal_is_uniform_over_rotations_and_reflections() -> None:
    """Elements have mean 0 and mean square 1/n, the trace mean 0 and variance 1, and half of the matrices reflect."""
    draws = np.stack([mg.init.orthogonal((3, 3)).numpy() for _ in range(4000)])
    np.testing.assert_allclose(draws.mean(0), 0, atol=0.04)
    np.testing.assert_allclose((draws**2).mean(0), 1 / 3, atol=0.02)
    traces = np.trace(draws, axis1=1, axis2=2)
    assert abs(traces.mean()) < 0.06
    assert abs(traces.var() - 1) < 0.1
    assert abs((np.linalg.det(draws) > 0).mean() - 0.5) < 0.03


def test_orthogonal_takes_a_gain() -> None:
    w = mg.init.orthogonal((5, 5), gain=3.0).numpy()
    np.testing.assert_allclose(w @ w.T, 9 * np.eye(5), atol=1e-5)


DRAWS = {
    name: getattr(mg.init, name)
    for name in ("xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal", "orthogonal")
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_one_seed_gives_the_same_draws_on_every_backend(draw: Any) -> None:
    mg.seed(9)
    here, next_here = draw((4, 6)), draw((4, 6))
    assert here.backend is mg.get_backend()
    mg.seed(9)
    with mg.use_backend("numpy"):
        host = draw((4, 6))
    np.testing.assert_array_equal(here.numpy(), host.numpy())
    assert np.abs(here.numpy() - next_here.numpy()).max() > 0.01


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_a_vector_has_no_fans(draw: Any) -> None:
    with pytest.raises(ValueError, match=r"this initialiser needs \(fan_out, fan_in, \.\.\.\); the shape is \(4,\)"):
        draw((4,))
