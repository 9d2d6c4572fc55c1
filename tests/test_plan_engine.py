"""The compiled engine is never stale: a program made for one state of a cell does not run for another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cells_zoo import H, I
from plan_cells import CELLS, ReadOut
from plan_cells_ops import Small, matrix
from plan_cells_random import Dropped
from plan_runs import Case, agree, everything, host, pair, run

import minigrad as mg
from minigrad.nest import leaves

pytestmark = pytest.mark.both_executors


@pytest.fixture(autouse=True)
def _float64(backend: Any) -> None:
    mg.set_default_dtype("float64")


class Settings:
    """A plain object with a number."""

    def __init__(self) -> None:
        self.gain = 1.0


class Tuned(Small):
    """Everything that a step may look at: numbers, flags, functions, arrays, lists, dicts, objects, modules."""

    flags: dict[str, bool]

    def __init__(self) -> None:
        super().__init__()
        self.rate, self.mode, self.shape = 0.5, "tanh", (1, 2)
        self.function: Callable[[Any], Any] = mg.sin
        self.offsets, self.table = [0.1, 0.2, 0.3], {"gain": 0.9}
        self.array, self.host = mg.tensor([0.1, -0.2, 0.3]), np.array([1.0, 0.5, 2.0])
        self.inner = ReadOut()
        self.layers = [mg.Linear(H, H), mg.Linear(H, H)]
        self.settings = Settings()
        self.extra: mg.Parameter | None = None

    def step(self, x: mg.Tensor, state: Any) -> Any:
        z = self.into(x, state) * self.rate + self.array + x.backend.asarray(self.host) * 0.1
        z = z + self.offsets[1] * self.table["gain"] * self.settings.gain
        h = mg.tanh(z) if self.mode == "tanh" else mg.sigmoid(z)
        for layer in self.layers:
            h = h + 0.1 * layer(h)
        y = self.function(self.inner.head(h)[:, self.shape[0] - 1 : self.shape[1]])
        return y if self.extra is None else y * self.extra, h


def put(path: str, value: Any) -> Callable[[Tuned], None]:
    """Assign an attribute, of the cell or of something in it."""

    def change(cell: Tuned) -> None:
        *way, name = path.split(".")
        owner: Any = cell
        for part in way:
            owner = getattr(owner, part)
        setattr(owner, name, value() if callable(value) and name not in ("function", "eps") else value)

    return change


def write(name: str, key: Any, value: Any) -> Callable[[Tuned], None]:
    """Change something in place."""

    def change(cell: Tuned) -> None:
        getattr(cell, name)[key] = value

    return change


def into_array(name: str) -> Callable[[Tuned], None]:
    def change(cell: Tuned) -> None:
        data = getattr(cell, name)
        data = data.data if isinstance(data, mg.Tensor) else data
        data[...] = data + 1.0

    return change


def swap_layers(cell: Tuned) -> None:
    cell.layers[0], cell.layers[1] = cell.layers[1], cell.layers[0]


def double_weights(cell: Tuned) -> None:
    for parameter in cell.parameters():
        parameter.data = parameter.data * 2


def double_weights_in_place(cell: Tuned) -> None:
    for parameter in cell.parameters():
        parameter.data[...] = parameter.data * 2


CHANGES: dict[str, Callable[[Tuned], None]] = {
    "a number": put("rate", 0.7),
    "a string": put("mode", "sigmoid"),
    "a tuple": put("shape", (2, 2)),
    "a function": put("function", mg.cos),
    "an element of a list": write("offsets", 1, 5.0),
    "a list": put("offsets", lambda: [1.0, 2.0, 3.0]),
    "an entry of a dict": write("table", "gain", 3.0),
    "a tensor": put("array", lambda: mg.tensor([1.0, 2.0, 3.0])),
    "an array": put("host", lambda: np.array([3.0, 2.0, 1.0])),
    "a tensor's array, in place": into_array("array"),
    "an array, in place": into_array("host"),
    "an object's attribute": put("settings.gain", 4.0),
    "an object": put("settings", lambda: type("Other", (), {"gain": 2.0})()),
    "a parameter": put("w", lambda: matrix(I, H)),
    "a parameter added": put("extra", lambda: mg.Parameter(mg.tensor([2.0]))),
    "a module's parameter": put("inner.head.0.weight", lambda: matrix(4, H)),
    "a module's number": lambda cell: setattr(cell.inner.head[2], "eps", 0.5),
    "a module": put("inner", ReadOut),
    "a module's size": lambda cell: setattr(cell.inner, "head", mg.Linear(H, 3)),
    "a module in a list": write("layers", 0, None),
    "modules in another order": swap_layers,
    "one module fewer": lambda cell: cell.layers.pop(),
    "one module twice": lambda cell: cell.layers.append(cell.layers[0]),
    "one parameter for two": lambda cell: setattr(cell.layers[1], "weight", cell.layers[0].weight),
    "no bias": lambda cell: setattr(cell.layers[0], "bias", None),
    "weights": double_weights,
    "weights in place": double_weights_in_place,
    "the step itself": lambda cell: setattr(cell, "step", lambda x, h: (mg.cos(h), mg.sin(h + x[:, :1]))),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_cell_runs_as_it_is_now(change: str) -> None:
    """Compiled or not: `engine="auto"` may give a cell up after a change, but not go on as before it."""
    cell = Tuned()
    layer, tape = mg.Recurrent(cell), mg.Recurrent(cell, engine="tape")
    case = Case(cell)
    before = run(tape, case)
    agree(run(layer, case), before)
    if change == "a module in a list":
        cell.layers[0] = mg.Linear(H, H)
    else:
        CHANGES[change](cell)
    after = run(tape, case)
    assert before["ys"].shape != after["ys"].shape or np.abs(after["ys"] - before["ys"]).max() > 1e-4
    for _ in range(2):
        agree(run(layer, case), after)


@pytest.mark.parametrize("change", ["a number", "a string", "a list", "a parameter", "a module", "weights in place"])
def test_a_change_between_forward_and_backward_comes_too_late(change: str) -> None:
    """The walk is that of the run; or, for weights, is refused."""
    found = []
    for engine in ("plan", "tape"):
        mg.seed(0)
        cell = Tuned()
        old = list(cell.parameters())
        layer, case = mg.Recurrent(cell, engine=engine), Case(cell)
        x, state = case.leaves()
        total = everything(*layer(x, state, return_states=True))
        kept = [parameter.data.copy() for parameter in old]
        CHANGES[change](cell)
        for parameter, data in zip(old, kept, strict=True):
            parameter.data[...] = data  # a run in between would be no help to a walk that reads them late
        layer(Case(cell).x)
        total.backward()
        found.append([None if p.grad is None else host(p.grad) for p in old] + [host(x.grad)])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(0.0 if a is None else a, 0.0 if b is None else b, rtol=1e-10, atol=1e-10)


def test_training_and_evaluation_alternate() -> None:
    cell = Dropped()
    plan, tape = pair(cell)
    case = Case(cell)
    values = []
    for training in (True, False, True, True, False):
        plan.train(training)
        values.append(run(plan, case))
        agree(values[-1], run(tape, case))
        cell.drop.p = 0.4 if training else 0.0
        agree(run(plan, case), run(tape, case))
        cell.drop.p = 0.4
    assert np.abs(values[0]["ys"] - values[1]["ys"]).max() > 1e-3
    cell.drop.p = 0.9
    agree(run(plan, case), run(tape, case))


@pytest.mark.parametrize("name", ["lstm", "Nested", "WeightNorm", "Memory", "Letters"])
def test_training_takes_the_same_path(name: str) -> None:
    """Steps of an optimizer, which writes into the weights, on batches of changing sizes."""
    paths = []
    for engine in ("plan", "tape"):
        mg.seed(1)
        cell = CELLS[name]()
        layer = mg.Recurrent(cell, engine=engine, learn_initial_state=True)
        optimizer = mg.optimizer("adam", layer.parameters(), lr=0.05)
        path = []
        for steps, batch in [(4, 3), (4, 3), (2, 3), (4, 1), (4, 3), (6, 2)]:
            x = Case(cell, steps, batch).x
            ys, last = layer(x, lengths=[steps, *[1] * (batch - 1)])
            loss = mg.square(ys - 0.3).mean() + sum(mg.square(leaf).sum() for leaf in leaves(last)) * 0.01
            layer.zero_grad()
            loss.backward()
            optimizer.step()
            path.append([host(loss), *map(host, layer.parameters())])
        paths.append(path)
    agree(*paths, rtol=1e-7, atol=1e-9)
    assert float(paths[0][4][0]) != float(paths[0][0][0])


def test_flags_dtypes_and_sizes_in_turn() -> None:
    cell = CELLS["Nested"]()
    plan, tape = pair(cell)
    for dtype in ("float64", "float32", "float64"):
        plan.to(dtype=dtype)
        mg.set_default_dtype(dtype)
        close = {"rtol": 1e-10, "atol": 1e-10} if dtype == "float64" else {"rtol": 2e-4, "atol": 2e-5}
        for steps, batch, grad in [(3, 2, True), (3, 2, False), (4, 2, True), (3, 1, True), (3, 2, True)]:
            case = Case(cell, steps, batch, x_grad=grad, state_grad=not grad)
            cell.outer.weight_hh.requires_grad = steps == 3
            cell.inner.bias_ih.requires_grad = grad
            expected = run(tape, case)
            agree(run(plan, case), expected, **close)
            assert expected["ys"].dtype == dtype


class Made(Small):
    """Makes numbers of the default dtype, for its output alone."""

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h = mg.tanh(self.into(x, state))
        return h * mg.full((len(x), 1), 0.1) + mg.one_hot(mg.argmax(h, axis=-1), H), h


def test_the_default_dtype_of_the_day_counts() -> None:
    cell = Made().to(dtype="float32")
    plan, tape = pair(cell)
    with mg.default_dtype("float32"):
        case = Case(cell)
    for dtype in ("float32", "float64", "float32"):
        with mg.default_dtype(dtype):
            expected = run(tape, case)
            agree(run(plan, case), expected, rtol=2e-4, atol=2e-5)
        assert expected["ys"].dtype == dtype


def test_the_current_backend_may_be_another() -> None:
    """A layer runs where its weights and x are, also when it runs for the first time."""
    cell = CELLS["gru"]()
    plan, tape = pair(cell)
    case = Case(cell)
    expected = run(tape, case, lengths=[5, 1, 3])
    x, state = case.leaves()
    with mg.use_backend("numpy" if mg.get_backend().name != "numpy" else "strict"):
        ys, _ = plan(x, state, [5, 1, 3])
        mg.square(ys).sum().backward()
        assert type(ys.data) is type(x.data) is type(x.grad.data)
    np.testing.assert_allclose(ys.numpy(), expected["ys"], rtol=1e-10, atol=1e-10)
    agree(run(plan, case, lengths=[5, 1, 3]), expected)


def test_a_recording_tape_changes_nothing() -> None:
    cell = CELLS["Joined"]()
    plan, tape = pair(cell)
    case = Case(cell)
    expected = run(tape, case)
    for _ in range(2):
        with mg.Tape() as record:
            agree(run(plan, case), expected)
        assert len(record) > 0
        assert str(record)
        agree(run(plan, case), expected)


def test_one_cell_in_many_layers() -> None:
    """Layers over one cell, each with other options, and two layers of one build with weights of their own."""
    cell, other = CELLS["Joined"](), CELLS["Joined"]()
    case = Case(cell)
    layers = [
        (owner, options)
        for owner in (cell, other)
        for options in ({}, {"reverse": True}, {"checkpoint_every": 2}, {"learn_initial_state": True})
    ]
    made = [pair(owner, **options) for owner, options in layers]
    for _ in range(2):
        for plan, tape in made:
            agree(run(plan, case), run(tape, case))
    found = [run(plan, case)["ys"] for plan, _ in made]
    assert np.abs(found[0] - found[4]).max() > 1e-3


def test_copies_and_state_dicts() -> None:
    """A clone, and weights loaded from elsewhere, are seen."""
    cell = CELLS["Peephole"]()
    plan, tape = pair(cell)
    case = Case(cell)
    first = run(plan, case)
    fresh = plan.clone()
    assert np.abs(run(fresh, case)["ys"] - first["ys"]).max() > 1e-3
    fresh.load_state_dict(plan.state_dict())
    agree(run(fresh, case), first)
    plan.load_state_dict(pair(CELLS["Peephole"]())[0].state_dict())
    agree(run(plan, case), run(tape, case))
    assert np.abs(run(plan, case)["ys"] - first["ys"]).max() > 1e-3
