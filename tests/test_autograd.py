"""The backward walk: what it computes, what it frees, what it refuses, and what it leaves alone."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from gradcheck import check_gradients

import minigrad as mg

LONG = 100_000


def leaf(*values: float) -> mg.Tensor:
    return mg.tensor(np.array(values), requires_grad=True)


def values(tensor: Any) -> list[float]:
    return tensor.numpy().tolist()


@contextmanager
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


# --- what it computes


def test_backward_adds_to_grad() -> None:
    x = leaf(1.0, 2.0)
    (x * x).sum().backward()
    assert values(x.grad) == [2.0, 4.0]
    (x * 3).sum().backward()
    assert values(x.grad) == [5.0, 7.0]


def test_grad_touches_no_grad_attribute() -> None:
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    gx, gy = mg.grad((x * y).sum(), [x, y])
    assert (values(gx), values(gy)) == ([3.0, 4.0], [1.0, 2.0])
    assert x.grad is None
    assert y.grad is None
    assert not gx.requires_grad


def test_a_tensor_used_many_times() -> None:
    x = leaf(2.0)
    y = x
    for _ in range(5):
        y = y * x + x
    # y = x^6 + x^5 + ... + x
    assert values(mg.grad(y, x)[0]) == [sum(n * 2.0 ** (n - 1) for n in range(1, 7))]
    check_gradients(lambda x: x * x * mg.tanh(x) / (x + 1) + x @ x, leaf(0.5, 0.7))


def test_an_unused_input_gets_zeros() -> None:
    x, y = leaf(1.0), leaf(2.0, 3.0)
    gx, gy = mg.grad(x * 2, [x, y])
    assert values(gx) == [2.0]
    assert values(gy) == [0.0, 0.0]
    assert gy.backend is y.backend


def test_with_respect_to_a_result() -> None:
    x = leaf(1.0, 2.0)
    h = x * 3
    y = (h * h).sum()
    gh, gx = mg.grad(y, [h, x], retain_graph=True)
    assert values(gh) == [6.0, 12.0]
    assert values(gx) == [18.0, 36.0]
    assert values(mg.grad(y, y)[0]) == 1.0


def test_the_output_itself_is_a_leaf() -> None:
    x = leaf(5.0)
    x.backward()
    assert values(x.grad) == [1.0]
    assert values(mg.grad(x, x, [2.0])[0]) == [2.0]


def test_create_graph_gives_derivatives_of_any_order() -> None:
    x = leaf(2.0)
    y = x**4
    found = []
    for _ in range(5):
        (y,) = mg.grad(y, x, create_graph=True)
        found.append(y.item())
    assert found == [32.0, 48.0, 48.0, 24.0, 0.0]


def test_backward_with_create_graph_leaves_differentiable_gradients() -> None:
    x = leaf(3.0)
    (x**3).backward(create_graph=True)
    assert x.grad is not None
    assert values(mg.grad(x.grad, x)[0]) == [18.0]


def test_a_gradient_penalty() -> None:
    def penalty(x: Any, w: Any) -> Any:
        slope = mg.grad(mg.tanh(x @ w).sum(), x, create_graph=True)[0] if x.requires_grad else None
        assert slope is not None
        return (slope * slope).sum()

    x, w = (mg.tensor(np.random.default_rng(s).normal(size=(2, 2)), requires_grad=True) for s in (1, 2))
    check_gradients(penalty, x, w, order=1)


def test_cotangents_of_any_shape() -> None:
    x = leaf(1.0, 2.0)
    (x * x).backward([10.0, 100.0])
    assert values(x.grad) == [20.0, 400.0]
    with pytest.raises(RuntimeError, match=r"shape \(2,\) needs the gradient"):
        (x * x).backward()
    with pytest.raises(ValueError, match=r"grad has shape \(3,\); it must have the output's, \(2,\)"):
        (x * x).backward([1.0, 1.0, 1.0])


@pytest.mark.parametrize("dtype", ["float64", "int64"])
def test_a_cotangent_takes_the_outputs_dtype(dtype: str) -> None:
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    inner = x * 1.0
    (slope,) = mg.grad(inner * 3.0, inner, mg.tensor([1, 2], dtype=dtype))
    assert slope.dtype == np.float32
    assert values(slope) == [3.0, 6.0]


def test_a_bare_array_as_cotangent(backend: Any) -> None:
    x = leaf(1.0, 2.0)
    assert values(mg.grad(x * 2, x, backend.asarray([1.0, 3.0]))[0]) == [2.0, 6.0]


def test_what_needs_no_gradient_is_refused() -> None:
    constant = mg.ones(2)
    with pytest.raises(RuntimeError, match="needs no gradient"):
        constant.sum().backward()
    with pytest.raises(ValueError, match=r"inputs\[1\] needs no gradient"):
        mg.grad(leaf(1.0) * 2, [leaf(1.0), constant])


# --- memory


def test_gradients_share_no_memory() -> None:
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    cotangent = mg.tensor([1.0, 1.0], dtype="float64")
    (x + y).backward(cotangent)
    x.grad.data[...] = 99.0  # type: ignore[union-attr]  # backward has set it
    assert values(y.grad) == [1.0, 1.0]
    assert values(cotangent) == [1.0, 1.0]


def test_cotangents_are_never_changed() -> None:
    x = leaf(1.0, 2.0, 3.0)
    cotangent = mg.tensor([1.0, 2.0, 3.0], dtype="float64")
    y = x * 1.0
    out = y + y[[0, 1, 2]] + y + y[0:3] + y  # every way in which a walk adds up cotangents
    (slope,) = mg.grad(out, x, cotangent, retain_graph=True)
    assert values(slope) == [5.0, 10.0, 15.0]
    assert values(cotangent) == [1.0, 2.0, 3.0]
    out.backward(cotangent)
    out2 = x + x
    out2.backward(cotangent)
    assert values(cotangent) == [1.0, 2.0, 3.0]
    assert values(x.grad) == [7.0, 14.0, 21.0]


def test_a_long_chain_backward_and_away() -> None:
    x = leaf(1.0)
    y = x
    for _ in range(LONG):
        y = y + x
    y.backward()
    assert values(x.grad) == [LONG + 1.0]
    node = weakref.ref(y.node)  # type: ignore[arg-type]  # a result has one
    with no_collector():
        del y
        assert node() is None


def test_a_long_chain_dropped_without_backward() -> None:
    x = leaf(1.0)
    y = first = x * 2
    for _ in range(LONG):
        y = mg.tanh(y)
    node = weakref.ref(first.node)  # type: ignore[arg-type]  # a result has one
    with no_collector():
        del y, first
        assert node() is None


def test_an_unused_graph_is_freed_without_the_collector() -> None:
    x = leaf(1.0, 2.0)
    with no_collector():
        h = x * 2
        y = mg.tanh(h).sum()
        watched = [weakref.ref(h.node), weakref.ref(y.node), weakref.ref(h)]  # type: ignore[arg-type]
        del h, y
        assert [reference() for reference in watched] == [None, None, None]
    assert x.grad is None


def test_backward_frees_what_nodes_have_saved() -> None:
    x = leaf(1.0, 2.0)
    h = mg.exp(x)
    y = (h * h).sum()
    assert y.node is not None
    nodes = [h.node, y.node, y.node.inputs[0]]
    assert all(node.saved is not None for node in nodes)  # type: ignore[union-attr]
    y.backward(retain_graph=True)
    assert all(node.saved is not None for node in nodes)  # type: ignore[union-attr]
    y.backward()
    assert all(node.saved is None for node in nodes)  # type: ignore[union-attr]


def test_a_comparison_keeps_no_graph_alive() -> None:
    x = leaf(1.0, -2.0)
    h = x * 2
    node = weakref.ref(h.node)  # type: ignore[arg-type]  # a result has one
    mask = h > 0
    with no_collector():
        del h
        assert node() is None
    assert values(mask) == [True, False]


# --- freed graphs and stale parameters


def test_a_freed_graph_is_refused_by_name() -> None:
    x = leaf(1.0)
    h = mg.tanh(x)
    (h * 2).backward()
    with pytest.raises(mg.FreedGraphError, match="tanh: an earlier backward has freed"):
        (h * 3).backward()
    y = x * x
    y.backward(retain_graph=True)
    y.backward()
    with pytest.raises(mg.FreedGraphError, match="multiply"):
        y.backward()


def test_a_walk_that_ends_at_a_result_neither_needs_nor_frees_what_is_behind() -> None:
    x = leaf(3.0)
    h = x * x
    (g,) = mg.grad(h * 2, h)
    h.backward(g)  # what truncated backpropagation does piece by piece
    assert values(x.grad) == [12.0]
    assert values(mg.grad(h * 5, h)[0]) == [5.0]


def test_an_updated_parameter_is_refused_by_name() -> None:
    w = mg.Parameter([2.0])
    w.name = "cell.weight"
    x = leaf(3.0)
    y = x * w
    w.data = w.data - 1.0
    with pytest.raises(mg.StaleParameterError, match=r"cell\.weight has been updated since multiply"):
        y.backward()
    assert w.grad is None
    assert x.grad is None
    (x * w).backward()
    assert values(w.grad) == [3.0]
    assert values(x.grad) == [1.0]


def test_an_update_does_not_matter_where_no_value_is_kept() -> None:
    w = mg.Parameter([2.0])
    y = mg.tanh(w) + w
    w.data = w.data - 1.0
    y.backward()
    assert values(w.grad) == pytest.approx([2 - np.tanh(2.0) ** 2])


VIEWS: dict[str, Any] = {
    "T": lambda w: w.T,
    "mT": lambda w: w.mT,
    "reshape": lambda w: w.reshape(2, 2),
    "getitem": lambda w: w[::-1],
    "flip": lambda w: mg.flip(w, 0),
    "squeeze": lambda w: mg.squeeze(mg.expand_dims(w, 0), 0),
    "broadcast_to": lambda w: mg.broadcast_to(w, (2, 2)),
    "split": lambda w: mg.split(w.T, 1)[0].T,
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("of", ["all", "x"])
def test_an_update_in_place_is_noticed_through_views(view: str, of: str) -> None:
    w = mg.Parameter([[1.0, 2.0], [3.0, 4.0]])
    x = mg.tensor([[1.0, 1.0]], requires_grad=True)
    y = (x @ VIEWS[view](w)).sum()
    w.data -= 1.0
    with pytest.raises(mg.StaleParameterError, match="parameter has been updated since matmul"):
        y.backward() if of == "all" else mg.grad(y, x)
    assert w.grad is None


def test_a_view_that_nothing_keeps_may_be_updated() -> None:
    w = mg.Parameter([[1.0, 2.0], [3.0, 4.0]])
    y = (w.T + 1.0).sum()
    w.data -= 1.0
    y.backward()
    assert values(w.grad) == [[1.0, 1.0], [1.0, 1.0]]


def test_a_failed_backward_leaves_every_grad_as_it_was() -> None:
    x, w = leaf(1.0), mg.Parameter([2.0])
    x.grad = before = mg.tensor([7.0])
    y = (x * w) * w  # the walk reaches w, then x * w
    h = y * x
    w.data = w.data * 1.0
    with pytest.raises(mg.StaleParameterError):
        h.backward()
    assert x.grad is before
    assert values(before) == [7.0]
    assert w.grad is None


# --- pruning


@pytest.fixture
def counting() -> Iterator[tuple[Any, list[str]]]:
    """A product whose rules note that they ran."""
    ran: list[str] = []

    @mg.primitive
    def product(xp: Any, a: Any, b: Any, /) -> Any:
        return a * b

    def left(g: Any, a: Any, b: Any) -> Any:
        ran.append("left")
        return g * b

    def right(g: Any, a: Any, b: Any) -> Any:
        ran.append("right")
        return g * a

    mg.defvjp(product, left, right)
    return product, ran


def test_only_what_leads_to_the_inputs_is_computed(counting: Any) -> None:
    product, ran = counting
    x, y, z = leaf(2.0), leaf(3.0), leaf(5.0)
    h = product(x, y)
    out = product(h, z)
    assert values(mg.grad(out, z, retain_graph=True)[0]) == [6.0]
    assert ran == ["right"]
    ran.clear()
    assert values(mg.grad(out, y, retain_graph=True)[0]) == [10.0]
    assert ran == ["left", "right"]
    ran.clear()
    assert values(mg.grad(out, h, retain_graph=True)[0]) == [5.0]
    assert ran == ["left"]


def test_rules_of_constants_do_not_run(counting: Any) -> None:
    product, ran = counting
    x = leaf(2.0)
    product(x, 3.0).backward()
    product(mg.tensor([3.0]), x).backward()
    assert ran == ["left", "right"]
    assert values(x.grad) == [6.0]


def test_each_node_is_visited_once(counting: Any) -> None:
    product, ran = counting
    y = leaf(1.0)
    for _ in range(20):  # 2 ** 20 paths
        y = product(y, 1.0) + y
    y.backward()
    assert len(ran) == 20
