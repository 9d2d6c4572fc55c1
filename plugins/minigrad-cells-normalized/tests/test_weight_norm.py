"""Weight normalisation: its equation, its plan, its state dict, and its place among other modules."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import references
from minigrad_cells_normalized import IndRNNCell, LayerNormLSTMCell, WeightNorm

import minigrad as mg

T, B, I, H = 4, 3, 2, 5  # noqa: E741  # steps, batch, sizes of x and h
CELLS: dict[str, Callable[[], mg.Cell]] = {
    "rnn": lambda: mg.RNNCell(I, H),
    "lstm": lambda: mg.LSTMCell(I, H),
    "gru": lambda: mg.GRUCell(I, H),
    "gru, reset before": lambda: mg.GRUCell(I, H, reset_after=False),
    "indrnn": lambda: IndRNNCell(I, H),
    "layer_norm_lstm": lambda: LayerNormLSTMCell(I, H),
}


def moved(module: mg.Module) -> None:
    """All parameters somewhere else."""
    for parameter in module.parameters():
        parameter.data = parameter.data + mg.normal(shape=parameter.shape, std=0.3, dtype=parameter.dtype).data


@pytest.mark.parametrize("engine", ["plan", "tape"])
@pytest.mark.parametrize("name", CELLS)
def test_the_cell_computes_with_the_papers_weights(name: str, engine: str) -> None:
    mg.set_default_dtype("float64")
    cell, plain, x = WeightNorm(CELLS[name]()), CELLS[name](), mg.normal(shape=(T, B, I))
    moved(cell)
    plain.load_state_dict(references.weight_normed(cell.state_dict()))
    ys, _ = mg.Recurrent(cell, engine=engine)(x)
    np.testing.assert_allclose(ys.numpy(), mg.Recurrent(plain)(x)[0].numpy(), rtol=1e-11, atol=1e-13)
    assert np.abs(ys.numpy()[-1]).max() > 0.05


def test_the_gradients_are_those_of_the_paper() -> None:
    """Equation 3: the gradient of g is that of w along v, the gradient of v what is left of it across v."""
    mg.set_default_dtype("float64")
    cell, plain, x = WeightNorm(mg.LSTMCell(I, H)), mg.LSTMCell(I, H), mg.normal(shape=(T, B, I))
    moved(cell)
    plain.load_state_dict(references.weight_normed(cell.state_dict()))
    for layer in (mg.Recurrent(cell, engine="plan"), mg.Recurrent(plain)):
        mg.square(layer(x)[0]).sum().backward()
    for name in ("weight_ih", "weight_hh"):
        v, g = getattr(cell.cell, name), cell.g[name]
        slope, length = getattr(plain, name).grad.numpy(), np.linalg.norm(v.numpy(), axis=1, keepdims=True)
        along = (slope * v.numpy()).sum(axis=1, keepdims=True) / length
        across = g.numpy() / length * slope - g.numpy() * along / length**2 * v.numpy()
        np.testing.assert_allclose(g.grad.numpy(), along, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(v.grad.numpy(), across, rtol=1e-9, atol=1e-12)
        assert np.abs((v.grad.numpy() * v.numpy()).sum(axis=1)).max() < 1e-12
    np.testing.assert_allclose(cell.cell.bias_ih.grad.numpy(), plain.bias_ih.grad.numpy(), rtol=1e-9)


def test_at_first_the_cell_computes_what_it_did_before() -> None:
    cell, x = mg.GRUCell(I, H), mg.normal(shape=(T, B, I))
    before = mg.Recurrent(cell)(x)[0].numpy()
    np.testing.assert_allclose(mg.Recurrent(WeightNorm(cell))(x)[0].numpy(), before, rtol=1e-4, atol=1e-6)


def test_the_plan_computes_the_weights_once_per_sequence_and_is_compiled_once() -> None:
    layer = mg.Recurrent(WeightNorm(mg.LSTMCell(I, H)), engine="plan")
    for _ in range(2):
        layer(mg.normal(shape=(T, B, I)))[0].sum().backward()
        explained = layer.explain()
    assert explained.startswith("Recurrent(WeightNorm): engine plan.\nThe latest run was of this program")
    bins = {text.split()[0]: text for text in re.split(r"\n  (?=\w)", explained)[1:]}
    assert bins["constant"].count("sqrt") == 2  # the norms of two matrices
    assert bins["constant"].count("divide") >= 2
    for name in bins.keys() - {"constant", "final"}:
        assert not re.search("sqrt|divide|square", bins[name]), bins[name]


def test_the_state_dict_has_the_cells_names_and_the_lengths() -> None:
    cell = WeightNorm(mg.RNNCell(I, H))
    names = ["cell.weight_ih", "cell.weight_hh", "cell.bias_ih", "cell.bias_hh", "g.weight_ih", "g.weight_hh"]
    assert list(cell.state_dict()) == names
    assert cell.state_dict()["g.weight_hh"].shape == (H, 1)
    other, x = WeightNorm(mg.RNNCell(I, H)), mg.normal(shape=(T, B, I))
    moved(cell)
    other.load_state_dict(cell.state_dict())
    np.testing.assert_array_equal(mg.Recurrent(other)(x)[0].numpy(), mg.Recurrent(cell)(x)[0].numpy())


def test_sizes_are_passed_on_where_there_are_any() -> None:
    class Sizeless(mg.Cell):
        def __init__(self) -> None:
            self.deep = [mg.Linear(I, H), {"more": mg.Parameter(mg.normal(shape=(2, H, 3)))}]

        def init_state(self, batch_size: int) -> mg.Tensor:
            return mg.zeros((batch_size, H))

        def step(self, x: mg.Tensor, state: mg.Tensor) -> Any:
            h = mg.tanh(self.deep[0](x) + state) * self.deep[1]["more"].sum(axis=(0, 2))
            return h[:, :2], h

    cell = WeightNorm(Sizeless())
    assert not {"input_size", "hidden_size", "output_size"} & set(vars(cell))
    assert cell.g["deep.1.more"].shape == (2, 1, 1)
    plain, x = Sizeless(), mg.normal(shape=(T, B, I))
    moved(cell)
    plain.load_state_dict(references.weight_normed(cell.state_dict()))
    layer = mg.Recurrent(cell, engine="plan")
    np.testing.assert_allclose(layer(x)[0].numpy(), mg.Recurrent(plain)(x)[0].numpy(), rtol=1e-4, atol=1e-6)
    sized = WeightNorm(mg.GRUCell(I, H))
    assert (sized.input_size, sized.hidden_size, hasattr(sized, "output_size")) == (I, H, False)


def test_only_the_wrapper_trains_lengths_and_directions() -> None:
    cell = WeightNorm(mg.RNNCell(I, H))
    layer, x = mg.Recurrent(cell), mg.normal(shape=(T, B, I))
    before = cell.state_dict()
    optimizer = mg.optimizer("sgd", layer.parameters(), lr=0.1)
    losses = []
    for _ in range(20):
        loss = mg.square(layer(x)[0] - 0.5).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    assert all(np.abs(value - before[name]).max() > 1e-4 for name, value in cell.state_dict().items())


def test_what_cannot_be_normalised_is_refused() -> None:
    cell = mg.RNNCell(I, H)
    cell.weight_hh.data = cell.weight_hh.data * np.array([[1, 0, 1, 1, 1]], "float32").T
    with pytest.raises(ValueError, match="a row of weight_hh is all zeros"):
        WeightNorm(cell)
    with pytest.raises(TypeError, match=r"weight_norm takes a cell, not .*Recurrent"):
        WeightNorm(mg.Recurrent(mg.RNNCell(I, H)))
