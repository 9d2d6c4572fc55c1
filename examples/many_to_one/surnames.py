"""Many to one: a surname read letter by letter; after the last letter the network says from which language it is.

R -> o -> s -> s -> i -> 10 scores, of which that for Italian should be the highest
"""

import ast
from collections import Counter
from pathlib import Path

import numpy as np

import minigrad as mg
from examples.common import accuracy, console, data_file, options, pyplot, report, save_picture, show
from minigrad.train import Batch, Batches, Trainer

LOCALES = {"Croatian": "hr_HR", "Dutch": "nl_NL", "English": "en_GB", "Estonian": "et_EE", "Finnish": "fi_FI"}
LOCALES |= {"French": "fr_FR", "German": "de_DE", "Italian": "it_IT", "Slovak": "sk_SK", "Spanish": "es_ES"}
LANGUAGES = list(LOCALES)
EACH = 340
TABLES = {"last_names", "last_names_male", "last_names_est"}  # not the Slovak women's, which all end in -á


def read_surnames(locale: str) -> set[str]:
    """A locale's surnames, from the source of faker's tables."""
    path = data_file("faker", f"providers/person/{locale}/__init__.py")
    assigned = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Assign)]
    tables = [node.value for node in assigned if node.targets[0].id in TABLES]
    found = [node.value for table in tables for node in ast.walk(table) if isinstance(node, ast.Constant)]
    return {name for name in found if isinstance(name, str)}


def choose_surnames() -> dict[str, list[tuple[str, int]]]:
    """340 surnames of each language, in three fixed parts. Names of several languages, such as Martin, are left out."""
    surnames = [read_surnames(locale) for locale in LOCALES.values()]
    languages_of = Counter(name for names in surnames for name in names)
    parts: dict[str, list[tuple[str, int]]] = {"train": [], "validation": [], "test": []}
    for language, names in enumerate(surnames):
        own = sorted(name for name in names if languages_of[name] == 1)
        chosen = [(own[i], language) for i in np.random.default_rng(language).permutation(len(own))[:EACH]]
        parts["train"] += chosen[:240]
        parts["validation"] += chosen[240:270]
        parts["test"] += chosen[270:]
    return parts


class Classifier(mg.Module):
    """From letters (T, B) to scores (B, 10), read off the cell's output after each name's last letter."""

    def __init__(self, letters: int, cell: str, hidden_size: int) -> None:
        self.embedding = mg.Embedding(letters, 32)
        self.layer = mg.recurrent(cell, 32, hidden_size)
        self.dropout, self.output = mg.Dropout(0.4), mg.Linear(self.layer.output_size, len(LANGUAGES))

    def forward(self, x: mg.Tensor, lengths: list[int]) -> mg.Tensor:
        ys, _ = self.layer(self.dropout(self.embedding(x)), lengths=lengths)
        return self.output(self.dropout(mg.last_outputs(ys, lengths)))


def step(model: Classifier, batch: Batch) -> tuple[mg.Tensor, dict[str, mg.Tensor]]:
    """The loss on a batch, and the share of names whose highest score is the right one."""
    names, languages = batch
    scores = model(names, batch.lengths[0])
    return mg.loss("cross_entropy")(scores, languages), {"accuracy": accuracy(scores, languages)}


def main() -> None:
    args = options(__doc__, epochs=40, cell="gru", hidden_size=128, small={"epochs": 8, "hidden_size": 48})
    surnames = choose_surnames()
    letters = sorted({letter for name, _ in surnames["train"] for letter in name})
    code = {letter: number for number, letter in enumerate(letters, 1)}  # 0 stands for letters never seen in training
    data = {
        part: [([code.get(letter, 0) for letter in name], language) for name, language in examples]
        for part, examples in surnames.items()
    }
    train, validation, test = (Batches(data[part], 64) for part in ("train", "validation", "test"))
    model = Classifier(len(letters) + 1, args.cell, args.hidden_size)
    trainer = Trainer(model, mg.optimizer("adam", model.parameters(), lr=3e-3), step, clip_norm=1.0)
    history = trainer.fit(train, validation, epochs=args.epochs, patience=8)
    console.print(f"{len(history.records)} epochs, of which number {history.best_epoch} was best on validation data")
    right = trainer.evaluate(test)["accuracy"]
    report(args.out, "accuracy", right, 1 / len(LANGUAGES), "always one language (all are equally frequent)")

    batch = next(Batches(data["test"], len(data["test"]), shuffle=False, bucket=False).batches())
    model.eval()
    with mg.no_grad():
        probabilities = mg.softmax(model(batch[0], batch.lengths[0])).numpy()
    guesses, truth = probabilities.argmax(axis=1), batch[1].numpy()
    samples = []
    for i in range(0, len(guesses), EACH // 10):
        name, language = surnames["test"][i]
        samples.append((name, LANGUAGES[language], LANGUAGES[guesses[i]], f"{probabilities[i].max():.2f}"))
    show("some held-out surnames", ("surname", "language", "the model's", "its probability"), samples)
    counts = np.zeros((len(LANGUAGES), len(LANGUAGES)), int)
    np.add.at(counts, (truth, guesses), 1)
    draw(counts, args.out / "surnames.png")


def draw(counts: np.ndarray, path: Path) -> None:
    """The confusion matrix: a row for each language, a column for each guess."""
    figure, axes = pyplot().subplots(figsize=(6.5, 6), layout="constrained")
    axes.imshow(counts, cmap="Blues")
    for (row, column), count in np.ndenumerate(counts):
        axes.text(column, row, count or "", ha="center", va="center", color="white" if row == column else "black")
    axes.set(xlabel="language that the model says", ylabel="language of the surname")
    axes.set(title="Held-out surnames", xticks=range(len(counts)), yticks=range(len(counts)))
    axes.set_xticklabels(LANGUAGES, rotation=45, ha="right")
    axes.set_yticklabels(LANGUAGES)
    save_picture(figure, path)


if __name__ == "__main__":
    main()
