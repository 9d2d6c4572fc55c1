"""The adding problem: two marked numbers in a long sequence. Gated networks learn it, a plain RNN does not.

Each step shows a random number from 0 to 1 and a mark that is 1 at two places, one in either half of the sequence, and
0 elsewhere. After the last step the network has to say the sum of the two marked numbers (Hochreiter and Schmidhuber
1997, section 5.4; in the form of Le, Jaitly and Hinton 2015, section 4.1). Always answering 1, the mean of that sum,
has a squared error of 1/6 = 0.167; a network that stays there has not found out what the marks mean.
"""

import numpy as np

import minigrad as mg
from examples.common import options, pyplot, report, save_picture, show
from minigrad.train import Batches, Trainer


class Adder(mg.Module):
    def __init__(self, cell, hidden_size):
        self.layer = mg.recurrent(cell, 2, hidden_size)
        self.output = mg.Linear(self.layer.output_size, 1)

    def forward(self, x):
        """From numbers and marks (T, B, 2) to a sum (B,)."""
        ys, _ = self.layer(x)
        return mg.squeeze(self.output(ys[-1]), -1)


def step(model, batch):
    x, sums = batch
    return mg.loss("mse")(model(x), sums)


def sequences(count, length, draw):
    """Examples ((T, 2), sum)."""
    numbers, marks = draw.random((count, length), "float32"), np.zeros((count, length), "float32")
    rows = np.arange(count)
    marks[rows, draw.integers(length // 2, size=count)] = 1
    marks[rows, draw.integers(length // 2, length, size=count)] = 1
    return list(zip(np.stack([numbers, marks], axis=-1), (numbers * marks).sum(axis=1), strict=True))


def main():
    sizes = {"epochs": 30, "length": 100, "hidden_size": 48, "sequences": 5000}
    small = {"epochs": 8, "length": 30, "hidden_size": 24, "sequences": 2000}
    args = options(__doc__, cells="rnn,lstm,gru", learning_rate=5e-3, **sizes, small=small)
    draw = np.random.default_rng(0)
    training, validation, test = (sequences(count, args.length, draw) for count in (args.sequences, 1000, 2000))

    curves, errors = {}, {}
    for cell in args.cells.split(","):
        mg.seed(args.seed)
        model = Adder(cell, args.hidden_size)
        trainer = Trainer(model, mg.optimizer("adam", model.parameters(), lr=args.learning_rate), step, clip_norm=1.0)
        history = trainer.fit(Batches(training, 50), Batches(validation, 500), epochs=args.epochs)
        curves[cell] = history["validation_loss"]
        errors[cell] = trainer.evaluate(Batches(test, 500))["loss"]
        batch = next(Batches(test, 5, shuffle=False).batches())
        with mg.no_grad():
            answers = model(batch[0]).numpy()
        rows = [(f"{sum_:.3f}", f"{answer:.3f}") for sum_, answer in zip(batch[1].numpy(), answers, strict=True)]
        show(f"{cell}: squared error {errors[cell]:.4f} on new sequences", ("sum", "answer"), rows)

    best = min(curves, key=lambda cell: curves[cell][-1])
    always_1 = float(np.mean([(total - 1) ** 2 for _, total in test]))
    report(args.out, f"mean squared error ({best})", errors[best], always_1, "always 1", lower_is_better=True)
    figure, axes = pyplot().subplots(figsize=(7, 4.2), layout="constrained")
    for cell, curve in curves.items():
        axes.plot(range(1, len(curve) + 1), curve, marker="o", markersize=3, label=cell)
    axes.axhline(always_1, color="gray", linestyle="--", linewidth=1, label="always 1")
    axes.axhline(0.01, color="gray", linestyle=":", linewidth=1, label="solved")
    axes.set(yscale="log", xlabel=f"epoch of {args.sequences} sequences", ylabel="squared error, validation")
    axes.set_title(f"The adding problem over {args.length} steps")
    axes.grid(alpha=0.3)
    axes.legend()
    save_picture(figure, args.out / "adding.png")


if __name__ == "__main__":
    main()
