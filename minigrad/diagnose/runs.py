"""A model as a step that can be taken one at a time, whatever kind of model it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minigrad.contract import Cell, check_input, check_state, checked_step, start_state
from minigrad.module import Module
from minigrad.nest import describe
from minigrad.ops import expand_dims
from minigrad.recurrent import Bidirectional, Recurrent, swap_axes
from minigrad.tape import no_grad
from minigrad.tensor import Tensor, as_tensor

Step = Callable[[Tensor, Any], tuple[Tensor, Any]]


def stepwise(model: Any, x: Any, state: Any) -> tuple[Step, Tensor, Any]:
    """A model's step on x (B, ...), its inputs (T, B, ...), and the state before the first step.

    Args:
        model: a cell, or a module that runs forward in time: `model(x, state) -> (ys, state)`.
        x: inputs (T, B, ...), or (B, T, ...) if the model has batch_first; at least one step.
        state: by default the model's own: what `init_state` gives, or what it returns for no steps.

    Raises:
        ValueError: x or the state does not fit, or the model does not run forward in time alone.
        TypeError: it is no module.
    """
    if not isinstance(model, Module):
        raise TypeError(f"model is a cell, or a module that takes (x, state); not {type(model).__name__}")
    if isinstance(model, Cell):
        x = _some_steps(check_input(model, x, axes="T, B"))
        expected = start_state(model, model, x, x.shape[1])
        state = expected if state is None else check_state(state, expected)
        return lambda x, state: checked_step(model, x, state), x, state
    check_forward(model)
    x = as_tensor(x, like=model.first_parameter())
    time = int(getattr(model, "batch_first", False))
    x = _some_steps(swap_axes(x) if time and x.ndim > 1 else x)

    def step(x: Tensor, state: Any) -> tuple[Tensor, Any]:
        result = model(expand_dims(x, time), state)
        if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[0], Tensor):
            raise TypeError(f"{type(model).__name__}(x, state) must return (ys, state); it returned {describe(result)}")
        ys, state = result
        return ys[:, 0] if time else ys[0], state

    if state is None and hasattr(model, "init_state"):
        state = start_state(model, model, x, x.shape[1])
    elif state is None:
        with no_grad():
            state = model(swap_axes(x[:0]) if time else x[:0], None)[1]
    return step, x, state


def check_forward(model: Module) -> None:
    """Raise if a part of the model needs the whole sequence before its first output."""
    for name, part in model.named_modules():
        if isinstance(part, Bidirectional) or (isinstance(part, Recurrent) and part.reverse):
            raise ValueError(
                f"{name or type(part).__name__} runs backward in time, so the model cannot be taken step by step: pass "
                "the cell of one direction, and mg.flip(x, 0) for the backward one"
            )


def paths(nest: Any, name: str) -> list[str]:
    """The place of each leaf of a nest in words, such as `state[0]` or `state['mean']`."""
    if isinstance(nest, dict):
        return [path for key, part in nest.items() for path in paths(part, f"{name}[{key!r}]")]
    if isinstance(nest, tuple | list):
        return [path for number, part in enumerate(nest) for path in paths(part, f"{name}[{number}]")]
    return [name]


def _some_steps(x: Tensor) -> Tensor:
    if x.ndim < 2 or not x.shape[0]:
        raise ValueError(f"x must have at least one step, (T, B, ...); its shape, time first, is {x.shape}")
    return x
