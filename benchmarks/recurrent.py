"""Milliseconds per train step, and per forward alone, of recurrent layers: minigrad beside PyTorch and JAX on the CPU.

    python benchmarks/recurrent.py [--cells lstm gru] [--sizes 35,20,200,200] [--rounds 3] [--budget 1.0] [--json FILE]
    python benchmarks/recurrent.py --from-json FILE [--png FILE]

A train step is forward and backward over the whole sequence, from a given gradient of the outputs to the gradients of
all parameters. Every library gets the same weights and inputs, and is timed only if its outputs and gradients are those
of minigrad's tape. Each runs in a process of its own, in alternating rounds; the medians of the rounds' medians are
shown, the work done per second beside the machine's peak, and which targets are met. With --json, each case is kept as
soon as it is measured, and a second call goes on where the first was cut off. Peers that are not installed are left
out: pip install '.[bench]'.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from peak import measure_peak
from peers import PEERS, installed
from processes import Turns, cores, warn_if_busy
from recurrent_case import run_case
from recurrent_cells import CELLS, SIZES, Size
from recurrent_report import report
from results import Results
from results_command import add_options, check_options, finish
from tables import console, milliseconds

UNASKED = [peer for peer in PEERS if peer != "torch-compile-loop"]
"""What is measured unless --peers says otherwise: to compile an unrolled loop takes from half a minute to many."""


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure what the file of results does not hold yet, in turn, for as many minutes as allowed."""
    begin = time.monotonic()
    peers = installed(options.peers)
    settings = {"rounds": options.rounds, "budget": options.budget, "threads": options.threads, "peers": peers}
    results = Results(options.json, settings, options.fresh)
    cases = [(cell, size) for cell in options.cells for size in options.sizes]
    left = [(cell, size) for cell, size in cases if not results.has(cell, size, options.threads)]
    if len(left) < len(cases):
        console.print(f"{len(cases) - len(left)} of {len(cases)} cases are in {options.json} already")
    if not left:
        return results.contents
    warn_if_busy()
    turns = Turns(options.threads, options.rounds, f"{options.budget} train forward", options.limit)
    results.add_peak(measure_peak(options.threads, 3 * options.budget))
    for number, (cell, size) in enumerate(left, 1 + len(cases) - len(left)):
        if options.limit_minutes is not None and time.monotonic() - begin > 60 * options.limit_minutes:
            console.print(f"time is up: {len(cases) - number + 1} cases are left for the next call with --json")
            break
        measured = run_case(cell, size, peers, turns)
        results.add(cell, size, options.threads, measured)
        times = [f"{peer} {milliseconds(found.get('train'))}" for peer, found in measured.items()]
        console.print(f"[{number}/{len(cases)}] {cell} {size}: train step in ms: {', '.join(times)}")
    results.add_peak(measure_peak(options.threads, 3 * options.budget))
    return results.contents


def size(text: str) -> Size:
    """A size from the command line."""
    try:
        return Size.parse(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not T,B,I,H, four whole numbers of at least 1") from None


def parse() -> argparse.Namespace:
    """The options, checked before anything is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--cells", nargs="+", choices=CELLS, default=list(CELLS), help="by default all")
    add("--sizes", nargs="+", type=size, default=SIZES, metavar="T,B,I,H", help="steps, batch, input, hidden")
    add("--peers", nargs="+", choices=PEERS, default=UNASKED, help="by default all but torch-compile-loop")
    add("--rounds", type=int, default=3, help="how many turns each peer has at each case (default 3)")
    add("--budget", type=float, default=1.0, help="seconds per measurement (default 1); at least 3 calls are made")
    add("--limit", type=float, default=300.0, help="seconds for a peer's first calls, or a turn, before it is given up")
    add("--limit-minutes", type=float, metavar="M", help="start no case after so many minutes")
    add("--threads", type=int, default=cores(), help="of each peer (default: all cores)")
    add("--compile", action=argparse.BooleanOptionalAction, default=True, help="whether to measure torch.compile")
    add_options(parser)
    options = parser.parse_args()
    check_options(parser, options)
    if not options.compile:
        options.peers = [peer for peer in options.peers if not peer.startswith("torch-compile")]
    return options


def draw(results: dict[str, Any], path: Path) -> None:
    """The picture; matplotlib is imported only if there is to be one."""
    from recurrent_plot import draw

    draw(results, path)


if __name__ == "__main__":
    finish(parse(), run, report, draw)
