"""What a state may be, and where: nests of tensors in the dtype and on the backend of the cell's parameters."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.nest import describe, leaves


class Given(mg.Cell):
    """A cell that starts from what it is given, and returns what a function makes of its state."""

    def __init__(self, start: Any, new: Any = lambda state: state) -> None:
        self.start, self.new = start, new
        self.weight = mg.Parameter([1.0])

    def init_state(self, batch_size: int) -> Any:
        return self.start(batch_size)

    def step(self, x: mg.Tensor, state: Any) -> tuple[mg.Tensor, Any]:
        return x * self.weight, self.new(state)


@pytest.mark.parametrize("make", [lambda: mg.LSTMCell(2, 3), lambda: mg.Recurrent(mg.LSTMCell(2, 3))])
def test_init_state_has_the_dtype_of_the_parameters(make: Any) -> None:
    module = make().to(dtype="float64")
    state = module.init_state(4)
    assert [(leaf.dtype, leaf.shape) for leaf in leaves(state)] == [(np.float64, (4, 3))] * 2
    x = mg.ones((4, 2) if isinstance(module, mg.Cell) else (5, 4, 2), dtype="float64")
    y, _ = module(x, state)
    np.testing.assert_array_equal(y.numpy(), module(x)[0].numpy())


@pytest.mark.host_only("moves between backends itself")
def test_init_state_is_made_where_the_parameters_are() -> None:
    cell = mg.GRUCell(2, 3).to("strict")
    assert cell.init_state(2).backend.name == "strict"
    assert cell(mg.ones((2, 2)).to("strict"), cell.init_state(2))[0].backend.name == "strict"


class Refined(mg.GRUCell):
    def init_state(self, batch_size: int) -> mg.Tensor:
        return super().init_state(batch_size) + 1.0


def test_init_state_may_build_on_the_one_above() -> None:
    state = Refined(2, 3).to(dtype="float64").init_state(2)
    np.testing.assert_array_equal(state.numpy(), np.ones((2, 3)))
    assert state.dtype == np.float64


def test_an_ordered_dict_stays_one() -> None:
    cell = Given(lambda b: OrderedDict(b=mg.zeros((b, 1)), a=mg.ones((b, 1))))
    _, state = mg.Recurrent(cell)(mg.ones((3, 2, 1)), lengths=[3, 1])
    assert type(state) is OrderedDict
    assert list(state) == ["b", "a"]


@pytest.mark.parametrize(
    ("start", "shown"),
    [
        (lambda b: (mg.zeros((b, 1)), None), r"\(Tensor\[2, 1\], NoneType\)"),
        (lambda b: (mg.zeros((b, 1)), 0), r"\(Tensor\[2, 1\], int\)"),
        (lambda b: None, "NoneType"),
        (lambda b: {"h": np.zeros((b, 1))}, r"\{'h': ndarray\[2, 1\] float64\}"),
    ],
    ids=["none inside", "number", "none", "array"],
)
def test_a_state_of_other_things_than_tensors_is_told(start: Any, shown: str) -> None:
    layer = mg.Recurrent(Given(start))
    with pytest.raises(TypeError, match=rf"the state of Recurrent must be made of tensors.*returned {shown}"):
        layer(mg.ones((3, 2, 1)))


def test_a_state_that_changes_its_dtype_is_told() -> None:
    cell = Given(lambda b: mg.zeros((b, 1)), lambda h: h.astype("float64"))
    with pytest.raises(ValueError, match=r"given, Tensor\[2, 1\]; it returned Tensor\[2, 1\] float64"):
        mg.Recurrent(cell)(mg.ones((3, 2, 1)))


def test_an_integer_counter_does_not_widen_the_rest() -> None:
    class Counting(mg.Cell):
        def init_state(self, batch_size: int) -> Any:
            return mg.zeros((batch_size, 1)), mg.zeros(batch_size, dtype="int64")

        def step(self, x: mg.Tensor, state: Any) -> tuple[mg.Tensor, Any]:
            mean, n = state
            mean = mean + (x - mean) * mg.expand_dims(1 / (n + 1), -1)
            return mean, (mean, n + 1)

    x = mg.tensor(np.arange(8.0).reshape(4, 2, 1).astype("float32"))
    layer = mg.Recurrent(Counting())
    _, state = layer(x[:2])
    ys, (mean, n) = layer(x[2:], state)
    assert ys.dtype == mean.dtype == np.float32
    np.testing.assert_allclose(mean.numpy(), x.numpy().mean(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(n.numpy(), [4, 4])


def test_a_learned_initial_state_needs_a_batch_axis() -> None:
    with pytest.raises(ValueError, match="learn_initial_state needs tensors with the batch first"):
        mg.Recurrent(Given(lambda b: mg.zeros(())), learn_initial_state=True)


def test_outputs_past_the_end_are_zero_whatever_merges_them() -> None:
    layer = mg.Bidirectional(mg.GRUCell(2, 3), merge=lambda ahead, back: mg.sigmoid(ahead + back))
    ys, _ = layer(mg.ones((4, 2, 2)), lengths=[4, 2])
    np.testing.assert_array_equal(ys.numpy()[2:, 1], np.zeros((2, 3)))
    assert (ys.numpy()[:2, 1] > 0.1).all()


def test_concatenating_outputs_without_features_is_told() -> None:
    cell = Given(lambda b: mg.zeros((b, 1)))
    cell.step = lambda x, state: (x[:, 0] * cell.weight, state)  # type: ignore[method-assign]
    with pytest.raises(ValueError, match=r"merge='concat' needs outputs with features.*these are \(3, 2\)"):
        mg.Bidirectional(cell, cell)(mg.ones((3, 2, 1)))


def test_the_shape_wanted_is_told_in_the_order_of_the_layer() -> None:
    with pytest.raises(ValueError, match=r"so x has the shape \(B, T, 2\); this is \(4, 5, 3\)"):
        mg.GRU(2, 3, batch_first=True)(mg.ones((4, 5, 3)))


@pytest.mark.host_only("describes shapes")
def test_descriptions_tell_what_differs() -> None:
    assert describe((mg.zeros((2, 3)), [mg.zeros(2, dtype="int64")])) == "(Tensor[2, 3], [Tensor[2] int64])"
