"""A stateful layer, given one step at a time, gives what the layer gives for the whole sequence."""

from __future__ import annotations

import copy
import pickle
import shutil
from typing import Any

import numpy as np
import pytest
from plan_cells import CELLS, draw_x

import minigrad as mg
from minigrad.nest import leaves, map_nest

STEPS = 5
HOW = ["numpy", "tape"]
if any(map(shutil.which, ("cc", "gcc", "clang"))):
    HOW.append("native")


@pytest.fixture(params=HOW, autouse=True)
def how(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: Any) -> str:
    """What runs the layer."""
    monkeypatch.setenv("MINIGRAD_NATIVE", "1" if request.param == "native" else "0")
    if request.param == "native":
        folder = tmp_path_factory.getbasetemp() / "native"
        folder.mkdir(exist_ok=True, mode=0o700)
        monkeypatch.setenv("MINIGRAD_CACHE", str(folder))
    mg.set_default_dtype("float64")
    return str(request.param)


def layers(how: str, batch_first: bool = False) -> dict[str, mg.RecurrentLayer]:
    """Layers for x of 3 features."""
    options: dict[str, Any] = {"engine": "tape" if how == "tape" else "auto", "batch_first": batch_first}
    inner = mg.Recurrent(mg.GRUCell(4, 2), **options)
    return {
        "rnn": mg.RNN(3, 4, **options).eval(),
        "lstm": mg.LSTM(3, 4, **options).eval(),
        "deep": mg.LSTM(3, 4, num_layers=2, dropout=0.5, **options).eval(),
        "nested": mg.Stack(mg.Stack(mg.Recurrent(mg.LSTMCell(3, 4), **options)), inner).eval(),
        "learned start": mg.GRU(3, 4, learn_initial_state=True, **options).eval(),
    }


def same(found: Any, expected: Any) -> None:
    for a, b in zip(leaves(found), leaves(expected), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", list(layers("auto")))
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("batch_first", [False, True])
def test_steps_are_the_whole_sequence(how: str, name: str, batch: int, batch_first: bool) -> None:
    layer = layers(how, batch_first)[name]
    for leaf in layer.parameters():
        leaf.data = mg.normal(shape=leaf.shape).data
    x = mg.normal(shape=(STEPS, batch, 3))
    ys, state = layer(mg.permute_dims(x, (1, 0, 2)) if batch_first else x)
    stateful = mg.Stateful(layer, batch)
    for t in range(STEPS):
        y = stateful(x[t])
        same(y, ys[:, t] if batch_first else ys[t])
        assert not y.requires_grad
    assert type(stateful.state) is type(state)
    same(stateful.state, state)


@pytest.mark.parametrize("name", list(CELLS))
def test_any_cell(how: str, name: str) -> None:
    cell = CELLS[name]()
    layer = mg.Recurrent(cell, engine="tape" if how == "tape" else "auto").eval()
    x = draw_x(cell, STEPS, 2)
    state = layer.init_state(2)
    stateful = mg.Stateful(layer, 2, state)
    ys, last = layer(x, state)
    for t in range(STEPS):
        same(stateful(x[t]), ys[t])
    same(stateful.state, last)


def test_state_comes_out_and_goes_in(how: str) -> None:
    layer = layers(how)["deep"]
    x = mg.normal(shape=(STEPS, 2, 3))
    ys, _ = layer(x)
    stateful = mg.Stateful(layer, 2)
    first = [stateful(x[t]) for t in range(2)]
    between = stateful.state
    rest = [stateful(x[t]) for t in range(2, STEPS)]
    same(mg.stack([*first, *rest]), ys)
    stateful.state = map_nest(lambda leaf: leaf.numpy(), between)
    same(mg.stack([stateful(x[t]) for t in range(2, STEPS)]), ys[2:])
    other = mg.Stateful(layer, 2, between)
    same(mg.stack([other(x[t]) for t in range(2, STEPS)]), ys[2:])
    same(other(x[0]), stateful(x[0]))


def test_new_weights_are_used(how: str) -> None:
    layer = layers(how)["lstm"]
    x = mg.normal(shape=(STEPS, 1, 3))
    stateful = mg.Stateful(layer)
    stateful(x[0])
    layer.load_state_dict({name: mg.normal(shape=value.shape) for name, value in layer.state_dict().items()})
    expected, state = layer(x[1:2], stateful.state)
    same(stateful(x[1]), expected[0])
    same(stateful.state, state)


def test_outputs_are_not_written_again(how: str) -> None:
    stateful = mg.Stateful(layers(how)["lstm"])
    x = mg.normal(shape=(3, 1, 3))
    ys = [stateful(step) for step in (x[0], x[1], x[2])]
    before = [y.numpy().copy() for y in ys]
    stateful(x[0])
    assert all((y.numpy() == old).all() for y, old in zip(ys, before, strict=True))
    assert not (before[0] == before[1]).all()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda stateful: pickle.loads(pickle.dumps(stateful))])
def test_a_copy_goes_on_by_itself(how: str, copied: Any) -> None:
    stateful = mg.Stateful(layers(how)["deep"], 2)
    x = mg.normal(shape=(3, 2, 3))
    stateful(x[0])
    other, twin = copied(stateful), copied(stateful)
    same(other(x[1]), stateful(x[1]))
    same(other.state, stateful.state)
    stateful(x[2])
    same(twin(x[1]), other.layer(x[:2])[0][1])


def test_inputs_of_other_kinds(how: str) -> None:
    layer = layers(how)["rnn"]
    stateful, other = mg.Stateful(layer, 2), mg.Stateful(layer, 2)
    x = np.arange(12.0).reshape(2, 6)[:, ::2]  # not contiguous
    same(stateful(x), other(mg.tensor(x.tolist())))
    same(stateful(mg.tensor(np.asfortranarray(x))), other(x))
    layer.to(dtype="float32")
    assert str(mg.Stateful(layer)(mg.zeros((1, 3), dtype="float32")).dtype) == "float32"


def test_wrong_use_is_refused(how: str) -> None:
    layer = layers(how)["lstm"]
    with pytest.raises(ValueError, match=r"training mode: call layer\.eval\(\) first"):
        mg.Stateful(mg.LSTM(3, 4))
    with pytest.raises(TypeError, match="a Recurrent layer or a Stack of them, not Bidirectional"):
        mg.Stateful(mg.Bidirectional(mg.GRUCell(3, 4)).eval())
    with pytest.raises(TypeError, match="not LSTMCell"):
        mg.Stateful(mg.LSTMCell(3, 4).eval())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="begins with the last step"):
        mg.Stateful(mg.Recurrent(mg.GRUCell(3, 4), reverse=True).eval())
    with pytest.raises(ValueError, match="batch_size is a number of elements"):
        mg.Stateful(layer, -1)
    with pytest.raises(ValueError, match="state must be built like init_state's"):
        mg.Stateful(layer, 1, mg.zeros((1, 4)))
    stateful = mg.Stateful(layer, 2)
    stateful(mg.ones((2, 3)))
    before = stateful.state
    with pytest.raises(ValueError, match=r"this layer has batch_size 2; x has the shape \(3, 3\)"):
        stateful(mg.ones((3, 3)))
    with pytest.raises(ValueError, match="input_size 3"):
        stateful(mg.ones((2, 4)))
    with pytest.raises(TypeError, match="x is float32"):
        stateful(mg.ones((2, 3), dtype="float32"))
    with pytest.raises(ValueError, match="state must be built like init_state's"):
        stateful.state = mg.zeros((2, 4))
    same(stateful.state, before)


def test_no_sequences(how: str) -> None:
    stateful = mg.Stateful(layers(how)["lstm"], 0)
    assert stateful(mg.ones((0, 3))).shape == (0, 4)
