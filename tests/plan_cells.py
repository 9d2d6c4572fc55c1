"""Cells for the compiled engine, each of another structure: what a program over whole sequences may get wrong.

`CELLS` must compile; `plan_cells_random.RANDOM` must too, and draw what the tape draws; `plan_cells_refused.REFUSED`
must not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import cells_zoo
import numpy as np
from cells_zoo import H, I
from plan_cells_ops import CELLS as OF_OPERATIONS
from plan_cells_ops import Small, matrix

import minigrad as mg
from minigrad.nest import map_nest

# --- what is carried over


class Delay(Small):
    """A delay line: the new state is the newest value and the one before it."""

    def init_state(self, batch_size: int) -> Any:
        return mg.zeros((batch_size, H)), mg.zeros((batch_size, H))

    def step(self, x: mg.Tensor, state: Any) -> Any:
        newest, before = state
        h = mg.tanh(x @ self.w + newest @ self.u - 0.5 * before)
        return h * before, (h, newest)


class Swap(Small):
    """Two states that change places."""

    def init_state(self, batch_size: int) -> Any:
        return [mg.zeros((batch_size, H)), mg.ones((batch_size, H))]

    def step(self, x: mg.Tensor, state: Any) -> Any:
        return state[0] - state[1], [state[1], mg.tanh(x @ self.w + state[0] @ self.u)]


class Twice(Small):
    """One tensor is the output and two parts of the state."""

    def init_state(self, batch_size: int) -> Any:
        return {"a": mg.zeros((batch_size, H)), "b": mg.zeros((batch_size, H))}

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h = mg.tanh(x @ self.w + state["a"] @ self.u + 0.3 * state["b"])
        return h, {"b": h, "a": h}  # in another order, too


class Pair(NamedTuple):
    fast: Any
    slow: Any


class Named(Small):
    """The state is a named tuple; its slow part never sees x, and fades."""

    def init_state(self, batch_size: int) -> Any:
        return Pair(mg.zeros((batch_size, H)), mg.ones((batch_size, 1)))

    def step(self, x: mg.Tensor, state: Any) -> Any:
        fast = mg.tanh(x @ self.w + state.fast @ self.u * state.slow)
        return fast + state.slow, Pair(fast, state.slow * 0.8)


class Stateless(Small):
    """Nothing is carried over at all."""

    def init_state(self, batch_size: int) -> Any:
        return ()

    def step(self, x: mg.Tensor, state: Any) -> Any:
        return mg.tanh(x @ self.w) @ self.u, state


class Echo(Small):
    """The output is x itself, and so is the new state."""

    def init_state(self, batch_size: int) -> Any:
        return mg.zeros((batch_size, I))

    def step(self, x: mg.Tensor, state: Any) -> Any:
        return x, x


class Later(Small):
    """The output is the old state, and the new state a view of x."""

    def init_state(self, batch_size: int) -> Any:
        return mg.zeros((batch_size, 1))

    def step(self, x: mg.Tensor, state: Any) -> Any:
        return state, x[:, 1:]


class Views(Small):
    """Output and state are views of one result; the state comes out transposed in memory."""

    def step(self, x: mg.Tensor, state: Any) -> Any:
        both = mg.tanh(mg.concat([(x @ self.w).T, (state @ self.u).T]))
        return both[1:3].T, both[3:].T + both[:3].T


class Forgetful(Small):
    """The new state does not depend on the old one, which only the output sees."""

    def step(self, x: mg.Tensor, state: Any) -> Any:
        return state @ self.u + 1.0, mg.tanh(x @ self.w)


class Aside(Small):
    """The output does not depend on the state, which goes on by itself."""

    def step(self, x: mg.Tensor, state: Any) -> Any:
        return mg.sigmoid(x @ self.w), mg.sin(state @ self.u + x[:, :1])


class Steady(Small):
    """The new state is a parameter, and the output another plus the old state's mean: x is only looked at for B."""

    def step(self, x: mg.Tensor, state: Any) -> Any:
        y = mg.broadcast_to(self.u[0], (len(x), H)) + state.mean(axis=1, keepdims=True)
        return y, mg.broadcast_to(self.w[1], (x.shape[0], H))


class Oscillator(mg.Cell):
    """No parameters, two states."""

    def init_state(self, batch_size: int) -> Any:
        return mg.zeros((batch_size, I)), mg.ones((batch_size, I))

    def step(self, x: mg.Tensor, state: Any) -> Any:
        place, speed = state
        speed = speed - 0.1 * mg.sin(place) + 0.1 * x
        return place * speed, (place + 0.1 * speed, speed)


class RankOne(mg.Cell):
    """A state without features, (B,), a number as a parameter, and an output (B,)."""

    def __init__(self) -> None:
        self.w, self.rate = mg.Parameter(mg.normal(shape=(I,))), mg.Parameter(mg.tensor(0.3))

    def init_state(self, batch_size: int) -> Any:
        return mg.zeros(batch_size)

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h = mg.tanh(x @ self.w + state * self.rate)
        return 1.0 - h, h


class Memory(Small):
    """Attention over a small memory (B, 4, H), which is written to where it is read."""

    def init_state(self, batch_size: int) -> Any:
        return mg.zeros((batch_size, 4, H)) + mg.expand_dims(mg.arange(4).astype(self.w.dtype) * 0.1, -1)

    def step(self, x: mg.Tensor, state: Any) -> Any:
        query = mg.expand_dims(mg.tanh(x @ self.w), 1)
        weights = mg.softmax(query @ mg.matrix_transpose(state) + mg.arange(4).astype(x.dtype) * 0.1, axis=-1)
        read = mg.squeeze(weights @ state, 1)
        written = mg.matrix_transpose(weights) @ mg.expand_dims(mg.tanh(read @ self.u) + x[:, :1], 1)
        return read, 0.9 * state + written


class Count(mg.Cell):
    """The output is an integer; so is a part of the state, which depends on values."""

    def __init__(self) -> None:
        self.w = matrix(I, H)

    def init_state(self, batch_size: int) -> Any:
        return mg.zeros((batch_size, H)), mg.zeros(batch_size, dtype="int64")

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h = mg.tanh(x @ self.w + 0.5 * state[0])
        return mg.argmax(h, axis=-1), (h, state[1] + (h[:, 0] > 0).astype("int64"))


# --- x of other kinds


class Letters(Small):
    """Integers in, as rows of a table and as one-hot vectors."""

    vocabulary = 5

    def __init__(self) -> None:
        super().__init__()
        self.table, self.rows = mg.Embedding(5, H), matrix(5, H)

    def step(self, x: mg.Tensor, state: Any) -> Any:
        seen = self.table(x) + mg.one_hot(x, 5, dtype=self.w.dtype) @ self.rows
        h = mg.tanh(seen + mg.take(self.rows, (x + 1) * (x < 4).astype("int64")) + state @ self.u)
        return h, h


class Sets(Small):
    """x of shape (B, 3, I): a set per step, read by attention."""

    features = (3, I)

    def step(self, x: mg.Tensor, state: Any) -> Any:
        keys = x @ self.w  # (B, 3, H)
        weights = mg.softmax((keys * mg.expand_dims(state, 1)).sum(axis=-1), axis=1)
        h = mg.tanh((mg.expand_dims(weights, -1) * keys).sum(axis=1) + state @ self.u)
        return keys + mg.expand_dims(h, 1), h


class Numbers(mg.Cell):
    """x of shape (B,), one number per step."""

    features = ()

    def __init__(self) -> None:
        self.w, self.u = mg.Parameter(mg.normal(shape=(1, H))), matrix(H, H)

    def init_state(self, batch_size: int) -> Any:
        return mg.zeros((batch_size, H))

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h = mg.tanh(mg.expand_dims(x, 1) * self.w + state @ self.u)
        return h, h


# --- built of parts


class ReadOut(Small):
    """Layers after the state, which only the output needs."""

    def __init__(self) -> None:
        super().__init__()
        self.head = mg.Sequential(mg.Linear(H, 4), mg.tanh, mg.LayerNorm(4), mg.Linear(4, 2))

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h = mg.tanh(x @ self.w + state @ self.u)
        return self.head(h), h


class Nested(mg.Cell):
    """Two cells inside, one of them called, the other stepped, and layers in a list and a dict."""

    def __init__(self) -> None:
        self.inner, self.outer = mg.LSTMCell(H, 2), mg.GRUCell(2, H, reset_after=False)
        self.before, self.parts = [mg.Linear(I, H), mg.LayerNorm(H)], {"last": mg.Linear(H, H, bias=False)}

    def init_state(self, batch_size: int) -> Any:
        return self.inner.init_state(batch_size), self.outer.init_state(batch_size)

    def step(self, x: mg.Tensor, state: Any) -> Any:
        for layer in self.before:
            x = layer(x)
        y, inner = self.inner(x, state[0])
        y, outer = self.outer.step(y, state[1])
        return self.parts["last"](y), (inner, outer)


class Deep(mg.Cell):
    """A transition of several layers made in a loop, with a shortcut, and a layer that is never used."""

    def __init__(self) -> None:
        self.first = mg.Linear(I + H, H)
        self.layers, self.unused = [mg.Linear(H, H) for _ in range(3)], mg.Linear(2, 2)

    def init_state(self, batch_size: int) -> Any:
        return mg.zeros((batch_size, H))

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h = self.first(mg.concat([x, state], axis=-1))
        for layer in self.layers:
            h = h + mg.tanh(layer(h)) * 0.5
        return h, mg.tanh(h)


class Joined(mg.Cell):
    """A minimal gated unit: x and h joined before each product."""

    def __init__(self) -> None:
        self.f, self.n = mg.Linear(I + H, H), mg.Linear(H + I, H)

    def init_state(self, batch_size: int) -> Any:
        return mg.zeros((batch_size, H))

    def step(self, x: mg.Tensor, state: Any) -> Any:
        f = mg.sigmoid(self.f(mg.concat([x, state], axis=-1)))
        h = state + f * (mg.tanh(self.n(mg.concat([f * state, x], axis=1))) - state)
        return h, h


class Peephole(Small):
    """An LSTM whose gates see its cell through vectors."""

    def __init__(self) -> None:
        self.w, self.u, self.b = matrix(I, 4 * H), matrix(H, 4 * H), mg.Parameter(mg.zeros(4 * H))
        self.peep = mg.Parameter(mg.normal(shape=(3, H)))

    def init_state(self, batch_size: int) -> Any:
        return mg.zeros((batch_size, H)), mg.zeros((batch_size, H))

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h, c = state
        i, f, g, o = mg.split(x @ self.w + h @ self.u + self.b, 4, axis=-1)
        i, f = mg.sigmoid(i + self.peep[0] * c), mg.sigmoid(f + self.peep[1] * c)
        c = f * c + i * mg.tanh(g)
        h = mg.sigmoid(o + self.peep[2] * c) * mg.tanh(c)
        return h, (h, c)


class Constants(Small):
    """Constants made inside the step, as attributes, and as plain numbers of several kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.host = mg.tensor([0.5, 0.0, -0.5]), np.array([1.0, 2.0, 3.0])
        self.scale, self.count = np.float64(0.7), np.int64(2)

    def step(self, x: mg.Tensor, state: Any) -> Any:
        made = mg.ones(x.shape, dtype=x.dtype) * 0.3 + mg.full((x.shape[0], 1), 0.1, dtype=x.dtype)
        h = mg.tanh((x + made) @ self.w * self.scale + state @ self.u / self.count + self.mix)
        h = h - 0.1 * mg.tensor([[1.0, 2.0, 3.0]], dtype=x.dtype) + x.backend.asarray(self.host) * 0.01
        return 1 - h * True, 2 / (2 + h * h)


class Cut(Small):
    """Parts of x, of the state and of a result are cut off from the tape."""

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h = mg.tanh(x @ self.w + x.detach() @ self.w * 0.5 + mg.detach(state) @ self.u + 0.5 * state)
        return h * mg.detach(h) + self.u[0].detach(), h


class Silent(Small):
    """A part is computed under `no_grad`."""

    def step(self, x: mg.Tensor, state: Any) -> Any:
        with mg.no_grad():
            gate = mg.sigmoid(state @ self.u)
        h = mg.tanh(x @ self.w + gate * state)
        return h, h


STRUCTURES: dict[str, Callable[[], mg.Cell]] = {
    cell.__name__: cell
    for cell in (
        *(Delay, Swap, Twice, Named, Stateless, Echo, Later, Views, Forgetful, Aside, Steady, Oscillator, RankOne),
        *(Memory, Count, Letters, Sets, Numbers, ReadOut, Nested, Deep, Joined, Peephole, Constants, Cut, Silent),
    )
}
CELLS: dict[str, Callable[[], mg.Cell]] = cells_zoo.CELLS | STRUCTURES | OF_OPERATIONS


# --- what they run on


def takes_integers(cell: mg.Cell) -> bool:
    return isinstance(cell, cells_zoo.Reading) or hasattr(cell, "vocabulary")


def draw_x(cell: mg.Cell, *axes: int, requires_grad: bool = False) -> mg.Tensor:
    """Random inputs (*axes, ...) for a cell."""
    if takes_integers(cell):
        return mg.tensor((mg.uniform(shape=axes, high=5).numpy()).astype("int64"))
    return mg.tensor(mg.normal(shape=(*axes, *getattr(cell, "features", (I,)))), requires_grad)


def draw_state(cell: mg.Cell, batch: int) -> Any:
    """A random state of the current default dtype; integers stay as they are."""
    return map_nest(
        lambda leaf: mg.normal(shape=leaf.shape, std=0.5) if leaf.dtype.kind == "f" else leaf, cell.init_state(batch)
    )
