"""Layers without time: values, gradients, and what is told of bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cells_zoo import Substituted
from gradcheck import check_gradients

import minigrad as mg

# --- Linear


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(3,), (5, 3), (2, 4, 3), (0, 3), (2, 0, 3)])
def test_linear_is_a_matrix_product(shape: tuple[int, ...], bias: bool) -> None:
    layer, x = mg.Linear(3, 2, bias=bias), mg.normal(shape=shape)
    expected = x.numpy() @ layer.weight.numpy().T + (layer.bias.numpy() if bias else 0)
    y = layer(x)
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-5, atol=1e-6)
    assert y.shape == (*shape[:-1], 2)
    assert list(layer.state_dict()) == ["weight", "bias"][: 2 if bias else 1]


@pytest.mark.parametrize("shape", [(3,), (4, 3), (2, 2, 3)])
@pytest.mark.parametrize("layer", [lambda: mg.Linear(3, 2), lambda: mg.Linear(3, 2, bias=False)])
def test_gradients_of_linear(layer: Any, shape: tuple[int, ...]) -> None:
    mg.set_default_dtype("float64")
    substituted = Substituted(layer())
    x = mg.tensor(mg.normal(shape=shape), True)
    check_gradients(lambda x, *values: substituted(values, x), x, *substituted.parameters())


def test_linear_draws_as_pytorch_does() -> None:
    layer = mg.Linear(400, 500)
    for values in (layer.weight.numpy(), layer.bias.numpy()):
        assert 0.0495 < np.abs(values).max() <= 0.05
        assert abs(np.abs(values).mean() - 0.025) < 0.0015
        assert abs(values.mean()) < 0.004


# --- Embedding


def test_embedding_looks_vectors_up() -> None:
    layer, indices = mg.Embedding(5, 3), np.array([[4, 0], [2, 2]])
    np.testing.assert_array_equal(layer(mg.tensor(indices)).numpy(), layer.weight.numpy()[indices])
    np.testing.assert_array_equal(layer([[4, 0], [2, 2]]).numpy(), layer.weight.numpy()[indices])
    assert layer(mg.tensor(3)).shape == (3,)


def test_embedding_adds_the_gradients_of_a_repeated_integer() -> None:
    layer = mg.Embedding(5, 2)
    (layer([1, 3, 1, 1]) * mg.tensor([[1.0], [10.0], [100.0], [1000.0]])).sum().backward()
    np.testing.assert_array_equal(layer.weight.grad.numpy()[:, 0], [0, 1101, 0, 10, 0])
    np.testing.assert_array_equal(layer.weight.grad.numpy()[:, 1], [0, 1101, 0, 10, 0])


def test_gradients_of_embedding() -> None:
    mg.set_default_dtype("float64")
    substituted = Substituted(mg.Embedding(4, 2))
    indices = mg.tensor([[3, 0, 3], [1, 1, 0]])
    check_gradients(lambda weight: mg.sin(substituted([weight], indices)), *substituted.parameters())


def test_embedding_draws_from_the_standard_normal_distribution() -> None:
    values = mg.Embedding(1000, 200).weight.numpy()
    assert abs(values.mean()) < 0.01
    assert abs(values.std() - 1) < 0.01
    assert abs((values**4).mean() - 3) < 0.1


# --- LayerNorm


def test_layer_norm_gives_mean_zero_and_variance_one() -> None:
    mg.set_default_dtype("float64")
    x = mg.normal(shape=(3, 4, 50), mean=7.0, std=3.0)
    y = mg.LayerNorm(50)(x).numpy()
    np.testing.assert_allclose(y.mean(-1), 0, atol=1e-13)
    np.testing.assert_allclose(y.var(-1), 1, atol=1e-5)
    constant = mg.LayerNorm(3)(mg.full((2, 3), 4.0)).numpy()
    np.testing.assert_array_equal(constant, 0)


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 2, 4)])
def test_gradients_of_layer_norm(shape: tuple[int, ...]) -> None:
    mg.set_default_dtype("float64")
    substituted = Substituted(mg.LayerNorm(4, eps=0.1))
    x = mg.tensor(mg.normal(shape=shape, mean=1.0), True)
    check_gradients(lambda x, *values: substituted(values, x), x, *substituted.parameters())


# --- Dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_zeroes_its_share_and_keeps_the_mean(p: float) -> None:
    y = mg.Dropout(p)(mg.ones((400, 500))).numpy()
    assert abs((y == 0).mean() - p) < 0.005
    np.testing.assert_allclose(np.unique(y), [0, 1 / (1 - p)], rtol=1e-6)
    assert abs(y.mean() - 1) < 0.02
    assert y.dtype == "float32"


@pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
def test_dropout_out_of_training_is_the_identity(p: float) -> None:
    x = mg.normal(shape=(4, 5))
    assert mg.Dropout(p).eval()(x) is x
    assert mg.Dropout(0.0)(x) is x
    np.testing.assert_array_equal(mg.Dropout(1.0)(x).numpy(), np.zeros((4, 5)))


def test_gradients_of_dropout_with_its_mask_held() -> None:
    mg.set_default_dtype("float64")
    layer = mg.Dropout(0.4)

    def function(x: mg.Tensor) -> mg.Tensor:
        mg.seed(11)
        return mg.sin(layer(x))

    check_gradients(function, mg.tensor(mg.normal(shape=(4, 5)), True))
    x = mg.ones((40, 50), requires_grad=True)
    y = layer(x)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), y.numpy())


# --- Sequential


def test_sequential_applies_one_after_the_other() -> None:
    first, second = mg.Linear(3, 4), mg.Linear(4, 2)
    model, x = mg.Sequential(first, mg.tanh, second), mg.normal(shape=(5, 3))
    np.testing.assert_array_equal(model(x).numpy(), second(mg.tanh(first(x))).numpy())
    assert list(model.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert len(model) == 3
    assert (model[0], model[-1], list(model)[1]) == (first, second, mg.tanh)
    assert mg.Sequential()(x) is x
    with pytest.raises(IndexError):
        model[3]


# --- one seed, one set of weights


@pytest.mark.parametrize(
    "make",
    [
        lambda: mg.Linear(3, 4),
        lambda: mg.Embedding(3, 4),
        lambda: mg.LSTM(3, 4, num_layers=2, bidirectional=True),
        lambda: mg.GRUCell(3, 4, recurrent_init="orthogonal"),
    ],
)
def test_one_seed_gives_the_same_weights_on_every_backend(make: Any) -> None:
    def weights() -> Any:
        mg.seed(123)
        return make().state_dict()

    here = weights()
    with mg.use_backend("numpy"):
        host = weights()
    for name, value in here.items():
        np.testing.assert_array_equal(value, host[name])
        mg.seed(124)
    assert any(np.abs(value - here[name]).max() > 0 for name, value in make().state_dict().items())


# --- bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mg.Linear(3, 2)(mg.ones((4, 2))), r"Linear takes x of shape \(\.\.\., 3\); this is \(4, 2\)"),
        (lambda: mg.Linear(3, 2)(mg.tensor(1.0)), r"Linear takes x of shape \(\.\.\., 3\); this is \(\)"),
        (
            lambda: mg.Linear(3, 2)(mg.ones((4, 3), dtype="float64")),
            r"Linear takes x in the dtype of its weight, float32; this is float64: "
            r"x\.astype\('float32'\) or module\.to\(dtype='float64'\)",
        ),
        (lambda: mg.Linear(3, 2)(mg.ones((4, 3), dtype="int64")), r"float32; this is int64: x\.astype\('float32'\)$"),
        (lambda: mg.LayerNorm(3)(mg.ones((4, 2))), r"LayerNorm takes x of shape \(\.\.\., 3\); this is \(4, 2\)"),
        (lambda: mg.LayerNorm(3)(mg.ones((4, 3), dtype="float64")), r"LayerNorm takes x in the dtype.*this is float64"),
        (lambda: mg.Embedding(3, 2)(mg.ones(4)), r"Embedding takes integers; these are float32"),
        (lambda: mg.Embedding(3, 2)([0.5]), r"Embedding takes integers; these are float32"),
        (lambda: mg.Embedding(3, 2)(mg.tensor([True])), r"Embedding takes integers; these are bool"),
        (lambda: mg.Linear(-1, 2), r"in_features is a number of elements, an integer of 0 or more; got -1"),
        (lambda: mg.Linear(1, 2.0), r"out_features .*got 2\.0"),
        (lambda: mg.Embedding(-1, 2), r"num_embeddings .*got -1"),
        (lambda: mg.Embedding(1, None), r"embedding_dim .*got None"),
        (lambda: mg.LayerNorm((2, 3)), r"size is a number of elements.*got \(2, 3\)"),
        (lambda: mg.Dropout(1.1), r"p is a probability in \[0, 1\]; got 1\.1"),
        (lambda: mg.Dropout(-0.1), r"p is a probability in \[0, 1\]; got -0\.1"),
        (lambda: mg.Dropout("half"), r"p is a probability in \[0, 1\]; got 'half'"),
        (lambda: mg.Sequential(mg.Linear(1, 1), 3), r"Sequential takes modules and functions; argument 1 is 3"),
        (lambda: mg.Sequential([mg.tanh]), r"Sequential takes modules and functions; argument 0 is \[<function"),
    ],
)
def test_bad_input_is_told(call: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        call()


@pytest.mark.host_only("the stand-in takes no NumPy scalars as shapes")
def test_numpy_numbers_are_numbers() -> None:
    layer = mg.Sequential(mg.Linear(np.int64(3), np.int32(2)), mg.Dropout(np.float32(0.5)))
    assert layer(mg.ones((4, 3))).shape == (4, 2)
    recurrent = mg.LSTM(np.int64(3), np.int64(2), np.int64(2))
    assert recurrent(mg.ones((5, 4, 3)))[0].shape == (5, 4, 2)
    with pytest.raises(ValueError, match=r"LSTMCell has input_size 3"):
        recurrent(mg.ones((5, 4, 2)))


@pytest.mark.parametrize("wrong", [-1, 3])
def test_an_integer_without_a_vector_is_told(wrong: int) -> None:
    with pytest.raises(IndexError, match=r"Embedding takes integers in 0\.\.2; these are in (0\.\.3|-1\.\.0)"):
        mg.Embedding(3, 2)([0, wrong]).numpy()


def test_bytes_may_name_all_of_256_vectors() -> None:
    layer = mg.Embedding(256, 2)
    data = mg.tensor(np.array([7, 255, 7], "uint8"))
    layer(data).sum().backward()
    expected = np.zeros((256, 2))
    expected[7], expected[255] = 2, 1
    np.testing.assert_array_equal(layer.weight.grad.numpy(), expected)
