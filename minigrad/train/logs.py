"""Metrics in files: one JSON object a line, and TensorBoard."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minigrad.train.callbacks import Callback

if TYPE_CHECKING:
    from minigrad.train.trainer import Trainer

__all__ = ["JsonLines", "TensorBoard"]


class JsonLines(Callback):
    """Each epoch's record as a line of JSON; what is not finite as null. With `out` a trainer has one by itself.

    A resumed run's file begins with the records that its checkpoint knows of, so that no epoch is there twice.

    Args:
        path: the file.

    >>> import json, pathlib, tempfile
    >>> from minigrad.train import Batches, JsonLines, Trainer
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "metrics.jsonl"
    >>> def step(model, batch):
    ...     return mg.mean(model(mg.expand_dims(batch[0], -1)))
    >>> model = mg.Linear(1, 1)
    >>> trainer = Trainer(model, mg.optimizer("sgd", model.parameters(), lr=0.1), step, callbacks=[JsonLines(path)])
    >>> history = trainer.fit(Batches([(1.0,), (2.0,), (3.0,)], batch_size=2), epochs=2)
    >>> [json.loads(line)["step"] for line in path.read_text().splitlines()]
    [2, 4]
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def on_fit_start(self, trainer: Trainer) -> None:
        records = trainer.progress.records
        if not trainer.progress.step and self.path.exists() and self.path.stat().st_size:
            raise FileExistsError(f"{self.path} holds the metrics of another run; give another file, or move it away")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(self.path.name + ".part")
        part.write_text("".join(map(_line, records)), encoding="utf-8")
        part.replace(self.path)

    def on_epoch_end(self, trainer: Trainer, record: Mapping[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line(record))


def _line(record: Mapping[str, Any]) -> str:
    known = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
    return json.dumps(known, allow_nan=False) + "\n"


class TensorBoard(Callback):
    """Loss, metrics, learning rate and gradient norm of each update, and each epoch's record, for TensorBoard.

    Needs tensorboardX: `pip install 'minigrad[tensorboard]'`. What a killed run has written past the checkpoint that
    a resumed run goes on from, is purged.

    Args:
        folder: where TensorBoard finds the run.

    Raises:
        ImportError: tensorboardX is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            make = import_module("tensorboardX").SummaryWriter
        except ImportError as error:
            raise ImportError(
                "TensorBoard needs tensorboardX, which is not installed: pip install 'minigrad[tensorboard]', or "
                "pip install tensorboardX"
            ) from error
        self.folder, self._make = Path(folder), make
        self._writer: Any = None

    def on_fit_start(self, trainer: Trainer) -> None:
        step = trainer.progress.step
        suffix = f".{step:08}"  # without it two writers made within a second would write into one file
        self._writer = self._make(str(self.folder), purge_step=step + 1 if step else None, filename_suffix=suffix)

    def on_step_end(self, trainer: Trainer, record: Mapping[str, Any]) -> None:
        self._add("update/", record, ("step", "size"))

    def on_epoch_end(self, trainer: Trainer, record: Mapping[str, Any]) -> None:
        self._add("epoch/", record, ("step",))

    def on_fit_end(self, trainer: Trainer) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _add(self, prefix: str, record: Mapping[str, Any], but: tuple[str, ...]) -> None:
        for name, value in record.items():
            if name not in but and self._writer is not None:
                self._writer.add_scalar(prefix + name, value, record["step"])
