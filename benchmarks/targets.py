"""What was asked of minigrad's plan, as data, and what of it anyone could reach."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from flops import train_step_flops
from peers import NAMES
from recurrent_cells import Size
from results import Case

PEAK, COMPILING = "peak", "compiling"
"""What a target may be held against beside a peer: the machine's matrix products, and the clock alone."""
STREAMING = 0.5
"""The most that a step of batch 1 may take of PyTorch's LSTMCell's time, without gradients, H = 100."""
DEMO = 1.2
"""The least that the demo's characters a second may be of those of the same model in PyTorch."""


@dataclass(frozen=True)
class Target:
    """A bound for train steps.

    Attributes:
        ours: which of minigrad's executors it binds, "plan" (C) or "plan-numpy".
        against: a peer, whose time ours is divided by; PEAK, whose GFLOP/s ours are divided by; COMPILING, in ms.
        bound: the most that this may be, or with PEAK the least.
        cells: to which it applies.
        at: other bounds, by size.
        batch_of_one: another bound, for all batches of 1.
        least_hidden: the smallest H to which it applies.
    """

    ours: str
    against: str
    bound: float
    cells: tuple[str, ...] = tuple(NAMES)
    at: dict[tuple[int, ...], float] = field(default_factory=dict)
    batch_of_one: float | None = None
    least_hidden: int = 1

    def asked(self, case: Case) -> float | None:
        """The bound for a case; None where nothing is asked."""
        size = Size(*case["size"])
        if case["cell"] not in self.cells or size.hidden < self.least_hidden:
            return None
        if size.batch == 1 and self.batch_of_one is not None:
            return self.batch_of_one
        return self.at.get(tuple(size), self.bound)


OWN = ("mgu", "lnlstm")
"""Cells that no library has built in."""
SMALL, LONG, MIDDLE = (25, 1, 65, 100), (200, 32, 64, 64), (50, 64, 128, 256)
TARGETS = (
    Target("plan", "torch-nn", 1.0, ("lstm",), at={SMALL: 0.7, LONG: 0.8, MIDDLE: 0.8}),
    Target("plan", "torch-nn", 0.8, ("rnn", "gru")),
    Target("plan", "jax", 0.8, OWN),
    Target("plan", "torch-eager", 0.4, OWN),
    Target("plan", PEAK, 0.85, least_hidden=256),
    Target("plan-numpy", "torch-nn", 1.4, ("lstm",)),
    Target("plan-numpy", "torch-nn", 1.0, ("rnn", "gru")),
    Target("plan-numpy", "jax", 1.0, batch_of_one=1.5),
    Target("plan-numpy", "torch-eager", 0.6),
    Target("plan-numpy", "tape", 0.5),
    Target("plan-numpy", COMPILING, 20.0),
)


class Judged(NamedTuple):
    """A target at a case.

    Attributes:
        asked: the bound.
        measured: the figure.
        possible: the best that the figure could be if the products ran at the peak and nothing else took any time;
            None if the peak is not known or has nothing to do with it.
    """

    target: Target
    case: Case
    asked: float
    measured: float
    possible: float | None

    @property
    def met(self) -> bool:
        return self.measured >= self.asked if self.target.against == PEAK else self.measured <= self.asked

    @property
    def in_reach(self) -> bool:
        """Whether the target could be met at all on this machine, against a peer as fast as it is."""
        return self.possible is None or self.possible <= self.asked


def judge(target: Target, case: Case, peak: float | None) -> Judged | None:
    """How a target stands at a case; None where it does not apply or something was not measured."""
    asked, seconds = target.asked(case), train_seconds(case, target.ours)
    if asked is None:
        return None
    if target.against == COMPILING:
        compiling = case["peers"].get(target.ours, {}).get("compile")
        return None if compiling is None else Judged(target, case, asked, max(0.0, compiling * 1e3), None)
    if seconds is None:
        return None
    if target.against == PEAK:
        return None if peak is None else Judged(target, case, asked, gflop(case) / seconds / peak, None)
    theirs = train_seconds(case, target.against)
    if theirs is None:
        return None
    return Judged(target, case, asked, seconds / theirs, least_possible(case, target.against, peak))


def least_possible(case: Case, peer: str, peak: float | None) -> float | None:
    """The train step's matrix products at the machine's peak, over a peer's time: no ratio to that peer can be less."""
    theirs = train_seconds(case, peer)
    return gflop(case) / peak / theirs if peak and theirs else None


def peak_of(cases: list[Case], peaks: list[dict[str, float]]) -> tuple[float | None, bool]:
    """The machine's peak in matrix products, GFLOP/s, and whether its measurement was undisturbed.

    It is the best of all libraries and times. A train step that was faster still shows that other programs were at work
    when the products were measured, and is taken in their place.
    """
    products = max((value for peak in peaks for value in peak.values()), default=None)
    steps = [
        gflop(case) / seconds for case in cases for peer in case["peers"] if (seconds := train_seconds(case, peer))
    ]
    if products is None:
        return None, False
    return max([products, *steps]), products >= max(steps, default=0.0)


def gflop(case: Case) -> float:
    """Thousands of millions of floating-point operations in the matrix products of a train step."""
    return train_step_flops(case["cell"], Size(*case["size"])) / 1e9


def train_seconds(case: Case, peer: str) -> float | None:
    """The median time of a train step."""
    seconds: float | None = case["peers"].get(peer, {}).get("train")
    return seconds
