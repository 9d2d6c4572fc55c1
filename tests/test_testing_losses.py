"""The kit's checks of losses: all built-in losses pass them, and each check catches the defect planted for it."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import numpy as np
import pytest
from broken_losses import DEFECTS, plain

import minigrad as mg
from minigrad.losses import ctc, mae, minigrad_losses
from minigrad.testing import LossTests, check_loss
from minigrad.testing.losses import LOSS_CHECKS

pytestmark = pytest.mark.host_only("the kit chooses the backends itself")

FACTORIES = minigrad_losses()


def classes(generator: Any) -> Any:
    return generator.normal(size=(5, 3, 4)), generator.integers(0, 4, (5, 3))


def probabilities(generator: Any) -> Any:
    return generator.normal(size=(5, 3, 4)), generator.dirichlet(np.ones(4), (5, 3))


def log_probabilities(generator: Any) -> Any:
    return np.log(generator.dirichlet(np.ones(4), (5, 3))), generator.integers(0, 4, (5, 3))


def answers(generator: Any) -> Any:
    return generator.normal(size=(5, 3, 4)), generator.uniform(size=(5, 3, 4))


def labels(generator: Any) -> Any:
    return np.log(generator.dirichlet(np.ones(4), (6, 3))), (np.array([[1, 2], [3, 3], [2, 1]]), np.array([2, 2, 1]))


# --- the built-in losses


class TestCrossEntropy(LossTests):
    factory = FACTORIES["cross_entropy"]


class TestCrossEntropyOfProbabilities(LossTests):
    factory = partial(FACTORIES["cross_entropy"], weight=[0.5, 1.0, 2.0, 0.25], label_smoothing=0.2)
    example = probabilities


class TestWeightedCrossEntropy(LossTests):
    factory = partial(FACTORIES["cross_entropy"], weight=[0.5, 1.0, 2.0, 0.25], label_smoothing=0.2, ignore_index=2)
    example = classes


class TestNLL(LossTests):
    factory = FACTORIES["nll"]


class TestBCEWithLogits(LossTests):
    factory = FACTORIES["bce_with_logits"]


class TestWeightedBCEWithLogits(LossTests):
    factory = partial(FACTORIES["bce_with_logits"], weight=[0.5, 2.0, 1.0, 1.0], pos_weight=[0.5, 1.0, 2.0, 0.25])
    example = answers


class TestMSE(LossTests):
    factory = FACTORIES["mse"]


class TestMAE(LossTests):
    factory = FACTORIES["mae"]


class TestHuber(LossTests):
    factory = partial(FACTORIES["huber"], delta=0.7)


class TestCTC(LossTests):
    factory = FACTORIES["ctc"]


class TestCTCWithTargetLengths(LossTests):
    factory = partial(FACTORIES["ctc"], zero_infinity=True)
    example = labels


def test_all_built_in_losses_are_here():
    classes = [value for value in globals().values() if isinstance(value, type) and issubclass(value, LossTests)]
    factories = [cls.__dict__.get("factory") for cls in classes]
    assert {getattr(f, "func", f) for f in factories if f} == set(FACTORIES.values())


def test_what_does_not_apply_to_the_built_in_losses_is_counted():
    """Not run are, besides CuPy without a device, three checks of a loss of whole sequences."""
    for name, factory in FACTORIES.items():
        results = check_loss(factory)
        assert [result.name for result in results] == list(LOSS_CHECKS)
        not_run = {r.name for r in results if r.status == "not run"} - {"backend[cupy]"}
        assert not_run == ({"no_steps", "time_of_one", "tbptt"} if name == "ctc" else set())


# --- a defect for each check


@pytest.mark.parametrize(("check", "factory", "message"), DEFECTS, ids=[f"{n}-{d[0]}" for n, d in enumerate(DEFECTS)])
def test_a_planted_defect_is_caught(check, factory, message):
    (result,) = check_loss(factory, only=check)
    if check == "backend[cupy]" and result.status == "not run":
        pytest.skip(result.reason)
    assert result.status == "failed"
    assert re.search(message, result.reason), result.reason


def test_each_check_has_a_planted_defect():
    assert {check for check, *_ in DEFECTS} == set(LOSS_CHECKS)


def test_defects_in_losses_of_whole_sequences_are_caught():
    """Lengths, reductions and shapes are also checked where targets are no steps."""

    def factory(*, reduction="mean"):
        return lambda x, y, lengths=None: ctc(x, y, reduction=reduction)  # deaf to lengths

    found = {result.name: result.status for result in check_loss(factory, example=labels)}
    assert {name for name, status in found.items() if status == "failed"} == {"padding", "lengths", "bad_lengths"}


# --- how it is called


def test_the_example_of_the_factory_is_used():
    def factory():
        return mg.loss("nll")

    assert check_loss(factory, only="scalar")[0].status == "failed"
    factory.example = log_probabilities
    factory.expected_failures = {"scalar": "known"}
    (result,) = check_loss(factory, only="scalar")
    assert (result.status, result.reason[:42]) == ("failed", "it was expected to fail (known), and is pa")
    assert check_loss(factory, only="scalar", expected_failures={})[0].status == "passed"
    assert check_loss(factory, only="scalar", expected_failures={}, example=answers)[0].status == "failed"


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (lambda generator: generator.normal(size=(5, 3, 4)), "must return a pair"),
        (lambda generator: (np.ones(3), np.ones(3)), r"outputs must be \(T, B, ...\), .* they are \(3,\)"),
        (lambda generator: (np.ones((1, 3)), np.ones((1, 3))), r"T and B at least 2; they are \(1, 3\)"),
        (lambda generator: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_an_example_that_does_not_fit_fails_each_check(example, message):
    (result,) = check_loss(FACTORIES["mse"], example=example, only="scalar")
    assert result.status == "failed"
    assert re.search(message, result.reason)


@pytest.mark.parametrize("dtype", ["int8", "int32", "uint8"])
def test_class_indices_may_be_of_any_integer_dtype(dtype):
    def small(generator):
        outputs, targets = classes(generator)
        return outputs, targets.astype(dtype)

    results = check_loss(FACTORIES["cross_entropy"], example=small)
    assert {result.status for result in results if result.name != "backend[cupy]"} == {"passed"}


def test_the_current_backend_and_dtype_make_no_difference():
    expected = check_loss(FACTORIES["ctc"], example=labels)
    with mg.use_backend("strict"), mg.default_dtype("float64"):
        assert check_loss(FACTORIES["ctc"], example=labels) == expected
        assert mg.get_backend().name == "strict"


def test_a_loss_without_reductions_is_not_run_on_them():
    (result,) = check_loss(plain(lambda x, y, lengths=None: mae(x, y, lengths=lengths)), only="reduction")
    assert result.status == "not run"
    assert "the loss has no option `reduction`" in result.reason


@pytest.mark.parametrize("factory", [lambda: 3, lambda: None])
def test_a_factory_that_makes_no_function_is_told_so(factory):
    (result,) = check_loss(factory, only="scalar")
    assert result.status == "failed"
    assert "the factory must return a function loss(outputs, targets, lengths=None)" in result.reason
