"""Every operation against NumPy and against central differences, by the table in ops_table.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gradcheck import check_gradients
from ops_table import ROWS, Row

import minigrad as mg
import minigrad.ops

DIFFERENTIABLE = [row for row in ROWS if row.gradient]
ELEMENTWISE = [row for row in ROWS if row.elementwise]
BINARY = [row for row in ELEMENTWISE if len(row.inputs) == 2]
BROADCASTS: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((2, 1, 3), (4, 1)),
    ((), (2, 3)),
    ((2, 3), ()),
    ((1,), (3,)),
    ((1, 1), (1,)),
    ((0, 3), (1, 3)),
    ((3, 1), (1, 0)),
]


def tensors(arrays: list[Any], gradient: bool = True) -> list[mg.Tensor]:
    return [mg.tensor(a, requires_grad=gradient and a.dtype.kind == "f") for a in arrays]


def assert_close(found: Any, expected: Any) -> None:
    expected = np.asarray(expected)
    assert found.shape == expected.shape
    narrow = "float32" in (str(found.dtype), str(expected.dtype))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5 if narrow else 1e-12, atol=1e-6 if narrow else 1e-13)


@pytest.mark.host_only("reads names")
def test_every_public_operation_has_a_row() -> None:
    assert set(minigrad.ops.__all__) == {row.name for row in ROWS}
    assert set(minigrad.ops.__all__) <= set(mg.__all__)
    assert len({str(row) for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_values_are_numpys_and_inputs_are_left_alone(row: Row, backend: Any) -> None:
    arrays = row.arrays()
    inputs = tensors(arrays, row.gradient)
    output = row.call(*inputs)
    assert_close(output, row.oracle(*arrays))
    assert output.backend is backend
    assert isinstance(output.data, backend.xp.ndarray)
    if row.gradient:
        output.backward(np.ones(output.shape))
    for before, after in zip(row.arrays(), inputs, strict=True):
        np.testing.assert_array_equal(after.numpy(), before)


@pytest.mark.parametrize("row", DIFFERENTIABLE, ids=str)
def test_gradients(row: Row) -> None:
    check_gradients(row.call, *tensors(row.arrays()))


@pytest.mark.parametrize("row", [row for row in ROWS if not row.gradient], ids=str)
def test_no_gradient_flows_where_there_is_none(row: Row) -> None:
    output = row.call(*tensors(row.arrays()))
    assert not output.requires_grad
    assert output.node is None


ON_TENSORS_ALONE = {"normal", "uniform", "tensordot", "getitem-repeated", "getitem-ellipsis", "getitem-mask"}


@pytest.mark.parametrize("row", [row for row in ROWS if not ON_TENSORS_ALONE & {row.name, str(row)}], ids=str)
def test_on_bare_arrays(row: Row, backend: Any) -> None:
    arrays = row.arrays()
    output = row.call(*(backend.asarray(a) for a in arrays))
    assert not isinstance(output, mg.Tensor)
    assert_close(mg.Tensor(output), row.oracle(*arrays))


@pytest.mark.parametrize("row", [row for row in ROWS if row.inputs], ids=str)
def test_strided_inputs(row: Row, backend: Any) -> None:
    arrays = row.arrays()
    wide = [backend.asarray(np.repeat(a.T, 2, axis=0) if a.ndim else a) for a in arrays]
    views = [mg.Tensor(w[::2].T if w.shape else w, a.dtype.kind == "f") for w, a in zip(wide, arrays, strict=True)]
    assert all(v.ndim < 2 or v.size < 2 or not v.data.flags.c_contiguous or 1 in v.shape for v in views)
    output = row.call(*views)
    assert_close(output, row.oracle(*arrays))
    if row.gradient:
        plain = tensors(arrays)
        cotangent = np.random.default_rng(1).uniform(0.5, 1.5, (*output.shape, 2))[..., 0]
        output.backward(backend.asarray(cotangent))
        row.call(*plain).backward(cotangent)
        for x, view in zip(plain, views, strict=True):
            if x.requires_grad:
                assert_close(view.grad, x.grad.numpy())  # type: ignore[union-attr]  # backward has set it


@pytest.mark.parametrize("row", [row for row in DIFFERENTIABLE if row.name != "astype"], ids=str)
def test_float32_stays_float32_both_ways(row: Row) -> None:
    inputs = tensors(row.arrays("float32"))
    inner = [
        x * 1.0 if x.requires_grad else x for x in inputs
    ]  # cotangents of results are not cast, those of leaves are
    output = row.call(*inner)
    assert output.dtype == np.float32
    wanted = [x for x in inner if x.requires_grad]
    for gradient in mg.grad(output, wanted, np.ones(output.shape), create_graph=True):
        assert gradient.dtype == np.float32
    for gradient in mg.grad(output, wanted, np.ones(output.shape)):
        assert gradient.dtype == np.float32


@pytest.mark.parametrize("row", [row for row in BINARY if row.gradient], ids=str)
@pytest.mark.parametrize("constant", [2, 0.5, True, np.float64(0.5), np.float32(2), np.full(4, 0.5)], ids=repr)
def test_constants_take_the_dtype_of_tensors(row: Row, constant: Any, backend: Any) -> None:
    (x, _) = row.arrays("float32")
    for order in (1, -1):
        inner = mg.tensor(np.abs(x), requires_grad=True) * 1.0
        other = backend.asarray(constant) if np.ndim(constant) else constant
        output = row.call(*(inner, other)[::order])
        assert output.dtype == np.float32
        assert_close(output, row.oracle(*((np.abs(x), np.asarray(constant, "float32"))[::order])))
        (gradient,) = mg.grad(output.sum(), inner)
        assert gradient.dtype == np.float32


@pytest.mark.parametrize("row", [row for row in BINARY if row.gradient], ids=str)
@pytest.mark.parametrize("shapes", BROADCASTS, ids=str)
def test_broadcasting(row: Row, shapes: Any) -> None:
    arrays = row.arrays_of(*shapes)
    assert_close(row.call(*tensors(arrays)), row.oracle(*arrays))
    check_gradients(row.call, *tensors(arrays), order=1)


@pytest.mark.parametrize("row", ELEMENTWISE, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (1, 1)], ids=str)
def test_elementwise_on_0d_and_empty(row: Row, shape: tuple[int, ...], backend: Any) -> None:
    arrays = row.arrays_of(*[shape] * len(row.inputs))
    inputs = tensors(arrays, row.gradient)
    output = row.call(*inputs)
    assert_close(output, row.oracle(*arrays))
    assert isinstance(output.data, backend.xp.ndarray)
    if row.gradient:
        check_gradients(row.call, *inputs)
        output.backward(np.ones(shape))
        assert all(isinstance(x.grad.data, backend.xp.ndarray) for x in inputs if x.requires_grad)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["sum", "mean", "max", "min", "logsumexp", "var"])
def test_reductions_of_0d(name: str) -> None:
    x = mg.tensor(0.7, requires_grad=True, dtype="float64")
    for axis in (None, ()):
        check_gradients(lambda x, axis=axis: getattr(mg, name)(x, axis) * x, x)


@pytest.mark.parametrize("axis", [None, 0, 1, (0, 1), -1])
def test_reductions_of_empty(axis: Any) -> None:
    host = np.zeros((0, 3))
    x = mg.tensor(host, requires_grad=True)
    assert_close(mg.sum(x, axis), host.sum(axis))
    mean = mg.mean(x, axis)
    assert mean.shape == host.sum(axis).shape
    assert np.isnan(mean.numpy()).all()
    for output in (mg.sum(x, axis), mean):
        assert mg.grad(output.sum(), x)[0].shape == (0, 3)
    if axis in (1, -1):
        assert mg.max(x, axis).shape == mg.logsumexp(x, axis).shape == (0,)
        assert mg.softmax(x, axis).shape == (0, 3)
    else:
        with pytest.raises(ValueError, match=r"max: .*shape \(0, 3\), float64"):
            mg.max(x, axis)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: x + mg.ones(4), r"add: .*x1 of shape \(2, 3\), float32, x2 of shape \(4,\), float32"),
        (lambda x: x @ x, r"matmul: .*x1 of shape \(2, 3\)"),
        (lambda x: mg.linear(x, mg.ones((4, 2))), r"linear: .*weight of shape \(4, 2\)"),
        (lambda x: x.reshape(4, 2), r"reshape: .*x of shape \(2, 3\)"),
        (lambda x: x.sum(axis=2), r"sum: .*x of shape \(2, 3\)"),
        (lambda x: x[2], r"getitem: .*x of shape \(2, 3\)"),
        (lambda x: mg.concat([x, mg.ones((3, 2))]), r"concat: .*xs\[1\] of shape \(3, 2\)"),
        (lambda x: mg.stack([x, x[0]]), r"stack: .*xs\[1\] of shape \(3,\)"),
        (lambda x: mg.squeeze(x, 0), r"squeeze: .*x of shape \(2, 3\)"),
        (lambda x: mg.pad(x, [(1, 1)]), r"pad: pad_width names 1 axes; the tensor has 2"),
        (lambda x: mg.split(x, 2, axis=1), r"split: cannot cut axis 1 of size 3 into 2 equal parts"),
        (lambda x: mg.split(x, 2, axis=2), r"split: axis 2 is out of range for shape \(2, 3\)"),
        (lambda x: mg.tensordot(x, x, 3), r"tensordot: axes .* out of range for shapes \(2, 3\)"),
        (lambda x: mg.tensordot(x, x, 1), r"tensordot: axes \[1\] of \(2, 3\) and \[0\]"),
        (lambda x: mg.take_along_axis(x, mg.arange(2), axis=0), r"take_along_axis: .*shape \(2,\)"),
        (lambda x: mg.dropout(x, 1.5), r"dropout_mask: p is a probability"),
        (lambda x: mg.concat([]), "at least one"),
        (lambda x: mg.stack([]), "at least one"),
        (lambda x: mg.tanh(x, x), r"tanh\(\) takes x; got 2 arguments"),
        (lambda x: mg.sum(x, axes=1), r"sum\(\) takes the keywords"),
        (lambda x: mg.tanh([1.0]), r"tanh takes tensors, arrays and numbers, not list"),
    ],
)
def test_errors_name_the_operation_and_the_shapes(call: Any, words: str) -> None:
    with pytest.raises((ValueError, TypeError, IndexError), match=words):
        call(mg.ones((2, 3), requires_grad=True))
