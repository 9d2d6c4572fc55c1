"""`check_cell`: what a cell promises beyond what any layer does."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

import minigrad as mg
from minigrad.nest import describe, leaves, map_nest
from minigrad.testing.layer_checks import LAYER_CHECKS, padding_of
from minigrad.testing.place_checks import EXACT, LENGTHS
from minigrad.testing.results import (
    Check,
    CheckError,
    CheckResult,
    Measured,
    NotApplicableError,
    no_factory,
    run_checks,
    worst,
)
from minigrad.testing.runs import BATCH, STEPS, Subject, by_key, compare, fixed, run

__all__ = ["CELL_CHECKS", "check_cell"]


def check_cell(
    factory: Callable[..., Any],
    *,
    example: Callable[..., Any] | None = None,
    double_backward: bool = True,
    reference: Callable[..., Any] | None = None,
    expected_failures: Mapping[str, str] | None = None,
    only: str | Collection[str] | None = None,
) -> list[CheckResult]:
    """Check that a cell keeps its contract: gradients, truncation, masks, backends, dtypes, saving, composing.

    Args:
        factory: `factory(input_size, hidden_size)` or `factory()`, which returns a fresh cell.
        example: `example(generator, steps, batch)`, which returns x (T, B, ...) as a host array, for a cell that does
            not take numbers (T, B, input_size); by default `factory.example`, if there is one.
        double_backward: whether the cell promises gradients of gradients.
        reference: the step written independently in NumPy, `reference(weights, x, state) -> (y, state)`, with the
            cell's `state_dict()` as weights, and x, y and state as host arrays.
        expected_failures: checks that are known to fail, with the reasons; by default `factory.expected_failures`.
        only: names of the checks to run; by default all.

    Returns:
        A result per check, none left out: one that does not apply is "not run", with the reason.

    >>> from minigrad.testing import check_cell
    >>> [result.status for result in check_cell(mg.GRUCell, only=["gradients", "padding"])]
    ['passed', 'passed']
    """
    if isinstance(factory, mg.Module) or not callable(factory):
        raise no_factory(factory, "check_cell", "a class, or lambda: MyCell(3, 4)")
    example = getattr(factory, "example", None) if example is None else example
    expected = getattr(factory, "expected_failures", None) if expected_failures is None else expected_failures
    return run_checks(CELL_CHECKS, Subject(factory, example, double_backward, reference), expected, only)


# --- one step


def contract(subject: Subject) -> None:
    """`init_state` and `step` return what a cell's must: tensors, batch first, of one build, shape and dtype."""
    cell = _cell(subject)
    x = subject.x(1)[0]
    for batch in (BATCH, 1, 0):
        start = cell.init_state(batch)
        for leaf in leaves(start):
            if not isinstance(leaf, mg.Tensor) or leaf.shape[:1] != (batch,):
                raise CheckError(f"init_state({batch}) must be made of tensors ({batch}, ...); it is {describe(start)}")
    y, state = cell(x)
    for _ in range(2):
        y, state = cell(x, state)
    declared = getattr(cell, "output_size", getattr(cell, "hidden_size", None))
    if isinstance(declared, int) and y.shape[-1] != declared:
        raise CheckError(
            f"the outputs have {y.shape[-1]} features; the cell's output_size (or hidden_size) is {declared}"
        )


def equals_reference(subject: Subject) -> Measured:
    """Four steps are those of an independent implementation."""
    if subject.reference is None:
        raise NotApplicableError("no reference was given")
    cell = _cell(subject)
    x, state = subject.x(), subject.state(mg.Recurrent(cell))
    found = run(mg.Recurrent(cell), x, state, gradients=False)
    weights, outputs = cell.state_dict(), []
    for row in x:
        y, state = subject.reference(weights, row, state)
        outputs.append(y)
    wanted = {"outputs": np.stack(outputs), **{f"state {n}": np.asarray(leaf) for n, leaf in enumerate(by_key(state))}}
    return compare(found, wanted, 1e-10)


class _Loop(mg.Module):
    """A cell called step by step."""

    def __init__(self, cell: Any) -> None:
        self.cell = cell

    def forward(self, x: Any, state: Any) -> Any:
        ys = []
        for t in range(x.shape[0]):
            y, state = self.cell(x[t], state)
            ys.append(y)
        return mg.stack(ys), state


def step_loop(subject: Subject) -> Measured:
    """A layer over the sequence is the cell called step by step, in training and out of it."""
    parts = []
    for training in (False, True):
        cell = _cell(subject, training)
        x, state = subject.x(), subject.state(mg.Recurrent(cell))
        parts.append(compare(run(mg.Recurrent(cell), x, state), run(_Loop(cell), x, state)))
    return worst(*parts)


# --- parts of a sequence


class _Halves(mg.Module):
    """A layer run over the first steps, and over the rest from the state after them."""

    def __init__(self, cell: Any) -> None:
        self.cell = cell
        self.layer = mg.Recurrent(cell)

    def forward(self, x: Any, state: Any) -> Any:
        first, state = self.layer(x[:1], state)
        second, state = self.layer(x[1:], state)
        return mg.concat([first, second], axis=0), state


def state_carried(subject: Subject) -> Measured:
    """Two stretches with the state carried over are the whole, in values and gradients."""
    cell = _cell(subject)
    x, state = subject.x(), subject.state(mg.Recurrent(cell))
    return compare(run(_Halves(cell), x, state), run(mg.Recurrent(cell), x, state))


def reset(subject: Subject) -> Measured:
    """Where a sequence is reset it starts again from the initial state, and no gradient crosses."""
    layer, x = mg.Recurrent(_cell(subject)), subject.x()
    flags = np.zeros((STEPS, BATCH), bool)
    flags[2, 0] = flags[1, 1] = flags[3, 1] = True
    outputs = run(layer, x)["outputs"]
    weights = fixed("outputs", outputs)
    found = _by_tbptt(layer, x, weights, reset=flags)
    pieces, losses = [], 0.0
    for b in range(BATCH):
        starts = [0, *np.flatnonzero(flags[:, b]), STEPS]
        for a, z in pairwise(starts):
            own = weights[a:z, b : b + 1]
            piece = run(layer, x[a:z, b : b + 1], weights=_only_outputs(own))
            losses += float((piece["outputs"] * own).sum())
            pieces.append(piece)
    wanted = {name: sum(piece[name] for piece in pieces) for name in found if name != "loss"}
    return compare(found, {**wanted, "loss": np.asarray(losses)})


def tbptt_equals_bptt(subject: Subject) -> Measured:
    """Truncated backpropagation through all T steps is backpropagation; through k1 = k2 = 2, that of each stretch."""
    layer, x = mg.Recurrent(_cell(subject)), subject.x()
    whole = run(layer, x, gradients=False)
    weights = fixed("outputs", whole["outputs"])
    wanted = run(layer, x, weights=_only_outputs(weights))
    wanted = {
        f"gradient of {name}": wanted[f"gradient of {name}"] for name, p in layer.named_parameters() if p.requires_grad
    }
    wanted["loss"] = (whole["outputs"] * weights).sum(keepdims=True).reshape(())
    parts = [compare(_by_tbptt(layer, x, weights), wanted)]
    first = run(layer, x[:2], weights=_only_outputs(weights[:2]))
    middle = map_nest(lambda leaf: leaf.numpy(), layer(mg.as_tensor(x[:2]))[1])
    second = run(layer, x[2:], middle, weights=_only_outputs(weights[2:]))
    stretches = {name: wanted[name] if name == "loss" else first[name] + second[name] for name in wanted}
    return worst(*parts, compare(_by_tbptt(layer, x, weights, k=2), stretches))


def _only_outputs(weights: Any) -> Callable[[str, Any], Any]:
    """What a run is projected on, if only its outputs count."""
    return lambda name, array: weights if name == "outputs" else np.zeros_like(array)


def _by_tbptt(layer: Any, x: Any, weights: Any, k: int = STEPS, **options: Any) -> Any:
    """The parameters' gradients, and the loss (outputs * weights), summed over the windows of `mg.tbptt`."""
    named = {name: parameter for name, parameter in layer.named_parameters() if parameter.requires_grad}
    found = {f"gradient of {name}": np.zeros(parameter.shape) for name, parameter in named.items()}
    total = np.zeros(())

    def loss(outputs: Any, targets: Any) -> Any:
        return (outputs * targets).sum()

    if not named:
        raise NotApplicableError("it has no parameters to train")
    mg.seed(7)
    windows = mg.tbptt(layer, mg.as_tensor(x), mg.as_tensor(weights), loss, k1=k, k2=k, reduction="sum", **options)
    for window in windows:
        total = total + window.loss.item()
        for name, parameter in named.items():
            if parameter.grad is not None:
                found[f"gradient of {name}"] = found[f"gradient of {name}"] + parameter.grad.numpy()
    return {**found, "loss": np.asarray(total)}


def padding_reversed(subject: Subject) -> Measured:
    """`padding`, run from the last step to the first: each sequence from its own last step."""
    modes = (False,) if subject.is_random else (False, True)
    return worst(*(padding_of(subject, mg.Recurrent(_cell(subject, mode), reverse=True)) for mode in modes))


# --- in other layers


def in_bidirectional(subject: Subject) -> Measured:
    """`Bidirectional` gives what the cell gives forward, beside what another of its kind gives backward."""
    cell = _cell(subject)
    copy = cell.clone()
    shared = {id(p) for p in cell.parameters()} & {id(p) for p in copy.parameters()}
    if shared:
        raise CheckError(
            "clone() must make a cell with weights of its own: its constructor's arguments hold parameters"
        )
    both = mg.Bidirectional(cell, copy)
    x = subject.x()
    found = run(both, x, lengths=LENGTHS, gradients=False)
    ahead = run(mg.Recurrent(cell), x, lengths=LENGTHS, gradients=False)
    back = run(mg.Recurrent(copy, reverse=True), x, lengths=LENGTHS, gradients=False)
    outputs = np.concatenate([ahead["outputs"], back["outputs"]], axis=-1)
    states = [
        *(ahead[name] for name in ahead if name != "outputs"),
        *(back[name] for name in back if name != "outputs"),
    ]
    return compare(found, {"outputs": outputs, **{f"state {n}": leaf for n, leaf in enumerate(states)}}, EXACT)


def in_stack(subject: Subject) -> Measured:
    """A `Stack` gives what its layers give one after the other."""
    cell = _cell(subject)
    x = subject.x()
    below = run(mg.Recurrent(cell), x, gradients=False)["outputs"]
    if below.ndim != 3:
        raise NotApplicableError(f"its outputs have the shape {below.shape}, not (T, B, features)")
    with mg.default_dtype("float64"):
        above = mg.GRUCell(getattr(cell, "output_size", getattr(cell, "hidden_size", below.shape[-1])), 2)
    found = run(mg.Stack(mg.Recurrent(cell), mg.Recurrent(above)), x, gradients=False)
    wanted = run(mg.Recurrent(above), below, gradients=False)
    return compare(found, {"outputs": wanted["outputs"]}, EXACT)


def _cell(subject: Subject, training: bool = False) -> Any:
    """A fresh cell, to be run by `mg.Recurrent`."""
    made = subject.make(training)
    if not isinstance(made, mg.Cell):
        raise NotApplicableError(f"it makes a layer ({type(made).__name__}), not a cell")
    return made


CELL_CHECKS: dict[str, Check] = {
    "contract": contract,
    "reference": equals_reference,
    "step_loop": step_loop,
    **LAYER_CHECKS,
    "padding_reversed": padding_reversed,
    "state_carried": state_carried,
    "reset": reset,
    "tbptt_equals_bptt": tbptt_equals_bptt,
    "in_bidirectional": in_bidirectional,
    "in_stack": in_stack,
}
