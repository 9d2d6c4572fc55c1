"""Making tensors, what they tell about themselves, operators and methods."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.backend import host_array


@pytest.mark.parametrize(
    ("data", "dtype", "values"),
    [
        (1.5, "float32", 1.5),
        (3, "int64", 3),
        (True, "bool", True),
        ([[1.0, 2.0], [3.0, 4.0]], "float32", [[1, 2], [3, 4]]),
        ([1, 2.5], "float32", [1, 2.5]),
        ([], "float32", []),
        (range(3), "int64", [0, 1, 2]),
        (np.float64(2.0), "float64", 2.0),
        (np.arange(2, dtype="int32"), "int32", [0, 1]),
        ([np.zeros(2), np.ones(2)], "float64", [[0, 0], [1, 1]]),
        ((np.float64(1), np.float64(2)), "float64", [1, 2]),
    ],
)
def test_tensor_of_host_data(data: Any, dtype: str, values: Any, backend: Any) -> None:
    made = mg.tensor(data)
    assert made.dtype == np.dtype(dtype)
    assert made.numpy().tolist() == values
    assert isinstance(made.data, backend.xp.ndarray)
    assert not made.requires_grad
    assert made.node is None


@pytest.mark.host_only("a list of tensors is read on the host")
def test_tensor_of_tensors_keeps_their_dtype() -> None:
    one = mg.tensor(np.ones(2))
    assert mg.tensor([one, one * 2]).dtype == np.float64
    assert mg.tensor([mg.tensor(1.0), mg.tensor(2.0)]).numpy().tolist() == [1.0, 2.0]


def test_tensor_copies(backend: Any) -> None:
    host = np.ones(2)
    made = mg.tensor(host)
    host[0] = 5
    assert made.numpy().tolist() == [1, 1]
    again, third = mg.tensor(made), mg.tensor(made.data)
    made.data[0] = 7
    assert again.numpy().tolist() == third.numpy().tolist() == [1, 1]
    with mg.use_backend("numpy"):
        assert mg.tensor(made).backend is mg.tensor(made.data).backend is backend


@pytest.mark.parametrize("data", [[[1, 2], [3]], ["a"], "text", [None], object(), {"a": 1}])
def test_what_is_no_array_is_refused(data: Any) -> None:
    with pytest.raises(ValueError, match="cannot make an array of"):
        mg.tensor(data)


def test_dtype_and_requires_grad() -> None:
    assert mg.tensor([1, 2], dtype="float64", requires_grad=True).requires_grad
    for make in (lambda: mg.tensor([1], requires_grad=True), lambda: mg.zeros(1, "int64", requires_grad=True)):
        with pytest.raises(ValueError, match="requires_grad needs floating-point values; these are int64"):
            make()


def test_creation() -> None:
    assert mg.zeros((2, 1)).numpy().tolist() == [[0], [0]]
    assert mg.ones(2, dtype="int64").dtype == np.int64
    assert mg.full((1, 2), 3.5, requires_grad=True).requires_grad
    assert mg.arange(2, 8, 3).numpy().tolist() == [2, 5]
    assert mg.arange(2).dtype == np.int64
    assert mg.arange(0, 1, 0.25).numpy().tolist() == [0, 0.25, 0.5, 0.75]
    like = mg.tensor([[1, 2]])
    assert mg.ones_like(like).numpy().tolist() == [[1, 1]]
    assert mg.zeros_like(like).dtype == like.dtype


def test_attributes() -> None:
    x = mg.tensor([[1.0, 2.0, 3.0]])
    assert (x.shape, x.ndim, x.size, len(x)) == ((1, 3), 2, 3, 1)
    assert x.T.shape == (3, 1)
    assert [row.numpy().tolist() for row in x] == [[1, 2, 3]]
    with pytest.raises(TypeError, match="0-d tensor has no length"):
        len(mg.tensor(1.0))
    with pytest.raises(TypeError, match="0-d tensor has no length"):
        iter(mg.tensor(1.0))


def test_numbers() -> None:
    x = mg.tensor([[2.5]])
    assert (x.item(), float(x), int(x), bool(x)) == (2.5, 2.5, 2, True)
    assert not bool(mg.tensor(0.0))
    with pytest.raises(ValueError, match=r"item\(\) takes a tensor of one element; this one has shape \(2,\)"):
        mg.ones(2).item()
    with pytest.raises(ValueError, match="truth of a tensor of shape"):
        bool(mg.ones(2))
    with pytest.raises(ValueError, match="truth of a tensor of shape"):
        bool(mg.ones(0))


def test_numpy_and_array(backend: Any) -> None:
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    assert type(x.numpy()) is np.ndarray
    if backend.name == "numpy":
        assert np.asarray(x) is x.data
        copied = np.array(x)
        assert copied.dtype == np.float32
        copied[0] = 9
        assert x.numpy().tolist() == [1, 2]
        assert np.asarray(x, dtype="float64").dtype == np.float64
    else:
        with pytest.raises(TypeError, match=rf"lives on the {backend.name} backend; call \.numpy\(\)"):
            np.asarray(x)


def test_repr(backend: Any) -> None:
    place = "" if backend.name == "numpy" else f", backend='{backend.name}'"
    assert repr(mg.tensor([1.0], requires_grad=True)) == f"tensor([1.], dtype=float32, requires_grad=True{place})"
    assert repr(mg.tensor(2)) == f"tensor(2{place})"
    assert repr(mg.Parameter([1.0])).startswith("parameter([1.], dtype=float32")


def test_detach() -> None:
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    y = (x * x).detach()
    assert not y.requires_grad
    assert mg.grad((y * x).sum(), x)[0].numpy().tolist() == [1, 4]


def test_operators_and_methods() -> None:
    host = np.array([[1.5, -2.0], [0.5, 3.0]], "float32")
    x, other = mg.tensor(host), np.array([[2.0, 1.0], [1.0, 2.0]], "float32")
    y = mg.tensor(other)
    expected = {
        "+": (x + y, host + other),
        "-": (2 - x, 2 - host),
        "*": (3 * x, 3 * host),
        "/": (1 / x, 1 / host),
        "**": (2**x, 2**host),
        "@": (x @ y, host @ other),
        "neg": (-x, -host),
        "abs": (abs(x), abs(host)),
        "==": (x == 1.5, host == 1.5),
        "!=": (x != y, host != other),
        "<": (x < 1, host < 1),
        "<=": (0.5 >= x, host <= 0.5),  # noqa: SIM300  # the reflected comparison is the test
        "&": ((x > 0) & (y > 1), (host > 0) & (other > 1)),
        "|": ((x > 0) | (y > 1), (host > 0) | (other > 1)),
        "~": (~(x > 0), ~(host > 0)),
        "sum": (x.sum(0), host.sum(0)),
        "mean": (x.mean(axis=1, keepdims=True), host.mean(1, keepdims=True)),
        "max": (x.max(), host.max()),
        "min": (x.min(axis=-1), host.min(-1)),
        "var": (x.var(0, correction=1), host.var(0, ddof=1)),
        "reshape": (x.reshape(4), host.reshape(4)),
        "reshape sizes": (x.reshape(1, -1), host.reshape(1, -1)),
        "reshape tuple": (x.reshape((1, 4)), host.reshape(1, 4)),
        "squeeze": (x[:1].squeeze(0), host[0]),
        "T": (x.T, host.T),
        "astype": (x.astype("int64"), host.astype("int64")),
    }
    for name, (found, wanted) in expected.items():
        assert found.dtype == wanted.dtype, name
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-6, err_msg=name)


@pytest.mark.host_only("NumPy's own operators")
def test_a_numpy_array_on_the_left() -> None:
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    y = np.array([3.0, 4.0]) * x
    assert isinstance(y, mg.Tensor)
    assert y.dtype == np.float32
    assert mg.grad(y.sum(), x)[0].numpy().tolist() == [3, 4]


def test_tensors_are_not_changed_in_place() -> None:
    x = mg.ones(2)
    with pytest.raises(TypeError, match="not changed in place"):
        x[0] = 1.0
    before = x
    x += 1
    assert before.numpy().tolist() == [1, 1]
    assert x.numpy().tolist() == [2, 2]


def test_parameters() -> None:
    w = mg.Parameter([1, 2])
    assert (w.dtype, w.requires_grad, w.version) == (np.float32, True, 0)
    w.data = w.data * 2
    first = w.version
    assert first > 0
    w.data -= 1.0
    assert w.version > first
    assert w.numpy().tolist() == [1, 3]
    assert mg.Parameter(np.ones(1)).dtype == np.float64
    assert mg.Parameter(mg.ones(2)).numpy().tolist() == [1, 1]


@pytest.mark.host_only("host data")
def test_host_array_shortens_long_data_in_its_message() -> None:
    with pytest.raises(ValueError, match=r"cannot make an array of \[\[0, 1.{40,60}\.\.\.: "):
        host_array([list(range(50)), [1]])
