"""Soft-DTW against sums over all alignments, against the paper's algorithms in plain loops, and on odd input."""

from __future__ import annotations

import numpy as np
import pytest
from minigrad_losses_extra import soft_dtw

import minigrad as mg
from minigrad.testing import check_gradients


def distances(x, y):
    return ((x[:, None, :] - y[None, :, :]) ** 2).sum(-1)


def alignments(steps, target_steps):
    """All paths from (0, 0) to the last cell, as lists of cells."""
    paths, finished = [[(0, 0)]], []
    while paths:
        path = paths.pop()
        i, j = path[-1]
        if (i, j) == (steps - 1, target_steps - 1):
            finished.append(path)
        cells = (i + 1, j), (i, j + 1), (i + 1, j + 1)
        paths.extend([*path, cell] for cell in cells if cell[0] < steps and cell[1] < target_steps)
    return finished


def by_all_alignments(x, y, gamma):
    d = distances(x, y)
    costs = np.array([sum(d[cell] for cell in path) for path in alignments(len(x), len(y))])
    return costs.min() - gamma * np.log(np.exp((costs.min() - costs) / gamma).sum())


def by_loops(x, y, gamma):
    """The value and the gradient of x by algorithms 1 and 2 of the paper."""
    n, m = len(x), len(y)
    d = np.zeros((n + 2, m + 2))
    d[1 : n + 1, 1 : m + 1] = distances(x, y)
    r = np.full((n + 2, m + 2), np.inf)
    r[0, 0] = 0
    for j in range(1, m + 1):
        for i in range(1, n + 1):
            before = np.array([r[i - 1, j - 1], r[i - 1, j], r[i, j - 1]])
            smallest = before.min()
            r[i, j] = d[i, j] + smallest - gamma * np.log(np.exp((smallest - before) / gamma).sum())
    e = np.zeros((n + 2, m + 2))
    r[:, m + 1] = r[n + 1, :] = -np.inf
    r[n + 1, m + 1], e[n + 1, m + 1] = r[n, m], 1
    for j in range(m, 0, -1):
        for i in range(n, 0, -1):
            a = np.exp((r[i + 1, j] - r[i, j] - d[i + 1, j]) / gamma)
            b = np.exp((r[i, j + 1] - r[i, j] - d[i, j + 1]) / gamma)
            c = np.exp((r[i + 1, j + 1] - r[i, j] - d[i + 1, j + 1]) / gamma)
            e[i, j] = e[i + 1, j] * a + e[i, j + 1] * b + e[i + 1, j + 1] * c
    weights = e[1 : n + 1, 1 : m + 1]
    return r[n, m], (2 * weights[:, :, None] * (x[:, None, :] - y[None, :, :])).sum(1)


def draw(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize(("steps", "target_steps"), [(1, 1), (1, 4), (4, 1), (3, 5), (5, 3), (4, 4)])
@pytest.mark.parametrize("gamma", [0.1, 1.0, 5.0])
def test_it_is_the_soft_minimum_over_all_alignments(steps, target_steps, gamma):
    x, y = draw(1, steps, 2, 3), draw(2, target_steps, 2, 3)
    found = soft_dtw(x, y, gamma, reduction="none").numpy()
    expected = [by_all_alignments(x[:, b], y[:, b], gamma) for b in range(2)]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("steps", "target_steps"), [(9, 9), (12, 7), (1, 6), (30, 41)])
@pytest.mark.parametrize("gamma", [0.05, 1.0])
def test_values_and_gradients_are_those_of_the_papers_algorithms(steps, target_steps, gamma):
    x, y = draw(3, steps, 3, 2), draw(4, target_steps, 3, 2)
    outputs = mg.tensor(x, requires_grad=True)
    found = soft_dtw(outputs, y, gamma, reduction="none")
    found.sum().backward()
    expected = [by_loops(x[:, b], y[:, b], gamma) for b in range(3)]
    np.testing.assert_allclose(found.numpy(), [value for value, _ in expected], rtol=1e-11)
    gradient = np.stack([gradient for _, gradient in expected], axis=1)
    np.testing.assert_allclose(outputs.grad.numpy(), gradient, rtol=0, atol=1e-9 * np.abs(gradient).max())


def test_first_and_second_derivatives_of_outputs_and_targets():
    x, y = (mg.tensor(draw(seed, steps, 2, 2), requires_grad=True) for seed, steps in ((5, 4), (6, 3)))
    results = check_gradients(lambda x, y: soft_dtw(x, (y, [3, 2]), 0.7, lengths=[4, 2]), x, y)
    assert [result.status for result in results] == ["passed"] * len(results)
    assert len(results) >= 2


def test_with_lengths_each_sequence_is_as_if_alone_whatever_is_in_the_padding():
    x, y, ends, target_ends = draw(7, 6, 4, 2), draw(8, 5, 4, 2), [6, 3, 1, 0], [2, 5, 4, 0]
    expected = [
        by_loops(x[:n, b], y[:m, b], 0.5)[0] if n else 0 for b, (n, m) in enumerate(zip(ends, target_ends, strict=True))
    ]
    for b in range(4):
        x[ends[b] :, b] = np.nan
        y[target_ends[b] :, b] = np.nan
    outputs, targets = mg.tensor(x, requires_grad=True), mg.tensor(y, requires_grad=True)
    found = soft_dtw(outputs, (targets, target_ends), 0.5, "none", lengths=ends)
    found.sum().backward()
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-11)
    for tensor, limits in ((outputs, ends), (targets, target_ends)):
        counts = np.arange(len(tensor))[:, None] < np.array(limits)
        gradient = tensor.grad.numpy()
        np.testing.assert_array_equal(gradient[~counts], 0)
        assert np.isfinite(gradient).all()
        assert (np.abs(gradient[counts]).max(-1) > 0).all()
    mean, total = (soft_dtw(x, (y, target_ends), 0.5, name, lengths=ends).item() for name in ("mean", "sum"))
    assert total == pytest.approx(sum(expected))
    assert mean == pytest.approx(sum(expected) / 3)  # over the sequences that have steps


def test_targets_of_as_many_steps_have_the_outputs_lengths():
    x, y = draw(9, 5, 2, 3), draw(10, 5, 2, 3)
    both = soft_dtw(x, y, lengths=[5, 3]).item()
    assert both == soft_dtw(x, (y, [5, 3]), lengths=[5, 3]).item()
    assert both != soft_dtw(x, (y, None), lengths=[5, 3]).item()
    own = np.array([5, 3])
    assert soft_dtw(x, (draw(11, 6, 2, 3), own), lengths=own).shape == ()


def test_with_a_small_gamma_it_is_dynamic_time_warping():
    x, y = draw(12, 8, 1, 2), draw(13, 6, 1, 2)
    d, best = distances(x[:, 0], y[:, 0]), {(-1, -1): 0.0}
    for i in range(8):
        for j in range(6):
            before = [best.get(cell, np.inf) for cell in ((i - 1, j), (i, j - 1), (i - 1, j - 1))]
            best[i, j] = d[i, j] + min(before)
    assert soft_dtw(x, y, gamma=1e-4).item() == pytest.approx(best[7, 5], abs=1e-3)


def test_a_sequence_at_another_speed_is_near_and_a_shuffled_one_is_far():
    time = np.linspace(0, 6, 40)
    x = np.sin(time)[:, None, None]
    slower = np.sin(np.linspace(0, 6, 70))[:, None, None]
    shuffled = np.random.default_rng(0).permutation(slower)
    assert soft_dtw(x, slower, gamma=0.001).item() < 0.2 < 5 < soft_dtw(x, shuffled, gamma=0.001).item()


def test_large_offsets_lose_nothing_in_float32():
    x, y = draw(14, 6, 2, 3), draw(15, 5, 2, 3)
    found = soft_dtw(mg.tensor(x + 1024, dtype="float32"), mg.tensor(y + 1024, dtype="float32"))
    assert found.dtype == "float32"
    near = [values.astype("float32").astype("float64") - 1024 for values in (x + 1024, y + 1024)]
    assert found.item() == pytest.approx(soft_dtw(*near).item(), rel=1e-5)


@pytest.mark.parametrize(
    ("x", "y", "lengths", "target_lengths"),
    [
        ((0, 2, 3), (0, 2, 3), None, None),
        ((4, 2, 3), (4, 2, 3), [0, 0], [0, 0]),
        ((4, 2, 3), (0, 2, 3), [0, 0], None),
        ((0, 2, 3), (4, 2, 3), None, [0, 0]),
        ((4, 0, 3), (5, 0, 3), None, None),
    ],
)
def test_nothing_to_align_is_zero(x, y, lengths, target_lengths):
    for reduction in ("mean", "sum", "none"):
        outputs, targets = mg.tensor(np.ones(x), requires_grad=True), mg.tensor(np.ones(y), requires_grad=True)
        loss = soft_dtw(outputs, (targets, target_lengths), reduction=reduction, lengths=lengths)
        loss.sum().backward()
        assert not loss.numpy().any()
        np.testing.assert_array_equal(outputs.grad.numpy(), np.zeros(x))


BAD = {
    "two axes": (lambda: soft_dtw(np.ones((4, 2)), np.ones((4, 2))), ValueError, r"\(4, 2\); it must be \(T, B, F\)"),
    "another batch": (
        lambda: soft_dtw(np.ones((4, 2, 3)), np.ones((5, 1, 3))),
        ValueError,
        r"targets have shape \(5, 1, 3\); .* \(S, 2, 3\)",
    ),
    "other features": (lambda: soft_dtw(np.ones((4, 2, 3)), np.ones((4, 2, 1))), ValueError, r"\(S, 2, 3\)"),
    "one length for two": (
        lambda: soft_dtw(np.ones((4, 1, 3)), np.ones((5, 1, 3)), lengths=[2]),
        ValueError,
        r"targets have 5 steps where outputs have 4: .* targets=\(targets, target_lengths\)",
    ),
    "three in a tuple": (lambda: soft_dtw(np.ones((4, 1, 3)), (1, 2, 3)), ValueError, "a tuple of 3"),
    "too long": (
        lambda: soft_dtw(np.ones((4, 1, 3)), np.ones((4, 1, 3)), lengths=[5]),
        ValueError,
        r"lengths\[0\] is 5",
    ),
    "too long targets": (
        lambda: soft_dtw(np.ones((4, 1, 3)), (np.ones((4, 1, 3)), [5])),
        ValueError,
        r"lengths of the targets.*lengths\[0\] is 5",
    ),
    "nothing to align with": (
        lambda: soft_dtw(np.ones((4, 2, 3)), (np.ones((4, 2, 3)), [4, 0])),
        ValueError,
        "sequence 1 has 4 steps and its target 0",
    ),
    "gamma 0": (lambda: mg.loss("soft_dtw", gamma=0), ValueError, "gamma is 0; it must be a number > 0"),
    "gamma True": (lambda: mg.loss("soft_dtw", gamma=True), ValueError, "gamma is True"),
    "gamma directly": (lambda: soft_dtw(np.ones((4, 1, 3)), np.ones((4, 1, 3)), gamma=-1), ValueError, "gamma is -1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call()
