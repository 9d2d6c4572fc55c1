"""Running an optimizer that is checked: parameters, gradients that follow from their values, and what came of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

import minigrad as mg
from minigrad.testing.results import CheckError, NotApplicableError

RATE = 0.01
"""The learning rate where it does not matter."""

SHAPES = ((3, 2), (4,), ())


class Subject:
    """An optimizer to check: its factory."""

    def __init__(self, factory: Callable[..., Any]) -> None:
        self.factory = factory

    @cached_property
    def takes_lr(self) -> bool:
        """Whether the learning rate can be chosen."""
        try:
            self.factory(parameters(), lr=RATE)
        except TypeError:
            return False
        return True

    def make(self, params: Any, lr: Any = RATE, **options: Any) -> Any:
        """An optimizer of these parameters, with this learning rate if it can be chosen."""
        made = self.factory(params, **({"lr": lr} if self.takes_lr else {}), **options)
        lacking = [name for name in ("step", "zero_grad", "state_dict", "load_state_dict") if not hasattr(made, name)]
        if lacking:
            raise CheckError(f"an optimizer needs {', '.join(lacking)}; {type(made).__name__} has none")
        return made

    def needs_lr(self) -> None:
        """Raise unless the learning rate can be chosen."""
        if not self.takes_lr:
            raise NotApplicableError("the factory takes no learning rate, lr")


def parameters(dtype: str = "float64", shapes: Sequence[tuple[int, ...]] = SHAPES) -> list[mg.Parameter]:
    """Parameters on the current backend, the same at each call."""
    generator = np.random.default_rng(3)
    return [mg.Parameter(generator.normal(size=shape).astype(dtype)) for shape in shapes]


def set_gradients(params: Iterable[mg.Parameter]) -> None:
    """Give each parameter the gradient of sum log(1 + (p - 1/2)^2), without the tape."""
    for parameter in params:
        error = parameter.numpy() - parameter.dtype.type(0.5)
        set_gradient(parameter, 2 * error / (1 + error * error))


def set_gradient(parameter: mg.Parameter, values: Any) -> None:
    parameter.grad = mg.Tensor(parameter.backend.asarray(np.asarray(values, str(parameter.dtype))))


def descend(optimizer: Any, params: Sequence[mg.Parameter], steps: int = 3) -> list[Any]:
    """Some steps, and the parameters after them."""
    for _ in range(steps):
        set_gradients(params)
        optimizer.step()
    return values(params)


def values(params: Iterable[mg.Parameter]) -> list[Any]:
    """Copies on the host."""
    return [parameter.numpy().copy() for parameter in params]


def must_equal(where: str, found: Sequence[Any], wanted: Sequence[Any]) -> None:
    """Raise unless parameters are the same to the last bit."""
    for position, (a, b) in enumerate(zip(found, wanted, strict=True)):
        place = f"{where}: parameter {position} of shape {b.shape}"
        if a.dtype != b.dtype or a.shape != b.shape:
            raise CheckError(f"{place} is {a.dtype} of shape {a.shape}; it should be {b.dtype}")
        if not np.array_equal(a, b, equal_nan=True):
            errors = np.abs(a - b)
            at = np.unravel_index(errors.argmax(), errors.shape)
            index = f" at {tuple(map(int, at))}" if at else ""
            raise CheckError(f"{place} is {a[at]:.6g}{index} and should be {b[at]:.6g}, to the last bit ({b.dtype})")


def misfit(found: Any, wanted: Any, place: str = "state_dict()") -> str:
    """Where two nests of dicts, lists, arrays and numbers differ; empty if they do not."""
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        if found.keys() != wanted.keys():
            return f"{place} has the keys {list(found)}, not {list(wanted)}"
        parts: Iterable[Any] = [(found[key], wanted[key], f"{place}[{key!r}]") for key in wanted]
    elif isinstance(wanted, list | tuple) and isinstance(found, list | tuple):
        if len(found) != len(wanted):
            return f"{place} has {len(found)} entries, not {len(wanted)}"
        parts = [(a, b, f"{place}[{n}]") for n, (a, b) in enumerate(zip(found, wanted, strict=True))]
    else:
        same = np.array_equal(found, wanted) if hasattr(wanted, "shape") else bool(found == wanted)
        return "" if same else f"{place} is {found!r:.80}, not {wanted!r:.80}"
    return next((text for part in parts if (text := misfit(*part))), "")
