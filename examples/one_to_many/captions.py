"""A picture of a number in, its name in one of six languages out: an image encoder and a recurrent decoder.

Two handwritten digits side by side show a number from 0 to 99. The encoder makes one vector of the picture and of the
language asked for; the decoder gets it as its first input, and from then on the letters that it has written itself
(Vinyals et al. 2015, "Show and tell"). A caption counts only if every letter is right. The pictures of the held-out
numbers are made of handwritten digits that no training picture holds.
"""

from collections import Counter

import numpy as np
from num2words import num2words

import minigrad as mg
from examples.common import options, pyplot, read_digits, report, save_picture, show
from minigrad.decoding import generate
from minigrad.train import Batches, Cosine, Trainer

LANGUAGES = ("en", "de", "fr", "es", "fi", "tr")
NAMES = {(number, language): num2words(number, lang=language) for number in range(100) for language in LANGUAGES}
LETTERS = ["", *sorted(set("".join(NAMES.values())))]  # class 0 begins and ends a caption
CODES = {name: [0, *map(LETTERS.index, name), 0] for name in NAMES.values()}


class Captioner(mg.Module):
    def __init__(self, cell, hidden_size, letter_size=32):
        self.digit = mg.Sequential(mg.Linear(64, 64), mg.relu)  # the same weights for both digits
        self.language = mg.Embedding(len(LANGUAGES), 16)
        self.first = mg.Linear(2 * 64 + 16, letter_size)
        self.letter = mg.Embedding(len(LETTERS), letter_size)
        self.decoder = mg.recurrent(cell, letter_size, hidden_size)
        self.output = mg.Linear(self.decoder.output_size, len(LETTERS))

    def encode(self, pictures, languages):
        """Pictures (2, B, 64) and languages (B,) to the first input of the decoder (B, letter_size)."""
        left, right = self.digit(pictures)
        return self.first(mg.concat([left, right, self.language(languages)], axis=-1))

    def forward(self, pictures, languages, letters, lengths):
        """Scores of the next letter after each of the letters (T, B): (T, B, letters)."""
        first = mg.expand_dims(self.encode(pictures, languages), 0)
        ys, _ = self.decoder(mg.concat([first, self.letter(letters)]), lengths=[n + 1 for n in lengths])
        return self.output(ys[1:])

    def write(self, pictures, languages):
        """The likeliest captions, letter by letter."""
        _, state = self.decoder(mg.expand_dims(self.encode(pictures, languages), 0))

        def step(letters, state):
            ys, state = self.decoder(mg.expand_dims(self.letter(letters), 0), state)
            return self.output(ys[0]), state

        start = mg.zeros(len(languages), dtype="int64")
        made = generate(step, start, state, max_length=max(map(len, CODES.values())), end=0)
        return ["".join(LETTERS[letter] for letter in row) for row in made.sequences.numpy().T.tolist()]


def step(model, batch):
    pictures, languages, letters = batch
    lengths = [length - 1 for length in batch.lengths[2]]
    return mg.loss("cross_entropy")(model(pictures, languages, letters[:-1], lengths), letters[1:], lengths=lengths)


def pairs(images, digits, count, draw):
    """Random pairs of digits as (picture, language, letters), and the captions that are asked for."""
    chosen, languages = draw.integers(len(images), size=(count, 2)), draw.integers(len(LANGUAGES), size=count)
    numbers = digits[chosen] @ [10, 1]
    names = [NAMES[number, LANGUAGES[language]] for number, language in zip(numbers, languages, strict=True)]
    pictures = images.reshape(-1, 64)[chosen]
    return [(two, language, CODES[n]) for two, language, n in zip(pictures, languages, names, strict=True)], names


def main():
    small = {"epochs": 9, "hidden_size": 64, "learning_rate": 0.01, "pictures": 6000}
    args = options(__doc__, epochs=20, cell="lstm", hidden_size=128, learning_rate=4e-3, pictures=12000, small=small)
    draw, counts = np.random.default_rng(0), {"train": args.pictures, "validation": 1000, "test": 2000}
    if args.small:
        counts |= {"validation": 300, "test": 300}
    made = {part: pairs(*examples, counts[part], draw) for part, examples in read_digits().items()}
    (training, learned), (validation, _), (test, names) = made.values()

    model = Captioner(args.cell, args.hidden_size)
    optimizer = mg.optimizer("adam", model.parameters(), lr=args.learning_rate)
    data = Batches(training, 64)
    trainer = Trainer(model, optimizer, step, clip_norm=1.0, schedule=Cosine(args.epochs * len(data)))
    trainer.fit(data, Batches(validation, 500), epochs=args.epochs)

    rows = []  # of each held-out picture: its place, the language, what was asked for and what was written
    for batch in Batches(test, 500, bucket=False).batches():
        captions = model.write(batch[0], batch[1])
        rows += [
            (at, LANGUAGES[test[at][1]], names[at], ours) for at, ours in zip(batch.indices, captions, strict=True)
        ]
    right = {language: [ours == name for _, of, name, ours in rows if of == language] for language in LANGUAGES}
    show("exact captions", LANGUAGES, [[f"{np.mean(right[language]):.1%}" for language in LANGUAGES]])
    show("captions", ("language", "asked for", "written"), [row[1:] for row in rows[:8]])
    show("wrong captions", ("language", "asked for", "written"), [row[1:] for row in rows if row[2] != row[3]][:8])
    exact = np.mean([name == ours for _, _, name, ours in rows])
    commonest = Counter(learned).most_common(1)[0][0]
    report(args.out, "exact captions", float(exact), names.count(commonest) / len(names), f"always {commonest!r}")
    draw_captions([(test[at][0], language, ours, ours == name) for at, language, name, ours in rows[:12]], args.out)


def draw_captions(samples, out):
    figure, grid = pyplot().subplots(4, 3, figsize=(10, 8), layout="constrained")
    for axes, (digits, language, caption, right) in zip(grid.flat, samples, strict=True):
        axes.imshow(np.hstack([digit.reshape(8, 8) for digit in digits]), cmap="gray_r")
        axes.set_title(f"{language}: {caption}", color="black" if right else "tab:red")
        axes.set_axis_off()
    figure.suptitle("Pictures of held-out digits, and the captions written; wrong ones in red")
    save_picture(figure, out / "captions.png")


if __name__ == "__main__":
    main()
