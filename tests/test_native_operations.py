"""The native executor, operation by operation: as NumPy has it, at odd sizes, for integers, NaN and infinity."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from plan_runs import Case, agree, compare, pair, run

import minigrad as mg
from minigrad import ops
from minigrad.plan.native import parts
from minigrad.plan.native.executor import NativeExecutor
from minigrad.plan.native.moves import VIEWS
from minigrad.primitive import Primitive

pytestmark = [
    pytest.mark.host_only("native code runs on NumPy's arrays"),
    pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="there is no C compiler on the path"),
]


@pytest.fixture(autouse=True)
def _native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIGRAD_NATIVE", "1")
    mg.set_default_dtype("float64")


def is_native(layer: mg.Recurrent) -> bool:
    latest = layer._plans.latest
    return latest is not None and isinstance(latest.executor, NativeExecutor)


class Made(mg.Cell):
    """A cell of a function of x and the state, which gives the output and the new state."""

    def __init__(self, step: Callable[[Any, Any], Any], state: Callable[[int], Any], features: tuple[int, ...]) -> None:
        self.made, self.start, self.features = step, state, features

    def init_state(self, batch_size: int) -> Any:
        return self.start(batch_size)

    def step(self, x: Any, state: Any) -> Any:
        return self.made(x, state)


# --- matrices and states of several axes


class Heads(mg.Cell):
    """Attention of several heads over a memory, which is written to."""

    def __init__(self, size: int, slots: int) -> None:
        self.features, self.slots, self.size = (size,), slots, size
        self.query, self.key = mg.Linear(size, 2 * size), mg.Linear(size, 2 * size, bias=False)
        self.mix = mg.Parameter(mg.normal(shape=(2, size, size), std=0.3))

    def init_state(self, batch_size: int) -> Any:
        return mg.zeros((batch_size, self.slots, self.size))

    def step(self, x: mg.Tensor, state: mg.Tensor) -> Any:
        b, n = x.shape[0], self.size
        query = mg.reshape(self.query(x), (b, 2, 1, n))
        keys = mg.permute_dims(mg.reshape(self.key(state), (b, self.slots, 2, n)), (0, 2, 1, 3))
        weights = mg.softmax(query @ mg.matrix_transpose(keys), axis=-1)  # (b, head, 1, slot)
        read = mg.squeeze(weights @ keys, 2) @ self.mix[0] + mg.max(keys, axis=2)
        gate = mg.sigmoid(mg.logsumexp(weights, axis=(1, 2)))  # (b, slot)
        state = state * mg.expand_dims(gate, -1) + mg.expand_dims(mg.tanh(read.mean(axis=1)), 1) * 0.5
        return mg.permute_dims(read, (0, 2, 1)), state


@pytest.mark.parametrize("size", [1, 15, 16, 17])
@pytest.mark.parametrize("batch", [1, 3, 17])
def test_matrices_in_a_step(size: int, batch: int) -> None:
    cell = Heads(size, 3)
    plan, tape = pair(cell)
    case = Case(cell, steps=3, batch=batch)
    compare(plan, tape, case, lengths=[*[3, 1, 2] * 6][:batch])
    assert is_native(plan), plan.explain()


def test_matrices_in_float32() -> None:
    mg.set_default_dtype("float32")
    cell = Heads(9, 5)
    plan, tape = pair(cell)
    case = Case(cell)
    agree(run(plan, case), run(tape, case), rtol=1e-4, atol=1e-5)
    assert is_native(plan)


MOVES: dict[str, Callable[[Any], Any]] = {
    "every third": lambda v: v[..., ::3],
    "backwards": lambda v: v[..., ::-2],
    "transposed": mg.matrix_transpose,
    "rolled": lambda v: mg.concat([v[:, 1:], v[:, :1]], axis=1),
    "interleaved": lambda v: mg.reshape(mg.stack([v, 2 * v], axis=-1), (v.shape[0], v.shape[1], -1)),
    "repeated": lambda v: mg.broadcast_to(v[:, :1], (v.shape[0], 40, v.shape[2])),
    "chosen": lambda v: v[:, [2, 0, 0, 1]] + v[:, [0, 1, 2, 2]][:, :, :1],
    "taken": lambda v: mg.take(v, mg.tensor([[0, -1], [1, 1]]), axis=1)[:, :, 0],
    "padded": lambda v: mg.pad(v, [(0, 0), (1, 2), (0, 1)], value=0.5),
    "put last": lambda v: mg.permute_dims(v, (1, 2, 0))[1:].T,
    "flipped": lambda v: mg.flip(v, axis=(1, 2)),
    "flat and back": lambda v: mg.reshape(mg.reshape(v, (-1,)), (v.shape[0], -1, 1)),
}


@pytest.mark.parametrize("name", MOVES)
@pytest.mark.parametrize("batch", [1, 3])
def test_moves(name: str, batch: int) -> None:
    def step(x: Any, state: Any) -> Any:
        moved = MOVES[name](mg.sin(x + state))
        return moved * mg.cos(moved), mg.tanh(x * state) + 0.1 * moved.mean(axis=(1, 2), keepdims=True)

    cell = Made(step, lambda batch: mg.zeros((batch, 3, 20)), (3, 20))
    plan, tape = pair(cell)
    compare(plan, tape, Case(cell, batch=batch))
    assert is_native(plan), plan.explain()


REDUCTIONS: dict[str, Callable[[Any], Any]] = {
    "sum": mg.sum, "mean": mg.mean, "max": mg.max, "min": mg.min, "logsumexp": mg.logsumexp
}  # fmt: skip


@pytest.mark.parametrize("axis", [1, 2, -1, (1, 3), (2, 1), (1, 2, 3)])
@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions_with_nan_and_infinity(name: str, axis: Any) -> None:
    def step(x: Any, state: Any) -> Any:
        return REDUCTIONS[name](x * state, axis=axis), state

    plan, tape = pair(Made(step, lambda batch: mg.ones((batch, 1, 1, 1)), (3, 2, 17)))
    x = np.random.default_rng(0).normal(size=(2, 4, 3, 2, 17))
    x[0, 0, 0, 0, 0], x[0, 1, 1, 1, 3], x[1, 2, 0, 1, 16], x[1, 3] = np.nan, np.inf, -np.inf, -np.inf
    with np.errstate(all="ignore"):
        found, expected = plan(mg.tensor(x))[0].numpy(), tape(mg.tensor(x))[0].numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert is_native(plan), plan.explain()


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_softmax_along_any_axis(axis: int) -> None:
    def step(x: Any, state: Any) -> Any:
        z = mg.sin(x) + state
        return mg.softmax(z, axis=axis) + mg.log_softmax(2 * z, axis=axis), 0.5 * z

    cell = Made(step, lambda batch: mg.zeros((batch, 3, 2, 17)), (3, 2, 17))
    plan, tape = pair(cell)
    compare(plan, tape, Case(cell))
    assert is_native(plan), plan.explain()


def test_powers_as_numpy_has_them() -> None:
    def step(x: Any, state: Any) -> Any:
        return x**state, state

    plan, tape = pair(Made(step, lambda batch: mg.zeros((batch, 4)), (4,)))
    special = np.array([0.0, -0.0, 1.0, -2.0, np.inf, -np.inf, np.nan, 0.5])
    x, state = (part.reshape(1, 16, 4) for part in np.meshgrid(special, special))
    with np.errstate(all="ignore"):
        found, expected = (layer(mg.tensor(x), mg.tensor(state[0]))[0].numpy() for layer in (plan, tape))
    np.testing.assert_array_equal(found, expected)
    assert is_native(plan)


# --- integers and booleans

INTEGERS: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "negative": lambda a, b: -a,
    "square": lambda a, b: mg.square(a),
    "abs": lambda a, b: mg.abs(a),
    "sign": lambda a, b: mg.sign(a) - mg.sign(b),
    "maximum": mg.maximum,
    "minimum": lambda a, b: mg.minimum(a, b) + mg.maximum(a, 3),
    "clip": lambda a, b: mg.clip(a, 2, 90),
    "where": lambda a, b: mg.where(a > b, a, mg.where(mg.equal(a, 3), b, 7)),
    "sum": lambda a, b: (a.sum(axis=-1, keepdims=True) + b).astype(a.dtype),
    "max": lambda a, b: a.max(axis=1, keepdims=True) - mg.min(b, axis=1, keepdims=True) + a,
    "argmax": lambda a, b: (mg.argmax(a, axis=1, keepdims=True) + b).astype(a.dtype),
    "logic": lambda a, b: (mg.logical_and(a, b) | mg.logical_not(a)).astype(a.dtype),
    "compare": lambda a, b: (a <= b).astype(a.dtype) + mg.not_equal(a, b).astype(a.dtype) + (a > 2.5).astype(a.dtype),
    "of floats": lambda a, b: (mg.astype(a, "float64") / 3 * b).astype(a.dtype),
    "quotient": lambda a, b: (a / 7).astype(a.dtype),
}


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64"])
@pytest.mark.parametrize("name", INTEGERS)
def test_integers_as_numpy_has_them(name: str, dtype: str) -> None:
    def step(x: Any, state: Any) -> Any:
        new = INTEGERS[name](x, state)
        return state[:, ::-1], new.astype(dtype) + 0 * x

    cell = Made(step, lambda batch: mg.zeros((batch, 5), dtype=dtype), (5,))
    plan, tape = pair(cell)
    info = np.iinfo(dtype)
    x = np.random.default_rng(1).integers(info.min, info.max, size=(6, 3, 5), dtype=dtype)
    x[0] = [info.max, info.min, 0, 1, 3]
    with np.errstate(all="ignore"):
        (ys, last), (expected, expected_last) = plan(mg.tensor(x)), tape(mg.tensor(x))
    for found, wanted in ((ys, expected), (last, expected_last)):
        assert found.dtype == wanted.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(found.numpy(), wanted.numpy())
    assert is_native(plan), plan.explain()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_booleans_as_state_and_output(dtype: str) -> None:
    mg.set_default_dtype(dtype)

    def step(x: Any, state: Any) -> Any:
        seen, count = state
        now = (x > 0.5) | seen
        return now & (x < 1), (now, count + now.sum(axis=-1) * (x[:, 0] > 0))

    def state(batch: int) -> Any:
        return mg.zeros((batch, 7), dtype="bool"), mg.zeros(batch, dtype="int64")

    cell = Made(step, state, (7,))
    plan, tape = pair(cell)
    compare(plan, tape, Case(cell), lengths=[5, 0, 3])
    assert is_native(plan), plan.explain()


class OtherConstants(mg.Cell):
    """Integers and booleans that depend on nothing, among numbers."""

    def __init__(self) -> None:
        self.features = (2,)
        self.counts, self.flags = mg.tensor([1, 2, 3]), mg.tensor([[True], [False], [True]])
        self.w = mg.Parameter(mg.normal(shape=(3, 3)))

    def init_state(self, batch_size: int) -> Any:
        return mg.zeros((batch_size, 3))

    def step(self, x: Any, state: Any) -> Any:
        state = mg.tanh(state @ self.w * self.counts + x[:, :1])
        chosen = mg.where(state * self.counts > self.counts - 2, state, self.counts * 0.1)
        flagged = mg.where(self.flags, mg.expand_dims(state, 1), mg.expand_dims(x[:, 1:], 2))  # (B, 3, 3)
        return chosen + (state * state) ** self.counts, mg.tanh(flagged.sum(axis=1))


def test_constants_of_other_dtypes() -> None:
    cell = OtherConstants()
    plan, tape = pair(cell)
    compare(plan, tape, Case(cell))
    assert is_native(plan), plan.explain()


def test_pieces_of_several_dtypes() -> None:
    def step(x: Any, state: Any) -> Any:
        count, h = state
        both = mg.concat([h, mg.expand_dims(count, 1), x > 0], axis=1)
        side = mg.stack([mg.argmax(x, axis=1), x[:, 0] > 0], axis=1)
        h = mg.tanh(h + both[:, 3:4] * 0.1 + both[:, 4:])
        return mg.concat([both, side.sum(axis=1, keepdims=True)], axis=-1), (count + side[:, 0], h)

    cell = Made(step, lambda batch: (mg.zeros(batch, dtype="int64"), mg.zeros((batch, 3))), (3,))
    plan, tape = pair(cell)
    compare(plan, tape, Case(cell))
    assert is_native(plan), plan.explain()


# --- elements found by integers


class Lookups(mg.Cell):
    """Rows of tables and columns of values, by integers that are given and that are computed."""

    def __init__(self, size: int) -> None:
        self.vocabulary, self.features = 5, (4,)
        self.table = mg.Parameter(mg.normal(shape=(5, size)))
        self.deep = mg.Parameter(mg.normal(shape=(2, 5, size)))

    def init_state(self, batch_size: int) -> Any:
        return mg.zeros((batch_size, self.table.shape[1]))

    def step(self, x: Any, state: Any) -> Any:
        seen = mg.take(self.table, x - 3, axis=0)  # (B, 4, size), some from the end
        places = mg.take(self.deep, x, axis=1)  # (2, B, 4, size)
        best = mg.argmax(seen, axis=1, keepdims=True)
        state = mg.tanh(state + seen.sum(axis=1) + mg.squeeze(mg.take_along_axis(seen, best, axis=1), 1))
        best_unit = mg.take(state, mg.argmax(self.table[0]), axis=1)  # (B,)
        state = state * 0.5 + mg.sin(places).mean(axis=(0, 2)) * mg.expand_dims(best_unit, -1)
        return mg.one_hot(x, 5, dtype=state.dtype) * 0.1 + state[:, :1, None], state


@pytest.mark.parametrize("size", [1, 16, 17])
@pytest.mark.parametrize("batch", [1, 3])
def test_lookups(size: int, batch: int) -> None:
    cell = Lookups(size)
    plan, tape = pair(cell)
    case = Case(cell, batch=batch)
    case.x = mg.tensor(np.random.default_rng(0).integers(0, 5, size=(5, batch, 4)))
    compare(plan, tape, case)
    assert is_native(plan), plan.explain()


class Embedded(mg.Cell):
    def __init__(self) -> None:
        self.vocabulary, self.features = 5, ()
        self.table = mg.Embedding(5, 3)

    def init_state(self, batch_size: int) -> Any:
        return mg.zeros((batch_size, 3))

    def step(self, x: Any, state: Any) -> Any:
        state = mg.tanh(self.table(x) + state)
        return state, state


@pytest.mark.parametrize("index", [5, -1, 10**12])
def test_an_index_out_of_range_is_the_error_that_it_is_elsewhere(index: int) -> None:
    cell = Embedded()
    plan, tape = pair(cell)
    good, bad = np.ones((4, 2), int), np.ones((4, 2), int)
    bad[2, 1] = index
    said = []
    for layer in (plan, tape):
        layer(mg.tensor(good))
        with pytest.raises(IndexError) as error:
            layer(mg.tensor(bad))
        said.append(str(error.value))
    assert is_native(plan)
    assert str(index) in said[0]
    np.testing.assert_allclose(plan(mg.tensor(good))[0].numpy(), tape(mg.tensor(good))[0].numpy(), rtol=1e-12)


# --- all operations


def test_every_operation_is_known() -> None:
    modules = [getattr(ops, name) for name in ("elementwise", "activation", "reduction", "shape", "linalg", "indexing")]
    made = [getattr(function, "op", None) for module in modules for function in vars(module).values()]
    names = {op.name for op in made if isinstance(op, Primitive)}
    assert len(names) > 60
    moves = {"getitem_transpose", "concat", "stack", "pad", "detach"} | VIEWS
    computed = parts.VECTORS | parts.SCALARS | parts.PRODUCTS | parts.REDUCTIONS | parts.GATHERS
    assert names - moves - computed == set()


# --- what sequences must not share

MIXING: dict[str, Callable[[Any], Any]] = {
    "mean of shape (2,)": lambda x: x - x.mean(axis=0),
    "softmax of shape (4, 2)": lambda x: mg.softmax(x, axis=0),
    "flip of shape (4, 2)": lambda x: mg.flip(x),
    "getitem of shape (2,)": lambda x: x - x[0],
    "matmul of shape (4, 4)": lambda x: (x @ x.T) @ x,
    "take of shape (4, 2)": lambda x: mg.take(x, mg.tensor([1, 0, 3, 2]), axis=0),
    "getitem of shape (2, 2)": lambda x: mg.concat([x[2:], x[:2]]),
    "add of shape (4, 4)": lambda x: (x[:, :1] + x[:, 0]) @ x,
}


@pytest.mark.parametrize("name", MIXING)
def test_sequences_that_meet_are_left_to_numpy(name: str) -> None:
    cell = Made(lambda x, state: (MIXING[name](x) + state, mg.tanh(x)), lambda batch: mg.zeros((batch, 2)), (2,))
    plan, tape = pair(cell)
    compare(plan, tape, Case(cell, batch=4))
    assert not is_native(plan)
    why = plan.explain().splitlines()[1]
    assert "mixes sequences" in why
    assert name.split()[0] in why


def test_a_single_sequence_meets_none() -> None:
    cell = Made(lambda x, state: (x - x.mean(axis=0) + state, mg.tanh(x)), lambda batch: mg.zeros((batch, 2)), (2,))
    plan, tape = pair(cell)
    compare(plan, tape, Case(cell, batch=1))
    assert is_native(plan), plan.explain()
