"""Microseconds of one step at a time, without gradients: minigrad's ways to take it beside PyTorch's, on the CPU.

    python benchmarks/streaming.py [--cells lstm gru] [--batches 1 8] [--hidden 100] [--rounds 5] [--budget 0.3]

As in inference on a stream: x of one step is there, and its output is wanted before the next comes. Each step starts
from the state that the last has left. Every library gets the same weights and inputs in a process of its own; they
take turns, and outputs over 30 steps must be those of minigrad's tape.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from peers import BUILT_IN, NAMES
from processes import Turns, cores, in_turn, is_installed, machine, medians, warn_if_busy
from recurrent_case import check, reference
from recurrent_cells import Size
from tables import compared, console, microseconds, missing, new_table, verdict
from targets import STREAMING

STEPS, INPUTS = 30, 65
"""Of the sequence that is gone through again and again."""


def run_case(cell: str, size: Size, libraries: list[str], turns: Turns) -> dict[str, dict[str, Any]]:
    """What each library answers, and under "seconds" the medians of its ways."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        case = [cell, str(size), str(Path(folder, "case.npz"))]
        reference(case, turns)
        commands = {library: ["streaming_worker.py", library, *case] for library in libraries}
        found = in_turn(commands, turns, Path(folder), check)
    return {library: answer | {"seconds": medians(answer.get("rounds", []))} for library, answer in found.items()}


def report(cell: str, size: Size, found: dict[str, dict[str, Any]]) -> None:
    """A row per way, with the ratio of minigrad's to PyTorch's cell and layer."""
    theirs = found.get("torch", {}).get("seconds", {})
    ours = found["minigrad"]["seconds"]
    made = new_table(
        f"{NAMES[cell]}, batch {size.batch}, H = {size.hidden}", ["way"], ["µs", *map("over\n{}".format, theirs)]
    )
    for name, seconds in [*ours.items(), *theirs.items()]:
        ratios = [compared(seconds / other) if name in ours else "" for other in theirs.values()]
        made.add_row(name, microseconds(seconds), *ratios)
    console.print(made)
    missing(found, f"{cell} {size}")
    lstm_cell = theirs.get("nn.LSTMCell")
    if ours and lstm_cell and size.batch == 1 and size.hidden == 100:
        best = min(ours, key=lambda name: ours[name])
        ratio = ours[best] / lstm_cell
        console.print(
            f"target: at most {STREAMING:g} of nn.LSTMCell's time:",
            verdict(ratio <= STREAMING, f"{ratio:.2f}"),
            best,
            "\n",
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--cells", nargs="+", choices=BUILT_IN, default=["lstm", "gru", "rnn"], help="by default all three")
    add("--batches", nargs="+", type=int, default=[1, 8], metavar="B", help="how many streams at once (default 1 8)")
    add("--hidden", type=int, default=100, metavar="H", help="size of the state (default 100)")
    add("--rounds", type=int, default=5, help="how many turns each library has (default 5)")
    add("--budget", type=float, default=0.3, help="seconds for each way at each turn (default 0.3)")
    add("--threads", type=int, default=cores(), help="of each library (default: all cores)")
    add("--json", type=Path, metavar="FILE", help="write everything measured")
    options = parser.parse_args()
    if min([*options.batches, options.hidden, options.rounds, options.threads]) < 1:
        parser.error("--batches, --hidden, --rounds and --threads take numbers of at least 1")
    warn_if_busy()
    libraries = ["minigrad", *(["torch"] if is_installed("torch") else [])]
    turns = Turns(options.threads, options.rounds, str(options.budget), 120.0)
    results: list[dict[str, Any]] = []
    for cell in options.cells:
        for batch in options.batches:
            size = Size(STEPS, batch, INPUTS, options.hidden)
            found = run_case(cell, size, libraries, turns)
            results.append({"cell": cell, "size": list(size), "libraries": found})
            report(cell, size, found)
    versions = sorted(
        {answer["version"] for case in results for answer in case["libraries"].values() if "version" in answer}
    )
    console.print(
        f"{machine()}; {', '.join(versions)}; float32, {options.threads} threads, nothing recorded for a backward, "
        f"I = {INPUTS}; medians of {options.rounds} alternating rounds. A ratio below 1: minigrad is faster."
    )
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "cases": results}, indent=1))
    if any("missing" in answer for case in results for answer in case["libraries"].values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
