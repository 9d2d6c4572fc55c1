"""Streams: the trainer's updates are those of a hand-written loop over mg.tbptt, and the state is carried."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from train_runs import Language, characters

import minigrad as mg
from minigrad.train import Batches, Streams, Trainer, Truncated


class Deep(Language):
    """Without dropout: what is drawn for a step that is run again depends on how the reach is cut."""

    def __init__(self) -> None:
        super().__init__()
        self.layers.dropout = 0.0


def trained(model: Any, streams: Streams, epochs: int) -> list[float]:
    optimizer = mg.optimizer("sgd", model.parameters(), lr=0.5)
    trainer = Trainer(model, optimizer, Truncated(mg.loss("cross_entropy")), clip_norm=0.3, progress=False)
    return trainer.fit(streams, epochs=epochs)["train_loss"]


@pytest.mark.parametrize(("k1", "k2"), [(5, 5), (4, 4), (5, 9), (4, 12), (1, 6), (3, 7), (33, 33), (50, 60)])
def test_training_is_that_of_tbptt(k1: int, k2: int) -> None:
    text = characters(33)
    mg.seed(1)
    theirs, optimizer = (model := Deep()), mg.optimizer("sgd", model.parameters(), lr=0.5)
    means = []
    for _ in range(2):
        total = 0.0
        for window in mg.tbptt(theirs, text[:-1], text[1:], mg.loss("cross_entropy"), k1=k1, k2=k2):
            mg.clip_grad_norm(theirs.parameters(), 0.3)
            optimizer.step()
            total += window.loss.item() * window.steps
        means.append(total / 33)
    mg.seed(1)
    mine = Deep()
    losses = trained(mine, Streams(text[:-1], text[1:], k1, k2), 2)
    for name, value in mine.state_dict().items():
        np.testing.assert_array_equal(value, theirs.state_dict()[name], err_msg=name)
    assert losses == pytest.approx(means, rel=1e-6)


def test_the_state_is_carried_to_the_next_window_and_not_to_the_next_epoch() -> None:
    class Count(mg.Cell):
        """Counts the steps since the state was new."""

        def __init__(self) -> None:
            self.weight = mg.Parameter([0.0])

        def init_state(self, batch_size: int) -> Any:
            return mg.zeros((batch_size, 1))

        def step(self, x: Any, h: Any) -> Any:
            return h + 1 + 0 * self.weight, h + 1

    seen: list[list[float]] = []

    def loss(outputs: Any, targets: Any) -> Any:
        seen.append(outputs.numpy()[:, 0, 0].tolist())
        return mg.mean(outputs)

    model = mg.Recurrent(Count())
    trainer = Trainer(model, mg.optimizer("sgd", model.parameters(), lr=0.1), Truncated(loss), progress=False)
    trainer.fit(Streams(mg.zeros((7, 2, 1)), mg.zeros((7, 2, 1)), k1=3, k2=5), epochs=2)
    assert seen == [[1, 2, 3], [4, 5, 6], [7]] * 2
    seen.clear()
    trainer.evaluate(Streams(mg.zeros((7, 2, 1)), mg.zeros((7, 2, 1)), k1=4))
    assert seen == [[1, 2, 3, 4], [5, 6, 7]]


def test_evaluation_is_the_mean_over_all_steps_whatever_the_window() -> None:
    model, text = Deep(), characters(33)
    trainer = Trainer(
        model, mg.optimizer("sgd", model.parameters(), lr=0.1), Truncated(mg.loss("cross_entropy")), progress=False
    )
    model.eval()
    outputs, _ = model(mg.tensor(text[:-1]))
    whole = mg.loss("cross_entropy")(outputs, mg.tensor(text[1:])).item()
    for k1, k2 in ((33, 33), (5, 5), (4, 9), (1, 1)):
        assert trainer.evaluate(Streams(text[:-1], text[1:], k1, k2))["loss"] == pytest.approx(whole, rel=1e-5)


def test_metrics_come_through_and_count_by_steps() -> None:
    def loss(outputs: Any, targets: Any) -> Any:
        return mg.mean(mg.square(outputs)), {"steps": float(outputs.shape[0]), "pair": (outputs.shape[0], 1)}

    model = mg.RNN(1, 2)
    trainer = Trainer(model, mg.optimizer("sgd", model.parameters(), lr=0.1), Truncated(loss), progress=False)
    history = trainer.fit(Streams(mg.zeros((7, 2, 1)), mg.zeros((7, 2, 1)), k1=3, k2=4), epochs=1)
    assert history["train_steps"] == [pytest.approx((3 * 3 + 3 * 3 + 1 * 1) / 7)]
    assert history["train_pair"] == [pytest.approx(7 / 3)]


LENGTHS = [17, 4, 29]


@pytest.mark.parametrize(("k1", "k2"), [(5, 5), (4, 9), (1, 6), (29, 29), (40, 50)])
def test_sequences_that_end_at_different_steps_are_those_of_tbptt(k1: int, k2: int) -> None:
    text = characters(33)
    mg.seed(1)
    theirs, optimizer = (model := Deep()), mg.optimizer("sgd", model.parameters(), lr=0.5)
    cross_entropy = mg.loss("cross_entropy")
    for _ in range(2):
        total, first = 0.0, 0
        for window in mg.tbptt(theirs, text[:29], text[1:30], cross_entropy, k1=k1, k2=k2, lengths=LENGTHS):
            mg.clip_grad_norm(theirs.parameters(), 0.3)
            optimizer.step()
            total += window.loss.item() * sum(min(max(n - first, 0), window.steps) for n in LENGTHS)
            first += window.steps
    mg.seed(1)
    mine = Deep()
    losses = trained(mine, Streams(text[:-1], text[1:], k1, k2, lengths=LENGTHS), 2)
    for name, value in mine.state_dict().items():
        np.testing.assert_array_equal(value, theirs.state_dict()[name], err_msg=name)
    assert losses[-1] == pytest.approx(total / sum(LENGTHS), rel=1e-6)


def test_evaluation_of_sequences_that_end_at_different_steps_is_the_mean_over_what_counts() -> None:
    model, text = Deep(), characters(33)
    step = Truncated(mg.loss("cross_entropy"))
    trainer = Trainer(model, mg.optimizer("sgd", model.parameters(), lr=0.1), step, progress=False)
    model.eval()
    outputs, _ = model(mg.tensor(text[:-1]))
    whole = mg.loss("cross_entropy")(outputs, mg.tensor(text[1:]), lengths=LENGTHS).item()
    for k1, k2 in ((33, 33), (5, 5), (4, 9), (1, 1)):
        data = Streams(text[:-1], text[1:], k1, k2, lengths=LENGTHS)
        assert trainer.evaluate(data)["loss"] == pytest.approx(whole, rel=1e-5)
    assert len(Streams(text[:-1], text[1:], 5, lengths=LENGTHS)) == 6
    saved = Streams(text[:-1], text[1:], 5).state_dict()
    with pytest.raises(ValueError, match="sha256 was"):
        Streams(text[:-1], text[1:], 5, lengths=[33, 33, 32]).load_state_dict(saved)


@pytest.mark.host_only("messages")
def test_wrong_arguments_are_named() -> None:
    xs = mg.zeros((4, 2, 1))
    for bad in (mg.zeros((4, 3)), mg.zeros(4), mg.zeros((3, 2))):
        with pytest.raises(ValueError, match=r"xs and ys must both be \(T, B, \.\.\.\)"):
            Streams(xs, bad, 2)
    with pytest.raises(ValueError, match="at least one step and one sequence"):
        Streams(mg.zeros((0, 2)), mg.zeros((0, 2)), 2)
    with pytest.raises(ValueError, match="k1 is a number of steps, an integer of at least 1; got 0"):
        Streams(xs, xs, 0)
    with pytest.raises(ValueError, match="k2 is a number of steps, an integer of at least 3; got 2"):
        Streams(xs, xs, 3, 2)
    for lengths, message in (([4], "2 entries"), ([5, 1], r"lengths\[0\] is 5"), ([0, 0], "lengths are all 0")):
        with pytest.raises(ValueError, match=message):
            Streams(xs, xs, 2, lengths=lengths)
    with pytest.raises(TypeError, match="loss must be a function"):
        Truncated("mse")  # type: ignore[arg-type]
    model = mg.RNN(1, 2)
    trainer = Trainer(model, mg.optimizer("sgd", model.parameters(), lr=0.1), Truncated(mg.loss("mse")), progress=False)
    with pytest.raises(TypeError, match="Truncated takes windows of Streams; got a Batch"):
        trainer.fit(Batches([([[1.0]], 1.0)], 1), epochs=1)
