"""Runs on several streams, such as the two directions of a layer: their backwards go on side by side, too.

A run is pulled back on the stream that it ran on. That stream waits for the gradients that come to the run, and the
current stream waits for what the run gives. No more is needed for results to be right; but if the other run is pulled
back first, on the current stream, the gradients must not be waited for behind it. So when a run is recorded after one
on another stream, each result of the earlier one gets a node on the tape that notes, as the gradient comes by, after
which event it can be read. Its index is greater than the later run's, so that this is before that is pulled back.

So nothing should be computed from the earlier run's results before the later one is recorded: what is goes another way,
its gradient has no event of its own, and all that is on the current stream is waited for.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import ref

from minigrad.tensor import Tensor


class Ready:
    """Gradients that have come to a run, with the events after which they can be read.

    Args:
        xp: CuPy.
    """

    def __init__(self, xp: Any) -> None:
        self._xp = xp
        self._found: list[tuple[Any, Any]] = []

    def note(self, g: Any) -> Any:
        """A gradient comes by, computed on the current stream."""
        if not isinstance(g, Tensor):
            self._found.append((g, self._xp.cuda.get_current_stream().record()))
        return g

    def events(self, arrays: Iterable[Any]) -> list[Any]:
        """What to wait for before these arrays are read. What has been noted is forgotten."""
        found, self._found = self._found, []
        events = []
        for array in arrays:
            event = next((event for g, event in found if g is array), None)
            if event is None:  # made later, or another way
                return [self._xp.cuda.get_current_stream().record()]
            events.append(event)
        return events


@contextmanager
def on(xp: Any, stream: Any, events: list[Any]) -> Iterator[None]:
    """Work on a stream after some events; the current stream waits for it."""
    current = xp.cuda.get_current_stream()
    if current.ptr == stream.ptr:
        yield
        return
    for event in events:
        stream.wait_event(event)
    try:
        with stream:
            yield
    finally:
        current.wait_event(stream.record())


class Latest(threading.local):
    """The run that was recorded last in this thread, if it is still there, and its results."""

    def __init__(self) -> None:
        self._run: Any = None
        self._results: list[Any] = []

    def beside(self, run: Any, results: list[Tensor]) -> tuple[Ready | None, list[Tensor]]:
        """The results of the run before this one, and where their gradients are noted, if it was on another stream."""
        before = None if self._run is None else self._run()
        tensors = [tensor for result in self._results if (tensor := result()) is not None]
        self._run, self._results = ref(run), list(map(ref, results))
        return (None, []) if before is None or before.stream.ptr == run.stream.ptr else (before.ready, tensors)


latest = Latest()
