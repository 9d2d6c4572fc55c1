"""The optimizers against the conformance kit."""

from __future__ import annotations

from functools import partial

from minigrad_optimizers_extra import Lion, NAdam, RAdam, lookahead

from minigrad.testing import OptimizerTests


class TestLion(OptimizerTests):
    factory = Lion


class TestNAdam(OptimizerTests):
    factory = NAdam


class TestRAdam(OptimizerTests):
    factory = RAdam


class TestLookahead(OptimizerTests):
    factory = lookahead


class TestLookaheadAroundMomentum(OptimizerTests):
    factory = partial(lookahead, inner="sgd", k=2, alpha=0.8, momentum=0.9)
