"""`output_size` of layers over time: the size of the outputs that a run then gives, said without one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cells_zoo import BUILT_IN, CELLS, Bare, Counting, DictState, H, I, NestedState, Reading, draw_x

import minigrad as mg


class Projected(mg.LSTMCell):
    """An LSTM whose outputs, of P numbers, are smaller than its state."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.output_size = 2
        self.projection = mg.Linear(hidden_size, self.output_size)

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h, state = super().step(x, state)
        return self.projection(h), state


class Attending(mg.Cell):
    """Its outputs are those of a GRU beside what it finds in a memory; it says its input size only."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        self.input_size, self.size = input_size, hidden_size
        self.inner, self.attention = mg.GRUCell(input_size, hidden_size), mg.AdditiveAttention(hidden_size, 4, 5)
        self.memory = mg.Parameter(mg.normal(shape=(6, 1, 4)))

    def init_state(self, batch_size: int) -> Any:
        return self.inner.init_state(batch_size)

    def step(self, x: mg.Tensor, h: mg.Tensor) -> Any:
        y, h = self.inner.step(x, h)
        memory = mg.broadcast_to(self.memory, (6, len(x), 4))
        return mg.concat([y, self.attention(y, memory)[0]], axis=-1), h


class Silent(Attending):
    """The same, and it does not even say its input size."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        del self.input_size


class Noisy(mg.Cell):
    """Drops some of its inputs at random."""

    def __init__(self) -> None:
        self.input_size, self.drop = I, mg.Dropout(0.5)

    def init_state(self, batch_size: int) -> Any:
        return mg.zeros((batch_size, I))

    def step(self, x: mg.Tensor, h: mg.Tensor) -> Any:
        h = self.drop(x) + 0.5 * h
        return mg.concat([h, h, h], axis=-1), h


def one_number(ahead: mg.Tensor, back: mg.Tensor) -> mg.Tensor:
    return mg.sum(ahead * back, axis=-1, keepdims=True)


LAYERS: dict[str, Callable[[], mg.RecurrentLayer]] = {
    "cell says hidden_size": lambda: mg.Recurrent(mg.GRUCell(I, H)),
    "cell says output_size": lambda: mg.Recurrent(NestedState()),
    "cell says neither": lambda: mg.Recurrent(DictState()),
    "projection": lambda: mg.Recurrent(Projected(I, H)),
    "attention": lambda: mg.Recurrent(Attending(I, H)),
    "batch first": lambda: mg.Recurrent(Attending(I, H), batch_first=True),
    "float64": lambda: mg.Recurrent(Attending(I, H).to(dtype="float64")),
    "reverse": lambda: mg.Recurrent(Projected(I, H), reverse=True),
    "both directions": lambda: mg.Bidirectional(Projected(I, H), mg.GRUCell(I, 5)),
    "both directions, summed": lambda: mg.Bidirectional(Projected(I, H), merge="sum"),
    "both directions, averaged": lambda: mg.Bidirectional(Attending(I, H), merge="mean"),
    "both directions, by a function": lambda: mg.Bidirectional(mg.LSTMCell(I, H), merge=one_number),
    "stack": lambda: mg.Stack(mg.Recurrent(Projected(I, H)), mg.Bidirectional(mg.GRUCell(2, 7))),
    "stack of stacks": lambda: mg.Stack(mg.Stack(mg.Bidirectional(mg.GRUCell(I, H))), mg.RNN(2 * H, 5, num_layers=2)),
    "by name": lambda: mg.recurrent("lstm", I, H, num_layers=2, bidirectional=True),
}


@pytest.mark.parametrize("name", LAYERS)
def test_it_is_the_size_of_what_a_run_gives(name: str) -> None:
    layer = LAYERS[name]()
    said = layer.output_size
    assert type(said) is int
    parameter = next(layer.parameters())
    ys, _ = layer(mg.ones((4, 3, I), dtype=str(parameter.dtype)))
    assert ys.shape == (4, 3, said)
    assert mg.Linear(said, 1).to(dtype=str(ys.dtype))(ys).shape == (4, 3, 1)


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_cells_take_no_step_for_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = CELLS[name]()
    ys, _ = mg.Recurrent(cell)(draw_x(cell, 2, 1))
    monkeypatch.setattr(type(cell), "step", lambda *_: pytest.fail("a step was taken"))
    assert mg.Recurrent(cell).output_size == ys.shape[-1]


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("cell", [Projected, Attending, Silent])
def test_layers_by_name_fit_each_other_whatever_the_cell_says(
    cell: type[mg.Cell], num_layers: int, bidirectional: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minigrad.registry.cell", lambda name, *sizes: cell(*sizes))
    layer = mg.recurrent("a cell", I, H, num_layers=num_layers, bidirectional=bidirectional)
    ys, _ = layer(mg.ones((4, 3, I)))
    assert layer.output_size == ys.shape[-1] == (2 if cell is Projected else H + 4) * (1 + bidirectional)


def test_asking_leaves_random_numbers_and_gradients_as_they_were() -> None:
    layer = mg.Bidirectional(Noisy())
    mg.seed(3)
    expected = mg.uniform(shape=(5,)).numpy().tolist()
    mg.seed(3)
    assert layer.output_size == 6 * I
    assert mg.uniform(shape=(5,)).numpy().tolist() == expected
    assert layer.training


@pytest.mark.parametrize("make", [Counting, Reading, lambda: Silent(I, H), Bare])
def test_a_cell_that_says_no_size_at_all_is_told_what_to_set(make: Callable[[], mg.Cell]) -> None:
    cell = make()
    with pytest.raises(ValueError, match=f"^{type(cell).__name__} does not say the size.*set self.output_size"):
        mg.Recurrent(cell).output_size  # noqa: B018
    cell.output_size = 3
    assert mg.Bidirectional(cell, cell).output_size == 6


def test_a_step_that_fails_is_the_errors_cause() -> None:
    cell = Reading()
    cell.input_size = I
    with pytest.raises(ValueError, match=r"its step fails on zeros \(1, 2\)") as caught:
        mg.Recurrent(cell).output_size  # noqa: B018
    assert caught.value.__cause__ is not None


def test_outputs_without_features_have_no_size() -> None:
    class Sum(Noisy):
        def step(self, x: mg.Tensor, h: mg.Tensor) -> Any:
            return mg.sum(x + h, axis=-1), x + h

    with pytest.raises(ValueError, match=r"outputs of Sum have no features: at one step their shape is \(1,\)"):
        mg.Recurrent(Sum()).output_size  # noqa: B018


def test_a_layer_of_ones_own_has_to_say_it() -> None:
    class Mine(mg.RecurrentLayer):
        pass

    with pytest.raises(NotImplementedError, match="Mine must define the property output_size"):
        Mine().output_size  # noqa: B018
