"""Small runs that use all that a checkpoint must hold. As a program (KIND OUT HOW WHEN) one of them, to be killed."""

from __future__ import annotations

import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import checkpoint
from minigrad.train import Batches, Callback, Cosine, Plateau, Streams, Trainer, Truncated, WarmUp

EPOCHS = 3


class Classifier(mg.Module):
    """A sequence's class from its last state, with dropout."""

    def __init__(self, size: int = 6) -> None:
        self.layer, self.dropout, self.output = mg.GRU(2, size), mg.Dropout(0.3), mg.Linear(size, 3)

    def forward(self, x: Any, lengths: Any) -> Any:
        _, h = self.layer(x, lengths=lengths)
        return self.output(self.dropout(h))


class Language(mg.Module):
    """Scores the next of five characters."""

    def __init__(self) -> None:
        self.embedding = mg.Embedding(5, 4)
        self.layers = mg.Stack(mg.LSTM(4, 6), mg.RNN(6, 5), dropout=0.2)

    def forward(self, x: Any, state: Any = None, lengths: Any = None) -> Any:
        return self.layers(self.embedding(x), state, lengths=lengths)


def classify(model: Any, batch: Any) -> Any:
    """The training step for `Classifier`: the loss, and which fraction was right."""
    x, y = batch
    scores = model(x, batch.lengths[0])
    right = mg.equal(mg.argmax(scores, axis=-1), y)
    return mg.loss("cross_entropy")(scores, y), {"accuracy": mg.mean(right.astype("float32"))}


def examples(count: int = 23, seed: int = 0) -> list[Any]:
    draw = random.Random(seed)
    lengths = [draw.randrange(0, 7) for _ in range(count)]
    return [([[draw.gauss(0, 1), draw.gauss(0, 1)] for _ in range(n)], n % 3) for n in lengths]


def characters(steps: int, seed: int = 0) -> Any:
    return np.array(random.Random(seed).choices(range(5), k=(steps + 1) * 3)).reshape(3, steps + 1).T


class Average(Callback):
    """A callback with a state: a moving average of the weights."""

    def __init__(self) -> None:
        self.weights: dict[str, Any] = {}

    def on_step_end(self, trainer: Any, record: Any) -> None:
        now = trainer.model.state_dict()
        self.weights = {name: 0.5 * self.weights.get(name, 0) + 0.5 * value for name, value in now.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"weights": self.weights}

    def load_state_dict(self, state: Any) -> None:
        self.weights = state["weights"]


def make(kind: str, out: Any, callbacks: Any = (), **options: Any) -> tuple[Trainer, Any, Any]:
    """A trainer with its data and validation data."""
    if kind == "batches":
        model, step = Classifier(), classify
        train, validation = Batches(examples(), 4), Batches(examples(9, 1), 4)
    else:
        model, step = Language(), Truncated(mg.loss("cross_entropy"))
        text, held_out = characters(33), characters(8, 1)
        k2 = None if kind == "streams" else 9
        lengths = [33, 7, 26] if kind == "ragged streams" else None
        train, validation = Streams(text[:-1], text[1:], 5, k2, lengths), Streams(held_out[:-1], held_out[1:], 4)
    trainer = Trainer(
        model,
        mg.optimizer("adam", model.parameters(), lr=0.05),
        step,
        clip_norm=0.5,
        schedule=WarmUp(4) * Plateau(1, 0.5) * Cosine(40, 0.1),
        out=out,
        callbacks=[Average(), *callbacks],
        **options,
    )
    return trainer, train, validation


def state_of(trainer: Trainer) -> dict[str, Any]:
    """All numbers that a resumed run must have in common with an undisturbed one, by name."""
    state = {f"model.{name}": value for name, value in trainer.model.state_dict().items()}
    for position, values in enumerate(trainer.optimizer.state_dict()["state"]):
        state |= {f"optimizer.{position}.{name}": value for name, value in values.items()}
    state |= {f"average.{name}": value for name, value in trainer.callbacks[0].weights.items()}
    for record in trainer.records:
        told = {name: value for name, value in record.items() if name != "seconds"}
        state |= {f"record {record['epoch']}.{name}": value for name, value in told.items()}
    return state | {"best": trainer.progress.best, "waited": trainer.progress.waited, "random": mg.uniform().item()}


def assert_same(mine: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert mine.keys() == theirs.keys()
    for name in mine:
        np.testing.assert_array_equal(mine[name], theirs[name], err_msg=name)


class KillAt(Callback):
    """Ends the process without warning after so many updates."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, trainer: Any, record: Any) -> None:
        if record["step"] == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def kill_in_write(number: int) -> None:
    """End the process in the middle of the write of checkpoint `number`: half of it is in the file."""
    writes, whole = [0], checkpoint.save

    def half(*arguments: Any, **options: Any) -> Any:
        writes[0] += 1
        data = whole(*arguments, **options)
        return data if writes[0] < number else data[: len(data) // 2]

    def sync(file: int) -> None:
        if writes[0] >= number:
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoint.save, checkpoint.os.fsync = half, sync


if __name__ == "__main__":
    kind, out, how, when = sys.argv[1:]
    mg.seed(0)
    if how == "write":
        kill_in_write(int(when))
    trainer, train, validation = make(kind, Path(out), [KillAt(int(when))] if how == "step" else [], save_every=0)
    trainer.fit(train, validation, epochs=EPOCHS)
