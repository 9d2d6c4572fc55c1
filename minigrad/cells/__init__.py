"""The built-in cells, offered through the same hook as anybody else's."""

from __future__ import annotations

from minigrad.cells.gated import GatedCell
from minigrad.cells.gru import GRUCell
from minigrad.cells.lstm import LSTMCell
from minigrad.cells.rnn import RNNCell
from minigrad.hookspecs import Factories, hookimpl

__all__ = ["GRUCell", "GatedCell", "LSTMCell", "RNNCell", "minigrad_cells"]


@hookimpl
def minigrad_cells() -> Factories:
    return {"rnn": RNNCell, "lstm": LSTMCell, "gru": GRUCell}
