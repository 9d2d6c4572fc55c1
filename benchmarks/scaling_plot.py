"""The picture of what `scaling.py` has measured. Needs matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator
from peers import COLOURS, NAMES, PEERS
from scaling import AXES, curve, normalised

MARKS = {"plan": "o", "plan-numpy": "s", "torch-nn": "^", "jax": "D"}
LABELS = {"T": "T, steps", "B": "B, sequences", "H": "H = I, features", "threads": "threads"}


def draw(results: dict[str, Any], path: Path) -> None:
    """Above the time of a train step, below that per step of one sequence; a column for each of T, B, H, threads."""
    peers = results["settings"]["peers"]
    figure, panels = plt.subplots(2, len(AXES), figsize=(15, 7.4), layout="constrained", sharex="col", sharey="row")
    for name, column in zip(AXES, panels.T, strict=True):
        measured = curve(results, name)
        if not measured:
            continue
        for peer in peers:
            whole = [(value, case["peers"].get(peer, {}).get("train")) for value, case in measured]
            line(column[0], peer, [(value, seconds * 1e3) for value, seconds in whole if seconds])
            each = [(value, normalised(case, peer)) for value, case in measured]
            line(column[1], peer, [(value, seconds * 1e6) for value, seconds in each if seconds])
        column[0].set_title(fixed(name, measured[0][1]), fontsize=10)
        column[1].set_xlabel(LABELS[name])
        for axes in column:
            scale(axes, [value for value, _ in measured])
    panels[0, 0].set_ylabel("train step, ms")
    panels[1, 0].set_ylabel("per step of one sequence, µs")
    handles = [Line2D([], [], color=COLOURS[peer], marker=MARKS[peer], label=PEERS[peer]) for peer in peers]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=11)
    figure.suptitle(
        f"{NAMES[results['settings']['cell']]}, forward and backward, float32; {results['machine']}", fontsize=13
    )
    figure.savefig(path, dpi=120)
    plt.close(figure)


def line(axes: Any, peer: str, points: list[tuple[int, float]]) -> None:
    """One library's curve; that of the plan in C lies on top."""
    order = {"zorder": 4, "linewidth": 2.0} if peer == "plan" else {"zorder": 3, "linewidth": 1.3}
    if points:
        axes.plot(*zip(*points, strict=True), marker=MARKS[peer], markersize=4.5, color=COLOURS[peer], **order)


def fixed(name: str, case: dict[str, Any]) -> str:
    """What stays the same, in words."""
    steps, batch, _, hidden = case["size"]
    stays = {"T": f"T = {steps}", "B": f"B = {batch}", "H": f"H = I = {hidden}"}
    stays["threads"] = f"{case['threads']} threads"
    return ", ".join(words for other, words in stays.items() if other != name)


def scale(axes: Any, values: list[int]) -> None:
    """Both axes in powers, with a tick at each value measured."""
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(FixedLocator(values))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(labelsize=9, labelleft=True)
    axes.grid(alpha=0.3)
    if len(values) == 1:
        axes.set_xlim(values[0] / 2, values[0] * 2)
