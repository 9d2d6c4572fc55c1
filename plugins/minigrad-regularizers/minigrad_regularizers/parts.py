"""The parts of a state, each with a rate of its own: whatever nest of tuples, lists and dicts it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import minigrad as mg

Rates = Any
"""A probability, or a nest of them: one for each part of a state, or for a whole branch of it."""


def check_rates(name: str, rates: Rates) -> Rates:
    """The rates as given, or an error that names the argument if one of them is no probability."""
    for rate in mg.nest.leaves(rates):
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1:
            raise ValueError(
                f"{name} is {rates!r}; it must be a probability in [0, 1], or a nest of such built like the state"
            )
    return rates


def rates_of(name: str, rates: Rates, state: Any) -> Iterator[float]:
    """The rate of each leaf of `state`, in order. A single one holds for all leaves below its place."""
    kinds = (tuple | list, dict)
    if not isinstance(rates, tuple | list | dict):
        for _ in mg.nest.leaves(state):
            yield rates
        return
    alike = any(isinstance(rates, kind) and isinstance(state, kind) for kind in kinds) and len(rates) == len(state)
    if not alike or (isinstance(rates, dict) and rates.keys() != state.keys()):
        raise ValueError(f"{name} is {rates!r}; the state or this part of it is {_described(state)}: one rate for each")
    for place in state if isinstance(state, dict) else range(len(state)):
        yield from rates_of(name, rates[place], state[place])


def _described(state: Any) -> str:
    if isinstance(state, dict):
        return f"a dict of {', '.join(map(repr, state))}"
    return f"a {type(state).__name__} of {len(state)}" if isinstance(state, tuple | list) else "one tensor"


def floating(leaf: mg.Tensor) -> bool:
    """Whether a part of a state holds real numbers; a counter, for one, does not."""
    return bool(leaf.dtype.kind == "f")


def in_order_of(old: Any, new: Any) -> Any:
    """The new state with the keys of its dicts in the order of the old one's: what is kept by place stays in place."""
    return mg.nest.map_nest(lambda _, leaf: leaf, old, new)


def changed(
    change: Callable[[float, mg.Tensor, mg.Tensor], mg.Tensor], name: str, rates: Rates, y: Any, new: Any, old: Any
) -> tuple[Any, Any]:
    """The output and the new state after `change(rate, new, old)` of each part of the state.

    Left as they are: integers, parts with rate 0, and those that the cell has passed on untouched. An output that is
    itself a part of the state, such as the h of an LSTM, is that part as changed.
    """
    rates = rates_of(name, rates, old)
    outputs = []

    def one(before: mg.Tensor, after: mg.Tensor) -> mg.Tensor:
        rate = next(rates)
        if not rate or after is before or not floating(after):
            return after
        result = change(rate, after, before)
        if after is y:
            outputs.append(result)
        return result

    state = mg.nest.map_nest(one, old, new)
    return (outputs[0] if outputs else y), state
