"""A run of a layer, with a loss in which every element has its own weight, as arrays: for two engines to agree on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from plan_cells import draw_state, draw_x, takes_integers

import minigrad as mg
from minigrad.nest import leaves, map_nest

T, B = 5, 3


def in_order(nest: Any) -> list[Any]:
    """The leaves of a nest, those of a dict by their keys: in which order a step returns them does not matter."""
    if isinstance(nest, dict):
        nest = [nest[key] for key in sorted(nest)]
    return [leaf for part in nest for leaf in in_order(part)] if isinstance(nest, list | tuple) else [nest]


def weighted(*nests: Any) -> mg.Tensor | None:
    """The sum of all floating elements, each with a weight of its own; None if nothing in it needs a gradient."""
    parts = [leaf.reshape(-1) for nest in nests for leaf in in_order(nest) if leaf.dtype.kind == "f"]
    if not parts:
        return None
    flat = mg.concat(parts)
    total = (flat * mg.cos(mg.arange(flat.size).astype(flat.dtype) * 1.3 + 0.4)).sum()
    return total if total.requires_grad else None


def everything(ys: Any, last: Any, states: Any) -> mg.Tensor | None:
    return weighted(ys, last, states)


LOSSES: dict[str, Callable[[Any, Any, Any], mg.Tensor | None]] = {
    "everything": everything,
    "outputs": lambda ys, last, states: weighted(ys),
    "last state": lambda ys, last, states: weighted(last),
    "states": lambda ys, last, states: weighted(states),
    "one output": lambda ys, last, states: weighted(ys[2]),
    "one state": lambda ys, last, states: weighted(map_nest(lambda leaf: leaf[1, 1:], states)),
    "one leaf": lambda ys, last, states: weighted(in_order(last)[-1:]),
    "some outputs and a leaf": lambda ys, last, states: weighted(ys[::2, :1], in_order(last)[:1]),
}


@dataclass
class Case:
    """Data for a cell, the same for every run of it."""

    cell: mg.Cell
    steps: int = T
    batch: int = B
    x_grad: bool = True
    state_grad: bool = True
    given_state: bool = True
    batch_first: bool = False
    x: Any = field(init=False)
    state: Any = field(init=False)

    def __post_init__(self) -> None:
        axes = (self.batch, self.steps) if self.batch_first else (self.steps, self.batch)
        self.x, self.state = draw_x(self.cell, *axes), draw_state(self.cell, self.batch)

    def leaves(self) -> tuple[mg.Tensor, Any]:
        """Fresh leaf tensors for x and the state."""
        x = mg.tensor(self.x, self.x_grad and not takes_integers(self.cell))
        grown = map_nest(lambda leaf: mg.tensor(leaf, self.state_grad and leaf.dtype.kind == "f"), self.state)
        return x, grown if self.given_state else None


def run(
    layer: mg.RecurrentLayer,
    case: Case,
    lengths: Any = None,
    loss: Callable[[Any, Any, Any], mg.Tensor | None] = everything,
    seed: int = 11,
) -> dict[str, Any]:
    """Outputs, states and all gradients of a run, on the host."""
    mg.seed(seed)
    x, state = case.leaves()
    ys, last, states = layer(x, state, lengths, return_states=True)
    total = loss(ys, last, states)
    layer.zero_grad()
    if total is not None:
        total.backward()
    return {
        "ys": host(ys),
        "last": list(map(host, in_order(last))),
        "states": list(map(host, in_order(states))),
        "x": gradient(x),
        "state": [gradient(leaf) for leaf in leaves(state)] if state is not None else [],
        "parameters": {name: gradient(parameter) for name, parameter in layer.named_parameters()},
        "next draw": host(mg.uniform(shape=(3,))),
    }


def host(value: mg.Tensor) -> Any:
    return value.numpy().copy()


def gradient(leaf: mg.Tensor) -> Any:
    """The gradient that has come, or zeros."""
    return np.zeros(leaf.shape, leaf.dtype) if leaf.grad is None else host(leaf.grad)


def agree(found: Any, expected: Any, rtol: float = 1e-10, atol: float = 1e-10, where: str = "") -> None:
    """Whether two results are the same in build, shape, dtype and value."""
    assert type(found) is type(expected), where
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key in expected:
            agree(found[key], expected[key], rtol, atol, f"{where} {key}")
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected), where
        for number, (a, b) in enumerate(zip(found, expected, strict=True)):
            agree(a, b, rtol, atol, f"{where} {number}")
    elif expected is not None:
        assert found.dtype == expected.dtype, where
        assert found.shape == expected.shape, where
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol, err_msg=where)


def pair(cell: mg.Cell, **options: Any) -> tuple[mg.Recurrent, mg.Recurrent]:
    """One cell in two layers: compiled, and on the tape."""
    plan, tape = (mg.Recurrent(cell, engine=engine, **options) for engine in ("plan", "tape"))
    if options.get("learn_initial_state"):
        shift_initial_state(plan)
        tape.load_state_dict(plan.state_dict())
    tape.checkpoint_every = None
    return plan, tape


def is_compiled(layer: mg.Recurrent) -> bool:
    """Whether the latest run was of compiled C."""
    latest = layer._plans.latest
    return latest is not None and latest.how == "compiled to C"


def shift_initial_state(layer: mg.Recurrent) -> None:
    for leaf in leaves(layer.initial_state):
        if isinstance(leaf, mg.Parameter):
            leaf.data = leaf.data + mg.normal(shape=leaf.shape, std=0.3, dtype=leaf.dtype).data


def compare(plan: Any, tape: Any, case: Case, **options: Any) -> dict[str, Any]:
    """Run both, twice: with a program just made, and with one that is there already."""
    expected = run(tape, case, **options)
    agree(run(plan, case, **options), expected)
    agree(run(plan, case, **options), expected)
    return expected
