"""Decoding: samples against their definitions, sequences against loops, beam search against all sequences."""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.decoding import beam_search, generate, greedy, sample

INF = float("inf")


def softmax(scores: Any, axis: int = -1) -> Any:
    shares = np.exp(scores - scores.max(axis=axis, keepdims=True))
    return shares / shares.sum(axis=axis, keepdims=True)


def kept(scores: Any, top_k: int | None, top_p: float | None) -> list[int]:
    """The classes that may be drawn, by the definitions, best first."""
    ranked = sorted(range(len(scores)), key=lambda c: (-scores[c], c))[:top_k]
    shares = softmax(scores[ranked])
    for count in range(1, len(ranked) + 1):
        if top_p is not None and shares[:count].sum() >= top_p:
            return ranked[:count]
    return ranked


# --- sample and greedy


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_samples_have_the_frequencies_of_softmax(temperature: float) -> None:
    mg.seed(7)
    scores, count = np.array([1.0, -2.0, 0.3, 2.0, -INF, 0.3]), 40_000
    drawn = sample(mg.broadcast_to(mg.tensor(scores), (count, 6)), temperature).numpy()
    expected = softmax(scores / temperature) * count
    found = np.bincount(drawn, minlength=6)
    assert found[4] == 0
    possible = expected > 0
    chi_square = ((found - expected)[possible] ** 2 / expected[possible]).sum()
    assert chi_square < 18.5  # 4 degrees of freedom: exceeded once in a thousand seeds


@pytest.mark.parametrize(
    ("top_k", "top_p"), [(1, None), (3, None), (99, None), (None, 0.3), (None, 0.9), (None, 1.0), (4, 0.8), (2, 0.999)]
)
def test_top_k_and_top_p_keep_what_they_define_with_the_probabilities_of_softmax(top_k: Any, top_p: Any) -> None:
    mg.seed(11)
    rows = np.random.default_rng(5).normal(size=(4, 7)) * 1.5
    rows[1, 3] = rows[1, 5]  # equal ones
    count = 8000
    drawn = sample(mg.broadcast_to(mg.tensor(rows), (count, 4, 7)), 1.0, top_k, top_p).numpy()
    for row, column in zip(rows, drawn.T, strict=True):
        classes = kept(row, top_k, top_p)
        shares = softmax(row[classes])
        found = np.bincount(column, minlength=7)
        assert found.sum() == found[classes].sum()
        assert ((found[classes] > 0) | (shares < 1e-3)).all()
        expected = shares * count
        assert ((found[classes] - expected) ** 2 / expected).sum() < 28  # 6 degrees: once in ten thousand


def test_the_nucleus_is_the_smallest_set_that_reaches_p() -> None:
    scores = mg.broadcast_to(mg.log(mg.tensor([0.5, 0.3, 0.15, 0.05], dtype="float64")), (2000, 4))
    for top_p, expected in ((0.01, {0}), (0.499, {0}), (0.501, {0, 1}), (0.79, {0, 1}), (0.81, {0, 1, 2}), (1.0, 4)):
        found = set(sample(scores, top_p=top_p).numpy().tolist())
        assert found == (set(range(4)) if expected == 4 else expected)
    # a top_k first: of 0.5 and 0.3, normalised, 0.625 is enough for 0.6
    assert set(sample(scores, top_k=2, top_p=0.6).numpy().tolist()) == {0}


def test_of_equal_scores_top_k_keeps_the_first() -> None:
    drawn = sample(mg.zeros((2000, 5)), top_k=2).numpy()
    assert set(drawn.tolist()) == {0, 1}
    assert set(sample(mg.zeros((2000, 5)), top_p=0.6).numpy().tolist()) == {0, 1, 2}


def test_the_seed_decides_on_every_backend() -> None:
    scores = np.random.default_rng(0).normal(size=(50, 20)).astype("float32")
    results = []
    for seed, place in ((1, mg.get_backend().name), (1, "numpy"), (2, "numpy")):
        mg.seed(seed)
        with mg.use_backend(place):
            drawn = sample(mg.tensor(scores), 0.9, top_k=12, top_p=0.95)
            assert drawn.backend.name == place
            assert (drawn.dtype, drawn.shape) == ("int64", (50,))
            results.append(drawn.numpy().tolist())
    assert results[0] == results[1] != results[2]


def test_small_temperatures_choose_the_best_and_large_ones_anything() -> None:
    scores = mg.normal(shape=(100, 6))
    best = scores.numpy().argmax(axis=-1).tolist()
    for temperature in (1e-4, 1e-30, 5e-324):
        assert sample(scores, temperature).numpy().tolist() == best
    assert sample(scores, top_k=1).numpy().tolist() == best
    many = sample(mg.broadcast_to(mg.tensor([0.0, 50.0]), (2000, 2)), 1e6).numpy()
    assert 850 < many.sum() < 1150


def test_one_class_no_rows_one_row_and_rows_of_rows() -> None:
    assert sample(mg.zeros((3, 1))).numpy().tolist() == [0, 0, 0]
    assert sample(mg.zeros((0, 4)), top_k=2, top_p=0.5).shape == (0,)
    assert greedy(mg.zeros((0, 4))).shape == (0,)
    assert sample(mg.tensor([-INF, 3.0, -INF])).item() == 1
    assert greedy(mg.tensor([-INF, 3.0, 4.0])).item() == 2
    assert sample(mg.zeros((2, 3, 4))).shape == greedy(mg.zeros((2, 3, 4))).shape == (2, 3)
    assert greedy(mg.tensor([[1.0, 2.0, 2.0]])).numpy().tolist() == [1]
    assert not sample(mg.ones((2, 3), requires_grad=True) * 2).requires_grad


# --- generate


class Model:
    """A random cell between an embedding and an output layer; counts its steps."""

    def __init__(self, classes: int, hidden: int = 5, sharp: float = 3.0) -> None:
        self.embedding, self.cell = mg.Embedding(classes, 4), mg.LSTMCell(4, hidden, bias=False)
        self.output, self.sharp, self.steps = mg.Linear(hidden, classes, bias=False), sharp, 0
        for parameter in (*self.cell.parameters(), *self.output.parameters()):
            parameter.data = parameter.data * 3.0

    def __call__(self, x: mg.Tensor, state: Any) -> Any:
        self.steps += 1
        y, state = self.cell(self.embedding(x), state)
        return self.output(y) * self.sharp, state

    def log_prob(self, start: int, sequence: tuple[int, ...]) -> float:
        """log P of one sequence, class by class."""
        state, x, total = self.cell.init_state(1), start, 0.0
        for chosen in sequence:
            scores, state = self(mg.tensor([x]), state)
            total += np.log(softmax(scores.numpy()[0].astype("float64"))[chosen])
            x = chosen
        return float(total)


def test_generate_feeds_the_model_its_own_choices() -> None:
    model, start = Model(6), [2, 0, 5]
    made = generate(model, start, model.cell.init_state(3), 7)
    for b, first in enumerate(start):
        state, x = model.cell.init_state(1), first
        for t in range(7):
            scores, state = model(mg.tensor([x]), state)
            x = int(scores.numpy().argmax())
            assert made.sequences.numpy()[t, b] == x
        np.testing.assert_allclose(made.state[0].numpy()[b], state[0].numpy()[0], atol=1e-5)
    assert made.lengths.numpy().tolist() == [7, 7, 7]
    assert len({tuple(column) for column in made.sequences.numpy().T}) > 1
    assert not made.state[0].requires_grad


def test_generation_goes_on_from_the_state() -> None:
    model = Model(6)
    whole = generate(model, [1, 4], model.cell.init_state(2), 8).sequences.numpy()
    first = generate(model, [1, 4], model.cell.init_state(2), 3)
    rest = generate(model, first.sequences[-1], first.state, 5)
    np.testing.assert_array_equal(whole, np.concatenate([first.sequences.numpy(), rest.sequences.numpy()]))


def test_generated_samples_are_repeatable_and_options_reach_them() -> None:
    model = Model(6, sharp=0.3)
    choices = [partial(sample, temperature=t, top_k=k) for t, k in ((1.0, None), (1.0, None), (1.0, 1))]
    made = []
    for choose in choices:
        mg.seed(5)
        made.append(generate(model, [0, 1], model.cell.init_state(2), 12, choose=choose).sequences.numpy().tolist())
    assert made[0] == made[1] != made[2]
    assert made[2] == generate(model, [0, 1], model.cell.init_state(2), 12).sequences.numpy().tolist()


def following(table: Any) -> Any:
    """A model that gives the classes of a table (T, B) one after the other, whatever it is fed."""

    def step(x: mg.Tensor, t: int) -> Any:
        return mg.one_hot(mg.tensor(table[t]), 4) * 10.0, t + 1

    return step


def test_sequences_end_each_by_itself_and_all_at_once() -> None:
    table = [[1, 3, 2], [3, 0, 2], [0, 1, 3], [2, 2, 2]]
    made = generate(following(table), [0, 0, 0], 0, 4, end=3)
    assert made.sequences.numpy().tolist() == [[1, 3, 2], [3, 3, 2], [3, 3, 3]]
    assert made.lengths.numpy().tolist() == [2, 1, 3]
    assert made.state == 3
    made = generate(following([[3, 3], [1, 1]]), [0, 0], 0, 2, end=3)
    assert (made.sequences.numpy().tolist(), made.lengths.numpy().tolist(), made.state) == ([[3, 3]], [1, 1], 1)
    made = generate(following(table), [0, 0, 0], 0, 2, end=3)
    assert (made.sequences.shape, made.lengths.numpy().tolist()) == ((2, 3), [2, 1, 2])


def test_what_an_ended_sequence_would_go_on_with_does_not_matter() -> None:
    def step(x: mg.Tensor, t: int) -> Any:
        return mg.tensor([[0.0, 9.0] if t == 0 else [float("nan")] * 2, [9.0, 0.0]]), t + 1

    for choose in (greedy, sample):
        made = generate(step, [0, 0], 0, 3, end=1, choose=choose)
        assert made.lengths.numpy().tolist() == [1, 3]
    with pytest.raises(ValueError, match="the largest score of each row must be finite"):
        generate(step, [0, 0], 0, 3)


def test_generate_nothing() -> None:
    model = Model(4)
    made = generate(model, [0, 1], model.cell.init_state(2), 0, end=1)
    assert (made.sequences.shape, made.lengths.numpy().tolist(), model.steps) == ((0, 2), [0, 0], 0)
    assert generate(model, mg.zeros(0, "int64"), model.cell.init_state(0), 3).sequences.shape == (3, 0)


# --- beam search


def every_sequence(classes: int, longest: int, end: int | None) -> list[tuple[int, ...]]:
    """All that can be generated: those that end, and those of full length that do not."""
    if end is None:
        return list(product(range(classes), repeat=longest))
    others = [c for c in range(classes) if c != end]
    found = [(*head, end) for n in range(longest) for head in product(others, repeat=n)]
    return found + list(product(others, repeat=longest))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("end", [None, 0, 2])
@pytest.mark.parametrize("penalty", [0.0, 0.6, 2.0])
def test_a_beam_that_holds_all_sequences_finds_them_in_order(seed: int, end: Any, penalty: float) -> None:
    mg.set_default_dtype("float64")
    mg.seed(seed)
    model, classes, longest, starts = Model(3), 3, 3, [1, 0]
    sequences = every_sequence(classes, longest, end)
    found = beam_search(model, starts, model.cell.init_state(2), 30, longest, end, penalty)
    for b, start in enumerate(starts):
        log_probs = {sequence: model.log_prob(start, sequence) for sequence in sequences}
        scores = {s: value / ((5 + len(s)) / 6) ** penalty for s, value in log_probs.items()}
        expected = sorted(sequences, key=lambda s: -scores[s])
        for w, sequence in enumerate(expected):
            length = found.lengths.numpy()[b, w]
            assert tuple(found.sequences.numpy()[:length, b, w]) == sequence
            assert abs(found.log_probs.numpy()[b, w] - log_probs[sequence]) < 1e-12
            assert abs(found.scores.numpy()[b, w] - scores[sequence]) < 1e-12
            assert (found.sequences.numpy()[length:, b, w] == (0 if end is None else end)).all()
        assert (found.log_probs.numpy()[b, len(sequences) :] == -INF).all()
        assert (found.scores.numpy()[b, len(sequences) :] == -INF).all()
        assert (found.lengths.numpy()[b, len(sequences) :] == 0).all()
        assert abs(np.exp(found.log_probs.numpy()[b]).sum() - 1) < 1e-12


@pytest.mark.parametrize("end", [None, 0, 1])
@pytest.mark.parametrize("penalty", [0.0, 0.6, 2.0])
def test_a_beam_of_one_is_greedy(end: Any, penalty: float) -> None:
    model, starts = Model(5, sharp=1.0), [0, 1, 2, 3, 4]
    made = generate(model, starts, model.cell.init_state(5), 8, end)
    found = beam_search(model, starts, model.cell.init_state(5), 1, 8, end, penalty)
    np.testing.assert_array_equal(found.sequences.numpy()[:, :, 0], made.sequences.numpy())
    np.testing.assert_array_equal(found.lengths.numpy()[:, 0], made.lengths.numpy())
    for b, start in enumerate(starts):
        sequence = tuple(made.sequences.numpy()[: made.lengths.numpy()[b], b].tolist())
        assert abs(found.log_probs.numpy()[b, 0] - model.log_prob(start, sequence)) < 1e-5


def by_hand(model: Model, start: int, width: int, longest: int, end: int, penalty: float) -> list[tuple[int, ...]]:
    """Beam search on lists of sequences, each scored anew."""

    def score(sequence: tuple[int, ...]) -> float:
        return model.log_prob(start, sequence) / ((5 + len(sequence)) / 6) ** penalty

    beam: list[tuple[int, ...]] = [()]
    for _ in range(longest):
        following = [s for s in beam if end in s]
        following += [(*s, c) for s in beam if end not in s for c in range(5)]
        beam = sorted(following, key=lambda s: -score(s))[:width]
    return beam


@pytest.mark.parametrize("width", [2, 3, 5])
@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_a_narrow_beam_is_that_of_the_definition(width: int, penalty: float) -> None:
    mg.set_default_dtype("float64")
    model, starts = Model(5, sharp=0.7), [3, 1]
    found = beam_search(model, starts, model.cell.init_state(2), width, 5, 2, penalty)
    for b, start in enumerate(starts):
        sequences, lengths = found.sequences.numpy()[:, b], found.lengths.numpy()[b]
        listed = [tuple(sequences[: lengths[w], w].tolist()) for w in range(width)]
        assert listed == by_hand(model, start, width, 5, 2, penalty)


def test_a_beam_finds_more_than_greedy_and_each_start_is_searched_alone() -> None:
    mg.seed(1)
    model, starts = Model(8, sharp=0.5), list(range(8))
    narrow, wide = (beam_search(model, starts, model.cell.init_state(8), w, 6, 0, 0.0) for w in (1, 8))
    gain = wide.log_probs.numpy()[:, 0] - narrow.log_probs.numpy()[:, 0]
    assert gain.min() > -1e-6
    assert gain.max() > 0.1
    for b, start in enumerate(starts):
        alone = beam_search(model, [start], model.cell.init_state(1), 8, 6, 0, 0.0)
        np.testing.assert_allclose(alone.log_probs.numpy()[0], wide.log_probs.numpy()[b], atol=1e-5)


def test_lengths_are_weighed_by_the_penalty() -> None:
    table = mg.log(mg.tensor([[0.4, 0.0001, 0.5999], [0.99, 0.005, 0.005], [0.1, 0.8, 0.1]], dtype="float64") + 0.0)

    def best(penalty: float) -> list[int]:
        found = beam_search(lambda x, s: (mg.take(table, x), s), [2], None, 27, 3, 0, penalty)
        return found.sequences.numpy()[: found.lengths.numpy()[0, 0], 0, 0].tolist()

    # from 2: end at once has 0.1; 1 0 (end) has 0.8 * 0.99
    assert best(0.0) == best(2.0) == [1, 0]
    table = mg.log(mg.tensor([[1.0, 0, 0], [0.02, 0.49, 0.49], [0.5, 0.3, 0.2]], dtype="float64") + 1e-9)
    assert best(0.0) == [0]  # 0.5, ended at once
    assert len(best(5.0)) == 3  # far less likely, but longer


def test_states_of_any_build_follow_their_beams() -> None:
    """The state is the history itself, from which the scores follow: a beam with another's state would be noticed."""
    mg.set_default_dtype("float64")
    table = mg.normal(shape=(4, 4, 4, 3), std=2.0).numpy()

    def step(x: mg.Tensor, state: Any) -> Any:
        last = state["history"][0]
        history = mg.concat([last[:, 1:], mg.expand_dims(x, -1)], axis=-1)
        rows = [table[tuple(row)] for row in history.numpy().tolist()]
        return mg.tensor(np.array(rows)), {"history": [history], "fixed": state["fixed"]}

    def log_prob(sequence: tuple[int, ...]) -> float:
        whole = (3, 3, 3, *sequence)
        return float(sum(np.log(softmax(table[whole[t : t + 3]])[chosen]) for t, chosen in enumerate(sequence)))

    start = {"history": [mg.full((2, 3), 3, dtype="int64")], "fixed": None}
    found = beam_search(step, [3, 3], start, 81, 4, None, 0.0)
    expected = sorted(product(range(3), repeat=4), key=lambda s: -log_prob(s))
    for b in range(2):
        assert [tuple(column) for column in found.sequences.numpy()[:, b].T] == expected
    narrow = beam_search(step, [3, 3], start, 3, 4, None, 0.0)
    for w in range(3):
        sequence = tuple(narrow.sequences.numpy()[:, 0, w].tolist())
        assert abs(log_prob(sequence) - narrow.log_probs.numpy()[0, w]) < 1e-12


def test_a_search_stops_when_all_sequences_have_ended() -> None:
    calls = []

    def step(x: mg.Tensor, state: Any) -> Any:
        calls.append(x.shape)
        return mg.broadcast_to(mg.tensor([50.0, -INF, -INF]), (x.shape[0], 3)), state

    found = beam_search(step, [1, 2], None, 2, 9, end=0)
    assert calls == [(4,)]
    assert found.sequences.numpy()[:, :, 0].tolist() == [[0, 0]]
    assert found.lengths.numpy().tolist() == [[1, 0], [1, 0]]
    assert found.log_probs.numpy()[:, 0].tolist() == [0, 0]


def test_impossible_classes_are_never_taken() -> None:
    table = mg.tensor([[0.0, -INF, 0.5], [0.0, 0.0, -INF], [-INF, -INF, 1.0]])
    found = beam_search(lambda x, s: (mg.take(table, x), s), [0], None, 27, 3)
    log_probs = found.log_probs.numpy()[0]
    alive = np.isfinite(log_probs)
    assert alive.sum() == 4  # 0 0 0, 0 0 2, 0 2 2, 2 2 2
    assert {tuple(s) for s in found.sequences.numpy()[:, 0, alive].T.tolist()} == {
        (0, 0, 0), (0, 0, 2), (0, 2, 2), (2, 2, 2),
    }  # fmt: skip


def test_a_sequence_that_nothing_can_follow_is_dropped() -> None:
    minus = -np.inf
    table = mg.tensor([[0.0, 1.0, 0.0], [minus] * 3, [0.0, minus, minus]], dtype="float64")  # 1 leads nowhere
    step = lambda x, state: (mg.take(table, x), state)  # noqa: E731
    found = beam_search(step, [0, 1], None, width=9, max_length=2)
    kept = {
        tuple(s) for s, n in zip(found.sequences[:, 0].T.numpy().tolist(), found.lengths[0].numpy(), strict=True) if n
    }
    assert kept == {(0, 0), (0, 1), (0, 2), (2, 0)}
    assert found.lengths[1].numpy().tolist() == [0] * 9
    assert np.all(found.log_probs[1].numpy() == minus)
    with pytest.raises(ValueError, match="the largest score of each row must be finite"):
        beam_search(lambda x, state: (mg.take(table, x) * np.nan, state), [0], None, width=2, max_length=2)


def test_search_for_nothing() -> None:
    model = Model(3)
    found = beam_search(model, [0, 1], model.cell.init_state(2), 3, 0, 1)
    assert (found.sequences.shape, model.steps) == ((0, 2, 3), 0)
    assert found.log_probs.numpy().tolist() == [[0, -INF, -INF]] * 2
    found = beam_search(model, mg.zeros(0, "int64"), model.cell.init_state(0), 3, 4, 1)
    assert (found.log_probs.shape, found.lengths.shape) == ((0, 3), (0, 3))


def test_an_ended_sequence_that_is_fed_on_does_no_harm() -> None:
    def step(x: mg.Tensor, state: Any) -> Any:
        scores = mg.where(mg.expand_dims(x == 1, -1), float("nan"), mg.zeros((x.shape[0], 3)))
        return scores, state

    found = beam_search(step, [0], None, 4, 3, end=1)
    assert np.isfinite(found.log_probs.numpy()).all()


# --- bad input


def flat(x: mg.Tensor, state: Any) -> Any:
    return mg.zeros((x.shape[0], 3)), state


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sample(mg.zeros((1, 3)), 0), r"temperature is a finite number above 0; got 0: .* likeliest.*greedy"),
        (lambda: sample(mg.zeros((1, 3)), -1.0), r"temperature is a finite number above 0; got -1\.0$"),
        (lambda: sample(mg.zeros((1, 3)), INF), r"temperature .*got inf"),
        (lambda: sample(mg.zeros((1, 3)), "hot"), r"temperature .*got 'hot'"),
        (lambda: sample(mg.zeros((1, 3)), top_k=0), r"top_k is an integer of at least 1; got 0"),
        (lambda: sample(mg.zeros((1, 3)), top_k=2.0), r"top_k .*got 2\.0"),
        (lambda: sample(mg.zeros((1, 3)), top_p=0.0), r"top_p is a probability in \(0, 1\]; got 0\.0"),
        (lambda: sample(mg.zeros((1, 3)), top_p=1.1), r"top_p .*got 1\.1"),
        (lambda: sample(mg.zeros((1, 3)), top_p=True), r"top_p .*got True"),
        (lambda: sample(mg.zeros((1, 0))), r"scores have shape \(1, 0\).*at least one class"),
        (lambda: sample(mg.tensor(1.0)), r"scores have shape \(\)"),
        (lambda: sample(mg.zeros((1, 3), "int64")), r"scores are floating-point; these are int64"),
        (lambda: sample(mg.tensor([[0.0, float("nan")]])), r"largest score of each row must be finite"),
        (lambda: sample(mg.tensor([[0.0], [-INF]])), r"nothing but minus infinity \(which leaves no class"),
        (lambda: greedy(mg.tensor([[0.0, INF]])), r"largest score of each row must be finite"),
        (lambda: generate(flat, [0], None, -1), r"max_length is an integer of at least 0; got -1"),
        (lambda: generate(flat, 0, None, 1), r"start has shape \(\); it must be \(B,\)"),
        (lambda: generate(flat, [0.5], None, 1), r"start holds classes, so integers; these are float32"),
        (lambda: generate(flat, [0], None, 1, end=3), r"end is 3; with the 3 classes"),
        (lambda: generate(flat, [0], None, 1, end=-1), r"end is the class that ends a sequence.*got -1"),
        (lambda: generate(lambda x, s: flat(x, s)[0], [0], None, 1), r"step must return \(scores, state\).*Tensor\[1"),
        (lambda: generate(lambda x, s: (mg.zeros((3,)), s), [0], None, 1), r"scores of shape \(B, C\).*\(3,\)"),
        (lambda: generate(lambda x, s: (mg.zeros((1, 1, 3)), s), [0], None, 1), r"it returned \(1, 1, 3\)"),
        (lambda: generate(flat, [0], None, 1, choose=lambda s: s), r"choose must return a class per sequence"),
        (lambda: beam_search(flat, [0], None, 0, 1), r"width is an integer of at least 1; got 0"),
        (lambda: beam_search(flat, [0], None, 1, 1.5), r"max_length .*got 1\.5"),
        (lambda: beam_search(flat, [0], None, 1, 1, 7), r"end is 7; with the 3 classes"),
        (lambda: beam_search(flat, [0], None, 1, 1, length_penalty=INF), r"length_penalty is a finite number; got inf"),
        (lambda: beam_search(flat, [0, 1], mg.zeros((3, 2)), 1, 1), r"the batch first, 2 rows; this one .*\(3, 2\)"),
        (lambda: beam_search(lambda x, s: (mg.zeros((1, 3)), s), [0], None, 2, 1), r"B = 2; it returned\s+\(1, 3\)"),
    ],
)
def test_bad_input_is_told(call: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        call()
