"""The inside of a process that measures one library: answers in lines of JSON, times, memory."""

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

Say = Callable[[Any], None]
"""Writes an answer."""


def serve(task: Callable[[list[str], Say], None]) -> None:
    """Run a worker's task on the command line's arguments, with the threads that `processes.Worker` has set."""
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints is no answer

    def say(answer: Any) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    if hasattr(os, "sched_setaffinity"):  # XLA makes as many threads as there are cores to run on
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: threads()])
    try:
        task(sys.argv[1:], say)
    except Exception as error:
        import traceback

        traceback.print_exc()
        say({"failed": f"{type(error).__name__}: {error}".split("\n")[0]})


def threads() -> int:
    """How many this process may use."""
    return int(os.environ["OMP_NUM_THREADS"])


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
