"""Everything that a run needs to go on bit for bit: taken, and put back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minigrad.backend import backend_of, random_state, set_random_state
from minigrad.errors import CheckpointError
from minigrad.nest import leaves, map_nest
from minigrad.tensor import Tensor
from minigrad.train.history import Progress
from minigrad.train.modes import evaluating

if TYPE_CHECKING:
    from minigrad.train.callbacks import Callback
    from minigrad.train.trainer import Trainer

__all__ = ["restore", "take"]


def take(trainer: Trainer, train: Any) -> dict[str, Any]:
    """The state of a run: weights, optimizer, random numbers, place in the data, schedule, carried state, records."""
    updater = trainer.updater
    data = train.state_dict()  # first, since it may draw a seed
    return {
        "model": trainer.model.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "progress": asdict(trainer.progress),
        "best": trainer.best,
        "carried": None if trainer.carried is None else [leaf.numpy() for leaf in leaves(trainer.carried)],
        "random_state": random_state(),
        "schedule": None if updater.schedule is None else updater.schedule.state_dict(),
        "rates": updater.rates,
        "data": data,
        "callbacks": {name: state for name, callback in _named(trainer) if (state := callback.state_dict())},
    }


def restore(trainer: Trainer, train: Any, path: Path, contents: dict[str, Any]) -> None:
    """Put a run into the state that a checkpoint holds.

    Raises:
        CheckpointError: it does not fit; nothing is changed.
    """
    before, carried = take(trainer, train), trainer.carried
    try:
        _put(trainer, train, contents)
        trainer.carried = _carried(trainer, train, contents["carried"])
    except BaseException as error:
        _put(trainer, train, before)
        trainer.carried = carried
        if not isinstance(error, Exception):
            raise
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(f"{path} does not fit this run, and nothing was changed: {reason}") from error


def _put(trainer: Trainer, train: Any, contents: dict[str, Any]) -> None:
    updater = trainer.updater
    train.load_state_dict(contents["data"])
    trainer.model.load_state_dict(contents["model"])
    trainer.optimizer.load_state_dict(contents["optimizer"])
    if (contents["schedule"] is None) != (updater.schedule is None):
        raise ValueError(f"the run was {'without' if updater.schedule else 'with'} a schedule, unlike this trainer")
    if updater.schedule is not None:
        updater.schedule.load_state_dict(contents["schedule"])
    updater.rates = contents["rates"]
    callbacks = dict(_named(trainer))
    for name, state in contents["callbacks"].items():
        if name not in callbacks:
            raise ValueError(f"the run had the callback {name}, which has a state; this trainer has {list(callbacks)}")
        callbacks[name].load_state_dict(state)
    trainer.progress = Progress(**contents["progress"])
    trainer.best = contents["best"]
    set_random_state(contents["random_state"])


def _named(trainer: Trainer) -> Iterator[tuple[str, Callback]]:
    """The callbacks by the names of their classes, numbered where one is there again."""
    counts: dict[str, int] = {}
    for callback in trainer.callbacks:
        name = type(callback).__name__
        counts[name] = counts.get(name, 0) + 1
        yield name if counts[name] == 1 else f"{name} {counts[name]}", callback


def _carried(trainer: Trainer, train: Any, arrays: list[Any] | None) -> Any:
    """The carried state of its arrays, built as the step builds one: it is run once, without a trace, to see how."""
    if arrays is None:
        return None
    batch = next(iter(train.batches(0)))
    with evaluating(trainer.model):
        trainer.step(trainer.model, batch)
    like = list(leaves(batch.next_state))
    here, there = [leaf.shape for leaf in like], [array.shape for array in arrays]
    if here != there:
        raise ValueError(f"the carried state had tensors of the shapes {there}; here they are {here}")
    rest = iter(arrays)
    return map_nest(lambda leaf: Tensor(backend_of(leaf.data).asarray(next(rest)).astype(leaf.dtype)), batch.next_state)
