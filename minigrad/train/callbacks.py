"""What can be done between the updates of a run: the base class of callbacks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from minigrad.train.trainer import Trainer

__all__ = ["Callback"]


class Callback:
    """Base class of callbacks. Override what is needed; each method does nothing here.

    A callback may read all of the trainer, `trainer.progress` above all, and call `trainer.stop(reason)`. It may take
    the model out of training and draw random numbers, to write samples say: afterwards both are as before, so that the
    run is the same with it as without.

    >>> from minigrad.train import Callback
    >>> class StopAt(Callback):
    ...     def __init__(self, loss):
    ...         self.loss = loss
    ...     def on_epoch_end(self, trainer, record):
    ...         if record["train_loss"] < self.loss:
    ...             trainer.stop("good enough")
    """

    def on_fit_start(self, trainer: Trainer) -> None:
        """Before the first update of a call of `fit`; `trainer.progress.step` is above 0 if it goes on with a run."""

    def on_epoch_start(self, trainer: Trainer) -> None:
        """Before the first update of an epoch (also of one that `resume` goes on with)."""

    def on_step_end(self, trainer: Trainer, record: Mapping[str, Any]) -> None:
        """After each update.

        Args:
            trainer: whose run it is.
            record: "step" (updates done), "lr", "grad_norm" (before clipping), "size" (examples in the batch), "loss"
                and each metric of this batch.
        """

    def on_epoch_end(self, trainer: Trainer, record: Mapping[str, Any]) -> None:
        """After each epoch and its validation, before the checkpoint is written (after it, if the epoch was cut short).

        Args:
            trainer: whose run it is.
            record: "epoch" (from 1), "step", "seconds" (of training, in all), "lr", "padding" (if the data knows it),
                "train_loss" and "train_..." for each metric, and the same with "validation_".
        """

    def on_save(self, trainer: Trainer, path: Path) -> None:
        """After a checkpoint has been written to `path`."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """When `fit` ends, also by an error or Ctrl-C: close what is open."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold so that `resume` goes on bit for bit: arrays and what JSON has."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
