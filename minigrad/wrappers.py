"""The built-in wrappers of cells, offered through the same hook as anybody else's."""

from __future__ import annotations

from minigrad.hookspecs import Factories, hookimpl
from minigrad.recurrent import Bidirectional

__all__ = ["minigrad_wrappers"]


@hookimpl
def minigrad_wrappers() -> Factories:
    return {"bidirectional": Bidirectional}
