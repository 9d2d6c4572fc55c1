"""What each character of a piece of Python source belongs to: a keyword, a name, a string, a comment, ...

data      modules of the standard library, tagged by `tokenize`, then cut every 128 characters, wherever that is
model     a character -> vector (embedding) -> recurrent layer in both directions -> a score for each tag (linear)
training  cross-entropy at every character; of ten modules eight to train on, one to choose the epoch by, one held out
output    the fraction of characters tagged right, and of pieces without a mistake
"""

from __future__ import annotations

import keyword
import sysconfig
import tokenize
from pathlib import Path

import numpy as np

import minigrad as mg
from examples.common import console, options, pyplot, report, save_picture, show
from minigrad.train import Batches, Cosine, Trainer

TAGS = ("space", "keyword", "name", "number", "string", "comment", "operator")
LETTERS, COLOURS = " Kn0s#+", ("w", "tab:red", "k", "tab:blue", "tab:green", "tab:gray", "tab:purple")
KINDS = {tokenize.NAME: 2, tokenize.NUMBER: 3, tokenize.COMMENT: 5, tokenize.OP: 6}
KINDS |= {kind: 4 for kind, name in tokenize.tok_name.items() if "STRING" in name}  # from Python 3.12 on several kinds
PIECE, CHARACTERS = 128, ["other", "\n", *map(chr, range(32, 127))]


class Tagger(mg.Module):
    """Scores of the tags of each character, by what comes before it and after."""

    def __init__(self, cell: str, hidden_size: int) -> None:
        self.embedding = mg.Embedding(len(CHARACTERS), 32)
        self.layer = mg.recurrent(cell, 32, hidden_size, bidirectional=True)
        self.output = mg.Linear(self.layer.output_size, len(TAGS))

    def forward(self, x):
        """From characters (T, B) to scores (T, B, tags)."""
        ys, _ = self.layer(self.embedding(x))
        return self.output(ys)


def step(model, batch):
    """Cross-entropy, and the fractions of characters and of whole pieces tagged right."""
    x, y = batch
    scores = model(x)
    right = mg.argmax(scores, axis=-1).numpy() == y.numpy()
    return mg.loss("cross_entropy")(scores, y), {"characters": right.mean(), "pieces": right.all(axis=0).mean()}


def pieces(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """A module cut every PIECE characters: the characters and their tags. What is left at the end is dropped."""
    with tokenize.open(path) as file:
        lines = file.readlines()
    starts = np.cumsum([0, 0, *map(len, lines)])  # tokenize counts lines from 1
    source, tags = "".join(lines), np.zeros(starts[-1], dtype="int64")
    for token in tokenize.generate_tokens(iter(lines).__next__):
        if token.type in KINDS:
            first, last = (starts[row] + column for row, column in (token.start, token.end))
            tags[first:last] = 1 if keyword.iskeyword(token.string) else KINDS[token.type]
    codes = np.array([CHARACTERS.index(c) if c in CHARACTERS else 0 for c in source])
    return [(codes[i : i + PIECE], tags[i : i + PIECE]) for i in range(0, len(source) - PIECE + 1, PIECE)]


def draw(examples: list, predictions: np.ndarray, path: Path) -> None:
    """Pieces of source in the colours of the tags predicted; mistakes are underlaid."""
    plt, row = pyplot(), 0
    figure, axes = plt.subplots(figsize=(9, 9.6), layout="constrained")
    for (codes, tags), predicted in zip(examples, predictions, strict=True):
        column = 0
        for code, tag, guess in zip(codes, tags, predicted, strict=True):
            if column == 80 or code == 1:
                row, column = row + 1, 0
            if tag != guess:
                axes.add_patch(plt.Rectangle((column, row), 1, 1, facecolor="gold"))
            if code > 1:
                axes.text(column, row + 0.8, CHARACTERS[code], family="monospace", fontsize=13, color=COLOURS[guess])
                column += 1
        row += 2
    handles = [plt.Line2D([], [], color=colour, linewidth=6) for colour in COLOURS[1:]]
    axes.legend(handles, TAGS[1:], ncols=6, loc="upper center", bbox_to_anchor=(0.5, 0))
    axes.set(xlim=(0, 80), ylim=(row, 0), xticks=[], yticks=[])
    axes.set_title("Pieces of held-out source in the colours of their tags; mistakes on gold")
    save_picture(figure, path)


def main() -> None:
    small = {"epochs": 2, "hidden_size": 48, "largest": 7_000}
    args = options(__doc__, epochs=4, cell="lstm", hidden_size=64, learning_rate=1e-2, largest=25_000, small=small)
    library = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    modules = [pieces(path) for path in library if path.stat().st_size <= args.largest]
    parts: list[list] = [[], [], []]
    for number, module in enumerate(modules):
        parts[{8: 1, 9: 2}.get(number % 10, 0)] += module
    data, validation, held_out = (Batches(part, 32) for part in parts)
    console.print(f"{len(modules)} modules: {', '.join(str(len(part)) for part in parts)} pieces")

    model = Tagger(args.cell, args.hidden_size)
    optimizer = mg.optimizer("adam", model.parameters(), lr=args.learning_rate)
    trainer = Trainer(model, optimizer, step, clip_norm=1.0, schedule=Cosine(args.epochs * len(data)))
    trainer.fit(data, validation, epochs=args.epochs, monitor="characters", mode="max", restore_best=True)

    measured = trainer.evaluate(held_out)
    counts = np.zeros((len(CHARACTERS), len(TAGS)))
    for codes, tags in parts[0]:
        np.add.at(counts, (codes, tags), 1)
    usual = np.array([counts.argmax(axis=1)[codes] == tags for codes, tags in parts[2]])
    console.print(f"pieces without a mistake: {measured['pieces']:.3f}; baseline: {usual.all(axis=1).mean():.3f}")

    model.eval()
    examples = parts[2][:: len(parts[2]) // 8][:8]
    with mg.no_grad():
        scores = model(mg.tensor([codes for codes, _ in examples]).T)
    predictions = mg.argmax(scores, axis=-1).numpy().T
    rows = []
    for (codes, tags), predicted in zip(examples[:4], predictions, strict=False):
        rows.append(("source", "".join(CHARACTERS[code] if code > 1 else "~" for code in codes[:80])))
        for by, line in (("tokenize", tags), ("model", predicted)):
            rows.append((by, "".join(LETTERS[tag] for tag in line[:80])))
    show("held out", ("", "~ end of line, K keyword, n name, 0 number, s string, # comment, + operator"), rows)
    draw(examples, predictions, args.out / "tagging.png")
    report(args.out, "characters right", measured["characters"], usual.mean().item(), "each one's most frequent tag")


if __name__ == "__main__":
    main()
