"""The progress bar: loss, metrics, speed and time left; nothing where the output is no terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from minigrad.train.callbacks import Callback

if TYPE_CHECKING:
    from minigrad.train.trainer import Trainer

__all__ = ["ProgressBar"]


class ProgressBar(Callback):
    """A bar over all updates of the run, and a line for each epoch. A trainer has one unless `progress=False`.

    The loss and the metrics are this epoch's means so far. The speed is that of training alone, since the epoch began
    or the run was resumed; the time left goes by the updates of the last half minute.

    Args:
        console: of rich; by default one that writes to standard error.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = Console(stderr=True) if console is None else console
        self._bars: Progress | None = None
        self._begun, self._examples = 0.0, 0

    def on_fit_start(self, trainer: Trainer) -> None:
        if not self.console.is_terminal:
            return
        columns = (
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn(
                "{task.completed:.0f}/{task.total:.0f}  {task.fields[means]}  {task.fields[speed]}", markup=False
            ),
            TimeRemainingColumn(),
        )
        self._bars = Progress(*columns, console=self.console, transient=True)
        step, epoch = trainer.progress.step, trainer.progress.epoch + 1
        self._task = self._bars.add_task("", total=trainer.total, completed=step, epoch=epoch, means="", speed="")
        self._bars.start()

    def on_epoch_start(self, trainer: Trainer) -> None:
        self._begun, self._examples = time.perf_counter(), 0

    def on_step_end(self, trainer: Trainer, record: Mapping[str, Any]) -> None:
        if self._bars is None:
            return
        self._examples += record["size"]
        speed = self._examples / max(time.perf_counter() - self._begun, 1e-9)
        self._bars.update(
            self._task,
            completed=record["step"],
            epoch=trainer.progress.epoch + 1,
            means=_listed(trainer.means.values()),
            speed=f"{speed:,.0f} examples/s",
        )

    def on_epoch_end(self, trainer: Trainer, record: Mapping[str, Any]) -> None:
        if self._bars is None:
            return
        told = {name: value for name, value in record.items() if name.startswith(("train_", "validation_"))}
        self._bars.console.print(f"epoch {record['epoch']}: {_listed(told)}", highlight=False, markup=False)

    def on_fit_end(self, trainer: Trainer) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
            if trainer.stopped == "interrupted":
                self.console.print(
                    f"interrupted after {trainer.progress.step} updates. {trainer.last_good}", markup=False
                )


def _listed(values: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in values.items())
