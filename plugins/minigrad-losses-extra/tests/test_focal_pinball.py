"""The focal and the pinball loss against loops over their definitions."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from minigrad_losses_extra import focal, pinball

import minigrad as mg
from minigrad.losses import cross_entropy, mae
from minigrad.testing import check_gradients

ALPHA = [0.5, 1.0, 2.0, 0.25]


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def focal_by_loops(logits, targets, gamma, alpha):
    """The definition, at each position by itself, in long double."""
    losses = np.zeros(targets.shape)
    for place in np.ndindex(*targets.shape):
        row, y = logits[place].astype("longdouble"), targets[place]
        p = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
        losses[place] = -alpha[y] * (1 - p[y]) ** gamma * np.log(p[y])
    return losses


@pytest.mark.parametrize("gamma", [0, 0.5, 1, 2.0, 5])
@pytest.mark.parametrize("alpha", [None, ALPHA])
def test_focal_is_its_definition(gamma, alpha):
    logits, targets = 2 * draw(5, 3, 4), np.random.default_rng(1).integers(0, 4, (5, 3))
    expected = focal_by_loops(logits, targets, gamma, alpha or [1] * 4)
    np.testing.assert_allclose(focal(logits, targets, gamma, alpha, reduction="none").numpy(), expected, rtol=1e-10)
    assert focal(logits, targets, gamma, alpha).item() == pytest.approx(expected.mean())
    assert focal(logits, targets, gamma, alpha, reduction="sum").item() == pytest.approx(expected.sum())
    lengths = [5, 0, 2]
    counts = np.arange(5)[:, None] < np.array(lengths)
    found = focal(
        np.where(counts[..., None], logits, np.nan), np.where(counts, targets, -7), gamma, alpha, lengths=lengths
    )
    assert found.item() == pytest.approx(expected[counts].mean())
    ignored = np.where(counts, targets, -7)
    assert focal(logits, ignored, gamma, alpha, ignore_index=-7).item() == pytest.approx(expected[counts].mean())
    both = focal(logits, np.where(targets == 1, -7, ignored), gamma, alpha, ignore_index=-7, lengths=lengths)
    assert both.item() == pytest.approx(expected[counts & (targets != 1)].mean())


def test_focal_of_gamma_0_is_the_cross_entropy():
    logits, targets = draw(6, 4), np.random.default_rng(1).integers(0, 4, 6)
    assert focal(logits, targets, 0).item() == pytest.approx(cross_entropy(logits, targets).item(), rel=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 3.5])
def test_first_and_second_derivatives_of_focal(gamma):
    logits, targets = mg.tensor(draw(3, 2, 4), requires_grad=True), np.random.default_rng(1).integers(0, 4, (3, 2))
    results = check_gradients(lambda x: focal(x, targets, gamma, ALPHA, lengths=[3, 1]), logits)
    assert [result.status for result in results] == ["passed"] * len(results)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_focal_of_certain_answers_is_finite_with_its_derivatives(gamma, dtype):
    rows = [[1e4, 0, 0], [0, 1e4, 0], [60, 0, 0], [20, 0, 0], [0, 0, -math.inf]]
    logits = mg.tensor(rows, requires_grad=True, dtype=dtype)
    loss = focal(logits, mg.tensor([0, 0, 0, 0, 1]), gamma, reduction="none")
    (first,) = mg.grad(loss.sum(), logits, create_graph=True)
    (second,) = mg.grad(mg.square(first).sum(), logits)
    for tensor in (loss, first, second):
        assert np.isfinite(tensor.numpy()).all()
    np.testing.assert_allclose(loss.numpy()[[0, 1, 4]], [0, 1e4, 0.5**gamma * math.log(2)], rtol=1e-6, atol=1e-9)
    if dtype == "float64":
        rest = 2 * math.exp(-20)
        assert loss.numpy()[3] == pytest.approx((rest / (1 + rest)) ** gamma * math.log1p(rest), rel=1e-6)


def pinball_by_loops(outputs, targets, q):
    losses = np.zeros(outputs.shape)
    for place in np.ndindex(*outputs.shape):
        above = targets[place] - outputs[place]
        losses[place] = q * above if above >= 0 else (1 - q) * -above
    return losses


@pytest.mark.parametrize("q", [0.05, 0.5, 0.9])
def test_pinball_is_its_definition(q):
    outputs, targets = draw(5, 3, 2), draw(5, 3, 2, seed=1)
    expected = pinball_by_loops(outputs, targets, q)
    np.testing.assert_allclose(pinball(outputs, targets, q, "none").numpy(), expected, rtol=1e-12)
    assert pinball(outputs, targets, q).item() == pytest.approx(expected.mean())
    counts = np.arange(5)[:, None] < np.array([5, 0, 2])
    found = pinball(np.where(counts[..., None], outputs, np.nan), targets, q, lengths=[5, 0, 2])
    assert found.item() == pytest.approx(expected[counts].mean())


def test_pinball_of_several_quantiles_is_that_of_each():
    levels, outputs, targets = (0.1, 0.5, 0.9), draw(5, 2, 4, 3), draw(5, 2, 4, seed=1)
    expected = np.stack([pinball_by_loops(outputs[..., n], targets, q) for n, q in enumerate(levels)], axis=-1)
    for given in (levels, list(levels)):
        np.testing.assert_allclose(pinball(outputs, targets, given, "none").numpy(), expected, rtol=1e-12)
    counts = np.arange(5)[:, None] < np.array([4, 1])
    found = pinball(outputs, np.where(counts[..., None], targets, np.nan), levels, lengths=[4, 1])
    assert found.item() == pytest.approx(expected[counts].mean())
    single = pinball(outputs[..., :1], targets, (0.1,)).item()
    assert single == pytest.approx(pinball(outputs[..., 0], targets, 0.1).item())


def test_half_is_half_the_absolute_error():
    outputs, targets = draw(7), draw(7, seed=1)
    assert pinball(outputs, targets).item() == pytest.approx(mae(outputs, targets).item() / 2)


@pytest.mark.parametrize("q", [0.1, 0.5, 0.75])
def test_pinball_leads_to_the_quantile(q):
    samples = np.random.default_rng(0).gamma(2.0, size=2001)
    candidates = np.linspace(samples.min(), np.quantile(samples, 0.99), 4001)
    together = mg.broadcast_to(mg.tensor(candidates)[:, None], (4001, 2001))
    losses = pinball(together, np.broadcast_to(samples, (4001, 2001)), q, "none").numpy().mean(1)
    assert candidates[losses.argmin()] == pytest.approx(np.quantile(samples, q), abs=0.01)


def test_the_gradient_of_pinball_is_minus_q_below_1_minus_q_above_and_their_mean_between():
    outputs = mg.tensor([0.0, 2.0, 1.0], requires_grad=True)
    pinball(outputs, mg.ones(3), 0.9, "sum").backward()
    np.testing.assert_allclose(outputs.grad.numpy(), [-0.9, 0.1, -0.4])


BAD = {
    "q 0": (
        lambda: mg.loss("pinball", quantiles=0),
        ValueError,
        r"quantiles is 0; it must be a number in \(0, 1\), or",
    ),
    "q 1 among others": (lambda: mg.loss("pinball", quantiles=(0.5, 1)), ValueError, r"quantiles is \(0.5, 1\)"),
    "no q": (lambda: mg.loss("pinball", quantiles=()), ValueError, r"quantiles is \(\)"),
    "text": (lambda: pinball(np.ones(2), np.ones(2), "0.5"), ValueError, "quantiles is '0.5'"),
    "other shapes": (lambda: pinball(np.ones((3, 1)), np.ones(3)), ValueError, "must be equal"),
    "quantiles in another place": (
        lambda: pinball(np.ones((3, 2)), np.ones((3, 2)), (0.1, 0.9)),
        ValueError,
        r"with 2 quantiles outputs have the shape \(..., 2\), and targets \(...\); they are \(3, 2\) and \(3, 2\)",
    ),
    "gamma": (lambda: mg.loss("focal", gamma=-1), ValueError, "gamma is -1; it must be a number >= 0"),
    "gamma directly": (lambda: focal([[0.0, 1.0]], [0], gamma="2"), ValueError, "gamma is '2'"),
    "alpha": (lambda: focal([[0.0, 1.0]], [0], alpha=[1.0]), ValueError, r"alpha has shape \(1,\); with 2 classes"),
    "no such class": (lambda: focal([[0.0, 1.0]], [2]), IndexError, r"targets hold 2; .* \[0, 2\)"),
    "float targets": (lambda: focal([[0.0, 1.0]], [1.0]), TypeError, "must be integers"),
    "0-d": (lambda: focal(mg.tensor(1.0), 0), ValueError, "last axis of classes"),
    "unknown": (lambda: mg.loss("focal", weight=[1.0]), TypeError, "focal has no option weight; it has: gamma, alpha"),
    "reduction": (lambda: mg.loss("focal", reduction="avg"), ValueError, "reduction is 'avg'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call()


def test_by_name():
    logits, classes = draw(4, 2, 3), np.random.default_rng(0).integers(0, 3, (4, 2))
    assert (
        mg.loss("focal", gamma=1.0)(logits, classes, [4, 1]).item()
        == focal(logits, classes, 1.0, lengths=[4, 1]).item()
    )
    assert mg.loss("pinball", quantiles=0.2)(logits, logits + 1).item() == pytest.approx(0.2)
    assert mg.loss("soft_dtw", gamma=0.5, reduction="none")(logits, draw(6, 2, 3)).shape == (2,)


def test_the_readme_runs():
    blocks = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[1] / "README.md").read_text("utf-8"), re.DOTALL)
    assert blocks
    exec("\n".join(blocks), {})
