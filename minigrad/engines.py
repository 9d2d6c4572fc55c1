"""The two ways of running a cell over time: step by step on the tape, or as one compiled program."""

from __future__ import annotations

from typing import Any

from minigrad.backend import backend_of
from minigrad.contract import Cell, checked_step
from minigrad.errors import PlanError
from minigrad.lengths import hold, silence
from minigrad.lookup import Lookup
from minigrad.nest import map_nest
from minigrad.ops import stack
from minigrad.plan.engine import run_cell
from minigrad.tensor import Tensor


def run_plan(layer: Any, x: Tensor, state: Any, alive: Any, return_states: bool, lookup: Lookup | None = None) -> Any:
    """What `run_tape` returns, by the plan; None if the tape is to run."""
    if layer.engine == "tape":
        return None
    every = layer.checkpoint_every
    result, reason = run_cell(layer._plans, layer.cell, x, state, alive, return_states, every, run_tape, lookup)
    if reason and layer.engine == "plan":
        raise PlanError(reason)
    return result


def run_tape(cell: Cell, x: Tensor, state: Any, alive: Any, return_states: bool) -> Any:
    """Run a cell over x (T, B, ...) step by step, each operation recorded.

    Args:
        cell: any cell.
        x: at least one step.
        state: before the first step.
        alive: (T, B) booleans, where a step counts; None if all do.
        return_states: whether to keep the state after every step.

    Returns:
        (ys, the last state, the states after every step or None).
    """
    ys, states = [], []
    full: Any = None if alive is None else backend_of(alive).to_host(alive).all(axis=1)
    for t in range(x.shape[0]):
        y, new = checked_step(cell, x[t], state)
        if full is not None and not full[t]:
            y, new = silence(alive[t], y), hold(alive[t], new, state)
        state = new
        ys.append(y)
        states.append(state)
    return stack(ys), state, map_nest(lambda *leaves: stack(leaves), *states) if return_states else None
