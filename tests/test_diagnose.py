"""Diagnoses: gradients against powers and differences, saturation and norms against counts by hand."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cells_zoo import CELLS, DictState, Passing, draw_state, draw_x

import minigrad as mg
from minigrad.diagnose import activation_norms, gate_saturation, gradient_flow
from minigrad.nest import leaves, map_nest


class Linear(mg.Cell):
    """h' = w h + x; the output is h'."""

    def __init__(self, w: Any) -> None:
        self.w = mg.Parameter(w)

    def init_state(self, batch_size: int) -> Any:
        return mg.zeros((batch_size, self.w.shape[0]))

    def step(self, x: mg.Tensor, h: Any) -> Any:
        h = h @ self.w.T + x
        return h, h


# --- gradient_flow


@pytest.mark.parametrize("w", [0.5, 1.0, -1.25, 0.0])
def test_the_flow_of_a_linear_scalar_is_a_power(w: float) -> None:
    mg.set_default_dtype("float64")
    flow = gradient_flow(Linear([[w]]), mg.normal(shape=(12, 3, 1)))
    np.testing.assert_array_equal(flow.lags, np.arange(1, 13))
    np.testing.assert_allclose(flow.norms, np.abs(w) ** flow.lags[:, None] * np.ones((1, 3)), rtol=1e-14)
    np.testing.assert_array_equal(flow.norms, flow.parts["state"])


def test_the_flow_of_a_linear_cell_is_a_power_of_its_matrix() -> None:
    mg.set_default_dtype("float64")
    cell, weights = Linear(mg.normal(shape=(4, 4))), mg.normal(shape=(4,))
    flow = gradient_flow(cell, mg.zeros((9, 2, 4)), loss=lambda y: (y * weights).sum())
    w = cell.w.numpy()
    expected = [np.linalg.norm(weights.numpy() @ np.linalg.matrix_power(w, k)) for k in range(1, 10)]
    np.testing.assert_allclose(flow.norms, np.array(expected)[:, None] * np.ones((1, 2)), rtol=1e-12)


def by_differences(cell: mg.Cell, x: mg.Tensor, state: Any, loss: Any, lag: int, step: float = 1e-5) -> list[Any]:
    """The gradient with respect to each floating tensor of the state `lag` steps before, element by element."""

    def rest(moved: Any) -> float:
        for t in range(x.shape[0] - lag, x.shape[0]):
            y, moved = cell.step(x[t], moved)
        return float(loss(y))

    with mg.no_grad():
        for t in range(x.shape[0] - lag):
            state = cell.step(x[t], state)[1]
        found = []
        for place, leaf in enumerate(leaves(state)):
            if leaf.dtype.kind != "f":
                continue
            gradient = np.zeros(leaf.shape)
            for index in np.ndindex(*leaf.shape):
                sides = []
                for sign in (1, -1):
                    values = leaf.numpy().copy()
                    values[index] += sign * step
                    count = iter(range(99))
                    moved = map_nest(lambda old: mg.tensor(values) if next(count) == place else old, state)  # noqa: B023
                    sides.append(rest(moved))
                gradient[index] = (sides[0] - sides[1]) / (2 * step)
            found.append(gradient)
    return found


@pytest.mark.parametrize("name", CELLS)
def test_the_flow_of_any_cell_is_what_differences_say(name: str) -> None:
    mg.set_default_dtype("float64")
    cell = CELLS[name]()
    x, state = draw_x(cell, 4, 2), draw_state(cell, 2)

    def loss(y: mg.Tensor) -> mg.Tensor:
        return mg.sin(2 * y).sum()

    flow = gradient_flow(cell, x, state, loss)
    assert np.abs(flow.norms[0]).sum() > 1e-3
    for lag in range(1, 5):
        gradients = by_differences(cell, x, state, loss, lag)
        assert len(gradients) == len(flow.parts)
        for gradient, norms in zip(gradients, flow.parts.values(), strict=True):
            expected = np.sqrt((gradient**2).reshape(2, -1).sum(axis=1))
            np.testing.assert_allclose(norms[lag - 1], expected, atol=1e-8)
        whole = np.sqrt(sum((gradient**2).reshape(2, -1).sum(axis=1) for gradient in gradients))
        np.testing.assert_allclose(flow.norms[lag - 1], whole, atol=1e-8)


def test_parts_are_named_by_their_place() -> None:
    x = mg.normal(shape=(3, 2, 2))
    assert list(gradient_flow(mg.LSTMCell(2, 3), x).parts) == ["state[0]", "state[1]"]
    assert list(gradient_flow(DictState(), x).parts) == ["state['mean']", "state['outer']"]
    counting = CELLS["Counting"]()
    assert list(gradient_flow(counting, x).parts) == ["state[0]"]  # integers have no gradient


def test_a_state_that_comes_back_in_another_order_keeps_its_names() -> None:
    class Turned(mg.Cell):
        def init_state(self, batch_size: int) -> Any:
            return {"slow": mg.zeros((batch_size, 1)), "fast": mg.zeros((batch_size, 1))}

        def step(self, x: mg.Tensor, state: Any) -> Any:
            slow, fast = 0.5 * state["slow"] + x, 0.25 * state["fast"] + x
            return slow + fast, {"fast": fast, "slow": slow}

    parts = gradient_flow(Turned(), mg.ones((4, 1, 1))).parts
    np.testing.assert_allclose(parts["state['slow']"][:, 0], 0.5 ** np.arange(1, 5))
    np.testing.assert_allclose(parts["state['fast']"][:, 0], 0.25 ** np.arange(1, 5))


def test_a_state_that_passes_through_is_told_apart_by_step() -> None:
    mg.set_default_dtype("float64")
    flow = gradient_flow(Passing(), draw_x(Passing(), 5, 2))
    goal = flow.parts["state[1]"]
    assert (np.diff(goal, axis=0) != 0).any()  # of the state at each step, not of one tensor that stands for all


def test_a_layer_and_a_model_give_what_the_cell_gives() -> None:
    mg.set_default_dtype("float64")
    cell, x = mg.LSTMCell(3, 4), mg.normal(shape=(6, 2, 3))
    of_cell = gradient_flow(cell, x)
    for model, given in (
        (mg.Recurrent(cell), x),
        (mg.Recurrent(cell, engine="tape"), x),
        (mg.Recurrent(cell, batch_first=True), mg.permute_dims(x, (1, 0, 2))),
    ):
        np.testing.assert_allclose(gradient_flow(model, given).norms, of_cell.norms, rtol=1e-12)
    stack = mg.Stack(mg.Recurrent(cell), mg.Recurrent(mg.GRUCell(4, 2)))
    flow = gradient_flow(stack, x)
    assert list(flow.parts) == ["state[0][0]", "state[0][1]", "state[1]"]
    start = map_nest(lambda leaf: mg.tensor(leaf, requires_grad=True), stack.init_state(2))
    ys, _ = stack(x, start)
    gradients = mg.grad(ys[-1].sum(), list(leaves(start)))
    for gradient, norms in zip(gradients, flow.parts.values(), strict=True):
        np.testing.assert_allclose(norms[-1], np.linalg.norm(gradient.numpy(), axis=1), rtol=1e-10)


class Scoring(mg.Module):
    """A model without `init_state`: between an embedding and an output layer."""

    def __init__(self) -> None:
        self.embedding, self.layer, self.output = mg.Embedding(5, 3), mg.GRU(3, 4), mg.Linear(4, 5)

    def forward(self, x: Any, state: Any = None) -> Any:
        ys, state = self.layer(self.embedding(x), state)
        return self.output(ys), state


def test_the_flow_of_a_model_with_a_loss_of_its_own() -> None:
    mg.set_default_dtype("float64")
    model, x, target = Scoring(), mg.tensor([[1, 2], [3, 4], [0, 1]]), mg.tensor([2, 0])
    loss = mg.loss("cross_entropy", reduction="sum")
    flow = gradient_flow(model, x, loss=lambda y: loss(y, target))
    start = mg.zeros((2, 4), requires_grad=True)
    ys, _ = model(x, start)
    (gradient,) = mg.grad(loss(ys[-1], target), [start])
    np.testing.assert_allclose(flow.norms[-1], np.linalg.norm(gradient.numpy(), axis=1), rtol=1e-12)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_flow_is_measured_also_without_gradients_around_it_and_for_what_has_none() -> None:
    x = mg.normal(shape=(3, 2, 2))
    with mg.no_grad():
        assert gradient_flow(mg.GRUCell(2, 3), x).norms.min() > 0

    class Forgetful(mg.Cell):
        def init_state(self, batch_size: int) -> Any:
            return mg.zeros((batch_size, 2))

        def step(self, x: mg.Tensor, h: Any) -> Any:
            return x, x * 0.0 + 1.0

    np.testing.assert_array_equal(gradient_flow(Forgetful(), x).norms, np.zeros((3, 2)))


def test_small_gradients_are_not_lost_in_the_norm() -> None:
    flow = gradient_flow(Linear([[1e-2]]), mg.zeros((18, 1, 1)))
    np.testing.assert_allclose(flow.norms[:18, 0], 10.0 ** (-2 * np.arange(1, 19)), rtol=1e-4)


def test_the_flow_of_no_sequences() -> None:
    flow = gradient_flow(mg.LSTMCell(3, 4), mg.ones((5, 0, 3)))
    assert (flow.norms.shape, flow.parts["state[1]"].shape) == ((5, 0), (5, 0))


# --- gate_saturation


class Gated(mg.Cell):
    """Its gate and its state follow from x alone, which makes counting by hand easy."""

    def __init__(self) -> None:
        self.rate = mg.Parameter([-9.0, 0.0, 9.0])

    def init_state(self, batch_size: int) -> Any:
        return mg.zeros((batch_size, 2))

    def step(self, x: mg.Tensor, h: Any) -> Any:
        gate = mg.sigmoid(x)
        other = [mg.tanh(part) for part in (x, -x)]
        # fmt: off
        h = h + gate * other[0] + other[1] * mg.sigmoid(
            self.rate
        ).sum()
        # fmt: on
        return h, h


@pytest.mark.parametrize("threshold", [0.05, 0.2])
def test_saturation_is_counted_as_by_hand(threshold: float) -> None:
    x = mg.normal(shape=(40, 5, 2), std=3.0)
    found = gate_saturation(Gated(), x, threshold=threshold)
    assert [(a.op, a.name) for a in found.activations] == [
        ("sigmoid", "mg.sigmoid(x)"),
        ("tanh", "mg.tanh(part)"),
        ("tanh", "mg.tanh(part) (2)"),
        ("sigmoid", "mg.sigmoid( self.rate )"),
    ]
    values = x.numpy().astype("float64").reshape(200, 2)
    gate, bend = 1 / (1 + np.exp(-values)), np.tanh(values)
    expected = [
        (gate < threshold, gate > 1 - threshold),
        (bend < threshold - 1, bend > 1 - threshold),
        (bend > 1 - threshold, bend < threshold - 1),
    ]
    for activation, (low, high) in zip(found.activations, expected, strict=False):
        np.testing.assert_allclose(activation.low, low.mean(axis=0), atol=1e-12)
        np.testing.assert_allclose(activation.high, high.mean(axis=0), atol=1e-12)
        assert abs(activation.saturated - (low | high).mean()) < 1e-12
        assert 0.05 < activation.saturated < 0.95
    np.testing.assert_array_equal(found.activations[3].low, [1, 0, 0])
    np.testing.assert_array_equal(found.activations[3].high, [0, 0, 1])


def test_the_gates_of_an_lstm_are_found_by_name() -> None:
    cell, x = mg.LSTMCell(3, 4, forget_bias=None), mg.normal(shape=(10, 2, 3), std=5.0)
    found = gate_saturation(cell, x)
    assert [a.name for a in found.activations] == ["sigmoid(f)", "sigmoid(i)", "tanh(g)", "sigmoid(o)", "tanh(c)"]
    counts, (h, c) = np.zeros(4), cell.init_state(2)
    with mg.no_grad():
        for t in range(10):
            _, f, _, _ = mg.split(cell.from_input(x[t]) + cell.from_state(h), 4, axis=-1)
            counts += (mg.sigmoid(f).numpy() > 0.95).sum(axis=0)
            _, (h, c) = cell(x[t], (h, c))
    np.testing.assert_allclose(found.activations[0].high, counts / 20)
    assert counts.sum() > 0
    lines = str(found).splitlines()
    assert lines[0].split() == ["activation", "low", "high"]
    assert lines[1].split()[::2] == ["sigmoid(f)", f"{counts.mean() / 20:.1%}"]


def test_a_layer_is_counted_as_it_runs() -> None:
    cell, x = mg.GRUCell(3, 4), mg.normal(shape=(10, 2, 3), std=5.0)
    ahead, back = gate_saturation(cell, x), gate_saturation(cell, mg.flip(x, 0))
    turned = mg.permute_dims(x, (1, 0, 2))
    for layer, given, expected in (
        (mg.Recurrent(cell), x, ahead),
        (mg.Recurrent(cell, reverse=True), x, back),
        (mg.Recurrent(cell, batch_first=True), turned, ahead),
        (mg.Recurrent(cell, learn_initial_state=True), x, ahead),
    ):
        for one, other in zip(gate_saturation(layer, given).activations, expected.activations, strict=True):
            np.testing.assert_array_equal(one.high, other.high)
            np.testing.assert_array_equal(one.low, other.low)
    state = mg.full((2, 4), 30.0)
    first = gate_saturation(cell, x[:1], state).activations
    assert first[0].saturated != gate_saturation(cell, x[:1]).activations[0].saturated


def test_every_cell_can_be_counted() -> None:
    for make in CELLS.values():
        cell = make()
        for activation in gate_saturation(cell, draw_x(cell, 3, 2)).activations:
            assert 0 <= activation.saturated <= 1
            assert (activation.low + activation.high <= 1).all()
    assert gate_saturation(mg.RNNCell(2, 3, nonlinearity="relu"), mg.ones((3, 2, 2))).activations == []


def test_an_activation_without_source_is_numbered() -> None:
    space: dict[str, Any] = {"mg": mg}
    exec(
        "class Hidden(mg.Cell):\n"
        "    def init_state(self, batch_size):\n        return mg.zeros((batch_size, 2))\n"
        "    def step(self, x, h):\n        h = mg.tanh(h + x)\n        return h * mg.sigmoid(x), h\n",
        space,
    )
    found = gate_saturation(space["Hidden"](), mg.ones((3, 1, 2)))
    assert [a.name for a in found.activations] == ["tanh 1", "sigmoid 2"]


# --- activation_norms


def test_norms_are_those_of_outputs_and_states() -> None:
    stack, x = mg.Stack(mg.Recurrent(mg.LSTMCell(3, 5)), mg.Recurrent(DictState(5, 2))), mg.normal(shape=(6, 2, 3))
    found = activation_norms(stack, x, lengths=[6, 4]).norms
    first, _, (hs, cs) = stack.layers[0](x, lengths=[6, 4], return_states=True)
    second, _ = stack.layers[1](first, lengths=[6, 4])
    np.testing.assert_allclose(found["layers.0"], np.linalg.norm(first.numpy(), axis=-1), rtol=1e-6)
    np.testing.assert_allclose(found["layers.1"], np.linalg.norm(second.numpy(), axis=-1), rtol=1e-6)
    np.testing.assert_array_equal(found["Stack"], found["layers.1"])
    assert (found["layers.0"][4:, 1] == 0).all()
    for name, states in (("layers.0.cell.state[0]", hs), ("layers.0.cell.state[1]", cs)):
        expected = np.linalg.norm(states.numpy(), axis=-1)
        np.testing.assert_allclose(found[name][:4], expected[:4], rtol=1e-6)
    assert found["layers.1.cell.state['outer']"].shape == (6, 2)


def test_norms_of_each_part_of_a_model() -> None:
    model, x = Scoring(), mg.tensor([[1, 2], [3, 4], [0, 1]])
    model.output.requires = "an attribute"
    found = activation_norms(model, x).norms
    assert list(found) == [
        "Scoring", "embedding", "layer", "layer.cell", "output", "layer.cell.state",
    ]  # fmt: skip
    embedded = model.embedding(x).numpy()
    np.testing.assert_allclose(found["embedding"], np.linalg.norm(embedded, axis=-1), rtol=1e-6)
    ys, _ = model.layer(model.embedding(x))
    np.testing.assert_allclose(found["layer.cell"], np.linalg.norm(ys.numpy(), axis=-1), rtol=1e-6)
    np.testing.assert_allclose(found["output"], np.linalg.norm(model.output(ys).numpy(), axis=-1), rtol=1e-6)


def test_a_cell_runs_over_time_and_its_parts_are_counted_at_each_step() -> None:
    cell, x = CELLS["NestedState"](), mg.normal(shape=(5, 3, 2))
    found = activation_norms(cell, x).norms
    ys, _ = mg.Recurrent(cell)(x)
    np.testing.assert_allclose(found["NestedState"], np.linalg.norm(ys.numpy(), axis=-1), rtol=1e-5)
    np.testing.assert_allclose(found["read_out.out"], found["NestedState"], rtol=1e-6)
    assert found["NestedState.state[1]['slow'][0]"].shape == (5, 3)


def test_norms_double_with_the_step_where_the_state_does() -> None:
    found = activation_norms(Linear([[2.0, 0.0], [0.0, 2.0]]), mg.zeros((5, 1, 2)), mg.tensor([[3.0, 4.0]]))
    np.testing.assert_allclose(found.norms["Linear"][:, 0], 5.0 * 2.0 ** np.arange(1, 6))
    lines = [line.split() for line in str(found).splitlines()]
    assert lines[0] == ["part", "mean", "first", "last", "max"]
    assert lines[1] == ["Linear", "62", "10", "160", "160"]


def test_calls_of_several_shapes_are_in_a_row_and_the_model_is_as_before() -> None:
    linear = mg.Linear(2, 2)

    class Twice(mg.Module):
        def __init__(self) -> None:
            self.linear, self.unused = linear, mg.Linear(2, 2)

        def forward(self, x: Any) -> Any:
            if x.shape[0] > 4:
                raise RuntimeError("too long")
            return self.linear(x).sum() + self.linear(x[:1]).sum()

    model, x = Twice(), mg.ones((3, 2))
    before = dict(vars(linear)), dict(vars(model))
    found = activation_norms(model, x).norms
    assert {name: norms.shape for name, norms in found.items()} == {"Twice": (), "linear": (4,)}
    assert "Twice" in str(activation_norms(model, x))
    with pytest.raises(RuntimeError, match="too long"):
        activation_norms(model, mg.ones((5, 2)))
    assert (dict(vars(linear)), dict(vars(model))) == before
    own = vars(linear)["forward"] = lambda x: x
    assert activation_norms(model, x).norms["linear"].shape == (4,)
    assert vars(linear)["forward"] is own


def test_the_plan_runs_as_before_afterwards() -> None:
    layer, x = mg.Recurrent(mg.GRUCell(2, 3), engine="plan"), mg.ones((4, 2, 2))
    before = layer(x)[0].numpy()
    activation_norms(layer, x)
    np.testing.assert_array_equal(layer(x)[0].numpy(), before)
    assert "engine plan" in layer.explain()


# --- plots


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_plots_are_written(tmp_path: Path, suffix: str) -> None:
    cell, x = mg.LSTMCell(3, 4), mg.normal(shape=(6, 2, 3))
    found = {
        "flow": gradient_flow(cell, x),
        "nothing flows": gradient_flow(Linear([[0.0]]), mg.zeros((3, 1, 1))),
        "gates": gate_saturation(cell, x),
        "gate": gate_saturation(mg.RNNCell(3, 2), x),
        "norms": activation_norms(mg.Recurrent(cell), x),
        "no norms": activation_norms(mg.Linear(3, 2), mg.ones((2, 3))),
    }
    for name, result in found.items():
        path = tmp_path / f"{name}.{suffix}"
        result.plot(path)
        assert path.stat().st_size > 2000
        if suffix == "svg":
            assert "<svg" in path.read_text()


@pytest.mark.host_only("no arrays")
def test_without_matplotlib_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    result, real = gradient_flow(Linear([[0.5]]), mg.zeros((3, 1, 1))), builtins.__import__

    def missing(name: str, *args: Any, **options: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r"pip install 'minigrad\[plot\]'"):
        result.plot(tmp_path / "flow.png")


# --- bad input


X = np.ones((3, 2, 2), dtype="float32")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gradient_flow(mg.tanh, X), r"model is a cell, or a module that takes \(x, state\); not function"),
        (lambda: gradient_flow(mg.GRUCell(3, 4), X), r"GRUCell has input_size 3.*this is \(3, 2, 2\)"),
        (lambda: gradient_flow(mg.GRUCell(2, 4), X[:0]), r"x must have at least one step.*\(0, 2, 2\)"),
        (lambda: gradient_flow(mg.GRU(2, 4), X[0, 0]), r"x must have at least one step.*\(2,\)"),
        (lambda: gradient_flow(mg.GRUCell(2, 4), X, mg.zeros((2, 3))), r"state must be built like init_state's"),
        (lambda: gradient_flow(mg.GRU(2, 4, bidirectional=True), X), r"runs backward in time.*mg\.flip\(x, 0\)"),
        (lambda: gradient_flow(mg.Recurrent(mg.GRUCell(2, 4), reverse=True), X), r"Recurrent runs backward in time"),
        (
            lambda: gradient_flow(mg.GRUCell(2, 4), X, loss=lambda y: y),
            r"a tensor of one element; it returned \(2, 4\)",
        ),
        (lambda: gradient_flow(mg.GRUCell(2, 4), X, loss=lambda y: 1.0), r"one element; it returned float"),
        (lambda: gradient_flow(mg.Linear(2, 2), X, mg.zeros((2, 2))), r"forward\(\) takes 2 positional arguments"),
        (lambda: gate_saturation(mg.GRU(2, 4, num_layers=2), X), r"a Recurrent around one; not Stack.*one at a time"),
        (lambda: gate_saturation(mg.GRUCell(2, 4), X, threshold=0.5), r"threshold is a number above 0.*got 0\.5"),
        (lambda: gate_saturation(mg.GRUCell(2, 4), X, threshold="5%"), r"threshold .*got '5%'"),
        (lambda: gate_saturation(mg.GRUCell(2, 4), X[:0]), r"x must have at least one step"),
        (lambda: gate_saturation(mg.RNNCell(2, 3, "relu"), X).plot("never.png"), r"no sigmoid and no tanh"),
        (lambda: activation_norms(mg.tanh, X), r"model is a module; not function"),
    ],
)
def test_bad_input_is_told(call: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        call()
