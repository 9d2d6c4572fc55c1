"""The wrappers against the conformance kit."""

from __future__ import annotations

from minigrad_regularizers import Highway, RecurrentDropout, Residual, VariationalDropout, Zoneout

from minigrad.testing import WrapperTests


class TestZoneout(WrapperTests):
    factory = Zoneout


class TestVariationalDropout(WrapperTests):
    factory = VariationalDropout


class TestVariationalDropoutOfTheStateAlone(WrapperTests):
    def factory(cell):  # noqa: N805  # what an attribute of the class is called with
        return VariationalDropout(cell, state_p=0.5, input_p=0)


class TestRecurrentDropout(WrapperTests):
    factory = RecurrentDropout


class TestResidual(WrapperTests):
    factory = Residual


class TestHighway(WrapperTests):
    factory = Highway


class TestFreshMasksAroundEachOther(WrapperTests):
    def factory(cell):  # noqa: N805
        return RecurrentDropout(Highway(Zoneout(cell)))


class TestFixedMasksAroundConnections(WrapperTests):
    def factory(cell):  # noqa: N805
        return VariationalDropout(Residual(Highway(cell)))
