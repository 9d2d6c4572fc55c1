"""Finding plugins: every entry point of the group `minigrad` is loaded on its own, and so are the built-ins.

Nothing is loaded before a name is first asked for. A plugin that fails is kept with its exception, shown by
`plugins()`, and raised when something of its is asked for; it takes nothing else down, not even its own other hooks.
Two distributions that offer one name are an error for that name, whoever came first. The environment variable
`MINIGRAD_DISABLE_PLUGINS` names plugins (by distribution or entry point) that are not loaded; every `*.py` in the
folder `MINIGRAD_PLUGINS_DIR` is a plugin too.

find          which plugins there are: entry points of distributions, files in folders
requirements  which minigrad they need
switches      which of them the user has switched off
catalogue     what they offer, loaded one by one, and what is wrong with the rest
origins       which plugin an object comes from
needed        which plugins a file was written with, and whether they are there
info          a plugin's line in the listing, its source, its problem
"""

from __future__ import annotations

import importlib
import os
import threading
import warnings
from collections.abc import Iterable
from typing import Any

from minigrad.errors import PluginError, PluginWarning
from minigrad.registry.catalogue import Registry
from minigrad.registry.info import PluginInfo
from minigrad.registry.origins import made, origins
from minigrad.registry.switches import Switches

__all__ = [
    "PluginInfo",
    "Registry",
    "callback",
    "cell",
    "configure",
    "loss",
    "optimizer",
    "origins",
    "plugins",
    "refresh",
    "registry",
    "wrapper",
]

_registry: Registry | None = None
_loading = False
_lock = threading.RLock()
_given: tuple[tuple[str, ...], tuple[str | os.PathLike[str], ...]] = ((), ())


def registry() -> Registry:
    """The registry, made at the first request; other threads wait for it.

    Warns:
        PluginWarning: `MINIGRAD_DISABLE_PLUGINS` has a name that no plugin has.

    Raises:
        PluginError: a plugin asks while it is itself being loaded.
    """
    global _registry, _loading
    with _lock:
        if _registry is None:
            if _loading:
                raise PluginError(
                    "a plugin asked minigrad for a registered name while the plugins were still being loaded. "
                    "Ask inside the factory, not when the module is imported or in a hook; or import the class"
                )
            _loading = True
            try:
                _registry = Registry(Switches.of(*_given))
            finally:
                _loading = False
            for notice in _registry.notices:
                warnings.warn(notice, PluginWarning, stacklevel=3)
        return _registry


def refresh() -> None:
    """Look for plugins again at the next request, such as after installing one in a running session."""
    global _registry
    with _lock:
        _registry = None
        importlib.invalidate_caches()


def configure(disable: Iterable[str] = (), folders: Iterable[str | os.PathLike[str]] = ()) -> None:
    """Choose plugins to leave out and folders of plugins, besides what the environment says; then `refresh`.

    Args:
        disable: distributions or entry points that are not to be loaded.
        folders: every `*.py` in them is loaded as a plugin.

    Each call replaces what the one before chose.
    """
    global _given
    with _lock:
        _given = (tuple(disable), tuple(folders))
        refresh()


def plugins() -> list[PluginInfo]:
    """What the installed plugins offer, the built-ins among them, and which of them are not there and why.

    >>> [info.name for info in mg.plugins() if info.kind == "cell" and info.distribution == "minigrad"]
    ['gru', 'lstm', 'rnn']
    """
    return registry().listing()


def cell(name: str, *args: Any, **options: Any) -> Any:
    """A new cell of the registered kind `name`: `cell(name, input_size, hidden_size, **options)`.

    >>> mg.cell("gru", 3, 5).hidden_size
    5
    """
    return _make("cell", name, args, options)


def wrapper(name: str, *args: Any, **options: Any) -> Any:
    """A cell wrapped by the registered wrapper `name`: `wrapper(name, cell, **options)`."""
    return _make("wrapper", name, args, options)


def loss(name: str, **options: Any) -> Any:
    """The registered loss `name` as a function of (outputs, targets, lengths=None).

    >>> mg.loss("mse")(mg.tensor([1.0, 3.0]), mg.tensor([1.0, 1.0])).item()
    2.0
    """
    return _make("loss", name, (), options)


def optimizer(name: str, params: Any, **options: Any) -> Any:
    """A new optimizer of the registered kind `name` for `params`.

    >>> mg.optimizer("sgd", mg.Linear(2, 1).parameters(), lr=0.1).groups[0]["lr"]
    0.1
    """
    return _make("optimizer", name, (params,), options)


def callback(name: str, *args: Any, **options: Any) -> Any:
    """A new callback of the registered kind `name`, for `Trainer(..., callbacks=[...])`.

    >>> type(mg.callback("progress_bar")).__name__
    'ProgressBar'
    """
    return _make("callback", name, args, options)


def _make(kind: str, name: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    info, factory = registry().get(kind, name)
    return made(factory(*args, **options), info)
