"""The training loop: `Trainer`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from numbers import Integral
from pathlib import Path
from typing import Any

from minigrad.backend import random_state
from minigrad.module import Module
from minigrad.optimizers import is_number
from minigrad.train.bar import ProgressBar
from minigrad.train.callbacks import Callback
from minigrad.train.history import History, Progress
from minigrad.train.logs import JsonLines
from minigrad.train.metrics import Means
from minigrad.train.modes import locked, modes_of, put_back, same_draws
from minigrad.train.run import Run, evaluate
from minigrad.train.saves import Saves
from minigrad.train.schedules import as_schedule
from minigrad.train.snapshot import restore
from minigrad.train.update import Updater

__all__ = ["Trainer"]

MODES = ("min", "max")


class Trainer:
    """Trains a model.

    Args:
        model: any module.
        optimizer: made of the model's parameters.
        step: `step(model, batch) -> loss`, or `(loss, metrics)`: a plain function of yours. The loss is a tensor of
            one element, the mean over the batch's examples; metrics are a dict of such means, or of pairs (sum, count)
            where the mean is over something else, such as words: {"accuracy": (right, words)}. If the loss is such a
            mean too, {"loss": (loss * words, words)} has epochs report it so. `Truncated` makes a step for `Streams`.
            A step may leave the gradients itself, as `mg.tbptt` does, and return a loss without history.
        clip_norm: limit of the gradients' joint norm, see `mg.clip_grad_norm`.
        schedule: of the learning rate: a function of the number of updates done that gives a factor, see `Schedule`.
            After the run the optimizer has its own rates again.
        out: a folder for `metrics.jsonl` and the checkpoints, of which `best.safetensors` is the best on validation
            data: `mg.load_checkpoint(path)["model"]` has its weights. Without a folder nothing is written.
        callbacks: see `Callback`.
        keep: how many of the last checkpoints stay, besides the best.
        save_every: seconds of training between two checkpoints; one more is written at the start, after each epoch,
            and on Ctrl-C.
        progress: whether to show a bar; where standard error is no terminal there is none anyway.

    Attributes:
        progress: how far the run has come, see `Progress`.
        means: of the epoch under way, see `Means`.
        records: of all epochs so far; the last may be one that was cut short.
        total: the number of updates that the run is to have; early stopping may end it sooner.
        stopped: why the run has ended, or is to end; empty before.

    >>> from minigrad.train import Batches, Trainer
    >>> class Last(mg.Module):
    ...     def __init__(self):
    ...         self.layer, self.output = mg.GRU(1, 8), mg.Linear(8, 1)
    ...     def forward(self, x, lengths):
    ...         _, h = self.layer(mg.expand_dims(x, -1), lengths=lengths)
    ...         return mg.squeeze(self.output(h), -1)
    >>> def step(model, batch):
    ...     x, y = batch
    ...     return mg.loss("mse")(model(x, batch.lengths[0]), y)
    >>> mg.seed(0)
    >>> examples = [([float(i % 3)] * (i % 5 + 1), float(i % 3)) for i in range(60)]
    >>> model = Last()
    >>> trainer = Trainer(model, mg.optimizer("adam", model.parameters(), lr=0.02), step, clip_norm=1.0)
    >>> history = trainer.fit(Batches(examples[:48], 8), Batches(examples[48:], 8), epochs=20)
    >>> history["validation_loss"][-1] < 0.1 * history["validation_loss"][0]
    True
    """

    def __init__(
        self,
        model: Module,
        optimizer: Any,
        step: Callable[[Any, Any], Any],
        *,
        clip_norm: float | None = None,
        schedule: Callable[[int], float] | None = None,
        out: Any = None,
        callbacks: Iterable[Callback] = (),
        keep: int = 2,
        save_every: float = 60.0,
        progress: bool = True,
    ) -> None:
        if not isinstance(model, Module):
            raise TypeError(f"model must be a mg.Module; got {model!r}")
        if not callable(step) or isinstance(step, type):
            raise TypeError(f"step must be a function step(model, batch) -> loss; got {step!r}")
        if clip_norm is not None and not (is_number(clip_norm) and clip_norm > 0):
            raise ValueError(f"clip_norm is a number above 0, or None; got {clip_norm!r}")
        if not (is_number(save_every) and save_every >= 0):
            raise ValueError(f"save_every is a number of seconds, 0 for after each update; got {save_every!r}")
        self.callbacks = list(callbacks)
        for callback in self.callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(f"callbacks are objects of subclasses of minigrad.train.Callback; got {callback!r}")
        _check_optimizer(model, optimizer)
        self.model, self.optimizer, self.step = model, optimizer, step
        self.updater = Updater(model, optimizer, step, clip_norm, None if schedule is None else as_schedule(schedule))
        self.saves = None if out is None else Saves(out, keep)
        self.save_every, self._modes = save_every, modes_of(model)
        self._helpers: list[Callback] = [] if self.saves is None else [JsonLines(self.saves.folder / "metrics.jsonl")]
        self._helpers += [ProgressBar()] if progress else []
        self._begin()

    def _begin(self) -> None:
        self.progress, self.means = Progress(), Means()
        self.carried: Any = None
        self.best: dict[str, Any] | None = None
        self.records: list[dict[str, Any]] = []
        self.total, self.stopped = 0, ""
        self.updater.begin()

    def fit(
        self,
        train: Any,
        validation: Any = None,
        *,
        epochs: int | None = None,
        steps: int | None = None,
        monitor: str = "loss",
        mode: str = "min",
        patience: int | None = None,
        restore_best: bool | None = None,
        resume: bool = False,
    ) -> History:
        """Train: a new run, with the weights and the optimizer's state as they are; or with `resume` the one of before.

        Ctrl-C ends the run after the update under way, with a checkpoint, and `history.stopped` is "interrupted";
        pressed twice it raises KeyboardInterrupt at once.

        Args:
            train: `Batches`, `Streams`, or anything with `len` (batches per epoch), `batches(epoch, start, state)`,
                which gives batches with a `size`, and `state_dict` and `load_state_dict`.
            validation: the same, for `evaluate` after each epoch; only `len` and `batches()` are needed.
            epochs: how many in all, with those before a resume; or
            steps: how many updates in all. An epoch that this, or a callback's `stop`, cuts short is validated and
                recorded too, and can be the best.
            monitor: the validation metric that the best epoch, `patience` and `Plateau` go by.
            mode: whether "min" or "max" of it is best. An epoch that only equals the best is not better.
            patience: end the run after so many epochs in a row without a new best.
            restore_best: load the best epoch's weights at the end, however the run ends, unless it is interrupted. By
                default with `patience` only: without, the model has the weights of the last update, and
                `history.best_epoch` says which epoch was better.
            resume: go on with the run whose checkpoints are in `out`, bit for bit: with its weights, optimizer state,
                random numbers, position in the data, schedule, carried state and records. The optimizer's settings too
                are then those of the checkpoint; `clip_norm`, `patience` and the callbacks are what this trainer has.

        Returns:
            The history.

        Raises:
            NonFiniteError: the loss, a gradient, a weight or the monitored metric is NaN, or (but for the metric)
                infinite. The last good checkpoint stays.
            CheckpointError: with `resume`, there is no checkpoint, or it does not fit; nothing is changed.
            FileExistsError: without `resume`, `out` holds another run that has done an update or more.
            BlockingIOError: another process is writing to `out`.
            ValueError, TypeError: an argument does not fit.
        """
        _check(train, validation, epochs, steps, monitor, mode, patience, restore_best)
        if validation is None and self.updater.schedule is not None and self.updater.schedule.observes:
            raise ValueError("the schedule goes by validations, as Plateau does: give validation data")
        monitored = f"{mode} {monitor}" if validation is not None else ""
        with locked(self._folder(resume)):
            if resume:
                self._resume(train, monitored)
            else:
                self._refuse_another_run()
                self._begin()
            self.progress.monitored = monitored or self.progress.monitored
            self.records = list(self.progress.records)
            self.total, self.stopped = (epochs or 0) * len(train) if steps is None else steps, ""
            if not self.model.training:
                self.model.train()
            self._modes = modes_of(self.model)
            self.updater.settle()
            Run(self, train, validation, epochs, monitor, mode, patience).start(new=not resume)
        restore_best = patience is not None if restore_best is None else restore_best
        if restore_best and self.best is not None and self.stopped != "interrupted":
            self.model.load_state_dict(self.best)
        return History(self.records, self.stopped, self.progress.best, self.progress.best_epoch)

    def evaluate(self, data: Any) -> dict[str, float]:
        """The loss and metrics on data, as means over its examples; the model is out of training meanwhile.

        Random numbers drawn here do not change those that training draws.
        """
        _check_data("data", data)
        measured = evaluate(self, data, lambda: False)
        assert measured is not None
        return measured

    def stop(self, reason: str) -> None:
        """End the run after the update, or the epoch's end, under way; the first reason given is the history's."""
        self.stopped = self.stopped or reason

    def tell(self, event: str, *arguments: Any) -> None:
        """Call a method of all callbacks. Random numbers that they draw are not the run's, and the model trains on."""
        with same_draws(random_state()) if self.callbacks else nullcontext():
            for callback in self.all_callbacks:
                getattr(callback, event)(self, *arguments)
        if not self.model.training:
            put_back(self._modes)

    @property
    def last_good(self) -> str:
        """Which checkpoint to go on from, in words."""
        paths = [] if self.saves is None else self.saves.paths()
        if not paths:
            return "There is no checkpoint" + ("" if self.saves else ": pass out=folder")
        return f"The last good checkpoint is {paths[-1]}"

    @property
    def all_callbacks(self) -> tuple[Callback, ...]:
        """Those given, and after them the trainer's own."""
        return (*self.callbacks, *self._helpers)

    def _folder(self, resume: bool) -> Path | None:
        """The folder to lock, made for a new run."""
        if self.saves is not None and not resume:
            self.saves.folder.mkdir(parents=True, exist_ok=True)
        return None if self.saves is None else self.saves.folder

    def _resume(self, train: Any, monitored: str) -> None:
        if self.saves is None:
            raise ValueError("resume needs the folder with the checkpoints: Trainer(..., out=folder)")
        path, contents = self.saves.read()
        saved = contents.get("progress", {})
        before = saved.get("monitored")
        if saved.get("best_epoch") and monitored and before != monitored:
            raise ValueError(
                f"the run in {self.saves.folder} goes by the {before}; resume it with that, not {monitored}"
            )
        restore(self, train, path, contents)

    def _refuse_another_run(self) -> None:
        paths = [] if self.saves is None else self.saves.paths()
        if self.saves is not None and paths and paths[-1].stem != "step-00000000":
            raise FileExistsError(
                f"{self.saves.folder} holds another run ({paths[-1].name}): go on with it by resume=True, or give "
                "another folder"
            )


def _check(
    train: Any, validation: Any, epochs: Any, steps: Any, monitor: str, mode: str, patience: Any, restore_best: Any
) -> None:
    """Raise for arguments of `fit` that do not fit."""
    if (epochs is None) == (steps is None):
        raise ValueError("give either epochs or steps")
    for name, value in (("epochs", epochs), ("steps", steps), ("patience", patience)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, Integral) or value < 1):
            raise ValueError(f"{name} is an integer of at least 1; got {value!r}")
    _check_data("train", train)
    if validation is not None:
        _check_data("validation", validation)
    if mode not in MODES:
        raise ValueError(f"mode is one of {MODES}; got {mode!r}")
    if validation is None and (patience is not None or restore_best or monitor != "loss" or mode != "min"):
        raise ValueError("patience, restore_best, monitor and mode go by a validation metric: give validation data")


def _check_data(name: str, data: Any) -> None:
    """Raise for what is no data to train or evaluate on."""
    if not (hasattr(data, "batches") and hasattr(data, "__len__")):
        raise TypeError(f"{name} must be data such as minigrad.train.Batches or Streams; got {type(data).__name__}")
    if not len(data):
        raise ValueError(f"{name} holds no batches")


def _check_optimizer(model: Module, optimizer: Any) -> None:
    """Raise if the optimizer updates none of the model's parameters."""
    updated = {id(parameter) for group in getattr(optimizer, "groups", ()) for parameter in group.get("params", ())}
    if updated and not any(id(parameter) in updated for parameter in model.parameters()):
        raise ValueError(
            "the optimizer holds none of the model's parameters: it was made of another model; make it anew of "
            "model.parameters()"
        )
