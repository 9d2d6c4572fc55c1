"""The native executor gives what the tape gives, or says why it does not run and leaves the work to array calls."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plan_cells import CELLS
from plan_cells_random import RANDOM
from plan_runs import LOSSES, Case, agree, compare, everything, pair, run

import minigrad as mg
from minigrad.plan.native import executor as native_executor
from minigrad.plan.native import memory as native_memory
from minigrad.plan.native.executor import NativeExecutor
from minigrad.plan.native.pool import get_num_threads, set_num_threads
from minigrad.testing import check_cell

pytestmark = [
    pytest.mark.host_only("native code runs on NumPy's arrays"),
    pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="there is no C compiler on the path"),
]
ALL = CELLS | RANDOM


@pytest.fixture(scope="session")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("native")


@pytest.fixture(autouse=True)
def _native(monkeypatch: pytest.MonkeyPatch, cache_folder: Path) -> Iterator[None]:
    monkeypatch.setenv("MINIGRAD_NATIVE", "1")
    monkeypatch.setenv("MINIGRAD_CACHE", str(cache_folder))
    mg.set_default_dtype("float64")
    threads = get_num_threads()
    yield
    set_num_threads(threads)


def is_native(layer: mg.Recurrent) -> bool:
    latest = layer._plans.latest
    return latest is not None and isinstance(latest.executor, NativeExecutor)


# --- plan equals tape

WAYS: dict[str, Any] = {
    "plain": {},
    "lengths": {"lengths": [5, 0, 1]},
    "reverse and lengths": {"reverse": True, "lengths": [2, 4, 1]},
    "checkpoints": {"checkpoint_every": 2},
}
NOT_ROWS = {
    "AcrossBatch": "mean of shape (2,) mixes sequences",
    "Turned": "flip of shape (3, 2) mixes sequences",
    "Gram": "matmul of shape (3, 3) mixes sequences",
    "DropConnect": "matmul of shape (3, 3) mixes sequences",
    "Foreign": "foreign_rounded is an operation of plan_cells_ops",
}
"""Cells that cannot be written in C, with what is said of them; all others must be."""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ALL)
def test_native_equals_tape(name: str, way: str) -> None:
    options = dict(WAYS[way])
    lengths = options.pop("lengths", None)
    cell = ALL[name]()
    plan, tape = pair(cell, **options)
    compare(plan, tape, Case(cell), lengths=lengths)
    assert is_native(plan) == (name not in NOT_ROWS), plan.explain()
    if way == "plain" and name in NOT_ROWS:
        assert NOT_ROWS[name] in plan.explain().splitlines()[1]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", ["lstm", "gru", "Passing"])
def test_whatever_the_loss_reads(name: str, loss: str) -> None:
    cell = ALL[name]()
    compare(*pair(cell), Case(cell), loss=LOSSES[loss])


@pytest.mark.parametrize("size", [1, 15, 16, 17, 33])
@pytest.mark.parametrize("batch", [1, 2, 7, 13])
def test_odd_sizes(size: int, batch: int) -> None:
    for cell in (mg.LSTMCell(2, size), mg.GRUCell(2, size, reset_after=False), mg.RNNCell(2, size)):
        plan, tape = pair(cell)
        compare(plan, tape, Case(cell, batch=batch))
        assert is_native(plan)


@pytest.mark.parametrize("steps", [1, 2, 40])
def test_lengths_of_time(steps: int) -> None:
    cell = mg.LSTMCell(2, 5)
    compare(*pair(cell), Case(cell, steps=steps))


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_any_number_of_threads_gives_the_same_numbers(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_executor, "WORK_OF_TWO", 0)
    cell = mg.LSTMCell(2, 17)
    case = Case(cell, batch=5)
    set_num_threads(1)
    expected = run(pair(cell)[0], case)
    set_num_threads(threads)
    agree(run(pair(cell)[0], case), expected, rtol=0, atol=0)


@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_chunks_change_nothing(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_memory, "CHUNK_ROWS", rows)
    monkeypatch.setattr(native_memory, "CHUNK_BYTES", 1)
    for cell in (mg.GRUCell(2, 5), mg.LSTMCell(2, 5)):
        compare(*pair(cell), Case(cell))


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_float32(name: str) -> None:
    mg.set_default_dtype("float32")
    cell = mg.cell(name, 2, 19)
    plan, tape = pair(cell)
    case = Case(cell)
    agree(run(plan, case), run(tape, case), rtol=2e-5, atol=2e-5)
    assert is_native(plan)


def test_without_gradients_nothing_is_kept() -> None:
    cell = mg.LSTMCell(2, 5)
    plan, tape = pair(cell)
    x = mg.normal(shape=(6, 3, 2), dtype="float64")
    with mg.no_grad():
        (ys, (h, c)), (expected, (h0, c0)) = plan(x), tape(x)
    for found, wanted in ((ys, expected), (h, h0), (c, c0)):
        np.testing.assert_allclose(found.numpy(), wanted.numpy(), rtol=1e-12)
    assert is_native(plan)
    (memory,) = plan._plans.latest.executor.spare
    assert all(len(array) <= 2 for number, array in memory.arrays.items() if number_of(memory, number) == "carry")


def number_of(memory: Any, number: int) -> str:
    array = memory.schedule.arrays[number]
    return "" if number in {place.array.number for place in memory.schedule.outputs} else str(array.kind)


def test_nan_and_infinity_go_through_as_numpy_has_them() -> None:
    cell = mg.LSTMCell(2, 4)
    plan, tape = pair(cell)
    x = np.zeros((4, 3, 2))
    x[1, 0, 0], x[1, 1, 1], x[2, 2, 0] = np.nan, np.inf, -np.inf
    with np.errstate(all="ignore"):
        found, expected = plan(mg.tensor(x))[0].numpy(), tape(mg.tensor(x))[0].numpy()
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-300)  # NumPy's sigmoid never gets to 0
    assert np.isnan(found[1:, 0]).all()
    assert not np.isnan(found[:, 2]).any()


def test_x_that_is_not_contiguous_and_of_another_memory_order() -> None:
    cell = mg.GRUCell(3, 4)
    plan, tape = pair(cell)
    x = mg.Tensor(np.asfortranarray(np.random.default_rng(0).normal(size=(5, 2, 6)))[:, :, ::2], True)
    ys, _ = plan(x)
    expected, _ = tape(x)
    np.testing.assert_allclose(ys.numpy(), expected.numpy(), rtol=1e-12)


def test_interleaved_runs_keep_their_own_memory() -> None:
    cell = mg.LSTMCell(2, 5)
    plan, tape = pair(cell)
    case, other = Case(cell), Case(cell, state_grad=False)

    def both(layer: mg.Recurrent) -> Any:
        (x, state), (x2, state2) = case.leaves(), other.leaves()
        first = everything(*layer(x, state, None, True))
        second = everything(*layer(x2, state2, None, True))
        layer.zero_grad()
        first.backward()
        second.backward()
        return {name: p.grad.numpy() for name, p in layer.named_parameters()}

    agree(both(plan), both(tape), rtol=1e-10, atol=1e-10)


def test_a_strangers_cell_passes_the_kit_compiled() -> None:
    class Leaky(mg.GatedCell):
        gates = 2

        def init_state(self, batch_size: int) -> Any:
            return self.zero_state(batch_size)

        def step(self, x: mg.Tensor, state: Any) -> Any:
            leak, new = mg.split(self.from_input(x) + self.from_state(state), 2, axis=-1)
            state = state + mg.sigmoid(leak) * (mg.softmax(new) - state)
            return mg.log_softmax(state), state

    mg.set_default_dtype("float32")
    assert [result for result in check_cell(Leaky) if result.status == "failed"] == []
    layer = mg.Recurrent(Leaky(2, 3))
    layer(mg.ones((2, 2, 2)))
    assert is_native(layer)


# --- choosing


def test_explain_says_which_executor_runs_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = mg.Recurrent(mg.GRUCell(2, 3))
    layer(mg.ones((2, 2, 2)))
    assert layer.explain().splitlines()[1] == "The latest run was of this program, compiled to C:"
    monkeypatch.setenv("MINIGRAD_NATIVE", "0")
    layer = mg.Recurrent(mg.GRUCell(2, 3))
    layer(mg.ones((2, 2, 2)))
    second = layer.explain().splitlines()[1]
    assert "as calls of array functions; not compiled to C: " in second
    assert "MINIGRAD_NATIVE=0" in second


def test_a_sequence_is_not_mixed_with_another() -> None:
    class Mixing(mg.Cell):
        def init_state(self, batch_size: int) -> Any:
            return mg.zeros((batch_size, 2))

        def step(self, x: mg.Tensor, state: Any) -> Any:
            state = mg.tanh(x + state - state.mean(axis=0, keepdims=True))
            return state, state

    plan, tape = pair(Mixing())
    x = mg.normal(shape=(5, 3, 2), dtype="float64")
    np.testing.assert_allclose(plan(x)[0].numpy(), tape(x)[0].numpy(), rtol=1e-12)
    assert not is_native(plan)
    assert "not compiled to C" in plan.explain()


# --- what a review has found


class Small(mg.Cell):
    def __init__(self) -> None:
        self.input_size = 2
        self.w = mg.Parameter(mg.normal(shape=(2, 3)))
        self.v = mg.Parameter(mg.normal(shape=(5, 3)))

    def init_state(self, batch_size: int) -> Any:
        return mg.zeros((batch_size, 1))


class Delay(Small):
    """The backward has nothing to store, and yet reads what the forward has left."""

    def init_state(self, batch_size: int) -> Any:
        return mg.zeros((batch_size, 2))

    def step(self, x: mg.Tensor, state: Any) -> Any:
        return state @ self.w, x


class SpreadState(Small):
    """A product of a state that is spread over columns first."""

    def step(self, x: mg.Tensor, state: Any) -> Any:
        y = mg.broadcast_to(state, (x.shape[0], 5)) @ self.v
        return y, mg.tanh(state + x[:, :1])


class SpreadResult(Small):
    def step(self, x: mg.Tensor, state: Any) -> Any:
        state = mg.tanh(state + x[:, :1])
        return mg.broadcast_to(state, (x.shape[0], 5)) @ self.v, state


class RowsApart(Small):
    """Constants put together along the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = mg.normal(shape=(1, 4)), mg.normal(shape=(2, 4))

    def step(self, x: mg.Tensor, state: Any) -> Any:
        state = mg.tanh(state + x[:, :1])
        return mg.concat([state, mg.concat([self.a, self.b], axis=0)], axis=1) @ self.v, state


class AddsBooleans(Small):
    def step(self, x: mg.Tensor, state: Any) -> Any:
        state = mg.tanh(state + x[:, :1])
        return ((x > 0) + (x > -0.2)).astype(x.dtype) * state, state


@mg.primitive
def softplus(xp: Any, x: Any, /) -> Any:
    return 3 * x


@mg.primitive
def relu(xp: Any, x: Any, /) -> Any:
    return 5 * x


mg.defvjp(softplus, lambda g: 3 * g)
mg.defvjp(relu, lambda g: 5 * g)


class NamedLikeOurs(Small):
    def step(self, x: mg.Tensor, state: Any) -> Any:
        state = mg.tanh(state + softplus(x[:, :1]) - relu(x[:, 1:]))
        return state, state


class CopiedState(Small):
    """A product of columns of the state, of which something else has a copy that is made in the same step."""

    def init_state(self, batch_size: int) -> Any:
        return mg.zeros((batch_size, 4))

    def step(self, x: mg.Tensor, state: Any) -> Any:
        copies = mg.concat([state, state], axis=1)
        return mg.softmax(copies, axis=1), mg.tanh((copies[:, :2] @ self.w)[:, :1] + state + x[:, :1])


REGRESSIONS = [Delay, SpreadState, SpreadResult, RowsApart, AddsBooleans, NamedLikeOurs, CopiedState]


@pytest.mark.parametrize("cell", REGRESSIONS)
def test_regressions(cell: Any) -> None:
    made = cell()
    for state_grad in (True, False):
        compare(*pair(made), Case(made, steps=40, x_grad=state_grad, state_grad=state_grad))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "uint64"])
def test_integers_compared_with_numbers_beyond_their_dtype(dtype: str) -> None:
    class Compares(Small):
        def step(self, x: mg.Tensor, state: Any) -> Any:
            n = (mg.abs(x) * 50).astype(dtype)
            flags = [n > -1, n < 300, n == 2**40, n != 2**64, n <= -(2**63) - 1, n >= 2**31, n < 2]
            return mg.concat([flag.astype(x.dtype) for flag in flags], axis=1), state

    cell = Compares()
    plan, tape = pair(cell)
    compare(plan, tape, Case(cell, x_grad=False))
    assert is_native(plan)


def test_log_softmax_of_large_numbers_is_as_exact_as_on_the_tape() -> None:
    class Logs(Small):
        def step(self, x: mg.Tensor, state: Any) -> Any:
            return mg.log_softmax(x), state

    plan, tape = pair(Logs())
    x = np.array([[[10000.0, 10001.0], [0.5, np.inf]]])
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(plan(x)[0].numpy(), tape(x)[0].numpy(), rtol=1e-15)
    assert is_native(plan)


def test_a_chain_too_long_to_be_written_in_c_is_run_by_array_calls() -> None:
    class Chain(Small):
        def step(self, x: mg.Tensor, state: Any) -> Any:
            for _ in range(600):
                state = state + 0.01 * mg.tanh(x[:, :1] - state)
            return state, state

    cell = Chain()
    plan, tape = pair(cell)
    compare(plan, tape, Case(cell, steps=2))
    assert not is_native(plan)
    assert "not compiled to C: too many of its operations follow one on the other" in plan.explain()


def test_weights_between_other_data() -> None:
    cell = mg.RNNCell(2, 3)
    records = np.zeros((3, 2), dtype=[("weight", "f8"), ("flag", "i4")])
    records["weight"] = cell.weight_ih.numpy()
    plan, tape = pair(cell)
    case = Case(cell)
    expected = run(tape, case)
    cell.weight_ih.data = records["weight"]
    agree(run(plan, case), expected)


def test_a_large_batch_needs_no_stack() -> None:
    cell = mg.RNNCell(1, 1)
    layer = mg.Recurrent(cell)
    with mg.no_grad():
        ys, _ = layer(mg.ones((1, 700_000, 1), dtype="float64"))
    assert np.ptp(ys.numpy()) == 0
