"""What the compiled engine says, what it refuses, and what it leaves behind: memory, draws, copies."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import re
import tracemalloc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cells_zoo import H, I
from plan_cells import CELLS
from plan_cells_random import RANDOM
from plan_cells_refused import DOUBTFUL, REFUSED, Collecting, Gambling, OneTruth, Remembering
from plan_runs import Case, T, agree, everything, pair, run

import minigrad as mg
from minigrad.nest import leaves
from minigrad.tape import Node

BINS = ("constant", "input", "recurrent", "output", "coefficient", "cotangent", "sink")
host_memory = pytest.mark.host_only("it is Python's memory that is measured")

pytestmark = pytest.mark.both_executors


@pytest.fixture(autouse=True)
def _float64(backend: Any) -> None:
    mg.set_default_dtype("float64")


# --- explain


@pytest.mark.parametrize("name", ["lstm", "gru", "rnn", "Nested", "Memory", "WeightNorm"])
@pytest.mark.parametrize("engine", ["plan", "auto"])
def test_a_program_is_printed_bin_by_bin(name: str, engine: str) -> None:
    cell = CELLS[name]()
    layer = mg.Recurrent(cell, engine=engine)
    run(layer, Case(cell))
    text = layer.explain()
    assert "engine plan" in text
    assert "engine tape" not in text
    assert type(cell).__name__ in text
    assert [word for word in BINS if word not in text.lower()] == []


def test_the_tape_says_that_it_was_asked_for() -> None:
    cell = CELLS["lstm"]()
    layer = mg.Recurrent(cell, engine="tape")
    for _ in range(2):
        text = layer.explain()
        assert "LSTMCell" in text
        assert "engine tape" in text
        layer(Case(cell).x)


def test_layers_of_layers_explain_each() -> None:
    layer = mg.Stack(mg.Bidirectional(mg.LSTMCell(I, H)), mg.Recurrent(mg.GRUCell(2 * H, H), engine="tape"))
    layer(mg.normal(shape=(3, 2, I)))
    text = layer.explain()
    first, second = text.split("layer 1:")
    assert first.count("engine plan") == 2
    assert "engine tape" in second
    assert "engine plan" not in second


def test_explaining_changes_nothing() -> None:
    """Before a run, after it, and between a run and its walk; no draws are taken."""
    cell = RANDOM["TwoDraws"]()
    plan, tape = pair(cell)
    case = Case(cell)
    assert "TwoDraws" in plan.explain()
    expected = run(tape, case)
    mg.seed(11)
    plan.explain()
    x, state = case.leaves()
    results = plan(x, state, return_states=True)
    plan.explain()
    np.testing.assert_allclose(results[0].numpy(), expected["ys"], rtol=1e-10, atol=1e-10)
    everything(*results).backward()
    np.testing.assert_allclose(x.grad.numpy(), expected["x"], rtol=1e-10, atol=1e-10)
    np.testing.assert_array_equal(mg.uniform(shape=(3,)).numpy(), expected["next draw"])


# --- what cannot be compiled


@pytest.mark.parametrize("name", REFUSED)
def test_a_cell_that_cannot_be_compiled_is_refused(name: str) -> None:
    """The message names the cell, what its step does, and what to write instead."""
    make, pattern = REFUSED[name]
    cell = make()
    layer = mg.Recurrent(cell, engine="plan")
    for _ in range(2):
        with pytest.raises(mg.PlanError, match=pattern) as caught:
            layer(Case(cell).x)
        message = str(caught.value)
        assert name in message
        assert "step" in message


@pytest.mark.parametrize("name", REFUSED)
def test_explain_says_why_the_tape_runs(name: str) -> None:
    make, pattern = REFUSED[name]
    cell = make()
    layer = mg.Recurrent(cell)
    layer(Case(cell).x)
    text = layer.explain()
    assert "engine tape" in text
    assert "engine plan" not in text
    assert re.search(pattern, text)


STEADY = [name for name in REFUSED if name not in ("Remembering", "Collecting", "Gambling")]


@pytest.mark.parametrize("name", STEADY)
def test_such_a_cell_runs_on_the_tape_by_itself(name: str) -> None:
    cell = REFUSED[name][0]()
    layer, tape = mg.Recurrent(cell, reverse=True), mg.Recurrent(cell, reverse=True, engine="tape")
    for lengths in (None, [5, 0, 3]):
        case = Case(cell)
        expected = run(tape, case, lengths)
        agree(run(layer, case, lengths), expected)
        agree(run(layer, case, lengths), expected)


def test_looking_at_a_step_leaves_no_trace_on_the_cell() -> None:
    """The cell's own notes are those of the run alone."""
    cell, other = Remembering(), Remembering()
    other.load_state_dict(cell.state_dict())
    case = Case(cell)
    agree(run(mg.Recurrent(cell), case), run(mg.Recurrent(other, engine="tape"), case))
    assert cell.seen == other.seen == T
    collecting = Collecting()
    states = mg.Recurrent(collecting)(Case(collecting).x, return_states=True)[2]
    assert len(collecting.trace) == T
    agree([h.numpy() for h in collecting.trace], [state.numpy() for state in states])


def test_a_cell_with_random_numbers_from_elsewhere_runs_on_the_tape() -> None:
    cell = Gambling()
    layer, tape = mg.Recurrent(cell), mg.Recurrent(cell, engine="tape")
    case = Case(cell)
    run(layer, case)  # the first run may look at a step
    found = []
    for one in (tape, layer, layer):
        np.random.seed(4)  # noqa: NPY002  # the old way is the point
        found.append(run(one, case))
    agree(found[1], found[0])
    agree(found[2], found[0])
    assert len({y.tobytes() for y in found[1]["ys"]}) == T


@pytest.mark.parametrize("name", DOUBTFUL)
@pytest.mark.parametrize("engine", ["auto", "plan"])
def test_a_cell_of_a_doubtful_kind_is_right_or_refused(name: str, engine: str) -> None:
    cell = DOUBTFUL[name]()
    layer, tape = mg.Recurrent(cell, engine=engine), mg.Recurrent(cell, engine="tape")
    case = Case(cell)
    try:
        run(layer, case, [5, 1, 3])  # the first run of its kind may look at a step
    except mg.PlanError as error:
        if engine == "auto":
            raise
        refusal = str(error)
        assert name in refusal  # that it raises is no must
        return
    for _ in range(3):
        found = []
        for one in (layer, tape):
            if hasattr(cell, "clock"):
                cell.clock.seed(5)
            found.append(run(one, case, [5, 1, 3]))
        agree(*found)
        for parameter in cell.parameters():
            parameter.data = 0.1 - parameter.data
    assert name != "OneTruth" or OneTruth().gain.item() > 0 > cell.gain.item()


def test_what_looking_at_a_step_takes_is_no_draw() -> None:
    """A cell that is refused after it has drawn leaves the generator where it was."""

    class Late(RANDOM["Dropped"]):  # type: ignore[misc]  # a class
        def step(self, x: mg.Tensor, state: Any) -> Any:
            y, h = super().step(x, state)
            return (y, h) if h.sum().item() > 1e9 else (h, h)

    cell = Late()
    layer, tape = mg.Recurrent(cell), mg.Recurrent(cell, engine="tape")
    case = Case(cell)
    expected = run(tape, case)
    agree(run(layer, case), expected)
    agree(run(layer, case), expected)


# --- memory


def peak_of(work: Callable[[], Any]) -> int:
    gc.collect()
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@host_memory
def test_ten_thousand_steps_without_gradients_keep_no_history() -> None:
    layer, tape = mg.Recurrent(mg.LSTMCell(8, 16)), mg.Recurrent(mg.LSTMCell(8, 16), engine="tape")
    x = mg.normal(shape=(10_000, 2, 8))
    layer(x[:3])  # what a program takes is not counted
    history = 10 * peak_of(lambda: tape(x[:1000]))

    def evaluate() -> None:
        with mg.no_grad():
            layer(x)

    assert peak_of(evaluate) < history / 3


@host_memory
def test_checkpoints_keep_less() -> None:
    x = mg.normal(shape=(2000, 2, 8))
    cell = mg.LSTMCell(8, 16)
    peaks = []
    for every in (None, 50):
        layer = mg.Recurrent(cell, checkpoint_every=every)
        mg.square(layer(x[:100])[1][0]).sum().backward()
        peaks.append(peak_of(lambda layer=layer: mg.square(layer(x)[1][0]).sum().backward()))
    assert peaks[1] < 0.7 * peaks[0]


def test_a_run_is_one_node() -> None:
    """Whatever its length, and gone with its results."""

    def live_nodes() -> int:
        gc.collect()
        return sum(type(thing) is Node for thing in gc.get_objects())

    before = live_nodes()
    counts = []
    layer = mg.Recurrent(mg.LSTMCell(I, H))
    for steps in (5, 50):
        results = layer(mg.normal(shape=(steps, 2, I)))
        counts.append(live_nodes() - before)
        del results
    assert counts[0] == counts[1] < 20
    assert live_nodes() == before


@host_memory
def test_programs_of_many_sizes_do_not_pile_up() -> None:
    cell = CELLS["lstm"]()
    layer = mg.Recurrent(cell)
    x = mg.normal(shape=(2, 200, I))

    def memory_after(sizes: range) -> int:
        for batch in sizes:
            mg.square(layer(x[:, :batch])[0]).sum().backward()
            layer.zero_grad()
        gc.collect()
        ours = tracemalloc.Filter(True, f"{os.path.dirname(mg.__file__)}/*")  # and not Python's table of strings
        snapshot = tracemalloc.take_snapshot().filter_traces([ours])
        return sum(statistic.size for statistic in snapshot.statistics("filename"))

    gc.collect()
    tracemalloc.start()
    try:
        first = memory_after(range(1, 201, 2))
        more = memory_after(range(2, 202, 2)) - first
    finally:
        tracemalloc.stop()
    assert first > 100_000
    assert more < first / 10


@host_memory
def test_nothing_holds_on_to_a_layer_or_its_results() -> None:
    cell = CELLS["Nested"]()
    layer = mg.Recurrent(cell)
    x = mg.normal(shape=(4, 2, I))
    ys, last = layer(x)
    watched = [weakref.ref(thing) for thing in (cell, layer, ys, x, *leaves(last), *cell.parameters())]
    del cell, layer, ys, last, x
    gc.collect()
    assert [reference() for reference in watched] == [None] * len(watched)


# --- copies


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_a_layer_that_has_run_can_be_copied(copied: Any) -> None:
    layer = mg.Recurrent(mg.LSTMCell(I, H), learn_initial_state=True)
    case = Case(layer.cell, given_state=False)
    names = [list(layer.state_dict()), [name for name, _ in layer.named_modules()]]
    expected = run(layer, case)
    assert [list(layer.state_dict()), [name for name, _ in layer.named_modules()]] == names
    other = copied(layer)
    agree(run(other, case), expected)
    for parameter in other.parameters():
        parameter.data = parameter.data * 0.5
    agree(run(layer, case), expected)
    assert np.abs(run(other, case)["ys"] - expected["ys"]).max() > 1e-3


# --- that the tests run on the engine they say


@pytest.mark.both_engines
def test_the_engines_of_the_tests_are_what_they_say(engine: str) -> None:
    layer = mg.Recurrent(mg.GRUCell(I, H))
    ys, _ = layer(mg.normal(shape=(3, 2, I)))
    assert ys.node is not None
    assert (ys.node.op == "stack") == (engine == "tape")
