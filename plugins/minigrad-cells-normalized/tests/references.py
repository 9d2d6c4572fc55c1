"""One step of each cell in NumPy, written from the papers' equations.

Each function takes the cell's state dict, x (B, I) and the state, and returns (y, state).
"""

from __future__ import annotations

from typing import Any

import numpy as np

Weights = dict[str, Any]


def sigmoid(a: Any) -> Any:
    return 1 / (1 + np.exp(-a))


def layer_norm(w: Weights, name: str, a: Any, eps: float = 1e-5) -> Any:
    """For each row: subtract its mean, divide by its deviation, then gain and shift."""
    rows = [(row - row.mean()) / np.sqrt(row.var() + eps) for row in a]
    return np.stack(rows) * w[f"{name}.weight"] + w[f"{name}.bias"]


def layer_norm_lstm(w: Weights, x: Any, state: Any) -> Any:
    h, c = state
    size = h.shape[1]
    a = layer_norm(w, "norm_hh", h @ w["weight_hh"].T) + layer_norm(w, "norm_ih", x @ w["weight_ih"].T) + w["bias"]
    i, f, g, o = (a[:, k * size : (k + 1) * size] for k in range(4))
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(layer_norm(w, "norm_c", c))
    return h, (h, c)


def layer_norm_gru(w: Weights, x: Any, h: Any) -> Any:
    size = h.shape[1]
    of_x, of_h = x @ w["weight_ih"].T, h @ w["weight_hh"].T
    both = layer_norm(w, "norm_hh", of_h[:, : 2 * size]) + layer_norm(w, "norm_ih", of_x[:, : 2 * size])
    r, z = sigmoid(both[:, :size]), sigmoid(both[:, size:])
    n = np.tanh(layer_norm(w, "norm_in", of_x[:, 2 * size :]) + r * layer_norm(w, "norm_hn", of_h[:, 2 * size :]))
    h = (1 - z) * n + z * h
    return h, h


def irnn(w: Weights, x: Any, h: Any) -> Any:
    a = x @ w["weight_ih"].T + w["bias_ih"] + h @ w["weight_hh"].T + w["bias_hh"]
    h = np.where(a > 0, a, 0.0)
    return h, h


def indrnn(w: Weights, x: Any, h: Any) -> Any:
    a = x @ w["weight_ih"].T + h @ np.diag(w["weight_hh"]) + w["bias"]
    h = np.where(a > 0, a, 0.0)
    return h, h


def indrnn_tanh(w: Weights, x: Any, h: Any) -> Any:
    h = np.tanh(x @ w["weight_ih"].T + h @ np.diag(w["weight_hh"]) + w["bias"])
    return h, h


def weight_normed(w: Weights) -> Weights:
    """The weights that a cell wrapped in weight normalisation computes with, from the wrapper's state dict."""
    weights = {}
    for name in (name.removeprefix("cell.") for name in w if name.startswith("cell.")):
        v = w[f"cell.{name}"]
        weights[name] = v
        if f"g.{name}" in w:
            weights[name] = np.stack(
                [g * row / np.sqrt((row**2).sum()) for g, row in zip(w[f"g.{name}"].flat, v, strict=True)]
            )
    return weights
