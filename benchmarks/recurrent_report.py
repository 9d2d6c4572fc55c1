"""Tables of what `recurrent.py` has measured; those of targets are in `recurrent_targets.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from peers import NAMES, OURS, PEERS
from recurrent_targets import met, missed, work
from results import Case
from rich.table import Table
from rich.text import Text
from tables import compared, console, milliseconds, missing, new_table, size_of


def ratio(case: Case, peer: str, mode: str = "train") -> float | None:
    """The time of minigrad's plan over a peer's."""
    mine, theirs = (case["peers"].get(name, {}).get(mode) for name in ("plan", peer))
    return mine / theirs if mine and theirs else None


def report(results: dict[str, Any]) -> None:
    """All tables."""
    cases, peers = results["cases"], results["settings"]["peers"]
    if not cases:
        console.print("nothing has been measured")
        return
    for cell in dict.fromkeys(case["cell"] for case in cases):
        title = f"{NAMES[cell]}: train step, ms"
        console.print(timings(title, [case for case in cases if case["cell"] == cell], peers, "train"))
    console.print(timings("forward alone, ms", cases, peers, "forward"))
    console.print(
        "T,B,I,H: steps, batch, input, hidden. A ratio is minigrad plan's time over the peer's: below 1, faster.\n"
    )
    console.print(table("first train step with compiling, ms", cases, peers, first_call))
    console.print(
        table("peak memory of the train steps, MiB: above what was held before (in all)", cases, peers, memory)
    )
    peak = work(cases, peers, results["peaks"])
    for ours in ("plan", "plan-numpy"):
        met(cases, ours, peak)
    missed(cases, peak)
    remarks(results)


def timings(title: str, cases: list[Case], peers: list[str], mode: str) -> Table:
    """Times, and the ratio of the plan's to each."""

    def show(case: Case, peer: str) -> str | Text:
        time, against = milliseconds(case["peers"].get(peer, {}).get(mode)), ratio(case, peer, mode)
        if peer == "plan" or against is None:
            return time
        return Text.assemble(time, "  ", compared(against))

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
    heads = [PEERS[peer].replace(" ", "\n", 1) + (f"\n{units[peer]}" if units else "") for peer in peers]
    made = new_table(title, ["cell", "T,B,I,H"] if several else ["T,B,I,H"], heads)
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


def remarks(results: dict[str, Any]) -> None:
    """What was not measured and why; how it was measured."""
    notes: dict[str, set[str]] = {}
    versions = set()
    worst = 0.0
    for case in results["cases"]:
        missing(case["peers"], f"{case['cell']} {size_of(case)}")
        for peer, found in case["peers"].items():
            if "missing" not in found:
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
    if len({case["source"] for case in results["cases"]}) > 1:
        console.print(Text("minigrad's code has changed between cases: --fresh measures all anew", "bold red"))


def warn_of_tape(notes: Iterable[str]) -> None:
    """Say so if what should be the plan's figures are the tape's, going by what `explain` answered."""
    for line in sorted({line for note in notes for line in note.splitlines() if "engine tape" in line}):
        console.print(Text(f"engine='plan' ran on the tape: {line}", "bold red"))
