"""Which results of a run need a gradient: as on the tape, these may be fewer if there are only a few steps."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Any

from minigrad.tape import Node
from minigrad.tensor import Tensor

STEPS = 32
"""For how many steps this is followed. After more, what has needed a gradient at one of them is taken to need it."""

ALWAYS = 1
"""The bit of what needs a gradient whatever the state does. The bit of the state's tensor n is 2 << n."""


class Reach:
    """From which tensors of the state each tensor of a traced step gets its need of a gradient, as bits.

    Args:
        recorded: the step's nodes in order, and whether the result of each needs a gradient if an input does. All that
            ever needs a gradient must have needed it when the step was traced.
        state: before the step.
    """

    def __init__(self, recorded: dict[Node, bool], state: list[Tensor]) -> None:
        self._state = {id(tensor): 2 << number for number, tensor in enumerate(state)}
        self._nodes: dict[Node, int] = {}
        for node, is_recorded in recorded.items():
            self._nodes[node] = reduce(or_, map(self.of, node.inputs), 0) if is_recorded else 0

    def of(self, source: Any) -> int:
        """The bits of a tensor or a node."""
        if isinstance(source, Tensor):
            if not source.requires_grad:
                return 0
            source = source.node or source
        return self._nodes.get(source, 0) if isinstance(source, Node) else self._leaf(source)

    def _leaf(self, source: Any) -> int:
        return self._state.get(id(source), ALWAYS) if isinstance(source, Tensor) else 0


def needs_by_step(first: list[bool], outputs: list[int], new: list[int]) -> list[tuple[list[bool], list[bool]]]:
    """Which outputs, and which tensors of the last state, need a gradient after 1, 2, ... steps; the last is for more.

    Args:
        first: whether each tensor of the state does before the first step.
        outputs, new: the bits of what a step gives, and of the state after it, see `Reach`.

    >>> needs_by_step([True, False], [4], [2, 2])  # y = the old b, (a, b) = (a, a)
    [([False], [True, True]), ([True], [True, True])]
    """
    found: list[tuple[list[bool], list[bool]]] = []
    given, ever = [False] * len(outputs), [False] * len(new)
    flags = first
    for _ in range(STEPS):
        bits = ALWAYS | sum(2 << number for number, flag in enumerate(flags) if flag)
        given = [known or bool(of & bits) for known, of in zip(given, outputs, strict=True)]
        flags = [bool(of & bits) for of in new]
        ever = [known or flag for known, flag in zip(ever, flags, strict=True)]
        if found and (given, flags) == found[-1]:
            return found
        found.append((given, flags))
    return [*found, (given, ever)]
