"""The compiled engine among others: weights updated before the walk, shared weights, what is not used, errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cells_zoo import I
from plan_cells import CELLS, Letters
from plan_cells_ops import Small
from plan_runs import Case, agree, everything, gradient, host, pair, run

import minigrad as mg

pytestmark = pytest.mark.both_executors


@pytest.fixture(autouse=True)
def _float64(backend: Any) -> None:
    mg.set_default_dtype("float64")


# --- updates of weights


def run_to_update(engine: str, make: Callable[[], mg.Cell], name: str) -> tuple[mg.Tensor, mg.Parameter, mg.Cell]:
    """The loss of a run, and the parameter that is updated before its walk."""
    mg.seed(0)
    cell = make()
    total = everything(*mg.Recurrent(cell, engine=engine)(*Case(cell).leaves(), return_states=True))
    return total, dict(cell.named_parameters())[name], cell


def by_assigning(parameter: mg.Parameter) -> None:
    parameter.data = parameter.data + 0.1


def by_optimizer(parameter: mg.Parameter) -> None:
    parameter.grad = mg.ones(parameter.shape)
    mg.optimizer("sgd", [parameter], lr=0.1).step()
    parameter.grad = None


@pytest.mark.parametrize("update", [by_assigning, by_optimizer])
@pytest.mark.parametrize("name", ["rnn", "lstm", "gru", "Tied", "WeightNorm", "Peephole", "Pieces", "Foreign"])
def test_an_update_before_the_walk_is_refused(name: str, update: Any) -> None:
    """Where the tape refuses it; where the old value is needed by no gradient, it is let pass and all are the same."""
    refused = 0
    for key, _ in CELLS[name]().named_parameters():
        total, parameter, cell = run_to_update("tape", CELLS[name], key)
        update(parameter)
        expected = None
        try:
            total.backward()
            expected = [host(p.grad) for p in cell.parameters()]
        except mg.StaleParameterError:
            refused += 1
        total, parameter, cell = run_to_update("plan", CELLS[name], key)
        update(parameter)
        if expected is None:
            with pytest.raises(mg.StaleParameterError, match=parameter.name):
                total.backward()
        else:
            total.backward()
            agree([host(p.grad) for p in cell.parameters()], expected)
    assert refused


def test_a_walk_before_the_update_is_fine() -> None:
    cell = CELLS["lstm"]()
    plan, tape = pair(cell)
    case = Case(cell)
    for _ in range(3):
        expected = run(tape, case)
        agree(run(plan, case), expected)
        for parameter in cell.parameters():
            parameter.data = parameter.data - 0.1 * parameter.grad.data


# --- parameters that others use too


def test_a_weight_is_shared_with_what_is_outside() -> None:
    """An embedding before the layer, and tied to the output after it; a penalty on the recurrent weights."""
    found = []
    for engine in ("plan", "tape"):
        mg.seed(2)
        cell = Letters()
        layer = mg.Recurrent(cell, engine=engine)
        x = mg.tensor([[0, 4, 2], [1, 1, 3], [2, 0, 4]])
        ys, last = layer(x)
        logits = ys @ cell.table.weight.T + cell.rows[0].sum()
        loss = mg.square(logits).mean() + 0.1 * mg.square(cell.u).sum() + mg.square(last @ cell.u).sum()
        loss.backward()
        found.append([host(loss), *map(gradient, cell.parameters())])
        loss = mg.square(layer(x)[0]).mean()
        loss.backward()  # onto what is there
        found[-1] += [gradient(parameter) for parameter in cell.parameters()]
    agree(*found)


def test_a_gradient_of_a_weight_alone() -> None:
    """`mg.grad` with respect to one parameter, and to one that the outputs do not depend on."""
    cell = CELLS["Deep"]()
    x = mg.normal(shape=(4, 2, I))
    found = []
    for layer in pair(cell):
        ys, _ = layer(x)
        wanted = [cell.layers[1].weight, cell.unused.weight, cell.first.bias]
        found.append([host(g) for g in mg.grad(mg.square(ys).sum(), wanted)])
        cell.zero_grad()
    agree(*found)
    assert not found[0][1].any()


def test_what_is_not_used_gets_no_gradient() -> None:
    """None and not zeros: an optimizer lets such a parameter be, and does not let it decay."""
    for name, unused in (("Deep", ["unused.weight", "unused.bias"]), ("Letters", ["w"]), ("Echo", ["w", "u"])):
        for layer in pair(cell := CELLS[name]()):
            case = Case(cell)
            layer.zero_grad()
            total = everything(*layer(*case.leaves(), return_states=True))
            if total is not None:
                total.backward()
            assert [key for key, parameter in cell.named_parameters() if parameter.grad is None] == unused


# --- what is told on the way


def test_integers_out_of_range_are_told_each_time() -> None:
    cell = Letters()
    layer = mg.Recurrent(cell)
    layer(mg.tensor([[0, 4], [1, 3]]))
    for x in ([[0, 4], [5, 3]], [[0, -1], [1, 3]]):
        with pytest.raises(IndexError, match="takes integers in"):
            layer(mg.tensor(x))[0].numpy()
    layer(mg.tensor([[0, 4], [1, 3]]))


def test_a_step_that_fails_is_told_as_on_the_tape() -> None:
    class Wrong(Small):
        def step(self, x: mg.Tensor, state: Any) -> Any:
            return x @ self.u, state

    class Shapeless(Small):
        def step(self, x: mg.Tensor, state: Any) -> Any:
            return x, state[:, :1]

    for make in (Wrong, Shapeless):
        messages = []
        for engine in ("auto", "tape"):
            with pytest.raises((ValueError, TypeError)) as caught:
                mg.Recurrent(make(), engine=engine)(mg.ones((3, 2, I)))
            messages.append(str(caught.value))
        assert messages[0] == messages[1]


# --- whose memory it is


@pytest.mark.parametrize("name", CELLS)
def test_gradients_and_results_share_no_memory(name: str) -> None:
    mg.seed(0)
    case = Case(CELLS[name]())
    layer = mg.Recurrent(case.cell, engine="plan")
    x, state = case.leaves()
    results = layer(x, state, return_states=True)
    everything(*results).backward()
    again = layer(x, state, return_states=True)
    leaves = [x, *mg.nest.leaves(state), *layer.parameters()]
    gradients = [leaf.grad for leaf in leaves if leaf.grad is not None]
    others = [*leaves, *mg.nest.leaves(results), *mg.nest.leaves(again)]
    before = [host(tensor) for tensor in (*gradients, *others)]
    for number, overwritten in enumerate(gradients):
        overwritten.data.fill(7.0)
        before[number].fill(7.0)
        for tensor, value in zip((*gradients, *others), before, strict=True):
            assert (host(tensor) == value).all()
