"""Cells that draw random numbers in their steps, for the compiled engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cells_zoo import H, I
from plan_cells_ops import Small

import minigrad as mg


class Dropped(Small):
    """A fresh dropout mask at each step, on the state."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = mg.Dropout(0.4)

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h = mg.tanh(x @ self.w + self.drop(state) @ self.u)
        return h, h


class TwoDraws(Small):
    """Dropout on x and on the state, noise of another kind between: the order of draws matters."""

    def step(self, x: mg.Tensor, state: Any) -> Any:
        seen = mg.dropout(x, 0.3, self.training) @ self.w
        noise = mg.uniform(shape=(x.shape[0], H), low=-0.2, high=0.2, dtype=x.dtype)
        h = mg.tanh(seen + mg.dropout(state, 0.5, self.training) @ self.u + noise)
        return h, h


class Zoneout(Small):
    """Units keep their old value at random; out of training, by the mean."""

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h = mg.tanh(self.into(x, state))
        keep = mg.dropout_mask(state, 0.5) * 0.5 if self.training else 0.5
        h = keep * state + (1 - keep) * h
        return h, h


class Noisy(Small):
    """Noise that depends on nothing, scaled by what the cell has learned."""

    def __init__(self) -> None:
        super().__init__()
        self.std = mg.Parameter(mg.tensor(0.3))

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h = mg.tanh(self.into(x, state) + self.std * mg.normal(shape=(len(x), H), dtype=x.dtype))
        return h, h


class DropConnect(Small):
    """A fresh mask on the weights at each step: of parameters alone, and still not constant."""

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h = mg.tanh(x @ self.w + state @ mg.dropout(self.u, 0.4, self.training))
        return h, h


class FixedMask(Small):
    """A mask drawn once per sequence, in the initial state, and passed through unchanged."""

    def init_state(self, batch_size: int) -> Any:
        return mg.zeros((batch_size, H)), mg.dropout_mask(mg.ones((batch_size, H)), 0.4)

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h, mask = state
        h = mg.tanh(self.into(x, h * mask))
        return h, (h, mask)


class Augmented(Small):
    """Noise on x alone, for an output that the state has no part in, drawn after the state's."""

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h = mg.tanh(x @ self.w + mg.dropout(state, 0.2) @ self.u)
        return x + mg.normal(shape=(x.shape[0], I), std=0.1, dtype=x.dtype), h


RANDOM: dict[str, Callable[[], mg.Cell]] = {
    cell.__name__: cell for cell in (Dropped, TwoDraws, Zoneout, Noisy, DropConnect, FixedMask, Augmented)
}
