"""Truncated backpropagation over a long stream needs no more memory than over a short one."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bptt_oracles import MODES
from stream_memory import K1, live_nodes, stream

pytestmark = pytest.mark.both_engines
SIZES = [(stale, k2) for k2 in (K1, 2 * K1 + 10) for stale in MODES if k2 > K1 or stale == "recompute"]
every_size = pytest.mark.parametrize(("stale", "k2"), SIZES)


@pytest.fixture(autouse=True)
def _no_cycles() -> Iterator[None]:
    """What is freed is freed at once, and not by the collector."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.host_only("it is Python's memory that is measured")
@every_size
def test_memory_is_flat_over_ten_thousand_steps(engine: str, stale: str, k2: int) -> None:
    script = Path(__file__).with_name("stream_memory.py")
    command = [sys.executable, str(script), "tape" if engine == "tape" else "auto", stale, str(k2)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    measured = json.loads(printed)
    early, late = measured["peaks"]
    assert measured["garbage"] == 0  # no cycles in between
    assert late <= early + 20_000
    before, after = measured["nodes"]
    assert before == after
    assert (before > 0) == (stale != "recompute")


@every_size
def test_nodes_within_reach_are_all_that_is_kept(stale: str, k2: int) -> None:
    before = live_nodes()
    windows = stream(8 * K1, stale, k2)
    counts = [live_nodes() - before for _ in windows]
    assert counts[3:] == counts[3:4] * 5
    per_step = counts[0] / K1 if stale != "recompute" else 0
    assert counts[3] <= per_step * (k2 + K1)
    windows.close()
    assert live_nodes() == before


@every_size
def test_breaking_out_frees_everything(stale: str, k2: int) -> None:
    before = live_nodes()
    for window in stream(8 * K1, stale, k2):
        kept = window
        break
    assert live_nodes() == before
    assert kept.steps == K1
