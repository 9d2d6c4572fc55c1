"""Operations of one's own, by `mg.primitive` and `mg.defvjp`, as a third party writes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gradcheck import check_gradients

import minigrad as mg


@mg.primitive
def swish(xp: Any, x: Any, /, beta: float = 1.0) -> Any:
    """x * sigmoid(beta x)."""
    return x / (1 + xp.exp(-beta * x))


def _swish_slope(g: Any, y: Any, x: Any, beta: float) -> Any:
    s = mg.sigmoid(x * beta)
    return g * (s + beta * y * (1 - s))


mg.defvjp(swish, _swish_slope)


@mg.primitive
def scaled_sum(xp: Any, *xs: Any, scale: float) -> Any:
    """scale * (1 xs[0] + 2 xs[1] + ...)."""
    return scale * sum(x * (index + 1) for index, x in enumerate(xs))


mg.defvjp(scaled_sum, each=lambda index, g, xs_shape, scale: g * ((index + 1) * scale))


@mg.primitive
def select(xp: Any, mask: Any, x: Any, /) -> Any:
    return xp.where(mask, x, 0.0)


mg.defvjp(select, None, lambda g, mask: select(mask, g))


def leaf(*shape: int) -> mg.Tensor:
    return mg.tensor(np.random.default_rng(5).normal(size=shape), requires_grad=True)


def test_both_orders_of_a_strangers_gradient() -> None:
    check_gradients(swish, leaf(3, 2))
    check_gradients(lambda x: swish(x, beta=0.5), leaf(3))
    check_gradients(lambda x: swish(x, 0.5), leaf())
    check_gradients(lambda a, b, c: scaled_sum(a, b, a * c, scale=2.0), leaf(2, 3), leaf(3), leaf(1))
    mask = mg.tensor([True, False, True])
    check_gradients(lambda x: select(mask, x * x), leaf(2, 3))


def test_it_is_an_operation_like_any_other() -> None:
    x = leaf(2)
    with mg.Tape() as tape:
        swish(x, beta=2.0)
    (node,) = tape.nodes
    assert (node.op, node.attrs) == ("swish", {"beta": 2.0})
    assert swish.__doc__ == "x * sigmoid(beta x)."
    bare = swish(x.data)
    assert not isinstance(bare, mg.Tensor)
    np.testing.assert_allclose(mg.Tensor(bare).numpy(), swish(x).numpy())


def test_attributes_given_as_numpy_scalars_do_not_widen() -> None:
    x = mg.tensor([1.0, -1.0], requires_grad=True)
    inner = x * 1.0
    y = swish(inner, beta=np.float64(0.5))
    assert y.dtype == np.float32
    assert mg.grad(y.sum(), inner)[0].dtype == np.float32


def test_errors_name_it() -> None:
    with pytest.raises(ValueError, match=r"select: .*mask of shape \(2,\), bool, x of shape \(3,\), float64"):
        select(mg.tensor([True, False]), leaf(3))
    with pytest.raises(TypeError, match=r"swish\(\) takes x, beta; got 3 arguments"):
        swish(leaf(1), 1.0, 2.0)
    with pytest.raises(TypeError, match=r"swish\(\) takes the keywords \['beta'\].*got \['gamma'\]"):
        swish(leaf(1), gamma=2.0)
    with pytest.raises(TypeError, match=r"scaled_sum\(\) takes the keywords \['scale'\], of which \['scale'\]"):
        scaled_sum(leaf(1))
    with pytest.raises(TypeError, match=r"swish\(\) got 'beta' twice"):
        swish(leaf(1), 1.0, beta=2.0)


def test_without_rules_no_gradient_flows() -> None:
    @mg.primitive
    def double(xp: Any, x: Any, /) -> Any:
        return 2 * x

    assert not double(leaf(2)).requires_grad


def product() -> Any:
    @mg.primitive
    def product(xp: Any, a: Any, b: Any, /, power: int = 1) -> Any:
        return (a * b) ** power

    return product


@pytest.mark.host_only("nothing is computed")
@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ((lambda g, a, b, power: g * b,), r"product has the inputs \['a', 'b'\], but 1 rules"),
        ((lambda g, b, power: g * b, lambda g, a, power: g * a), "rules of product must all keep the same"),
        ((lambda g, c, power: g, None), r"names 'c'; it may name y and \['a', 'b'\], with _shape or _dtype"),
        ((lambda g, c_shape, power: g, None), "names 'c_shape'"),
        ((lambda g, a, b: g, None), r"a rule of product lacks the attributes \['power'\]"),
        ((None, None), "product needs at least one rule"),
    ],
)
def test_bad_rules_are_refused_when_they_are_given(rules: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        mg.defvjp(product(), *rules)


@pytest.mark.host_only("nothing is computed")
@pytest.mark.parametrize("each", [lambda i, g, xs, scale: g, lambda i, g, xs_dtype, scale: g])
def test_an_operation_of_any_number_of_inputs_keeps_their_shapes_alone(each: Any) -> None:
    @mg.primitive
    def total(xp: Any, *xs: Any, scale: float) -> Any:
        return scale * sum(xs)

    with pytest.raises(TypeError, match=r"it may name y and xs_shape"):
        mg.defvjp(total, each=each)


@pytest.mark.host_only("nothing is computed")
def test_defvjp_of_what_is_no_primitive() -> None:
    with pytest.raises(TypeError, match=r"defvjp takes what mg\.primitive returned, not"):
        mg.defvjp(lambda x: x, lambda g: g)


def test_a_rule_of_a_wrong_shape_is_told_in_the_walk() -> None:
    wrong = product()
    mg.defvjp(wrong, lambda g, a, b, power: g[0], lambda g, a, b, power: g)
    with pytest.raises(ValueError, match=r"gave shape \(3,\) for an input of shape \(2, 3\)"):
        wrong(leaf(2, 3), 1.0).sum().backward()


def test_attributes_may_be_positional_and_rules_may_leave_inputs_out() -> None:
    cube = product()
    mg.defvjp(cube, lambda g, a, b, power: g * power * b * (a * b) ** (power - 1), None)
    x = mg.tensor([2.0], requires_grad=True)
    y = mg.tensor([3.0], requires_grad=True)
    gx, gy = mg.grad(cube(x, y, 2), [x, y])
    assert gx.item() == 2 * 3 * 6
    assert gy.item() == 0


def test_a_forward_without_a_slash_is_told() -> None:
    with pytest.raises(TypeError, match=r"names its inputs before a /.*this is cube\(xp.*x"):

        @mg.primitive
        def cube(xp: Any, x: Any) -> Any:
            return x * x * x


def test_a_forward_that_returns_no_array_is_told() -> None:
    @mg.primitive
    def pair(xp: Any, x: Any, /) -> Any:
        return x, x

    with pytest.raises(TypeError, match=r"the forward of pair must return an array; it returned \("):
        pair(mg.ones(2))


def test_a_forward_that_fails_says_so_in_its_own_words() -> None:
    @mg.primitive
    def halve(xp: Any, x: Any, /) -> Any:
        x = x.copy()
        x *= 0.5
        return x

    with pytest.raises(TypeError, match=r"^halve: .*with x of shape \(2,\), int64\)"):
        halve(mg.tensor([1, 2]))
