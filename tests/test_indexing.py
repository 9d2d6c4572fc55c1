"""Indexing and broadcasting on examples that hypothesis makes up, against a dense oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minigrad as mg

SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4)


def counted(shape: tuple[int, ...]) -> Any:
    """Distinct values, so that a wrong selection shows."""
    return np.arange(np.prod(shape, dtype=int), dtype="float64").reshape(shape) + 0.5


def on_device(index: Any) -> Any:
    """The index with its arrays as tensors."""
    if isinstance(index, tuple):
        return tuple(on_device(part) for part in index)
    return mg.tensor(index) if isinstance(index, np.ndarray) else index


def check_selection(shape: tuple[int, ...], index: Any) -> None:
    """Compare x[index], its gradient and the gradient's gradient with what a matrix of zeros and ones gives."""
    host = counted(shape)
    x = mg.tensor(host, requires_grad=True)
    y = x[on_device(index)]
    np.testing.assert_array_equal(y.numpy(), host[index])
    weights = np.cos(counted(y.shape))
    expected = np.zeros(shape)
    np.add.at(expected, index, weights)
    (slope,) = mg.grad((y * mg.tensor(weights)).sum(), x, create_graph=True)
    np.testing.assert_allclose(slope.numpy(), expected, atol=1e-12)
    cotangent = mg.tensor(weights, requires_grad=True)
    (slope,) = mg.grad(x[on_device(index)], x, cotangent, create_graph=True)
    (back,) = mg.grad((slope * mg.tensor(host)).sum(), cotangent)
    np.testing.assert_allclose(back.numpy(), host[index])


@given(st.data())
def test_basic_indexing(data: st.DataObject) -> None:
    shape = data.draw(SHAPES)
    check_selection(shape, data.draw(hnp.basic_indices(shape, allow_newaxis=True)))


@given(st.data())
def test_advanced_indexing(data: st.DataObject) -> None:
    shape = data.draw(SHAPES)
    check_selection(shape, data.draw(hnp.integer_array_indices(shape)))


@given(st.data())
def test_mixed_indexing(data: st.DataObject) -> None:
    """Integer arrays between slices, integers, None and an ellipsis, repeated and negative elements included."""
    shape = data.draw(SHAPES)
    index: list[Any] = []
    for size in shape:
        rows = hnp.arrays(
            "int64", data.draw(st.sampled_from([(), (2,), (3, 1)])), elements=st.integers(-size, size - 1)
        )
        index.append(data.draw(st.one_of(rows, st.integers(-size, size - 1), st.slices(size))))
    if data.draw(st.booleans()):
        index.insert(data.draw(st.integers(0, len(index))), None)
    if data.draw(st.booleans()):
        index.insert(data.draw(st.integers(0, len(index))), Ellipsis)
    check_selection(shape, tuple(index))


@given(st.data())
def test_masks(data: st.DataObject) -> None:
    shape = data.draw(SHAPES)
    axes = data.draw(st.integers(1, len(shape)))
    check_selection(shape, data.draw(hnp.arrays(bool, shape[:axes])))


@given(hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=4, max_side=3, min_side=0))
def test_broadcasting_sums_gradients_back(shapes: Any) -> None:
    hosts = [np.cos(counted(shape)) + 2 for shape in shapes.input_shapes]
    a, b, c = (mg.tensor(host, requires_grad=True) for host in hosts)
    y = a * b + c
    np.testing.assert_allclose(y.numpy(), hosts[0] * hosts[1] + hosts[2])
    weights = np.sin(counted(y.shape))
    found = mg.grad(y, [a, b, c], weights)
    dense = [weights * hosts[1], weights * hosts[0], weights]
    for host, gradient, full in zip(hosts, found, dense, strict=True):
        padded = (1,) * (y.ndim - host.ndim) + host.shape
        stretched = tuple(axis for axis, size in enumerate(padded) if size == 1)
        full = np.broadcast_to(full, y.shape).sum(stretched, keepdims=True).reshape(host.shape)
        np.testing.assert_allclose(gradient.numpy(), full, atol=1e-12)


@given(st.data())
def test_take_and_its_gradient(data: st.DataObject) -> None:
    shape = data.draw(SHAPES)
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    size = shape[axis]
    indices = data.draw(hnp.arrays("int64", hnp.array_shapes(max_dims=2, min_side=0, max_side=4),
                                   elements=st.integers(-size, size - 1)))  # fmt: skip
    host = counted(shape)
    x = mg.tensor(host, requires_grad=True)
    y = mg.take(x, mg.tensor(indices), axis)
    np.testing.assert_array_equal(y.numpy(), np.take(host, indices, axis))
    weights = np.cos(counted(y.shape))
    expected = np.zeros(shape)
    np.add.at(expected, (slice(None),) * (axis % len(shape)) + (indices,), weights)
    np.testing.assert_allclose(mg.grad(y, x, weights)[0].numpy(), expected, atol=1e-12)


@pytest.mark.parametrize(
    "index", [[], [2, 0], [True, False, True], (slice(1, None), [0, 0]), np.int64(-1), (np.int32(1), None), True, ()]
)
def test_lists_and_scalars_as_indices(index: Any) -> None:
    host = counted((3, 2))
    x = mg.tensor(host, requires_grad=True)
    taken = np.array([], int) if isinstance(index, list) and not index else index
    np.testing.assert_array_equal(x[index].numpy(), host[taken])
    expected = np.zeros((3, 2))
    np.add.at(expected, taken, 1.0)
    np.testing.assert_array_equal(mg.grad(x[index].sum(), x)[0].numpy(), expected)


def test_a_0d_tensor_as_index() -> None:
    x = mg.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert x[mg.tensor(1)].numpy().tolist() == [3.0, 4.0]
    assert x[mg.argmax(x[:, 0]), 1].item() == 4.0
    assert mg.take(x, mg.tensor(-1), axis=1).numpy().tolist() == [2.0, 4.0]


def test_many_slices_of_one_tensor_share_a_buffer_and_add_to_other_uses() -> None:
    x = mg.tensor(counted((6, 2)), requires_grad=True)
    inner = x * 1.0
    y = (inner * 3).sum() + inner[0:4].sum() + inner[2:6].sum() * 2 + inner[[0, 0]].sum() + mg.take(inner, 5).sum()
    expected = np.array([3 + 1 + 2, 3 + 1, 3 + 3, 3 + 3, 3 + 2, 3 + 2 + 1.0])
    np.testing.assert_array_equal(mg.grad(y, x)[0].numpy(), np.repeat(expected[:, None], 2, axis=1))


def test_rows_added_twice_in_a_large_embedding() -> None:
    generator = np.random.default_rng(0)
    rows = generator.integers(-50, 50, (7, 40))
    weight = mg.tensor(np.zeros((50, 3)), requires_grad=True)
    weights = generator.normal(size=(7, 40, 3))
    expected = np.zeros((50, 3))
    np.add.at(expected, rows, weights)
    for y in (mg.take(weight, mg.tensor(rows)), weight[mg.tensor(rows)]):
        np.testing.assert_allclose(mg.grad(y, weight, weights)[0].numpy(), expected, atol=1e-12)


def test_two_lookups_of_one_weight_add_up() -> None:
    weight = mg.tensor(np.zeros((3, 2)), requires_grad=True)
    y = mg.take(weight, mg.tensor([0, 1, 1])).sum() + weight[mg.tensor([1, 2])].sum() * 10 + weight[1:].sum() * 100
    np.testing.assert_array_equal(mg.grad(y, weight)[0].numpy(), [[1, 1], [112, 112], [110, 110]])


def test_one_hot_outside_the_classes_is_zero() -> None:
    hot = mg.one_hot(mg.tensor([[-1, 0], [2, 3]]), 3, dtype="float64")
    assert hot.dtype == np.float64
    np.testing.assert_array_equal(hot.numpy(), [[[0, 0, 0], [1, 0, 0]], [[0, 0, 1], [0, 0, 0]]])


def test_an_index_on_another_backend_says_what_to_move(backend: Any) -> None:
    other = "strict" if backend.name == "numpy" else "numpy"
    with pytest.raises(mg.DeviceMismatchError, match=rf"index\.to\('{backend.name}'\), or x\.to\('{other}'\)"):
        mg.ones(3)[mg.arange(2).to(other)]


@pytest.mark.parametrize("index", [(slice(None), (0, 0)), ((0, 0, 1),), ((0, 0), (1, 1)), (range(2), [1, 1])])
def test_sequences_in_an_index_name_elements_as_often_as_they_say(index: Any) -> None:
    x = mg.tensor(np.arange(6.0).reshape(2, 3), requires_grad=True, dtype="float64")
    y = x[index]
    np.testing.assert_array_equal(y.numpy(), x.numpy()[index])
    y.sum().backward()
    expected = np.zeros((2, 3))
    np.add.at(expected, index, 1.0)
    np.testing.assert_array_equal(x.grad.numpy(), expected)


def test_an_index_array_may_be_reused_before_backward() -> None:
    x = mg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    index = mg.get_backend().asarray(np.array([0, 1]))
    y = x[index].sum()
    index[:] = 2
    y.backward()
    np.testing.assert_array_equal(x.grad.numpy(), [1, 1, 0])
