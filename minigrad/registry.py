"""Finding plugins: every entry point of the group `minigrad` is loaded on its own, and so are the built-ins.

Nothing is loaded before a name is first asked for. A plugin that fails is kept with its exception, shown by
`plugins()`, and raised when something of its is asked for; it takes nothing else down. Two distributions that offer
one name are an error for that name, whoever came first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any

import pluggy

from minigrad import hookspecs
from minigrad.errors import PluginConflictError, PluginError, UnknownNameError

__all__ = ["PluginInfo", "Registry", "cell", "loss", "optimizer", "plugins", "refresh", "registry", "wrapper"]

HOOKS = {
    "cell": "minigrad_cells",
    "wrapper": "minigrad_wrappers",
    "loss": "minigrad_losses",
    "optimizer": "minigrad_optimizers",
}
"""The hook behind each kind of thing that a plugin can offer."""


@dataclass(frozen=True)
class PluginInfo:
    """One line of the listing.

    Attributes:
        kind: "cell", "wrapper", "loss" or "optimizer"; "plugin" for an entry point that failed as a whole.
        name: what to ask for.
        distribution: the installed package that offers it.
        version: of that package.
        status: "ok", or what is wrong.
    """

    kind: str
    name: str
    distribution: str
    version: str
    status: str = "ok"


@dataclass(frozen=True)
class _Source:
    """Where a factory comes from: an entry point of a distribution."""

    entry_point: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version} (entry point {self.entry_point!r})"


class Registry:
    """All factories by kind and name, with where they come from, and all plugins that failed."""

    def __init__(self) -> None:
        self.offers: dict[str, dict[str, list[tuple[_Source, Callable[..., Any]]]]] = {kind: {} for kind in HOOKS}
        self.failures: dict[_Source, Exception] = {}
        self.manager = pluggy.PluginManager(hookspecs.GROUP)
        self.manager.add_hookspecs(hookspecs)
        for entry_point in entry_points(group=hookspecs.GROUP):
            self._load(entry_point)

    def _load(self, entry_point: EntryPoint) -> None:
        """Load one plugin; whatever goes wrong stays with it."""
        dist = entry_point.dist
        source = _Source(entry_point.name, dist.name if dist else "?", dist.version if dist else "?")
        try:
            plugin = entry_point.load()
            self.manager.register(plugin, name=str(source))
            self._check_hooks(plugin)
            offers = {kind: self._call(hook, plugin) for kind, hook in HOOKS.items()}
        except Exception as error:  # a stranger's module can raise anything; it is kept, listed and raised when needed
            self.failures[source] = error
            return
        for kind, factories in offers.items():
            for name, factory in factories.items():
                self.offers[kind].setdefault(name, []).append((source, factory))

    def _check_hooks(self, plugin: ModuleType) -> None:
        """Complain of functions marked as hooks that are none: misspelt, most likely."""
        callers = self.manager.get_hookcallers(plugin) or []
        if not callers:
            raise PluginError(f"it implements none of the hooks {', '.join(HOOKS.values())} (is @hookimpl missing?)")
        for caller in callers:
            if not caller.has_spec():
                close = get_close_matches(caller.name, HOOKS.values(), n=1)
                hint = f"; did you mean {close[0]}?" if close else f"; there are {', '.join(HOOKS.values())}"
                raise PluginError(f"there is no hook {caller.name}{hint}")

    def _call(self, hook: str, plugin: ModuleType) -> dict[str, Callable[..., Any]]:
        """What one plugin returns from one hook, checked."""
        if not hasattr(plugin, hook):
            return {}
        factories = getattr(plugin, hook)()
        if not hasattr(factories, "items") or not all(
            isinstance(name, str) and callable(factory) for name, factory in factories.items()
        ):
            raise PluginError(f"{hook}() must return a dict of names to factories; it returned {factories!r}")
        return dict(factories)

    def get(self, kind: str, name: str) -> Callable[..., Any]:
        """The factory called `name`.

        Raises:
            PluginConflictError: several plugins offer it.
            PluginError: the plugin with this name failed to load.
            UnknownNameError: nobody offers it; the message lists close matches and what there is.
        """
        found = self.offers[kind].get(name, [])
        if len(found) == 1:
            return found[0][1]
        if found:
            raise PluginConflictError(
                f"the {kind} {name!r} is offered by {' and by '.join(str(source) for source, _ in found)}. "
                "Uninstall one of them, or import the class you want and use it directly"
            )
        for source, error in self.failures.items():
            if _alike(name) in (_alike(source.entry_point), _alike(source.distribution).removeprefix("minigrad_")):
                raise PluginError(f"{source} failed to load: {_described(error)}") from error
        raise UnknownNameError(self._unknown(kind, name))

    def _unknown(self, kind: str, name: str) -> str:
        names = sorted(self.offers[kind])
        lines = [f"there is no {kind} {name!r}"]
        close = get_close_matches(name, names, n=3, cutoff=0.5)
        if close:
            lines[0] += f"; did you mean {' or '.join(map(repr, close))}?"
        lines.append(f"installed: {', '.join(names) or 'none (is minigrad itself installed? pip install minigrad)'}")
        lines += [f"not loaded: {source}: {_described(error)}" for source, error in self.failures.items()]
        return "\n  ".join(lines)

    def listing(self) -> list[PluginInfo]:
        """All that is offered, and all that failed."""
        lines = []
        for kind, names in self.offers.items():
            for name, found in sorted(names.items()):
                for source, _ in found:
                    others = [other for other, _ in found if other is not source]
                    status = f"conflict: also offered by {', '.join(map(str, others))}" if others else "ok"
                    lines.append(PluginInfo(kind, name, source.distribution, source.version, status))
        for source, error in self.failures.items():
            status = f"failed: {_described(error)}"
            lines.append(PluginInfo("plugin", source.entry_point, source.distribution, source.version, status))
        return lines


def _alike(name: str) -> str:
    return name.lower().replace("-", "_")


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


_registry: Registry | None = None


def registry() -> Registry:
    """The registry, made at the first request."""
    global _registry
    if _registry is None:
        _registry = Registry()
    return _registry


def refresh() -> None:
    """Look for plugins again at the next request, such as after installing one in a running session."""
    global _registry
    _registry = None


def plugins() -> list[PluginInfo]:
    """What the installed plugins offer, the built-ins among them, and which of them failed.

    >>> [info.name for info in mg.plugins() if info.kind == "cell" and info.distribution == "minigrad"]
    ['gru', 'lstm', 'rnn']
    """
    return registry().listing()


def cell(name: str, *args: Any, **options: Any) -> Any:
    """A new cell of the registered kind `name`: `cell(name, input_size, hidden_size, **options)`.

    >>> mg.cell("gru", 3, 5).hidden_size
    5
    """
    return registry().get("cell", name)(*args, **options)


def wrapper(name: str, *args: Any, **options: Any) -> Any:
    """A cell wrapped by the registered wrapper `name`: `wrapper(name, cell, **options)`."""
    return registry().get("wrapper", name)(*args, **options)


def loss(name: str, **options: Any) -> Any:
    """The registered loss `name` as a function of (outputs, targets, lengths=None).

    >>> mg.loss("mse")(mg.tensor([1.0, 3.0]), mg.tensor([1.0, 1.0])).item()
    2.0
    """
    return registry().get("loss", name)(**options)


def optimizer(name: str, params: Any, **options: Any) -> Any:
    """A new optimizer of the registered kind `name` for `params`.

    >>> mg.optimizer("sgd", mg.Linear(2, 1).parameters(), lr=0.1).groups[0]["lr"]
    0.1
    """
    return registry().get("optimizer", name)(params, **options)
