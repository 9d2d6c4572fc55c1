"""`Module.substitute`: other tensors in the place of parameters, in containers, in plans, and after errors."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
import pytest

import minigrad as mg
from minigrad.plan.shadow import fingerprint


class Pair(NamedTuple):
    left: Any
    right: Any


class Nested(mg.Module):
    """Parameters in every kind of container, one of them in several places."""

    def __init__(self) -> None:
        self.scale = mg.Parameter([2.0])
        self.parts = [mg.Parameter([3.0]), {"deep": (mg.Parameter([5.0]), [mg.Parameter([7.0])])}]
        self.pair = Pair(self.scale, mg.tensor([11.0]))
        self.again = self.parts[0]

    def forward(self) -> mg.Tensor:
        deep, (deeper,) = self.parts[1]["deep"]
        return mg.concat([self.scale, self.parts[0], deep, deeper, self.pair.left, self.pair.right, self.again])


def test_substitutes_stand_in_every_place_of_a_parameter_and_only_there() -> None:
    module, other = Nested(), mg.tensor([0.5])
    places = {
        "scale": [0.5, 3, 5, 7, 0.5, 11, 3],
        "parts.0": [2, 0.5, 5, 7, 2, 11, 0.5],
        "parts.1.deep.0": [2, 3, 0.5, 7, 2, 11, 3],
        "parts.1.deep.1.0": [2, 3, 5, 0.5, 2, 11, 3],
        "pair.1": [2, 3, 5, 7, 2, 0.5, 3],
    }
    for name, values in places.items():
        with module.substitute({name: other}):
            np.testing.assert_array_equal(module().numpy(), values)
    with module.substitute({}):
        np.testing.assert_array_equal(module().numpy(), [2, 3, 5, 7, 2, 11, 3])
    with module.substitute(dict.fromkeys(places, other)):
        np.testing.assert_array_equal(module().numpy(), [0.5] * 7)
        assert isinstance(module.pair, Pair)


def test_after_a_substitution_every_object_is_the_one_before() -> None:
    module = Nested()
    vars_before, parts, held = dict(vars(module)), list(module.parts), dict(module.named_parameters())
    deep = module.parts[1]["deep"]
    with module.substitute({name: mg.tensor([0.0]) for name in held}):
        assert list(module.parameters()) == []
    assert list(vars(module)) == list(vars_before)
    assert all(vars(module)[name] is value for name, value in vars_before.items())
    assert all(now is before for now, before in zip(module.parts, parts, strict=True))
    assert module.parts[1]["deep"] is deep
    assert all(p is held[name] for name, p in module.named_parameters())


def test_parameters_are_back_after_an_error() -> None:
    layer = mg.Linear(2, 2)
    weight = layer.weight
    with pytest.raises(ValueError, match=r"shape \(\.\.\., 2\)"), layer.substitute({"weight": mg.zeros((2, 2))}):
        layer(mg.ones((1, 3)))
    assert layer.weight is weight


def test_what_else_is_changed_meanwhile_stays_changed() -> None:
    module = Nested()
    with module.substitute({"scale": mg.tensor([1.0])}):
        module.parts.append("more")
        module.again = None
    assert (module.parts[-1], module.again) == ("more", None)


def test_gradients_reach_the_substitute_and_not_the_parameter() -> None:
    layer, given = mg.Linear(2, 2), mg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    x = mg.tensor([[5.0, 6.0]])
    with layer.substitute({"weight": given * 3}):
        y = layer(x)
    np.testing.assert_allclose(y.numpy(), x.numpy() @ given.numpy().T * 3 + layer.bias.numpy(), rtol=1e-6)
    y.sum().backward()
    np.testing.assert_array_equal(given.grad.numpy(), [[15, 18], [15, 18]])
    assert layer.weight.grad is None
    np.testing.assert_array_equal(layer.bias.grad.numpy(), [1, 1])


def test_substitutes_can_be_substituted_again() -> None:
    outer = mg.Sequential(mg.Linear(1, 1, bias=False))
    one, two = mg.tensor([[1.0]]), mg.tensor([[2.0]])
    x = mg.ones((1, 1))
    with outer.substitute({"0.weight": one}):
        with outer[0].substitute({"weight": two}):
            assert outer(x).item() == 2
        assert outer(x).item() == 1
    assert isinstance(outer[0].weight, mg.Parameter)


def test_substitutes_that_do_not_fit_are_refused_and_change_nothing() -> None:
    model = mg.Sequential(mg.Linear(2, 3))
    weight, good = model[0].weight, {"0.bias": mg.zeros(3)}
    refused = {
        "has no tensor 'weight'; those to substitute are: 0.weight, 0.bias": (ValueError, {"weight": weight}),
        "the substitute for 0.weight must have its shape, (3, 2); it has (2, 3)": (ValueError, {"0.weight": weight.T}),
        "0.weight must be a tensor, not ndarray: mg.tensor(...)": (TypeError, {"0.weight": weight.numpy()}),
        "its dtype, float32; it has float64: tensor.astype('float32')": (
            TypeError,
            {"0.weight": weight.astype("float64")},
        ),
    }
    for message, (kind, wrong) in refused.items():
        with pytest.raises(kind, match=re.escape(message)), model.substitute(good | wrong):
            pass
    assert isinstance(model[0].bias, mg.Parameter)
    with pytest.raises(ValueError, match=r"Dropout has no tensor 'p'; those to substitute are: none"):
        mg.Dropout().substitute({"p": mg.zeros(1)}).__enter__()


class Rescaled(mg.Cell):
    """A cell whose wrapped cell has rows of unit length in its recurrent weight, and half of its bias."""

    def __init__(self, cell: mg.Cell) -> None:
        self.cell = cell

    def init_state(self, batch_size: int) -> Any:
        return self.cell.init_state(batch_size)

    def step(self, x: mg.Tensor, state: Any) -> Any:
        w = self.cell.weight_hh
        unit = w / mg.sqrt((w * w).sum(axis=1, keepdims=True))
        with self.cell.substitute({"weight_hh": unit, "bias_hh": self.cell.bias_hh * 0.5}):
            return self.cell.step(x, state)


@pytest.mark.parametrize("kind", [mg.RNNCell, mg.GRUCell, mg.LSTMCell])
def test_a_plan_traces_a_step_with_substitutes(kind: Any) -> None:
    mg.set_default_dtype("float64")
    cell = kind(3, 4)
    plan, tape = (mg.Recurrent(Rescaled(cell), engine=engine) for engine in ("plan", "tape"))
    x, found = mg.normal(shape=(6, 2, 3)), []
    upstream = mg.normal(shape=(6, 2, 4))
    for layer in (plan, tape):
        layer.zero_grad()
        ys, _ = layer(x, lengths=[6, 3])
        (ys * upstream).sum().backward()
        found.append([ys.numpy(), *(p.grad.numpy() for p in layer.parameters())])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    assert all(isinstance(p, mg.Parameter) for p in (cell.weight_hh, cell.bias_hh))
    with cell.substitute({name: mg.tensor(value) for name, value in rescaled(cell).items()}):
        expected, _ = mg.Recurrent(cell, engine="tape")(x, lengths=[6, 3])
    np.testing.assert_allclose(found[0][0], expected.numpy(), rtol=1e-9, atol=1e-12)


def rescaled(cell: Any) -> dict[str, Any]:
    w = cell.weight_hh.numpy()
    return {"weight_hh": w / np.linalg.norm(w, axis=1, keepdims=True), "bias_hh": cell.bias_hh.numpy() / 2}


def test_a_plan_with_substitutes_computes_them_once_and_is_compiled_once() -> None:
    layer = mg.Recurrent(Rescaled(mg.GRUCell(3, 4)), engine="plan")
    keys = [fingerprint(layer.cell)[0]]
    for _ in range(3):
        layer(mg.ones((5, 2, 3)))[0].sum().backward()
        keys.append(fingerprint(layer.cell)[0])
    assert keys.count(keys[0]) == 4
    assert len(layer._plans.known) == 1
    bins = re.split(r"\n  (?=\w)", layer.explain())
    once = next(text for text in bins if text.startswith("constant"))
    assert "sqrt" in once
    assert "divide" in once
    assert [text.split()[0] for text in bins if "sqrt" in text] == ["constant"]
    assert layer.explain().startswith("Recurrent(Rescaled): engine plan.")


@pytest.mark.parametrize("engine", ["plan", "tape"])
def test_a_layer_runs_with_substitutes_from_outside(engine: str) -> None:
    layer = mg.Recurrent(mg.RNNCell(2, 3), engine=engine)
    x = mg.normal(shape=(4, 2, 2))
    expected = layer(x)[0].numpy().copy()
    source = mg.tensor(layer.cell.weight_hh.numpy() * 2, requires_grad=True)
    with layer.substitute({"cell.weight_hh": source * 0.5}):
        ys, _ = layer(x)
    np.testing.assert_allclose(ys.numpy(), expected, rtol=1e-6)
    ys.sum().backward()
    layer(x)[0].sum().backward()
    np.testing.assert_allclose(source.grad.numpy() * 2, layer.cell.weight_hh.grad.numpy(), rtol=1e-5, atol=1e-7)


def test_gradients_of_gradients_go_through_substitutes() -> None:
    mg.set_default_dtype("float64")
    cell, x = mg.RNNCell(2, 3), mg.normal(shape=(4, 2, 2))
    layer = mg.Recurrent(Rescaled(cell), engine="plan")
    found = []
    for engine in ("plan", "tape"):
        layer.engine = engine
        slopes = mg.grad(mg.square(layer(x)[0]).sum(), [cell.weight_hh, cell.bias_hh], create_graph=True)
        second = mg.grad(sum(mg.square(slope).sum() for slope in slopes), [cell.weight_hh, cell.weight_ih])
        found.append([value.numpy() for value in second])
    for a, b in zip(*found, strict=True):
        assert np.abs(b).max() > 1e-3
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-12)
