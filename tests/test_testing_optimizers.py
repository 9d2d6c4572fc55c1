"""The kit's checks of optimizers: all built-in ones pass them, and each check catches the defect planted for it."""

from __future__ import annotations

import re
from functools import partial

import pytest
from broken_optimizers import DEFECTS, Bare

import minigrad as mg
from minigrad.optimizers import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop, minigrad_optimizers
from minigrad.testing import OptimizerTests, check_optimizer
from minigrad.testing.optimizers import OPTIMIZER_CHECKS

pytestmark = pytest.mark.host_only("the kit chooses the backends itself")

# --- the built-in optimizers


class TestSGD(OptimizerTests):
    factory = SGD


class TestMomentum(OptimizerTests):
    factory = partial(SGD, momentum=0.9, dampening=0.1, weight_decay=1e-3)


class TestNesterov(OptimizerTests):
    factory = partial(SGD, momentum=0.9, nesterov=True)


class TestRMSprop(OptimizerTests):
    factory = RMSprop


class TestCenteredRMSprop(OptimizerTests):
    factory = partial(RMSprop, centered=True, momentum=0.5, weight_decay=1e-3)


class TestAdagrad(OptimizerTests):
    factory = Adagrad


class TestDecayingAdagrad(OptimizerTests):
    factory = partial(Adagrad, lr_decay=1e-4, initial_accumulator_value=0.1)


class TestAdam(OptimizerTests):
    factory = Adam


class TestAMSGrad(OptimizerTests):
    factory = partial(Adam, amsgrad=True, betas=(0.8, 0.99), weight_decay=1e-3)


class TestAdamW(OptimizerTests):
    factory = AdamW


def test_all_built_in_optimizers_are_here():
    classes = [value for value in globals().values() if isinstance(value, type) and issubclass(value, OptimizerTests)]
    factories = [cls.__dict__.get("factory") for cls in classes]
    assert {getattr(f, "func", f) for f in factories if f} == set(minigrad_optimizers().values())


def test_everything_is_run_on_a_built_in_optimizer():
    results = check_optimizer(SGD)
    assert [result.name for result in results] == list(OPTIMIZER_CHECKS)
    assert {result.name for result in results if result.status == "not run"} <= {"backend[cupy]"}


# --- a defect for each check


@pytest.mark.parametrize(("check", "factory", "message"), DEFECTS, ids=[f"{n}-{d[0]}" for n, d in enumerate(DEFECTS)])
def test_a_planted_defect_is_caught(check, factory, message):
    (result,) = check_optimizer(factory, only=check)
    if check == "backend[cupy]" and result.status == "not run":
        pytest.skip(result.reason)
    assert result.status == "failed"
    assert re.search(message, result.reason), result.reason


def test_each_check_has_a_planted_defect():
    assert {check for check, *_ in DEFECTS} == set(OPTIMIZER_CHECKS)


def test_a_plain_class_passes_what_it_has():
    """What checks nothing and derives from nothing still optimizes."""
    found = {result.name: result.status for result in check_optimizer(Bare)}
    assert {found[name] for name in ("quadratic", "rosenbrock", "order", "some_gradients", "stale_guard")} == {"passed"}


# --- how it is called


class RateFree(Optimizer):
    @staticmethod
    def update(parameter, gradient, state, *, speed=1.0):
        return parameter - 0.01 * speed * gradient, state


def test_without_a_learning_rate_what_needs_one_is_not_run():
    results = {result.name: result for result in check_optimizer(RateFree)}
    assert {name for name, result in results.items() if result.status == "not run"} - {"backend[cupy]"} == {
        "groups",
        "changed_lr",
        "zero_lr",
        "negative_lr",
    }
    assert results["zero_lr"].reason == "the factory takes no learning rate, lr"
    assert results["quadratic"].status == "passed"


def test_expected_failures_of_the_factory_are_used():
    def factory(params, **options):
        return Adam(params, **options)

    factory.expected_failures = {"dtype": "known"}
    (result,) = check_optimizer(factory, only="dtype")
    assert result.status == "failed"
    assert result.reason.startswith("it was expected to fail (known), and is passed")
    assert check_optimizer(factory, only="dtype", expected_failures={})[0].status == "passed"


def test_the_current_backend_and_dtype_make_no_difference():
    expected = check_optimizer(RMSprop)
    with mg.use_backend("strict"), mg.default_dtype("float64"):
        assert check_optimizer(RMSprop) == expected
        assert mg.get_backend().name == "strict"
