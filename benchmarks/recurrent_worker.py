"""The process in which `recurrent.py` and others have one library run one case; not meant to be started by hand.

    recurrent_worker.py reference CELL T,B,I,H FILE    write the case's inputs and what the tape makes of them
    recurrent_worker.py PEER CELL T,B,I,H FILE         answer with first calls, memory, and differences from the tape;
                                                       then each line "SECONDS MODE ..." on stdin with medians of the
                                                       modes, train and forward

Answers are lines of JSON.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

from timing import CALLS, Say, median_of, peak_mebibytes, seconds_of, serve, threads


def make_runner(peer: str, cell: str, file: Path) -> Any:
    """A cell in the peer's library, with weights and data in place."""
    from recurrent_cells import load_inputs, minigrad_runner

    inputs = load_inputs(file)
    if peer in ("plan", "plan-numpy", "tape"):
        return minigrad_runner(peer.split("-")[0], cell, inputs)
    if peer == "jax":
        import jax
        from recurrent_jax import jax_runner

        jax.config.update("jax_platforms", "cpu")
        return jax_runner(cell, inputs)
    import torch
    from recurrent_torch import torch_runner

    torch.set_num_threads(threads())
    return torch_runner(peer, cell, inputs)


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


def measure(peer: str, cell: str, file: Path, say: Say) -> None:
    """Say what the first calls cost and whether the results are right; then answer each question with medians."""
    from recurrent_cells import differences

    runner = make_runner(peer, cell, file)
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
        budget, *modes = line.split()
        say({mode: median_of(getattr(runner, mode), float(budget)) for mode in modes})


def task(arguments: list[str], say: Say) -> None:
    """What the command line asks for."""
    what, cell, size, file = arguments
    if what == "reference":
        from recurrent_cells import Size, save_case

        save_case(Path(file), cell, Size.parse(size))
        say({})
    else:
        measure(what, cell, Path(file), say)


if __name__ == "__main__":
    serve(task)
