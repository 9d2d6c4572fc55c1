"""Tables of what `recurrent.py` has measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import log
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

console = Console(highlight=False, markup=False)
if not console.is_terminal:
    console.width = 120

PEERS = {
    "plan": "minigrad plan, C",
    "plan-numpy": "minigrad plan, NumPy",
    "tape": "minigrad tape",
    "torch-nn": "torch nn layer",
    "torch-eager": "torch eager",
    "torch-compile": "torch compile",
    "torch-compile-loop": "torch compile, loop",
    "jax": "jax scan",
}
OURS = ("plan", "plan-numpy", "tape")
NAMES = {"rnn": "RNN (tanh)", "lstm": "LSTM", "gru": "GRU", "mgu": "MGU (custom)", "lnlstm": "layer-norm LSTM (custom)"}

Case = dict[str, Any]
"""One of the results' cases: its cell, its size (T, B, I, H), and what each peer has measured."""


class Target(NamedTuple):
    """A bound on minigrad's plan.

    Attributes:
        name: of what is bounded, "{}" for the bound.
        cells: to which it applies.
        value: of a case; None where something is missing.
        bound: the largest value that meets it, by case.
        digits: to show.
    """

    name: str
    cells: tuple[str, ...]
    value: Callable[[Case], float | None]
    bound: Callable[[Case], float]
    digits: int = 2


def ratio(case: Case, peer: str, mode: str = "train") -> float | None:
    """The time of minigrad's plan over a peer's."""
    mine, theirs = (case["peers"].get(name, {}).get(mode) for name in ("plan", peer))
    return mine / theirs if mine and theirs else None


def compile_milliseconds(case: Case) -> float | None:
    """By how much the first train step of a new layer, without a C compiler, outlasts its next ones."""
    seconds = case["peers"].get("plan-numpy", {}).get("compile")
    return None if seconds is None else max(0.0, seconds * 1e3)


ALL = tuple(NAMES)


def _beside_lstm(case: Case) -> float:
    """What is asked beside PyTorch's LSTM."""
    return {(25, 1, 65, 100): 0.7, (200, 32, 64, 64): 0.8, (50, 64, 128, 256): 0.8}.get(tuple(case["size"]), 1.0)


TARGETS = (
    Target("torch eager: at most 0.4", ALL, lambda case: ratio(case, "torch-eager"), lambda case: 0.4),
    Target("jax: at most 0.8", ALL, lambda case: ratio(case, "jax"), lambda case: 0.8),
    Target("nn.RNN, nn.GRU: at most 0.8", ("rnn", "gru"), lambda case: ratio(case, "torch-nn"), lambda case: 0.8),
    Target("nn.LSTM: at most 0.7 to 1", ("lstm",), lambda case: ratio(case, "torch-nn"), _beside_lstm),
    Target("own tape: at most 0.5", ALL, lambda case: ratio(case, "tape"), lambda case: 0.5),
    Target("plan without C: at most 20 ms", ALL, compile_milliseconds, lambda case: 20.0, digits=0),
)


def milliseconds(seconds: float | None) -> str:
    """A time, with three digits that count."""
    if seconds is None:
        return "-"
    value = seconds * 1e3
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def report(results: dict[str, Any]) -> None:
    """All tables."""
    cases, peers = results["cases"], results["peers"]
    cells = list(dict.fromkeys(case["cell"] for case in cases))
    for cell in cells:
        console.print(
            timings(f"{NAMES[cell]}: train step, ms", [c for c in cases if c["cell"] == cell], peers, "train")
        )
    console.print(timings("forward alone, ms", cases, peers, "forward"))
    console.print(
        "T,B,I,H: steps, batch, input, hidden. A ratio is minigrad plan's time over the peer's: below 1, faster.\n"
    )
    console.print(table("first train step with compiling, ms", cases, peers, first_call))
    console.print(
        table("peak memory of the train steps, MiB: above what was held before (in all)", cases, peers, memory)
    )
    console.print(targets(cases))
    remarks(results)


def timings(title: str, cases: list[Case], peers: list[str], mode: str) -> Table:
    """Times, and the ratio of the plan's to each."""

    def show(case: Case, peer: str) -> str | Text:
        time, compared = milliseconds(case["peers"].get(peer, {}).get(mode)), ratio(case, peer, mode)
        if peer == "plan" or compared is None:
            return time
        return Text.assemble(time, (f" {compared:5.2f}", "green" if compared <= 1 else "yellow"))

    return table(title, cases, peers, show, {peer: "ms" if peer == "plan" else "ms  ratio" for peer in peers})


def table(
    title: str,
    cases: list[Case],
    peers: list[str],
    show: Callable[[Case, str], str | Text],
    units: dict[str, str] | None = None,
) -> Table:
    """A row per case, a column per peer that has anything to show."""
    several = len({case["cell"] for case in cases}) > 1
    peers = [peer for peer in peers if any(peer in case["peers"] for case in cases)]
    made = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1))
    if several:
        made.add_column("cell", no_wrap=True)
    made.add_column("T,B,I,H", no_wrap=True)
    for peer in peers:
        made.add_column(PEERS[peer].replace(" ", "\n", 1) + (f"\n{units[peer]}" if units else ""), justify="right")
    for position, case in enumerate(cases):
        ends = case["cell"] != cases[min(position + 1, len(cases) - 1)]["cell"]
        cells = [case["cell"]] if several else []
        made.add_row(*cells, size_of(case), *(show(case, peer) for peer in peers), end_section=ends)
    return made


def first_call(case: Case, peer: str) -> str:
    return milliseconds(case["peers"].get(peer, {}).get("first", {}).get("train"))


def memory(case: Case, peer: str) -> str:
    found = case["peers"].get(peer, {}).get("memory", {})
    if not found.get("peak"):
        return "-"
    return f"{found['peak'] - found['before']:.0f} ({found['peak']:.0f})"


def size_of(case: Case) -> str:
    return ",".join(map(str, case["size"]))


def two_lines(size: str) -> str:
    steps, batch, inputs, hidden = size.split(",")
    return f"{steps},{batch},\n{inputs},{hidden}"


def targets(cases: list[Case]) -> Table:
    """Which targets are met, by cell and size."""
    sizes = list(dict.fromkeys(size_of(case) for case in cases))
    made = Table(title="targets for minigrad plan, train step", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1))
    made.add_column("target")
    made.add_column("cell")
    for size in sizes:
        made.add_column(two_lines(size), justify="right")
    made.add_column("met", justify="right")
    for target in TARGETS:
        measured = [case["cell"] for case in cases if target.value(case) is not None]
        cells = [cell for cell in target.cells if cell in measured]
        for cell in cells:
            shown = {}
            verdicts = []
            for case in (case for case in cases if case["cell"] == cell):
                value = target.value(case)
                if value is None:
                    continue
                met = value <= target.bound(case)
                verdicts.append(met)
                text = f"{value:.{target.digits}f} {'yes' if met else 'NO'}"
                shown[size_of(case)] = Text(text, "green" if met else "bold red")
            row = [shown.get(size, Text("-")) for size in sizes]
            name = target.name if cell == cells[0] else ""
            made.add_row(name, cell, *row, f"{sum(verdicts)} of {len(verdicts)}", end_section=cell == cells[-1])
    return made


def remarks(results: dict[str, Any]) -> None:
    """What was not measured and why; how it was measured."""
    notes: dict[str, set[str]] = {}
    versions = set()
    worst = 0.0
    for case in results["cases"]:
        for peer, found in case["peers"].items():
            if "missing" in found:
                where = f"{PEERS[peer]}, {case['cell']} {size_of(case)}"
                console.print(Text.assemble((f"not measured: {where}: ", "bold red"), found["missing"]))
                continue
            notes.setdefault(peer, set()).add(found["note"])
            versions.add(found["version"])
            worst = max(worst, *found["differences"].values())
    warn_of_tape(notes.get("plan", ()))
    for peer, kinds in notes.items():
        if peer not in OURS:
            console.print(f"{PEERS[peer]}: {'; '.join(sorted(kinds))}")
    settings = results["settings"]
    console.print(
        f"{results['machine']}; {', '.join(sorted(versions))}; float32, {settings['threads']} threads, medians of "
        f"{settings['rounds']} alternating rounds of {settings['budget']:g} s. All outputs and gradients are those of "
        f"minigrad's tape; the largest difference is {worst:.0e} of the largest value.",
    )


def warn_of_tape(notes: Iterable[str]) -> None:
    """Say so if what should be the plan's figures are the tape's, going by what `explain` answered."""
    for line in sorted({line for note in notes for line in note.splitlines() if "engine tape" in line}):
        console.print(Text(f"engine='plan' ran on the tape: {line}", "bold red"))


def report_demo(results: dict[str, Any]) -> None:
    """The demo with one engine and the other."""
    plan, tape = (results[engine]["losses"] for engine in ("plan", "tape"))
    apart = [abs(mine - theirs) for mine, theirs in zip(plan, tape, strict=True)]
    largest = max(apart)
    made = Table(title=f"the demo's model, {len(plan)} windows, same seed", title_justify="left")
    for column in ("engine", "characters a second", "first loss", "last loss"):
        made.add_column(column, justify="left" if column == "engine" else "right")
    for engine, result in results.items():
        ends = (f"{result['losses'][end] / log(2):.4f}" for end in (0, -1))
        made.add_row(engine, f"{result['speed']:,.0f}", *ends)
    console.print(made)
    console.print("Losses are in bits per character, speeds are medians over windows.")
    console.print(
        f"largest difference of the two loss curves: {largest / log(2):.1e} bits per character, in window "
        f"{apart.index(largest) + 1}; mean difference {sum(apart) / len(apart) / log(2):.1e}"
    )
    warn_of_tape([results["plan"]["note"]])
