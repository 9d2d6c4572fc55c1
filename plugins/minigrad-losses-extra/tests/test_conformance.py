"""The losses against the conformance kit."""

from __future__ import annotations

from functools import partial

from minigrad_losses_extra.plugin import minigrad_losses
from minigrad_losses_extra.soft_dtw import NOT_PER_STEP

from minigrad.testing import LossTests

LOSSES = minigrad_losses()
FAR_FROM_SOFT = {name: NOT_PER_STEP[name] for name in ("reduction", "mismatched_shapes")}


class TestFocal(LossTests):
    factory = LOSSES["focal"]


class TestFocalWithOptions(LossTests):
    factory = partial(LOSSES["focal"], gamma=0.5, alpha=[0.5, 1.0, 2.0, 0.25])
    example = LOSSES["focal"].example


class TestPinball(LossTests):
    factory = LOSSES["pinball"]


class TestPinballOfSeveralQuantiles(LossTests):
    factory = partial(LOSSES["pinball"], quantiles=(0.1, 0.5, 0.6, 0.9))

    def example(generator):  # noqa: N805  # what an attribute of the class is called with
        return generator.standard_normal((5, 3, 2, 4)), generator.standard_normal((5, 3, 2))


class TestSoftDTW(LossTests):
    factory = LOSSES["soft_dtw"]


class TestSharpDTW(LossTests):
    factory = partial(LOSSES["soft_dtw"], gamma=0.1)
    example = LOSSES["soft_dtw"].example
    expected_failures = FAR_FROM_SOFT
