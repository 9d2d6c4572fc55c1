"""Which plugin an object comes from: what `mg.cell` and its like have made is remembered."""

from __future__ import annotations

import weakref
from typing import Any

from minigrad.module import Module
from minigrad.registry.info import PluginInfo

__all__ = ["made", "origins"]

_made: dict[int, tuple[weakref.ref[Any], dict[str, PluginInfo]]] = {}
"""By the identity of a living object what it was made as, by kind: a wrapper may return the very cell it was given."""


def made(thing: Any, info: PluginInfo) -> Any:
    """`thing`, remembered to come from `info` for as long as it lives."""
    key = id(thing)
    try:
        ref = weakref.ref(thing, lambda _: _made.pop(key, None))
    except TypeError:  # a number or a tuple, of which one is like another
        return thing
    known = _made[key][1] if key in _made else {}
    _made[key] = ref, {**known, info.kind: info}
    return thing


def origins(*things: Any) -> list[PluginInfo]:
    """Which plugins these objects come from.

    Args:
        things: modules, with all that they are made of; losses and optimizers; a `PluginInfo` stands for itself.

    Returns:
        One for each registered cell, wrapper, loss and optimizer among them, without repetition: those made by
        `mg.cell`, `mg.recurrent`, `mg.loss` and the like, and instances of classes that are registered. What comes
        from no plugin is left out.

    Raises:
        TypeError: a name is given where the object itself is wanted.

    >>> from minigrad.registry import origins
    >>> [(info.kind, info.name, info.distribution) for info in origins(mg.LSTM(3, 5), mg.loss("mse"))]
    [('cell', 'lstm', 'minigrad'), ('loss', 'mse', 'minigrad')]
    """
    if texts := [thing for thing in things if isinstance(thing, str)]:
        raise TypeError(f"origins are asked of models, losses and optimizers themselves, not of a name: {texts[0]!r}")
    parts = [part for thing in things for part in _parts(thing)]
    classes = _classes() if parts else {}
    found: dict[PluginInfo, None] = {}
    for part in parts:
        if isinstance(part, PluginInfo):
            found[part] = None
        elif id(part) in _made:
            found.update(dict.fromkeys(_made[id(part)][1].values()))
        elif type(part) in classes:
            found[classes[type(part)]] = None
    return list(found)


def _parts(thing: Any) -> list[Any]:
    return [module for _, module in thing.named_modules()] if isinstance(thing, Module) else [thing]


def _classes() -> dict[type, PluginInfo]:
    """The classes that are registered as factories: instances need not be made by name, and their copies are not."""
    from minigrad.registry import registry

    return {
        factory: PluginInfo(kind, name, source.distribution, source.version)
        for kind, names in registry().offers.items()
        for name, offers in names.items()
        for source, factory in offers
        if isinstance(factory, type)
    }
