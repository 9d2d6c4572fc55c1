"""What a plugin can offer. A plugin is a module with some of these functions, named by an entry point in the group
`minigrad` (or a file in the folder of `MINIGRAD_PLUGINS_DIR`); each function is decorated with `hookimpl` and returns
factories by name.

    import minigrad as mg

    @mg.hookimpl
    def minigrad_cells():
        return {"mgu": MGUCell}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pluggy

GROUP = "minigrad"
"""The entry-point group, and pluggy's project name."""

HOOKS = {
    "cell": "minigrad_cells",
    "wrapper": "minigrad_wrappers",
    "loss": "minigrad_losses",
    "optimizer": "minigrad_optimizers",
    "callback": "minigrad_callbacks",
}
"""The hook behind each kind of thing that a plugin can offer."""

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)

Factories = Mapping[str, Callable[..., Any]]


@hookspec
def minigrad_cells() -> Factories:  # type: ignore[empty-body]  # a specification
    """Recurrent cells: `factory(input_size, hidden_size, **options)` returns a `minigrad.Cell`."""


@hookspec
def minigrad_wrappers() -> Factories:  # type: ignore[empty-body]  # a specification
    """Wrappers: `factory(cell, **options)` returns a cell or a layer made of any cell."""


@hookspec
def minigrad_losses() -> Factories:  # type: ignore[empty-body]  # a specification
    """Losses: `factory(**options)` returns a function of (outputs, targets, lengths=None) to a scalar tensor."""


@hookspec
def minigrad_optimizers() -> Factories:  # type: ignore[empty-body]  # a specification
    """Optimizers: `factory(parameters, **options)` returns an object with `step`, `zero_grad` and a state dict."""


@hookspec
def minigrad_callbacks() -> Factories:  # type: ignore[empty-body]  # a specification
    """Callbacks of a training run: `factory(**options)` returns a `minigrad.train.Callback`."""
