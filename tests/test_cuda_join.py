"""Products that can be one are one: counted on the stand-in for the device."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest
from cuda_programs import plugin_cells
from plan_cells import CELLS
from plan_runs import Case, compare, pair

import minigrad as mg

pytestmark = [
    pytest.mark.host_only("it has a stand-in of its own"),
    pytest.mark.skipif(not shutil.which("g++"), reason="there is no g++ to compile the kernels for the CPU"),
]


@pytest.fixture(autouse=True)
def _float64(fake: Any) -> None:
    mg.set_default_dtype("float64")


class Gates(mg.Cell):
    """An LSTM as many write it: a layer for each gate, each of [x, h]."""

    def __init__(self) -> None:
        self.gates = [mg.Linear(2 + 3, 3) for _ in range(4)]

    def init_state(self, batch_size: int) -> Any:
        return mg.zeros((batch_size, 3)), mg.zeros((batch_size, 3))

    def before(self, x: mg.Tensor, h: mg.Tensor) -> list[mg.Tensor]:
        xh = mg.concat([x, h], axis=-1)
        return [gate(xh) for gate in self.gates]

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h, c = state
        i, f, g, o = self.before(x, h)
        c = mg.sigmoid(f) * c + mg.sigmoid(i) * mg.tanh(g)
        h = mg.sigmoid(o) * mg.tanh(c)
        return h, (h, c)


class TwiceAsMany(Gates):
    """A layer of x and one of h for each gate."""

    def __init__(self) -> None:
        self.gates, self.over = ([mg.Linear(size, 3) for _ in range(4)] for size in (2, 3))

    def before(self, x: mg.Tensor, h: mg.Tensor) -> list[mg.Tensor]:
        return [gate(x) + over(h) for gate, over in zip(self.gates, self.over, strict=True)]


class Matrices(Gates):
    """The same with products by @, with and without a transposition."""

    def __init__(self) -> None:
        self.w, self.u = ([mg.Parameter(mg.normal(shape=(n, 3), std=0.5)) for _ in range(4)] for n in (2, 3))

    def before(self, x: mg.Tensor, h: mg.Tensor) -> list[mg.Tensor]:
        return [x @ w + h @ u for w, u in zip(self.w, self.u, strict=True)]


class ReadMe(mg.Cell):
    """The minimal gated unit as in README."""

    def __init__(self) -> None:
        self.f, self.n = (mg.Linear(2 + 3, 3) for _ in range(2))

    def init_state(self, batch_size: int) -> Any:
        return mg.zeros((batch_size, 3))

    def step(self, x: mg.Tensor, h: mg.Tensor) -> Any:
        f = mg.sigmoid(self.f(mg.concat([x, h], axis=-1)))
        h = h + f * (mg.tanh(self.n(mg.concat([x, f * h], axis=-1))) - h)
        return h, h


OWN = {cell.__name__: cell for cell in (Gates, TwiceAsMany, Matrices, ReadMe)}
ONE, TWO = (2, 2), (4, 4)
"""Products and kernels of a step, forward and backward together, where no product waits for another, or one does."""

A_STEP: dict[str, tuple[int, int]] = {
    **dict.fromkeys(["rnn", "rnn-relu", "rnn-no-bias", "irnn", "lstm", "gru", "peephole_lstm", "coupled_lstm"], ONE),
    **dict.fromkeys(["layer_norm_lstm", "layer_norm_gru", "Gates", "TwiceAsMany", "Matrices"], ONE),
    **dict.fromkeys(["gru-reset-before", "gru-reset-before-no-bias", "mgu", "jordan", "ReadMe", "Joined"], TWO),
    **dict.fromkeys(["DictState", "NestedState", "Reading", "Delay", "Swap", "Twice", "Views", "Peephole"], ONE),
    "lstmp": (4, 3),  # the state is a product, with no kernel after it
    **dict.fromkeys(["indrnn", "Passing", "Bare", "Starting", "Echo", "Oscillator"], (0, 2)),
    "Counting": (0, 2),
    "Constant": ONE,
}


def launches(cuda: Any, make: Callable[[], mg.Cell], steps: int) -> tuple[int, int]:
    """Products and kernels of the first train step of a layer."""
    cell = make()
    case = Case(cell, steps=steps)
    cuda.counts.clear()
    ys, _ = mg.Recurrent(cell, engine="plan")(*case.leaves())
    (ys * ys).sum().backward()
    return cuda.counts["products"], cuda.counts["kernels"]


@pytest.mark.parametrize("name", A_STEP)
def test_launches_of_a_step(name: str, cuda: Any) -> None:
    """What one step more adds to a train step. It does not matter how many layers a cell is written with."""
    make = (CELLS | plugin_cells() | OWN)[name]
    shorter, longer = (launches(cuda, make, steps) for steps in (2, 3))
    assert tuple(b - a for a, b in zip(shorter, longer, strict=True)) == A_STEP[name]


def test_launches_of_all_steps(cuda: Any) -> None:
    """x enters one product before the loop, and the gradients of all matrices are one product after it."""
    products, _ = launches(cuda, TwiceAsMany, 5)
    in_the_loop, bias_sums = 2 * 5, 4
    assert products - in_the_loop - bias_sums == 1 + 1 + 2  # x W; d x; the gradients of W and of U


@pytest.mark.parametrize("checkpoint_every", [None, 2])
@pytest.mark.parametrize("name", OWN)
def test_equals_tape(name: str, checkpoint_every: int | None) -> None:
    cell = OWN[name]()
    compare(*pair(cell, checkpoint_every=checkpoint_every), Case(cell), lengths=[5, 2, 4])


def test_a_product_that_only_the_output_needs_stays_out_of_the_loop(cuda: Any) -> None:
    class Reading(mg.Cell):
        def __init__(self) -> None:
            self.over, self.out = mg.Linear(3, 3), mg.Linear(3, 7)

        def init_state(self, batch_size: int) -> Any:
            return mg.zeros((batch_size, 3))

        def step(self, x: mg.Tensor, h: mg.Tensor) -> Any:
            return self.out(h), mg.tanh(self.over(h) + x[:, :1])

    plan, tape = pair(Reading())
    compare(plan, tape, Case(plan.cell))
    assert "forward_after, for all steps at once: " in plan.explain()
    assert "@ out_weight.T" in plan.explain()
