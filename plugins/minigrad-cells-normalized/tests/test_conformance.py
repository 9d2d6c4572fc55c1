"""The cells and the wrapper against the conformance kit."""

from __future__ import annotations

from functools import partial

import references
from minigrad_cells_normalized import IndRNNCell, IRNNCell, LayerNormGRUCell, LayerNormLSTMCell, WeightNorm

from minigrad.testing import CellTests, WrapperTests


class TestLayerNormLSTM(CellTests):
    factory = LayerNormLSTMCell
    reference = references.layer_norm_lstm


class TestLayerNormGRU(CellTests):
    factory = LayerNormGRUCell
    reference = references.layer_norm_gru


class TestIRNN(CellTests):
    factory = IRNNCell
    reference = references.irnn


class TestIRNNThatForgets(CellTests):
    factory = partial(IRNNCell, scale=0.5, input_std=0.3)
    reference = references.irnn


class TestIndRNN(CellTests):
    factory = IndRNNCell
    reference = references.indrnn


class TestIndRNNWithTanh(CellTests):
    factory = partial(IndRNNCell, nonlinearity="tanh")
    reference = references.indrnn_tanh


class TestWeightNorm(WrapperTests):
    factory = WeightNorm
