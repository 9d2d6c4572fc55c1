"""The metrics of a run as curves, in a PNG."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minigrad.train.callbacks import Callback

if TYPE_CHECKING:
    from minigrad.train.trainer import Trainer

__all__ = ["Curves", "plot_curves"]


def plot_curves(records: Sequence[Mapping[str, Any]], path: str | os.PathLike[str]) -> Any:
    """Draw each metric over the epochs, in training and validation, one below the other.

    Args:
        records: such as `history.records`.
        path: the PNG file.

    Returns:
        The figure of matplotlib, closed.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: there are no records.

    >>> import os, tempfile
    >>> from minigrad.train import plot_curves
    >>> records = [{"epoch": 1, "train_loss": 2.0, "validation_loss": 3.0}, {"epoch": 2, "train_loss": 1.0}]
    >>> path = os.path.join(tempfile.mkdtemp(), "curves.png")
    >>> [axes.get_ylabel() for axes in plot_curves(records, path).axes], os.path.exists(path)
    (['loss'], True)
    """
    if not records:
        raise ValueError("there are no records to draw: no epoch has been finished")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "curves need matplotlib, which is not installed: pip install 'minigrad[plot]', or pip install matplotlib"
        ) from error
    sides = {"train_": "training", "validation_": "validation"}
    names = dict.fromkeys(
        name.removeprefix(side) for record in records for name in record for side in sides if name.startswith(side)
    )
    figure = Figure(figsize=(7, 0.6 + 2.6 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, name in zip(figure.subplots(len(names), sharex=True, squeeze=False)[:, 0], names, strict=True):
        for side, label in sides.items():
            points = [(record["epoch"], record[side + name]) for record in records if side + name in record]
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=label)
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.axes[-1].set_xlabel("epoch")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=120)
    return figure


class Curves(Callback):
    """Draws `plot_curves` of all epochs so far when `fit` ends. Needs matplotlib: `pip install 'minigrad[plot]'`.

    Args:
        path: the PNG file.

    Raises:
        ImportError: matplotlib is not installed; at once, and not when the run is over.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            import matplotlib.figure  # noqa: F401
        except ImportError as error:
            raise ImportError(
                "Curves needs matplotlib, which is not installed: pip install 'minigrad[plot]'"
            ) from error
        self.path = Path(path)

    def on_fit_end(self, trainer: Trainer) -> None:
        if trainer.records:
            plot_curves(trainer.records, self.path)
