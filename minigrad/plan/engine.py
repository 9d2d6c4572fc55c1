"""Runs a recurrent layer's cell by its plan: finds or makes the plan for a call, and puts the run on the tape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minigrad.backend import get_default_dtype, random_state
from minigrad.contract import Cell
from minigrad.errors import PlanError
from minigrad.lookup import Looking, Lookup
from minigrad.nest import build, leaves, map_nest
from minigrad.plan.abstract import Abstract
from minigrad.plan.executors import choose
from minigrad.plan.plans import Plan, Plans
from minigrad.plan.program import build as build_program
from minigrad.plan.record import Replay, record
from minigrad.plan.shadow import Shadow, fingerprint
from minigrad.plan.trace import Request, trace
from minigrad.tape import recorder
from minigrad.tensor import Tensor


def run_cell(
    plans: Plans,
    cell: Cell,
    x: Tensor,
    state: Any,
    alive: Any,
    return_states: bool,
    checkpoint_every: int | None,
    by_tape: Callable[..., Any],
    lookup: Lookup | None = None,
) -> tuple[Any, str]:
    """Run a cell over x (T, B, ...) by its plan.

    Args:
        plans: where to look for a plan and to keep it.
        cell, x, state, alive, return_states, by_tape: see `recurrent.run_tape`, which is `by_tape`.
        checkpoint_every: see `Recurrent`.
        lookup: how x was made, if the cell may look it up by itself.

    Returns:
        What `by_tape` would, and an empty string; or None, if the tape is to run, and the reason if it is the cell's.
    """
    initial = list(leaves(state))
    if recorder.tape is not None or not all([*x.shape, *(n for leaf in initial for n in leaf.shape)]):
        return None, ""  # somebody wants to see each operation, or there is nothing to compute
    inner, given_x = (cell, x) if lookup is None else (Looking(cell, lookup.table), lookup.indices)
    plan, grad = plan_for(plans, inner, given_x, state, alive is not None, return_states, checkpoint_every)
    if plan.executor is None or plan.shadow is None:
        if lookup is not None:
            return run_cell(plans, cell, x, state, alive, return_states, checkpoint_every, by_tape)
        return None, plan.reason
    executor, step = plan.executor, plan.executor.program.step
    given = plan.given(initial)
    carries = [initial[i] for i in step.changing]
    drawn = random_state() if executor.draws and grad else None
    run = executor.forward(given_x.data, alive, [carry.data for carry in carries], [tensor.data for tensor in given])
    ends = list(initial)
    for position, end in zip(step.changing, run.states, strict=True):
        ends[position] = Tensor(end)
    outputs = [Tensor(output) for output in run.outputs]
    if grad:
        tensors = [x, *carries, *given]
        replay = Replay(by_tape, plan.shadow, step, tensors, state, alive, return_states, drawn, lookup)
        record(executor, run, replay, outputs, ends)
    else:
        executor.release(run)
    restored = iter(ends)
    last = map_nest(lambda leaf: next(restored), state)
    following = iter(outputs[1:])
    states = map_nest(lambda leaf: next(following), state) if return_states else None
    return (outputs[0], last, states), ""


def plan_for(
    plans: Plans, cell: Cell, x: Tensor, state: Any, masked: bool, return_states: bool, checkpoint_every: int | None
) -> tuple[Plan, bool]:
    """The plan for such a call, known or made now, and whether it is one with gradients.

    Args:
        masked: whether there are flags that say which steps count.
        plans, cell, x, state, return_states, checkpoint_every: see `run_cell`.
    """
    initial = list(leaves(state))
    try:
        key, held = fingerprint(cell)
    except PlanError as error:
        plans.latest = Plan(None, None, None, str(error), [])
        return plans.latest, False
    grad = recorder.grad and any(tensor.requires_grad for tensor in (x, *initial, *held) if isinstance(tensor, Tensor))
    key = (
        key,
        (x.shape[1:], x.dtype, x.backend.place(x.data), grad, x.requires_grad, masked, return_states),
        tuple([(leaf.shape, leaf.dtype, leaf.requires_grad) for leaf in initial]),
        (get_default_dtype(), checkpoint_every, build(state)),
    )

    def compiled() -> Plan:
        def blank(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
            return Tensor(Abstract(shape, tensor.dtype), grad and tensor.requires_grad)

        x.backend.answer()  # a trace takes any error for its own
        first, before = blank(x, x.shape[1:]), map_nest(lambda leaf: blank(leaf, leaf.shape), state)
        request = Request(first, before, grad, masked, return_states)
        return _compile(cell, request, x.backend, checkpoint_every, held)

    return plans.get(key, compiled), grad


def _compile(cell: Cell, request: Request, backend: Any, checkpoint_every: int | None, held: list[Any]) -> Plan:
    name = type(cell).__name__
    try:
        shadow = Shadow(cell)
        program = build_program(trace(cell, request))
        executor, how = choose(program, backend, checkpoint_every)
        return Plan(shadow, program, executor, "", held, how)
    except PlanError as error:
        text = str(error)
        return Plan(None, None, None, text if name in text else f"{name}.step cannot be traced: {text}", held)
    except Warning:  # the user has made an error of it
        raise
    except Exception as error:  # whatever an array without values does not bear
        return Plan(None, None, None, f"{name}.step cannot be traced: {type(error).__name__}: {error}", held)
