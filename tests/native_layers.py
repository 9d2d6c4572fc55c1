"""A layer, trained and run step by step, compared with the tape; `native_layers.py compiled` does so in a process."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

import minigrad as mg
from minigrad.plan.native import executor

INPUTS, UNITS, STEPS, BATCH = 3, 17, 4, 5


def sequence(steps: int = STEPS, batch: int = BATCH) -> Any:
    return np.random.default_rng(batch).normal(size=(steps, batch, INPUTS)).astype("float32")


def layer(units: int = UNITS, **options: Any) -> mg.Recurrent:
    """With gradients or without, these are two programs; with the products and the pool four sources."""
    with mg.default_dtype("float32"):
        return mg.Recurrent(mg.RNNCell(INPUTS, units), **options)


def results(run: mg.Recurrent, x: Any) -> list[Any]:
    """Outputs, last state and gradients."""
    leaf = mg.tensor(x, requires_grad=True)
    ys, last = run(leaf)
    weights = mg.cos(mg.arange(ys.size).astype(ys.dtype)).reshape(ys.shape)
    gradients = mg.grad((ys * weights).sum() + (last * last).sum(), [leaf, *run.cell.parameters()])
    return [part.numpy() for part in (ys, last, *gradients)]


def expected(run: mg.Recurrent, x: Any) -> list[Any]:
    return results(mg.Recurrent(run.cell, engine="tape"), x)


def same(found: list[Any], wanted: list[Any]) -> None:
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def right(run: mg.Recurrent) -> str:
    """Check a layer's results; how it was run, as `explain()` says."""
    x = sequence()
    same(results(run, x), expected(run, x))
    return how(run)


def how(run: mg.Recurrent) -> str:
    return run.explain().partition("was of this program, ")[2].partition(":\n  ")[0]


def steps_right(run: mg.Recurrent) -> None:
    """Check a layer step by step."""
    x = sequence()
    run.eval()
    ys = mg.Recurrent(run.cell, engine="tape")(x)[0].numpy()
    stateful = mg.Stateful(run, BATCH)
    same([stateful(x[t]).numpy() for t in range(STEPS)], list(ys))


if __name__ == "__main__":
    executor.WORK_OF_TWO = 0  # so that the pool has something to do
    mine = layer()
    said = right(mine)
    steps_right(mine)
    assert sys.argv[1] in said, said
    print("right")
