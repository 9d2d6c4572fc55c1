"""The compiled engine in a program: runs between backward walks, threads, random draws, layers of layers, tbptt."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from bptt_oracles import MODES, gradients, mse
from cells_zoo import H, I
from plan_cells import CELLS, Joined, Memory, Nested, ReadOut, Swap
from plan_cells_ops import Heads
from plan_cells_random import RANDOM
from plan_runs import Case, T, agree, everything, host, pair, run, weighted

import minigrad as mg
from minigrad.nest import leaves

ALL = CELLS | RANDOM
every_cell = pytest.mark.parametrize("name", ALL)
once = pytest.mark.host_only("the arithmetic is that of the tests which run everywhere")

pytestmark = pytest.mark.both_executors


@pytest.fixture(autouse=True)
def _float64(backend: Any) -> None:
    mg.set_default_dtype("float64")


def found_gradients(layer: mg.Module, *others: mg.Tensor) -> list[Any]:
    """The gradients left on the parameters and on other leaves, zeros where none came; and none left after it."""
    wanted = [*layer.parameters(), *(leaf for leaf in others if leaf.requires_grad)]
    arrays = [np.zeros(leaf.shape, leaf.dtype) if leaf.grad is None else host(leaf.grad) for leaf in wanted]
    for leaf in wanted:
        leaf.grad = None
    return arrays


def results(layer: mg.Recurrent, case: Case, lengths: Any = None, seed: int = 3) -> tuple[list[Any], Any, Any]:
    """A loss per run with the leaves that it reaches, and the outputs."""
    mg.seed(seed)
    x, state = case.leaves()
    ys, last, states = layer(x, state, lengths, return_states=True)
    return [x, *leaves(state)], everything(ys, last, states), ys


# --- one call after another


@once
@every_cell
def test_two_walks_over_one_run(name: str) -> None:
    cell = ALL[name]()
    found, case = [], Case(cell)
    for layer in pair(cell):
        own, total, _ = results(layer, case)
        total.backward(retain_graph=True)
        first = found_gradients(layer, *own)
        (total * 2.0).backward(retain_graph=True)
        second = found_gradients(layer, *own)
        agree([np.asarray(value / 2) for value in second], first)
        total.backward()
        found.append(found_gradients(layer, *own))
        agree(found[-1], first)
    agree(*found)


@every_cell
def test_a_second_walk_over_a_freed_run_is_told(name: str) -> None:
    cell = ALL[name]()
    for layer in pair(cell):
        case = Case(cell)
        total = results(layer, case)[1]
        total.backward()
        with pytest.raises(mg.FreedGraphError):
            total.backward()


@once
@every_cell
def test_two_runs_before_any_walk(name: str) -> None:
    """What one run keeps for its gradient is not that of the next."""
    cell = ALL[name]()
    plan, tape = pair(cell)
    one, other = Case(cell), Case(cell)
    expected = []
    for case in (one, other):
        own, total, ys = results(tape, case)
        total.backward()
        expected.append([host(ys), *found_gradients(tape, *own)])
    for order in ((0, 1), (1, 0)):
        runs = [results(plan, case) for case in (one, other)]
        found: dict[int, Any] = {}
        for number in order:
            own, total, ys = runs[number]
            total.backward()
            found[number] = [host(ys), *found_gradients(plan, *own)]
        agree([found[0], found[1]], expected)
    both = [results(plan, case) for case in (one, other)]
    (both[0][1] + both[1][1]).backward()
    summed = found_gradients(plan)
    parts = [expected[number][1 : len(summed) + 1] for number in (0, 1)]
    agree(summed, [np.asarray(a + b) for a, b in zip(*parts, strict=True)])


@once
@every_cell
def test_results_stay_as_they_are(name: str) -> None:
    """A later run, its walk, and a walk over the run itself change no values that were handed out, nor what went in."""
    cell = ALL[name]()
    plan, _ = pair(cell)
    case = Case(cell)
    mg.seed(3)
    x, state = case.leaves()
    given = [x, *leaves(state)]
    ys, last, states = plan(x, state, return_states=True)
    kept = [*given, ys, *leaves(last), *leaves(states)]
    before = [host(leaf) for leaf in kept]
    total = everything(ys, last, states)
    _, later, _ = results(plan, Case(cell), seed=4)
    later.backward()
    agree([host(leaf) for leaf in kept], before)
    total.backward()
    agree([host(leaf) for leaf in kept], before)
    with mg.no_grad():
        plan(Case(cell).x)
    agree([host(leaf) for leaf in kept], before)
    left = [leaf.grad for leaf in (*given, *cell.parameters()) if leaf.grad is not None]
    values = [host(gradient) for gradient in left]
    results(plan, Case(cell), seed=5)[1].backward()
    mine = [leaf.grad for leaf in given if leaf.grad is not None]
    agree([host(gradient) for gradient in mine], values[: len(mine)])


@once
@every_cell
def test_a_run_on_the_results_of_another(name: str) -> None:
    """The state handed over with its history: gradients go back through both runs, and x may have a history too."""
    cell = ALL[name]()
    found = []
    case = Case(cell)
    for layer in pair(cell):
        mg.seed(3)
        x, state = case.leaves()
        seen = mg.sin(x) if x.requires_grad else x
        first, middle = layer(seen, state, [5, 2, 0])
        second, last, states = layer(seen[:3], middle, return_states=True)
        weighted(first, second, last, states).backward()
        found.append([host(first), host(second), *found_gradients(layer, x, *leaves(state))])
    agree(*found)


@once
@pytest.mark.parametrize("name", ["lstm", "Memory", "Nested", "Letters", "Echo", "Gathers"])
def test_threads_do_not_disturb_each_other(name: str) -> None:
    cell = ALL[name]()
    plan, tape = pair(cell)
    cases = [Case(cell, steps, batch) for steps, batch in ((5, 3), (5, 3), (4, 2), (9, 3))]

    def gradient_of(layer: mg.Recurrent, case: Case) -> list[Any]:
        x, state = case.leaves()
        ys, last, states = layer(x, state, return_states=True)
        wanted = [leaf for leaf in (x, *leaves(state), *cell.parameters()) if leaf.requires_grad]
        return [host(ys), *map(host, mg.grad(everything(ys, last, states), wanted))]

    expected = [gradient_of(tape, case) for case in cases]
    found: dict[int, list[Any]] = {number: [] for number in range(len(cases))}
    errors: list[BaseException] = []
    start = threading.Barrier(len(cases))

    def work(number: int) -> None:
        try:
            start.wait()
            for _ in range(10):
                found[number].append(gradient_of(plan, cases[number]))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(cases))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    for number, runs in found.items():
        agree(runs, [expected[number]] * 10)


# --- random draws


@pytest.mark.parametrize("name", RANDOM)
def test_one_seed_gives_the_draws_of_the_tape_and_another_run_others(name: str) -> None:
    cell = RANDOM[name]()
    plan, tape = pair(cell)
    case = Case(cell, 6, 4, given_state=False)
    expected = run(tape, case, seed=5)
    for _ in range(3):
        agree(run(plan, case, seed=5), expected)
    other = run(plan, case, seed=6)
    assert np.abs(other["ys"] - expected["ys"]).max() > 1e-3
    agree(other, run(tape, case, seed=6))
    mg.seed(5)
    x, _ = case.leaves()
    first, second = host(plan(x)[0]), host(plan(x)[0])
    np.testing.assert_allclose(first, expected["ys"], rtol=1e-10, atol=1e-10)
    assert np.abs(first - second).max() > 1e-3
    assert len({y.tobytes() for y in first}) == 6


@pytest.mark.parametrize("name", ["Dropped", "TwoDraws", "Zoneout", "DropConnect"])
def test_out_of_training_nothing_is_masked(name: str) -> None:
    cell = RANDOM[name]()
    plan, tape = pair(cell)
    case = Case(cell)
    in_training = run(plan, case)
    plan.eval()
    evaluated = run(plan, case)
    agree(evaluated, run(tape, case))
    assert np.abs(evaluated["ys"] - in_training["ys"]).max() > 1e-3
    plan.train()
    agree(run(plan, case), in_training)


# --- layers of layers


def same_layers(make: Any, *shape: int, lengths: Any, training: bool = True) -> None:
    found = []
    for engine in ("plan", "tape"):
        mg.seed(0)
        layer = make(engine)
        layer.train(training)
        x = mg.tensor(mg.normal(shape=shape), requires_grad=True)
        for _ in range(2):
            mg.seed(4)
            ys, last, states = layer(x, None, lengths, return_states=True)
            everything(ys, last, states).backward()
            found.append([host(ys), *map(host, leaves((last, states))), *found_gradients(layer, x)])
    for result in found[:-1]:
        agree(result, found[-1])


MERGES: list[Any] = ["concat", "sum", "mean", lambda ahead, back: ahead * mg.sigmoid(back)]


@pytest.mark.parametrize("lengths", [None, [5, 0, 3]], ids=["whole", "lengths"])
@pytest.mark.parametrize("merge", MERGES, ids=["concat", "sum", "mean", "function"])
def test_both_directions(merge: Any, lengths: Any) -> None:
    def make(engine: str) -> Any:
        return mg.Bidirectional(Joined(), mg.GRUCell(I, H), merge, engine=engine, learn_initial_state=True)

    same_layers(make, T, 3, I, lengths=lengths)


@pytest.mark.parametrize("lengths", [None, [5, 0, 3]], ids=["whole", "lengths"])
def test_one_cell_for_both_directions(lengths: Any) -> None:
    def make(engine: str) -> Any:
        cell = Swap()
        return mg.Bidirectional(cell, cell, engine=engine, batch_first=True)

    same_layers(make, 3, T, I, lengths=lengths)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("lengths", [None, [5, 0, 3]], ids=["whole", "lengths"])
def test_a_stack_of_unlike_cells(lengths: Any, training: bool) -> None:
    def make(engine: str) -> Any:
        return mg.Stack(
            mg.Recurrent(Memory(), engine=engine),
            mg.Bidirectional(mg.LSTMCell(H, 2), engine=engine, checkpoint_every=2),
            mg.Recurrent(mg.GRUCell(4, I), reverse=True, engine=engine),
            mg.Stack(mg.Recurrent(Nested(), engine=engine), dropout=0.3),
            dropout=0.3,
        )

    same_layers(make, T, 3, I, lengths=lengths, training=training)


def test_one_layer_with_both_engines_in_it() -> None:
    """A stack of the two, and one cell shared by both, with one gradient."""
    cell = ReadOut()

    def make(engine: str) -> Any:
        layers = [mg.Recurrent(cell, engine=engine), mg.Recurrent(mg.GRUCell(2, I), engine="tape")]
        mg.seed(1)
        for parameter in layers[1].parameters():
            parameter.data = mg.normal(shape=parameter.shape).data
        return mg.Stack(*layers, mg.Recurrent(cell, engine="tape"))

    same_layers(make, T, 3, I, lengths=[5, 1, 4])


# --- truncated backpropagation


@pytest.mark.parametrize("stale", MODES)
@pytest.mark.parametrize(("k1", "k2"), [(1, 1), (1, 3), (2, 5), (3, 3), (4, 30), (9, 9)])
@pytest.mark.parametrize("name", ["lstm", "Delay", "Nested", "Memory", "Starting"])
def test_truncated_backpropagation(name: str, k1: int, k2: int, stale: str) -> None:
    found: list[Any] = []
    reset = np.zeros((9, 3), dtype=bool)
    reset[4, 1] = reset[6] = True
    for engine in ("plan", "tape"):
        mg.seed(2)
        layer = mg.Recurrent(ALL[name](), engine=engine, checkpoint_every=2 if k1 == 4 else None)
        xs = mg.normal(shape=(9, 3, I))
        ys = mg.normal(shape=layer(xs)[0].shape)
        options: dict[str, Any] = {"k1": k1, "k2": k2, "stale": stale, "lengths": [9, 5, 7], "reset": reset}
        parts = []
        for window in mg.tbptt(layer, xs, ys, mse, **options):
            parts.append([host(window.loss), *map(host, leaves(window.state)), list(gradients(layer).values())])
            if stale != "error":
                for parameter in layer.parameters():
                    if parameter.grad is not None:
                        parameter.data -= 0.05 * parameter.grad.data
        assert len(parts) == -(-9 // k1)
        found.append(parts)
    agree(*found)


@pytest.mark.parametrize("stale", MODES)
def test_truncated_backpropagation_of_random_cells(stale: str) -> None:
    found: list[Any] = []
    for engine in ("plan", "tape"):
        mg.seed(2)
        layer = mg.Recurrent(RANDOM["TwoDraws"](), engine=engine)
        xs, ys = mg.normal(shape=(7, 2, I)), mg.normal(shape=(7, 2, H))
        mg.seed(8)
        windows = mg.tbptt(layer, xs, ys, mse, k1=2, k2=4, stale=stale)
        found.append([[host(window.loss), *gradients(layer).values()] for window in windows])
    agree(*found)


def test_heads_of_any_batch() -> None:
    """Shapes that a step computes from the batch's size follow it."""
    cell = Heads()
    plan, tape = pair(cell)
    for batch in (1, 4, 2, 4, 1):
        case = Case(cell, 3, batch)
        agree(run(plan, case), run(tape, case))
