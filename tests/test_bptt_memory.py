"""Truncated backpropagation over a long stream needs no more memory than over a short one."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from bptt_oracles import MODES, mse

import minigrad as mg
import minigrad.plan.native.executor  # at the first plan otherwise, in the midst of the measuring
from minigrad.tape import Node

pytestmark = pytest.mark.both_engines
K1 = 50
SIZES = [(stale, k2) for k2 in (K1, 2 * K1 + 10) for stale in MODES if k2 > K1 or stale == "recompute"]
every_size = pytest.mark.parametrize(("stale", "k2"), SIZES)


@pytest.fixture(autouse=True)
def _no_cycles() -> Iterator[None]:
    """What is freed is freed at once, and not by the collector."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def live_nodes() -> int:
    return sum(type(thing) is Node for thing in gc.get_objects())


def stream(steps: int, stale: str, k2: int) -> Any:
    """A recurrent network over a stream, one window after the other, with updates where the mode allows them."""
    model = mg.RNN(1, 2)
    xs = mg.normal(shape=(steps, 1, 1))
    ys = mg.zeros((steps, 1, 2))
    optimizer = mg.optimizer("sgd", model.parameters(), lr=0.0 if stale == "error" else 0.01)
    for window in mg.tbptt(model, xs, ys, mse, k1=K1, k2=k2, stale=stale):
        optimizer.step()
        yield window


@pytest.mark.host_only("it is Python's memory that is measured")
@every_size
def test_memory_is_flat_over_ten_thousand_steps(stale: str, k2: int) -> None:
    windows = stream(10_000, stale, k2)
    list(zip(range(4), windows, strict=False))  # full reach
    tracemalloc.start()
    try:
        peaks, nodes = [], []
        for number, _ in enumerate(windows, 5):
            if number in (100, 196):
                garbage = gc.collect()  # and Python lets go of the freed tuples that it keeps
                tracemalloc.reset_peak()
            if number in (102, 198):  # the last window has other pieces
                peaks.append(tracemalloc.get_traced_memory()[1])
                nodes.append(live_nodes())
    finally:
        tracemalloc.stop()
    assert len(peaks) == 2
    assert garbage == 0  # no cycles in between
    assert peaks[1] <= peaks[0] + 20_000
    assert nodes[0] == nodes[1]
    assert (nodes[0] > 0) == (stale != "recompute")


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
