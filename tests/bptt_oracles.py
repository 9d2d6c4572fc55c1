"""What truncated backpropagation must give, computed without it: sums written out, and models run row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from cells_zoo import draw_x

import minigrad as mg
from minigrad.losses import mse
from minigrad.nest import leaves, map_nest

MODES = ("recompute", "keep", "error")
Gradients = dict[str, Any]


def square_sum(outputs: mg.Tensor, targets: mg.Tensor) -> mg.Tensor:
    return ((outputs - targets) ** 2).sum()


def gradients(model: mg.Module, state: Any = None) -> Gradients:
    """The gradients of all parameters, and of a state's leaves, on the host; zeros where there is none."""
    named = list(model.named_parameters()) if state is None else [*model.named_parameters(), *named_leaves(state)]
    return {name: np.zeros(p.shape, p.dtype) if p.grad is None else p.grad.numpy().copy() for name, p in named}


def named_leaves(state: Any) -> list[tuple[str, mg.Tensor]]:
    return [(f"state {number}", leaf) for number, leaf in enumerate(leaves(state))]


def of_windows(model: mg.Module, windows: Iterable[Any]) -> list[Gradients]:
    """The gradients that each window leaves."""
    return [gradients(model) for _ in windows]


def added(parts: list[Gradients]) -> Gradients:
    return {name: sum(part[name] for part in parts) for name in parts[0]}


def same(found: Any, expected: Any, **tolerance: float) -> None:
    """Whether two nests of arrays or tensors have equal values."""
    map_nest(
        lambda a, b: np.testing.assert_allclose(host(a), host(b), **({"rtol": 1e-9, "atol": 1e-12} | tolerance)),
        found,
        expected,
    )


def host(value: Any) -> Any:
    return value.numpy() if isinstance(value, mg.Tensor) else value


def draw(layer: mg.Recurrent, steps: int, batch: int) -> tuple[mg.Tensor, mg.Tensor]:
    """Random xs and ys for a layer of one cell."""
    xs = draw_x(layer.cell, steps, batch)
    return xs, mg.normal(shape=layer(xs)[0].shape)


def of_everything(model: mg.Module, xs: Any, ys: Any, loss: Any = mse, state: Any = None) -> Gradients:
    """Full backpropagation."""
    model.zero_grad()
    loss(model(xs, state)[0], ys).backward()
    return gradients(model)


def row_by_row(
    model: Any,
    xs: mg.Tensor,
    ys: mg.Tensor,
    *,
    k1: int,
    k2: int,
    state: Any = None,
    reset: Any = None,
    lengths: Any = None,
    reduction: str = "mean",
) -> tuple[list[Gradients], Any]:
    """The squared error's gradients of each window, and the last state, from runs of single sequences step by step.

    A sequence ends at its length and begins anew at a reset; there is no padding and no mask in what is run.
    """
    steps, batch = xs.shape[:2]
    lengths = [steps] * batch if lengths is None else list(lengths)

    def run(row: int, start: int, stop: int, now: Any) -> tuple[list[Any], Any]:
        outputs = []
        for t in range(start, min(stop, lengths[row])):
            if reset is not None and reset[t][row]:
                now = None
            y, now = model(xs[t : t + 1, row : row + 1], now)
            outputs.append(y)
        return outputs, now

    def given(row: int) -> Any:
        return None if state is None else map_nest(lambda leaf: leaf[row : row + 1], state)

    found = []
    for newest in range(0, steps, k1):
        stop = min(newest + k1, steps)
        start = max(0, stop - k2)
        total, count = mg.tensor(0.0), 0
        for row in range(batch):
            with mg.no_grad():
                stored = run(row, 0, start, given(row))[1] if start else given(row)
            first = stored if start else given(row)
            outputs, _ = run(row, start, stop, first)
            for t, y in enumerate(outputs, start):
                if t >= newest:
                    total, count = total + square_sum(y, ys[t : t + 1, row : row + 1]), count + y.size
        model.zero_grad()
        for _, leaf in [] if state is None else named_leaves(state):
            leaf.grad = None
        if total.requires_grad:
            scale = (stop - newest) / k1 / count if reduction == "mean" else 1.0
            (total * scale).backward()
        found.append(gradients(model, state))
    last = [run(row, 0, steps, given(row))[1] for row in range(batch)]
    return found, [list(leaves(model.init_state(1) if end is None else end)) for end in last]


# --- a small recurrent network in NumPy, h_t = tanh(W x_t + b_ih + U h_{t-1} + b_hh)

Weights = dict[str, Any]


def step(weights: Weights, x: Any, h: Any) -> Any:
    """One step for one sequence."""
    return np.tanh(weights["weight_ih"] @ x + weights["bias_ih"] + weights["weight_hh"] @ h + weights["bias_hh"])


def double_sum(weights: list[Weights], xs: Any, hs: Any, slopes: Any, newest: range, start: int) -> tuple[Weights, Any]:
    """sum over t in `newest`, over k from `start` to t, of dL/dh_t (prod_{j=k+1..t} dh_j/dh_{j-1}) d+h_k/dw.

    Args:
        weights: those that each step has used.
        xs: (T, B, I).
        hs: (T + 1, B, H); hs[t] is the state before step t.
        slopes: (T, B, H), the losses' derivatives dL/dh_t by the outputs.
        newest: the steps whose losses count.
        start: the first step that they reach.

    Returns:
        The gradients with respect to the weights, and those with respect to hs[start], (B, H).
    """
    total = {name: np.zeros_like(value) for name, value in weights[0].items()}
    at_start = np.zeros_like(hs[0])
    for row in range(xs.shape[1]):
        for t in newest:
            for k in range(start, t + 1):
                jacobians = np.eye(hs.shape[2])
                for j in range(k + 1, t + 1):
                    jacobians = np.diag(1 - hs[j + 1, row] ** 2) @ weights[j]["weight_hh"] @ jacobians
                inner = (slopes[t, row] @ jacobians) * (1 - hs[k + 1, row] ** 2)  # dL_t / d(what tanh is taken of)
                total["weight_ih"] += np.outer(inner, xs[k, row])
                total["weight_hh"] += np.outer(inner, hs[k, row])
                total["bias_ih"] += inner
                total["bias_hh"] += inner
                if k == start:
                    at_start[row] += inner @ weights[k]["weight_hh"]
    return total, at_start


def small_weights(layer: mg.Recurrent) -> Weights:
    return {name.removeprefix("cell."): value.copy() for name, value in layer.state_dict().items()}


def small_windows(
    weights: Weights,
    xs: Any,
    ys: Any,
    k1: int,
    k2: int,
    *,
    reduction: str = "sum",
    lr: float = 0.0,
    state: Any = None,
) -> tuple[list[Weights], Weights, Any]:
    """Truncated backpropagation by the double sum; each step is run once and remembers the weights that it used.

    Returns:
        Each window's gradients of the squared error, the weights after gradient descent with `lr`, and the last state.
    """
    steps, batch, _ = xs.shape
    size = len(weights["bias_ih"])
    hs = np.zeros((steps + 1, batch, size))
    hs[0] = 0.0 if state is None else state
    used: list[Weights] = []
    found = []
    for newest in range(0, steps, k1):
        stop = min(newest + k1, steps)
        for t in range(newest, stop):
            used.append(weights)
            hs[t + 1] = [step(weights, x, h) for x, h in zip(xs[t], hs[t], strict=True)]
        scale = 1.0 if reduction == "sum" else (stop - newest) / k1 / ((stop - newest) * batch * size)
        slopes = np.zeros((steps, batch, size))
        slopes[newest:stop] = 2 * scale * (hs[newest + 1 : stop + 1] - ys[newest:stop])
        gradient, _ = double_sum(used, xs, hs, slopes, range(newest, stop), max(0, stop - k2))
        found.append(gradient)
        weights = {name: value - lr * gradient[name] for name, value in weights.items()}
    return found, weights, hs[-1]


def replayed_windows(
    layer: mg.Recurrent, xs: mg.Tensor, ys: mg.Tensor, k1: int, k2: int, update: Callable[[], None]
) -> tuple[list[Gradients], Any]:
    """Truncated backpropagation that runs the last k2 steps again, one by one, with the weights of the day.

    Each run remembers its states; the next one starts from the remembered one. The loss is the sum of squares.
    """
    steps, batch = xs.shape[:2]
    states: dict[int, Any] = {}  # the state before each step; before the first it is the initial one of the day
    found = []
    for newest in range(0, steps, k1):
        stop = min(newest + k1, steps)
        state, total = states.get(max(0, stop - k2), layer.init_state(batch)), mg.tensor(0.0)
        for t in range(max(0, stop - k2), stop):
            y, state = layer.cell(xs[t], state)
            states[t + 1] = mg.detach(state)
            if t >= newest:
                total = total + square_sum(y, ys[t])
        layer.zero_grad()
        total.backward()
        found.append(gradients(layer))
        update()
    return found, states[steps]
