"""Normalised recurrent cells, and cells that start near the identity, for minigrad."""

from __future__ import annotations

from collections.abc import Callable

import minigrad as mg
from minigrad_cells_normalized.indrnn import IndRNNCell
from minigrad_cells_normalized.irnn import IRNNCell
from minigrad_cells_normalized.layer_norm_gru import LayerNormGRUCell
from minigrad_cells_normalized.layer_norm_lstm import LayerNormLSTMCell
from minigrad_cells_normalized.weight_norm import WeightNorm

__all__ = ["IRNNCell", "IndRNNCell", "LayerNormGRUCell", "LayerNormLSTMCell", "WeightNorm"]


@mg.hookimpl
def minigrad_cells() -> dict[str, Callable[..., mg.Cell]]:
    return {
        "layer_norm_lstm": LayerNormLSTMCell,
        "layer_norm_gru": LayerNormGRUCell,
        "irnn": IRNNCell,
        "indrnn": IndRNNCell,
    }


@mg.hookimpl
def minigrad_wrappers() -> dict[str, Callable[..., mg.Cell]]:
    return {"weight_norm": WeightNorm}
