"""How the time of a train step grows with T, B, H and threads: minigrad beside PyTorch and JAX on the CPU.

    python benchmarks/scaling.py [--cell lstm] [--json FILE] [--png scaling.png]
    python benchmarks/scaling.py --quick
    python benchmarks/scaling.py --from-json FILE --png scaling.png

One of the four varies, and the others stay as in the middle: T = 50 steps, B = 32 sequences, I = H = 128, all cores.
What is timed and how is as in `recurrent.py`: each library in a process of its own with that number of threads, in
turn, its results held to minigrad's tape. About five minutes; --quick takes one.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

from peers import NAMES, PEERS, installed
from processes import Turns, cores, warn_if_busy
from recurrent_case import run_case
from recurrent_cells import CELLS, Size
from results import Case, Results
from results_command import add_options, check_options, finish
from rich.text import Text
from tables import compared, console, microseconds, milliseconds, missing, new_table, size_of

SCALING_PEERS = ("plan", "plan-numpy", "torch-nn", "jax")
VALUES = {"T": (5, 12, 25, 50, 100, 200, 400), "B": (1, 2, 4, 8, 16, 32, 64, 128), "H": (16, 32, 64, 128, 256, 512)}
QUICK = {"T": (2, 8), "B": (1, 4), "H": (8, 32)}
MIDDLE = {"T": 50, "B": 32, "H": 128}
QUICK_MIDDLE = {"T": 4, "B": 4, "H": 16}


class Point(NamedTuple):
    """A case, by what varies: "T", "B", "H" (with I as large), or "threads"."""

    steps: int
    batch: int
    hidden: int
    threads: int

    @property
    def size(self) -> Size:
        return Size(self.steps, self.batch, self.hidden, self.hidden)


AXES = dict(zip(("T", "B", "H", "threads"), Point._fields, strict=True))


def sweeps(values: dict[str, tuple[int, ...]], middle: dict[str, int], most: int) -> dict[str, list[Point]]:
    """For each of the four, the points at which it varies alone."""
    start = Point(middle["T"], middle["B"], middle["H"], most)
    counts = sorted({*(2**power for power in range(most.bit_length())), most})
    found = {}
    for name, of_axis in {**values, "threads": tuple(counts)}.items():
        own = sorted({*of_axis, middle.get(name, most)})
        found[name] = [start._replace(**{AXES[name]: value}) for value in own]
    return found


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure every point that the file of results does not hold yet."""
    peers = [peer for peer in installed(options.peers) if peer in options.peers]
    values, middle = (QUICK, QUICK_MIDDLE) if options.quick else (VALUES, MIDDLE)
    plan = sweeps(values, middle, options.threads)
    points = list(dict.fromkeys(point for sweep in plan.values() for point in sweep))
    settings = {"peers": peers, "rounds": options.rounds, "budget": options.budget, "cell": options.cell}
    settings["sweeps"] = {name: [list(point) for point in sweep] for name, sweep in plan.items()}
    results = Results(options.json, settings, options.fresh)
    warn_if_busy()
    for number, point in enumerate(points, 1):
        if results.has(options.cell, point.size, point.threads):
            continue
        turns = Turns(point.threads, options.rounds, f"{options.budget} train", 300.0)
        measured = run_case(options.cell, point.size, peers, turns)
        results.add(options.cell, point.size, point.threads, measured)
        times = [f"{peer} {milliseconds(found.get('train'))}" for peer, found in measured.items()]
        console.print(f"[{number}/{len(points)}] {point.size}, threads {point.threads}: ms: {', '.join(times)}")
    return results.contents


def curve(results: dict[str, Any], name: str) -> list[tuple[int, Case]]:
    """What varies and the case there, where it has been measured."""
    cases = {(*case["size"], case["threads"]): case for case in results["cases"]}
    points = [Point(*point) for point in results["settings"]["sweeps"][name]]
    found = [(getattr(point, AXES[name]), cases.get((*point.size, point.threads))) for point in points]
    return [(value, case) for value, case in found if case is not None]


def normalised(case: Case, peer: str) -> float | None:
    """Seconds per step of one sequence: the train step over T B."""
    seconds = case["peers"].get(peer, {}).get("train")
    return None if seconds is None else seconds / (case["size"][0] * case["size"][1])


def report(results: dict[str, Any]) -> None:
    """A table for each of the four."""
    settings = results["settings"]
    peers = settings["peers"]
    for name in AXES:
        measured = curve(results, name)
        if not measured:
            continue
        words = {peer: PEERS[peer].replace(" ", "\n", 1) for peer in peers}
        heads = [f"{words[peer]}\nms{'' if peer == 'plan' else '  ratio'}" for peer in peers]
        heads += [f"{words[peer]}\nµs / T B" for peer in peers]
        made = new_table(f"{NAMES[settings['cell']]}: train step by {name}", [name, "T,B,I,H"], heads)
        for value, case in measured:
            times = {peer: case["peers"].get(peer, {}).get("train") for peer in peers}
            each = [microseconds(normalised(case, peer)) for peer in peers]
            made.add_row(str(value), size_of(case), *(with_ratio(times, peer) for peer in peers), *each)
        console.print(made)
    for case in results["cases"]:
        missing(case["peers"], f"{size_of(case)}, threads {case['threads']}")
    console.print(
        f"{results['machine']}; float32, I = H, medians of {settings['rounds']} alternating rounds of "
        f"{settings['budget']:g} s. µs / T B: per step of one sequence. A ratio below 1: minigrad is faster."
    )


def with_ratio(times: dict[str, float | None], peer: str) -> Text:
    """A peer's time, and minigrad plan's over it."""
    mine, theirs = times.get("plan"), times[peer]
    shown = Text(milliseconds(theirs))
    return Text.assemble(shown, "  ", compared(mine / theirs)) if mine and theirs and peer != "plan" else shown


def parse() -> argparse.Namespace:
    """The options, checked before anything is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--cell", choices=CELLS, default="lstm", help="default lstm")
    add("--peers", nargs="+", choices=SCALING_PEERS, default=list(SCALING_PEERS), help="by default all")
    add("--quick", action="store_true", help="a few small sizes and short turns, to see that it works")
    add("--rounds", type=int, help="how many turns each has at each point (default 2, with --quick 1)")
    add("--budget", type=float, help="seconds for each turn (default 0.3, with --quick 0.05)")
    add(
        "--threads",
        type=int,
        default=cores(),
        metavar="MOST",
        help="of each, and the end of their curve (default: all)",
    )
    add_options(parser)
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 2)
    options.budget = options.budget or (0.05 if options.quick else 0.3)
    check_options(parser, options)
    return options


def draw(results: dict[str, Any], path: Path) -> None:
    """The picture; matplotlib is imported only if there is to be one."""
    from scaling_plot import draw

    draw(results, path)


if __name__ == "__main__":
    finish(parse(), run, report, draw)
