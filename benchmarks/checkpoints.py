"""What `checkpoint_every` saves and costs: peak memory and time of a train step of an LSTM over a long sequence."""

from __future__ import annotations

import statistics
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.table import Table

import minigrad as mg

STEPS, BATCH, SIZE, ROUNDS = 1024, 32, 128, 5
EVERY = (None, 256, 64, 32, 16, 1)


def train_step(every: int | None, engine: str = "plan") -> Callable[[], None]:
    """A step of training, ready to run again and again."""
    layer = mg.Recurrent(mg.LSTMCell(SIZE, SIZE), engine=engine, checkpoint_every=every)
    x = mg.normal(shape=(STEPS, BATCH, SIZE))

    def step() -> None:
        ys, _ = layer(x)
        layer.zero_grad()
        mg.square(ys).sum().backward()

    return step


def peak(step: Callable[[], None]) -> int:
    """The most memory that Python and NumPy held during a first step, beyond what was held before it."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        step()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def main() -> None:
    """Measure in turn, and print a table."""
    names = {("plan", every): "everything" if every is None else f"every {every}" for every in EVERY}
    names["tape", None] = "tape"
    peaks = {case: peak(train_step(case[1], case[0])) for case in names}
    steps = {case: train_step(case[1], case[0]) for case in names}
    times: dict[tuple[str, int | None], list[float]] = {case: [] for case in names}
    for case in [*names] * (ROUNDS + 1):
        start = time.perf_counter()
        steps[case]()
        times[case].append(time.perf_counter() - start)
    table = Table(title=f"LSTM, T={STEPS}, B={BATCH}, I=H={SIZE}, float32, NumPy {np.__version__}")
    for column in ("states kept", "peak memory, MiB", "of everything's", "train step, ms", "of everything's"):
        table.add_column(column, justify="right")
    whole = "plan", None
    medians = {case: statistics.median(measured[1:]) for case, measured in times.items()}
    for case, name in names.items():
        table.add_row(
            name,
            f"{peaks[case] / 2**20:.1f}",
            f"{peaks[case] / peaks[whole]:.2f}",
            f"{1e3 * medians[case]:.0f}",
            f"{medians[case] / medians[whole]:.2f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
