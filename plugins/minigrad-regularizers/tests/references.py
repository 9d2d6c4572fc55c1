"""Cells and masks in plain NumPy, independent of minigrad."""

from __future__ import annotations

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(weights, x, state):
    h, c = state
    gates = x @ weights["weight_ih"].T + weights["bias_ih"] + h @ weights["weight_hh"].T + weights["bias_hh"]
    i, f, g, o = np.split(gates, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


class Draws:
    """The numbers that dropout masks are made of, in the order in which they are drawn after `mg.seed(seed)`."""

    def __init__(self, seed):
        self.generator = np.random.default_rng(seed)

    def kept(self, shape, p):
        """True with probability 1 - p."""
        return self.generator.random(shape, dtype="float32") >= p

    def mask(self, shape, p):
        """0 with probability p, 1 / (1 - p) otherwise."""
        return self.kept(shape, p) / (1 - p)
