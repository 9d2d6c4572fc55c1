"""Cells: one step against their equations, gradients through several steps, options, and what is told of bad input."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from cells_zoo import CELLS, H, I, Reading, Substituted, draw_state, draw_x
from gradcheck import check_gradients

import minigrad as mg
from minigrad.nest import leaves, map_nest

every_cell = pytest.mark.parametrize("name", CELLS)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


# --- one step


def test_an_lstm_step_is_its_equations() -> None:
    mg.set_default_dtype("float64")
    cell = mg.LSTMCell(I, H)
    x, (h, c) = draw_x(cell, 4), draw_state(cell, 4)
    y, (h_new, c_new) = cell(x, (h, c))
    w, u, b, d = (p.numpy() for p in (cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh))
    i, f, g, o = np.split(x.numpy() @ w.T + b + h.numpy() @ u.T + d, 4, axis=1)
    c_expected = sigmoid(f) * c.numpy() + sigmoid(i) * np.tanh(g)
    np.testing.assert_allclose(c_new.numpy(), c_expected, rtol=1e-13)
    np.testing.assert_allclose(h_new.numpy(), sigmoid(o) * np.tanh(c_expected), rtol=1e-13)
    np.testing.assert_array_equal(y.numpy(), h_new.numpy())


@pytest.mark.parametrize("reset_after", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_a_gru_step_is_its_equations(reset_after: bool, bias: bool) -> None:
    mg.set_default_dtype("float64")
    cell = mg.GRUCell(I, H, bias=bias, reset_after=reset_after)
    x, h = draw_x(cell, 4), draw_state(cell, 4)
    y, _ = cell(x, h)
    x, h = x.numpy(), h.numpy()
    zero = np.zeros(3 * H)
    b, d = (cell.bias_ih.numpy(), cell.bias_hh.numpy()) if bias else (zero, zero)
    w_r, w_z, w_n = np.split(cell.weight_ih.numpy(), 3)
    u_r, u_z, u_n = np.split(cell.weight_hh.numpy(), 3)
    b_r, b_z, b_n = np.split(b, 3)
    d_r, d_z, d_n = np.split(d, 3)
    r = sigmoid(x @ w_r.T + b_r + h @ u_r.T + d_r)
    z = sigmoid(x @ w_z.T + b_z + h @ u_z.T + d_z)
    recurrent = r * (h @ u_n.T + d_n) if reset_after else (r * h) @ u_n.T + d_n
    n = np.tanh(x @ w_n.T + b_n + recurrent)
    np.testing.assert_allclose(y.numpy(), (1 - z) * n + z * h, rtol=1e-12)


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_an_rnn_step_is_its_equation(nonlinearity: str) -> None:
    mg.set_default_dtype("float64")
    cell = mg.RNNCell(I, H, nonlinearity=nonlinearity)
    x, h = draw_x(cell, 4), draw_state(cell, 4)
    w, u, b, d = (p.numpy() for p in (cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh))
    before = x.numpy() @ w.T + b + h.numpy() @ u.T + d
    expected = np.tanh(before) if nonlinearity == "tanh" else np.maximum(before, 0)
    np.testing.assert_allclose(cell(x, h)[0].numpy(), expected, rtol=1e-13, atol=1e-15)


@every_cell
def test_without_a_state_a_cell_starts_from_its_initial_state(name: str) -> None:
    cell = CELLS[name]()
    x = draw_x(cell, 4)
    y, state = cell(x)
    y_given, state_given = cell(x, cell.init_state(4))
    np.testing.assert_array_equal(y.numpy(), y_given.numpy())
    map_nest(lambda a, b: np.testing.assert_array_equal(a.numpy(), b.numpy()), state, state_given)


# --- gradients


@every_cell
def test_gradients_through_three_steps(name: str) -> None:
    """To x, to the parameters and to the initial state; first and second order."""
    mg.set_default_dtype("float64")
    cell = CELLS[name]()
    substituted = Substituted(cell)
    batch, count = 2, len(substituted.names)
    xs = [draw_x(cell, batch, requires_grad=not isinstance(cell, Reading)) for _ in range(3)]
    start = draw_state(cell, batch, requires_grad=True)

    def run(*tensors: mg.Tensor) -> mg.Tensor:
        values, xs, rest = tensors[:count], tensors[count : count + 3], iter(tensors[count + 3 :])
        state = map_nest(lambda leaf: next(rest), start)
        parts = []
        for x in xs:
            y, state = substituted(values, x, state)
            parts.append(y.reshape(-1))
        parts += [leaf.reshape(-1) for leaf in leaves(state) if leaf.dtype.kind == "f"]
        return mg.concat(parts)

    check_gradients(run, *substituted.parameters(), *xs, *leaves(start))


def test_gradients_reach_a_learned_initial_state() -> None:
    mg.set_default_dtype("float64")
    cell = CELLS["Starting"]()
    substituted = Substituted(cell)
    x = draw_x(cell, 2)
    check_gradients(lambda *values: substituted(values, x)[0], *substituted.parameters())
    cell(x)[0].sum().backward()
    assert np.abs(cell.start.grad.numpy()).min() > 1e-3


# --- options


def test_the_forget_gate_starts_open() -> None:
    cell = mg.LSTMCell(I, H, forget_bias=1.5)
    total = (cell.bias_ih + cell.bias_hh).numpy().reshape(4, H)
    np.testing.assert_array_equal(total[1], 1.5)
    assert np.abs(total[[0, 2, 3]]).min() > 0
    assert np.abs(total[[0, 2, 3]]).max() < 2 / H**0.5
    np.testing.assert_array_equal(mg.LSTMCell(I, H).bias_ih.numpy()[H : 2 * H], 1.0)
    random = mg.LSTMCell(I, H, forget_bias=None).bias_ih.numpy()[H : 2 * H]
    assert np.abs(random).min() > 0
    assert np.abs(random).max() <= 1 / H**0.5


@pytest.mark.parametrize(("make", "gates"), [(mg.RNNCell, 1), (mg.LSTMCell, 4), (mg.GRUCell, 3)])
def test_the_recurrent_weights_of_each_gate_are_orthogonal(make: Any, gates: int) -> None:
    mg.set_default_dtype("float64")
    weights = make(I, 8, recurrent_init="orthogonal").weight_hh.numpy().reshape(gates, 8, 8)
    for weight in weights:
        np.testing.assert_allclose(weight @ weight.T, np.eye(8), atol=1e-12)
    for one, other in pairwise(weights):
        assert np.abs(one - other).max() > 0.1


@pytest.mark.parametrize(("make", "gates"), [(mg.RNNCell, 1), (mg.LSTMCell, 4), (mg.GRUCell, 3)])
def test_weights_have_pytorchs_names_shapes_and_range(make: Any, gates: int) -> None:
    options = {"forget_bias": None} if make is mg.LSTMCell else {}
    cell = make(20, 100, **options)
    shapes = {name: value.shape for name, value in cell.state_dict().items()}
    rows = gates * 100
    assert shapes == {"weight_ih": (rows, 20), "weight_hh": (rows, 100), "bias_ih": (rows,), "bias_hh": (rows,)}
    for name, value in cell.state_dict().items():
        assert 0.095 < np.abs(value).max() <= 0.1, name
        assert abs(np.abs(value).mean() - 0.05) < 0.006, name
    assert list(make(2, 3, bias=False).state_dict()) == ["weight_ih", "weight_hh"]


def test_a_cell_without_units_is_a_cell() -> None:
    for make in (mg.RNNCell, mg.LSTMCell, mg.GRUCell):
        assert make(2, 0)(mg.ones((4, 2)))[0].shape == (4, 0)


@every_cell
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_dtype_is_kept_in_outputs_states_and_gradients(name: str, dtype: str) -> None:
    cell = CELLS[name]().to(dtype=dtype)
    with mg.default_dtype(dtype):
        x = draw_x(cell, 2, requires_grad=not isinstance(cell, Reading))
    y, state = cell(x)
    y, state = cell(x, state)
    assert y.dtype == dtype
    assert {leaf.dtype.name for leaf in leaves(state)} <= {dtype, "int64"}
    sum((leaf.sum() for leaf in leaves(state) if leaf.requires_grad), y.sum()).backward()
    gradients = [leaf.grad for leaf in (*cell.parameters(), x) if leaf.requires_grad]
    assert gradients
    assert {gradient.dtype.name for gradient in gradients} == {dtype}


def test_bare_data_takes_the_dtype_and_precision_of_the_cell() -> None:
    cell = mg.RNNCell(1, 1).to(dtype="float64")
    exact = cell(mg.tensor([[0.1]], dtype="float64"), mg.tensor([[0.2]], dtype="float64"))[0].item()
    assert cell([[0.1]], [[0.2]])[0].item() == exact
    assert cell(np.array([[0.1]]), np.array([[0.2]]))[0].item() == exact


# --- what is told of bad input


class Returning(mg.Cell):
    """Its step returns what it was told to."""

    input_size = I

    def __init__(self, result: Any) -> None:
        self.result = result

    def init_state(self, batch_size: int) -> Any:
        return mg.zeros((batch_size, H)), mg.zeros((batch_size, H))

    def step(self, x: Any, state: Any) -> Any:
        return self.result(x, *state)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (lambda x, h, c: h, r"Returning.step must return \(y, state\).*it returned Tensor\[2, 3\]"),
        (lambda x, h, c: (h, h, c), r"must return \(y, state\).*it returned \(Tensor.*, Tensor.*, Tensor"),
        (lambda x, h, c: ((h, c), h), r"must return \(y, state\).*it returned \(\(Tensor"),
        (lambda x, h, c: None, r"must return \(y, state\).*it returned NoneType"),
        (lambda x, h, c: (h.sum(0), (h, c)), r"must return y of shape \(2, \.\.\.\); its y is \(3,\)"),
        (lambda x, h, c: (h.sum(), (h, c)), r"must return y of shape \(2, \.\.\.\); its y is \(\)"),
        (lambda x, h, c: (h, c), r"state built like .*\(Tensor\[2, 3\], Tensor\[2, 3\]\); it returned Tensor\[2, 3\]"),
        (lambda x, h, c: (h, [h, c]), r"state built like .*it returned \[Tensor"),
        (lambda x, h, c: (h, (h, c[:, :1])), r"state built like .*it returned \(Tensor\[2, 3\], Tensor\[2, 1\]\)"),
        (lambda x, h, c: (h, (h, None)), r"state built like .*it returned \(Tensor\[2, 3\], NoneType\)"),
    ],
)
def test_a_step_that_returns_the_wrong_thing_is_told(result: Any, message: str) -> None:
    cell = Returning(result)
    with pytest.raises((TypeError, ValueError), match=message):
        cell(mg.ones((2, I)))
    with pytest.raises((TypeError, ValueError), match=message):
        mg.Recurrent(cell)(mg.ones((1, 2, I)))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (lambda: mg.ones((2, I + 1)), r"LSTMCell has input_size 2, so x has the shape \(B, 2\); this is \(2, 3\)"),
        (lambda: mg.ones(2), r"so x has the shape \(B, 2\); this is \(2,\)"),
        (lambda: mg.ones((1, 2, I)), r"so x has the shape \(B, 2\); this is \(1, 2, 2\)"),
        (lambda: mg.tensor(1.0), r"LSTMCell takes x of shape \(B, \.\.\.\); this is \(\)"),
        (lambda: mg.ones((2, I), dtype="float64"), r"x is float64.*LSTMCell are float32.*x.astype\('float32'\)"),
        (lambda: mg.ones((2, I), dtype="int64"), r"LSTMCell takes floating-point x; this is int64"),
        (lambda: "ab", r"cannot make an array of 'ab'"),
    ],
)
def test_a_bad_x_is_told(x: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        mg.LSTMCell(I, H)(x())


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (lambda h: h, r"state must be built like init_state's, \(Tensor.*\); this is Tensor\[2, 3\]"),
        (lambda h: [h, h], r"init_state's, \(Tensor\[2, 3\], Tensor\[2, 3\]\); this is \[Tensor\[2, 3\], Tensor"),
        (lambda h: (h, h, h), r"this is \(Tensor\[2, 3\], Tensor\[2, 3\], Tensor\[2, 3\]\)"),
        (lambda h: (h, h[:1]), r"this is \(Tensor\[2, 3\], Tensor\[1, 3\]\)"),
        (lambda h: (h, h[:, :2]), r"this is \(Tensor\[2, 3\], Tensor\[2, 2\]\)"),
        (lambda h: {"h": h, "c": h}, r"this is \{'h': Tensor\[2, 3\], 'c': Tensor\[2, 3\]\}"),
        (lambda h: (h, None), r"this is \(Tensor\[2, 3\], NoneType\)"),
        (lambda h: (h, h.astype("float64")), r"state is float64 where init_state's is float32.*astype\('float32'\)"),
    ],
)
def test_a_bad_state_is_told(state: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        mg.LSTMCell(I, H)(mg.ones((2, I)), state(mg.zeros((2, H))))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mg.RNNCell(-1, 2), r"input_size is a number of elements, an integer of 0 or more; got -1"),
        (lambda: mg.LSTMCell(1, -2), r"hidden_size .* got -2"),
        (lambda: mg.GRUCell(1, 2.0), r"hidden_size .* got 2\.0"),
        (lambda: mg.GRUCell(True, 2), r"input_size .* got True"),
        (lambda: mg.RNNCell(1, 2, nonlinearity="selu"), r"nonlinearity is 'tanh' or 'relu', not 'selu'"),
        (
            lambda: mg.LSTMCell(1, 2, recurrent_init="zeros"),
            r"recurrent_init is 'uniform' or 'orthogonal', not 'zeros'",
        ),
    ],
)
def test_bad_options_are_told(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_cell_without_its_methods_says_which_is_missing() -> None:
    class Empty(mg.Cell):
        pass

    with pytest.raises(NotImplementedError, match=r"Empty must define init_state\(self, batch_size\)"):
        Empty()(mg.ones((1, 1)))
    with pytest.raises(NotImplementedError, match=r"Empty must define step\(self, x, state\) -> \(y, state\)"):
        Empty().step(mg.ones((1, 1)), None)
