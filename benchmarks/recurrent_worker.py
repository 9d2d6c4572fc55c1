"""The process in which `recurrent.py` has one library run one case; not meant to be started by hand.

    recurrent_worker.py reference CELL T,B,I,H FILE    write the case's inputs and what the tape makes of them
    recurrent_worker.py PEER CELL T,B,I,H FILE         answer with first calls, memory, and differences from the tape;
                                                       then each number of seconds on stdin with medians
    recurrent_worker.py demo ENGINE WINDOWS            train the demo's model

Answers are lines of JSON.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CALLS = 3
"""The fewest calls of which a median is taken."""


def make_runner(peer: str, cell: str, file: Path, threads: int) -> Any:
    """A cell in the peer's library, with weights and data in place."""
    from recurrent_cells import load_inputs, minigrad_runner

    inputs = load_inputs(file)
    if peer in ("plan", "plan-numpy", "tape"):
        return minigrad_runner(peer.split("-")[0], cell, inputs)
    if peer == "jax":
        from recurrent_jax import jax_runner

        return jax_runner(cell, inputs)
    from recurrent_torch import torch_runner

    return torch_runner(peer, cell, inputs, threads)


def peak_mebibytes() -> float | None:
    """The most memory that this process has held so far."""
    try:  # as getrusage's figure, but not that of the parent if it was larger
        status = Path("/proc/self/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1024
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def seconds_of(call: Callable[[], Any]) -> float:
    """The time of one call, with the release of its result."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def median_of(call: Callable[[], Any], budget: float) -> float:
    """The median time of a call, over as many calls as the budget of seconds allows; a fifth of it more warms up."""
    begin = time.perf_counter()
    call()
    while time.perf_counter() < begin + budget / 5:
        call()
    begin, seconds = time.perf_counter(), []
    while len(seconds) < CALLS or time.perf_counter() < begin + budget:
        seconds.append(seconds_of(call))
    return statistics.median(seconds)


def compile_seconds(cell: str, file: Path) -> float:
    """What making a plan takes, without a C compiler.

    By how much a new layer's first train step outlasts its next ones, in a warm process.

    Over a single step of the sequence, so that memory touched for the first time is not in it.
    """
    from recurrent_cells import Inputs, load_inputs, minigrad_runner

    inputs = load_inputs(file)
    short, extra = Inputs(inputs.x[:1], inputs.dy[:1], inputs.weights), []
    for _ in range(CALLS):
        runner = minigrad_runner("plan", cell, short)
        first = seconds_of(runner.train)
        extra.append(first - statistics.median(seconds_of(runner.train) for _ in range(CALLS)))
    return statistics.median(extra)


def measure(peer: str, cell: str, file: Path, threads: int, say: Callable[[Any], None]) -> None:
    """Say what the first calls cost and whether the results are right; then answer each budget with medians."""
    from recurrent_cells import differences

    runner = make_runner(peer, cell, file, threads)
    before = peak_mebibytes()
    first = {"train": seconds_of(runner.train)}
    for _ in range(CALLS - 1):
        runner.train()
    peak = peak_mebibytes()
    first["forward"] = seconds_of(runner.forward)
    say(
        {
            "version": runner.version,
            "note": runner.note(),
            "first": first,
            "compile": compile_seconds(cell, file) if peer == "plan-numpy" else None,
            "memory": {"before": before, "peak": peak},
            "differences": differences(file, runner),
        }
    )
    for line in sys.stdin:
        budget = float(line)
        say({"train": median_of(runner.train, budget), "forward": median_of(runner.forward, budget)})


def demo(engine: str, windows: int, say: Callable[[Any], None]) -> None:
    """Train the demo's model on so many windows; say the loss of each and the median time of a window."""
    from threadpoolctl import threadpool_limits

    import minigrad as mg
    from minigrad.demo import Settings, Training, read_text

    training = Training(read_text(None), Settings())
    for _, module in training.model.named_modules():
        if isinstance(module, mg.Recurrent):
            module.engine = engine
    losses: list[float] = []
    seconds: list[float] = []
    with threadpool_limits(1, user_api="blas"):  # as the demo itself does
        while len(losses) < windows:
            begin = time.perf_counter()
            for _, loss in training.epoch():
                now = time.perf_counter()
                losses.append(loss)
                seconds.append(now - begin)
                begin = now
                if len(losses) == windows:
                    break
    settings = training.settings
    characters = training.train_data[0].shape[1] * settings.window
    say({"losses": losses, "speed": characters / statistics.median(seconds), "note": training.model.layers.explain()})


def main() -> None:
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints is no answer

    def say(answer: Any) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    threads = int(os.environ["OMP_NUM_THREADS"])
    if hasattr(os, "sched_setaffinity"):  # XLA makes as many threads as there are cores to run on
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    task, *rest = sys.argv[1:]
    try:
        if task == "demo":
            demo(rest[0], int(rest[1]), say)
        elif task == "reference":
            from recurrent_cells import Size, save_case

            save_case(Path(rest[2]), rest[0], Size.parse(rest[1]))
            say({})
        else:
            measure(task, rest[0], Path(rest[2]), threads, say)
    except Exception as error:
        import traceback

        traceback.print_exc()
        say({"failed": f"{type(error).__name__}: {error}".split("\n")[0]})


if __name__ == "__main__":
    main()
