"""Faulty readings of the sea's temperature, found by how badly a model of the sea foresees them.

data      monthly means off Peru, 1950-2010, as measured; until 1984 to train on, until 1996 to choose the epoch by;
          faults are planted from 1997 on, in thirty copies: spikes, a stuck sensor, readings of the wrong months
model     a month's temperature and season -> recurrent layer -> the change to the next month's temperature (linear)
training  on stretches of ten years; the model never sees a fault
output    how far each reading is from its forecast, and how well this ranks the faulty months before the others
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import minigrad as mg
from examples.aligned._faults import KINDS, planted
from examples.common import console, options, pyplot, report, save_picture, show
from minigrad.train import Batches, Cosine, Trainer

TRAINING, HELD_OUT = (1985 - 1950) * 12, (1997 - 1950) * 12
WINDOW, SETTLING, COPIES = 120, 12, 30


class Forecaster(mg.Module):
    """From each month's temperature and season (T, B, 3) to a guess of the next month's temperature (T, B, 1)."""

    def __init__(self, cell: str, hidden_size: int) -> None:
        self.layer = mg.recurrent(cell, 3, hidden_size)
        self.output = mg.Linear(self.layer.output_size, 1)

    def forward(self, x, state=None):
        ys, state = self.layer(x, state)
        return x[:, :, :1] + self.output(ys), state


def step(model, batch):
    """Mean squared error, once the state has settled."""
    x, y = batch
    guesses, _ = model(x + 0.1 * mg.normal(shape=x.shape) if model.training else x)
    return mg.loss("mse")(guesses[SETTLING:], y[SETTLING:])


def inputs(values: np.ndarray, first: int = 0) -> np.ndarray:
    """From temperatures (T, B), of which the first is of month number `first`, to (T, B, 3): with the time of year."""
    angle = np.arange(first, first + len(values))[:, None] * np.pi / 6 + 0 * values
    return np.stack([values, np.sin(angle), np.cos(angle)], axis=-1).astype("float32")


def windows(values: np.ndarray, first: int, last: int) -> Batches:
    """Stretches of WINDOW months as inputs and, a month later, as targets; one begins every three months."""
    x = inputs(values[:last, None])[:, 0]
    return Batches([(x[i : i + WINDOW], x[i + 1 : i + 1 + WINDOW, :1]) for i in range(first, last - WINDOW, 3)], 16)


def forecasts(model: Forecaster, readings: np.ndarray, start: int, limit: float) -> np.ndarray:
    """Guesses of the readings (T, B) from `start` on, each from those before.

    A reading further than `limit` from its guess is replaced by what is at the limit, before the model goes on with
    it: a fault shall not become what is expected, but the sea may go where nobody expected it.
    """
    guesses = []
    with mg.no_grad():
        guess, state = model(mg.tensor(inputs(readings[:start])))
        for month in range(start, len(readings)):
            guesses.append(guess.numpy()[-1, :, 0])
            believed = guesses[-1] + np.clip(readings[month] - guesses[-1], -limit, limit)
            guess, state = model(mg.tensor(inputs(believed[None], month)), state)
    return np.stack(guesses)


def average_precision(scores: np.ndarray, faulty: np.ndarray) -> float:
    """Area under the precision-recall curve: the mean over faulty months of the precision down to their score."""
    hits = faulty.ravel()[np.argsort(-scores.ravel(), kind="stable")]
    return float((np.cumsum(hits) / np.arange(1, hits.size + 1))[hits].mean())


def draw_copy(readings: np.ndarray, guesses: np.ndarray, faults: np.ndarray, path: Path) -> None:
    """Readings and forecasts, and how far they are apart; faults are shaded."""
    figure, (above, below) = pyplot().subplots(2, figsize=(11, 6), sharex=True, layout="constrained")
    years = 1950 + (HELD_OUT + np.arange(len(readings))) / 12
    above.plot(years, readings, "k.-", linewidth=0.8, markersize=4, label="reading")
    above.plot(years, guesses, color="tab:blue", label="forecast")
    below.bar(years, np.abs(readings - guesses), width=1 / 12, color="tab:blue")
    for kind, colour in enumerate(("tab:red", "tab:orange", "tab:green")):
        for axes in (above, below):
            height = {"transform": axes.get_xaxis_transform(), "width": 1 / 12, "alpha": 0.3, "color": colour}
            axes.bar(years[faults == 1 + kind], 1, label=KINDS[kind], **height)
    above.set(ylabel="temperature in °C", title="sea surface temperature off Peru, with planted faults")
    below.set(ylabel="distance from the forecast in °C", xlabel="year")
    above.legend(ncols=5, loc="upper right")
    save_picture(figure, path)


def main() -> None:
    args = options(__doc__, epochs=40, cell="lstm", hidden_size=32, learning_rate=5e-3, small={"epochs": 20})
    degrees = np.loadtxt(Path(__file__).parent / "elnino.csv", delimiter=",", skiprows=3)[:, 1:].ravel()
    mean, deviation = degrees[:TRAINING].mean(), degrees[:TRAINING].std()
    values = (degrees - mean) / deviation

    model = Forecaster(args.cell, args.hidden_size)
    data, validation = windows(values, 0, TRAINING), windows(values, TRAINING - SETTLING - 1, HELD_OUT)
    optimizer = mg.optimizer("adam", model.parameters(), lr=args.learning_rate)
    trainer = Trainer(model, optimizer, step, clip_norm=1.0, schedule=Cosine(args.epochs * len(data)))
    history = trainer.fit(data, validation, epochs=args.epochs, restore_best=True)
    model.eval()

    draw = np.random.default_rng(0)  # the same faults whatever the seed
    plantings = [planted(degrees, HELD_OUT, draw) for _ in range(COPIES)]
    copies, faults = (np.stack(series, axis=1) for series in zip(*plantings, strict=True))
    guesses = forecasts(model, (copies - mean) / deviation, HELD_OUT, limit=history.best**0.5) * deviation + mean
    readings, faults = copies[HELD_OUT:], faults[HELD_OUT:]
    usual = np.resize(degrees[:TRAINING].reshape(-1, 12).mean(axis=0), len(readings))[:, None]
    year = np.stack([copies[month - 12 : month].mean(axis=0) for month in range(HELD_OUT, len(copies))])
    scores = [np.abs(readings - expected) for expected in (guesses, usual, year)]
    ours, baseline, plain = (average_precision(score, faults > 0) for score in scores)
    rows = []
    for month in np.argsort(-scores[0][:, 0])[:10]:
        date, fault = f"{1997 + month // 12}-{1 + month % 12:02}", ("", *KINDS)[faults[month, 0]]
        rows.append((date, *(f"{values[month, 0]:.1f}" for values in (readings, guesses)), fault))
    show("the ten most suspect months of the first copy", ("month", "reading", "forecast", "planted"), rows)
    draw_copy(readings[:, 0], guesses[:, 0], faults[:, 0], args.out / "anomalies.png")
    console.print(f"average precision of the distance from the last twelve months' mean: {plain:.3f}")
    report(args.out, "average precision", ours, baseline, "distance from the month's mean until 1984")


if __name__ == "__main__":
    main()
