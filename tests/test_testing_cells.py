"""The conformance kit for cells and wrappers: the built-ins pass it, and each check catches a defect planted for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import cells_zoo
import numpy as np
import pytest

import minigrad as mg
from minigrad.testing import (
    CellTests,
    CheckResult,
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
from minigrad.testing.cells import CELL_CHECKS
from minigrad.testing.wrappers import WRAPPER_CHECKS

pytestmark = pytest.mark.host_only("the kit chooses backends itself")

I, H = 3, 4  # noqa: E741  # sizes of x and of the state


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


class Sound(mg.Cell):
    """Nothing is wrong with it; those below change one thing."""

    def __init__(self, input_size: int = I, hidden_size: int = H) -> None:
        self.input_size, self.hidden_size = input_size, hidden_size
        self.w = mg.Parameter(mg.normal(shape=(input_size, hidden_size), std=0.5))
        self.u = mg.Parameter(mg.normal(shape=(hidden_size, hidden_size), std=0.5))

    def init_state(self, batch_size: int) -> Any:
        return mg.zeros((batch_size, self.hidden_size))

    def step(self, x: mg.Tensor, h: mg.Tensor) -> Any:
        h = mg.tanh(x @ self.w + self.between(h) @ self.u)
        return self.after(h), h

    def between(self, h: Any) -> Any:
        return h

    def after(self, h: Any) -> Any:
        return h


@mg.primitive
def half(xp: Any, x: Any, /) -> Any:
    return 0.5 * x


mg.defvjp(half, lambda g: 0.51 * g)


@mg.primitive
def square(xp: Any, x: Any, /) -> Any:
    return x * x


def _not_recorded(x: Any) -> Any:
    return x.detach() if isinstance(x, mg.Tensor) else x


mg.defvjp(square, lambda g, x: 2 * g * _not_recorded(x))


@mg.primitive
def masked(xp: Any, x: Any, mask: Any, /) -> Any:
    return x * mask


mg.defvjp(masked, lambda g: g, None)


class WrongRule(Sound):
    def after(self, h: Any) -> Any:
        return half(h)


class MaskNotInTheRule(Sound):
    def after(self, h: Any) -> Any:
        return masked(h, mg.dropout_mask(h.shape, 0.5, h)) if self.training else h


class RuleNotRecorded(Sound):
    def after(self, h: Any) -> Any:
        return square(h)


class WrongOutputSize(Sound):
    output_size = H + 1


class SwappedState(mg.LSTMCell):
    def step(self, x: mg.Tensor, state: Any) -> Any:
        y, (h, c) = super().step(x, state)
        return y, (c, h)


class OtherForward(Sound):
    def forward(self, x: Any, state: Any = None) -> Any:
        y, state = super().forward(x, state)
        return 2 * y, state


class BranchOnValues(Sound):
    def after(self, h: Any) -> Any:
        return h if float(h.sum()) > 0 else -h


class MixesTheBatch(Sound):
    def between(self, h: Any) -> Any:
        return h - h.mean(axis=0, keepdims=True)


class NeverEmpty(Sound):
    def init_state(self, batch_size: int) -> Any:
        return mg.zeros((max(1, batch_size), self.hidden_size))


class NotFinite(Sound):
    def after(self, h: Any) -> Any:
        return h * mg.as_tensor(np.inf, like=h)


class CallsNumPy(Sound):
    def after(self, h: Any) -> Any:
        return h + mg.as_tensor(np.sin(h.detach().data) * 0, like=h)


class Widens(Sound):
    def after(self, h: Any) -> Any:
        return h * mg.tensor(np.ones(self.hidden_size))


class Narrows(Sound):
    def after(self, h: Any) -> Any:
        return h.astype("float32")


class UnsavedWeights(Sound):
    def __init__(self, input_size: int = I, hidden_size: int = H) -> None:
        super().__init__(input_size, hidden_size)
        self.scale = mg.normal(shape=(hidden_size,))

    def after(self, h: Any) -> Any:
        return h * self.scale


class OwnGenerator(Sound):
    def __init__(self, input_size: int = I, hidden_size: int = H) -> None:
        super().__init__(input_size, hidden_size)
        self.w.data = np.random.default_rng().normal(size=(input_size, hidden_size)).astype(self.w.dtype)


class HiddenState(Sound):
    count = 0

    def after(self, h: Any) -> Any:
        self.count += 1
        return h * (self.count + 0 * float(h.sum()))  # the number keeps it on the tape


class InPlace(Sound):
    def between(self, h: Any) -> Any:
        h.data[...] *= 0.5
        return h


class AlwaysDrops(Sound):
    def after(self, h: Any) -> Any:
        return mg.dropout(h, 0.5, True)


class RandomStart(Sound):
    def init_state(self, batch_size: int) -> Any:
        return mg.normal(shape=(batch_size, self.hidden_size))


class SharesWeights(Sound):
    def __init__(self, weight: mg.Parameter) -> None:
        super().__init__()
        self.w = weight


class Careless(mg.RecurrentLayer):
    """A layer that takes anything."""

    def __init__(self) -> None:
        self.cell = Sound()
        self.input_size = I

    def init_state(self, batch_size: int) -> Any:
        return self.cell.init_state(batch_size)

    def forward(self, x: Any, state: Any = None, lengths: Any = None, return_states: bool = False) -> Any:
        x = mg.as_tensor(x)[:, :, :I]
        state = None if state is None else state[: x.shape[1]]
        return mg.Recurrent(self.cell)(x, state, lengths, return_states)


class WrongRuleInTraining(Sound):
    def after(self, h: Any) -> Any:
        return half(h) if self.training else 0.5 * h


class MixesTheBatchInTraining(Sound):
    def between(self, h: Any) -> Any:
        return h - h.mean(axis=0, keepdims=True) if self.training else h


class StartNotTrained(Sound):
    def __init__(self, input_size: int = I, hidden_size: int = H) -> None:
        super().__init__(input_size, hidden_size)
        self.start = mg.Parameter(mg.normal(shape=(1, hidden_size)))

    def init_state(self, batch_size: int) -> Any:
        return mg.broadcast_to(half(self.start), (batch_size, self.hidden_size))


class NarrowsWithin(Sound):
    """What comes out is float64 again."""

    def after(self, h: Any) -> Any:
        return mg.tanh(h.astype("float32").astype(h.dtype))


@mg.primitive
def doubled(xp: Any, x: Any, /) -> Any:
    return 2 * x


mg.defvjp(doubled, lambda g: (2 * g).astype("float32").astype(g.dtype))


class NarrowsGradients(Sound):
    def after(self, h: Any) -> Any:
        return doubled(h)


class WritesIntoX(Sound):
    def step(self, x: mg.Tensor, h: mg.Tensor) -> Any:
        x.data[...] *= 0.9
        return super().step(x, h)


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


# --- results as data


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
        example = staticmethod(_symbols)
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
    reason = judged("batch_of_one", MixesTheBatch).reason
    assert reason.endswith("(Each sequence of a batch is computed as if it were alone.)")
    assert "the gradient of WrongRule." in judged("gradients", WrongRule).reason


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
