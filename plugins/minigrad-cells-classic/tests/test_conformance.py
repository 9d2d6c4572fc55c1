"""The cells against the conformance kit."""

from __future__ import annotations

from functools import partial

import references
from minigrad_cells_classic import CoupledLSTMCell, JordanCell, LSTMPCell, MGUCell, PeepholeLSTMCell

from minigrad.testing import CellTests


class TestJordan(CellTests):
    factory = JordanCell
    reference = references.jordan


class TestJordanOfAnotherOutputSize(CellTests):
    factory = partial(JordanCell, output_size=2, nonlinearity="sigmoid")
    reference = references.jordan_sigmoid


class TestPeepholeLSTM(CellTests):
    factory = PeepholeLSTMCell
    reference = references.peephole_lstm


class TestPeepholeLSTMWithoutBias(CellTests):
    factory = partial(PeepholeLSTMCell, bias=False)
    reference = references.peephole_lstm


class TestCoupledLSTM(CellTests):
    factory = CoupledLSTMCell
    reference = references.coupled_lstm


class TestMGU(CellTests):
    factory = MGUCell
    reference = references.mgu


class TestMGUWithoutBias(CellTests):
    factory = partial(MGUCell, bias=False)
    reference = references.mgu


class TestLSTMP(CellTests):
    factory = LSTMPCell
    reference = references.lstmp


class TestLSTMPOfAnotherSize(CellTests):
    factory = partial(LSTMPCell, proj_size=1)
    reference = references.lstmp
