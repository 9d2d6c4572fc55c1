"""Conditions that a device has computed, whose answers are read together with the next number.

To read one boolean the host waits until the device has done all that it was given. So a condition that nearly always
holds, such as that an index is in range, is only noted, and its answer comes over in the same copy as whatever is read
next: in training the loss.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

MOST = 256
"""How many may be open: who never reads a number has them read after so many."""


class Questions:
    """The open questions to a device.

    Args:
        xp: its array functions.
    """

    def __init__(self, xp: Any) -> None:
        self.xp = xp
        self._open: list[tuple[Any, Callable[[], Exception]]] = []

    def ask(self, right: Any, error: Callable[[], Exception]) -> None:
        """Note a condition, an array of one boolean, and the error for the case that it does not hold."""
        self._open.append((right, error))
        if len(self._open) > MOST:
            self.read(right)

    def read(self, array: Any) -> Any:
        """An array's values on the host.

        Raises:
            What was noted for the first condition that does not hold.
        """
        asked, self._open = self._open, []
        if not asked:
            return array.get()
        parts = [self.xp.ascontiguousarray(array).reshape(-1).view("uint8")]
        parts += [right.reshape(1).view("uint8") for right, _ in asked]
        host = self.xp.concatenate(parts).get()
        for answer, (_, error) in zip(host[-len(asked) :], asked, strict=True):
            if not answer:
                raise error()
        return host[: -len(asked)].view(array.dtype).reshape(array.shape)
