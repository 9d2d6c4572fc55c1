"""One to one, as small as it gets: from each letter of HOME to the next one. Four letters, three pairs, a few weights.

    h -> o      o -> m      m -> e

A cell takes one step from its initial state, and what it would remember is thrown away. For HOME that is enough, since
no letter occurs twice; `--word noon` shows where it ends: after an o comes another o or an n, and only a network that
remembers could tell which.
"""

from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

import minigrad as mg
from examples.common import console, options, pyplot, report, save_picture, show
from minigrad.decoding import generate
from minigrad.train import Batch, Batches, Callback, Trainer


class NextLetter(mg.Module):
    """From letters (B,) to scores of the letters that may follow, (B, C)."""

    def __init__(self, letters: int, cell: str, hidden_size: int = 8) -> None:
        self.embedding = mg.Embedding(letters, hidden_size)
        self.cell = mg.cell(cell, hidden_size, hidden_size)
        self.output = mg.Linear(getattr(self.cell, "output_size", hidden_size), letters)

    def forward(self, x: mg.Tensor) -> mg.Tensor:
        y, _ = self.cell(self.embedding(x))
        return self.output(y)


def step(model: NextLetter, batch: Batch) -> tuple[mg.Tensor, dict[str, mg.Tensor]]:
    """The loss on the pairs, and the share in which the likeliest letter is the next one."""
    letter, following = batch
    scores = model(letter)
    right = mg.equal(mg.argmax(scores, axis=-1), following)
    return mg.loss("cross_entropy")(scores, following), {"accuracy": mg.mean(right.astype("float32"))}


class Tables(Callback):
    """Keeps the table of probabilities, a row for each letter, as it is after some of the updates."""

    def __init__(self, letters: str, last: int) -> None:
        self.letters = letters
        self.moments = sorted({0, 5, 10, 20, last} & set(range(last + 1)))
        self.tables: dict[int, np.ndarray] = {}

    def keep(self, trainer: Trainer) -> None:
        if trainer.progress.step not in self.moments:
            return
        with mg.no_grad():
            self.tables[trainer.progress.step] = mg.softmax(trainer.model(mg.arange(len(self.letters)))).numpy()

    def on_fit_start(self, trainer: Trainer) -> None:
        self.keep(trainer)

    def on_step_end(self, trainer: Trainer, record: Mapping[str, Any]) -> None:
        self.keep(trainer)


def main() -> None:
    chosen = options(__doc__.splitlines()[0], epochs=60, cell="rnn", word="home")
    word, letters = chosen.word, "".join(dict.fromkeys(chosen.word))
    pairs = [(letters.index(a), letters.index(b)) for a, b in pairwise(word)]
    model = NextLetter(len(letters), chosen.cell)
    tables = Tables(letters, chosen.epochs)
    trainer = Trainer(model, mg.optimizer("adam", model.parameters(), lr=0.02), step, callbacks=[tables])
    batches = Batches(pairs, len(pairs))  # all pairs at once: an epoch is one update
    history = trainer.fit(batches, epochs=chosen.epochs)

    for moment, table in tables.tables.items():
        rows = [(letter, *(f"{p:.2f}" for p in row)) for letter, row in zip(letters, table, strict=True)]
        show(f"after {moment} updates: the probability of each letter to follow", ("", *letters), rows)
    console.print("Of so small a world nothing is held out: the figures are on the pairs that were trained on.")
    [(_, most)] = Counter(following for _, following in pairs).most_common(1)
    accuracy = trainer.evaluate(batches)["accuracy"]
    report(chosen.out, "accuracy on the pairs trained on", accuracy, most / len(pairs), "the same letter always")

    made = generate(lambda x, state: (model(x), state), [0], None, max_length=len(word) - 1)
    spelled = letters[0] + "".join(letters[i] for i in made.sequences.numpy()[:, 0])
    show("fed its own letters", ("from", "it spells"), [(letters[0], spelled)])
    draw(letters, tables.tables, history["train_loss"], chosen.out / "home.png")


def draw(letters: str, tables: dict[int, np.ndarray], losses: list[float], path: Path) -> None:
    """The tables of probabilities as pictures, and the loss."""
    figure, places = pyplot().subplots(1, len(tables) + 1, figsize=(2 * len(tables) + 3, 2.6), layout="constrained")
    for place, (moment, table) in zip(places, tables.items(), strict=False):
        place.imshow(table, cmap="viridis", vmin=0, vmax=1)
        place.set(title=f"after {moment}", xlabel="next letter", xticks=range(len(letters)), xticklabels=letters)
        place.set(yticks=range(len(letters)), yticklabels=letters)
    places[0].set_ylabel("letter")
    places[-1].plot(range(1, len(losses) + 1), losses)
    places[-1].set(title="loss", xlabel="update")
    save_picture(figure, path)


if __name__ == "__main__":
    main()
