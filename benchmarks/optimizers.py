"""What a step of an optimizer takes: as one compiled pass over all parameters, and as NumPy calls one by one.

    python benchmarks/optimizers.py [--sizes 200 650] [--rounds 6] [--steps 30]

The parameters are those of an LSTM of so many features and units. Both ways take turns in one process.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np
from processes import machine, warn_if_busy
from tables import compared, console, milliseconds, new_table

import minigrad as mg
from minigrad.plan.native import updates

WAYS: dict[str, float] = {"one pass": updates.LARGE, "one by one": float("inf")}
"""From how many elements on a pass is taken."""
ALGORITHMS: dict[str, dict[str, Any]] = {"sgd": {"momentum": 0.9}, "rmsprop": {}, "adam": {}}


def seconds(name: str, size: int, rounds: int, steps: int) -> dict[str, float]:
    """The median step of each way."""
    random = np.random.default_rng(0)
    optimizers, found = {}, {way: [] for way in WAYS}  # type: ignore[var-annotated]  # lists of seconds
    for way in WAYS:
        layer = mg.LSTM(size, size)
        optimizers[way] = mg.optimizer(name, layer.parameters(), lr=1e-3, **ALGORITHMS[name])
        for parameter in layer.parameters():
            parameter.grad = mg.tensor(random.normal(size=parameter.shape).astype(np.float32))
    for number in range(rounds):
        for way in WAYS if number % 2 else reversed(WAYS):
            updates.LARGE = WAYS[way]  # type: ignore[assignment]  # no number of elements is infinite
            for step in range(steps):
                begin = time.perf_counter()
                optimizers[way].step()
                if step > 2:  # the first ones compile, and use memory for the first time
                    found[way].append(time.perf_counter() - begin)
    return {way: statistics.median(times) for way, times in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=int, default=[200, 650], help="default 200 650")
    parser.add_argument("--rounds", type=int, default=6, help="turns of each way (default 6)")
    parser.add_argument("--steps", type=int, default=30, help="of each turn (default 30)")
    options = parser.parse_args()
    if min(*options.sizes, options.rounds, options.steps - 3) < 1:
        parser.error("--sizes and --rounds take numbers of at least 1, --steps one of at least 4")
    warn_if_busy()
    heads = ["numbers", *(f"{way}, ms" for way in WAYS), "ratio"]
    made = new_table("a step of an optimizer", ["algorithm"], heads)
    for size in options.sizes:
        count = sum(parameter.size for parameter in mg.LSTM(size, size).parameters())
        for name in ALGORITHMS:
            found = seconds(name, size, options.rounds, options.steps)
            ratio = compared(found["one pass"] / found["one by one"])
            made.add_row(name, f"{count:,}", *(milliseconds(found[way]) for way in WAYS), ratio)
    console.print(made)
    console.print(f"{machine()}; NumPy {np.__version__}; medians")


if __name__ == "__main__":
    main()
