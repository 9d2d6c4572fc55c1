"""What a plugin can offer. A plugin is a module with some of these functions, named by an entry point in the group
`minigrad`; each function is decorated with `hookimpl` and returns factories by name.

    import minigrad as mg

    @mg.hookimpl
    def minigrad_cells():
        return {"mgu": MGUCell}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

GROUP = "minigrad"
"""The entry-point group, and pluggy's project name."""

Factories = Mapping[str, Callable[..., Any]]
_Function = TypeVar("_Function", bound=Callable[..., Any])


def hookimpl(function: _Function) -> _Function:
    """Mark a function as a plugin's implementation of the hook of the same name.

    The mark is the one of `pluggy.HookimplMarker("minigrad")`, which does as well and takes pluggy's options. Set here,
    it lets the built-ins be marked without importing pluggy, which nobody needs before a name is first asked for.
    """
    setattr(function, f"{GROUP}_impl", {})
    return function


def minigrad_cells() -> Factories:  # type: ignore[empty-body]  # a specification
    """Recurrent cells: `factory(input_size, hidden_size, **options)` returns a `minigrad.Cell`."""


def minigrad_wrappers() -> Factories:  # type: ignore[empty-body]  # a specification
    """Wrappers: `factory(cell, **options)` returns a cell or a layer made of any cell."""


def minigrad_losses() -> Factories:  # type: ignore[empty-body]  # a specification
    """Losses: `factory(**options)` returns a function of (outputs, targets, lengths=None) to a scalar tensor."""


def minigrad_optimizers() -> Factories:  # type: ignore[empty-body]  # a specification
    """Optimizers: `factory(parameters, **options)` returns an object with `step`, `zero_grad` and a state dict."""
