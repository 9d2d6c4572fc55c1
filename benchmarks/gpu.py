"""Milliseconds per train step, and per forward alone, of recurrent layers on a GPU: minigrad beside PyTorch and JAX.

    python benchmarks/gpu.py [--cells lstm gru rnn mgu] [--sizes 35,20,200,200 ...] [--peers plan torch-nn jax]
                             [--budget 0.3] [--json FILE] [--png FILE]
    python benchmarks/gpu.py --from-json FILE [--png FILE]

A train step is forward and backward over the whole sequence, from a given gradient of the outputs to the gradients of
all parameters; float32, without TF32. Every library has a process of its own, one after the other, and the same weights
and data. It is timed by events on the device (JAX, which has none, by the host), and only if its outputs and gradients
are those of minigrad's tape. Peers that are not installed are left out. GB/s are the bytes that minigrad's products and
kernels read and write, each counted as often as it is called, over the time: much of it comes from the cache.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from flops import train_step_flops
from gpu_peers import LIBRARIES, PEERS
from peers import BUILT_IN, NAMES
from processes import is_installed
from recurrent_cells import Size
from tables import compared, console, milliseconds, new_table, verdict

SIZES = ("35,20,200,200", "50,64,128,256", "100,64,512,512", "100,128,1024,1024", "200,32,64,64")
CELLS = ("lstm", "gru", "rnn", "mgu")
WORKER = Path(__file__).with_name("gpu_worker.py")
TARGETS = {"torch-nn": (1.0, ("lstm", "gru")), "torch-eager": (0.25, ("mgu",)), "jax": (0.7, ("mgu",))}
"""For each peer the most that minigrad may take of its time, and the cells for which that was asked, on an H100."""

Results = dict[str, Any]


def ask(arguments: list[str], limit: float) -> tuple[list[dict[str, Any]], str]:
    """What a worker has answered, line by line, and why there is no more."""
    command = [sys.executable, str(WORKER), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
        out, reason = done.stdout, (done.stderr.strip().splitlines() or [""])[-1] if done.returncode else ""
    except subprocess.TimeoutExpired as late:
        out = late.stdout.decode() if isinstance(late.stdout, bytes) else late.stdout or ""
        reason = f"not done after {limit:g} s"
    return [json.loads(line) for line in out.splitlines() if line.startswith("{")], reason


def run(cells: list[str], sizes: list[str], peers: list[str], budget: float, limit: float) -> Results:
    """Everything, the tape first, since all others are held to it."""
    answers, reason = ask(["limits"], limit)
    results: Results = {"limits": answers[0] if answers else {"missing": reason}, "peers": {}, "cases": []}
    cases = {(cell, size): {"cell": cell, "size": size, "peers": {}} for cell in cells for size in sizes}
    with tempfile.TemporaryDirectory() as folder:
        for peer in ["tape", *(peer for peer in peers if peer != "tape")]:
            wanted = [f"{c}:{s}" for c, s in cases if peer != "torch-nn" or c in BUILT_IN]
            console.print(f"{PEERS[peer]} ...")
            answers, reason = ask([peer, folder, str(budget), *wanted], limit)
            results["peers"][peer] = answers[0] if answers else {"missing": reason}
            for answer in answers[1:]:
                cases[answer.pop("cell"), answer.pop("size")]["peers"][peer] = answer
            for name in wanted:
                cell, size = name.split(":")
                cases[cell, size]["peers"].setdefault(peer, {"missing": reason or "no answer"})
    results["cases"] = list(cases.values())
    return results


def report(results: Results) -> None:
    """The tables."""
    limits = results["limits"]
    if "missing" in limits:
        console.print(f"the device's limits are not known: {limits['missing']}")
    else:
        console.print(
            f"{limits['device']}: copies {limits['bytes a second'] / 1e9:,.0f} GB/s, "
            f"float32 products {limits['operations a second'] / 1e12:.1f} TFLOP/s"
        )
    for peer, about in results["peers"].items():
        console.print(f"  {PEERS[peer]}: {about.get('version', about.get('missing'))}")
    peers = [peer for peer in PEERS if peer in results["peers"]]
    others = [peer for peer in peers if peer != "plan"]
    for mode in ("train", "forward"):
        rates = ["TFLOP/s", "GB/s"] if mode == "train" else []
        heads = [f"{PEERS['plan']}, ms", *rates, *(f"over {PEERS[p]}" for p in others)]
        made = new_table(f"{mode}: minigrad's time, and over those of the others", ["cell", "T,B,I,H"], heads)
        for case in results["cases"]:
            plan = case["peers"].get("plan", {}).get(mode)
            work = [""] * len(rates)
            if plan and mode == "train":
                moved = case["peers"]["plan"].get("bytes")
                work[0] = f"{train_step_flops(case['cell'], Size.parse(case['size'])) / plan / 1e12:.1f}"
                work[1] = f"{moved / plan / 1e9:,.0f}" if moved else "-"
            row = [milliseconds(plan), *work, *(compared(ratio(case, peer, mode)) for peer in others)]
            made.add_row(NAMES[case["cell"]], case["size"], *row)
        console.print(made)
    for case in results["cases"]:
        for peer, found in case["peers"].items():
            if "missing" in found:
                console.print(f"not measured: {PEERS[peer]}, {case['cell']} {case['size']}: {found['missing']}")
    for peer, (bound, cells) in TARGETS.items():
        for case in results["cases"]:
            value = ratio(case, peer, "train") if case["cell"] in cells else None
            if value is not None:
                words = f"target: {case['cell']} {case['size']} at most {bound:g} of {PEERS[peer]}:"
                console.print(words, verdict(value <= bound, f"{value:.2f}"))


def ratio(case: dict[str, Any], peer: str, mode: str) -> float | None:
    """minigrad's time over a peer's."""
    plan, other = (case["peers"].get(name, {}).get(mode) for name in ("plan", peer))
    return plan / other if plan and other else None


def draw(results: Results, path: Path) -> None:
    """Times of a train step: a panel per cell, a group of bars per size."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    cells = list(dict.fromkeys(case["cell"] for case in results["cases"]))
    figure, panels = plt.subplots(1, len(cells), figsize=(5.5 * len(cells), 4), layout="constrained", squeeze=False)
    for axes, cell in zip(panels[0], cells, strict=True):
        cases = [case for case in results["cases"] if case["cell"] == cell]
        peers = [peer for peer in PEERS if any("train" in case["peers"].get(peer, {}) for case in cases)]
        for place, peer in enumerate(peers):
            heights = [case["peers"].get(peer, {}).get("train", 0) * 1e3 for case in cases]
            at = [n + (place - len(peers) / 2) * 0.8 / len(peers) for n in range(len(cases))]
            axes.bar(at, heights, 0.8 / len(peers), label=PEERS[peer], align="edge")
        axes.set_xticks(range(len(cases)), [case["size"] for case in cases], fontsize=7)
        axes.set_yscale("log")
        axes.set_title(NAMES[cell])
        axes.set_ylabel("train step, ms")
    panels[0][0].legend(fontsize=7)
    figure.suptitle(f"{results['limits'].get('device', '')}, float32; steps, batch, input, hidden")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def no_device() -> str:
    """Why nothing can be measured here; empty if it can."""
    import minigrad as mg
    from minigrad.backend import load_backend

    try:
        load_backend("cupy")
    except mg.BackendUnavailableError as error:
        return str(error)
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--cells", nargs="+", choices=[*CELLS, "lnlstm"], default=list(CELLS), help="by default all but lnlstm")
    add("--sizes", nargs="+", metavar="T,B,I,H", default=list(SIZES), help=f"by default {' '.join(SIZES)}")
    add("--peers", nargs="+", choices=list(PEERS), default=list(PEERS), help="by default all that are installed")
    add("--budget", type=float, default=0.3, metavar="SECONDS", help="to measure a case (default 0.3)")
    add("--limit", type=float, default=240.0, metavar="SECONDS", help="for all of a library's cases (default 240)")
    add("--json", type=Path, metavar="FILE", help="write everything measured")
    add("--from-json", type=Path, metavar="FILE", help="measure nothing, show what is in this file")
    add("--png", type=Path, metavar="FILE", help="draw the times (needs matplotlib)")
    options = parser.parse_args()
    if options.from_json is not None:
        results = json.loads(options.from_json.read_text(encoding="utf-8"))
    else:
        if reason := no_device():
            sys.exit(f"nothing is measured without a GPU: {reason}")
        sizes = [str(Size.parse(text)) for text in options.sizes]
        peers = [peer for peer in options.peers if peer in ("plan", "tape") or is_installed(LIBRARIES.get(peer, peer))]
        results = run(options.cells, sizes, ["plan", *(p for p in peers if p != "plan")], options.budget, options.limit)
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1), encoding="utf-8")
    report(results)
    if options.png is not None:
        draw(results, options.png)


if __name__ == "__main__":
    main()
