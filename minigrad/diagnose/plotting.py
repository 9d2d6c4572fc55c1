"""Figures, without a window and without touching what the program has set for its own."""

from __future__ import annotations

from os import PathLike
from typing import Any

Path = str | PathLike[str]


def new_figure(columns: int = 1, rows: int = 1, size: tuple[float, float] = (7.0, 4.2)) -> tuple[Any, Any]:
    """A figure of this size in inches, and its axes (rows, columns).

    Raises:
        ImportError: matplotlib is missing; the message says how to install it.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "plots need matplotlib, which is not installed: pip install 'minigrad[plot]'. The numbers are there without"
        ) from error
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def save(figure: Any, path: Path) -> None:
    """Write a figure in the format that the path's suffix names."""
    figure.savefig(path, dpi=120)
