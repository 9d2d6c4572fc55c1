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
from examples.common import accuracy, options, pyplot, report, save_picture, show
from minigrad.decoding import generate
from minigrad.train import Batch, Batches, Callback, Trainer


class NextLetter(mg.Module):
    """From letters (B,) to scores of the letters that may follow, (B, C)."""

    def __init__(self, letters: int, cell: str, hidden_size: int = 8) -> None:
        self.embedding = mg.Embedding(letters, hidden_size)
        self.cell = mg.cell(cell, hidden_size, hidden_size)
        self.output = mg.Linear(mg.Recurrent(self.cell).output_size, letters)

    def forward(self, x: mg.Tensor) -> mg.Tensor:
        y, _ = self.cell(self.embedding(x))
        return self.output(y)


def step(model: NextLetter, batch: Batch) -> tuple[mg.Tensor, dict[str, mg.Tensor]]:
    """The loss on the pairs, and the share in which the likeliest letter is the next one."""
    letter, following = batch
    scores = model(letter)
    return mg.loss("cross_entropy")(scores, following), {"accuracy": accuracy(scores, following)}


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
    args = options(__doc__, epochs=60, cell="rnn", word="home")
    word, letters = args.word, "".join(dict.fromkeys(args.word))
    pairs = [(letters.index(a), letters.index(b)) for a, b in pairwise(word)]
    model = NextLetter(len(letters), args.cell)
    tables = Tables(letters, args.epochs)
    trainer = Trainer(model, mg.optimizer("adam", model.parameters(), lr=0.02), step, callbacks=[tables])
    batches = Batches(pairs, len(pairs))  # all pairs at once: an epoch is one update
    history = trainer.fit(batches, epochs=args.epochs)

    for moment, table in tables.tables.items():
        rows = [(letter, *(f"{p:.2f}" for p in row)) for letter, row in zip(letters, table, strict=True)]
        show(f"after {moment} updates: the probability of each letter to follow", ("", *letters), rows)
    [(_, most)] = Counter(following for _, following in pairs).most_common(1)
    right = trainer.evaluate(batches)["accuracy"]
    title = "on the pairs trained on; in so small a world nothing is held out"
    report(args.out, "accuracy", right, most / len(pairs), "the same letter always", title=title)

    made = generate(lambda x, state: (model(x), state), [0], None, max_length=len(word) - 1)
    spelled = letters[0] + "".join(letters[i] for i in made.sequences.numpy()[:, 0])
    show("fed its own letters", ("from", "it spells"), [(letters[0], spelled)])
    draw(letters, tables.tables, history["train_loss"], args.out / "home.png")


def draw(letters: str, tables: dict[int, np.ndarray], losses: list[float], path: Path) -> None:
    """The tables of probabilities as pictures, and the loss."""
    figure, places = pyplot().subplots(1, len(tables) + 1, figsize=(2 * len(tables) + 3.4, 2.9), layout="constrained")
    for place, (moment, table) in zip(places, tables.items(), strict=False):
        image = place.imshow(table, cmap="viridis", vmin=0, vmax=1)
        place.set(title=f"after {moment} updates", xlabel="next letter")
        place.set_xticks(range(len(letters)), letters)
        place.set_yticks(range(len(letters)), letters)
    places[0].set_ylabel("letter")
    figure.colorbar(image, ax=list(places[:-1]), label="probability", shrink=0.8)
    places[-1].plot(range(1, len(losses) + 1), losses)
    places[-1].set(title="loss", xlabel="update", ylabel="nats per letter")
    figure.suptitle("Which letter follows each letter")
    save_picture(figure, path)


if __name__ == "__main__":
    main()
