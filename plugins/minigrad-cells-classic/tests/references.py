"""One step of each cell in NumPy, written from the papers' equations, gate by gate.

Each function takes the cell's state dict, x (B, I) and the state, and returns (y, state).
"""

from __future__ import annotations

from typing import Any

import numpy as np

Weights = dict[str, Any]


def sigmoid(a: Any) -> Any:
    return 1 / (1 + np.exp(-a))


def gate(w: Weights, number: int, gates: int, x: Any, h: Any) -> Any:
    """W x + U h + b of one of the gates."""
    size = len(w["weight_ih"]) // gates
    rows = slice(number * size, (number + 1) * size)
    biases = w["bias_ih"][rows] + w["bias_hh"][rows] if "bias_ih" in w else 0
    return x @ w["weight_ih"][rows].T + h @ w["weight_hh"][rows].T + biases


def jordan(w: Weights, x: Any, y: Any, act: Any = np.tanh) -> Any:
    hidden = act(x @ w["weight_ih"].T + y @ w["weight_yh"].T + w["bias_h"])
    y = act(hidden @ w["weight_hy"].T + w["bias_y"])
    return y, y


def jordan_sigmoid(w: Weights, x: Any, y: Any) -> Any:
    return jordan(w, x, y, sigmoid)


def peephole_lstm(w: Weights, x: Any, state: Any) -> Any:
    h, c = state
    i = sigmoid(gate(w, 0, 4, x, h) + w["weight_ci"] * c)
    f = sigmoid(gate(w, 1, 4, x, h) + w["weight_cf"] * c)
    new = f * c + i * np.tanh(gate(w, 2, 4, x, h))
    o = sigmoid(gate(w, 3, 4, x, h) + w["weight_co"] * new)
    h = o * np.tanh(new)
    return h, (h, new)


def coupled_lstm(w: Weights, x: Any, state: Any) -> Any:
    h, c = state
    f, o = sigmoid(gate(w, 0, 3, x, h)), sigmoid(gate(w, 2, 3, x, h))
    c = f * c + (1 - f) * np.tanh(gate(w, 1, 3, x, h))
    h = o * np.tanh(c)
    return h, (h, c)


def mgu(w: Weights, x: Any, h: Any) -> Any:
    f = sigmoid(gate(w, 0, 2, x, h))
    h = (1 - f) * h + f * np.tanh(gate(w, 1, 2, x, f * h))
    return h, h


def lstmp(w: Weights, x: Any, state: Any) -> Any:
    r, c = state
    i, f, o = (sigmoid(gate(w, number, 4, x, r)) for number in (0, 1, 3))
    c = f * c + i * np.tanh(gate(w, 2, 4, x, r))
    r = (o * np.tanh(c)) @ w["weight_hr"].T
    return r, (r, c)
