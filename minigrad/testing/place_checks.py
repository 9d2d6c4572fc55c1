"""Checks of where anything that runs over sequences computes, and in which precision."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

import minigrad as mg
from minigrad.backend import load_backend, register_backend
from minigrad.nest import map_nest
from minigrad.testing.results import Check, CheckError, Measured, NotApplicableError, worst
from minigrad.testing.runs import STEPS, Subject, compare, fixed, run
from minigrad.testing.strict import StrictBackend

__all__ = ["EXACT", "LENGTHS", "in_dtype", "on_backend"]

register_backend("strict", StrictBackend)

LENGTHS = (STEPS, 1, 2)
EXACT = 1e-12
NEARBY = 3e-8
"""How far arguments are moved to see a rounding to float32, whose numbers below 1/2 are that far apart."""


def on_backend(name: str) -> Check:
    """The check that a backend computes what NumPy does."""

    def check(subject: Subject) -> Measured:
        try:
            load_backend(name)
        except mg.BackendUnavailableError as why:
            raise NotApplicableError(str(why)) from None
        parts = []
        for training in (False, True):
            results = []
            for place in ("numpy", name):
                with mg.use_backend(place):
                    results.append(run(subject.layer(training), subject.x(), lengths=LENGTHS))
            for key, array in results[1].items():
                if array.dtype.kind == "f" and not np.isfinite(array).all():
                    raise CheckError(f"{key} holds NaN or infinity, for inputs of ordinary size")
            parts.append(compare(results[1], results[0]))
        return worst(*parts)

    check.__doc__ = f"Everything runs on {name}, is finite, and is what it is on NumPy."
    return check


def in_dtype(name: str) -> Check:
    """The check that a dtype is kept."""

    def check(subject: Subject) -> Measured:
        made = subject.make(training=True, dtype=name)
        layer = mg.Recurrent(made) if isinstance(made, mg.Cell) else made
        for key, array in run(layer, subject.x(dtype=name)).items():
            if array.dtype.kind == "f" and array.dtype.name != name:
                raise CheckError(f"x and parameters are {name}; {key} is {array.dtype}")
        return _near_double(subject) if name == "float32" else _roundings(subject)

    check.__doc__ = f"Parameters and x of {name} give results and gradients of {name}, as precise as {name} is."
    return check


def _near_double(subject: Subject) -> Measured:
    """How far what is computed in float32 is from the same in float64."""
    layer = subject.layer()
    x, state = subject.x(), subject.state(layer)
    wanted = run(layer, x, state)
    narrow = partial(_moved, dtype="float32")
    found = run(layer.to(dtype="float32"), narrow(x), map_nest(narrow, state))
    return compare(found, wanted, 1e-4)


def _roundings(subject: Subject) -> Measured:
    """Second differences f(a + d) - 2 f(a) + f(a - d) of all results and gradients, in all arguments at once.

    What the gradients start from is moved as well. The differences are of the size of d^2 if all is computed in
    float64, and of the size of d where something on the way is rounded to float32.
    """
    layer = subject.layer()
    x, state = subject.x(), subject.state(layer)
    parameters = {name: p.numpy() for name, p in layer.named_parameters()}
    runs = []
    for step in (0.0, NEARBY, -NEARBY):
        layer.load_state_dict({name: _moved(array, step) for name, array in parameters.items()})
        before = map_nest(partial(_moved, step=step), state)
        runs.append(run(layer, _moved(x, step), before, weights=partial(_weights, step)))
    middle, one, other = runs
    floating = [name for name, array in middle.items() if array.dtype.kind == "f"]
    found = {name: (one[name] - middle[name]) + (other[name] - middle[name]) for name in floating}
    scales = {name: max(1.0, np.abs(middle[name]).max(initial=0.0)) for name in floating}
    where = "{}: it jumps, as what is rounded to float32 does, where all is moved by 3e-8"
    return worst(
        *(Measured(float(np.abs(found[n]).max(initial=0.0) / scales[n]), 1e-10, where.format(n)) for n in floating)
    )


def _weights(step: float, name: str, array: Any) -> Any:
    """What results are projected on, moved too: gradients are linear in it."""
    return _moved(fixed(name, array), step)


def _moved(array: Any, step: float = 0.0, dtype: str = "float64") -> Any:
    """An array moved along a fixed direction, and of this dtype, if it is of floating numbers."""
    if array.dtype.kind != "f":
        return array
    return (array + step * np.cos(np.arange(array.size, dtype=float).reshape(array.shape))).astype(dtype)
