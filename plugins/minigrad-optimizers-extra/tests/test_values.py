"""Fifty steps of each optimizer against PyTorch's, or against NumPy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from minigrad_optimizers_extra import Lion, Lookahead, NAdam, RAdam

import minigrad as mg
from minigrad.optimizers import SGD, Adam

with np.load(Path(__file__).parent / "golden" / "optimizers.npz") as _file:
    GOLDEN = {name: _file[name] for name in _file.files}
CASES = json.loads(str(GOLDEN["cases"]))
CLASSES = {"nadam": NAdam, "radam": RAdam}
TOLERANCE = {"float64": 1e-12, "float32": 2e-5}


def path_of(optimizer, weights, gradients):
    """The weights after each step."""
    path = []
    for gradient in gradients:
        weights.grad = mg.tensor(gradient)
        optimizer.step()
        path.append(weights.numpy().copy())
    return np.stack(path)


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda number: f"{CASES[number]['name']}-{number}")
def test_fifty_steps_are_pytorchs(number):
    name, dtype, options = (CASES[number][key] for key in ("name", "dtype", "options"))
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    start, expected = GOLDEN[f"{number}/start"], GOLDEN[f"{number}/path"]
    weights = mg.Parameter(start)
    found = path_of(CLASSES[name]([weights], **options), weights, GOLDEN[f"{number}/gradients"])
    assert found.dtype == expected.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE[dtype])
    assert np.abs(expected[-1] - start).min() > 0.001
    assert len(expected) == 50


def test_radam_is_plain_momentum_at_first_and_rectified_later():
    """With b2 = 0.999 the rate is adaptive from the sixth step on: the size of gradients then no longer matters."""
    gradients = np.random.default_rng(0).standard_normal((8, 4))
    one, ten = mg.Parameter(np.zeros(4)), mg.Parameter(np.zeros(4))
    small = np.diff(path_of(RAdam([one], lr=0.1, eps=0.0), one, gradients), axis=0, prepend=0)
    large = np.diff(path_of(RAdam([ten], lr=0.1, eps=0.0), ten, 10 * gradients), axis=0, prepend=0)
    np.testing.assert_allclose(large[:5], 10 * small[:5], rtol=1e-9)
    np.testing.assert_allclose(large[5:], small[5:], rtol=1e-9)


def lion_in_numpy(start, gradients, lr, b1, b2, decay):
    """Program 1 of the paper, element by element."""
    weights, path = start.astype(float).ravel(), []
    momentum = np.zeros(weights.size)
    for gradient in gradients:
        for n, g in enumerate(gradient.ravel()):
            update = np.sign(momentum[n] * b1 + g * (1 - b1)) + weights[n] * decay
            momentum[n] = momentum[n] * b2 + g * (1 - b2)
            weights[n] = weights[n] - update * lr
        path.append(weights.reshape(start.shape).copy())
    return np.stack(path)


LION = [(1e-4, 0.9, 0.99, 0.0), (0.05, 0.95, 0.98, 0.3), (0.1, 0.0, 0.5, 0.0)]


@pytest.mark.parametrize(("lr", "b1", "b2", "decay"), LION)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_fifty_steps_of_lion_are_the_papers(lr, b1, b2, decay, dtype):
    generator = np.random.default_rng(2)
    start = generator.standard_normal((2, 3)).astype(dtype)
    gradients = generator.standard_normal((50, 2, 3)).astype(dtype)
    gradients[:3, 0] = 0
    weights = mg.Parameter(start)
    found = path_of(Lion([weights], lr=lr, betas=(b1, b2), weight_decay=decay), weights, gradients)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, lion_in_numpy(start, gradients, lr, b1, b2, decay), rtol=0, atol=TOLERANCE[dtype])


def test_lions_defaults_are_the_papers():
    group = Lion([mg.Parameter([1.0])]).groups[0]
    assert (group["lr"], group["betas"], group["weight_decay"]) == (1e-4, (0.9, 0.99), 0.0)


# --- lookahead


def slope(weights):
    """The gradient of something that is not quadratic."""
    return np.tanh(weights - 0.5) + 0.1 * weights


def momentum_in_numpy(weights, state, lr, momentum):
    state["b"] = momentum * state.get("b", 0.0) + slope(weights)
    return weights - lr * state["b"]


def adam_in_numpy(weights, state, lr, b1=0.9, b2=0.999, eps=1e-8):
    g = slope(weights)
    state["t"] = state.get("t", 0) + 1
    state["m"] = b1 * state.get("m", 0.0) + (1 - b1) * g
    state["v"] = b2 * state.get("v", 0.0) + (1 - b2) * g**2
    return weights - lr * state["m"] / (1 - b1 ** state["t"]) / (np.sqrt(state["v"] / (1 - b2 ** state["t"])) + eps)


INNER = {
    "sgd": (lambda w, state: momentum_in_numpy(w, state, 0.1, 0.9), {"lr": 0.1, "momentum": 0.9}),
    "adam": (lambda w, state: adam_in_numpy(w, state, 0.05), {"lr": 0.05}),
}


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize(("k", "alpha"), [(5, 0.5), (1, 0.3), (7, 1.0), (3, 0.8)])
def test_lookahead_is_algorithm_1(inner, k, alpha):
    fast_step, options = INNER[inner]
    start = np.random.default_rng(3).standard_normal(4)
    slow, state, expected = start, {}, []
    while len(expected) < 50:
        fast = slow
        for _ in range(k):
            fast = fast_step(fast, state)
            expected.append(fast)
        slow = slow + alpha * (fast - slow)
        expected[-1] = slow
    weights = mg.Parameter(start)
    optimizer = mg.optimizer("lookahead", [weights], inner=inner, k=k, alpha=alpha, **options)
    for step in range(50):
        weights.grad = mg.tensor(slope(weights.numpy()))
        optimizer.step()
        np.testing.assert_allclose(weights.numpy(), expected[step], rtol=0, atol=1e-12, err_msg=f"step {step}")


def test_lookahead_around_lookahead():
    weights, start = mg.Parameter([1.0]), 1.0
    optimizer = Lookahead(Lookahead(SGD([weights], lr=0.1), k=2, alpha=0.5), k=2, alpha=0.5)
    for expected in (0.9, (start + (0.9 - 0.1 * 1 - start) * 0.5 + start) / 2):
        weights.grad = mg.ones(1)
        optimizer.step()
        assert weights.item() == pytest.approx(expected)


def test_slow_weights_begin_where_the_weights_are_at_the_first_step():
    """Weights may be loaded after the optimizer has been made, or between two pulls' windows."""
    weights = mg.Parameter([100.0])
    optimizer = Lookahead(SGD([weights], lr=0.1), k=2, alpha=0.5)
    for start in (1.0, 7.0):
        weights.data = mg.tensor([start]).data
        for _ in range(2):
            weights.grad = mg.ones(1)
            optimizer.step()
        assert weights.item() == pytest.approx(start - 0.1)


def test_a_parameter_without_gradients_is_left_alone_bit_for_bit():
    used, unused, late = mg.Parameter([1.0]), mg.Parameter([-0.0]), mg.Parameter([1.0])
    array = unused.data
    optimizer = Lookahead(Adam([used, unused, late], lr=0.1), k=3, alpha=0.5)
    for step in range(5):
        used.grad, late.grad = mg.ones(1) if step < 3 else None, mg.ones(1) if step >= 2 else None
        optimizer.step()
        assert late.item() == pytest.approx([1.0, 1.0, 0.9, 0.8, 0.85][step])  # its own third step is the fifth
    assert unused.data is array
    assert used.item() == pytest.approx(0.85)


def test_a_step_that_is_refused_counts_for_nothing():
    weights = mg.Parameter([1.0])
    optimizer = Lookahead(SGD([weights], lr=0.1), k=2, alpha=0.5)
    weights.grad = mg.ones(1)
    optimizer.groups[0]["lr"] = -1
    with pytest.raises(ValueError, match="lr is -1"):
        optimizer.step()
    assert not optimizer.state
    optimizer.groups[0]["lr"] = 0.1
    weights.data = mg.tensor([2.0]).data
    for _ in range(2):
        optimizer.step()
    assert weights.item() == pytest.approx(1.9)
