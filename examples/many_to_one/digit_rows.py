"""Many to one: an image read row by row, 8 steps of 8 pixels; after the last row the network says which digit it was.

    row 1 -> row 2 -> ... -> row 8 -> 10 scores

The network never sees the image at once: what the rows above looked like must be in its state.
"""

from pathlib import Path

import numpy as np

import minigrad as mg
from examples.common import console, data_file, options, pyplot, report, save_picture, show
from minigrad.train import Batch, Batches, Trainer


def read_digits() -> dict[str, list[tuple[np.ndarray, int]]]:
    """scikit-learn's 1,797 images of 8 x 8 pixels in 0..1, each with its digit, in three fixed parts."""
    table = np.loadtxt(data_file("sklearn", "datasets/data/digits.csv.gz"), delimiter=",")
    images = (table[:, :-1] / 16).reshape(-1, 8, 8).astype("float32")  # (steps, pixels)
    examples = list(zip(images, table[:, -1].astype(int).tolist(), strict=True))
    order = np.random.default_rng(0).permutation(len(examples))
    parts = {"train": order[:1257], "validation": order[1257:1437], "test": order[1437:]}
    return {name: [examples[i] for i in indices] for name, indices in parts.items()}


class Reader(mg.Module):
    """From rows (T, B, 8) to scores (T, B, 10) after each of them; only the last are trained."""

    def __init__(self, cell: str, hidden_size: int) -> None:
        self.layer = mg.Recurrent(mg.cell(cell, 8, hidden_size))
        size = getattr(self.layer.cell, "output_size", hidden_size)  # which few cells have apart from hidden_size
        self.dropout, self.output = mg.Dropout(0.2), mg.Linear(size, 10)

    def forward(self, rows: mg.Tensor) -> mg.Tensor:
        ys, _ = self.layer(rows)
        return self.output(self.dropout(ys))


def step(model: Reader, batch: Batch) -> tuple[mg.Tensor, dict[str, mg.Tensor]]:
    """The loss after the last row, and the share of images whose highest score is the right one."""
    rows, digits = batch
    scores = model(rows)[-1]
    right = mg.equal(mg.argmax(scores, axis=-1), digits)
    return mg.loss("cross_entropy")(scores, digits), {"accuracy": mg.mean(right.astype("float32"))}


def main() -> None:
    chosen = options(__doc__.splitlines()[0], epochs=60, cell="gru")
    data = read_digits()
    model = Reader(chosen.cell, 32 if chosen.small else 96)
    trainer = Trainer(model, mg.optimizer("adam", model.parameters(), lr=4e-3), step, clip_norm=1.0)
    epochs = min(chosen.epochs, 10) if chosen.small else chosen.epochs
    history = trainer.fit(Batches(data["train"], 32), Batches(data["validation"], 180), epochs=epochs, patience=12)
    console.print(f"{len(history.records)} epochs, of which number {history.best_epoch} was best on validation data")

    counts = np.bincount([digit for _, digit in data["train"]])
    baseline = np.mean([digit == counts.argmax() for _, digit in data["test"]])
    accuracy = trainer.evaluate(Batches(data["test"], 360))["accuracy"]
    report(chosen.out, "accuracy", accuracy, float(baseline), f"always {counts.argmax()}, the most frequent")

    images, digits = np.stack([image for image, _ in data["test"]]), np.array([d for _, d in data["test"]])
    model.eval()
    with mg.no_grad():
        probabilities = mg.softmax(model(mg.tensor(images.swapaxes(0, 1)))).numpy()  # (8, B, 10)
    guesses = probabilities.argmax(axis=2)
    readings = [(digits[i], *guesses[:, i]) for i in range(8)]
    show(
        "the first held-out images: the highest score after each row",
        ("digit", *(f"row {t}" for t in range(1, 9))),
        readings,
    )
    draw(images[:6], digits[:6], probabilities[:, :6], chosen.out / "digit_rows.png")


def draw(images: np.ndarray, digits: np.ndarray, probabilities: np.ndarray, path: Path) -> None:
    """Images, and beside each of their rows the probabilities of the ten digits after it."""
    figure, places = pyplot().subplots(2, len(digits), figsize=(2 * len(digits), 4.4), layout="constrained")
    for i, digit in enumerate(digits):
        places[0, i].imshow(images[i], cmap="gray_r")
        places[0, i].set(title=f"a {digit}", xticks=[], yticks=[])
        places[1, i].imshow(probabilities[:, i], cmap="viridis", vmin=0, vmax=1)
        places[1, i].set(xticks=range(10), yticks=[], xlabel="digit")
    places[1, 0].set(yticks=range(8), yticklabels=range(1, 9), ylabel="after row")
    figure.suptitle("What it would say after each row; it was taught to answer after the last")
    save_picture(figure, path)


if __name__ == "__main__":
    main()
