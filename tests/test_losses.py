"""Losses against PyTorch's values, against runs without padding, and on input that does not fit."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import numpy as np
import pytest
from gradcheck import check_gradients
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import losses
from minigrad.losses import bce_with_logits, cross_entropy, ctc, huber, mae, mse, nll

with np.load(Path(__file__).parent / "golden" / "losses.npz") as _file:
    GOLDEN = {name: _file[name] for name in _file.files}
CASES = json.loads(str(GOLDEN["cases"]))
FUNCTIONS = {f.__name__: f for f in (bce_with_logits, cross_entropy, ctc, huber, mae, mse, nll)}


def golden(name):
    """(number, options, arrays) of the cases of one loss."""
    for number, case in enumerate(CASES):
        if case["name"] == name:
            yield number, case["options"], {part: GOLDEN[f"{number}/{part}"] for part in case["arrays"]}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_gradients_are_pytorchs(name):
    count = 0
    for number, options, arrays in golden(name):
        expected = {part: arrays.pop(part) for part in ("value", "gradient", "seed")}
        outputs = mg.tensor(arrays.pop("outputs"), requires_grad=True)
        log_softmax = name == "ctc"
        inputs = {part: mg.tensor(array) for part, array in arrays.items()}
        if log_softmax:
            inputs["targets"] = inputs["targets"], inputs.pop("target_lengths", None)
            inputs["lengths"] = inputs.pop("input_lengths", None)
        value = FUNCTIONS[name](mg.log_softmax(outputs) if log_softmax else outputs, **inputs, **options)
        value.backward(mg.tensor(expected["seed"]))
        assert value.dtype == expected["value"].dtype == outputs.grad.dtype
        tolerance = 1e-12 if value.dtype == "float64" else 3e-6
        for found, part in ((value, "value"), (outputs.grad, "gradient")):
            scale = tolerance * (1 + np.abs(expected[part]).max())
            np.testing.assert_allclose(found.numpy(), expected[part], rtol=0, atol=scale, err_msg=f"{number} {options}")
        count += 1
    assert count >= 6


# --- every loss in one table: (name, options, outputs' trailing shape, how to draw targets)

CLASSES = 4


def _indices(generator, shape):
    return generator.integers(0, CLASSES, shape[:-1])


def _probabilities(generator, shape):
    return generator.dirichlet(np.ones(shape[-1]), shape[:-1])


def _values(generator, shape):
    return generator.standard_normal(shape)


def _answers(generator, shape):
    return generator.uniform(0, 1, shape)


WEIGHT = np.array([0.5, 1.0, 2.0, 0.25])
TABLE = [
    ("cross_entropy", {}, _indices),
    ("cross_entropy", {"weight": WEIGHT, "label_smoothing": 0.2}, _indices),
    ("cross_entropy", {"weight": WEIGHT, "ignore_index": 2, "label_smoothing": 0.2}, _indices),
    ("cross_entropy", {"weight": WEIGHT, "label_smoothing": 0.2}, _probabilities),
    ("nll", {"weight": WEIGHT}, _indices),
    ("nll", {"ignore_index": 0}, _indices),
    ("bce_with_logits", {}, _answers),
    ("bce_with_logits", {"pos_weight": WEIGHT}, _answers),
    ("mse", {}, _values),
    ("mae", {}, _values),
    ("huber", {"delta": 0.7}, _values),
]
table = pytest.mark.parametrize(("name", "options", "draw"), TABLE)


@table
@given(steps=st.integers(1, 5), lengths=st.lists(st.integers(0, 5), min_size=1, max_size=4), seed=st.integers(0, 2**20))
def test_padding_counts_nowhere(name, options, draw, steps, lengths, seed):
    """A padded batch gives what its sequences give end to end, whatever stands in the padding: here NaN."""
    lengths = [min(length, steps) for length in lengths]
    generator = np.random.default_rng(seed)
    shape = (steps, len(lengths), CLASSES)
    outputs, targets = generator.standard_normal(shape), draw(generator, shape)
    real = np.arange(steps)[:, None] < np.array(lengths)
    padded_outputs, padded_targets = outputs.copy(), targets.copy()
    padded_outputs[~real] = np.nan
    padded_targets[~real] = np.nan if targets.dtype.kind == "f" else -100
    loss = FUNCTIONS[name]
    for reduction in ("mean", "sum", "none"):
        x = mg.tensor(padded_outputs, requires_grad=True)
        y = mg.tensor(outputs[real], requires_grad=True)
        value = loss(x, mg.tensor(padded_targets), lengths=mg.tensor(lengths), reduction=reduction, **options)
        flat = loss(y, mg.tensor(targets[real]), reduction=reduction, **options)
        value.backward(mg.ones(value.shape, dtype="float64"))
        flat.backward(mg.ones(flat.shape, dtype="float64"))
        found = value.numpy()[real] if reduction == "none" else value.numpy()
        np.testing.assert_allclose(found, flat.numpy(), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(x.grad.numpy()[real], y.grad.numpy(), rtol=1e-12, atol=1e-14)
        np.testing.assert_array_equal(x.grad.numpy()[~real], 0)
        if reduction == "none":
            np.testing.assert_array_equal(value.numpy()[~real], 0)


@table
def test_the_first_and_second_derivative(name, options, draw):
    generator = np.random.default_rng(3)
    shape = (3, 2, CLASSES)
    outputs = mg.tensor(generator.standard_normal(shape), requires_grad=True)
    targets = mg.tensor(draw(generator, shape))
    check_gradients(lambda x: FUNCTIONS[name](x, targets, lengths=[3, 1], **options), outputs)


@pytest.mark.parametrize("name", ["mse", "huber", "bce_with_logits", "cross_entropy"])
def test_gradients_flow_to_floating_targets(name):
    generator = np.random.default_rng(4)
    outputs = mg.tensor(generator.standard_normal((3, 4)))
    targets = mg.tensor(generator.uniform(0.1, 0.9, (3, 4)), requires_grad=True)
    check_gradients(lambda y: FUNCTIONS[name](outputs, y), targets)


@table
def test_padding_is_absent_from_second_derivatives_and_from_those_of_targets(name, options, draw):
    generator = np.random.default_rng(7)
    shape, real = (3, 2, CLASSES), np.array([[True, True], [True, False], [True, False]])
    outputs, targets = generator.standard_normal(shape), draw(generator, shape)
    floating = targets.dtype.kind == "f"
    outputs[~real], targets[~real] = np.nan, np.nan if floating else -100
    x, y = mg.tensor(outputs, requires_grad=True), mg.tensor(targets, requires_grad=floating)
    loss = FUNCTIONS[name](x, y, lengths=[3, 1], **options)
    wanted = [x, y] if floating else [x]
    first = mg.grad(mg.square(loss), wanted, create_graph=True)
    second = mg.grad(mg.square(first[0]).sum(), wanted)
    for gradient in (*first, *second):
        assert np.isfinite(gradient.numpy()[real]).all()
        np.testing.assert_array_equal(gradient.numpy()[~real], 0)
    assert all(np.abs(gradient.numpy()[real]).max() > 0 for gradient in first)


@table
def test_a_mean_over_nothing_is_zero(name, options, draw):
    targets = draw(np.random.default_rng(0), (2, 3, CLASSES))
    outputs = mg.ones((2, 3, CLASSES), requires_grad=True)
    value = FUNCTIONS[name](outputs, mg.tensor(targets), lengths=[0, 0, 0], **options)
    value.backward()
    assert value.item() == 0
    np.testing.assert_array_equal(outputs.grad.numpy(), np.zeros((2, 3, CLASSES)))


def test_a_batch_with_every_target_ignored_is_zero():
    logits = mg.ones((3, 2), requires_grad=True)
    value = cross_entropy(logits, mg.tensor([-1, -1, -1]), ignore_index=-1, weight=[1.0, 2.0])
    value.backward()
    assert value.item() == 0
    np.testing.assert_array_equal(logits.grad.numpy(), 0)


@table
def test_float32_stays_float32(name, options, draw):
    targets = draw(np.random.default_rng(0), (2, 3, CLASSES))
    outputs = mg.ones((2, 3, CLASSES), requires_grad=True)
    value = FUNCTIONS[name](outputs, mg.tensor(targets), lengths=[2, 1, 0], **options)
    value.backward()
    assert value.dtype == outputs.grad.dtype == "float32"


def test_huge_logits_lose_nothing():
    logits = mg.tensor([[1e4, 1e4 - 1], [-1e4, 1e4]])
    expected = [np.log1p(np.exp(-1)), 2e4]
    np.testing.assert_allclose(cross_entropy(logits, mg.tensor([0, 0]), reduction="none").numpy(), expected, rtol=1e-6)
    answers = mg.tensor([1.0, 0.0, 1.0, 0.0])
    found = bce_with_logits(mg.tensor([30.0, -30.0, -1e4, 1e4]), answers, reduction="none")
    np.testing.assert_allclose(found.numpy(), [np.exp(-30), np.exp(-30), 1e4, 1e4], rtol=1e-6)


def test_integer_targets_of_a_regression_are_taken_as_floats():
    value = mse(mg.tensor([1.5, 2.0]), mg.tensor([1, 4]))
    assert value.dtype == "float32"
    assert value.item() == 2.125


def test_targets_and_lengths_may_be_host_data():
    logits = mg.tensor(np.random.default_rng(0).standard_normal((2, 2, 3)))
    targets = [[0, 2], [1, 0]]
    found = cross_entropy(logits, targets, lengths=np.array([2, 1])).item()
    assert found == cross_entropy(logits, mg.tensor(targets), lengths=mg.tensor([2, 1])).item()


# --- input that does not fit

LOGITS = [[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]]
BAD = {
    "one column against a vector": (lambda: mse(mg.ones((3, 1)), mg.ones(3)), ValueError, r"\(3,\).*\(3, 1\)"),
    "the same, mae": (lambda: mae(mg.ones(3), mg.ones((3, 1))), ValueError, "must be equal"),
    "the same, huber": (lambda: huber(mg.ones(3), mg.ones((3, 1))), ValueError, "must be equal"),
    "the same, binary": (lambda: bce_with_logits(mg.ones(3), mg.ones(1)), ValueError, "must be equal"),
    "unknown reduction": (lambda: mse(mg.ones(1), mg.ones(1), reduction="avg"), ValueError, "'mean', 'sum', 'none'"),
    "delta 0": (lambda: huber(mg.ones(1), mg.ones(1), delta=0), ValueError, "delta is 0; it must be a number > 0"),
    "weight too large": (
        lambda: bce_with_logits(mg.ones(3), mg.ones(3), weight=mg.ones((2, 3))),
        ValueError,
        r"weight has shape \(2, 3\)",
    ),
    "pos_weight of another size": (
        lambda: bce_with_logits(mg.ones((2, 3)), mg.ones((2, 3)), pos_weight=mg.ones(2)),
        ValueError,
        r"pos_weight has shape \(2,\)",
    ),
    "target too large": (lambda: cross_entropy(LOGITS, [0, 3]), IndexError, r"targets hold 3; .* \[0, 3\)"),
    "target negative": (lambda: cross_entropy(LOGITS, [-100, 1]), IndexError, "hold -100; .* ignore_index=-100"),
    "complex outputs": (lambda: mse(mg.tensor([1j]), mg.ones(1)), TypeError, "outputs are complex128; .* real"),
    "complex targets": (lambda: huber(mg.ones(1), mg.tensor([1j])), TypeError, "targets are complex128"),
    "complex logits": (lambda: cross_entropy(mg.tensor([[1j]]), [0]), TypeError, "outputs are complex128"),
    "no targets": (lambda: cross_entropy(LOGITS, None), ValueError, "targets: .*None"),
    "no targets, mae": (lambda: mae(mg.ones(1), None), ValueError, "targets: .*None"),
    "text for delta": (lambda: huber(mg.ones(1), mg.ones(1), delta="1"), ValueError, "delta is '1'; .* a number"),
    "text for smoothing": (lambda: cross_entropy(LOGITS, [0, 1], label_smoothing="a"), ValueError, "label_smoothing"),
    "one number of lengths": (lambda: mse(mg.ones((4, 2)), mg.ones((4, 2)), lengths=3), ValueError, "lengths"),
    "a set of lengths": (
        lambda: mse(mg.ones((4, 2)), mg.ones((4, 2)), lengths={1, 3}),
        (TypeError, ValueError),
        "{1, 3}",
    ),
    "nll target": (lambda: nll(LOGITS, [7, 9]), IndexError, "targets hold 7, 9"),
    "float indices": (lambda: cross_entropy(LOGITS, [0.0, 1.0]), ValueError, "astype.'int64'"),
    "float indices, nll": (lambda: nll(LOGITS, [0.0, 1.0]), TypeError, "targets are float32"),
    "classes in second place": (
        lambda: cross_entropy(mg.ones((2, 5, 4)), mg.zeros((2, 4), dtype="int64")),
        ValueError,
        "class axis is the last",
    ),
    "ignored probabilities": (lambda: cross_entropy(LOGITS, LOGITS, ignore_index=0), ValueError, "ignore_index"),
    "smoothing": (lambda: cross_entropy(LOGITS, [0, 1], label_smoothing=1.5), ValueError, r"1.5; .* \[0, 1\]"),
    "class weights": (lambda: cross_entropy(LOGITS, [0, 1], weight=[1.0, 2.0]), ValueError, r"weight .* \(3,\)"),
    "no class axis": (lambda: cross_entropy(mg.tensor(1.0), 0), ValueError, "last axis of classes"),
    "lengths of another batch": (
        lambda: mse(mg.ones((4, 3)), mg.ones((4, 3)), lengths=[1, 2]),
        ValueError,
        "lengths must have 3 entries",
    ),
    "lengths too long": (
        lambda: mse(mg.ones((4, 2)), mg.ones((4, 2)), lengths=mg.tensor([1, 5])),
        ValueError,
        r"lengths\[1\] is 5; .* 0..4",
    ),
    "negative length": (lambda: mse(mg.ones((4, 1)), mg.ones((4, 1)), lengths=[-1]), ValueError, r"lengths\[0\] is -1"),
    "float lengths": (lambda: mse(mg.ones((4, 1)), mg.ones((4, 1)), lengths=[1.5]), TypeError, "must be integers"),
    "lengths without time": (lambda: mse(mg.ones(4), mg.ones(4), lengths=[1]), ValueError, "time first"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call().numpy()  # on a GPU an index is told when a number is read


# --- as plugins


def test_factories_fix_options_and_take_lengths_third():
    factories = losses.minigrad_losses()
    assert set(factories) == set(FUNCTIONS) <= set(losses.__all__)
    generator = np.random.default_rng(5)
    logits, targets = mg.tensor(generator.standard_normal((3, 2, 4))), mg.tensor(generator.integers(0, 4, (3, 2)))
    loss = factories["cross_entropy"](label_smoothing=0.1, reduction="sum")
    expected = cross_entropy(logits, targets, label_smoothing=0.1, reduction="sum", lengths=[3, 1])
    assert loss(logits, targets, [3, 1]).item() == loss(logits, targets, lengths=[3, 1]).item() == expected.item()
    assert expected.item() != loss(logits, targets).item()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_factories_refuse_unknown_options_at_once(name):
    factory = losses.minigrad_losses()[name]
    with pytest.raises(TypeError, match=rf"{name} has no option wieght; it has: .*reduction"):
        factory(wieght=1)
    with pytest.raises(TypeError, match="has no option lengths"):
        factory(lengths=[1])
    assert list(inspect.signature(factory()).parameters) == ["outputs", "targets", "lengths"]


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("mse", "reduction", "men"),
        ("mae", "reduction", None),
        ("cross_entropy", "label_smoothing", 3),
        ("nll", "ignore_index", "pad"),
        ("huber", "delta", -1.0),
        ("ctc", "blank", -1),
    ],
)
def test_factories_refuse_bad_values_at_once(name, option, value):
    with pytest.raises(ValueError, match=f"{option} is {value!r}; it must be"):
        mg.loss(name, **{option: value})


def test_ctc_from_the_registry_takes_labels_with_their_lengths():
    generator = np.random.default_rng(6)
    log_probabilities = mg.log_softmax(mg.tensor(generator.standard_normal((6, 2, 4))))
    labels, sizes, lengths = mg.tensor([[1, 2], [3, 1]]), [2, 1], [6, 4]
    loss = mg.loss("ctc", reduction="sum")
    expected = ctc(log_probabilities, (labels, sizes), lengths=lengths, reduction="sum").item()
    assert loss(log_probabilities, (labels, sizes), lengths=lengths).item() == expected
    assert loss(log_probabilities, labels).item() == ctc(log_probabilities, labels, reduction="sum").item() != expected


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_factorys_example_is_what_the_loss_takes(name):
    factory = losses.minigrad_losses()[name]
    outputs, targets = factory.example(np.random.default_rng(0))
    again, _ = factory.example(np.random.default_rng(0))
    other, _ = factory.example(np.random.default_rng(1))
    assert type(outputs) is np.ndarray
    assert outputs.dtype == "float64"
    np.testing.assert_array_equal(outputs, again)
    assert not (outputs == other).any()
    value = factory()(mg.tensor(outputs), mg.tensor(targets))
    assert np.isfinite(value.item())
    assert value.item() > 0
    if name in ("nll", "ctc"):
        np.testing.assert_allclose(np.exp(outputs).sum(-1), 1)


# --- losses of one's own


def scaled(outputs, targets, scale=1.0, power=2, reduction="mean", lengths=None):
    """|outputs - targets|**power / scale."""
    outputs, targets, mask = losses.paired(outputs, targets, lengths)
    return losses.reduce(mg.abs(outputs - targets) ** power / scale, reduction, mask)


def check_scaled(scale=1.0, **others):
    losses.check_option("scale", scale, losses.is_number(scale) and scale > 0, "a number > 0")


def test_a_loss_of_ones_own_goes_through_the_same_door():
    outputs, targets = mg.tensor([[1.0, 5.0], [np.nan, 2.0]], requires_grad=True), mg.zeros((2, 2))
    loss = losses.factory(scaled, check=check_scaled)(scale=2.0, reduction="sum")
    value = loss(outputs, targets, [1, 2])
    value.backward()
    assert value.item() == (1 + 25 + 4) / 2
    np.testing.assert_array_equal(outputs.grad.numpy(), [[1, 5], [0, 2]])
    assert loss.__name__ == "scaled"
    assert "|outputs - targets|" in loss.__doc__


def test_a_factory_checks_the_options_of_any_loss_at_once():
    factory = losses.factory(scaled, check=check_scaled)
    with pytest.raises(ValueError, match="scale is 0; it must be a number > 0"):
        factory(scale=0)
    with pytest.raises(ValueError, match="scale is True; it must be a number > 0"):
        factory(scale=True)
    with pytest.raises(ValueError, match="reduction is 'avg'; it must be one of 'mean', 'sum', 'none'"):
        losses.factory(scaled)(reduction="avg")
    with pytest.raises(TypeError, match="scaled has no option powr; it has: scale, power, reduction"):
        factory(powr=3)


def test_a_factory_keeps_what_the_conformance_kit_asks_for():
    bare = losses.factory(scaled)
    assert not hasattr(bare, "example")
    assert not hasattr(bare, "expected_failures")
    made = losses.factory(scaled, example=losses.examples.values, expected_failures={"padding": "it has none"})
    assert made.example is losses.examples.values
    assert made.expected_failures == {"padding": "it has none"}


def test_reducing_asks_for_a_reduction_that_there_is():
    with pytest.raises(ValueError, match="reduction is 'avg'"):
        losses.reduce(mg.ones(2), "avg")
