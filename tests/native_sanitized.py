"""Runs cells compiled with a sanitizer, and compares them with the tape: `native_sanitized.py thread rnn gru`.

test_native_sanitizers.py runs it, with the sanitizer's library preloaded.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np

import minigrad as mg
from minigrad.plan.native import executor, pool, products, toolchain

SIZES = (1, 15, 16, 17)

POOL = """
#include <pthread.h>

typedef void (*task)(void *, int, int);
typedef struct { task call; void *context; int worker, workers; } share;

static void *run_share(void *own) {
    share *s = own;
    s->call(s->context, s->worker, s->workers);
    return 0;
}

void pool_run(task call, void *context, int workers) {
    pthread_t threads[64];
    share shares[64];
    for (int i = 0; i < workers; i++) shares[i] = (share){call, context, i, workers};
    for (int i = 1; i < workers; i++) pthread_create(&threads[i], 0, run_share, &shares[i]);
    call(context, 0, workers);
    for (int i = 1; i < workers; i++) pthread_join(threads[i], 0);
}
"""
"""Instead of pool.c, which has tests of its own: each share is always in a thread of its own, so that all is seen."""


class Gated(mg.Cell):
    """A minimal gated unit: a product of what depends on the whole state."""

    def __init__(self, n: int, m: int) -> None:
        self.f, self.n, self.size = mg.Linear(n + m, m), mg.Linear(n + m, m), m

    def init_state(self, batch_size: int) -> Any:
        return mg.zeros((batch_size, self.size))

    def step(self, x: mg.Tensor, h: Any) -> Any:
        f = mg.sigmoid(self.f(mg.concat([x, h], axis=1)))
        h = h + f * (mg.tanh(self.n(mg.concat([x, f * h], axis=1))) - h)
        return h, h


class Normed(Gated):
    """Layer normalisation, and a softmax over the features."""

    def __init__(self, n: int, m: int) -> None:
        super().__init__(n, m)
        self.norm = mg.LayerNorm(m)

    def step(self, x: mg.Tensor, h: Any) -> Any:
        h = self.norm(self.f(mg.concat([x, h], axis=1)) + 0.3 * h)
        return mg.softmax(h), mg.tanh(h)


class Several(Gated):
    """Three states by name, slices, and an output of another size."""

    def init_state(self, batch_size: int) -> Any:
        wide, one = mg.zeros((batch_size, self.size)), mg.zeros((batch_size, 1))
        return {"a": wide, "b": {"c": one, "d": wide}}

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h = mg.tanh(self.f(mg.concat([x, state["a"]], axis=1)) - state["b"]["c"])
        y = mg.concat([h[:, :1], state["b"]["d"][:, -1:], x], axis=1)
        return y, {"a": h, "b": {"c": 0.5 * h[:, -1:] + state["b"]["c"], "d": h * h}}


class Dropping(Gated):
    """A random mask at each step."""

    def step(self, x: mg.Tensor, h: Any) -> Any:
        h = mg.tanh(self.f(mg.concat([x, mg.dropout(h, 0.4, True)], axis=1)))
        return mg.dropout(h, 0.3, True), h


class Choosing(Gated):
    """Comparisons, bounds, and the largest of the features."""

    def step(self, x: mg.Tensor, h: Any) -> Any:
        a = self.f(mg.concat([x, h], axis=1))
        a = mg.where(a > 0.1, mg.clip(a, -0.4, 0.6), 0.5 * h)
        return mg.maximum(a, h) - mg.max(a, axis=1, keepdims=True), mg.relu(a) + 0.1 * h


class Counting(Gated):
    """Integers, and a state that is a matrix for each sequence."""

    def init_state(self, batch_size: int) -> Any:
        return mg.zeros((batch_size, self.size, 2)), mg.zeros(batch_size, dtype="int64")

    def step(self, x: mg.Tensor, state: Any) -> Any:
        memory, count = state
        h = mg.tanh(self.f(mg.concat([x, memory[:, :, 0]], axis=1)))
        share = mg.expand_dims(1.0 / (count + 1).astype(x.dtype), 1)
        return h * share, (0.5 * memory + mg.stack([h, h * h], axis=2), count + 1)


class Delayed(Gated):
    """Nothing is computed of the state: it is x, and the output what was x before."""

    def init_state(self, batch_size: int) -> Any:
        return mg.zeros((batch_size, self.f.weight.shape[1] - self.size))

    def step(self, x: mg.Tensor, before: Any) -> Any:
        return mg.concat([before, x], axis=1)[:, ::-1], x


class Scalars(Gated):
    """Sums of the features, which are one number for each sequence, and parameters that are one number."""

    def __init__(self, n: int, m: int) -> None:
        super().__init__(n, m)
        self.rate, self.row = mg.Parameter(mg.full((), 0.3)), mg.Parameter(mg.normal(shape=(m,)))

    def step(self, x: mg.Tensor, h: Any) -> Any:
        total = mg.logsumexp(self.f(mg.concat([x, h], axis=1)), axis=1, keepdims=True)
        h = mg.sin(h * self.rate + self.row * total)
        return total, h - mg.mean(h, axis=1, keepdims=True)


CELLS: dict[str, Callable[[int, int], mg.Cell]] = {
    "rnn": mg.RNNCell,
    "lstm": mg.LSTMCell,
    "gru": mg.GRUCell,
    "gru, reset before": lambda n, m: mg.GRUCell(n, m, reset_after=False),
    "relu, no bias": lambda n, m: mg.RNNCell(n, m, "relu", bias=False),
    "gated": Gated,
    "normed": Normed,
    "several": Several,
    "dropping": Dropping,
    "choosing": Choosing,
    "counting": Counting,
    "delayed": Delayed,
    "scalars": Scalars,
}


def results(layer: mg.Recurrent, x: Any, lengths: Any) -> list[Any]:
    """What a run gives, and the gradients of everything."""
    mg.seed(3)
    leaf = mg.tensor(x, requires_grad=True)
    ys, last, states = layer(leaf, lengths=lengths, return_states=True)
    floating = [part for part in (ys, *mg.nest.leaves((last, states))) if part.dtype.kind == "f"]
    layer.zero_grad()
    mg.concat(
        [part.reshape(-1) * mg.cos(mg.arange(part.size).astype(part.dtype)) for part in floating]
    ).sum().backward()
    gradients = [p.grad for p in (leaf, *layer.parameters())]
    return [part.numpy() for part in (*floating, *(g for g in gradients if g is not None))]


def check(name: str, inputs: int, units: int, dtype: str, ragged: bool) -> int:
    """Compare runs of several batches; how many were compiled."""
    compiled = 0
    with mg.default_dtype(dtype):
        cell = CELLS[name](inputs, units)
    for batch in SIZES:
        x = np.random.default_rng(batch).normal(size=(7, batch, inputs)).astype(dtype)
        lengths = [step % 8 for step in range(batch)] if ragged else None
        plan = mg.Recurrent(cell, engine="plan", reverse=ragged, checkpoint_every=2 if ragged else None)
        tape = mg.Recurrent(cell, engine="tape", reverse=ragged)
        for found, wanted in zip(results(plan, x, lengths), results(tape, x, lengths), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-9 if dtype == "float64" else 1e-3, atol=1e-3)
        compiled += plan.explain().splitlines()[1].endswith("compiled to C:")
    return compiled


def check_steps(name: str, cell: mg.Cell, batch: int, inputs: int, dtype: str) -> None:
    """The same step by step; in between the weights are replaced, and then the state."""
    x = np.random.default_rng(batch).normal(size=(5, batch, inputs)).astype(dtype)
    mg.seed(3)
    ys, last = mg.Recurrent(cell, engine="tape").eval()(x)
    mg.seed(3)
    stateful = mg.Stateful(mg.Recurrent(cell, engine="plan").eval(), batch)
    found = [stateful(x[t]) for t in range(2)]
    for parameter in cell.parameters():
        parameter.data = parameter.data.copy()
    found += [stateful(x[t]) for t in range(2, 4)]
    assert (stateful._parts[0]._stepper is None) == (name == "dropping")
    stateful.state = stateful.state
    found.append(stateful(x[4]))
    for a, b in zip([*found, *mg.nest.leaves(stateful.state)], [*ys, *mg.nest.leaves(last)], strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-9 if dtype == "float64" else 1e-3, atol=1e-3)


def check_products() -> None:
    """Products outside of layers, of every combination of sizes and of rows or columns without gaps."""
    for m, k, n in product((*SIZES, 130), repeat=3):
        for dtype in ("float32", "float64"):
            a, b = (np.random.default_rng(m).normal(size=shape).astype(dtype) for shape in ((m, k), (k, n)))
            for left, right in product((a, np.asfortranarray(a)), (b, np.asfortranarray(b))):
                found = products.multiply(left, right)
                np.testing.assert_allclose(found, a @ b, rtol=1e-9 if dtype == "float64" else 1e-3, atol=1e-3)
    print("products", flush=True)


def plant(text: str, defect: str) -> str:
    """A source with a defect that the sanitizer has to find."""
    old, new = {
        "address,undefined": ("inside = to < N ? width : N - from", "inside = width"),
        "thread": ("if (!add) for (long n = n0; ", "if (!add) for (long n = 0; "),
    }[defect]
    assert old in text
    return text.replace(old, new)


def main(sanitizer: str, names: list[str]) -> None:
    left = [flag for flag in toolchain.FLAGS if flag != "-O3" and "sanitize" not in flag]
    more = ["-O1", "-g", "-fno-omit-frame-pointer", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"]
    toolchain.FLAGS = (*left, *more)
    pool.pool_source = executor.pool_source = products.pool_source = lambda: POOL
    if names[0] == "planted":
        sound = executor.kernels_source
        executor.kernels_source = lambda real: plant(sound(real), sanitizer)
        names = ["rnn"]
    executor.WORK_OF_TWO = products.FOR_TWO = 0
    pool.set_num_threads(3)
    if names == ["products"]:
        check_products()
        return
    for name in names:
        place = list(CELLS).index(name)
        for turn in range(2):  # so that each size comes up as the number of inputs and of units, with each dtype
            inputs, units = SIZES[(place + turn) % 4], SIZES[(place // 4 + 3 * turn + 1) % 4]
            dtype = ("float64", "float32")[(place + turn) % 2]
            compiled = check(name, inputs, units, dtype, ragged=turn == 1)
            if turn == place % 2:
                with mg.default_dtype(dtype):
                    check_steps(name, CELLS[name](inputs, units), SIZES[(place + 1) % 4], inputs, dtype)
            print(name, inputs, units, dtype, compiled, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
