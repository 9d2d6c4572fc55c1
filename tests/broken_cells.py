"""Cells with one defect each, for the kit to catch, and a layer; `Sound` is the one that they are planted in."""

from __future__ import annotations

from typing import Any

import numpy as np

import minigrad as mg

I, H = 3, 4  # noqa: E741  # sizes of x and of the state


class Sound(mg.Cell):
    """Nothing is wrong with it; those below change one thing."""

    def __init__(self, input_size: int = I, hidden_size: int = H) -> None:
        self.input_size, self.hidden_size = input_size, hidden_size
        self.w = mg.Parameter(mg.normal(shape=(input_size, hidden_size), std=0.5))
        self.u = mg.Parameter(mg.normal(shape=(hidden_size, hidden_size), std=0.5))

    def init_state(self, batch_size: int) -> Any:
        return mg.zeros((batch_size, self.hidden_size))

    def step(self, x: mg.Tensor, h: mg.Tensor) -> Any:
        h = mg.tanh(x @ self.w + self.between(h) @ self.u)
        return self.after(h), h

    def between(self, h: Any) -> Any:
        return h

    def after(self, h: Any) -> Any:
        return h


@mg.primitive
def half(xp: Any, x: Any, /) -> Any:
    return 0.5 * x


mg.defvjp(half, lambda g: 0.51 * g)


@mg.primitive
def square(xp: Any, x: Any, /) -> Any:
    return x * x


def _not_recorded(x: Any) -> Any:
    return x.detach() if isinstance(x, mg.Tensor) else x


mg.defvjp(square, lambda g, x: 2 * g * _not_recorded(x))


@mg.primitive
def masked(xp: Any, x: Any, mask: Any, /) -> Any:
    return x * mask


mg.defvjp(masked, lambda g: g, None)


class WrongRule(Sound):
    def after(self, h: Any) -> Any:
        return half(h)


class MaskNotInTheRule(Sound):
    def after(self, h: Any) -> Any:
        return masked(h, mg.dropout_mask(h.shape, 0.5, h)) if self.training else h


class RuleNotRecorded(Sound):
    def after(self, h: Any) -> Any:
        return square(h)


class WrongOutputSize(Sound):
    output_size = H + 1


class SwappedState(mg.LSTMCell):
    def step(self, x: mg.Tensor, state: Any) -> Any:
        y, (h, c) = super().step(x, state)
        return y, (c, h)


class OtherForward(Sound):
    def forward(self, x: Any, state: Any = None) -> Any:
        y, state = super().forward(x, state)
        return 2 * y, state


class BranchOnValues(Sound):
    def after(self, h: Any) -> Any:
        return h if float(h.sum()) > 0 else -h


class MixesTheBatch(Sound):
    def between(self, h: Any) -> Any:
        return h - h.mean(axis=0, keepdims=True)


class NeverEmpty(Sound):
    def init_state(self, batch_size: int) -> Any:
        return mg.zeros((max(1, batch_size), self.hidden_size))


class NotFinite(Sound):
    def after(self, h: Any) -> Any:
        return h * mg.as_tensor(np.inf, like=h)


class CallsNumPy(Sound):
    def after(self, h: Any) -> Any:
        return h + mg.as_tensor(np.sin(h.detach().data) * 0, like=h)


class Widens(Sound):
    def after(self, h: Any) -> Any:
        return h * mg.tensor(np.ones(self.hidden_size))


class Narrows(Sound):
    def after(self, h: Any) -> Any:
        return h.astype("float32")


class UnsavedWeights(Sound):
    def __init__(self, input_size: int = I, hidden_size: int = H) -> None:
        super().__init__(input_size, hidden_size)
        self.scale = mg.normal(shape=(hidden_size,))

    def after(self, h: Any) -> Any:
        return h * self.scale


class OwnGenerator(Sound):
    def __init__(self, input_size: int = I, hidden_size: int = H) -> None:
        super().__init__(input_size, hidden_size)
        self.w.data = np.random.default_rng().normal(size=(input_size, hidden_size)).astype(self.w.dtype)


class HiddenState(Sound):
    count = 0

    def after(self, h: Any) -> Any:
        self.count += 1
        return h * (self.count + 0 * float(h.sum()))  # the number keeps it on the tape


class InPlace(Sound):
    def between(self, h: Any) -> Any:
        h.data[...] *= 0.5
        return h


class AlwaysDrops(Sound):
    def after(self, h: Any) -> Any:
        return mg.dropout(h, 0.5, True)


class RandomStart(Sound):
    def init_state(self, batch_size: int) -> Any:
        return mg.normal(shape=(batch_size, self.hidden_size))


class SharesWeights(Sound):
    def __init__(self, weight: mg.Parameter) -> None:
        super().__init__()
        self.w = weight


class Careless(mg.RecurrentLayer):
    """A layer that takes anything."""

    def __init__(self) -> None:
        self.cell = Sound()
        self.input_size = I

    def init_state(self, batch_size: int) -> Any:
        return self.cell.init_state(batch_size)

    def forward(self, x: Any, state: Any = None, lengths: Any = None, return_states: bool = False) -> Any:
        x = mg.as_tensor(x)[:, :, :I]
        state = None if state is None else state[: x.shape[1]]
        return mg.Recurrent(self.cell)(x, state, lengths, return_states)


class WrongRuleInTraining(Sound):
    def after(self, h: Any) -> Any:
        return half(h) if self.training else 0.5 * h


class MixesTheBatchInTraining(Sound):
    def between(self, h: Any) -> Any:
        return h - h.mean(axis=0, keepdims=True) if self.training else h


class StartNotTrained(Sound):
    def __init__(self, input_size: int = I, hidden_size: int = H) -> None:
        super().__init__(input_size, hidden_size)
        self.start = mg.Parameter(mg.normal(shape=(1, hidden_size)))

    def init_state(self, batch_size: int) -> Any:
        return mg.broadcast_to(half(self.start), (batch_size, self.hidden_size))


class NarrowsWithin(Sound):
    """What comes out is float64 again."""

    def after(self, h: Any) -> Any:
        return mg.tanh(h.astype("float32").astype(h.dtype))


@mg.primitive
def doubled(xp: Any, x: Any, /) -> Any:
    return 2 * x


mg.defvjp(doubled, lambda g: (2 * g).astype("float32").astype(g.dtype))


class NarrowsGradients(Sound):
    def after(self, h: Any) -> Any:
        return doubled(h)


class WritesIntoX(Sound):
    def step(self, x: mg.Tensor, h: mg.Tensor) -> Any:
        x.data[...] *= 0.9
        return super().step(x, h)
