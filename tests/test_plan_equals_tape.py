"""The compiled engine gives what the tape gives: values, states and every gradient, for cells of every structure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from plan_cells import CELLS, takes_integers
from plan_cells_random import RANDOM
from plan_runs import (
    LOSSES,
    B,
    Case,
    T,
    agree,
    compare,
    everything,
    gradient,
    host,
    in_order,
    is_compiled,
    pair,
    run,
    weighted,
)

import minigrad as mg
from minigrad.nest import leaves, map_nest

ALL = CELLS | RANDOM
every_cell = pytest.mark.parametrize("name", ALL)
once = pytest.mark.host_only("the arithmetic is that of the tests which run everywhere")


NOT_IN_C = ["AcrossBatch", "DropConnect", "Foreign", "Gram", "Turned"]
"""Cells that mix sequences, or have an operation of their own: they always run as calls of array functions."""

pytestmark = [pytest.mark.usefixtures("unwritten_is_nan"), pytest.mark.both_executors]


@pytest.fixture(autouse=True)
def _float64(backend: Any) -> None:
    mg.set_default_dtype("float64")


# --- on every backend

WAYS: dict[str, Any] = {
    "plain": {},
    "lengths": {"lengths": [5, 0, 1]},
    "reverse and lengths, batch first": {"reverse": True, "batch_first": True, "lengths": [2, 4, 1]},
}


@every_cell
@pytest.mark.parametrize("way", WAYS)
def test_plan_equals_tape(name: str, way: str) -> None:
    options = dict(WAYS[way])
    lengths = options.pop("lengths", None)
    cell = ALL[name]()
    plan, tape = pair(cell, **options)
    found = compare(plan, tape, Case(cell, batch_first=plan.batch_first), lengths=lengths)
    assert all(np.isfinite(value).all() for value in found["parameters"].values())
    assert np.isfinite(found["ys"]).all()


# --- directions, sizes, starts


@once
@every_cell
@pytest.mark.parametrize("lengths", [None, [0, 5, 3], [0, 0, 0]], ids=str)
def test_reverse_with_lengths(name: str, lengths: Any) -> None:
    cell = ALL[name]()
    compare(*pair(cell, reverse=True), Case(cell), lengths=lengths)


@once
@every_cell
@pytest.mark.parametrize("lengths", [[0, 0, 0], [1, 1, 1], [0, 2, 4]], ids=str)
def test_lengths_short_of_the_end(name: str, lengths: Any) -> None:
    cell = ALL[name]()
    compare(*pair(cell), Case(cell), lengths=lengths)


@once
@every_cell
@pytest.mark.parametrize(("steps", "batch"), [(0, 3), (1, 1), (2, 3), (9, 1), (9, 3)])
def test_sizes(name: str, steps: int, batch: int) -> None:
    cell = ALL[name]()
    compare(*pair(cell), Case(cell, steps, batch), lengths=[steps, *[steps // 2] * (batch - 1)] if steps == 9 else None)


@once
@pytest.mark.parametrize("name", [name for name in ALL if name != "AcrossBatch"])
@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("lengths", [None, []], ids=["whole", "lengths"])
def test_an_empty_batch(name: str, steps: int, lengths: Any) -> None:
    """A softmax over a batch of none is refused by NumPy itself, so the cell that takes one is left out."""
    cell = ALL[name]()
    compare(*pair(cell), Case(cell, steps, 0), lengths=lengths)


@once
@every_cell
@pytest.mark.parametrize("start", ["own", "learned", "given without a gradient"])
def test_starts(name: str, start: str) -> None:
    cell = ALL[name]()
    learned, given = start == "learned", start == "given without a gradient"
    if learned and not list(leaves(cell.init_state(1))):
        cell = ALL["Delay"]()  # a cell without a state has nothing to learn
    layers = pair(cell, learn_initial_state=learned)
    found = compare(*layers, Case(cell, given_state=given, state_grad=False), lengths=[5, 1, 3])
    assert learned == any(key.startswith("initial_state") for key in found["parameters"])


# --- what is asked for


@once
@every_cell
@pytest.mark.parametrize("loss", [loss for loss in LOSSES if loss != "everything"])
def test_cotangents_may_be_missing(name: str, loss: str) -> None:
    cell = ALL[name]()
    reverse = loss in ("outputs", "one state", "one leaf")
    compare(*pair(cell, reverse=reverse), Case(cell), loss=LOSSES[loss], lengths=[3, 5, 4] if reverse else None)


@once
@every_cell
@pytest.mark.parametrize("state_grad", [False, True])
@pytest.mark.parametrize("x_grad", [False, True])
def test_x_and_the_state_need_no_gradient(name: str, x_grad: bool, state_grad: bool) -> None:
    cell = ALL[name]()
    compare(*pair(cell), Case(cell, x_grad=x_grad, state_grad=state_grad))


@once
@every_cell
def test_frozen_parameters(name: str) -> None:
    """Each parameter alone, all but it, and none at all; one program after the other in the same layer."""
    cell = ALL[name]()
    plan, tape = pair(cell)
    parameters = list(cell.parameters())
    for chosen in range(len(parameters)):
        for alone in (True, False):
            for number, parameter in enumerate(parameters):
                parameter.requires_grad = (number == chosen) == alone
            compare(plan, tape, Case(cell, x_grad=alone, state_grad=not alone))
    for parameter in parameters:
        parameter.requires_grad = False
    for grad in (False, True):
        found = compare(plan, tape, Case(cell, x_grad=grad, state_grad=False))
        assert not any(value.any() for value in found["parameters"].values())


@once
@every_cell
def test_no_grad(name: str) -> None:
    cell = ALL[name]()
    plan, tape = pair(cell)
    case = Case(cell)
    expected = run(tape, case)
    for _ in range(2):
        mg.seed(11)
        with mg.no_grad():
            ys, last, states = plan(*case.leaves(), return_states=True)
        agree([host(ys), list(map(host, in_order(states)))], [expected["ys"], expected["states"]])
        assert not any(leaf.requires_grad for leaf in leaves((ys, states)))
        assert not any(leaf.node for leaf in leaves((ys, last, states)))  # a given leaf may come back as it is
    agree(run(plan, case), expected)


@once
@every_cell
def test_the_same_results_need_a_gradient(name: str) -> None:
    """What depends on no leaf that needs a gradient says so on both engines."""
    cell = ALL[name]()
    plan, tape = pair(cell)
    for x_grad, state_grad in ((True, True), (True, False), (False, True), (False, False)):
        case = Case(cell, x_grad=x_grad, state_grad=state_grad)
        flags = []
        for layer in (plan, tape):
            results = layer(*case.leaves(), return_states=True)
            flags.append([leaf.requires_grad for leaf in in_order(results)])
        assert flags[0] == flags[1], (x_grad, state_grad)


@once
@every_cell
def test_x_may_be_a_view_of_any_strides(name: str) -> None:
    cell = ALL[name]()
    plan, tape = pair(cell)
    case = Case(cell, 2 * T, 2 * B)
    found = []
    for layer in (plan, tape):
        mg.seed(11)
        wide, _ = case.leaves()
        axes = (1, 0, *range(2, wide.ndim))
        view = mg.permute_dims(mg.permute_dims(wide, axes)[1::2], axes)[::-2]
        ys, last, states = layer(view, return_states=True)
        layer.zero_grad()
        total = everything(ys, last, states)
        if total is not None:
            total.backward()
        gradients = [gradient(parameter) for parameter in cell.parameters()]
        found.append([host(ys), *map(host, in_order(states)), *gradients, gradient(wide)])
    agree(*found)


# --- other precisions


@every_cell
def test_float32(name: str) -> None:
    mg.set_default_dtype("float32")
    cell = ALL[name]()
    plan, tape = pair(cell)
    case = Case(cell)
    found, expected = run(plan, case, lengths=[5, 2, 4]), run(tape, case, lengths=[5, 2, 4])
    agree(found, expected, rtol=2e-4, atol=2e-5)
    assert {found["ys"].dtype.name, found["x"].dtype.name} <= {"float32", "int64"}


# --- more derivatives


@once
@every_cell
def test_double_backward(name: str) -> None:
    """The gradient of a gradient, with respect to everything."""
    cell = ALL[name]()
    plan, tape = pair(cell)
    case = Case(cell, steps=3, batch=2)
    found = []
    for layer in (plan, tape):
        mg.seed(11)
        x, state = case.leaves()
        wanted = [leaf for leaf in (*cell.parameters(), x, *leaves(state)) if leaf.requires_grad]
        total = everything(*layer(x, state, [3, 2], return_states=True))
        assert total is not None
        first = mg.grad(mg.square(total) * 0.1 + total, wanted, create_graph=True)
        slope = weighted(list(first))
        second = mg.grad(slope, wanted) if slope is not None else []  # where all is linear there is none
        found.append([list(map(host, first)), list(map(host, second))])
    agree(found[0], found[1], rtol=1e-9, atol=1e-9)


# --- fewer carries kept


@once
@every_cell
@pytest.mark.parametrize("every", [1, 2, 3, 7, 100])
def test_checkpoints_change_nothing(name: str, every: int) -> None:
    cell = ALL[name]()
    ragged = every in (2, 7)
    layers = pair(cell, checkpoint_every=every, reverse=ragged)
    loss = LOSSES["some outputs and a leaf" if ragged else "everything"]
    compare(*layers, Case(cell, 7), lengths=[7, 1, 4] if ragged else None, loss=loss)


@once
@every_cell
@pytest.mark.parametrize("steps", [1, 3])
def test_chunks_change_nothing(name: str, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many steps at once: more do not fit, and fewer would make products of too few columns."""
    cell = ALL[name]()
    monkeypatch.setattr("minigrad.plan.workspace.CHUNK_BYTES", 1)
    monkeypatch.setattr("minigrad.plan.workspace.CHUNK_COLUMNS", steps * B)
    for every, lengths in ((None, None), (4, [7, 0, 5])):
        compare(*pair(cell, checkpoint_every=every), Case(cell, 7), lengths=lengths)


# --- what compiles says so


@once
@every_cell
def test_it_is_the_plan_that_runs(name: str, compiles: bool) -> None:
    """And that it is compiled, if it is to be; what cannot be written in C yet may be one day."""
    cell = ALL[name]()
    layer = mg.Recurrent(cell)
    layer(Case(cell).x)
    assert "engine plan" in layer.explain()
    assert is_compiled(layer) <= compiles
    assert is_compiled(layer) or not compiles or name in NOT_IN_C, layer.explain().splitlines()[1]


def test_all_cells_are_there() -> None:
    """The names are unique, and integer inputs are among them."""
    assert len(ALL) == len(CELLS) + len(RANDOM) >= 60
    assert sum(takes_integers(make()) for make in ALL.values()) == 2
    assert map_nest(type, CELLS["Named"]().init_state(1)).fast is mg.Tensor
