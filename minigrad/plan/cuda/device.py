"""A GPU as the executor sees it: compiled kernels, streams, and graphs of what was put on a stream."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from minigrad.plan.cuda.blas import Blas, load_library


class Lane:
    """What one stream of work needs beside a stream: products with memory of their own, and a stream to capture on."""

    def __init__(self, xp: Any, library: Any, tf32: bool) -> None:
        self.blas = Blas(xp, library, tf32)
        self.capturing = xp.cuda.Stream(non_blocking=True)


class Device:
    """The current device of one array library.

    Args:
        xp: CuPy.
        tf32: see `Blas`.
    """

    def __init__(self, xp: Any, tf32: bool = False) -> None:
        self.xp, self.tf32 = xp, tf32
        self._library = load_library(xp)
        self._local = threading.local()
        self.compiled = lru_cache(64)(self._compiled)

    def _compiled(self, source: str, names: tuple[str, ...]) -> dict[str, Any]:
        """The kernels of a source, compiled and loaded, by name."""
        module = self.xp.RawModule(code=source, options=("--std=c++14",))
        return {name: module.get_function(name) for name in names}

    @property
    def lane(self) -> Lane:
        """That of the stream which is current in this thread."""
        pointer = self.xp.cuda.get_current_stream().ptr
        lanes = self._local.__dict__.setdefault("lanes", {})
        if pointer not in lanes:
            lanes[pointer] = Lane(self.xp, self._library, self.tf32)
        found: Lane = lanes[pointer]
        return found

    def ready(self) -> Lane:
        """The current lane, whose products go to the current stream."""
        lane = self.lane
        lane.blas.use(self.xp.cuda.get_current_stream())
        return lane

    def capture(self, work: Callable[[Lane], None]) -> Any:
        """A graph of what a function puts on the current stream, none of which is run."""
        lane = self.lane
        stream = lane.capturing
        with stream:
            lane.blas.use(stream)
            stream.begin_capture()
            try:
                work(lane)
            finally:
                graph = stream.end_capture()
        return graph


_devices: dict[Any, Device] = {}


def device_of(backend: Any) -> Device:
    """The current device of a backend."""
    key = id(backend.xp), backend.xp.cuda.Device().id, bool(getattr(backend, "tf32", False))
    if key not in _devices:
        _devices[key] = Device(backend.xp, key[2])
    return _devices[key]
