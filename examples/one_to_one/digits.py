"""One to one: a whole image in, its digit out. The network without time that recurrent ones compare themselves with.

    64 pixels -> hidden units -> 10 scores

`examples.many_to_one.digit_rows` reads the same images row by row.
"""

from pathlib import Path

import numpy as np

import minigrad as mg
from examples.common import console, data_file, options, pyplot, report, save_picture, show
from minigrad.train import Batch, Batches, Trainer


def read_digits() -> dict[str, list[tuple[np.ndarray, int]]]:
    """scikit-learn's 1,797 images of 8 x 8 pixels in 0..1, each with its digit, in three fixed parts."""
    table = np.loadtxt(data_file("sklearn", "datasets/data/digits.csv.gz"), delimiter=",")
    images = (table[:, :-1] / 16).reshape(-1, 1, 64).astype("float32")  # a sequence of one step
    examples = list(zip(images, table[:, -1].astype(int).tolist(), strict=True))
    order = np.random.default_rng(0).permutation(len(examples))
    parts = {"train": order[:1257], "validation": order[1257:1437], "test": order[1437:]}
    return {name: [examples[i] for i in indices] for name, indices in parts.items()}


class Classifier(mg.Module):
    """From images (B, 64) to scores (B, 10)."""

    def __init__(self, hidden_size: int) -> None:
        self.hidden, self.dropout, self.output = mg.Linear(64, hidden_size), mg.Dropout(0.2), mg.Linear(hidden_size, 10)

    def forward(self, x: mg.Tensor) -> mg.Tensor:
        return self.output(self.dropout(mg.relu(self.hidden(x))))


def step(model: Classifier, batch: Batch) -> tuple[mg.Tensor, dict[str, mg.Tensor]]:
    """The loss on a batch, and the share of images whose highest score is the right one."""
    images, digits = batch
    scores = model(images[0])
    right = mg.equal(mg.argmax(scores, axis=-1), digits)
    return mg.loss("cross_entropy")(scores, digits), {"accuracy": mg.mean(right.astype("float32"))}


def main() -> None:
    chosen = options(__doc__.splitlines()[0], epochs=60)
    data = read_digits()
    model = Classifier(32 if chosen.small else 128)
    trainer = Trainer(model, mg.optimizer("adam", model.parameters(), lr=2e-3), step)
    epochs = min(chosen.epochs, 15) if chosen.small else chosen.epochs
    history = trainer.fit(Batches(data["train"], 32), Batches(data["validation"], 180), epochs=epochs, patience=10)
    console.print(f"{len(history.records)} epochs, of which number {history.best_epoch} was best on validation data")

    counts = np.bincount([digit for _, digit in data["train"]])
    baseline = np.mean([digit == counts.argmax() for _, digit in data["test"]])
    accuracy = trainer.evaluate(Batches(data["test"], 360))["accuracy"]
    report(chosen.out, "accuracy", accuracy, float(baseline), f"always {counts.argmax()}, the most frequent")

    images, digits = np.concatenate([image for image, _ in data["test"]]), np.array([d for _, d in data["test"]])
    model.eval()
    with mg.no_grad():
        probabilities = mg.softmax(model(mg.tensor(images))).numpy()
    guesses = probabilities.argmax(axis=1)
    sample = [(digits[i], guesses[i], f"{probabilities[i].max():.3f}") for i in range(8)]
    show("the first held-out images", ("digit", "the model's", "its probability"), sample)
    draw(images, digits, guesses, probabilities, chosen.out / "digits.png")


def draw(images: np.ndarray, digits: np.ndarray, guesses: np.ndarray, probabilities: np.ndarray, path: Path) -> None:
    """The held-out images of which the model is least sure, each with its digit and the model's."""
    figure, places = pyplot().subplots(3, 8, figsize=(9, 4.2), layout="constrained")
    for place, i in zip(places.flat, probabilities.max(axis=1).argsort(), strict=False):
        place.imshow(images[i].reshape(8, 8), cmap="gray_r")
        place.set_title(f"{digits[i]}, read {guesses[i]}", color="black" if digits[i] == guesses[i] else "tab:red")
        place.axis("off")
    figure.suptitle("Of these the model is least sure")
    save_picture(figure, path)


if __name__ == "__main__":
    main()
