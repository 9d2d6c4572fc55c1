"""float32 stays float32: whatever integers, numbers and bare arrays a tensor meets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg


def ints() -> mg.Tensor:
    return mg.tensor([1, 2, 3])


def floats() -> mg.Tensor:
    return mg.tensor([0.5, 1.5, 2.5], requires_grad=True)


WITH_FLOATS: dict[str, Any] = {
    "add": lambda: ints() + floats(),
    "multiply": lambda: floats() * ints(),
    "divide": lambda: floats() / ints(),
    "power": lambda: floats() ** ints(),
    "maximum": lambda: mg.maximum(ints(), floats()),
    "where": lambda: mg.where(ints() > 1, ints(), floats()),
    "concat": lambda: mg.concat([ints(), floats()]),
    "matmul": lambda: ints() @ floats(),
    "bare integers": lambda: floats() * mg.get_backend().asarray(np.array([1, 2, 3])),
}
INTEGERS_ALONE: dict[str, Any] = {
    "times a number": lambda: ints() * 0.5,
    "divided": lambda: ints() / 2,
    "mean": lambda: ints().mean(),
    "sqrt": lambda: mg.sqrt(ints()),
    "flags times a number": lambda: (ints() > 1) * 0.5,
}


@pytest.mark.parametrize("name", WITH_FLOATS)
def test_integers_do_not_widen_the_tensors_they_meet(name: str) -> None:
    y = WITH_FLOATS[name]()
    assert y.dtype == np.float32
    mg.set_default_dtype("float64")  # of no influence on tensors that are there
    wide = WITH_FLOATS[name]()
    assert wide.dtype == np.float64
    np.testing.assert_allclose(y.numpy(), wide.numpy(), rtol=1e-6)


@pytest.mark.parametrize("name", INTEGERS_ALONE)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_integers_alone_become_of_the_default_dtype(name: str, dtype: str) -> None:
    mg.set_default_dtype(dtype)
    assert INTEGERS_ALONE[name]().dtype == np.dtype(dtype)


def test_gradients_beside_integers_are_exact_and_float32() -> None:
    x = floats()
    (x**3 * ints()).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 3 * x.numpy() ** 2 * [1, 2, 3], rtol=1e-6)
    assert x.grad.dtype == np.float32


def test_what_asks_for_float64_gets_it() -> None:
    assert floats().astype("float64").dtype == np.float64
    assert mg.one_hot(ints(), 4, dtype="float64").dtype == np.float64
    assert (floats() * mg.tensor([1.0], dtype="float64")).dtype == np.float64


def test_a_bare_array_may_be_reused_before_backward() -> None:
    x = mg.tensor([[1.0, 1.0]], requires_grad=True)
    buffer = mg.get_backend().asarray(np.zeros((1, 2), "float32"))
    total: Any = 0
    for column in (0, 1):
        buffer[...] = 0
        buffer[:, column] = 1
        total = total + (x * buffer).sum()
    total.backward()
    np.testing.assert_array_equal(x.grad.numpy(), [[1, 1]])


def test_an_integer_leaf_that_was_told_to_need_a_gradient_is_refused() -> None:
    w = ints()
    w.requires_grad = True
    with pytest.raises(TypeError, match=r"a leaf of int64 has requires_grad=True"):
        (w * 1.5).sum().backward()


def test_a_tensor_of_one_element_takes_a_format() -> None:
    assert f"{mg.tensor(1.23456):.3f}" == "1.235"
    assert f"{mg.tensor([1, 2])}".startswith("tensor([1, 2]")
    with pytest.raises(ValueError, match="takes a tensor of one element"):
        f"{mg.tensor([1.0, 2.0]):.3f}"
