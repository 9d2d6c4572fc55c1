"""One call of `Trainer.fit`: epochs with their validation, until there is a reason to stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from minigrad.train.history import Progress
from minigrad.train.metrics import Means, Outcome
from minigrad.train.modes import evaluating, interrupts
from minigrad.train.snapshot import take
from minigrad.train.trouble import NonFiniteError, listed
from minigrad.train.update import settled

if TYPE_CHECKING:
    from minigrad.train.trainer import Trainer

__all__ = ["Run", "evaluate"]


@dataclass
class Run:
    """A run of a trainer over data; see `Trainer.fit` for the arguments.

    Attributes:
        interrupted: whether Ctrl-C has been pressed.
    """

    trainer: Trainer
    train: Any
    validation: Any
    epochs: int | None
    monitor: str
    mode: str
    patience: int | None
    interrupted: Callable[[], bool] = lambda: False

    @property
    def progress(self) -> Progress:
        return self.trainer.progress

    def start(self, new: bool) -> None:
        """Run, with the callbacks told of its two ends, and Ctrl-C noted; a new run is saved first."""
        with ExitStack() as ends:
            ends.callback(self.trainer.updater.end)
            for callback in reversed(self.trainer.all_callbacks):  # each is told, even if another raises an error
                ends.callback(callback.on_fit_end, self.trainer)
            try:
                self.trainer.tell("on_fit_start")
                with interrupts() as self.interrupted:
                    if new:
                        self.save()
                    self.go()
            except NonFiniteError as error:
                error.args = (f"{error}. {self.trainer.last_good}.",)
                raise

    def go(self) -> None:
        """Train until there is a reason to stop."""
        trainer = self.trainer
        trainer.means = Means(self.progress.sums)
        while not trainer.stopped:
            if self.patience is not None and self.progress.waited >= self.patience:
                trainer.stop("patience")
            elif self._all_done():
                trainer.stop("steps" if self.epochs is None else "epochs")
            else:
                self._epoch()
        if self.progress.position and trainer.stopped != "interrupted":
            self._cut_short()

    def _all_done(self) -> bool:
        """Whether all updates are done; after the last of an epoch its validation is still to come."""
        return self.progress.step >= self.trainer.total and self.progress.position < len(self.train)

    def _epoch(self) -> None:
        """The rest of the epoch under way, or as much of it as there is to be."""
        trainer, progress = self.trainer, self.progress
        trainer.means = Means(progress.sums)
        trainer.tell("on_epoch_start")
        saved = since = time.perf_counter()
        for batch in self.train.batches(progress.epoch, progress.position, trainer.carried):
            outcome, record = trainer.updater(batch, progress)
            trainer.means.add(outcome)
            trainer.carried = settled(getattr(batch, "next_state", None))
            progress.step += 1
            progress.position += 1
            now = time.perf_counter()
            progress.seconds, since = progress.seconds + now - since, now
            trainer.tell("on_step_end", {"step": progress.step, **record})
            if self.interrupted():
                trainer.stop("interrupted")
            over = bool(trainer.stopped) or self._all_done()
            if over or now - saved >= trainer.save_every:
                self.save()
                saved = time.perf_counter()
            if over:
                return
        measured = evaluate(trainer, self.validation, self.interrupted)
        if measured is None:
            trainer.stop("interrupted")
            self.save()
            return
        progress.seconds += time.perf_counter() - since
        self._close(measured)

    def _cut_short(self) -> None:
        """Validate and record the part of an epoch. The checkpoint, from which it can go on, knows nothing of that."""
        measured = evaluate(self.trainer, self.validation, self.interrupted) or {}
        record = self._record(measured)
        if measured and self._is_best(measured):
            self._note_best(measured, self.progress.epoch + 1)
            if self.trainer.saves is not None:
                self.trainer.saves.write_best(self._contents())
        self._tell_epoch(record)

    def _close(self, measured: dict[str, float]) -> None:
        """The end of an epoch: its record, the best, the schedule, the callbacks, a checkpoint."""
        trainer, progress = self.trainer, self.progress
        record = self._record(measured)
        better = self._is_best(measured) if measured else False
        progress.epoch, progress.position, progress.sums, trainer.carried = progress.epoch + 1, 0, {}, None
        progress.records.append(record)
        if better:
            self._note_best(measured, progress.epoch)
        elif measured:
            progress.waited += 1
        if measured and trainer.updater.schedule is not None:
            trainer.updater.schedule.observe(progress.step, better)
        self._tell_epoch(record)
        self.save(best=better)

    def _is_best(self, measured: dict[str, float]) -> bool:
        """Whether the monitored metric is better than in all epochs before."""
        if self.monitor not in measured:
            raise ValueError(f"monitor is {self.monitor!r}; the metrics on the validation data are {list(measured)}")
        value, best = measured[self.monitor], self.progress.best
        if math.isnan(value):
            raise NonFiniteError(
                f"the validation metric {self.monitor!r} is NaN after epoch {self.progress.epoch + 1}, so that no "
                "epoch can be the best"
            )
        return best is None or (value < best if self.mode == "min" else value > best)

    def _note_best(self, measured: dict[str, float], epoch: int) -> None:
        progress, trainer = self.progress, self.trainer
        progress.best, progress.best_epoch, progress.waited = measured[self.monitor], epoch, 0
        trainer.best = trainer.model.state_dict()

    def _record(self, measured: dict[str, float]) -> dict[str, Any]:
        """The record of an epoch, see `Callback.on_epoch_end`."""
        progress, rate = self.progress, self.trainer.updater.rate
        padding = getattr(self.train, "padding", None)
        return {
            "epoch": progress.epoch + 1,
            "step": progress.step,
            "seconds": progress.seconds,
            **({} if rate is None else {"lr": rate}),
            **({} if padding is None else {"padding": padding(progress.epoch)}),
            **{f"train_{name}": value for name, value in self.trainer.means.values().items()},
            **{f"validation_{name}": value for name, value in measured.items()},
        }

    def _tell_epoch(self, record: dict[str, Any]) -> None:
        self.trainer.records.append(record)
        self.trainer.tell("on_epoch_end", record)

    def save(self, best: bool = False) -> None:
        """Write a checkpoint, if the weights are sound and there is a folder for it."""
        trainer = self.trainer
        if trainer.saves is None:
            return
        if bad := listed(trainer.model.named_parameters()):
            if not self.progress.step:
                raise NonFiniteError(f"before the first step the weights are not finite: {bad}")
            raise NonFiniteError(
                f"after step {self.progress.step} the weights are not finite: {bad}. The update has made them so, of "
                "finite gradients: a smaller learning rate or clip_norm may help"
            )
        contents = self._contents()
        if best:
            trainer.saves.write_best(contents)
        trainer.tell("on_save", trainer.saves.write(self.progress.step, contents))

    def _contents(self) -> dict[str, Any]:
        trainer = self.trainer
        return {**take(trainer, self.train), "model": trainer.model, "optimizer": trainer.optimizer}


def evaluate(trainer: Trainer, data: Any, interrupted: Callable[[], bool]) -> dict[str, float] | None:
    """The means of loss and metrics over the examples of data; none without data, None if interrupted."""
    if data is None:
        return {}
    means = Means()
    with evaluating(trainer.model):
        for batch in data.batches():
            means.add(Outcome.of(trainer.step(trainer.model, batch), batch))
            if interrupted():
                return None
    if not means.sums:
        raise ValueError("the data to evaluate on holds no examples")
    return means.values()
