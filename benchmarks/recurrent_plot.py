"""The picture of what `recurrent.py` has measured. Needs matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from peers import COLOURS, NAMES, PEERS
from recurrent_report import ratio
from results import Case
from tables import size_of


def draw(results: dict[str, Any], path: Path) -> None:
    """How many times as long as the plan each peer takes for a train step: a panel per cell, a group per size."""
    cases = results["cases"]
    cells = list(dict.fromkeys(case["cell"] for case in cases))
    peers = [peer for peer in COLOURS if peer != "plan" and any(ratio(case, peer) for case in cases)]
    columns = min(2, len(cells) + 1)
    rows = len(cells) // columns + 1  # at least a panel more than cells, for the legend
    figure, panels = plt.subplots(
        rows, columns, figsize=(7.5 * columns, 3.3 * rows + 0.6), layout="constrained", sharey=True, squeeze=False
    )
    flat = list(panels.flat)
    for axes, cell in zip(flat, cells, strict=False):
        panel(axes, cell, [case for case in cases if case["cell"] == cell], peers)
    values = [1 / compared for case in cases for peer in peers if (compared := ratio(case, peer)) is not None]
    least, most = min([0.7, *values]), max([1.4, *values])
    room = max(1.35, (most / least) ** 0.07)  # for the numbers
    flat[0].set_ylim(least / room, most * room)  # all share it
    for axes in flat[len(cells) :]:
        axes.axis("off")
    corner = flat[len(cells)]
    handles = [Patch(color=COLOURS[peer], label=PEERS[peer]) for peer in peers]
    corner.legend(handles=handles, loc="upper left", fontsize=11)
    words = f"sizes: steps, batch, input, hidden\nfloat32, forward and backward\n{results['machine']}"
    corner.text(0.02, 0.02, words, fontsize=9, transform=corner.transAxes)
    figure.suptitle("How many times as long as minigrad's plan the others take for a train step", fontsize=14)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def panel(axes: Any, cell: str, cases: list[Case], peers: list[str]) -> None:
    """One cell: bars from the line of minigrad's plan up to slower peers and down to faster ones."""
    peers = [peer for peer in peers if any(ratio(case, peer) for case in cases)]
    width = 0.84 / max(1, len(peers))
    for place, peer in enumerate(peers):
        for position, case in enumerate(cases):
            compared = ratio(case, peer)
            if compared is not None:
                bar(axes, position + (place - (len(peers) - 1) / 2) * width, width, 1 / compared, COLOURS[peer])
    axes.axhline(1, color="black", linewidth=1.2, zorder=3)
    axes.set_title(NAMES[cell], fontweight="bold")
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_locator(LogLocator(base=2))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} x"))
    axes.set_xticks(range(len(cases)), [size_of(case) for case in cases], fontsize=8)
    axes.grid(axis="y", alpha=0.3, zorder=0)
    axes.set_ylabel("minigrad is: slower \u2190  \u2192 faster", fontsize=8, color="0.35")
    axes.tick_params(labelleft=True)


def bar(axes: Any, middle: float, width: float, value: float, colour: str) -> None:
    """From 1 to the value, which is written at its end."""
    above = value >= 1
    axes.bar(middle, value - 1, width * 0.94, bottom=1, color=colour, zorder=2)
    axes.annotate(
        f"{value:.1f}" if above else f"{value:.2f}",
        (middle, value),
        xytext=(0, 2 if above else -2),
        textcoords="offset points",
        ha="center",
        va="bottom" if above else "top",
        fontsize=6.5,
    )
