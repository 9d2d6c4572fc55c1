"""One to one: a whole image in, its digit out. The network without time that recurrent ones compare themselves with.

    64 pixels -> hidden units -> 10 scores

`examples.many_to_one.digit_rows` reads the same images row by row.
"""

from pathlib import Path

import numpy as np

import minigrad as mg
from examples.common import accuracy, console, options, pyplot, read_digits, report, save_picture, show
from minigrad.train import Batch, Batches, Trainer


class Classifier(mg.Module):
    """From images (B, 64) to scores (B, 10)."""

    def __init__(self, hidden_size: int) -> None:
        self.hidden, self.dropout, self.output = mg.Linear(64, hidden_size), mg.Dropout(0.2), mg.Linear(hidden_size, 10)

    def forward(self, x: mg.Tensor) -> mg.Tensor:
        return self.output(self.dropout(mg.relu(self.hidden(x))))


def step(model: Classifier, batch: Batch) -> tuple[mg.Tensor, dict[str, mg.Tensor]]:
    """The loss on a batch, and the share of images whose highest score is the right one."""
    images, digits = batch
    scores = model(images)
    return mg.loss("cross_entropy")(scores, digits), {"accuracy": accuracy(scores, digits)}


def main() -> None:
    args = options(__doc__, epochs=60, hidden_size=128, small={"epochs": 15, "hidden_size": 32})
    parts = read_digits()
    data = {
        part: Batches(list(zip(images.reshape(-1, 64), digits, strict=True)), 32, fixed=[0])
        for part, (images, digits) in parts.items()
    }
    model = Classifier(args.hidden_size)
    trainer = Trainer(model, mg.optimizer("adam", model.parameters(), lr=2e-3), step)
    history = trainer.fit(data["train"], data["validation"], epochs=args.epochs, patience=10)
    console.print(f"{len(history.records)} epochs, of which number {history.best_epoch} was best on validation data")

    images, digits = parts["test"]
    usual = np.bincount(parts["train"][1]).argmax()
    right, baseline = trainer.evaluate(data["test"])["accuracy"], np.mean(digits == usual)
    report(args.out, "accuracy", right, float(baseline), f"always {usual}, the most frequent")

    model.eval()
    with mg.no_grad():
        probabilities = mg.softmax(model(mg.tensor(images.reshape(-1, 64)))).numpy()
    guesses = probabilities.argmax(axis=1)
    sample = [(digits[i], guesses[i], f"{probabilities[i].max():.3f}") for i in range(8)]
    show("the first held-out images", ("digit", "the model's", "its probability"), sample)
    draw(images, digits, guesses, probabilities, args.out / "digits.png")


def draw(images: np.ndarray, digits: np.ndarray, guesses: np.ndarray, probabilities: np.ndarray, path: Path) -> None:
    """The held-out images of which the model is least sure, each with its digit and the model's."""
    figure, places = pyplot().subplots(3, 8, figsize=(9, 4.4), layout="constrained")
    for place, i in zip(places.flat, probabilities.max(axis=1).argsort(), strict=False):
        place.imshow(images[i], cmap="gray_r")
        place.set_title(f"{digits[i]}, read {guesses[i]}", color="black" if digits[i] == guesses[i] else "tab:red")
        place.axis("off")
    figure.suptitle("The held-out digits of which the model is least sure; misread ones in red")
    save_picture(figure, path)


if __name__ == "__main__":
    main()
