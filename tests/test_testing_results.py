"""What the kit returns and refuses: results as data, expected failures, misspelt names, its classes for pytest."""

from __future__ import annotations

from typing import Any, ClassVar

import cells_zoo
import numpy as np
import pytest
from broken_cells import H, MixesTheBatch, Sound, WrongRule, half

import minigrad as mg
from minigrad.testing import (
    CellTests,
    GradientTests,
    LossTests,
    OptimizerTests,
    WrapperTests,
    check_cell,
    check_gradients,
    check_loss,
    check_optimizer,
    check_wrapper,
    summary,
)

pytestmark = pytest.mark.host_only("the kit chooses backends itself")


def symbols(generator: Any, steps: int, batch: int) -> Any:
    return generator.integers(0, 5, size=(steps, batch))


def test_an_expected_failure_is_one_and_says_why() -> None:
    known = {"gradients": "its rule is wrong on purpose"}
    results = check_cell(WrongRule, expected_failures=known, only=["gradients", "contract"])
    assert [(r.name, r.status) for r in results] == [("contract", "passed"), ("gradients", "expected failure")]
    assert "its rule is wrong on purpose" in results[1].reason
    assert summary(results) == "2 run: 1 passed, 0 failed, 1 expected failures; 0 not run"


def test_an_expected_failure_that_passes_has_failed() -> None:
    (result,) = check_cell(Sound, expected_failures={"gradients": "it was wrong once"}, only="gradients")
    assert result.status == "failed"
    assert "it was wrong once" in result.reason
    assert "take it out of expected_failures" in result.reason


def test_a_factory_can_say_what_it_needs() -> None:
    class Reading(cells_zoo.Reading):
        example = staticmethod(symbols)
        expected_failures: ClassVar[dict[str, str]] = {"contract": "none"}

    (result,) = check_cell(Reading, only="contract")
    assert "expected to fail (none)" in result.reason


@pytest.mark.parametrize("argument", ["only", "expected_failures"])
def test_an_unknown_check_is_an_error(argument: str) -> None:
    with pytest.raises(ValueError, match=f"{argument} names gradient; the checks are: contract, "):
        check_cell(Sound, **{argument: {"gradient": "misspelt"}})


def test_a_factory_that_takes_something_else() -> None:
    with pytest.raises(ValueError, match=r"factory\(input_size, hidden_size\) or factory\(\); it is \(a\)"):
        check_cell(lambda a: Sound())


@pytest.mark.parametrize(
    ("check", "given"),
    [
        (check_cell, mg.GRUCell(3, 4)),
        (check_cell, "gru"),
        (check_wrapper, mg.Linear(2, 2)),
        (check_loss, mg.loss("mse")),
        (check_optimizer, "sgd"),
        (check_optimizer, mg.optimizer("sgd", mg.Linear(1, 1).parameters(), lr=0.1)),
    ],
    ids=["cell", "name", "layer", "loss", "optimizer's name", "optimizer"],
)
def test_a_thing_in_the_place_of_what_makes_one_is_told(check: Any, given: Any) -> None:
    with pytest.raises(TypeError, match=rf"{check.__name__} takes what makes one, such as .*, not "):
        check(given)


MISSPELT = {
    "tolerences": (CellTests, {"tolerences": 1e-3}, "There are: factory, example, double_backward"),
    "factroy": (OptimizerTests, {"factroy": mg.GRUCell}, "did you mean factory"),
    "exampel": (LossTests, {"factory": mg.loss, "exampel": lambda generator: None}, "did you mean example"),
    "expected_failure": (WrapperTests, {"expected_failure": {}}, "did you mean expected_failures"),
    "input": (GradientTests, {"input": list}, "did you mean inputs"),
}


@pytest.mark.parametrize("name", MISSPELT)
def test_a_misspelt_attribute_of_a_test_class_is_an_error(name: str) -> None:
    base, attributes, message = MISSPELT[name]
    with pytest.raises(TypeError, match=f"^Misspelt sets {name}, which nothing looks at; .*{message}"):
        type("Misspelt", (base,), attributes)


def test_a_test_class_may_have_tests_fixtures_and_helpers_of_its_own() -> None:
    class Own(CellTests):
        factory = Sound
        expected_failures: ClassVar[dict[str, str]] = {}
        pytestmark = pytest.mark.filterwarnings("error")
        _size = 3

        @pytest.fixture
        def cell(self) -> Any:
            return Sound()

        def test_more(self, cell: Any) -> None:
            assert cell.hidden_size == H

    Own().test_conformance("contract")


def test_a_failure_says_what_was_asked() -> None:
    (result,) = check_cell(MixesTheBatch, only="batch_of_one")
    reason = result.reason
    assert reason.endswith("(Each sequence of a batch is computed as if it were alone.)")
    (result,) = check_cell(WrongRule, only="gradients")
    assert "the gradient of WrongRule." in result.reason


def test_a_factory_that_makes_no_cell_fails_every_check() -> None:
    results = check_cell(lambda: mg.Linear(3, 4))
    assert {r.status for r in results if r.name != "reference"} <= {"failed", "not run"}
    assert "minigrad.Cell" in results[0].reason


def test_the_kit_leaves_backend_dtype_and_random_numbers_as_they_were() -> None:
    mg.seed(3)
    expected = mg.normal(shape=3).numpy()
    mg.seed(3)
    check_cell(MixesTheBatch, only=["padding", "backend[strict]"])
    assert (mg.get_backend().name, str(mg.get_default_dtype())) == ("numpy", "float32")
    np.testing.assert_array_equal(mg.normal(shape=3).numpy(), expected)


def test_gradients_of_a_function_and_its_parameters() -> None:
    layer = mg.Linear(2, 3).to(dtype="float64")
    before = layer.state_dict()
    x = mg.tensor(np.ones((2, 2)), requires_grad=True)
    results = check_gradients(lambda x: mg.tanh(layer(x)), x, parameters=layer.parameters())
    assert [r.name for r in results[:3]] == [
        "the gradient of input 0",
        "the gradient of Linear.weight",
        "the gradient of Linear.bias",
    ]
    assert {r.status for r in results} == {"passed"}
    assert all(np.array_equal(layer.state_dict()[name], array) for name, array in before.items())
    (wrong, *_) = check_gradients(half, x)
    assert wrong.status == "failed"
    assert 0.005 < wrong.error < 0.015


class TestLogGradients(GradientTests):
    function = mg.log
    inputs = staticmethod(lambda: [mg.tensor(np.array([0.5, 2.0]), requires_grad=True)])


class WrongGradients(GradientTests):
    function = half
    inputs = TestLogGradients.inputs


def test_the_class_for_gradients_fails_where_they_are_wrong() -> None:
    with pytest.raises(AssertionError, match=r"the gradient of input 0: 0\.01"):
        WrongGradients().test_gradients(1)
    with pytest.raises(TypeError, match="needs the attributes `function` and `inputs`"):
        GradientTests().test_gradients(1)


def test_gradients_of_nothing_and_of_float32_are_refused() -> None:
    with pytest.raises(ValueError, match="no input needs a gradient"):
        check_gradients(mg.tanh, mg.tensor([1.0]))
    with pytest.raises(ValueError, match="input 0 is float32"):
        check_gradients(mg.tanh, mg.tensor([1.0], requires_grad=True))
