"""The rest of a line of Python's manual, from how it begins.

data      the manual that CPython brings, as integers: 80 % to train on, 10 % to choose the epoch by, 10 % held out
model     a character -> vector (embedding) -> recurrent layer -> scores of the next character (linear)
training  streams of text side by side, truncated BPTT over 50 characters with the state carried along
output    bits per character on held-out text; ends of lines by beam search and by sampling
"""

from __future__ import annotations

import importlib
import math
from collections import Counter
from functools import partial
from pathlib import Path

import minigrad as mg
from examples.common import options, pyplot, report, save_picture, show
from minigrad.decoding import beam_search, generate, sample
from minigrad.demo import CharacterModel
from minigrad.train import Cosine, Streams, Trainer, Truncated

BEGINNINGS = ("The following exa", "If the object is not ", "Changed in ver", "raises a TypeE", "def __", "import ")


def streams(codes: list[int], count: int, window: int = 50) -> Streams:
    """The text cut into `count` stretches, side by side; the target of each character is the next one."""
    values, steps = mg.tensor(codes), (len(codes) - 1) // count
    xs, ys = (values[first : first + count * steps].reshape(count, steps).T for first in (0, 1))
    return Streams(xs, ys, k1=window)


def trigram_bits(train: str, text: str) -> float:
    """Bits per character of a trigram model, smoothed by shorter ones (Witten and Bell 1991).

    p(c | h) = (count(h c) + kinds(h) p(c | h without its first)) / (count(h) + kinds(h))
    """
    grams = [Counter(train[i : i + n] for i in range(len(train) - n + 1)) for n in (1, 2, 3)]
    counts = [Counter(gram[:-1] for gram in found.elements()) for found in grams]
    kinds = [Counter(gram[:-1] for gram in found) for found in grams]
    total, alphabet = 0.0, len(set(train + text))
    for i in range(2, len(text)):
        p = 1 / alphabet
        for n in (0, 1, 2):
            if count := counts[n][h := text[i - n : i]]:
                p = (grams[n][h + text[i]] + kinds[n][h] * p) / (count + kinds[n][h])
        total -= math.log2(p)
    return total / (len(text) - 2)


def completions(model: CharacterModel, characters: list[str], beginning: str) -> list[str]:
    """The likeliest end of the line that beam search finds, and two ends drawn at random."""
    codes, end = [characters.index(character) for character in "\n\n" + beginning], characters.index("\n")

    def step(x, state):
        scores, state = model(mg.expand_dims(x, 0), state)
        return scores[0], state

    def read(count: int):
        with mg.no_grad():
            return model(mg.tensor([[code] * count for code in codes[:-1]]))[1]

    best = beam_search(step, codes[-1:], read(1), width=8, max_length=60, end=end).sequences[:, 0, :1]
    choose = partial(sample, temperature=0.7)
    drawn = generate(step, codes[-1:] * 2, read(2), max_length=60, end=end, choose=choose).sequences
    return ["".join(characters[code] for code in line).split("\n")[0] for line in (*best.T.numpy(), *drawn.T.numpy())]


def draw(model: CharacterModel, history, baseline: float, characters: list[str], codes: list[int], path: Path) -> None:
    """Bits per character over the epochs, and those of each character of a held-out passage."""
    with mg.no_grad():
        scores, _ = model(mg.tensor(codes[:-1])[:, None])
        bits = mg.loss("cross_entropy", reduction="none")(scores[:, 0], codes[1:]).numpy() / math.log(2)
    figure, (curve, passage) = pyplot().subplots(2, figsize=(9, 7), layout="constrained")
    epochs = range(1, len(history.records) + 1)
    for name, label in (("train_loss", "training"), ("validation_loss", "validation")):
        curve.plot(epochs, [loss / math.log(2) for loss in history[name]], "o-", label=label)
    curve.axhline(baseline, color="0.4", linestyle=":", label="trigrams, held out")
    curve.set(xlabel="epoch", ylabel="bits per character", xticks=epochs, title="Python's manual, by the character")
    curve.legend()
    row = column = 0
    for code, cost in zip(codes[1:], bits, strict=True):
        if characters[code] == "\n" or column == 76:
            row, column = row + 1, 0
        if characters[code] != "\n" and row < 14:
            colour = (1.0, 1 - min(cost, 8) / 10, 1 - min(cost, 8) / 10)
            passage.add_patch(pyplot().Rectangle((column, row), 1, 1, facecolor=colour))
            passage.text(column + 0.5, row + 0.5, characters[code], family="monospace", ha="center", va="center")
            column += 1
    passage.set(xlim=(0, 76), ylim=(14, 0), xticks=[], yticks=[], title="Held-out text: the redder, the less expected")
    save_picture(figure, path)


def main() -> None:
    small = {"epochs": 3, "hidden_size": 96, "streams": 8}
    args = options(__doc__, epochs=6, cell="lstm", hidden_size=192, learning_rate=1e-2, streams=32, small=small)
    text = "\n".join(importlib.import_module("pydoc_data.topics").topics.values())
    if args.small:
        text = text[: len(text) // 4]
    characters = sorted(set(text))
    codes = [characters.index(character) for character in text]
    first, second = len(codes) * 8 // 10, len(codes) * 9 // 10
    parts = codes[:first], codes[first:second], codes[second:]
    data, validation, held_out = (streams(part, args.streams) for part in parts)

    model = CharacterModel(len(characters), args.cell, args.hidden_size, num_layers=1)
    optimizer = mg.optimizer("adam", model.parameters(), lr=args.learning_rate)
    schedule = Cosine(args.epochs * len(data), floor=0.05)
    trainer = Trainer(model, optimizer, Truncated(mg.loss("cross_entropy")), clip_norm=1.0, schedule=schedule)
    history = trainer.fit(data, validation, epochs=args.epochs, restore_best=True)

    bits, baseline = trainer.evaluate(held_out)["loss"] / math.log(2), trigram_bits(text[:first], text[second:])
    model.eval()
    rows = [(beginning, *completions(model, characters, beginning)) for beginning in BEGINNINGS]
    show("ends of lines", ("beginning", "beam search", "drawn", "drawn again"), rows)
    draw(model, history, baseline, characters, codes[second : second + 1400], args.out / "autocomplete.png")
    report(args.out, "bits per character", bits, baseline, "trigrams, smoothed", lower_is_better=True)


if __name__ == "__main__":
    main()
