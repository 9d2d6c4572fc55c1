"""Next year's number of sunspots, from all the years before.

data      309 yearly numbers; their square roots, so that high cycles vary no more than low ones, in a unit of the
          training part
model     a year's value -> recurrent layer -> the change to the next year's (linear)
training  on windows of 55 years up to 1919, of which the first 22 only let the state find its place in the cycle;
          each window is scaled and blurred at random, as cycles to come may be higher or lower than any before
output    the error of one-year forecasts for 1955-2008, and a forecast of all these years at once, fed with itself
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

import minigrad as mg
from examples.common import options, pyplot, report, save_picture, show
from minigrad.train import Batches, Cosine, Trainer

TRAINING_UNTIL, VALIDATION_UNTIL = 1919, 1954
WINDOW, SETTLING = 55, 22


class Forecaster(mg.Module):
    """From each year's value to a guess of the next one's: the same, and a change that the layer has learnt."""

    def __init__(self, cell: str, hidden_size: int) -> None:
        self.layer = mg.recurrent(cell, 1, hidden_size)
        self.output = mg.Linear(self.layer.output_size, 1)

    def forward(self, x, state=None):
        """From values (T, B, 1) to guesses of the values a step later (T, B, 1), and the state."""
        ys, state = self.layer(x, state)
        return x + self.output(ys), state


def step(model, batch):
    """Mean squared error, once the state has settled."""
    x, y = batch
    if model.training:
        scale = mg.uniform(shape=(1, batch.size, 1), low=0.5, high=1.5)
        x, y = x * scale + 0.1 * mg.normal(shape=x.shape), y * scale
    guesses, _ = model(x)
    return mg.loss("mse")(guesses[SETTLING:], y[SETTLING:])


def windows(values: np.ndarray) -> list[tuple]:
    """All stretches of WINDOW + 1 values, as inputs and, a year later, as targets."""
    stretches = np.lib.stride_tricks.sliding_window_view(values, WINDOW + 1)
    return [(stretch[:-1, None], stretch[1:, None]) for stretch in stretches]


def rmse(guesses: np.ndarray, truth: np.ndarray) -> float:
    return float(np.sqrt(np.mean((guesses - truth) ** 2)))


def draw(years: np.ndarray, numbers: np.ndarray, one_step: np.ndarray, free: np.ndarray, path: Path) -> None:
    """The numbers since 1900, and the forecasts."""
    figure, axes = pyplot().subplots(figsize=(9, 4.2), layout="constrained")
    later, held_out = years >= 1900, years[-len(free) :]
    axes.plot(years[later], numbers[later], color="0.3", marker=".", linewidth=1, label="observed")
    axes.plot(held_out, one_step, color="tab:blue", label="forecast one year ahead")
    axes.plot(held_out, free, color="tab:orange", linestyle="--", label=f"forecast made in {held_out[0] - 1}")
    axes.axvspan(TRAINING_UNTIL + 0.5, VALIDATION_UNTIL + 0.5, color="0.92", label="validation")
    axes.set(xlabel="year", ylabel="sunspot number", title="Yearly sunspots: held out since 1955", ylim=(0, 270))
    axes.legend(loc="upper left", ncols=2)
    save_picture(figure, path)


def main() -> None:
    args = options(__doc__, epochs=60, cell="gru", hidden_size=32, learning_rate=3e-3, small={"epochs": 30})
    with (Path(__file__).parent / "sunspots.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    years, numbers = (np.array([float(row[name]) for row in rows]) for name in ("year", "number"))
    years = years.astype(int)
    validation, test = (int(np.searchsorted(years, last)) + 1 for last in (TRAINING_UNTIL, VALIDATION_UNTIL))

    unit = np.sqrt(numbers[:validation]).std()
    values = (np.sqrt(numbers) / unit).astype("float32")

    def numbers_of(guesses: mg.Tensor) -> np.ndarray:
        return np.maximum(guesses.numpy().ravel() * unit, 0) ** 2

    model = Forecaster(args.cell, args.hidden_size)
    data, held_back = Batches(windows(values[:validation]), 16), Batches(windows(values[validation - 23 : test]), 16)
    optimizer = mg.optimizer("adam", model.parameters(), lr=args.learning_rate)
    trainer = Trainer(model, optimizer, step, clip_norm=1.0, schedule=Cosine(args.epochs * len(data)))
    trainer.fit(data, held_back, epochs=args.epochs, restore_best=True)

    model.eval()
    with mg.no_grad():
        guesses, _ = model(mg.tensor(values[:-1, None, None]))
        one_step = numbers_of(guesses[test - 1 :])
        guesses, state = model(mg.tensor(values[:test, None, None]))
        run = [guesses[-1:]]
        for _ in years[test + 1 :]:
            guess, state = model(run[-1], state)
            run.append(guess)
        free = numbers_of(mg.concat(run))
    truth, naive = numbers[test:], numbers[test - 1 : -1]
    columns = ("year", "observed", "one year ahead", f"made in {VALIDATION_UNTIL}", "last year's")
    table = zip(years[test:], truth, one_step.round(1), free.round(1), naive, strict=True)
    show("held out: sunspot numbers, and forecasts of them", columns, list(table)[::5])
    draw(years, numbers, one_step, free, args.out / "sunspots.png")
    report(args.out, "RMSE", rmse(one_step, truth), rmse(naive, truth), "last year's number", lower_is_better=True)


if __name__ == "__main__":
    main()
