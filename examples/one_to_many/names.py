"""First names from a language and a gender: a character model that is told at each step what kind of name is wanted.

The condition is a vector beside each letter's, so it needs no remembering. Held-out names are in training under no
condition; they are scored in bits per character, their end counted, beside bigrams: how often each letter follows each
other one in the names of a language and gender.
"""

import importlib
import math
from functools import partial

import numpy as np

import minigrad as mg
from examples.common import console, options, pyplot, report, save_picture, show
from minigrad.decoding import generate, sample
from minigrad.train import Batches, Cosine, Trainer

LANGUAGES = {
    "German": "de_DE", "Icelandic": "is_IS", "Irish": "ga_IE", "Italian": "it_IT",
    "Romanian": "ro_RO", "Spanish": "es_ES", "Swedish": "sv_SE", "Turkish": "tr_TR",
}  # fmt: skip
CONDITIONS = [(language, gender) for language in LANGUAGES for gender in ("female", "male")]


def read_names():
    """Pairs of a condition, by number, and a name of faker, a package of made-up people; in lower case, of one word."""
    pairs = []
    for condition, (language, gender) in enumerate(CONDITIONS):
        provider = importlib.import_module(f"faker.providers.person.{LANGUAGES[language]}").Provider
        names = {name.replace("İ", "i").lower() for name in getattr(provider, f"first_names_{gender}")}
        pairs += [(condition, name) for name in sorted(names) if name.isalpha()]
    return pairs


class Namer(mg.Module):
    def __init__(self, letters, cell, hidden_size, letter_size=32, condition_size=16):
        self.letter = mg.Embedding(letters, letter_size)
        self.condition = mg.Embedding(len(CONDITIONS), condition_size)
        self.layer = mg.recurrent(cell, letter_size + condition_size, hidden_size)
        self.drop = mg.Dropout(0.3)
        self.output = mg.Linear(self.layer.output_size, letters)

    def forward(self, letters, conditions, state=None, lengths=None):
        """From letters (T, B) and conditions (B,) to scores of the next letters (T, B, letters), and the state."""
        condition = self.condition(conditions)
        told = mg.broadcast_to(condition, (len(letters), *condition.shape))
        ys, state = self.layer(mg.concat([self.letter(letters), told], axis=-1), state, lengths=lengths)
        return self.output(self.drop(ys)), state


def step(model, batch):
    names, conditions = batch
    lengths = [length - 1 for length in batch.lengths[0]]
    scores, _ = model(names[:-1], conditions, lengths=lengths)
    bits = mg.loss("cross_entropy")(scores, names[1:], lengths=lengths) / math.log(2)
    return bits, {"bits": (bits.item() * sum(lengths), sum(lengths))}


def bigram_bits(training, test, letters):
    """Bits of each letter by counts of pairs in the condition, and 20 times the frequencies in all of them together."""
    counts = np.zeros((len(CONDITIONS), letters, letters))
    for codes, condition in training:
        np.add.at(counts[condition], (codes[:-1], codes[1:]), 1)
    together = counts.sum(axis=0) + 1
    counts += 20 * together / together.sum(axis=-1, keepdims=True)
    bits = -np.log2(counts / counts.sum(axis=-1, keepdims=True))
    return np.concatenate([bits[condition][codes[:-1], codes[1:]] for codes, condition in test])


def write_names(model, letters, condition, count, temperature):
    """Names drawn letter by letter."""

    def next_letter(last, state):
        scores, state = model(mg.expand_dims(last, 0), wanted, state)
        return scores[0], state

    start, wanted = mg.zeros(count, dtype="int64"), mg.full(count, condition, dtype="int64")
    made = generate(next_letter, start, None, max_length=20, end=0, choose=partial(sample, temperature=temperature))
    return ["".join(letters[letter] for letter in codes) for codes in made.sequences.numpy().T.tolist()]


def main():
    small = {"epochs": 6, "hidden_size": 64}
    args = options(__doc__, epochs=16, cell="lstm", hidden_size=192, learning_rate=4e-3, temperature=0.8, small=small)
    pairs = read_names()
    letters = ["", *sorted(set("".join(name for _, name in pairs)))]  # class 0 begins and ends a name
    order = np.random.default_rng(0).permutation(sorted({name for _, name in pairs}))
    validated, unseen, known = map(set, np.split(order, [len(order) // 10, len(order) // 5]))
    coded = [(name, ([0, *map(letters.index, name), 0], condition)) for condition, name in pairs]
    training, validation, test = ([pair for name, pair in coded if name in part] for part in (known, validated, unseen))

    model = Namer(len(letters), args.cell, args.hidden_size)
    data = Batches(training, 64)
    optimizer = mg.optimizer("adam", model.parameters(), lr=args.learning_rate)
    trainer = Trainer(model, optimizer, step, clip_norm=1.0, schedule=Cosine(args.epochs * len(data)))
    trainer.fit(data, Batches(validation, 500), epochs=args.epochs)

    model.eval()
    rows, new, ours, bigrams = [], [], [], []
    for condition, (language, gender) in enumerate(CONDITIONS):
        written = write_names(model, letters, condition, 100, args.temperature)
        fresh = [name for name in written if name not in known]
        new += fresh
        rows.append((language, gender, " ".join(name.title() for name in fresh[:5]), f"{len(fresh)} %"))
        of_condition = [name for name in test if name[1] == condition]
        ours.append(trainer.evaluate(Batches(of_condition, 500))["bits"])
        bigrams.append(bigram_bits(training, of_condition, len(letters)).mean())
    show("written names that are not in the training data", ("language", "gender", "names", "new"), rows)
    found = len(unseen.intersection(new))
    console.print(f"{len(new)} of {100 * len(rows)} written names are new, and {found} of the test's")
    draw_bars(ours, bigrams, args.out)
    bits, baseline = trainer.evaluate(Batches(test, 500))["bits"], bigram_bits(training, test, len(letters)).mean()
    report(args.out, "bits per character", bits, float(baseline), "bigrams", lower_is_better=True)


def draw_bars(ours, bigrams, out):
    figure, axes = pyplot().subplots(figsize=(7, 5.4), layout="constrained")
    places = np.arange(len(CONDITIONS))
    axes.barh(places - 0.2, ours, 0.4, label="this model")
    axes.barh(places + 0.2, bigrams, 0.4, label="bigrams")
    axes.set_yticks(places, [" ".join(condition) for condition in CONDITIONS])
    axes.set(xlabel="bits per character of held-out names, their end counted", ylim=(len(places) - 0.5, -0.5))
    figure.legend(loc="outside upper center", ncols=2)
    save_picture(figure, out / "names.png")


if __name__ == "__main__":
    main()
