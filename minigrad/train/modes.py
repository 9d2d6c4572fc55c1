"""Small contexts around a run: a model out of training, random numbers put back, Ctrl-C noted, a folder locked."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from minigrad.backend import random_state, set_random_state
from minigrad.module import Module
from minigrad.tape import no_grad

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # a module, or none

__all__ = ["evaluating", "interrupts", "locked", "modes_of", "put_back", "same_draws"]


def modes_of(model: Module) -> list[tuple[Module, bool]]:
    """Which parts of a model are in training."""
    return [(module, module.training) for _, module in model.named_modules()]


def put_back(modes: list[tuple[Module, bool]]) -> None:
    """Have them so again."""
    for module, mode in modes:
        module.training = mode


@contextmanager
def evaluating(model: Module) -> Iterator[None]:
    """The model out of training, without gradients; afterwards each part and the random numbers are as before."""
    modes = modes_of(model)
    model.eval()
    try:
        with no_grad(), same_draws(random_state()):
            yield
    finally:
        put_back(modes)


@contextmanager
def same_draws(state: dict[str, Any]) -> Iterator[None]:
    """Draw random numbers from `state` on; afterwards go on as if none had been drawn."""
    now = random_state()
    set_random_state(state)
    try:
        yield
    finally:
        set_random_state(now)


@contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C has been pressed, to be asked between updates; pressed twice it raises KeyboardInterrupt.

    Only the main thread is told of Ctrl-C; in others nothing is changed.
    """
    pressed: list[bool] = []

    def note(*_: Any) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(True)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def locked(folder: Path | None) -> Iterator[None]:
    """The folder as this run's alone; the lock goes with the process. Nothing is locked where the system cannot.

    Raises:
        BlockingIOError: another run has it.
    """
    if folder is None or fcntl is None or not folder.is_dir():
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(f"another run is writing to {folder} now: give this one another folder") from error
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(handle)
