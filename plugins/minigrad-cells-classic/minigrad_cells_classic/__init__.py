"""Recurrent cells from the literature, for minigrad."""

from __future__ import annotations

from collections.abc import Callable

import minigrad as mg
from minigrad_cells_classic.coupled_lstm import CoupledLSTMCell
from minigrad_cells_classic.jordan import JordanCell
from minigrad_cells_classic.lstmp import LSTMPCell
from minigrad_cells_classic.mgu import MGUCell
from minigrad_cells_classic.peephole_lstm import PeepholeLSTMCell

__all__ = ["CoupledLSTMCell", "JordanCell", "LSTMPCell", "MGUCell", "PeepholeLSTMCell"]


@mg.hookimpl
def minigrad_cells() -> dict[str, Callable[..., mg.Cell]]:
    return {
        "jordan": JordanCell,
        "peephole_lstm": PeepholeLSTMCell,
        "coupled_lstm": CoupledLSTMCell,
        "mgu": MGUCell,
        "lstmp": LSTMPCell,
    }
