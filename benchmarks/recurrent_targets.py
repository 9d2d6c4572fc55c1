"""Tables of the work done per second, of the targets met, and of those missed."""

from __future__ import annotations

from peers import PEERS
from results import Case
from rich.text import Text
from tables import console, new_table, size_of, three_digits, two_lines, verdict
from targets import COMPILING, PEAK, TARGETS, Target, gflop, judge, least_possible, peak_of, train_seconds


def work(cases: list[Case], peers: list[str], peaks: list[dict[str, float]]) -> float | None:
    """GFLOP/s of whole train steps, over the peak; and the least ratio that anyone could have to each peer.

    Returns:
        The peak, None if it was not measured.
    """
    peak, undisturbed = peak_of(cases, peaks)
    if peak is None:
        console.print("the machine's peak is not known: nothing to hold the work done per second against")
        return None
    others = [peer for peer in peers if peer not in ("plan", "plan-numpy", "tape")]
    heads = ["GFLOP", "plan, C\nGFLOP/s", "of the\npeak"]
    heads += ["least possible\n" + PEERS[peer].replace(" ", "\n", 1) for peer in others]
    made = new_table("work: matrix products of a whole train step", ["cell", "T,B,I,H"], heads)
    for position, case in enumerate(cases):
        ends = case["cell"] != cases[min(position + 1, len(cases) - 1)]["cell"]
        mine = train_seconds(case, "plan")
        speed = None if mine is None else gflop(case) / mine
        floors = [least_possible(case, peer, peak) for peer in others]
        made.add_row(
            case["cell"],
            size_of(case),
            f"{gflop(case):.3g}",
            *(["-", "-"] if speed is None else [three_digits(speed), f"{speed / peak:.2f}"]),
            *("-" if floor is None else f"{floor:.2f}" for floor in floors),
            end_section=ends,
        )
    console.print(made)
    listed = "; ".join(", ".join(f"{name} {gflops:.0f}" for name, gflops in found.items()) for found in peaks)
    console.print(
        f"The peak is {peak:.0f} GFLOP/s, the best of all measured before and after the cases ({listed}). Least "
        "possible is the time of the products alone, at this peak, over the peer's whole train step: no ratio to it "
        "can be less."
    )
    if not undisturbed:
        words = "A train step was faster than the products, and stands for the peak: they were disturbed, and "
        console.print(Text(f"{words}what is said to be in reach or not may be wrong. Measure again.", "bold red"))
    console.print()
    return peak


def named(target: Target) -> str:
    """What is asked, in words."""
    if target.against == PEAK:
        return f"of the peak: at least {target.bound:g}"
    if target.against == COMPILING:
        return f"first call: {target.bound:g} ms"
    others = [*target.at.values(), *([] if target.batch_of_one is None else [target.batch_of_one])]
    bounds = sorted({target.bound, *others})
    return f"{PEERS[target.against]}: at most {bounds[0]:g}" + (f" to {bounds[-1]:g}" if bounds[1:] else "")


def met(cases: list[Case], ours: str, peak: float | None) -> None:
    """Which targets one of minigrad's executors meets, by cell and size."""
    sizes = list(dict.fromkeys(size_of(case) for case in cases))
    made = new_table(
        f"targets for {PEERS[ours]}, train step", ["target", "cell"], [*(two_lines(size) for size in sizes), "met"]
    )
    for target in TARGETS:
        judged = [found for case in cases if target.ours == ours and (found := judge(target, case, peak))]
        cells = list(dict.fromkeys(found.case["cell"] for found in judged))
        for cell in cells:
            of_cell = {size_of(found.case): found for found in judged if found.case["cell"] == cell}
            digits = 0 if target.against == COMPILING else 2
            shown = {size: verdict(found.met, f"{found.measured:.{digits}f}") for size, found in of_cell.items()}
            row = [shown.get(size, Text("-")) for size in sizes]
            count = f"{sum(found.met for found in of_cell.values())} of {len(of_cell)}"
            made.add_row(named(target) if cell == cells[0] else "", cell, *row, count, end_section=cell == cells[-1])
    if made.row_count:
        console.print(made)


def missed(cases: list[Case], peak: float | None) -> None:
    """The targets that are missed, one by one, and which of them nothing could meet here."""
    found = [judged for target in TARGETS for case in cases if (judged := judge(target, case, peak))]
    misses = [judged for judged in found if not judged.met]
    made = new_table(
        "targets missed",
        ["executor", "against", "cell", "T,B,I,H"],
        ["target", "measured", "least possible", "in reach"],
    )
    for judged in misses:
        against = judged.target.against
        digits = 0 if against == COMPILING else 2
        made.add_row(
            PEERS[judged.target.ours].removeprefix("minigrad "),
            PEERS.get(against, against),
            judged.case["cell"],
            size_of(judged.case),
            f"{'at least' if against == PEAK else 'at most'} {judged.asked:g}",
            f"{judged.measured:.{digits}f}",
            "-" if judged.possible is None else f"{judged.possible:.2f}",
            Text("yes") if judged.in_reach else Text("by nobody", "cyan"),
        )
    if misses:
        console.print(made)
    beyond = sum(not judged.in_reach for judged in misses)
    console.print(
        f"{len(found) - len(misses)} of {len(found)} targets met; of the {len(misses)} missed, {beyond} are such that "
        "the products alone, at the machine's peak, would take longer than what was asked.\n"
    )
