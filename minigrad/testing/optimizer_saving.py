"""Checks of optimizers: does a run that was saved go on as if nothing had been?"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import minigrad as mg
from minigrad.testing.expect import must_raise
from minigrad.testing.optimizer_runs import Subject, descend, misfit, must_equal, parameters, values
from minigrad.testing.results import CheckError

__all__ = ["checkpoint", "misfit_state", "saved_state"]


def saved_state(subject: Subject) -> None:
    """Saved in `state_dict` and loaded into another optimizer, it goes on bit for bit."""
    for before in (0, 3):
        _goes_on(subject, before, "float64", lambda saved: saved)


def checkpoint(subject: Subject) -> None:
    """It goes on bit for bit when its state dict goes through a checkpoint file."""

    def through_file(saved: Any) -> Any:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "run.safetensors"
            mg.save_checkpoint(path, {"optimizer": saved})
            return mg.load_checkpoint(path)["optimizer"]

    _goes_on(subject, 3, "float32", through_file)


def _goes_on(subject: Subject, before: int, dtype: str, carry: Callable[[Any], Any]) -> None:
    params = parameters(dtype)
    optimizer = subject.make(params, 0.03)
    others = [mg.Parameter(array) for array in descend(optimizer, params, before)]
    saved = optimizer.state_dict()
    kept = deepcopy(saved)
    wanted = descend(optimizer, params)
    if text := misfit(saved, kept):
        raise CheckError(f"what state_dict() returned changes with later steps; it must be a copy: {text}")
    carried = carry(saved)
    kept = deepcopy(carried)
    other = subject.make(others, 0.5)
    other.load_state_dict(carried)
    found = descend(other, others)
    if text := misfit(carried, kept):
        raise CheckError(f"what was given to load_state_dict changes with later steps; it must be copied: {text}")
    must_equal(f"3 steps more, saved and loaded after {before} steps, against 3 steps in one go", found, wanted)


def misfit_state(subject: Subject) -> None:
    """A state dict of other parameters raises StateDictError, and changes nothing."""
    params = parameters()
    optimizer = subject.make(params)
    descend(optimizer, params, 1)
    shapes: dict[str, tuple[tuple[int, ...], ...]] = {
        "whose last parameter has another shape": ((3, 2), (4,), (5,)),
        "whose second parameter has another shape": ((3, 2), (1,), ()),
        "with one parameter fewer": ((3, 2), (4,)),
        "with one parameter more": ((3, 2), (4,), (), (2,)),
    }
    wrong: dict[str, Any] = {"that is empty": {}}
    for which, sizes in shapes.items():
        sources = parameters(shapes=sizes)
        source = subject.make(sources, 0.5)
        descend(source, sources, 2)
        wrong[f"of an optimizer {which}"] = source.state_dict()
    kept, before = deepcopy(optimizer.state_dict()), values(params)
    for which, state in wrong.items():
        must_raise(
            f"load_state_dict of a state dict {which}", partial(optimizer.load_state_dict, state), mg.StateDictError
        )
        if text := misfit(optimizer.state_dict(), kept):
            raise CheckError(f"a state dict {which} was refused, but changed something: {text}")
        must_equal(f"after a state dict {which} was refused", values(params), before)
