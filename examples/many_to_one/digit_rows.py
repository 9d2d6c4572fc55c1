"""Many to one: an image read row by row, 8 steps of 8 pixels; after the last row the network says which digit it was.

    row 1 -> row 2 -> ... -> row 8 -> 10 scores

The network never sees the image at once: what the rows above looked like must be in its state.
"""

from pathlib import Path

import numpy as np

import minigrad as mg
from examples.common import accuracy, console, options, pyplot, read_digits, report, save_picture, show
from minigrad.train import Batch, Batches, Trainer


class Reader(mg.Module):
    """From rows (T, B, 8) to scores (T, B, 10) after each of them; only the last are trained."""

    def __init__(self, cell: str, hidden_size: int) -> None:
        self.layer = mg.recurrent(cell, 8, hidden_size)
        self.dropout, self.output = mg.Dropout(0.2), mg.Linear(self.layer.output_size, 10)

    def forward(self, rows: mg.Tensor) -> mg.Tensor:
        ys, _ = self.layer(rows)
        return self.output(self.dropout(ys))


def step(model: Reader, batch: Batch) -> tuple[mg.Tensor, dict[str, mg.Tensor]]:
    """The loss after the last row, and the share of images whose highest score is the right one."""
    rows, digits = batch
    scores = model(rows)[-1]
    return mg.loss("cross_entropy")(scores, digits), {"accuracy": accuracy(scores, digits)}


def main() -> None:
    args = options(__doc__, epochs=60, cell="gru", hidden_size=96, small={"epochs": 10, "hidden_size": 32})
    parts = read_digits()
    data = {part: Batches(list(zip(*examples, strict=True)), 32) for part, examples in parts.items()}
    model = Reader(args.cell, args.hidden_size)
    trainer = Trainer(model, mg.optimizer("adam", model.parameters(), lr=4e-3), step, clip_norm=1.0)
    history = trainer.fit(data["train"], data["validation"], epochs=args.epochs, patience=12)
    console.print(f"{len(history.records)} epochs, of which number {history.best_epoch} was best on validation data")

    images, digits = parts["test"]
    usual = np.bincount(parts["train"][1]).argmax()
    right, baseline = trainer.evaluate(data["test"])["accuracy"], np.mean(digits == usual)
    report(args.out, "accuracy", right, float(baseline), f"always {usual}, the most frequent")

    model.eval()
    with mg.no_grad():
        probabilities = mg.softmax(model(mg.tensor(images.swapaxes(0, 1)))).numpy()  # (8, B, 10)
    rows = [(digits[i], *probabilities[:, i].argmax(axis=1)) for i in range(8)]
    columns = ("digit", *(f"row {t}" for t in range(1, 9)))
    show("the first held-out images: the highest score after each row", columns, rows)
    draw(images[:6], digits[:6], probabilities[:, :6], args.out / "digit_rows.png")


def draw(images: np.ndarray, digits: np.ndarray, probabilities: np.ndarray, path: Path) -> None:
    """Images, and beside each of their rows the probabilities of the ten digits after it."""
    figure, places = pyplot().subplots(2, len(digits), figsize=(2 * len(digits), 4.4), layout="constrained")
    for i, digit in enumerate(digits):
        places[0, i].imshow(images[i], cmap="gray_r")
        places[0, i].set(title=f"a {digit}", xticks=[], yticks=[])
        shades = places[1, i].imshow(probabilities[:, i], cmap="viridis", vmin=0, vmax=1)
        places[1, i].set(xticks=range(10), yticks=[], xlabel="digit")
    places[1, 0].set(yticks=range(8), yticklabels=range(1, 9), ylabel="after row")
    figure.colorbar(shades, ax=places[1, :].tolist(), label="probability")
    figure.suptitle("Held-out digits, and what the model says after each row, taught to answer after the last")
    save_picture(figure, path)


if __name__ == "__main__":
    main()
