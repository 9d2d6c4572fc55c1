"""The conformance kit for cells and wrappers: the built-ins pass it, and each check catches a defect planted for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cells_zoo
import numpy as np
import pytest
from broken_cells import (
    AlwaysDrops,
    BranchOnValues,
    CallsNumPy,
    Careless,
    H,
    HiddenState,
    I,
    InPlace,
    MaskNotInTheRule,
    MixesTheBatch,
    MixesTheBatchInTraining,
    Narrows,
    NarrowsGradients,
    NarrowsWithin,
    NeverEmpty,
    NotFinite,
    OtherForward,
    OwnGenerator,
    RandomStart,
    RuleNotRecorded,
    SharesWeights,
    Sound,
    StartNotTrained,
    SwappedState,
    UnsavedWeights,
    Widens,
    WritesIntoX,
    WrongOutputSize,
    WrongRule,
    WrongRuleInTraining,
)

import minigrad as mg
from minigrad.testing import (
    CellTests,
    CheckResult,
    WrapperTests,
    check_cell,
    check_wrapper,
)
from minigrad.testing.cells import CELL_CHECKS
from minigrad.testing.wrappers import WRAPPER_CHECKS

pytestmark = pytest.mark.host_only("the kit chooses backends itself")


# --- the built-ins, and cells of many builds


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def _products(weights: Any, x: Any, h: Any) -> tuple[Any, Any]:
    return x @ weights["weight_ih"].T + weights["bias_ih"], h @ weights["weight_hh"].T + weights["bias_hh"]


def rnn_step(weights: Any, x: Any, h: Any) -> Any:
    a, b = _products(weights, x, h)
    h = np.tanh(a + b)
    return h, h


def lstm_step(weights: Any, x: Any, state: Any) -> Any:
    h, c = state
    a, b = _products(weights, x, h)
    i, f, g, o = np.split(a + b, 4, axis=1)
    c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
    h = _sigmoid(o) * np.tanh(c)
    return h, (h, c)


def gru_step(weights: Any, x: Any, h: Any) -> Any:
    a, b = (np.split(product, 3, axis=1) for product in _products(weights, x, h))
    r, z = _sigmoid(a[0] + b[0]), _sigmoid(a[1] + b[1])
    h = (1 - z) * np.tanh(a[2] + r * b[2]) + z * h
    return h, h


@pytest.mark.both_executors
class TestRNN(CellTests):
    factory = mg.RNNCell
    reference = rnn_step


@pytest.mark.both_executors
class TestLSTM(CellTests):
    factory = mg.LSTMCell
    reference = lstm_step


@pytest.mark.both_executors
class TestGRU(CellTests):
    factory = mg.GRUCell
    reference = gru_step


@pytest.mark.both_executors
class TestBidirectional(WrapperTests):
    factory = mg.Bidirectional


def _numbers(generator: Any, steps: int, batch: int) -> Any:
    return generator.normal(size=(steps, batch, cells_zoo.I))


def _symbols(generator: Any, steps: int, batch: int) -> Any:
    return generator.integers(0, 5, size=(steps, batch))


@pytest.mark.both_executors
@pytest.mark.parametrize("name", cells_zoo.CUSTOM)
def test_cells_of_many_builds_pass(name: str) -> None:
    cell = cells_zoo.CUSTOM[name]
    results = check_cell(lambda: cell(), example=_symbols if name == "Reading" else _numbers)
    assert {result.name: result.reason for result in results if result.status == "failed"} == {}
    assert len(results) == len(CELL_CHECKS)


# --- a defect for each check

SUBTLE: list[tuple[str, Callable[..., Any]]] = [
    ("gradients", WrongRuleInTraining),
    ("gradients", StartNotTrained),
    ("batch_of_one", MixesTheBatchInTraining),
    ("padding", MixesTheBatchInTraining),
    ("padding_reversed", MixesTheBatchInTraining),
    ("inputs_unchanged", WritesIntoX),
    ("dtype[float64]", NarrowsWithin),
    ("dtype[float64]", NarrowsGradients),
]
DEFECTS: dict[str, Callable[..., Any]] = {
    "contract": WrongOutputSize,
    "reference": SwappedState,
    "step_loop": OtherForward,
    "gradients": WrongRule,
    "gradients_with_random_masks": MaskNotInTheRule,
    "gradients_of_gradients": RuleNotRecorded,
    "plan_equals_tape": BranchOnValues,
    "padding": MixesTheBatch,
    "padding_reversed": MixesTheBatch,
    "batch_of_one": MixesTheBatch,
    "no_steps": NeverEmpty,
    "backend[numpy]": NotFinite,
    "backend[strict]": CallsNumPy,
    "dtype[float32]": Widens,
    "dtype[float64]": Narrows,
    "save_and_load": UnsavedWeights,
    "seeded": OwnGenerator,
    "repeatable": HiddenState,
    "inputs_unchanged": InPlace,
    "train_and_eval": AlwaysDrops,
    "wrong_state": Careless,
    "wrong_input_size": Careless,
    "state_carried": HiddenState,
    "reset": RandomStart,
    "tbptt_equals_bptt": HiddenState,
    "in_bidirectional": lambda: SharesWeights(mg.Parameter(mg.normal(shape=(I, H)))),
    "in_stack": WrongOutputSize,
}
NOT_PLANTED = {"backend[cupy]": "the check of the strict double, by another name"}


def test_each_check_has_a_defect() -> None:
    assert set(CELL_CHECKS) == set(DEFECTS) | set(NOT_PLANTED)


def test_nothing_is_wrong_with_the_cell_that_the_defects_are_planted_in() -> None:
    assert [r for r in check_cell(Sound) if r.status == "failed"] == []


def judged(check: str, factory: Any, **options: Any) -> CheckResult:
    if check == "reference":
        options["reference"] = lstm_step
    (result,) = check_cell(factory, only=check, **options)
    return result


@pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")
@pytest.mark.parametrize("check", DEFECTS)
def test_the_check_catches_its_defect(check: str) -> None:
    result = judged(check, DEFECTS[check])
    assert result.status == "failed", result
    assert result.reason
    assert result.error is None or not result.error <= result.tolerance


@pytest.mark.parametrize("check", sorted(set(DEFECTS) - {"reference", "wrong_state", "wrong_input_size"}))
@pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")
def test_so_it_does_around_a_wrapped_cell(check: str) -> None:
    defect = DEFECTS[check]
    (result,) = check_wrapper(lambda cell: defect(), only=check)
    assert (result.status, result.reason[:6]) == ("failed", "around"), result


@pytest.mark.parametrize(("check", "defect"), SUBTLE)
def test_it_catches_what_shows_in_one_place_alone(check: str, defect: Any) -> None:
    assert judged(check, defect).status == "failed"


class Frozen(Sound):
    """Only what comes after is trained."""

    def __init__(self, input_size: int = I, hidden_size: int = H) -> None:
        super().__init__(input_size, hidden_size)
        self.w.requires_grad = self.u.requires_grad = False
        self.out = mg.Parameter(mg.normal(shape=(hidden_size,)))

    def after(self, h: Any) -> Any:
        return h * self.out


class Linear(mg.Cell):
    """Nothing to train, and linear."""

    input_size = hidden_size = I

    def init_state(self, batch_size: int) -> Any:
        return mg.zeros((batch_size, I))

    def step(self, x: mg.Tensor, h: Any) -> Any:
        h = 0.9 * h + x
        return h, h


class OtherOrder(Sound):
    """The new state has its keys in another order than the first one, also inside."""

    def init_state(self, batch_size: int) -> Any:
        a, b, c = (mg.zeros((batch_size, self.hidden_size)) for _ in range(3))
        return {"a": a, "b": {"c": b, "d": c}}

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h = mg.tanh(x @ self.w + state["a"] @ self.u - 0.3 * state["b"]["d"])
        return h, {"b": {"d": 0.5 * state["b"]["c"], "c": h * h}, "a": h}


@pytest.mark.both_executors
@pytest.mark.parametrize("cell", [Frozen, Linear, OtherOrder])
def test_unusual_cells_are_sound(cell: Any) -> None:
    assert [r for r in check_cell(lambda: cell()) if r.status == "failed"] == []


def test_an_expected_failure_that_cannot_be_tried_here_is_not_run() -> None:
    (result,) = check_cell(Sound, only="backend[cupy]", expected_failures={"backend[cupy]": "its primitive is NumPy's"})
    assert result.status in ("not run", "failed")


def test_a_cell_that_ends_the_program_has_failed() -> None:
    def leave() -> Any:
        raise SystemExit(3)

    (result,) = check_cell(leave, only="contract")
    assert result.status == "failed"
    assert result.reason.startswith("SystemExit: 3")


# --- what wrappers promise besides


class Wrapper(mg.Cell):
    def __init__(self, cell: mg.Cell) -> None:
        self.cell = cell

    def init_state(self, batch_size: int) -> Any:
        return self.cell.init_state(batch_size)

    def step(self, x: mg.Tensor, state: Any) -> Any:
        return self.cell.step(x, state)


class Hides(Wrapper):
    """The wrapped cell is where parameters are not looked for."""

    def __init__(self, cell: mg.Cell) -> None:
        self.init_state = cell.init_state  # type: ignore[method-assign]  # the defect
        self.step = cell.step  # type: ignore[method-assign]  # the defect


class StartsAtZero(Wrapper):
    def init_state(self, batch_size: int) -> Any:
        return mg.nest.map_nest(mg.zeros_like, self.cell.init_state(batch_size))


class OnlyLSTM(Wrapper):
    def __init__(self, cell: Any) -> None:
        super().__init__(cell)
        self.size = cell.weight_hh.shape[1]


WRAPPER_DEFECTS = {
    "keeps_parameters": Hides,
    "keeps_the_start": StartsAtZero,
    "passes_sizes_on": Wrapper,
    "wraps_itself": OnlyLSTM,
    "refuses_others": Wrapper,
}


def test_each_check_of_wrappers_has_a_defect() -> None:
    assert set(WRAPPER_CHECKS) == (set(CELL_CHECKS) - {"reference"}) | set(WRAPPER_DEFECTS)


@pytest.mark.parametrize("check", WRAPPER_DEFECTS)
def test_the_check_of_wrappers_catches_its_defect(check: str) -> None:
    (result,) = check_wrapper(WRAPPER_DEFECTS[check], only=check)
    assert result.status == "failed", result


def test_a_wrapper_may_ask_for_inputs_and_outputs_of_one_size() -> None:
    class Adds(Wrapper):
        def __init__(self, cell: Any) -> None:
            super().__init__(cell)
            if cell.input_size != getattr(cell, "output_size", cell.hidden_size):
                raise ValueError("sizes differ")

        def step(self, x: mg.Tensor, state: Any) -> Any:
            y, state = self.cell.step(x, state)
            return x + y, state

    assert [r for r in check_wrapper(Adds, only=["gradients", "padding"]) if r.status != "passed"] == []
