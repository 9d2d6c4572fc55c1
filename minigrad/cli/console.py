"""What the commands share: how they print, how they end with an error, how they tell of a warning."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from minigrad.errors import PluginWarning

console = Console(markup=False, highlight=False, soft_wrap=True)

BackendOption = Annotated[
    str | None, typer.Option("--backend", help="numpy or cupy; by default MINIGRAD_BACKEND, or numpy.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON, for programs.")]


class Kind(StrEnum):
    """What a plugin can offer."""

    CELL = "cell"
    WRAPPER = "wrapper"
    LOSS = "loss"
    OPTIMIZER = "optimizer"


def fail(message: str, status: int = 1) -> NoReturn:
    """End the program with a message instead of a traceback."""
    _tell("Error: ", "bold red", message)
    raise typer.Exit(status)


@contextmanager
def notices() -> Iterator[None]:
    """Warnings about plugins are one line each on the standard error, without a place in the code."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", PluginWarning)
        show = warnings.showwarning

        def shown(message: Warning | str, category: type[Warning], *rest: Any, **options: Any) -> None:
            if issubclass(category, PluginWarning):
                _tell("Notice: ", "bold yellow", str(message))
            else:
                show(message, category, *rest, **options)

        warnings.showwarning = shown
        yield


def _tell(head: str, style: str, message: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(Text.assemble((head, style), message))
