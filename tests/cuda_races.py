"""Finds work on two streams that nothing has put in order, though one writes what the other reads or writes.

Each stream has a clock: how much of each stream's work, its own included, is done before what comes next on it. An
event is a copy of a clock, and waiting for one takes the later of each hand. An access to memory is in order if the
clock of its stream has passed the accesses that it must come after (Mattern 1989, vector clocks).

Memory goes back, as in CuPy's pool, to the stream that it was allocated on, and is given away there again without
waiting for anybody. So freeing what another stream may still use is an error, too, at the next allocation.
"""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np

from minigrad.testing.strict import StrictArray

Clock = Counter[int]
"""How much work of each stream has been done, by the stream's pointer."""

WRITES = frozenset({"copyto", "fill", "sort", "__setitem__", "at", "minimum.at", "add.at"})
"""Functions and methods that write to their first argument."""


class RaceError(AssertionError):
    """Two accesses in no order."""


@dataclass
class Memory:
    """What has last been done with an allocation, as (stream, its clock then).

    Attributes:
        home: the stream that it was allocated on.
        start, stop: addresses.
    """

    home: int
    start: int
    stop: int
    written: tuple[int, int] = (0, 0)
    read: dict[int, int] = field(default_factory=dict)

    def pending(self) -> dict[int, int]:
        """The latest access of each stream."""
        return {**self.read, self.written[0]: max(self.written[1], self.read.get(self.written[0], 0))}


Method = TypeVar("Method", bound=Callable[..., Any])


def _alone(method: Method) -> Method:
    """Let one thread at a time call the methods so marked."""

    @wraps(method)
    def call(self: Races, *args: Any) -> Any:
        with self.lock:
            return method(self, *args)

    return cast(Method, call)


class Races:
    """The clocks of all streams and the host, and what has been done with all memory.

    Attributes:
        accesses: how many have been looked at; crossings: how many of them have read what another stream has written.
    """

    def __init__(self) -> None:
        self.clocks: dict[int, Clock] = {}
        self.host: Clock = Counter()
        self.memory: dict[int, Memory] = {}
        self.freed: dict[int, list[dict[int, int]]] = {}
        self.accesses = self.crossings = 0
        self.lock = threading.RLock()

    # --- order

    def clock(self, stream: int) -> Clock:
        return self.clocks.setdefault(stream, Counter())

    @_alone
    def event(self, stream: int) -> Clock:
        return self.clock(stream).copy()

    @_alone
    def wait(self, stream: int, event: Clock) -> None:
        self.clocks[stream] = self.clock(stream) | event

    @_alone
    def wait_on_host(self, stream: int) -> None:
        self.host |= self.clock(stream)

    # --- accesses

    @_alone
    def access(self, stream: int, reads: Iterable[Any], writes: Iterable[Any], what: str) -> None:
        """Work on a stream that reads and writes these arrays' memory."""
        self.clocks[stream] = clock = self.clock(stream) | self.host
        clock[stream] += 1
        for array in reads:
            memory = self.of(array, stream)
            self.crossings += memory.written[0] not in (0, stream)
            self._after(clock, dict([memory.written]), f"{what} reads on stream {stream % 1000}", memory)
            memory.read[stream] = clock[stream]
        for array in writes:
            memory = self.of(array, stream)
            self._after(clock, memory.pending(), f"{what} writes on stream {stream % 1000}", memory)
            memory.written, memory.read = (stream, clock[stream]), {}

    def _after(self, clock: Clock, pending: dict[int, int], what: str, memory: Memory) -> None:
        self.accesses += 1
        for other, count in pending.items():
            if clock[other] < count:
                raise RaceError(f"{what} what stream {other % 1000} uses, and has not waited for it ({memory})")

    @_alone
    def of(self, array: Any, stream: int) -> Memory:
        """The memory of an array: new if it has not been seen, and then allocated on this stream."""
        if isinstance(array, Memory):
            return array
        root = _root(array)
        if id(root) not in self.memory:
            self._allocated(stream)
            start = root.__array_interface__["data"][0]
            self.memory[id(root)] = memory = Memory(stream, start, start + root.nbytes)
            weakref.finalize(root, self._free, id(root), memory)
        return self.memory[id(root)]

    @_alone
    def at(self, address: int) -> Memory:
        """The memory that an address is in."""
        return next(memory for memory in self.memory.values() if memory.start <= address < memory.stop)

    def _allocated(self, stream: int) -> None:
        clock = self.clock(stream) | self.host
        for pending in self.freed.pop(stream, []):
            for other, count in pending.items():
                if clock[other] < count:
                    raise RaceError(f"stream {stream % 1000} allocates memory that stream {other % 1000} may still use")

    @_alone
    def _free(self, number: int, memory: Memory) -> None:
        del self.memory[number]
        self.freed.setdefault(memory.home, []).append(memory.pending())

    # --- functions of the array library

    def called(self, stream: int, name: str, args: Any, kwargs: Any, result: Any) -> None:
        """A function or a method has been called, and has given this."""
        given, made = list(_arrays([args, kwargs])), list(_arrays(result))
        for array in given:  # one may have been made by nobody who is watched, as by copy.deepcopy
            self.of(array, stream)
        known = {id(_root(array)) for array in given}
        new = [array for array in made if id(_root(array)) not in known]
        if name in WRITES or (name.startswith("__i") and name != "__invert__") or "out" in kwargs:
            target = kwargs.get("out", given[0])
            self.access(stream, [a for a in given if a is not target], [target], name)
        elif new or not made:  # what gives a view does not touch the memory
            self.access(stream, given, new, name)

    def watch(self, monkeypatch: Any, cuda: Any) -> None:
        """Look at all that arrays' methods do."""

        def watched(name: str, method: Any) -> Any:
            @wraps(method)
            def call(*args: Any, **kwargs: Any) -> Any:
                result = method(*args, **kwargs)
                stream = cuda.current[-1].ptr
                self.called(stream, name, args, kwargs, result)
                if name in _TO_HOST:
                    self.wait_on_host(stream)
                return result

            return call

        for name, method in list(vars(StrictArray).items()):
            if callable(method) and name not in _WITHOUT_WORK:
                monkeypatch.setattr(StrictArray, name, watched(name, method))


_TO_HOST = frozenset({"get", "item", "tolist", "__bool__", "__int__", "__float__", "__index__"})
_WITHOUT_WORK = frozenset({"__init__", "__array__", "__array_function__", "__len__", "__repr__", "__iter__"})


def _arrays(nest: Any) -> Iterable[Any]:
    if isinstance(nest, StrictArray):
        yield nest
    elif isinstance(nest, tuple | list):
        for part in nest:
            yield from _arrays(part)
    elif isinstance(nest, dict):
        yield from _arrays(list(nest.values()))


def _root(array: Any) -> Any:
    """The NumPy array that owns the memory."""
    found = array._host
    base = found.base
    while base is not None:
        found = base if isinstance(base, np.ndarray) else found
        base = getattr(base, "base", None)
    return found
