"""Strangers' cells with states of all builds; inputs and outputs have the size 3."""

from __future__ import annotations

from typing import Any, NamedTuple

import minigrad as mg

SIZE = 3


class Odd(mg.Cell):
    input_size = hidden_size = SIZE

    def __init__(self) -> None:
        self.w = mg.Parameter(mg.normal(shape=(SIZE, SIZE), std=0.5))
        self.u = mg.Parameter(mg.normal(shape=(SIZE, SIZE), std=0.5))

    def zeros(self, batch_size: int) -> mg.Tensor:
        return mg.zeros((batch_size, SIZE))

    def new(self, x: mg.Tensor, h: mg.Tensor) -> mg.Tensor:
        return mg.tanh(x @ self.w + h @ self.u)


class List(Odd):
    """A list; a part is passed on untouched."""

    def init_state(self, batch_size: int) -> Any:
        return [self.zeros(batch_size), self.zeros(batch_size) + 1]

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h, goal = state
        h = self.new(x, h) * goal
        return h, [h, goal]


class Nested(Odd):
    """Dicts in tuples, with an integer and a tensor of three axes; the output is no part of it."""

    def init_state(self, batch_size: int) -> Any:
        return {"count": mg.zeros(batch_size, dtype="int64"), "both": (self.zeros(batch_size), self.outer(batch_size))}

    def outer(self, batch_size: int) -> mg.Tensor:
        return mg.zeros((batch_size, SIZE, 2))

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h, outer = state["both"]
        h = self.new(x, h + outer[:, :, 0])
        outer = 0.5 * outer + mg.stack([h, h * h], axis=2)
        return outer[:, :, 1], {"both": (h, outer), "count": state["count"] + 1}  # in another order, too


class Pair(NamedTuple):
    fast: Any
    slow: Any


class Named(Odd):
    """A named tuple; one tensor is the output and both parts of the state."""

    def init_state(self, batch_size: int) -> Any:
        return Pair(self.zeros(batch_size), self.zeros(batch_size))

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h = self.new(x, state.fast - 0.3 * state.slow)
        return h, Pair(h, h)


class Stateless(Odd):
    """Nothing is carried over."""

    def init_state(self, batch_size: int) -> Any:
        return ()

    def step(self, x: mg.Tensor, state: Any) -> Any:
        return mg.tanh(x @ self.w), state


class Silent(mg.Cell):
    """It says nothing of its sizes."""

    def __init__(self) -> None:
        self.w = mg.Parameter(mg.normal(shape=(SIZE, SIZE), std=0.5))

    def init_state(self, batch_size: int) -> Any:
        return mg.zeros((batch_size, SIZE))

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h = mg.tanh(x @ self.w + 0.5 * state)
        return h, h


class Echo(mg.Cell):
    """The output is x beside the state: what goes in can be seen. The state is all ones."""

    input_size, output_size = SIZE, 3 * SIZE

    def init_state(self, batch_size: int) -> Any:
        return mg.ones((batch_size, SIZE)), mg.ones((batch_size, SIZE))

    def step(self, x: mg.Tensor, state: Any) -> Any:
        return mg.concat([x, *state], axis=-1), (mg.ones_like(state[0]), mg.ones_like(state[1]))


CELLS = [List, Nested, Named, Stateless]
