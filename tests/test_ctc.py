"""CTC against the sum over all alignments, written out."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from gradcheck import check_gradients
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.losses import ctc


def collapsed(path, blank):
    """A frame labelling with repeats merged, then blanks removed."""
    return tuple(symbol for symbol, _ in itertools.groupby(path) if symbol != blank)


def brute_force(log_probabilities, target, blank):
    """-log of the summed probabilities of all labellings of the frames (T, C) that collapse to the target."""
    frames, classes = log_probabilities.shape
    total = sum(
        math.exp(sum(log_probabilities[t, symbol] for t, symbol in enumerate(path)))
        for path in itertools.product(range(classes), repeat=frames)
        if collapsed(path, blank) == tuple(target)
    )
    return -math.log(total) if total > 0 else math.inf


def draw(seed, frames, batch, classes):
    logits = np.random.default_rng(seed).standard_normal((frames, batch, classes)) * 2
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


@st.composite
def problems(draw_from):
    """Log-probabilities (T, B, C), labels, both lengths, and the blank."""
    classes, frames = draw_from(st.integers(1, 3)), draw_from(st.integers(0, 5))
    blank = draw_from(st.integers(0, classes - 1))
    symbols = [symbol for symbol in range(classes) if symbol != blank]
    label = st.lists(st.sampled_from(symbols), max_size=4) if symbols else st.just([])
    labels = draw_from(st.lists(label, min_size=1, max_size=3))
    lengths = [draw_from(st.integers(0, frames)) for _ in labels]
    return draw(draw_from(st.integers(0, 2**20)), frames, len(labels), classes), labels, lengths, blank


@given(problem=problems())
def test_the_loss_sums_over_all_alignments(problem):
    values, labels, lengths, blank = problem
    size = max(map(len, labels))
    padded = np.full((len(labels), size), -100)
    for row, label in zip(padded, labels, strict=True):
        row[: len(label)] = label
    targets = mg.tensor(padded)
    sizes = list(map(len, labels))
    expected = [brute_force(values[:n, b], labels[b], blank) for b, n in enumerate(lengths)]
    frames = mg.tensor(values)
    found = ctc(frames, (targets, sizes), blank, "none", lengths=lengths).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)

    finite = [loss if loss < math.inf else 0.0 for loss in expected]
    zeroed = ctc(frames, (targets, sizes), blank, "none", True, lengths).numpy()
    np.testing.assert_allclose(zeroed, finite, rtol=1e-9, atol=1e-12)
    for reduction, value in [
        ("sum", sum(expected)),
        ("mean", np.mean([loss / max(n, 1) for loss, n in zip(expected, sizes, strict=True)])),
    ]:
        found = ctc(frames, (targets, mg.tensor(sizes)), blank, reduction, lengths=mg.tensor(lengths)).item()
        np.testing.assert_allclose(found, value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("labels", "lengths", "sizes"),
    [
        ([[1, 2]], [4], [2]),
        ([[1, 1]], [4], [2]),  # a repeat needs a blank between
        ([[1, 1, 2], [2, -1, -1], [-1, -1, -1]], [4, 3, 2], [3, 1, 0]),
    ],
)
def test_the_gradient_and_the_second(labels, lengths, sizes):
    values = mg.tensor(draw(0, 4, len(labels), 3), requires_grad=True)
    check_gradients(lambda x: ctc(mg.log_softmax(x), (labels, sizes), lengths=lengths), values, tolerance=3e-6)


def test_the_gradient_is_the_expected_count_of_symbols():
    """d loss / d log y_t(k) = -P(frame t carries k | target), by enumeration."""
    values, target = draw(1, 5, 1, 3), (1, 1, 2)
    weight, posterior = 0.0, np.zeros((5, 3))
    for path in itertools.product(range(3), repeat=5):
        if collapsed(path, 0) == target:
            p = math.exp(sum(values[t, 0, symbol] for t, symbol in enumerate(path)))
            weight += p
            for t, symbol in enumerate(path):
                posterior[t, symbol] += p
    x = mg.tensor(values, requires_grad=True)
    ctc(x, mg.tensor([target]), reduction="sum").backward()
    np.testing.assert_allclose(x.grad.numpy()[:, 0], -posterior / weight, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("zero_infinity", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_impossible_target_leaves_the_others_gradients_alone(dtype, zero_infinity):
    values = draw(2, 3, 2, 3).astype(dtype)
    x, alone = mg.tensor(values, requires_grad=True), mg.tensor(values[:, :1], requires_grad=True)
    losses = ctc(x, ([[1, 2], [1, 1]], [2, 2]), reduction="none", zero_infinity=zero_infinity, lengths=[3, 2])
    assert losses[1].item() == (0 if zero_infinity else math.inf)
    losses.sum().backward()
    ctc(alone, mg.tensor([[1, 2]]), reduction="sum").backward()
    np.testing.assert_array_equal(x.grad.numpy()[:, 1], 0)
    np.testing.assert_allclose(x.grad.numpy()[:, :1], alone.grad.numpy(), rtol=1e-6)
    assert np.abs(alone.grad.numpy()).max() > 0.1
    assert losses.dtype == x.grad.dtype == dtype


def test_probabilities_of_zero_are_no_trouble():
    values = draw(3, 4, 1, 3)
    values[2, 0, 1] = -np.inf
    x = mg.tensor(values, requires_grad=True)
    loss = ctc(x, mg.tensor([[1, 2]]), reduction="sum")
    np.testing.assert_allclose(loss.item(), brute_force(values[:, 0], [1, 2], 0), rtol=1e-10)
    loss.backward()
    assert np.isfinite(x.grad.numpy()).all()


def test_frames_past_the_end_are_not_read():
    values = draw(4, 5, 2, 3)
    padded = values.copy()
    padded[3:, 1] = np.nan
    x = mg.tensor(padded, requires_grad=True)
    labels, lengths = mg.tensor([[1, 2], [2, 1]]), [5, 3]
    loss = ctc(x, labels, lengths=lengths)
    loss.backward()
    assert loss.item() == ctc(mg.tensor(values), labels, lengths=lengths).item()
    np.testing.assert_array_equal(x.grad.numpy()[3:, 1], 0)
    assert np.isfinite(x.grad.numpy()).all()


def test_a_long_sequence_in_float32_stays_near_float64():
    values, labels = draw(5, 400, 2, 6), np.random.default_rng(5).integers(1, 6, (2, 60))
    exact = ctc(mg.tensor(values), mg.tensor(labels)).item()
    assert ctc(mg.tensor(values.astype("float32")), mg.tensor(labels)).item() == pytest.approx(exact, rel=1e-5)


def test_rows_of_labels_may_be_a_list_and_only_a_tuple_is_a_pair():
    frames = mg.tensor(draw(6, 4, 2, 3))
    labels = [[1, 2], [2, 1]]
    expected = ctc(frames, mg.tensor(labels)).item()
    assert ctc(frames, labels).item() == ctc(frames, (labels, [2, 2])).item() == expected
    assert mg.loss("ctc")(frames, labels).item() == expected
    assert ctc(frames, (labels, [2, 1])).item() == mg.loss("ctc")(frames, (labels, [2, 1])).item() != expected


FRAMES = np.zeros((4, 2, 3))
LABELS = np.array([[1, 2], [2, 1]])
BAD = {
    "two axes": (lambda: ctc(FRAMES[0], LABELS), ValueError, r"\(T, B, C\), time first"),
    "another batch": (lambda: ctc(FRAMES, LABELS[:1]), ValueError, r"targets have shape \(1, 2\).*\(2, S\)"),
    "labels in one row": (lambda: ctc(FRAMES, LABELS.ravel()), ValueError, "padded to the longest"),
    "float labels": (lambda: ctc(FRAMES, LABELS * 1.0), TypeError, "must be integers"),
    "the blank as a label": (lambda: ctc(FRAMES, LABELS, blank=2), IndexError, "targets hold 2; .* other than 2"),
    "no class": (lambda: ctc(FRAMES, LABELS + 2), IndexError, "targets hold 3, 4"),
    "blank": (lambda: ctc(FRAMES, LABELS, blank=3), ValueError, r"blank is 3; .* \[0, 3\)"),
    "too many frames": (lambda: ctc(FRAMES, LABELS, lengths=[5, 1]), ValueError, r"lengths\[0\] is 5; .* 0..4"),
    "too many labels": (lambda: ctc(FRAMES, (LABELS, [1, 3])), ValueError, r"targets' lengths.*: lengths\[1\] is 3"),
    "lengths of another batch": (lambda: ctc(FRAMES, LABELS, lengths=[4]), ValueError, "lengths must have 2 entries"),
    "lengths as the blank": (lambda: ctc(FRAMES, LABELS, [4, 4]), ValueError, r"blank is \[4, 4\]; .* an integer"),
    "a tuple of three": (
        lambda: ctc(FRAMES, (LABELS, [1, 1], [1, 1])),
        ValueError,
        r"a pair: \(labels, ",
    ),
    "no labels": (lambda: ctc(FRAMES, None), ValueError, "targets: "),
    "a text for a flag": (lambda: ctc(FRAMES, LABELS, zero_infinity="no"), ValueError, "zero_infinity is 'no'"),
    "reduction": (lambda: ctc(FRAMES, LABELS, reduction="max"), ValueError, "reduction is 'max'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call().numpy()  # on a GPU an index is told when a number is read
