"""Where a train step's time goes on the GPU: microseconds of each product and kernel, of the graphs, of the host.

python benchmarks/gpu_profile.py [--cells lstm gru rnn mgu] [--sizes 35,20,200,200 ...]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

from gpu_peers import Clock, clock_of, runner
from recurrent_cells import Size, make_inputs
from tables import console, microseconds, new_table

from minigrad.plan.cuda.executor import CudaExecutor
from minigrad.plan.cuda.layout import Product

CALLS = 200


def traffic(layer: Any, steps: int) -> int | None:
    """Bytes that the products and kernels of a train step read and write, each call counted by itself."""
    executor = layer._plans.latest.executor
    if not isinstance(executor, CudaExecutor):
        return None
    schedule, moved = executor.schedule, 0
    rows = steps * schedule.batch
    for section in (*schedule.sections["forward"], *schedule.sections["backward"]):
        for item in section.work:
            calls = steps if section.in_loop else 1
            if isinstance(item, Product):
                k, n = item.sizes
                factor, result = item.operand.place.array.dtype.itemsize, item.place.array.dtype.itemsize
                moved += rows * item.parts * (k * factor + n * (1 + item.adds) * result) + calls * k * n * factor
            else:
                moved += sum(rows * array.row * array.dtype.itemsize for array in executor.kernels[item.name].arrays)
    for total in schedule.sums:
        count = total.left.count + (total.right.count if total.right else 0)
        moved += rows * count * total.left.place.array.dtype.itemsize
    return int(moved)


def device_seconds(call: Callable[[], Any], clock: Clock, calls: int = CALLS) -> float:
    """The time of a call on the device, over some calls in a row, at the median of five."""
    found = []
    for _ in range(6):
        first = clock.mark()
        for _ in range(calls):
            call()
        found.append(clock.between(first, clock.mark()) / calls)
    return statistics.median(found[1:])


def profile(cell: str, size: Size, clock: Clock) -> None:
    """A table of one case."""
    run = runner("plan", cell, make_inputs(cell, size))
    for _ in range(3):
        run.train()
    executor = run.layer._plans.latest.executor
    (memory,) = executor.spare
    made = new_table(f"{cell} {size}", ["what"], ["µs each", "calls a train step", "µs in all"])

    def row(what: str, seconds: float, calls: int) -> None:
        made.add_row(what, microseconds(seconds), str(calls), microseconds(seconds * calls))

    batch = executor.schedule.batch
    lane = executor.device.ready()
    for section in (*executor.schedule.sections["forward"], *executor.schedule.sections["backward"]):
        for item in section.work:
            part = SimpleNamespace(work=[item], in_loop=section.in_loop)
            rows = batch if section.in_loop else batch * size.steps
            seconds = device_seconds(partial(executor._once, lane, memory, part, 0, rows), clock, 50)
            name = (
                f"product with {executor.schedule.name(item.matrix)}"
                if isinstance(item, Product)
                else f"kernel {item.name}"
            )
            row(f"{section.name}: {name}", seconds, size.steps if section.in_loop else 1)
    for (name, _), graph in memory.graphs[lane].items():
        row(f"graph of {name}", device_seconds(graph.launch, clock, 10), 1)
    row("train step, device", device_seconds(run.train, clock, 10), 1)
    begin = time.perf_counter()
    for _ in range(10):
        run.train()
    host = (time.perf_counter() - begin) / 10
    clock.finish(None)
    row("train step, host until it is all put on the stream", host, 1)
    console.print(made)


def main() -> None:
    from gpu import CELLS, SIZES, no_device

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", default=list(CELLS))
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), metavar="T,B,I,H")
    options = parser.parse_args()
    if reason := no_device():
        sys.exit(f"nothing is measured without a GPU: {reason}")
    clock = clock_of("plan")
    for cell in options.cells:
        for size in options.sizes:
            try:
                profile(cell, Size.parse(size), clock)
            except Exception as error:  # the other cases are worth having
                console.print(f"{cell} {size}: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
