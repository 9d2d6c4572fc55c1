"""Measures the memory of truncated backpropagation over a long stream, in a process that does nothing else.

    python tests/stream_memory.py ENGINE STALE K2

prints Python's memory at its highest, and how many nodes live, early and late in the stream, as JSON.
"""

from __future__ import annotations

import gc
import json
import sys
import tracemalloc
from collections.abc import Iterator
from typing import Any

from bptt_oracles import mse

import minigrad as mg
import minigrad.plan.native.executor  # at the first plan otherwise, in the midst of the measuring
from minigrad.tape import Node

K1 = 50


def live_nodes() -> int:
    return sum(type(thing) is Node for thing in gc.get_objects())


def stream(steps: int, stale: str, k2: int, engine: str = "auto") -> Iterator[Any]:
    """A recurrent network over a stream, one window after the other, with updates where the mode allows them."""
    model = mg.RNN(1, 2, engine=engine)
    xs = mg.normal(shape=(steps, 1, 1))
    ys = mg.zeros((steps, 1, 2))
    optimizer = mg.optimizer("sgd", model.parameters(), lr=0.0 if stale == "error" else 0.01)
    for window in mg.tbptt(model, xs, ys, mse, k1=K1, k2=k2, stale=stale):
        optimizer.step()
        yield window


def measure(engine: str, stale: str, k2: int) -> dict[str, Any]:
    """The peaks over two windows each, a hundred windows apart."""
    gc.disable()  # what is freed is freed at once, and not by the collector
    windows = stream(10_000, stale, k2, engine)
    list(zip(range(4), windows, strict=False))  # full reach
    peaks, nodes, garbage = [], [], None
    tracemalloc.start()
    for number, _ in enumerate(windows, 5):
        if number in (100, 196):
            garbage = gc.collect()  # and Python lets go of the freed tuples that it keeps
            tracemalloc.reset_peak()
        if number in (102, 198):  # the last window has other pieces
            peaks.append(tracemalloc.get_traced_memory()[1])
            nodes.append(live_nodes())
    return {"peaks": peaks, "nodes": nodes, "garbage": garbage}


if __name__ == "__main__":
    _, engine, stale, k2 = sys.argv
    print(json.dumps(measure(engine, stale, int(k2))))
