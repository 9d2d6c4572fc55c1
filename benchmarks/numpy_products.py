"""What the matrix products of train steps take as NumPy calls, and nothing else: the floor of a plan as NumPy calls.

    python benchmarks/numpy_products.py [--from-json results.json] [--cells lstm gru] [--sizes 50,64,128,256]

Each product is timed in five layouts, of which the fastest counts: those with the state once a step, all others and the
gradients of weights once for all steps. With the file of `recurrent.py --json` also over the times of others.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from processes import warn_if_busy
from recurrent_cells import CELLS, SIZES, Size
from results import Case
from tables import compared, console, milliseconds, new_table
from targets import train_seconds

import minigrad as mg

OTHERS = ("plan-numpy", "torch-eager", "jax", "tape")


class Product(NamedTuple):
    """x W for x (B, inner) and W (inner, outer), of the step of a cell; whether x depends on the state."""

    inner: int
    outer: int
    of_state: bool


def products(cell: str, size: Size) -> list[Product]:
    """Those of a step, found on its tape."""
    step = CELLS[cell](size.inputs, size.hidden)
    state = step.init_state(1)
    leaves = state if isinstance(state, tuple) else (state,)
    for leaf in leaves:
        leaf.requires_grad = True
    of_state, found = {id(leaf) for leaf in leaves}, []
    with mg.Tape() as tape:
        step.step(mg.ones((1, size.inputs)), state)
    for node in tape.nodes:
        if any(id(operand) in of_state for operand in node.inputs):
            of_state.add(id(node))
        if node.op in ("linear", "matmul"):
            found.append(Product(node.inputs[0].shape[-1], node.shape[-1], id(node.inputs[0]) in of_state))
    return found


@cache
def seconds_of_product(m: int, k: int, n: int) -> float:
    """(m, k) times (k, n), in the fastest layout."""
    random = np.random.default_rng(0).random
    a, b = random((m, k), dtype="float32"), random((k, n), dtype="float32")
    at, bt, out = a.T.copy(), b.T.copy(), np.empty((m, n), "float32")
    out_t = np.empty((n, m), "float32")
    ways: list[Callable[[], Any]] = [
        lambda: np.matmul(a, b, out=out),
        lambda: np.matmul(a, bt.T, out=out),
        lambda: np.matmul(at.T, b, out=out),
        lambda: np.matmul(bt, at, out=out_t),
        lambda: np.matmul(bt, a.T, out=out_t),
    ]
    return min(_seconds(way, max(1, 20_000_000 // (m * k * n))) for way in ways)


def _seconds(call: Callable[[], Any], times: int, rounds: int = 7) -> float:
    found = []
    for _ in range(rounds):
        begin = time.perf_counter()
        for _ in range(times):
            call()
        found.append((time.perf_counter() - begin) / times)
    return statistics.median(found[1:])


def floor(cell: str, size: Size) -> float:
    """Seconds of all products of a train step."""
    steps, batch, total = size.steps, size.batch, 0.0
    for inner, outer, of_state in products(cell, size):
        total += seconds_of_product(inner, steps * batch, outer)  # the weight's gradient
        if of_state:
            total += steps * (seconds_of_product(batch, inner, outer) + seconds_of_product(batch, outer, inner))
        else:
            total += seconds_of_product(steps * batch, inner, outer)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS), help="by default all")
    parser.add_argument("--sizes", nargs="+", type=Size.parse, default=list(SIZES), metavar="T,B,I,H")
    parser.add_argument("--from-json", type=Path, metavar="FILE", help="what recurrent.py has measured")
    options = parser.parse_args()
    warn_if_busy()
    cases: list[Case] = json.loads(options.from_json.read_text())["cases"] if options.from_json else []
    heads = ["products, ms", *(f"over {other}" for other in OTHERS if cases)]
    made = new_table("the matrix products of a train step as NumPy calls", ["cell", "T,B,I,H"], heads)
    for cell in options.cells:
        for size in options.sizes:
            seconds = floor(cell, size)
            row: list[Any] = [cell, ",".join(map(str, size)), milliseconds(seconds)]
            for case in (case for case in cases if (case["cell"], case["size"]) == (cell, list(size))):
                for other in OTHERS:
                    theirs = train_seconds(case, other)
                    row.append(compared(seconds / theirs if theirs else None))
            made.add_row(*row)
    console.print(made)


if __name__ == "__main__":
    main()
