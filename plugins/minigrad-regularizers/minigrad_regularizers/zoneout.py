"""Zoneout: units that keep their old value at random."""

from __future__ import annotations

from typing import Any

import minigrad as mg
from minigrad_regularizers.parts import Rates, changed, check_rates
from minigrad_regularizers.wrapper import Wrapper


class Zoneout(Wrapper):
    """Each unit of the state keeps its old value with probability z, at every step anew.

        s_t = d * s_{t-1} + (1 - d) * cell(x_t, s_{t-1})      with d ~ Bernoulli(z) in training, d = z in evaluation

    The output is zoned out with the part of the state that it is (an LSTM's y is its h); an output that is no part of
    the state is left as the cell computes it. Parts that are integers, or that the cell passes on untouched, stay as
    they are.

    Args:
        cell: any `mg.Cell`.
        rate: z in [0, 1] for all parts of the state; or a nest of rates built like the state, in which one number may
            stand for a branch: (0.05, 0.5) for the (h, c) of an LSTM.

    Raises:
        ValueError: a rate is no probability; or, at the first step, the rates are not built like the state.

    >>> from minigrad_regularizers import Zoneout
    >>> layer = mg.Recurrent(Zoneout(mg.LSTMCell(3, 5), rate=(0.05, 0.5)))
    >>> ys, (h, c) = layer(mg.ones((7, 2, 3)))
    >>> ys.shape
    (7, 2, 5)

    Source: Krueger et al., Zoneout: Regularizing RNNs by Randomly Preserving Hidden Activations (2017), section 3.2;
    the rates of the example are those of its experiments on Penn Treebank, section 4.1.
    """

    def __init__(self, cell: mg.Cell, rate: Rates = 0.1) -> None:
        super().__init__(cell)
        self.rate = check_rates("rate", rate)

    def step(self, x: mg.Tensor, state: Any) -> tuple[mg.Tensor, Any]:
        y, new = self.cell.step(x, state)
        return changed(self.keep, "rate", self.rate, y, new, state)

    def keep(self, rate: float, new: mg.Tensor, old: mg.Tensor) -> mg.Tensor:
        """The old value with probability `rate`, and the new one otherwise; or, in evaluation, their mean."""
        if not self.training:
            return rate * old + (1 - rate) * new
        return mg.where(mg.dropout_mask(new, rate) > 0, new, old)
