"""`check_wrapper`: a wrapper of cells must leave any cell, also a strange one, a good cell or layer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import minigrad as mg
from minigrad.testing.cells import CELL_CHECKS
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
from minigrad.testing.runs import HIDDEN_SIZE, INPUT_SIZE, Subject

__all__ = ["WRAPPER_CHECKS", "check_wrapper"]


def check_wrapper(
    factory: Callable[..., Any],
    *,
    expected_failures: Mapping[str, str] | None = None,
    only: str | Collection[str] | None = None,
) -> list[CheckResult]:
    """Check that a wrapper makes a good cell, or layer, of any cell.

    Every check of `check_cell` is run on three wrapped cells: an `RNNCell`, an `LSTMCell`, and a strange one, whose
    state is a dict with an integer in it, and whose outputs are no part of it. What only cells promise is not run for
    a wrapper that makes layers.

    Args:
        factory: `factory(cell)`, which returns a cell or a layer.
        expected_failures: checks that are known to fail, with the reasons; by default `factory.expected_failures`.
        only: names of the checks to run; by default all.

    >>> from minigrad.testing import check_wrapper
    >>> [result.status for result in check_wrapper(mg.Bidirectional, only=["gradients", "keeps_parameters"])]
    ['passed', 'passed']
    """
    if isinstance(factory, mg.Module) or not callable(factory):
        raise no_factory(factory, "check_wrapper", "a class that takes a cell")
    expected = getattr(factory, "expected_failures", None) if expected_failures is None else expected_failures
    return run_checks(WRAPPER_CHECKS, factory, expected, only)


class Strange(mg.Cell):
    """A running mean by name, from a learned start, with a count of steps; the output is neither, and of another size.

    In training it does something else than out of it.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        self.input_size, self.hidden_size, self.output_size = input_size, hidden_size, input_size
        self.start = mg.Parameter(mg.normal(shape=(1, hidden_size)))
        self.inner = mg.Linear(input_size, hidden_size)
        self.weights = {"out": mg.Parameter(mg.normal(shape=(hidden_size, input_size), std=0.5))}

    def init_state(self, batch_size: int) -> Any:
        return {
            "count": mg.zeros(batch_size, dtype="int64"),
            "mean": mg.broadcast_to(self.start, (batch_size, self.hidden_size)),
        }

    def step(self, x: mg.Tensor, state: Any) -> Any:
        count = state["count"] + 1
        share = 1.0 / (count + 1).astype(x.dtype)
        mean = state["mean"] + mg.expand_dims(share, -1) * (mg.tanh(self.inner(x)) - state["mean"])
        y = mean * mean if self.training else mean
        return y @ self.weights["out"], {"count": count, "mean": mean}


BASES: dict[str, Callable[[int, int], mg.Cell]] = {"rnn": mg.RNNCell, "lstm": mg.LSTMCell, "strange": Strange}


def _base(wrapper: Callable[..., Any], make: Callable[[int, int], mg.Cell]) -> Any:
    """A cell for the wrapper: with input and state of one size, if it refuses others."""
    try:
        wrapper(make(INPUT_SIZE, HIDDEN_SIZE))
    except ValueError:
        return make(HIDDEN_SIZE, HIDDEN_SIZE)
    return make(INPUT_SIZE, HIDDEN_SIZE)


def of_each_base(check: Check) -> Check:
    """A cell's check on each of the wrapped cells."""

    def checked(wrapper: Callable[..., Any]) -> Measured | None:
        parts, last = {}, None
        for name, make in BASES.items():
            made = partial(_wrapped, wrapper, make)
            try:
                measured = check(Subject(made))
            except NotApplicableError as why:
                last = why
                continue
            except CheckError as error:
                raise CheckError(f"around {name}: {error}") from error
            except Exception as error:  # whatever a stranger's code raises
                raise CheckError(f"around {name}: {type(error).__name__}: {error}") from error
            parts[name] = measured
        if not parts and last is not None:
            raise last
        found = [Measured(m.error, m.tolerance, f"around {name}, {m.where}") for name, m in parts.items() if m]
        return worst(*found) if found else None

    checked.__doc__ = check.__doc__
    return checked


def _wrapped(wrapper: Callable[..., Any], make: Callable[[int, int], mg.Cell]) -> Any:
    return wrapper(_base(wrapper, make))


def keeps_parameters(wrapper: Callable[..., Any]) -> None:
    """The wrapped cell's parameters are trained: all of them, or new ones in their place, are the wrapper's."""
    for name, make in BASES.items():
        cell = _base(wrapper, make)
        wanted = sum(parameter.size for parameter in cell.parameters())
        found = sum(parameter.size for parameter in wrapper(cell).parameters())
        if found < wanted:
            raise CheckError(
                f"around {name}: the cell has parameters of {wanted} elements, the wrapper of {found}: keep the cell "
                "as an attribute"
            )


def keeps_the_start(wrapper: Callable[..., Any]) -> None:
    """The wrapped cell's initial state is where it begins, and in training the cell is in training."""
    cell = _base(wrapper, Strange)
    made = wrapper(cell)
    inner = next((module for _, module in made.named_modules() if isinstance(module, Strange)), None)
    if inner is None:
        raise CheckError("the cell is not among the wrapper's modules: keep it as an attribute")
    made.train()
    if not inner.training:
        raise CheckError("the wrapper is in training and its cell is not")
    layer = mg.Recurrent(made) if isinstance(made, mg.Cell) else made
    ys, _ = layer(mg.ones((1, 2, cell.input_size)))
    ys.sum().backward()
    gradient = inner.start.grad
    if gradient is None or not gradient.numpy().any():
        raise CheckError("no gradient reaches the cell's learned initial state: begin with cell.init_state(batch_size)")


def passes_sizes_on(wrapper: Callable[..., Any]) -> None:
    """A wrapper that makes cells says its cell's input_size, so that inputs are checked."""
    for name, make in BASES.items():
        cell = _base(wrapper, make)
        made = wrapper(cell)
        if not isinstance(made, mg.Cell):
            raise NotApplicableError(f"it makes a layer ({type(made).__name__}), not a cell")
        if getattr(made, "input_size", None) != cell.input_size:
            raise CheckError(
                f"around {name}: the cell has input_size {cell.input_size}, the wrapper has none or another"
            )


def wraps_itself(wrapper: Callable[..., Any]) -> Measured | None:
    """Around itself it is still a good cell."""
    cell = wrapper(_base(wrapper, mg.LSTMCell))
    if not isinstance(cell, mg.Cell):
        raise NotApplicableError(f"it makes a layer ({type(cell).__name__}), not a cell")
    twice = Subject(lambda: wrapper(wrapper(_base(wrapper, mg.LSTMCell))))
    return worst(*(m for name in ("gradients", "padding", "step_loop") if (m := CELL_CHECKS[name](twice))))


def refuses_others(wrapper: Callable[..., Any]) -> None:
    """What is no cell is refused with a TypeError or ValueError when it is wrapped, not at the first step."""
    for wrong in (mg.Linear(2, 2), "lstm", None):
        try:
            wrapper(wrong)
        except (TypeError, ValueError):
            continue
        except Exception as error:  # whatever happens when no type is asked for
            raise CheckError(f"{wrong!r} instead of a cell ends in {type(error).__name__}: {error}") from None
        raise CheckError(f"{wrong!r} is taken for a cell")


WRAPPER_CHECKS: dict[str, Check] = {
    **{name: of_each_base(check) for name, check in CELL_CHECKS.items() if name != "reference"},
    "keeps_parameters": keeps_parameters,
    "keeps_the_start": keeps_the_start,
    "passes_sizes_on": passes_sizes_on,
    "wraps_itself": wraps_itself,
    "refuses_others": refuses_others,
}
