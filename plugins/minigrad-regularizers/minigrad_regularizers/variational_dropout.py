"""Variational dropout: one mask per sequence, the same at every step."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import minigrad as mg
from minigrad_regularizers.parts import Rates, check_rates, floating, in_order_of, rates_of
from minigrad_regularizers.wrapper import Wrapper


class VariationalDropout(Wrapper):
    """Dropout on the input and on the recurrent state, with masks that are drawn once per sequence.

        y_t, s_t = cell(m_x * x_t, m_s * s_{t-1})     with m = 0 with probability p and 1 / (1 - p) otherwise

    The masks are drawn by `init_state` and are a part of the state, (state of the cell, [masks]): they are carried over
    from window to window with it, and a new sequence gets new ones. In evaluation they are not drawn (all 1), and masks
    that a state brings along are not used.

    Args:
        cell: any `mg.Cell`.
        state_p: p of the recurrent state. One number holds for its first part alone, such as the h of an LSTM's (h, c):
            masking c too would multiply its memory by a mask at every step. Otherwise a nest built like the state, in
            which one number may stand for a branch: (0.25, 0.1).
        input_p: p of x; by default 0.25 if the cell says its `input_size`, and 0 if not.

    Raises:
        ValueError: a p is no probability; `input_p` > 0 for a cell without an `input_size`; or, when a state is made,
            `state_p` is not built like it.
        TypeError: x are integers, which cannot be masked.

    In an LSTM or a plain RNN h enters products alone, as in the paper. In a GRU h also goes straight on into the next
    h, and that is masked, too. `Recurrent(..., learn_initial_state=True)` would make the masks parameters: not around
    this wrapper.

    >>> from minigrad_regularizers import VariationalDropout
    >>> layer = mg.Recurrent(VariationalDropout(mg.LSTMCell(3, 5), state_p=0.3, input_p=0.2))
    >>> ys, ((h, c), masks) = layer(mg.ones((7, 2, 3)))
    >>> [mask.shape for mask in masks]
    [(2, 3), (2, 5)]

    Source: Gal and Ghahramani, A Theoretically Grounded Application of Dropout in Recurrent Neural Networks (2016),
    section 4.2.
    """

    def __init__(self, cell: mg.Cell, state_p: Rates = 0.25, input_p: float | None = None) -> None:
        super().__init__(cell)
        size = getattr(self, "input_size", None)
        self.features = int(size) if isinstance(size, Integral) else 0
        if input_p is None:
            input_p = 0.25 if self.features else 0.0
        if isinstance(input_p, tuple | list | dict):
            raise ValueError(f"input_p is {input_p!r}; it must be one probability in [0, 1]")
        if check_rates("input_p", input_p) and not self.features:
            raise ValueError(
                f"input_p is {input_p}, but {type(cell).__name__} has no input_size, an integer, to draw the mask for: "
                "set it in the cell, or pass input_p=0"
            )
        self.state_p = check_rates("state_p", state_p)
        self.input_p = input_p

    def init_state(self, batch_size: int) -> Any:
        state = self.cell.init_state(batch_size)
        masks = [self._mask(mg.ones((batch_size, self.features)), self.input_p)] if self.input_p else []
        for p, leaf in zip(self._rates(state), mg.nest.leaves(state), strict=True):
            if p:
                masks.append(self._mask(mg.ones_like(leaf), p))
        return state, masks

    def _mask(self, ones: mg.Tensor, p: float) -> mg.Tensor:
        return mg.dropout_mask(ones, p) if self.training else ones

    def _rates(self, state: Any) -> list[float]:
        """p of each part of the cell's state; 0 for integers."""
        parts = list(mg.nest.leaves(state))
        if isinstance(self.state_p, tuple | list | dict):
            rates = list(rates_of("state_p", self.state_p, state))
        else:
            first = next((place for place, leaf in enumerate(parts) if floating(leaf)), None)
            rates = [self.state_p if place == first else 0.0 for place in range(len(parts))]
        return [rate if floating(leaf) else 0.0 for rate, leaf in zip(rates, parts, strict=True)]

    def step(self, x: mg.Tensor, state: Any) -> tuple[mg.Tensor, Any]:
        inner, masks = state
        if not self.training:
            y, new = self.cell.step(x, inner)
            return y, (new, masks)
        remaining = iter(masks)
        if self.input_p:
            if not floating(x):
                raise TypeError(f"x are {x.dtype}, which cannot be masked: pass input_p=0")
            x = x * next(remaining)
        rates = iter(self._rates(inner))
        masked = mg.nest.map_nest(lambda leaf: leaf * next(remaining) if next(rates) else leaf, inner)
        y, new = self.cell.step(x, masked)
        return y, (in_order_of(inner, new), masks)
