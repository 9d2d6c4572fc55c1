"""Recurrent dropout without memory loss: dropout on what a step changes, not on what it keeps."""

from __future__ import annotations

from typing import Any

import minigrad as mg
from minigrad_regularizers.parts import Rates, changed, check_rates
from minigrad_regularizers.wrapper import Wrapper


class RecurrentDropout(Wrapper):
    """Dropout on the change of the state, with a fresh mask at every step.

        s_t = s_{t-1} + m * (cell(x_t, s_{t-1}) - s_{t-1})    with m = 0 with probability p and 1 / (1 - p) otherwise

    In evaluation m = 1: the mean. What is dropped is an update, never the memory: a unit whose update is dropped keeps
    its value, and no factor is multiplied into the state at every step.

    Semeniuta et al. drop the candidate g within the cell, c_t = f c_{t-1} + i m g for an LSTM and
    h_t = (1 - z) h_{t-1} + z m g for a GRU. From outside a cell its candidate cannot be seen, only what the state was
    and what it becomes, so here the whole difference is dropped. That differs where the gates forget: a dropped update
    keeps the unit, theirs still lets it decay. The output is dropped with the part of the state that it is; an output
    that is no part of the state is left as the cell computes it.

    Args:
        cell: any `mg.Cell`.
        p: the probability, in [0, 1], for all parts of the state; or a nest of such built like the state, in which one
            number may stand for a branch: (0, 0.25) drops updates of an LSTM's c alone.

    Raises:
        ValueError: p is no probability; or, at the first step, its nest is not built like the state.

    >>> from minigrad_regularizers import RecurrentDropout
    >>> layer = mg.Recurrent(RecurrentDropout(mg.GRUCell(3, 5), p=0.25))
    >>> ys, h = layer(mg.ones((7, 2, 3)))
    >>> ys.shape
    (7, 2, 5)

    Source: Semeniuta, Severyn and Barth, Recurrent Dropout without Memory Loss (2016), section 3, in the form above.
    """

    def __init__(self, cell: mg.Cell, p: Rates = 0.25) -> None:
        super().__init__(cell)
        self.p = check_rates("p", p)

    def step(self, x: mg.Tensor, state: Any) -> tuple[mg.Tensor, Any]:
        y, new = self.cell.step(x, state)
        return changed(_dropped, "p", self.p, y, new, state) if self.training else (y, new)


def _dropped(p: float, new: mg.Tensor, old: mg.Tensor) -> mg.Tensor:
    return old + mg.dropout(new - old, p)
