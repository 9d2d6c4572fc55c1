"""One library on the GPU, in a process of its own: a line of JSON for each case. See `gpu.py`.

    python gpu_worker.py PEER FOLDER SECONDS CELL:T,B,I,H ...
    python gpu_worker.py limits

The results of the peer "tape" are written to FOLDER, and the others are held to them.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from gpu_peers import Clock, clock_of, runner
from gpu_profile import traffic
from recurrent_cells import Size, distance, make_inputs

TOLERANCE = 2e-3
"""The largest difference from the tape's results, over their largest value: products are summed in another order."""
BATCH_SECONDS = 0.02
"""How long the work between two marks takes, about."""


def seconds_of(call: Callable[[], Any], clock: Clock, budget: float) -> float:
    """The median time of a call on the device, over batches of calls."""
    for _ in range(4):  # compiles, and captures what is to be launched at once
        clock.finish(call())
    first = clock.mark()
    result = call()
    clock.finish(result)
    once = max(clock.between(first, clock.mark()), 1e-6)
    calls = max(1, int(BATCH_SECONDS / once))
    found = []
    for _ in range(max(3, int(budget / (once * calls)))):
        first = clock.mark()
        for _ in range(calls):
            result = call()
        if clock.version.startswith("JAX"):
            clock.finish(result)
        found.append(clock.between(first, clock.mark()) / calls)
    return statistics.median(found)


def measure(peer: str, folder: Path, budget: float, cell: str, size: Size, clock: Clock) -> dict[str, Any]:
    """A case: its times, if its results are right."""
    run = runner(peer, cell, make_inputs(cell, size))
    ys, gradients = run.train()
    arrays = {name: run.to_numpy(value) for name, value in {**gradients, "outputs": ys}.items()}
    file = folder / f"{cell}-{size}.npz"
    if peer == "tape":
        np.savez(file, **arrays)
    elif not file.exists():
        raise FileNotFoundError("minigrad's tape has left no results to hold this to")
    else:
        with np.load(file) as expected:
            apart = {name: distance(arrays[name], expected[name]) for name in expected.files}
        if wrong := {name: value for name, value in apart.items() if not value <= TOLERANCE}:
            raise ValueError(f"differs from minigrad's tape: {wrong}")
    moved = traffic(run.layer, size.steps) if peer == "plan" else None  # of the train step, before the forward's plan
    found = {"train": seconds_of(run.train, clock, budget), "forward": seconds_of(run.forward, clock, budget / 2)}
    return {**found, "note": "\n".join(run.note().splitlines()[:2]), "bytes": moved}


def limits() -> dict[str, Any]:
    """What the device reaches: bytes a second of a copy, and operations a second of float32 products."""
    import cupy

    clock = clock_of("plan")
    a = cupy.full(1 << 28, 1.5, dtype=cupy.float32)
    b = cupy.empty_like(a)
    copied = 2 * a.nbytes / seconds_of(lambda: cupy.copyto(b, a), clock, 0.5)
    n = 8192
    x = cupy.random.standard_normal((n, n), dtype=cupy.float32)
    out = cupy.empty_like(x)
    multiplied = 2 * n**3 / seconds_of(lambda: cupy.matmul(x, x, out=out), clock, 1.0)
    properties = cupy.cuda.runtime.getDeviceProperties(0)
    return {
        "device": clock.device,
        "bytes a second": copied,
        "operations a second": multiplied,
        "processors": properties["multiProcessorCount"],
        "L2 bytes": properties["l2CacheSize"],
    }


def main() -> None:
    if sys.argv[1] == "limits":
        print(json.dumps(limits()), flush=True)
        return
    peer, folder, budget, *cases = sys.argv[1:]
    clock = clock_of(peer)
    print(json.dumps({"peer": peer, "device": clock.device, "version": clock.version}), flush=True)
    for case in cases:
        cell, text = case.split(":")
        try:
            found = measure(peer, Path(folder), float(budget), cell, Size.parse(text), clock)
        except Exception as error:  # one case that fails does not take the others along
            found = {"missing": f"{type(error).__name__}: {error}".split("\n")[0]}
        print(json.dumps({"cell": cell, "size": text, **found}), flush=True)


if __name__ == "__main__":
    main()
