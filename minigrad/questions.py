"""Conditions that a device has computed, whose answers are read together with the next number.

To read one boolean the host waits until the device has done all that it was given. So a condition that nearly always
holds, such as that an index is in range, is only noted, and its answer comes over in the same copy as whatever is read
next: in training the loss.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

MOST = 256
"""How many may be open: who never reads a number has them read after so many."""

SMALL = 1 << 20
"""Up to so many bytes what is read is put beside the answers, to come in one copy."""


class _Open(threading.local):
    """The open questions of a thread, by device."""

    def __init__(self) -> None:
        self.on: dict[int, list[tuple[Any, Callable[[], Exception], Any]]] = {}
        """Each with the stream that it is computed on."""


class Questions:
    """The open questions to a device.

    Args:
        xp: its array functions.
    """

    def __init__(self, xp: Any) -> None:
        self.xp = xp
        self._open = _Open()

    def ask(self, right: Any, error: Callable[[], Exception]) -> None:
        """Note a condition, an array of one boolean, and the error for the case that it does not hold."""
        asked = self._open.on.setdefault(right.device.id, [])
        asked.append((right, error, self.xp.cuda.get_current_stream()))
        if len(asked) > MOST:
            self.read(right)

    def answer(self) -> None:
        """Read what is open, for whoever must not be told of it later."""
        for asked in list(self._open.on.values()):
            self.read(asked[0][0])

    def read(self, array: Any) -> Any:
        """An array's values on the host.

        Raises:
            What was noted for the first condition that does not hold.
        """
        device = array.device.id
        asked = self._open.on.get(device)
        if not asked:
            return array.get()
        current = self.xp.cuda.get_current_stream()
        for stream in {stream.ptr: stream for _, _, stream in asked}.values():
            if stream.ptr != current.ptr:
                current.wait_event(stream.record())
        small = array.nbytes <= SMALL
        parts = [self.xp.ascontiguousarray(array).reshape(-1).view("uint8")] if small else []
        parts += [right.reshape(1).view("uint8") for right, _, _ in asked]
        host = self.xp.concatenate(parts).get()
        del self._open.on[device]
        for answer, (_, error, _) in zip(host[-len(asked) :], asked, strict=True):
            if not answer:
                raise error()
        return host[: -len(asked)].view(array.dtype).reshape(array.shape) if small else array.get()
