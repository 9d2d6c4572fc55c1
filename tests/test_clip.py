"""Clipping of gradients by their joint norm and by value."""

from __future__ import annotations

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad.optimizers import clip_grad_norm, clip_grad_value


def with_gradients(*gradients, dtype="float32"):
    """A parameter for each gradient; None for a parameter without."""
    params = []
    for gradient in gradients:
        host = None if gradient is None else np.asarray(gradient, dtype)
        parameter = mg.Parameter(np.zeros(() if host is None else host.shape, dtype))
        parameter.grad = None if host is None else mg.tensor(host)
        params.append(parameter)
    return params


def joint(params):
    return math.sqrt(sum(float((p.grad.numpy().astype("float64") ** 2).sum()) for p in params if p.grad is not None))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("max_norm", [0.0, 0.5, 5.0])
def test_all_gradients_are_scaled_by_one_factor(dtype, max_norm):
    generator = np.random.default_rng(0)
    gradients = [3 * generator.standard_normal((4, 3)), None, 3 * generator.standard_normal(5), 2.0]
    params = with_gradients(*gradients, dtype=dtype)
    expected = math.sqrt(
        sum(float((np.asarray(g, dtype).astype("float64") ** 2).sum()) for g in gradients if g is not None)
    )
    norm = clip_grad_norm(iter(params), max_norm)
    assert type(norm) is float
    assert norm == pytest.approx(expected, rel=1e-12)
    assert norm > 5
    assert joint(params) == pytest.approx(max_norm, rel=1e-6)
    assert params[1].grad is None
    for parameter, gradient in zip(params, gradients, strict=True):
        if gradient is not None:
            np.testing.assert_allclose(parameter.grad.numpy(), np.asarray(gradient) * (max_norm / norm), rtol=1e-5)
            assert parameter.grad.dtype == dtype


def test_small_gradients_stay_the_very_same():
    params = with_gradients([3.0], [4.0])
    before = [p.grad for p in params]
    assert clip_grad_norm(params, 5.0) == 5.0
    assert clip_grad_norm(params, math.inf) == 5.0
    assert all(p.grad is gradient for p, gradient in zip(params, before, strict=True))


@pytest.mark.parametrize("clip", [clip_grad_norm, clip_grad_value])
def test_gradients_are_rebound_and_never_written_to(clip):
    params = with_gradients([3.0, -4.0])
    old, data = params[0].grad, params[0].data
    clip(params, 1.0)
    assert params[0].grad is not old
    np.testing.assert_array_equal(old.numpy(), [3, -4])
    assert params[0].data is data
    assert not params[0].grad.requires_grad


@pytest.mark.parametrize("bad", [math.inf, math.nan, -math.inf])
def test_a_norm_that_is_not_finite_is_returned_and_nothing_touched(bad):
    params = with_gradients([1.0, bad], [100.0])
    norm = clip_grad_norm(params, 1.0)
    assert math.isnan(norm) if math.isnan(bad) else norm == math.inf
    np.testing.assert_array_equal(params[0].grad.numpy(), [1.0, bad])
    np.testing.assert_array_equal(params[1].grad.numpy(), [100.0])


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_exploding_and_vanishing_float32_gradients_have_a_norm(size):
    params = with_gradients([3 * size], [4 * size])
    assert clip_grad_norm(params, 1.0) == pytest.approx(5 * size, rel=1e-6)
    expected = [0.6, 0.8] if size > 1 else [3 * size, 4 * size]
    np.testing.assert_allclose([p.grad.numpy()[0] for p in params], expected, rtol=1e-5)


def test_a_parameter_given_twice_counts_once():
    (parameter,) = with_gradients([3.0, 4.0])
    assert clip_grad_norm([parameter, parameter], 2.5) == 5.0
    np.testing.assert_allclose(parameter.grad.numpy(), [1.5, 2.0], rtol=1e-6)


def test_no_gradients_have_the_norm_zero():
    assert clip_grad_norm(with_gradients(None), 1.0) == 0.0


@pytest.mark.parametrize("clip", [clip_grad_norm, clip_grad_value])
def test_a_used_up_generator_is_refused(clip):
    params = mg.Linear(2, 2).parameters()
    list(params)
    with pytest.raises(ValueError, match="is empty"):
        clip(params, 1.0)


def test_a_parameter_alone():
    (parameter,) = with_gradients([3.0, 4.0])
    assert clip_grad_norm(parameter, 10.0) == 5.0
    clip_grad_value(parameter, 3)
    np.testing.assert_array_equal(parameter.grad.numpy(), [3, 3])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_each_element_is_limited(dtype):
    params = with_gradients([[-3.0, 0.5], [math.inf, math.nan]], None, 2.0, dtype=dtype)
    clip_grad_value(params, 1.5)
    np.testing.assert_array_equal(params[0].grad.numpy(), [[-1.5, 0.5], [1.5, math.nan]])
    assert params[1].grad is None
    assert params[2].grad.item() == 1.5
    assert params[0].grad.dtype == params[2].grad.dtype == dtype


@pytest.mark.parametrize("limit", [-1.0, math.nan, "1", None, True])
@pytest.mark.parametrize(("clip", "name"), [(clip_grad_norm, "max_norm"), (clip_grad_value, "limit")])
def test_a_limit_must_not_be_negative(clip, name, limit):
    with pytest.raises(ValueError, match=f"{name} is {limit!r}; it must be a number >= 0"):
        clip([], limit)
