"""The cells in JAX: functions of one step under `lax.scan`, the whole sequence with its gradient under `jax.jit`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from recurrent_cells import Inputs, Runner

Weights = dict[str, jax.Array]
"""By minigrad's names, but with matrices as (in, out), as is usual in JAX."""


def rnn(p: Weights, h: Any, x: jax.Array) -> tuple[Any, jax.Array]:
    """One step; like `lax.scan`'s functions, from the carry and x to the new carry and y."""
    h = jnp.tanh(x @ p["weight_ih"] + p["bias_ih"] + h @ p["weight_hh"] + p["bias_hh"])
    return h, h


def lstm(p: Weights, carry: Any, x: jax.Array) -> tuple[Any, jax.Array]:
    h, c = carry
    gates = x @ p["weight_ih"] + p["bias_ih"] + h @ p["weight_hh"] + p["bias_hh"]
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h, c), h


def gru(p: Weights, h: Any, x: jax.Array) -> tuple[Any, jax.Array]:
    reset_x, update_x, new_x = jnp.split(x @ p["weight_ih"] + p["bias_ih"], 3, axis=-1)
    reset_h, update_h, new_h = jnp.split(h @ p["weight_hh"] + p["bias_hh"], 3, axis=-1)
    r = jax.nn.sigmoid(reset_x + reset_h)
    z = jax.nn.sigmoid(update_x + update_h)
    n = jnp.tanh(new_x + r * new_h)
    h = n + z * (h - n)
    return h, h


def mgu(p: Weights, h: Any, x: jax.Array) -> tuple[Any, jax.Array]:
    forget_x, candidate_x = jnp.split(x @ p["input.weight"] + p["input.bias"], 2, axis=-1)
    f = jax.nn.sigmoid(forget_x + h @ p["forget.weight"])
    n = jnp.tanh(candidate_x + (f * h) @ p["candidate.weight"])
    h = h + f * (n - h)
    return h, h


def layer_norm(p: Weights, name: str, x: jax.Array) -> jax.Array:
    centred = x - x.mean(-1, keepdims=True)
    scale = jax.lax.rsqrt((centred * centred).mean(-1, keepdims=True) + 1e-5)
    return centred * scale * p[f"{name}.weight"] + p[f"{name}.bias"]


def lnlstm(p: Weights, carry: Any, x: jax.Array) -> tuple[Any, jax.Array]:
    h, c = carry
    gates = layer_norm(p, "norm_input", x @ p["input.weight"]) + layer_norm(p, "norm_state", h @ p["state.weight"])
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(layer_norm(p, "norm_cell", c))
    return (h, c), h


STEPS = {"rnn": rnn, "lstm": lstm, "gru": gru, "mgu": mgu, "lnlstm": lnlstm}


def jax_runner(cell: str, inputs: Inputs, finish: Callable[[Any], Any] = jax.block_until_ready) -> Runner:
    """JAX on its default device; `finish` is given each result, to wait for it."""
    step = STEPS[cell]

    def sequence(weights: Weights, x: jax.Array) -> jax.Array:
        zeros = jnp.zeros((x.shape[1], inputs.size.hidden), x.dtype)
        carry = (zeros, zeros) if cell in ("lstm", "lnlstm") else zeros
        return jax.lax.scan(lambda carry, x: step(weights, carry, x), carry, x)[1]

    @jax.jit
    def train_step(weights: Weights, x: jax.Array, dy: jax.Array) -> tuple[jax.Array, Weights]:
        ys, backward = jax.vjp(lambda weights: sequence(weights, x), weights)
        return ys, backward(dy)[0]

    weights = {name: jnp.asarray(weight.T) for name, weight in inputs.weights.items()}
    x, dy = jnp.asarray(inputs.x), jnp.asarray(inputs.dy)
    outputs = jax.jit(sequence)
    return Runner(
        train=lambda: finish(train_step(weights, x, dy)),
        forward=lambda: finish(outputs(weights, x)),
        to_numpy=lambda value: np.asarray(value).T if value.ndim == 2 else np.asarray(value),
        version=f"JAX {jax.__version__}",
        note=lambda: "jax.jit of vjp over lax.scan",
    )
