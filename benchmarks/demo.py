"""Characters a second in the training of `minigrad demo`: minigrad's engines, and the same model in PyTorch.

    python benchmarks/demo.py [--windows 300] [--rounds 6] [--peers plan torch-nn] [--json FILE]

All train on the same text with the same windows, from the same weights: embedding, two LSTM layers, linear,
cross-entropy, gradients clipped, Adam, the state carried from window to window. Each is a process of its own; they take
turns of some windows each, and their losses are compared.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from math import log
from pathlib import Path
from typing import Any

from peers import PEERS, installed
from processes import Turns, cores, in_turn, machine, once, warn_if_busy
from recurrent_report import warn_of_tape
from tables import console, missing, new_table, verdict
from targets import DEMO

DEMO_PEERS = ("plan", "plan-numpy", "tape", "torch-nn")
EARLY = 20
"""Windows after which rounding errors have not yet grown much."""


def run(peers: list[str], hidden: int, turns: Turns) -> dict[str, dict[str, Any]]:
    """By peer its losses, in nats per character, and its speed, in characters a second."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        file = str(Path(folder, "data.npz"))
        once(["demo_worker.py", "data", file, str(hidden)], turns.threads, turns.limit)
        found = in_turn({peer: ["demo_worker.py", peer, file] for peer in peers}, turns, Path(folder))
    for answer in found.values():
        rounds = answer.pop("rounds", [])
        if rounds:
            answer["losses"] = [loss for turn in rounds for loss in turn["losses"]]
            answer["speed"] = statistics.median(turn["speed"] for turn in rounds)
            answer["notes"] = rounds[-1]["notes"]
    return found


def report(found: dict[str, dict[str, Any]]) -> None:
    """Speeds and losses, and how far these part from those of minigrad's plan in C."""
    measured = {peer: answer for peer, answer in found.items() if "speed" in answer}
    plan = measured.get("plan")
    heads = ["characters\na second", "speed of plan, C\nover it", "first loss", "last loss"]
    heads += [f"largest difference\nin {EARLY} windows", "in all"]
    made = new_table("the demo's training; losses in bits per character", ["model in"], heads)
    for peer, answer in measured.items():
        losses = [loss / log(2) for loss in answer["losses"]]
        row = [f"{answer['speed']:,.0f}", "", f"{losses[0]:.4f}", f"{losses[-1]:.4f}"]
        if plan and peer != "plan":
            apart = [abs(loss - mine / log(2)) for loss, mine in zip(losses, plan["losses"], strict=True)]
            row[1] = f"{plan['speed'] / answer['speed']:.2f}"
            row += [f"{max(apart[:EARLY]):.1e}", f"{max(apart):.1e}"]
        made.add_row(PEERS[peer], *row)
    console.print(made)
    missing(found, "the demo")
    if plan:
        warn_of_tape(plan["notes"])
    if plan and "torch-nn" in measured:
        ratio = plan["speed"] / measured["torch-nn"]["speed"]
        console.print(f"target: at least {DEMO:g} times PyTorch's speed:", verdict(ratio >= DEMO, f"{ratio:.2f}"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--peers", nargs="+", choices=DEMO_PEERS, default=list(DEMO_PEERS), help="by default all")
    add("--windows", type=int, default=300, help="to train on, in all rounds together (default 300)")
    add("--rounds", type=int, default=6, help="how many turns each has (default 6)")
    add("--hidden", type=int, default=192, metavar="H", help="size of each layer (default the demo's, 192)")
    add("--threads", type=int, default=cores(), help="of each (default: all cores)")
    add("--json", type=Path, metavar="FILE", help="write everything measured")
    options = parser.parse_args()
    if min(options.windows, options.rounds, options.hidden, options.threads) < 1:
        parser.error("--windows, --rounds, --hidden and --threads take numbers of at least 1")
    warn_if_busy()
    each = -(-options.windows // options.rounds)
    turns = Turns(options.threads, options.rounds, str(each), 900.0)
    found = run(installed(options.peers), options.hidden, turns)
    report(found)
    versions = sorted({answer["version"] for answer in found.values() if "version" in answer})
    console.print(
        f"{machine()}; {', '.join(versions)}; {options.threads} threads; speeds are medians of {options.rounds} "
        f"alternating rounds, of the median over {each} windows each"
    )
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "peers": found}, indent=1))
    if any("missing" in answer for answer in found.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
