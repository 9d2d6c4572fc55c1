"""The plans of a layer: for each kind of call one, kept until others are used more."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from threading import Lock
from typing import Any
from weakref import WeakSet

from minigrad.plan.explain import describe
from minigrad.plan.kinds import Unseen
from minigrad.plan.program import Program
from minigrad.plan.shadow import Shadow

CACHE_SIZE = 16
"""How many plans a layer keeps, for different batch sizes, dtypes, modes..."""

MEMORY_SIZE = 2
"""How many of these, the latest, keep the memory of a run for the next one."""


@dataclass
class Plan:
    """A compiled cell: its executor, or the reason why it has none.

    Attributes:
        shadow: the cell as it was.
        held: keeps alive what the key of the plan knows by identity.
        how: what kind of executor it is, and why no other.
    """

    shadow: Shadow | None
    program: Program | None
    executor: Any
    reason: str
    held: list[Any]
    how: str = ""

    def given(self, initial: list[Any]) -> list[Any]:
        """The tensors that the program's leaves stand for, some of them in the state, whose leaves are `initial`."""
        leaves = self.executor.program.step.leaves
        return [initial[source] if isinstance(source, int) else source for _, source in leaves]

    def forget(self) -> None:
        """Let go of the memory that is kept for the next run."""
        if self.executor is not None:
            self.executor.spare.clear()


class Plans(Unseen):
    """The plans of one layer, the latest used last. A copy of a layer starts without any.

    Attributes:
        take_vectors: whether somebody has asked for the gradient of vectors that a plan had looked up by itself: from
            then on plans are given vectors.
    """

    def __init__(self) -> None:
        self.take_vectors = False
        self.known: OrderedDict[Any, Plan] = OrderedDict()
        self.latest: Plan | None = None
        self._lock = Lock()
        _all.add(self)

    def __deepcopy__(self, memo: Any) -> Plans:
        return Plans()

    def __reduce__(self) -> Any:
        return Plans, ()

    def explain(self) -> str:
        """The latest plan in words, or why there is none."""
        if self.latest is None:
            return "engine plan. The step is traced and compiled at the first call; ask again after it."
        if self.latest.program is None:
            return f"engine tape, because the step cannot be compiled. {self.latest.reason}"
        how, program = self.latest.how, describe(self.latest.program)
        listing = getattr(self.latest.executor, "listing", "")
        code = f"\nwhich is done by this, in order:\n{listing}" if listing else ""
        return f"engine plan.\nThe latest run was of this program, {how}:\n{program}{code}"

    def get(self, key: Any, make: Callable[[], Plan]) -> Plan:
        """The plan known by this key, made now if there is none."""
        with self._lock:
            plan = self.known.get(key)
            if plan is not None and plan is self.latest:
                return plan
            plan = self.known.pop(key, None) or make()
            self.known[key] = self.latest = plan
            while len(self.known) > CACHE_SIZE:
                self.known.popitem(last=False)
            just_outside = islice(reversed(self.known.values()), MEMORY_SIZE, MEMORY_SIZE + 1)
            for old in just_outside:  # those before it have been here and have forgotten theirs
                old.forget()
            return plan


def _forget_locks() -> None:
    """After a fork: another thread of the parent may have held one, and is not here to release it."""
    for plans in _all:
        plans._lock = Lock()


_all: WeakSet[Plans] = WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_locks)
