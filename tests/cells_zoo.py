"""Cells of one's own, each odd in one way, and the built-in ones with their options: what the tests run over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import minigrad as mg
from minigrad.nest import map_nest

I, H = 2, 3  # noqa: E741  # sizes of x and of the state


def _square(rows: int, columns: int) -> mg.Parameter:
    return mg.Parameter(mg.normal(shape=(rows, columns), std=0.5))


class DictState(mg.Cell):
    """Two states by name, the second with an axis more."""

    def __init__(self, input_size: int = I, hidden_size: int = H) -> None:
        self.input_size, self.size = input_size, hidden_size
        self.w, self.u = _square(input_size, hidden_size), _square(hidden_size, hidden_size)

    def init_state(self, batch_size: int) -> Any:
        return {"mean": mg.zeros((batch_size, self.size)), "outer": mg.zeros((batch_size, self.size, 2))}

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h = mg.tanh(x @ self.w + state["mean"] @ self.u + state["outer"][:, :, 0])
        outer = 0.5 * state["outer"] + mg.stack([h, h * h], axis=2)
        return outer[:, :, 1], {"mean": 0.5 * (h + state["mean"]), "outer": outer}


class NestedState(mg.Cell):
    """A tuple with a list and a dict in it; the output is not a part of the state, and has another size."""

    output_size = 2

    def __init__(self) -> None:
        self.weights = [_square(I, H), _square(H, H)]
        self.read_out = {"out": mg.Linear(H, 2)}

    def init_state(self, batch_size: int) -> Any:
        return [mg.zeros((batch_size, H))], {"slow": (mg.zeros((batch_size, H)),)}

    def step(self, x: mg.Tensor, state: Any) -> Any:
        (fast,), slow = state[0], state[1]["slow"][0]
        fast = mg.tanh(x @ self.weights[0] + fast @ self.weights[1] + slow)
        slow = slow * 0.9 + fast * fast * 0.1
        return self.read_out["out"](fast * slow), ([fast], {"slow": (slow,)})


class Passing(mg.Cell):
    """A part of the state goes through unchanged."""

    def __init__(self) -> None:
        self.w = _square(I, H)

    def init_state(self, batch_size: int) -> Any:
        return mg.zeros((batch_size, H)), mg.ones((batch_size, H))

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h, goal = state
        h = h + mg.tanh(x @ self.w) * (goal - h)
        return h, (h, goal)


class Counting(mg.Cell):
    """The number of steps taken is an integer in the state."""

    def __init__(self) -> None:
        self.w = _square(I, H)

    def init_state(self, batch_size: int) -> Any:
        return mg.zeros((batch_size, H)), mg.zeros(batch_size, dtype="int64")

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h, count = state
        count = count + 1
        share = mg.expand_dims(1.0 / (count + 1).astype(h.dtype), -1)
        h = h + share * (mg.sin(x @ self.w) - h)  # the mean so far, of the initial state too
        return h, (h, count)


class Reading(mg.Cell):
    """Integers in, embedded by the cell."""

    def __init__(self) -> None:
        self.table, self.inner = mg.Embedding(5, I), mg.RNNCell(I, H)

    def init_state(self, batch_size: int) -> Any:
        return self.inner.init_state(batch_size)

    def step(self, x: mg.Tensor, state: Any) -> Any:
        return self.inner.step(self.table(x), state)


class Bare(mg.Cell):
    """No parameters at all."""

    def init_state(self, batch_size: int) -> Any:
        return mg.zeros((batch_size, I))

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h = mg.sin(x + 0.7 * state)
        return h * x, h


class Constant(mg.Cell):
    """Mixes with a constant matrix, which is an attribute but no parameter."""

    def __init__(self) -> None:
        self.w = _square(I, H)
        self.mix = mg.tensor([[0.0, 0.5, 0.0], [0.0, 0.0, 0.5], [0.5, 0.0, 0.0]])

    def init_state(self, batch_size: int) -> Any:
        return mg.zeros((batch_size, H))

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h = mg.tanh(x @ self.w + state @ self.mix)
        return h, h


class Starting(mg.Cell):
    """Learns the state that it starts from."""

    def __init__(self) -> None:
        self.w, self.start = _square(I, H), mg.Parameter(mg.normal(shape=(1, H)))

    def init_state(self, batch_size: int) -> Any:
        return mg.broadcast_to(self.start, (batch_size, H))

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h = mg.tanh(x @ self.w + state)
        return h, h


BUILT_IN: dict[str, Callable[[], mg.Cell]] = {
    "rnn": lambda: mg.RNNCell(I, H),
    "rnn-relu": lambda: mg.RNNCell(I, H, nonlinearity="relu"),
    "rnn-no-bias": lambda: mg.RNNCell(I, H, bias=False),
    "lstm": lambda: mg.LSTMCell(I, H, forget_bias=None),
    "lstm-forget-orthogonal": lambda: mg.LSTMCell(I, H, recurrent_init="orthogonal", forget_bias=2.0),
    "gru": lambda: mg.GRUCell(I, H),
    "gru-reset-before": lambda: mg.GRUCell(I, H, reset_after=False),
    "gru-reset-before-no-bias": lambda: mg.GRUCell(I, H, bias=False, reset_after=False),
}
CUSTOM: dict[str, Callable[[], mg.Cell]] = {
    cell.__name__: cell for cell in (DictState, NestedState, Passing, Counting, Reading, Bare, Constant, Starting)
}
CELLS = BUILT_IN | CUSTOM


def draw_x(cell: mg.Cell, *axes: int, requires_grad: bool = False) -> mg.Tensor:
    """Random inputs for a cell of the zoo: (*axes, I), or integers (*axes)."""
    if isinstance(cell, Reading):
        return mg.tensor((mg.uniform(shape=axes, high=5).numpy()).astype("int64"))
    return mg.tensor(mg.normal(shape=(*axes, I)), requires_grad)


def draw_state(cell: mg.Cell, batch: int, requires_grad: bool = False) -> Any:
    """A random state; counters stay as they are."""

    def draw(leaf: mg.Tensor) -> mg.Tensor:
        if leaf.dtype.kind != "f":
            return leaf
        return mg.tensor(mg.normal(shape=leaf.shape, std=0.5), requires_grad)

    return map_nest(draw, cell.init_state(batch))


class Substituted:
    """A layer as a function of its parameters, so that gradients to them can be checked numerically."""

    def __init__(self, module: mg.Module) -> None:
        self.module = module
        self.names = [name for name, _ in module.named_parameters()]

    def parameters(self) -> list[mg.Tensor]:
        return [mg.tensor(p, requires_grad=True) for p in self.module.parameters()]

    def __call__(self, values: Any, *args: Any, **kwargs: Any) -> Any:
        """Call the module with other tensors in the place of its parameters."""
        old = list(self.module.parameters())
        replaced = {id(parameter): value for parameter, value in zip(old, values, strict=True)}
        undo = [_exchange(module, replaced) for _, module in list(self.module.named_modules())]
        try:
            return self.module(*args, **kwargs)
        finally:
            for module, attributes in undo:
                vars(module).update(attributes)


def _exchange(module: mg.Module, replaced: dict[int, Any]) -> Any:
    before = {name: value for name, value in vars(module).items() if name != "_arguments"}
    for name, value in before.items():
        if not isinstance(value, mg.Module):
            vars(module)[name] = _exchanged(value, replaced)
    return module, before


def _exchanged(value: Any, replaced: dict[int, Any]) -> Any:
    if isinstance(value, list | tuple):
        return type(value)([_exchanged(part, replaced) for part in value])
    if isinstance(value, dict):
        return {key: _exchanged(part, replaced) for key, part in value.items()}
    return replaced.get(id(value), value)
