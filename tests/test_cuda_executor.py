"""The CUDA executor gives what the tape gives: on a stand-in for the device, whose kernels a C++ compiler makes."""

from __future__ import annotations

import shutil
from typing import Any

import fake_cuda
import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from plan_cells import CELLS
from plan_cells_random import RANDOM
from plan_runs import LOSSES, Case, agree, compare, everything, pair, run
from test_plan_random_cells import as_text, cells

import minigrad as mg
from minigrad.plan.cuda import executor as cuda_executor
from minigrad.plan.cuda.executor import CudaExecutor

pytestmark = [
    pytest.mark.host_only("it has a stand-in of its own"),
    pytest.mark.skipif(not shutil.which("g++"), reason="there is no g++ to compile the kernels for the CPU"),
]
ALL = CELLS | RANDOM
NOT_COMPILED = {
    "AcrossBatch": "mixes sequences",
    "Turned": "mixes sequences",
    "Gram": "mixes sequences",
    "Foreign": "is an operation of",
}
"""Cells that cannot be written in CUDA, with what is said of them; all others are."""


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The pretended `cupy.cuda`."""
    mg.set_default_dtype("float64")
    return fake_cuda.install(monkeypatch).xp.cuda


def is_compiled(layer: mg.Recurrent) -> bool:
    latest = layer._plans.latest
    return latest is not None and isinstance(latest.executor, CudaExecutor)


# --- plan equals tape


@pytest.mark.parametrize("name", [name for name in ALL if name not in RANDOM or name in list(RANDOM)[:4]])
def test_equals_tape(name: str) -> None:
    """Run twice, so that the loop is called step by step, and then a captured graph."""
    cell = ALL[name]()
    plan, tape = pair(cell)
    compare(plan, tape, Case(cell))
    assert is_compiled(plan) == (name not in NOT_COMPILED), plan.explain().splitlines()[1]
    if name in NOT_COMPILED:
        assert NOT_COMPILED[name] in plan.explain().splitlines()[1]


@settings(max_examples=30)
@given(data=st.data(), batch=st.integers(1, 3))
def check_random_cell(data: Any, batch: int) -> None:
    mg.seed(0)
    cell = data.draw(cells())
    note(as_text(cell))
    case = Case(cell, 3, batch, x_grad=data.draw(st.booleans()), state_grad=data.draw(st.booleans()))
    plan, tape = pair(cell, checkpoint_every=data.draw(st.sampled_from([None, None, 2])))
    lengths = data.draw(st.none() | st.lists(st.integers(0, 3), min_size=batch, max_size=batch))
    expected = run(tape, case, lengths)
    for _ in range(2):
        agree(run(plan, case, lengths), expected, rtol=1e-9, atol=1e-9)


def test_random_cells() -> None:
    check_random_cell()


WAYS: dict[str, Any] = {
    "lengths": {"lengths": [5, 0, 1]},
    "reverse and lengths": {"reverse": True, "lengths": [2, 4, 1]},
    "checkpoints": {"checkpoint_every": 2},
    "checkpoints and lengths": {"checkpoint_every": 3, "lengths": [5, 0, 1]},
}
MIXED = ["lstm", "gru", "Delay", "Nested", "Deep", "Memory", "Letters", *list(RANDOM)[:3]]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", MIXED)
def test_ways(name: str, way: str) -> None:
    options = dict(WAYS[way])
    lengths = options.pop("lengths", None)
    cell = ALL[name]()
    compare(*pair(cell, **options), Case(cell), lengths=lengths)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", ["lstm", "gru", "Passing", "Delay"])
def test_whatever_the_loss_reads(name: str, loss: str) -> None:
    cell = ALL[name]()
    compare(*pair(cell), Case(cell), loss=LOSSES[loss])


class Term(mg.Cell):
    """A product that is a term of a sum, and wanted for itself: as the output, forward; for a bias, backward."""

    def __init__(self) -> None:
        self.u, self.bias = mg.Parameter(mg.normal(shape=(3, 3), std=0.5)), mg.Parameter(mg.zeros((3,)))

    def init_state(self, batch_size: int) -> Any:
        return mg.zeros((batch_size, 3))

    def step(self, x: mg.Tensor, state: Any) -> Any:
        product = mg.tanh(state) @ self.u
        return product, product + mg.sin(state)


class Bias(Term):
    """The product's gradient goes into a bias, and with another one into a second one."""

    def step(self, x: mg.Tensor, state: Any) -> Any:
        both = mg.stack([mg.broadcast_to(self.bias, state.shape), state], axis=1)[:, 0]
        return mg.tanh(both), mg.tanh((self.bias + both) @ self.u)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("cell", [Term, Bias])
def test_a_term_that_is_wanted_for_itself(cell: Any, batch: int) -> None:
    made = cell()
    plan, tape = pair(made)
    compare(plan, tape, Case(made, batch=batch))
    assert is_compiled(plan)


@pytest.mark.parametrize(("batch", "size"), [(1, 1), (5, 33), (2, 260)])
def test_odd_sizes(batch: int, size: int) -> None:
    """More columns than a block has threads, and less than a warp."""
    for cell in (mg.LSTMCell(2, size), Normed(2, size)):
        plan, tape = pair(cell)
        compare(plan, tape, Case(cell, batch=batch, steps=2))
        assert is_compiled(plan)


class Normed(mg.Cell):
    """Layer norm, softmax and the like in the loop."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        self.input_size, self.hidden_size = input_size, hidden_size
        self.into, self.over = mg.Linear(input_size, hidden_size), mg.Linear(hidden_size, hidden_size)
        self.norm = mg.LayerNorm(hidden_size)

    def init_state(self, batch_size: int) -> Any:
        return mg.zeros((batch_size, self.hidden_size))

    def step(self, x: mg.Tensor, state: Any) -> Any:
        new = mg.tanh(self.norm(self.into(x) + self.over(state)))
        weights = mg.softmax(new) + mg.log_softmax(2 * new) + mg.logsumexp(new, axis=-1, keepdims=True)
        state = new * weights + new.max(axis=-1, keepdims=True) - state.mean(axis=1, keepdims=True)
        return state, mg.tanh(state)


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_float32(name: str) -> None:
    mg.set_default_dtype("float32")
    cell = mg.cell(name, 2, 19)
    plan, tape = pair(cell)
    case = Case(cell)
    agree(run(plan, case), run(tape, case), rtol=2e-5, atol=2e-5)
    assert is_compiled(plan)


def test_rows_in_several_launches(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as a kernel can count."""
    monkeypatch.setattr(cuda_executor, "MOST_ELEMENTS", 13)
    for cell in (mg.LSTMCell(2, 5), Normed(2, 5)):
        compare(*pair(cell), Case(cell))


def test_a_kernel_counts_its_elements_without_going_round() -> None:
    """After its last element a thread adds as many as all threads together have, and compares."""
    assert np.iinfo(np.int32).max + 1 >= 2 * cuda_executor.MOST_ELEMENTS


def test_other_sizes_and_second_runs_have_graphs_too() -> None:
    layer = mg.Recurrent(mg.LSTMCell(2, 5), engine="plan")
    launched = mg.get_backend().xp.cuda.counts

    def step(*steps: int) -> None:
        outputs = [layer(mg.normal(shape=(n, 3, 2)))[0].sum() for n in steps]
        for y in outputs:
            y.backward()

    for steps in ((5,), (4,), (5, 5)):
        for _ in range(3):
            step(*steps)
    launched.clear()
    step(5)
    step(4)
    step(5, 5)
    assert launched["graphs"] == 8


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

    expected = both(tape)
    for _ in range(3):
        agree(both(plan), expected)


def test_results_are_nobody_elses(device: Any) -> None:
    """What a caller gets does not change with the next run, which uses the same memory."""
    layer = mg.Recurrent(mg.LSTMCell(2, 5), engine="plan")
    x = mg.tensor(mg.normal(shape=(4, 3, 2)), True)
    ys, (h, c) = layer(x)
    ys.sum().backward()
    found = [ys, h, c, x.grad, *(p.grad for p in layer.parameters())]
    before = [tensor.numpy().copy() for tensor in found]
    again, _ = layer(mg.tensor(mg.normal(shape=(4, 3, 2)), True))
    again.sum().backward(mg.tensor(7.0))
    for tensor, values in zip(found[:4], before, strict=False):
        np.testing.assert_array_equal(tensor.numpy(), values)


def test_updated_weights_are_read_anew() -> None:
    cell = mg.GRUCell(2, 5)
    plan, tape = pair(cell)
    case = Case(cell)
    for _ in range(3):
        agree(run(plan, case), run(tape, case))
        for parameter in cell.parameters():
            parameter.data = parameter.data * 0.9


def test_nan_goes_through() -> None:
    cell = Normed(2, 4)
    plan, tape = pair(cell)
    x = np.zeros((4, 3, 2))
    x[1, 0, 0] = np.nan
    with np.errstate(all="ignore"):
        found, expected = plan(mg.tensor(x))[0].numpy(), tape(mg.tensor(x))[0].numpy()
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    assert np.isnan(found[1:, 0]).all()
    assert not np.isnan(found[:, 1:]).any()


def test_an_index_out_of_range_is_told() -> None:
    class Looking(mg.Cell):
        def __init__(self) -> None:
            self.table = mg.Parameter(mg.normal(shape=(4, 2)))

        def init_state(self, batch_size: int) -> Any:
            return mg.zeros((batch_size, 2))

        def step(self, x: mg.Tensor, state: Any) -> Any:
            state = mg.tanh(state + mg.take(self.table, x))
            return state, state

    plan, tape = pair(Looking())
    good, bad = np.array([[0, 3], [1, -4]]), np.array([[0, 3], [1, 4]])
    np.testing.assert_allclose(plan(mg.tensor(good))[0].numpy(), tape(mg.tensor(good))[0].numpy(), rtol=1e-12)
    with pytest.raises(IndexError, match="take: "):
        plan(mg.tensor(bad))[0].numpy()
    np.testing.assert_allclose(plan(mg.tensor(good))[0].numpy(), tape(mg.tensor(good))[0].numpy(), rtol=1e-12)
    assert is_compiled(plan)
