"""One case of recurrent layers: a cell at a size, by all peers in turn, each held to the results of minigrad's tape."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from peers import applicable
from processes import FailedError, Turns, in_turn, medians, once
from recurrent_cells import Size

TOLERANCE = 1e-3
"""The largest difference from the tape's results, over their largest value, that a peer may have."""


def run_case(cell: str, size: Size, peers: list[str], turns: Turns) -> dict[str, Any]:
    """Everything measured, by peer, with the medians over the turns; one that failed has the reason under "missing"."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        case = [cell, str(size), str(Path(folder, "case.npz"))]
        reference(case, turns)
        commands = {peer: ["recurrent_worker.py", peer, *case] for peer in applicable(peers, cell)}
        results = in_turn(commands, turns, Path(folder), check)
    return {peer: found | medians(found.get("rounds", [])) for peer, found in results.items()}


def reference(case: list[str], turns: Turns) -> None:
    """Have the inputs of a case and the tape's results written; the case is a cell, a size, and the file to write."""
    try:
        once(["recurrent_worker.py", "reference", *case], turns.threads, turns.limit)
    except FailedError as failure:
        where = " ".join(case[:2])
        raise SystemExit(f"minigrad's tape, to which all are held, fails at {where}: {failure}") from None


def check(answer: dict[str, Any]) -> None:
    """Refuse to compare unlike things."""
    differences = answer["differences"]
    wrong = [f"{name} by {value:.1e}" for name, value in differences.items() if not value <= TOLERANCE]
    if wrong:
        raise FailedError(f"differs from minigrad's tape: {', '.join(wrong)}")


def differ(cases: list[dict[str, Any]]) -> bool:
    """Whether any peer's results were wrong."""
    found = [peer for case in cases for peer in case["peers"].values()]
    return any(peer.get("missing", "").startswith("differs") for peer in found)
