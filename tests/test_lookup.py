"""Layers that are given rows of a table: the plan looks them up by itself, and nothing but the speed tells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_runs import agree, host, weighted

import minigrad as mg
from minigrad.lookup import looked_up
from minigrad.plan.plans import Plans

pytestmark = pytest.mark.both_executors

V, E, H, T, B = 7, 4, 3, 5, 3
INDICES = np.random.default_rng(0).integers(0, V, (T, B))


class Both(mg.Cell):
    """Multiplies x and the state together, and uses x once more by itself."""

    def __init__(self, size: int) -> None:
        self.weight = mg.Parameter(mg.normal(shape=(size, 2 * size)) * 0.5)

    def init_state(self, batch_size: int) -> mg.Tensor:
        return mg.zeros((batch_size, self.weight.shape[0]))

    def step(self, x: mg.Tensor, h: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
        h = mg.tanh(mg.linear(mg.concat([x, h], -1), self.weight))
        return h + x, h


CELLS: dict[str, Callable[[], mg.Cell]] = {
    "rnn": lambda: mg.RNNCell(E, H),
    "lstm": lambda: mg.LSTMCell(E, H),
    "gru": lambda: mg.GRUCell(E, H),
    "both": lambda: Both(E),
}
LAYERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "reverse": {"reverse": True},
    "batch first": {"batch_first": True},
    "checkpoints": {"checkpoint_every": 2},
    "learned start": {"learn_initial_state": True},
}


@pytest.fixture(autouse=True)
def _float64(backend: Any) -> None:
    mg.set_default_dtype("float64")


def is_looked_up(layer: mg.Recurrent) -> bool:
    return "table" in layer.explain()


def results(layer: Any, embedding: mg.Embedding, indices: Any, **options: Any) -> list[Any]:
    """Outputs, last state, and all gradients."""
    ys, state, *rest = layer(embedding(mg.tensor(indices)), **options)
    loss = weighted(ys, state, *rest)
    parameters = [*embedding.parameters(), *layer.parameters()]
    return [host(ys), *(host(g) for g in mg.grad(loss, parameters))]


def pair(make: Callable[..., Any]) -> tuple[Any, Any]:
    """The same layer with each engine."""
    made = []
    for engine in ("plan", "tape"):
        mg.seed(1)
        made.append(make(engine=engine))
    return made[0], made[1]


@pytest.mark.parametrize("lengths", [None, [3, 3, 3], [5, 2, 0]], ids=str)
@pytest.mark.parametrize("options", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_equals_tape(backend: Any, cell: Any, options: Any, lengths: Any) -> None:
    embedding = mg.Embedding(V, E)
    plan, tape = pair(lambda engine: mg.Recurrent(cell(), engine=engine, **options))
    indices = INDICES.T if options.get("batch_first") else INDICES
    how = {"lengths": lengths, "return_states": True}
    agree(results(plan, embedding, indices, **how), results(tape, embedding, indices, **how))
    assert is_looked_up(plan) == (backend.name == "numpy" and lengths != [5, 2, 0])  # of which one ends before others


def test_equals_tape_in_both_directions_and_in_stacks() -> None:
    embedding = mg.Embedding(V, E)

    def make(engine: str) -> mg.Stack:
        both = mg.Bidirectional(mg.GRUCell(E, H), engine=engine)
        return mg.Stack(both, mg.Recurrent(mg.LSTMCell(2 * H, H), engine=engine))

    plan, tape = pair(make)
    for lengths in (None, [5, 2, 1]):
        agree(results(plan, embedding, INDICES, lengths=lengths), results(tape, embedding, INDICES, lengths=lengths))


@given(st.integers(1, 12), st.integers(1, 6), st.integers(1, 4), st.integers(1, 5), st.integers(0, 9))
@pytest.mark.one_executor("hypothesis takes the backend of the first run")
def test_any_sizes(rows: int, steps: int, batch: int, size: int, seed: int) -> None:
    mg.seed(seed)
    embedding, cell = mg.Embedding(rows, size), mg.GRUCell(size, 2)
    indices = np.random.default_rng(seed).integers(0, rows, (steps, batch))
    found = [results(mg.Recurrent(cell, engine=engine), embedding, indices) for engine in ("plan", "tape")]
    agree(*found)


def test_the_table_is_multiplied_once_and_not_each_step(backend: Any) -> None:
    if backend.name != "numpy":
        assert looked_up(mg.Embedding(V, E)(mg.tensor(INDICES)), B, Plans()) is None
        return
    layer = mg.Recurrent(mg.LSTMCell(E, H))
    results(layer, mg.Embedding(V, E), INDICES)
    constant, rest = layer.explain().split("input (from x")
    assert f"({V}, {4 * H}) = linear(table, cell.weight_ih)" in constant
    assert "linear(%" not in rest.split("recurrent (")[0]  # x is not multiplied
    final = layer.explain().split("final (")[1]
    assert "matmul(%" in final
    assert "table" in final


def test_sequences_that_meet_in_a_cell_and_end_at_different_steps() -> None:
    class Meeting(mg.Cell):
        def __init__(self) -> None:
            self.linear = mg.Linear(E, H)

        def init_state(self, batch_size: int) -> mg.Tensor:
            return mg.zeros((batch_size, H))

        def step(self, x: mg.Tensor, h: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
            h = mg.tanh(self.linear(x - mg.mean(x, 0, keepdims=True)) + h)
            return h, h

    embedding = mg.Embedding(V, E)
    plan, tape = pair(lambda engine: mg.Recurrent(Meeting(), engine=engine))
    for lengths in (None, [5, 2, 1]):
        agree(results(plan, embedding, INDICES, lengths=lengths), results(tape, embedding, INDICES, lengths=lengths))


def test_gradients_of_inputs_that_share_one_cotangent() -> None:
    class Sum(mg.Cell):
        def __init__(self) -> None:
            self.linear = mg.Linear(E, E)

        def init_state(self, batch_size: int) -> Any:
            return mg.zeros((batch_size, E)), mg.zeros((batch_size, E))

        def step(self, x: mg.Tensor, state: Any) -> Any:
            y = sum(state, self.linear(x))
            return y, (y, y * 2)

    embedding, found = mg.Embedding(V, E), []
    for layer in pair(lambda engine: mg.Recurrent(Sum(), engine=engine)):
        for steps in (1, 3):
            a, b = mg.tensor(np.ones((B, E)), requires_grad=True), mg.tensor(np.ones((B, E)), requires_grad=True)
            h, c = a * 1.0, b * 1.0
            before, x = (h * h).sum(), embedding(mg.tensor(np.tile(INDICES, (2, 1))[: 3 * steps]))
            ys, _ = layer(x, (h, c))
            found.append([host(g) for g in mg.grad(ys.sum() + before, [x, a, b])])
    agree(found[0] + found[1], found[2] + found[3])


@pytest.mark.parametrize("wanted", ["x", "x and the table", "x and all"])
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_the_gradient_of_the_vectors_can_be_asked_for(cell: Any, wanted: str) -> None:
    embedding = mg.Embedding(V, E)
    found = []
    for layer in pair(lambda engine: mg.Recurrent(cell(), engine=engine)):
        x = embedding(mg.tensor(INDICES))
        more = {"x": [], "x and the table": [embedding.weight], "x and all": [embedding.weight, *layer.parameters()]}
        found.append([host(g) for g in mg.grad(weighted(*layer(x)), [x, *more[wanted]])])
        layer(embedding(mg.tensor(INDICES)))
        assert not is_looked_up(layer)  # any more: who asks once asks again
    agree(*found)
    assert np.abs(found[0][0]).min() > 0


def test_vectors_that_something_else_reads_too() -> None:
    embedding, found = mg.Embedding(V, H), []
    for layer in pair(lambda engine: mg.Recurrent(mg.RNNCell(H, H), engine=engine)):
        x = embedding(mg.tensor(INDICES))
        ys, h = layer(x)
        again, _ = layer(x, h)
        loss = weighted(ys * x + again) + (mg.linear(ys, embedding.weight) ** 2).sum()  # the table, once more
        loss.backward()
        found.append([host(p.grad) for p in (embedding.weight, *layer.parameters())])
        embedding.weight.grad = None
    agree(*found)


def test_gradients_of_gradients() -> None:
    embedding, found = mg.Embedding(V, E), []
    for layer in pair(lambda engine: mg.Recurrent(mg.RNNCell(E, H), engine=engine)):
        wanted = [embedding.weight, *layer.parameters()]
        x = embedding(mg.tensor(INDICES))
        first = mg.grad(weighted(*layer(x)), [*wanted, x], create_graph=True)
        found.append([host(g) for g in (*first, *mg.grad(weighted(list(first)), wanted))])
    agree(*found)


def test_a_walk_that_is_repeated() -> None:
    embedding, layer = mg.Embedding(V, E), mg.Recurrent(mg.GRUCell(E, H))
    x = embedding(mg.tensor(INDICES))
    loss = weighted(*layer(x))
    loss.backward(retain_graph=True)
    once = [host(p.grad) for p in (embedding.weight, *layer.parameters())]
    (of_x,) = mg.grad(loss, [x], retain_graph=True)
    loss.backward()
    twice = [host(p.grad) for p in (embedding.weight, *layer.parameters())]
    agree(twice, [2 * g for g in once])
    sums = np.zeros((V, E))
    np.add.at(sums, INDICES, host(of_x))
    agree([once[0]], [sums])


def test_masks_that_are_drawn_are_drawn_again_alike() -> None:
    class Dropping(mg.RNNCell):
        def step(self, x: mg.Tensor, h: mg.Tensor) -> Any:
            return super().step(x * mg.dropout_mask(x, 0.5), h)

    embedding, found = mg.Embedding(V, E), []
    for layer in pair(lambda engine: mg.Recurrent(Dropping(E, H), engine=engine)):
        mg.seed(5)
        x = embedding(mg.tensor(INDICES))
        found.append([host(g) for g in mg.grad(weighted(*layer(x)), [x, embedding.weight, *layer.parameters()])])
    agree(*found)


def test_windows_of_truncated_backpropagation() -> None:
    class Model(mg.Module):
        def __init__(self, engine: str) -> None:
            self.embedding = mg.Embedding(V, E)
            self.layer = mg.Recurrent(mg.LSTMCell(E, H), engine=engine)

        def init_state(self, batch_size: int) -> Any:
            return self.layer.init_state(batch_size)

        def forward(self, x: Any, state: Any) -> Any:
            return self.layer(self.embedding(x), state)

    xs, ys = mg.tensor(np.tile(INDICES, (2, 1))), mg.ones((2 * T, B, H))
    for stale in ("recompute", "keep"):
        found = []
        for model in pair(Model):
            optimizer = mg.optimizer("adam", model.parameters(), lr=0.01)
            for _ in mg.tbptt(model, xs, ys, mg.loss("mse"), k1=2, k2=4, stale=stale):
                optimizer.step()
            found.append([host(p) for p in model.parameters()])
        agree(*found)


# --- where it must not be


def written_into(embedding: mg.Embedding, x: mg.Tensor) -> mg.Tensor:
    x.data[0, 0] = 0.0
    return x


def scaled(embedding: mg.Embedding, x: mg.Tensor) -> mg.Tensor:
    return x * 2


def detached(embedding: mg.Embedding, x: mg.Tensor) -> mg.Tensor:
    return x.detach()


def of_a_computed_table(embedding: mg.Embedding, x: mg.Tensor) -> mg.Tensor:
    return mg.take(embedding.weight * 2, mg.tensor(INDICES))


def needs_no_gradient(embedding: mg.Embedding, x: mg.Tensor) -> mg.Tensor:
    x.requires_grad = False
    return x


def of_a_table_that_is_no_parameter(embedding: mg.Embedding, x: mg.Tensor) -> mg.Tensor:
    return mg.take(mg.tensor(embedding.weight, requires_grad=True), mg.tensor(INDICES))


CHANGES = [written_into, scaled, detached, of_a_computed_table, needs_no_gradient, of_a_table_that_is_no_parameter]


@pytest.mark.parametrize("change", CHANGES)
def test_vectors_that_are_no_longer_rows_of_the_table(change: Callable[..., mg.Tensor]) -> None:
    found = []
    for layer in pair(lambda engine: mg.Recurrent(mg.RNNCell(E, H), engine=engine)):
        mg.seed(3)
        embedding = mg.Embedding(V, E)
        loss = weighted(*layer(change(embedding, embedding(mg.tensor(INDICES)))))
        found.append([host(loss), *(host(g) for g in mg.grad(loss, [*layer.parameters(), embedding.weight]))])
        assert not is_looked_up(layer)
    agree(*found)


def test_a_row_that_is_not_finite_and_not_looked_up() -> None:
    found = []
    for layer in pair(lambda engine: mg.Recurrent(mg.RNNCell(E, H), engine=engine)):
        mg.seed(3)
        embedding = mg.Embedding(V + 1, E)
        embedding.weight.data[V] = np.inf
        found.append(results(layer, embedding, INDICES))
    agree(*found)
    assert all(np.isfinite(array).all() for array in found[0])


def test_an_update_of_the_table_hurts_who_asks_for_its_gradient_alone() -> None:
    found = []
    for layer in pair(lambda engine: mg.Recurrent(mg.RNNCell(E, H), engine=engine)):
        mg.seed(3)
        embedding = mg.Embedding(V, E)
        loss = weighted(*layer(embedding(mg.tensor(INDICES))))
        embedding.weight.data = embedding.weight.data * 2
        found.append([host(g) for g in mg.grad(loss, list(layer.parameters()), retain_graph=True)])
        with pytest.raises(mg.StaleParameterError, match="since take"):
            mg.grad(loss, [embedding.weight])
    agree(*found)


@pytest.mark.parametrize("when", ["before the layer", "after it"])
def test_a_table_that_has_been_updated_since(when: str) -> None:
    for layer in pair(lambda engine: mg.Recurrent(mg.RNNCell(E, H), engine=engine)):
        embedding = mg.Embedding(V, E)
        x = embedding(mg.tensor(INDICES))
        if when == "before the layer":
            embedding.weight.data = embedding.weight.data * 2
        loss = weighted(*layer(x))
        embedding.weight.data = embedding.weight.data * 2
        with pytest.raises(mg.StaleParameterError, match=r"Embedding\.weight has been updated"):
            loss.backward()


def test_a_large_table_is_not_multiplied() -> None:
    for rows, steps in ((8 * B + 1, 40), (V, 2)):  # many for each sequence, or more than are looked up
        layer = mg.Recurrent(mg.RNNCell(E, H))
        results(layer, mg.Embedding(rows, E), np.zeros((steps, B), int))
        assert not is_looked_up(layer)


def test_a_cell_that_cannot_be_compiled_is_told_by_its_own_name() -> None:
    class Branching(mg.RNNCell):
        def step(self, x: mg.Tensor, h: mg.Tensor) -> Any:
            return super().step(x if x.sum().item() > 0 else -x, h)

    embedding, found = mg.Embedding(V, E), []
    for engine in ("auto", "tape"):
        mg.seed(1)
        found.append(results(mg.Recurrent(Branching(E, H), engine=engine), embedding, INDICES))
    agree(*found)
    with pytest.raises(mg.PlanError, match=r"Branching\.step"):
        mg.Recurrent(Branching(E, H), engine="plan")(embedding(mg.tensor(INDICES)))


def test_without_gradients_vectors_are_taken_as_they_are() -> None:
    layer, embedding = mg.Recurrent(mg.RNNCell(E, H)), mg.Embedding(V, E)
    with mg.no_grad():
        layer(embedding(mg.tensor(INDICES)))
    assert not is_looked_up(layer)
