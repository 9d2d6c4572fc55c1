"""The process in which `streaming.py` has one library take single steps; not meant to be started by hand.

streaming_worker.py LIBRARY CELL T,B,I,H FILE    answer with the differences from the tape; then each number of
                                                 seconds on stdin with the median time of a step, by way
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from recurrent_cells import distance, load_inputs
from streaming_ways import Library, Step, minigrad_ways, torch_ways
from timing import Say, median_of, serve

LIBRARIES = {"minigrad": minigrad_ways, "torch": torch_ways}


def outputs(library: Library, step: Step, x: np.ndarray) -> np.ndarray:
    """What a way makes of a sequence, one step after the other."""
    state, ys = library.start, []
    for x_t in x:
        y, state = step(library.to_library(x_t), state)
        ys.append(library.to_numpy(y))
    return np.stack(ys)


def one_step(library: Library, step: Step, x: np.ndarray) -> Callable[[], None]:
    """A call that takes the next step of an endless sequence."""
    xs = [library.to_library(x_t) for x_t in x]
    state, position = library.start, 0

    def call() -> None:
        nonlocal state, position
        _, state = step(xs[position], state)
        position = (position + 1) % len(xs)

    return call


def task(arguments: list[str], say: Say) -> None:
    """What the command line asks for."""
    library_name, cell, _, file = arguments
    inputs = load_inputs(Path(file))
    library = LIBRARIES[library_name](cell, inputs)
    with np.load(file) as case:
        expected = case["outputs"]
    with library.recording_nothing():
        differences = {
            name: distance(outputs(library, step, inputs.x), expected) for name, step in library.ways.items()
        }
        say({"version": library.version, "differences": differences})
        calls = {name: one_step(library, step, inputs.x) for name, step in library.ways.items()}
        for line in sys.stdin:
            say({name: median_of(call, float(line)) for name, call in calls.items()})


if __name__ == "__main__":
    serve(task)
