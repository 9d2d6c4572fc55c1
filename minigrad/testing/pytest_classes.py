"""Base classes for pytest that expand into one test for each check of the kit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from inspect import getattr_static
from typing import Any, ClassVar

from minigrad.testing.cells import CELL_CHECKS, check_cell
from minigrad.testing.gradients import check_gradients
from minigrad.testing.losses import LOSS_CHECKS, check_loss
from minigrad.testing.optimizers import OPTIMIZER_CHECKS, check_optimizer
from minigrad.testing.results import CheckResult
from minigrad.testing.wrappers import WRAPPER_CHECKS, check_wrapper

__all__ = ["CellTests", "GradientTests", "LossTests", "OptimizerTests", "WrapperTests"]


class _Tests:
    """One test for each check. Subclasses say which checks, and pass on what their users set."""

    checks: ClassVar[Mapping[str, Any]]
    check: ClassVar[Callable[..., list[CheckResult]]]
    options: ClassVar[tuple[str, ...]] = ("expected_failures",)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.__module__ != __name__:
            _refuse_unknown(cls, ("factory", *cls.options))

    @classmethod
    def pytest_generate_tests(cls, metafunc: Any) -> None:
        """Called by pytest for each test of the class."""
        if "conformance_check" in metafunc.fixturenames:
            metafunc.parametrize("conformance_check", list(cls.checks))

    def test_conformance(self, conformance_check: str) -> None:
        cls = type(self)
        factory = _attribute(cls, "factory")
        if factory is None:
            raise TypeError(f"{cls.__name__} needs an attribute `factory`: what is to be checked")
        options = {name: _attribute(cls, name) for name in self.options if hasattr(cls, name)}
        (result,) = cls.check(factory, only=[conformance_check], **options)
        if result.status == "failed":
            raise AssertionError(result.reason)
        if result.status != "passed":
            import pytest

            (pytest.skip if result.status == "not run" else pytest.xfail)(result.reason)


def _attribute(cls: type, name: str) -> Any:
    """An attribute as it was assigned: a function in a class is no method here."""
    value = getattr_static(cls, name, None)
    return value.__func__ if isinstance(value, staticmethod) else value


def _refuse_unknown(cls: type, known: tuple[str, ...]) -> None:
    """Raise for attributes that nobody would look at: values of unknown names, and functions of nearly known ones."""
    for name, value in vars(cls).items():
        if name.startswith(("_", "test", "pytest")) or name in known:
            continue
        near = get_close_matches(name, known, n=1, cutoff=0.7)
        if near or not (callable(value) or isinstance(value, staticmethod | classmethod | property)):
            guess = f"did you mean {near[0]}? " if near else ""
            raise TypeError(
                f"{cls.__name__} sets {name}, which nothing looks at; {guess}There are: {', '.join(known)}. "
                "A helper of your own needs a name that begins with an underscore"
            )


class CellTests(_Tests):
    """`check_cell`, a test per check. Set `factory`; and what else `check_cell` takes, if needed.

    >>> from minigrad.testing import CellTests
    >>> class TestGRU(CellTests):
    ...     factory = mg.GRUCell
    """

    checks = CELL_CHECKS
    check = staticmethod(check_cell)
    options = ("example", "double_backward", "reference", "expected_failures")


class WrapperTests(_Tests):
    """`check_wrapper`, a test per check. Set `factory`, and `expected_failures` if needed."""

    checks = WRAPPER_CHECKS
    check = staticmethod(check_wrapper)


class LossTests(_Tests):
    """`check_loss`, a test per check. Set `factory`, and `example`, `expected_failures` if needed."""

    checks = LOSS_CHECKS
    check = staticmethod(check_loss)
    options = ("example", "expected_failures")


class OptimizerTests(_Tests):
    """`check_optimizer`, a test per check. Set `factory`, and `expected_failures` if needed."""

    checks = OPTIMIZER_CHECKS
    check = staticmethod(check_optimizer)


class GradientTests:
    """`check_gradients`, a test per order. Set `function`, and `inputs`: a function that returns the list of inputs.

    `order` is 2 unless set to 1.

    >>> from minigrad.testing import GradientTests
    >>> class TestLog(GradientTests):
    ...     function = mg.log
    ...     inputs = lambda: [mg.tensor([0.5, 2.0], requires_grad=True, dtype="float64")]
    """

    order: ClassVar[int] = 2

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        _refuse_unknown(cls, ("function", "inputs", "order"))

    @classmethod
    def pytest_generate_tests(cls, metafunc: Any) -> None:
        """Called by pytest for each test of the class."""
        if "gradient_order" in metafunc.fixturenames:
            metafunc.parametrize("gradient_order", range(1, cls.order + 1))

    def test_gradients(self, gradient_order: int) -> None:
        function, inputs = (_attribute(type(self), name) for name in ("function", "inputs"))
        if function is None or inputs is None:
            raise TypeError(f"{type(self).__name__} needs the attributes `function` and `inputs`")
        results = check_gradients(function, *inputs(), order=gradient_order)
        if failed := [result.reason for result in results if result.status == "failed"]:
            raise AssertionError("; ".join(failed))
