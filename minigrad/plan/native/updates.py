"""Optimizers' updates of many parameters as one compiled pass over all their elements.

Most algorithms treat all elements alike. What `update` does to one is found by running it on arrays without values,
once for all parameters, and anew at each step: so numbers that change, such as a learning rate or a count of steps, and
branches on them are always right, and only which operations there are says which compiled loop is to run. An update
that asks for more, such as a shape, a sum, a value or random numbers, is called for each parameter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from minigrad.backend import Array, random_state, set_random_state
from minigrad.plan.native.elements import Elements, Recording
from minigrad.plan.native.lines import Line, Operand
from minigrad.plan.native.toolchain import unavailable

LARGE = 1 << 17
"""Elements, of all parameters together, from which on a compiled pass is faster."""

MOST = 1 << 22
"""Elements beyond which another pass is begun: old and new ones are in memory at the same time."""

State = dict[str, Any]
Update = Callable[..., tuple[Array, State]]
Member = tuple[Array, Array, State | None]
"""A parameter, its gradient and its state; None at its first update, whose operations no other update has."""


class PassState(State):
    """The state after a compiled pass.

    Attributes:
        own: the names of arrays that the pass has made for it and has put nowhere else.
    """

    own: frozenset[str] = frozenset()


def update_all(update: Update, members: list[Any], hyperparameters: Mapping[str, Any]) -> Iterator[tuple[int, Any]]:
    """`update` of each member, with its place in the list.

    A member is replaced by None in the list when it is done, so that not all old arrays are in memory until the end.
    """
    alike: dict[Any, list[int]] = {}
    for number, (parameter, gradient, state) in enumerate(members):
        if state is not None and _is_plain(parameter, gradient, state):
            key = parameter.dtype, *((name, _if_number(value)) for name, value in state.items())
            alike.setdefault(key, []).append(number)
    for numbers in alike.values():
        if sum(members[number][0].size for number in numbers) >= LARGE and unavailable() is None:
            yield from _at_once(update, members, numbers, hyperparameters)
    for number, member in enumerate(members):
        if member is not None:
            members[number] = None
            parameter, gradient, state = member
            yield number, update(parameter, gradient, state or {}, **hyperparameters)


def _is_plain(parameter: Array, gradient: Array, state: State) -> bool:
    """Whether all arrays are NumPy's, of the parameter's shape and dtype, and without gaps."""
    if type(parameter) is not np.ndarray or parameter.dtype.char not in "fd":
        return False
    for value in (parameter, gradient, *state.values()):
        if type(value) is np.ndarray:
            if value.shape != parameter.shape or value.dtype != parameter.dtype:
                return False
            if not (value.flags.c_contiguous and value.flags.aligned):
                return False
        elif type(value) not in (int, float):
            return False
    return True


def _if_number(value: Any) -> Any:
    return None if type(value) is np.ndarray else value


@dataclass(frozen=True)
class _Recorded:
    """What an update does to each element.

    Attributes:
        read: the state's arrays by name, which it is given after the parameter and the gradient.
        lines, numbers: see `Recording`.
        parameter: where the new parameter is found.
        state: where each array of the new state is found, or the number that is there, by name.
    """

    read: list[str]
    lines: tuple[Line, ...]
    numbers: list[float]
    parameter: Operand
    state: dict[str, Any]

    @property
    def results(self) -> list[Operand]:
        """All that is computed."""
        places = [self.parameter, *self.state.values()]
        return list(dict.fromkeys(place for place in places if type(place) is tuple and place[0] == "lines"))

    @property
    def own(self) -> frozenset[str]:
        """The arrays of the new state that are results, and nothing else's."""
        places, results = [self.parameter, *self.state.values()], self.results
        return frozenset(n for n, place in self.state.items() if place in results and places.count(place) == 1)

    @property
    def replaced(self) -> dict[Operand, str]:
        """For each result the array of the old state of which nothing is left, and whose name it has."""
        left = {("given", 2 + n): name for n, name in enumerate(self.read)}
        kept = {left.get(place) for place in self.state.values() if type(place) is tuple}
        return {self.state[name]: name for name in self.own if name in self.read and name not in kept}


def _recorded(update: Update, member: Member, hyperparameters: Mapping[str, Any]) -> _Recorded | None:
    """What `update` does for members like this one; None if it is more than the same operations on each element."""
    parameter, _, state = member
    assert state is not None
    names = [name for name, value in state.items() if type(value) is np.ndarray]
    recording, drawn = Recording(parameter.dtype), random_state()
    given = [Elements(recording, ("given", number), is_given=True) for number in range(2 + len(names))]
    try:
        made, after = update(
            given[0], given[1], {**state, **dict(zip(names, given[2:], strict=True))}, **hyperparameters
        )
        found = _Recorded(
            names,
            tuple(recording.lines),
            recording.numbers,
            recording.result(made),
            {name: recording.result(value) for name, value in after.items()},
        )
    except Exception:  # whatever elements without values do not bear; or an error, which comes again with arrays
        found = None
    if random_state() != drawn:
        set_random_state(drawn)
        return None
    return None if recording.refused or found is None or found.parameter[0] != "lines" else found


def _at_once(
    update: Update, members: list[Any], numbers: list[int], hyperparameters: Mapping[str, Any]
) -> Iterator[tuple[int, Any]]:
    """The updates of members that are alike; none if they cannot be done at once."""
    from minigrad.plan.native.sweep import sweep  # which nobody needs before

    what = _recorded(update, members[numbers[0]], hyperparameters)
    if what is None:
        return
    wanted, replaced, own = what.results, what.replaced, what.own
    uses = Counter(id(_memory(array)) for number in numbers for array in _arrays(*members[number]))
    for some in _portions(numbers, members):
        read, written = [], []
        for parameter, gradient, state in (members[number] for number in some):
            read.append([parameter, gradient, *(state[name] for name in what.read)])
            reused: frozenset[str] = getattr(state, "own", frozenset())
            room = {}
            for place, name in replaced.items():
                if name in reused and uses[id(_memory(state[name]))] == 1 and state[name].flags.writeable:
                    room[place] = state[name]  # fresh memory is slow: the system clears it page by page
            written.append([room[p] if p in room else np.empty(parameter.shape, parameter.dtype) for p in wanted])
        if not sweep(what.lines, [line for _, line in wanted], read, written, what.numbers):
            return
        for number, given, made in zip(some, read, written, strict=True):
            found: dict[Any, Any] = dict(zip(wanted, made, strict=True))
            found.update((("given", n), array) for n, array in enumerate(given))
            after = PassState({n: found[p] if type(p) is tuple else p for n, p in what.state.items()})
            after.own = own
            members[number] = None
            yield number, (found[what.parameter], after)


def _arrays(parameter: Array, gradient: Array, state: State) -> list[Array]:
    return [array for array in (parameter, gradient, *state.values()) if type(array) is np.ndarray]


def _memory(array: Array) -> Any:
    """The array whose memory this is or shows."""
    return array if array.base is None else array.base


def _portions(numbers: list[int], members: list[Any]) -> Iterator[list[int]]:
    """The numbers of members in portions that do not take too much memory at once."""
    portion, size = [], 0
    for number in numbers:
        portion.append(number)
        size += members[number][0].size
        if size > MOST:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion
