"""How much of the gradient is left k steps back in an RNN, an LSTM and a GRU, before training and after.

What a network learns about a step k before its answer has to come back through |d y_T / d h_{T-k}|, which
`mg.diagnose.gradient_flow` measures; here on the adding problem of `adding.py`, with sequences not trained on. In a
plain RNN each step back multiplies by much the same factor, and little is left (Hochreiter 1991; Bengio, Simard and
Frasconi 1994). A gate can learn to be open, and then the gradient passes as it is.
"""

import numpy as np

import minigrad as mg
from examples.common import options, pyplot, report, save_picture, show
from examples.why_gates.adding import Adder, sequences, step
from minigrad.diagnose import gradient_flow
from minigrad.train import Batches, Trainer


def shares(model, examples):
    """|d y_T / d h_{T-k}| for k = 1 to T, as a share of that for k = 1: the mean over sequences."""
    (batch,) = Batches(examples, len(examples), shuffle=False).batches()
    flow = gradient_flow(model.layer, batch[0], loss=lambda h: mg.sum(model.output(h)))
    norms = flow.norms.mean(axis=1)
    return norms / norms[0]


def main():
    sizes = {"epochs": 20, "length": 60, "hidden_size": 48, "sequences": 5000}
    small = {"length": 20, "hidden_size": 24, "sequences": 2000}
    args = options(__doc__, cells="rnn,lstm,gru", learning_rate=5e-3, **sizes, small=small)
    draw = np.random.default_rng(0)
    training, validation, test = (sequences(count, args.length, draw) for count in (args.sequences, 1000, 200))
    lag = args.length - 10

    before, after, rows = {}, {}, []
    for cell in args.cells.split(","):
        mg.seed(args.seed)
        model = Adder(cell, args.hidden_size)
        trainer = Trainer(model, mg.optimizer("adam", model.parameters(), lr=args.learning_rate), step, clip_norm=1.0)
        before[cell] = shares(model, test)
        trainer.fit(Batches(training, 50), Batches(validation, 500), epochs=args.epochs)
        after[cell] = shares(model, test)
        error = trainer.evaluate(Batches(test, 100))["loss"]
        rows.append((cell, f"{before[cell][lag - 1]:.2g}", f"{after[cell][lag - 1]:.2g}", f"{error:.4f}"))
    show(f"share of the gradient left {lag} steps back", ("cell", "before", "after training", "squared error"), rows)

    plain, *gated = after
    worst = min(gated, key=lambda cell: after[cell][lag - 1])
    metric = f"share of the gradient left {lag} steps back ({worst})"
    report(args.out, metric, float(after[worst][lag - 1]), float(after[plain][lag - 1]), f"{plain}, trained alike")
    figure, (left, right) = pyplot().subplots(1, 2, figsize=(10, 4.2), sharey=True, layout="constrained")
    for axes, title, found in ((left, "before training", before), (right, "after training", after)):
        for cell, share in found.items():
            axes.plot(range(1, len(share) + 1), share, label=cell)
        axes.set(yscale="log", xlabel="lag k in steps", title=title)
        axes.grid(alpha=0.3)
        axes.legend()
    left.set_ylabel("|d y_T / d h_{T-k}|, share of that for k = 1")
    figure.suptitle("How much of the gradient is left k steps back, on held-out sequences of the adding problem")
    save_picture(figure, args.out / "gradient_flow.png")


if __name__ == "__main__":
    main()
