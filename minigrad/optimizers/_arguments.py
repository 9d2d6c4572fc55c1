"""What optimizers and the clipping of gradients are given: parameters, groups of them, and numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from minigrad.tensor import Parameter, Tensor


def no_parameters() -> ValueError:
    return ValueError("there are no parameters: model.parameters() is empty (or was used up before)")


def is_number(value: Any) -> bool:
    """Whether a hyperparameter is a Python number, and not True or False.

    >>> from minigrad.optimizers import is_number
    >>> is_number(0.5), is_number(True), is_number("1")
    (True, False, False)
    """
    return isinstance(value, int | float) and not isinstance(value, bool)


def no_parameter(value: Any) -> str:
    """What `value` is if an optimizer cannot take it; empty if it can. A frozen parameter just has no gradient."""
    if not isinstance(value, Tensor):
        return f"{value!r}, which is no tensor"
    if value.node is not None:
        return "a computed tensor"
    return "" if value.requires_grad or isinstance(value, Parameter) else "a constant tensor"


def as_groups(params: Any) -> list[Mapping[str, Any]]:
    members = listed(params)
    if not any(isinstance(member, Mapping) for member in members):
        return [{"params": members}]
    for position, member in enumerate(members):
        if not isinstance(member, Mapping) or "params" not in member:
            raise TypeError(f"group {position} must be a dict with 'params', as the first is; got {member!r}")
    return members


def listed(params: Any) -> list[Any]:
    """What can be iterated, as a list. A tensor could be, but its rows are no parameters."""
    if isinstance(params, Tensor):
        return [params]
    if isinstance(params, Mapping) or not isinstance(params, Iterable):
        raise TypeError(f"params must be parameters, such as model.parameters(); got {type(params).__name__}")
    return list(params)


def plain(group: Mapping[str, Any]) -> dict[str, Any]:
    """A group's hyperparameters as Python numbers: a NumPy float64 would widen float32 parameters."""
    return {name: plain_value(value) for name, value in group.items() if name != "params"}


def plain_value(value: Any) -> Any:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(map(plain_value, value))
    return value.item() if hasattr(value, "item") and value.size == 1 else value
