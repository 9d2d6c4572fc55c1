"""Attention: against its definition, its gradients against differences, masks, and as a part of a cell."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cells_zoo import Substituted
from gradcheck import check_gradients

import minigrad as mg
from minigrad.attention import AdditiveAttention, Attention, DotAttention
from minigrad.losses import time_mask

S, B, Q, K, V, A = 5, 3, 4, 3, 2, 6


class Bilinear(Attention):
    """The "general" score of Luong et al., as a user would write it."""

    def __init__(self) -> None:
        self.weight = mg.Parameter(mg.normal(shape=(K, Q)))

    def score(self, query: mg.Tensor, keys: mg.Tensor) -> mg.Tensor:
        return mg.squeeze(keys @ mg.expand_dims(query @ self.weight.T, -1), -1)


def score_one(attention: Any, query: Any, key: Any) -> float:
    """The score of one query against one key, by the book."""
    if isinstance(attention, DotAttention):
        scale = len(query) ** -0.5 if attention.scale is None else attention.scale
        return float(query @ key * scale)
    if isinstance(attention, Bilinear):
        return float(key @ attention.weight.numpy() @ query)
    w, u, v = (getattr(attention, f"weight_{name}").numpy() for name in ("query", "key", "score"))
    return float(v @ np.tanh(w @ query + u @ key))


def by_the_book(attention: Any, query: Any, keys: Any, values: Any, lengths: Any) -> tuple[Any, Any]:
    """Context and weights, one sequence and one step at a time."""
    weights, context = np.zeros(keys.shape[:2]), np.zeros((len(query), values.shape[-1]))
    for b, length in enumerate(lengths):
        scores = [score_one(attention, query[b], keys[s, b]) for s in range(length)]
        total = sum(np.exp(score) for score in scores)
        for s, score in enumerate(scores):
            weights[s, b] = np.exp(score) / total
            context[b] += weights[s, b] * values[s, b]
    return context, weights


ATTENTIONS = {
    "scaled dot": (lambda: DotAttention(), K),
    "dot": (lambda: DotAttention(scale=1.0), K),
    "half": (lambda: DotAttention(scale=0.5), K),
    "additive": (lambda: AdditiveAttention(Q, K, A), Q),
    "bilinear": (Bilinear, Q),
}


@pytest.fixture(params=ATTENTIONS)
def case(request: pytest.FixtureRequest) -> tuple[Any, mg.Tensor, mg.Tensor, mg.Tensor]:
    """An attention and random query, keys and values in float64."""
    mg.set_default_dtype("float64")
    make, query_size = ATTENTIONS[request.param]
    query, keys, values = (mg.normal(shape=shape) for shape in ((B, query_size), (S, B, K), (S, B, V)))
    return make(), *(mg.tensor(x, requires_grad=True) for x in (query, keys, values))


@pytest.mark.parametrize("lengths", [None, [5, 5, 5], [5, 3, 1], [2, 0, 4], [0, 0, 0]])
def test_attention_is_what_its_definition_says(case: Any, lengths: Any) -> None:
    attention, query, keys, values = case
    context, weights = attention(query, keys, values, lengths=lengths)
    expected = by_the_book(attention, query.numpy(), keys.numpy(), values.numpy(), lengths or [S] * B)
    np.testing.assert_allclose(context.numpy(), expected[0], atol=1e-14)
    np.testing.assert_allclose(weights.numpy(), expected[1], atol=1e-14)
    for b, length in enumerate(lengths or []):
        np.testing.assert_array_equal(weights.numpy()[length:, b], 0)
        if not length:
            np.testing.assert_array_equal(context.numpy()[b], 0)


@pytest.mark.parametrize("lengths", [None, [5, 3, 0]])
def test_gradients(case: Any, lengths: Any) -> None:
    attention, query, keys, values = case
    substituted = Substituted(attention)

    def both(query: Any, keys: Any, values: Any, *weights: Any) -> mg.Tensor:
        context, shares = substituted(weights, query, keys, values, lengths=lengths)
        return mg.concat([mg.sin(context).reshape(-1), mg.sin(3 * shares).reshape(-1)])

    check_gradients(both, query, keys, values, *substituted.parameters())


def test_padding_reaches_neither_values_nor_gradients(case: Any) -> None:
    attention, query, keys, values = case
    lengths = [4, 0, 1]
    past = ~(np.arange(S)[:, None] < np.array(lengths)[None, :])
    results = []
    for filling in (0.0, float("nan"), float("inf")):
        k, v = keys.numpy().copy(), values.numpy().copy()
        k[past], v[past] = filling, -filling
        k, v = mg.tensor(k, True), mg.tensor(v, True)
        context, weights = attention(query, k, v, lengths=lengths)
        total = (context * context).sum() + (weights * weights).sum()
        found = mg.grad(total, [query, k, v, *attention.parameters()])
        results.append([x.numpy() for x in (context, weights, *found)])
        for gradient in (found[1], found[2]):
            np.testing.assert_array_equal(gradient.numpy()[past], 0)
            assert np.abs(gradient.numpy()[~past]).sum() > 0.1
    for other in results[1:]:
        for first, second in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(first, second)


def test_a_mask_can_have_holes_and_that_of_lengths_is_the_same(case: Any) -> None:
    attention, query, keys, values = case
    lengths = [5, 2, 0]
    with_lengths = attention(query, keys, values, lengths=mg.tensor(lengths))
    mask = time_mask(lengths, (S, B), keys)
    for given in (mask, mask.numpy(), mask.numpy().tolist()):
        for x, y in zip(with_lengths, attention(query, keys, values, mask=given), strict=True):
            np.testing.assert_array_equal(x.numpy(), y.numpy())
    holes = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 0], [1, 1, 0]], dtype=bool)
    context, weights = attention(query, keys, values, mask=mg.tensor(holes))
    for b in range(B):
        at = np.flatnonzero(holes[:, b]).tolist()
        alone = attention(query[b : b + 1], keys.detach()[at, b : b + 1], values.detach()[at, b : b + 1])
        np.testing.assert_allclose(weights.numpy()[at, b], alone[1].numpy()[:, 0], atol=1e-14)
        np.testing.assert_allclose(context.numpy()[b], alone[0].numpy()[0], atol=1e-14)
    np.testing.assert_array_equal(weights.numpy()[~holes], 0)


def test_values_are_the_keys_by_default(case: Any) -> None:
    attention, query, keys, _ = case
    for lengths in (None, [5, 2, 0]):
        for x, y in zip(attention(query, keys, lengths=lengths), attention(query, keys, keys, lengths), strict=True):
            np.testing.assert_array_equal(x.numpy(), y.numpy())


def test_no_steps_and_no_sequences(case: Any) -> None:
    attention, query, keys, values = case
    context, weights = attention(query, keys[:0], values[:0])
    np.testing.assert_array_equal(context.numpy(), np.zeros((B, V)))
    assert weights.shape == (0, B)
    context, weights = attention(query, keys[:0], values[:0], lengths=[0, 0, 0])
    np.testing.assert_array_equal(context.numpy(), np.zeros((B, V)))
    context, weights = attention(query[:0], keys[:, :0], values[:, :0], lengths=[])
    assert (context.shape, weights.shape) == ((0, V), (S, 0))


def test_large_scores_do_not_overflow_and_small_ones_stay_above_the_padding() -> None:
    keys = mg.tensor([[[1e4]], [[-1e4]], [[5.0]]])
    for sign, expected in ((1.0, [1, 0, 0]), (-1.0, [0, 1, 0])):
        _, weights = DotAttention(scale=1.0)(mg.tensor([[sign * 1e4]]), keys, lengths=[2])
        np.testing.assert_array_equal(weights.numpy()[:, 0], expected)
    _, weights = DotAttention(scale=1.0)(mg.tensor([[-1e10]]), mg.full((3, 1, 1), 1e10), lengths=[2])
    np.testing.assert_array_equal(weights.numpy()[:, 0], [0.5, 0.5, 0])


def test_scaled_scores_of_random_vectors_have_variance_one() -> None:
    scores = DotAttention().score(mg.normal(shape=(2, 10_000)), mg.normal(shape=(2, 500, 10_000))).numpy()
    assert abs(scores.std() - 1) < 0.1


def test_the_dtype_is_kept_and_weights_are_drawn_as_documented() -> None:
    attention = AdditiveAttention(400, 100, 300)
    context, weights = attention(mg.ones((2, 400)), mg.ones((5, 2, 100)), lengths=[5, 2])
    assert (context.dtype, weights.dtype) == ("float32", "float32")
    for name, bound in (("query", 0.05), ("key", 0.1), ("score", 300**-0.5)):
        assert 0.9 * bound < np.abs(attention.state_dict()[f"weight_{name}"]).max() <= bound * 1.00001
    assert attention.to(dtype="float64")(mg.ones((2, 400), "float64"), mg.ones((5, 2, 100), "float64"))[0].dtype == (
        "float64"
    )


# --- in a cell


class Decoder(mg.Cell):
    """Attends to a memory (B, S, K) in its state; a second tensor of the state says which steps of it count."""

    def __init__(self, attention: Any, input_size: int, hidden_size: int, key_size: int, steps: int) -> None:
        self.attention = attention
        self.inner = mg.LSTMCell(input_size + key_size, hidden_size)
        self.key_size, self.steps = key_size, steps

    def init_state(self, batch_size: int) -> Any:
        keys = mg.zeros((batch_size, self.steps, self.key_size))
        return self.inner.init_state(batch_size), keys, mg.ones((batch_size, self.steps), dtype="bool")

    def step(self, x: mg.Tensor, state: Any) -> Any:
        inner, keys, mask = state
        context, _ = self.attention(inner[0], mg.permute_dims(keys, (1, 0, 2)), mask=mask.T)
        y, inner = self.inner.step(mg.concat([x, context], axis=-1), inner)
        return y, (inner, keys, mask)


class Attending(mg.Cell):
    """Attends to a memory (S, B, K) among its attributes, in which lengths are a list."""

    def __init__(self, keys: mg.Tensor, lengths: Any) -> None:
        self.attention, self.keys, self.lengths = AdditiveAttention(4, 4, 6), keys, lengths
        self.inner = mg.RNNCell(4, 4)

    def init_state(self, batch_size: int) -> Any:
        return self.inner.init_state(batch_size)

    def step(self, x: mg.Tensor, state: Any) -> Any:
        context, _ = self.attention(state, self.keys, lengths=self.lengths)
        return self.inner.step(x + context, state)


@pytest.mark.parametrize("lengths", [None, [4, 2, 0]])
@pytest.mark.parametrize("make", [lambda: DotAttention(), lambda: AdditiveAttention(4, 4, 6)])
def test_a_decoder_runs_by_the_plan_as_on_the_tape(make: Any, lengths: Any) -> None:
    mg.set_default_dtype("float64")
    cell = Decoder(make(), 3, 4, 4, steps=6)
    keys, x = mg.tensor(mg.normal(shape=(3, 6, 4)), True), mg.tensor(mg.normal(shape=(4, 3, 3)), True)
    mask = mg.tensor(np.arange(6)[None, :] < np.array([6, 3, 0])[:, None])
    results = []
    for engine in ("plan", "tape"):
        layer = mg.Recurrent(cell, engine=engine)
        ys, last = layer(x, (cell.inner.init_state(3), keys, mask), lengths=lengths)
        found = mg.grad(mg.sin(ys).sum() + last[0][1].sum(), [x, keys, *cell.parameters()])
        results.append([ys.numpy(), last[0][1].numpy(), *(g.numpy() for g in found)])
        assert np.abs(results[-1][3][:2]).sum() > 1e-3  # the gradient reaches the memory
    for by_plan, by_tape in zip(*results, strict=True):
        np.testing.assert_allclose(by_plan, by_tape, atol=1e-13)


def test_what_depends_on_the_memory_alone_is_computed_once() -> None:
    cell = Decoder(AdditiveAttention(4, 4, 6), 3, 4, 4, steps=6)
    layer = mg.Recurrent(cell, engine="plan")
    state = (cell.inner.init_state(2), mg.normal(shape=(2, 6, 4)), mg.ones((2, 6), dtype="bool"))
    layer(mg.ones((5, 2, 3)), state)
    layer(mg.ones((5, 2, 3)), (state[0], mg.normal(shape=(2, 6, 4)), state[2]))
    assert len(layer._plans.known) == 1  # another memory is not another plan
    once = layer.explain().split("input (")[0]
    assert "linear(" in once
    assert "attention.weight_key" in once


def test_a_memory_in_an_attribute() -> None:
    mg.set_default_dtype("float64")
    cell = Attending(mg.tensor(mg.normal(shape=(6, 2, 4)), True), [6, 3])
    x = mg.normal(shape=(5, 2, 4))
    results = []
    for engine in ("plan", "tape"):
        ys, _ = mg.Recurrent(cell, engine=engine)(x)
        results.append([ys.numpy(), *(g.numpy() for g in mg.grad(mg.sin(ys).sum(), [cell.keys, *cell.parameters()]))])
    for by_plan, by_tape in zip(*results, strict=True):
        np.testing.assert_allclose(by_plan, by_tape, atol=1e-13)
    np.testing.assert_array_equal(results[0][1][3:, 1], 0)


def test_attention_learns_to_copy() -> None:
    """A decoder that sees nothing but the memory learns to give back one of its steps, named by the input."""
    mg.seed(3)
    attention, optimizer = AdditiveAttention(4, 8, 16), None
    optimizer = mg.optimizer("adam", attention.parameters(), lr=0.03)
    places, content = mg.one_hot(mg.arange(4), 4), None
    for _ in range(150):
        content = mg.normal(shape=(4, 16, 4))
        at = mg.broadcast_to(mg.expand_dims(places, 1), (4, 16, 4))
        wanted = [0, 1, 2, 3] * 4
        context, weights = attention(places[wanted], mg.concat([at, content], axis=-1), content)
        loss = mg.loss("mse")(context, content[wanted, list(range(16))])
        attention.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.02
    assert (weights.numpy().argmax(axis=0) == wanted).all()


# --- bad input


def dot(query: Any, keys: Any, *rest: Any, **options: Any) -> Any:
    return DotAttention()(mg.ones(query), mg.ones(keys), *rest, **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dot((2,), (5, 2, 3)), r"DotAttention takes query of shape \(B, Q\); this is \(2,\)"),
        (lambda: dot((2, 3), (5, 3)), r"takes keys of shape \(S, B, K\), time first.*this is \(5, 3\)"),
        (lambda: dot((2, 3), (2, 5, 3)), r"with the B of query, 2; this is \(2, 5, 3\)"),
        (lambda: dot((2, 3), (5, 2, 3), mg.ones((5, 1, 3))), r"takes values of shape \(S, B, V\).*\(5, 1, 3\)"),
        (lambda: dot((2, 3), (5, 2, 3), mg.ones((4, 2, 3))), r"a key and a value per step; keys are \(5, 2, 3\)"),
        (lambda: dot((2, 3), (5, 2, 4)), r"query and keys of one size; they have 3 and 4.*mg\.Linear"),
        (lambda: dot((2, 3), (5, 2, 3), lengths=[6, 1]), r"lengths\[0\] is 6; it must be in 0\.\.5"),
        (lambda: dot((2, 3), (5, 2, 3), lengths=[1]), r"lengths must have 2 entries"),
        (lambda: dot((2, 3), (5, 2, 3), mask=mg.ones((2, 5), "bool")), r"mask has shape \(2, 5\).*\(S, B\).*\(5, 2\)"),
        (lambda: dot((2, 3), (5, 2, 3), mask=mg.ones((5, 2))), r"mask holds booleans.*float32: mask\.astype\('bool'\)"),
        (lambda: dot((2, 3), (5, 2, 3), None, [5, 5], mg.ones((5, 2), "bool")), r"lengths or mask, not both"),
        (
            lambda: dot((2, 3), (5, 2, 3), mg.ones((5, 2, 1), "float64")),
            r"values in the dtype of query, float32: x\.as",
        ),
        (lambda: dot((2, 3), (5, 2, 3), mg.ones((5, 2, 1), "int64")), r"floating-point values; this is int64"),
        (lambda: AdditiveAttention(3, 4, 5)(mg.ones((2, 4)), mg.ones((5, 2, 4))), r"query_size 3; this query has 4"),
        (lambda: AdditiveAttention(3, 4, 5)(mg.ones((2, 3)), mg.ones((5, 2, 3))), r"key_size 4; this key has 3"),
        (
            lambda: AdditiveAttention(3, 4, 5)(mg.ones((2, 3), "float64"), mg.ones((5, 2, 4), "float64")),
            r"query in the dtype of the parameters, float32: x\.astype\('float32'\) or module\.to",
        ),
        (lambda: AdditiveAttention(3, -4, 5), r"key_size is a number of elements.*got -4"),
        (lambda: DotAttention(scale=True), r"scale is a finite number, or None for 1 / sqrt\(Q\); got True"),
        (lambda: DotAttention(scale=float("inf")), r"scale is a finite number.*got inf"),
        (lambda: DotAttention(scale="dot"), r"scale is a finite number.*got 'dot'"),
        (lambda: Attention()(mg.ones((2, 3)), mg.ones((5, 2, 3))), r"Attention must define score"),
    ],
)
def test_bad_input_is_told(call: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError, NotImplementedError), match=message):
        call()
