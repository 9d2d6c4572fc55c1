"""Steps that the compiled engine once ran wrongly or not at all: repeated gradients, constants, draws, divisions."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from plan_runs import agree, host, weighted

import minigrad as mg

X = np.random.default_rng(0).normal(size=(4, 2, 3))
pytestmark = [pytest.mark.usefixtures("unwritten_is_nan"), pytest.mark.both_executors]


@pytest.fixture(autouse=True)
def _float64(backend: Any) -> None:
    mg.set_default_dtype("float64")


class Free(mg.Cell):
    """Any step of its weight, x and a state (B, 3)."""

    def __init__(self, run: Callable[..., Any], weight: Any = None) -> None:
        self.run = run
        self.weight = None if weight is None else mg.Parameter(weight)

    def init_state(self, batch_size: int) -> mg.Tensor:
        return mg.full((batch_size, 3), 0.3)

    def step(self, x: mg.Tensor, state: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
        return self.run(self.weight, x, state)  # type: ignore[no-any-return]


def both(run: Callable[..., Any], weight: Any = None, given: Any = X, dtype: str = "float64") -> list[list[Any]]:
    """Results and gradients on the tape, and with the plan twice in one graph, each time on the state of the other."""
    found = []
    for engine in ("tape", "plan"):
        mg.set_default_dtype(dtype)
        cell = Free(run, None if weight is None else np.asarray(weight, dtype))
        layer = mg.Recurrent(cell, engine=engine)
        x = mg.tensor(given if given.dtype.kind in "iu" else given.astype(dtype), requires_grad=given.dtype.kind == "f")
        before = mg.sin(x) if x.requires_grad else x  # recorded before the layer, and walked after it
        ys, h = layer(x)
        more, h = layer(x, h)
        loss = weighted(ys, more, h)
        if x.requires_grad:
            loss = loss + before.sum()
        wanted = [leaf for leaf in (x, cell.weight) if leaf is not None and leaf.requires_grad]
        found.append([host(ys), host(more), *map(host, mg.grad(loss, wanted))])
    return found


def carried(h: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
    return h, h


STEPS: dict[str, tuple[Any, ...]] = {
    # gradients that are the same along an axis
    "x by its sum alone": (lambda w, x, h: carried(mg.tanh(h + mg.sum(x, axis=-1, keepdims=True))),),
    "x by its mean alone": (lambda w, x, h: carried(h * 0.5 + mg.mean(x)),),
    "a mean of weights": (lambda w, x, h: carried(mg.tanh(x + h @ mg.mean(w, axis=0))), np.full((2, 3, 3), 0.3)),
    "a sum of weights": (lambda w, x, h: carried(mg.tanh(x + h * mg.sum(w, axis=0))), np.full((2, 3), 0.3)),
    # constants of one element
    "1 - a constant": (lambda w, x, h: carried((1 - mg.tensor(0.1)) * h + x),),
    "constants multiplied": (lambda w, x, h: carried(mg.tensor(0.5) * mg.tensor(0.1) * h + x),),
    "exp of a constant": (lambda w, x, h: carried(mg.exp(-mg.tensor(2.0)) * h + x),),
    "a constant reshaped": (lambda w, x, h: carried(h * mg.reshape(mg.tensor(0.5), (1, 1)) + x),),
    "a constant repeated": (lambda w, x, h: carried(h * mg.broadcast_to(mg.tensor(0.5), (2, 3)) + x),),
    "a constant in a stack": (
        lambda w, x, h: carried(h * mg.stack([mg.tensor(0.5), mg.tensor(0.2), w.sum()]) + x),
        np.full(3, 0.1),
    ),
    # rows by constant numbers
    "rows of a matrix": (lambda w, x, h: carried(mg.tanh(h @ mg.take(w, [2, 0, 2]) + x)), np.eye(3) * 0.5),
    "rows in sum": (lambda w, x, h: carried(h * 0.5 + mg.take(w, [1, 0]) + x), np.ones((4, 3))),
    "elements of a vector": (lambda w, x, h: carried(h * 0.5 + mg.take(w, [2, 0, 2]) + x), np.ones(3)),
    # conditions of numbers
    "where an integer": (
        lambda w, x, h: carried(mg.where(x, h * 2.0, w)),
        np.full(3, 0.3),
        np.random.default_rng(0).integers(-1, 2, (4, 2, 3)),
    ),
    "where a number": (lambda w, x, h: carried(mg.where(mg.relu(x), h * 2.0, 0.3)),),
    "where a constant number": (lambda w, x, h: carried(mg.where(mg.tensor([1, 0, 2]), h, 0.3) + x),),
    # nothing along an axis
    "no columns": (lambda w, x, h: (mg.concat([h @ w, x], -1), mg.tanh(h + w.sum() + x)), np.zeros((3, 0))),
    "no rows": (lambda w, x, h: (h[:, :0] @ w + x, mg.tanh(h + x)), np.zeros((0, 3))),
    "no rows, linear": (lambda w, x, h: (mg.linear(h[:, :0], w) + x, mg.tanh(h + x)), np.zeros((3, 0))),
    "no features of a table": (
        lambda w, x, h: (mg.concat([mg.take(w, x[:, 0]), h], -1), mg.tanh(h + x)),
        np.zeros((3, 0)),
        np.random.default_rng(0).integers(0, 3, (4, 2, 3)),
    ),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_step_is_compiled_right(name: str) -> None:
    tape, plan = both(*STEPS[name])
    agree(plan, tape)


@pytest.mark.host_only("strides are the host's")
def test_gradients_handed_out_are_arrays_of_their_own() -> None:
    cell = Free(*STEPS["a mean of weights"][:2])
    x = mg.tensor(X, requires_grad=True)
    mg.Recurrent(cell, engine="plan")(x)[0].sum().backward()
    cell.weight.grad.data[0] += 1.0
    assert np.ptp(cell.weight.grad.data - cell.weight.grad.data[::-1], axis=(1, 2)).max() < 1e-12
    assert np.abs(cell.weight.grad.data[0] - cell.weight.grad.data[1]).min() > 0.5


def test_a_constant_of_one_element_keeps_its_dtype() -> None:
    """A tensor, unlike a number, makes the result as wide as it is."""
    wide = mg.tensor(0.1, dtype="float64")
    found = []
    for engine in ("tape", "plan"):
        layer = mg.Recurrent(Free(lambda w, x, h: (h * wide, h + x)), engine=engine)
        with mg.default_dtype("float32"):
            found.append(host(layer(mg.tensor(X.astype("float32")))[0]))
    agree(found[1], found[0], rtol=1e-15, atol=0)
    assert found[0].dtype == "float64"


# --- draws


def test_draws_that_nothing_needs_are_made() -> None:
    def step(w: Any, x: mg.Tensor, h: mg.Tensor) -> Any:
        mg.dropout(h, 0.5)
        y = mg.dropout(x, 0.5)
        mg.normal(shape=(2,))
        return y, h + x

    found = []
    for engine in ("tape", "plan", "plan"):
        layer = mg.Recurrent(Free(step), engine=engine, checkpoint_every=3)
        mg.seed(4)
        found.append([host(layer(X)[0]), host(mg.uniform(shape=(3,)))])
    agree(found[1], found[0])
    agree(found[2], found[0])


@pytest.mark.parametrize("draw", [lambda: random.random(), lambda: float(np.random.rand())], ids=["Python", "NumPy"])  # noqa: NPY002
def test_a_step_that_gambles_is_refused_each_time(draw: Callable[[], float]) -> None:
    """Also if looking at it has gone the same way twice; and looking takes no draws."""

    def step(w: Any, x: mg.Tensor, h: mg.Tensor) -> Any:
        return carried(h + x if draw() < 0.5 else h - x)

    for seed in range(8):
        found = []
        for engine in ("tape", "auto"):
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            layer = mg.Recurrent(Free(step), engine=engine)
            found.append([host(layer(X)[0]), np.float64(draw())])
        agree(found[1], found[0])
        assert "engine tape" in layer.explain()
        assert "draws with" in layer.explain() or "each time" in layer.explain()


# --- divisions


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_what_a_mask_hides_stays_0_in_the_gradient(dtype: str) -> None:
    """0 / b is 0 however small b is; 0 * (1 / b) is NaN where 1 / b overflows."""
    tiny = 1e-310 if dtype == "float64" else 1e-42
    steps = [
        lambda w, x, h: (mg.where(h < 5, h / (x * tiny), 0.0), h * 1.0),
        lambda w, x, h: (mg.where(h < 5, x * h / (h * tiny), 0.0), h * 1.0),
        lambda w, x, h: (mg.where(h < 5, h / tiny, 0.0), h * 1.0),
        lambda w, x, h: (mg.where(h < 5, mg.sqrt(h * tiny), 0.0), h * 1.0),
    ]
    start = np.full((2, 3), 6.0, dtype)
    start[0, 0] = 1.0
    for step in steps:
        found = []
        for engine in ("tape", "plan"):
            x, h = mg.tensor(np.ones((1, 2, 3), dtype), True), mg.tensor(start, True)
            with np.errstate(all="ignore"):
                ys, _ = mg.Recurrent(Free(step), engine=engine)(x, h)
                found.append([host(g) for g in mg.grad(ys.sum(), [x, h])])
        assert step is not steps[0] or np.isfinite(found[0][1][1]).all()
        for expected, planned in zip(*found, strict=True):
            np.testing.assert_allclose(planned, expected, rtol=1e-4)


BOUNDED: dict[str, Callable[..., Any]] = {
    "a norm": lambda h: h / mg.sqrt(mg.mean(mg.square(h), axis=-1, keepdims=True) + 1e-5),
    "softsign": lambda h: h / (1.0 + mg.abs(h)),
    "a half": lambda h: h / 2.0,
    "a limit": lambda h: h / mg.maximum(h, 1e-3),
}
UNBOUNDED: dict[str, Callable[..., Any]] = {
    "a sum": lambda h: h / (mg.sum(h, axis=-1, keepdims=True) + 1.0),
    "exp": lambda h: h / mg.exp(mg.tanh(h)),
    "a norm": lambda h: h / mg.sqrt(mg.sum(mg.square(h), axis=-1, keepdims=True)),
    "too small an epsilon": lambda h: h / (mg.square(h) + 1e-320),
}


def divisions(step: Callable[..., Any]) -> tuple[int, list[list[Any]]]:
    """How many the backward loop has; and what is found by both engines."""

    def run(w: Any, x: mg.Tensor, h: mg.Tensor) -> Any:
        return carried(mg.tanh(step(h + x)))

    layer = mg.Recurrent(Free(run), engine="plan")
    layer(mg.tensor(X, requires_grad=True))
    loop = layer.explain().split("\n  cotangent")[1].split("\n  sink")[0]
    return loop.count("divide("), both(run)


@pytest.mark.parametrize("name", BOUNDED)
def test_a_divisor_far_from_0_is_multiplied_with(name: str) -> None:
    count, found = divisions(BOUNDED[name])
    assert count == 0
    agree(found[1], found[0])


@pytest.mark.parametrize("name", UNBOUNDED)
def test_another_divisor_is_divided_by(name: str) -> None:
    count, found = divisions(UNBOUNDED[name])
    assert count > 0
    agree(found[1], found[0])


# --- what is told


def test_each_part_of_the_state_has_its_own_name() -> None:
    class Masked(mg.Cell):
        def init_state(self, batch_size: int) -> Any:
            return mg.ones((batch_size, 3)), mg.zeros((batch_size, 3))

        def step(self, x: mg.Tensor, state: Any) -> Any:
            mask, h = state
            h = mg.tanh(h * mask + x)
            return h, (mask, h)

    layer = mg.Recurrent(Masked())
    layer(mg.tensor(X, requires_grad=True))
    assert "multiply(state[1], state[0])" in layer.explain()
    assert "d state[1]" in layer.explain()
    assert "d state[0]" not in layer.explain()


def test_an_error_names_the_operation_and_its_operands() -> None:
    for engine in ("tape", "plan"):
        cell = Free(lambda w, x, h: carried(h + mg.take(w, x)), np.ones((3, 3)))
        with pytest.raises(IndexError, match=r"take: .*\(with x of shape \(3, 3\), float64, indices of shape "):
            mg.Recurrent(cell, engine=engine)(mg.tensor([[1, 3]] * 2))


@pytest.mark.host_only("the table is the host's")
def test_a_table_that_is_no_tensor_is_a_reason() -> None:
    table = np.arange(3.0)
    layer = mg.Recurrent(Free(lambda w, x, h: carried(h + mg.take(table, mg.argmax(x, axis=1))[:, None])))
    layer(X)
    assert "make a table a tensor: mg.tensor(table)" in layer.explain()


def test_options_are_checked_when_they_are_assigned() -> None:
    layer = mg.Recurrent(mg.RNNCell(3, 3))
    for steps in (0, -1, 2.5, "2", True):
        with pytest.raises(ValueError, match="checkpoint_every is a number of steps"):
            layer.checkpoint_every = steps
    with pytest.raises(ValueError, match="engine is one of"):
        layer.engine = "Tape"
    layer.checkpoint_every, layer.engine = np.int64(2), "tape"
    layer(X)


def test_a_number_that_is_used_twice_and_then_indexed() -> None:
    p = mg.tensor(2.0, requires_grad=True)
    indexed = p[None]
    (indexed.sum() + p * 3 + p * 4).backward()
    assert p.grad.item() == 8


class Handing(mg.Cell):
    """Hands x down from one part of the state to the next, and puts the last away for the first."""

    def __init__(self) -> None:
        self.weight = mg.Parameter(np.full(3, 0.5))

    def init_state(self, batch_size: int) -> Any:
        return [mg.zeros((batch_size, 3)) for _ in range(4)]

    def step(self, x: mg.Tensor, state: Any) -> Any:
        a, b, c, d = state
        return b * 2.0, [x * self.weight, a, d, mg.tanh(c)]


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("given", [None, 0, 1, 2, 3])
def test_the_same_results_need_a_gradient_after_few_steps(steps: int, given: int | None) -> None:
    cell, flags = Handing(), []
    for engine in ("tape", "plan"):
        state = [mg.tensor(np.ones((2, 3)), requires_grad=number == given) for number in range(4)]
        results = mg.Recurrent(cell, engine=engine)(np.ones((steps, 2, 3)), state, return_states=True)
        flags.append([leaf.requires_grad for leaf in mg.nest.leaves(results)])
    assert flags[1] == flags[0]
