"""Finding plugins: every entry point of the group `minigrad` is loaded on its own, and so are the built-ins.

Nothing is loaded before a name is first asked for. A plugin that fails is kept with its exception, shown by
`plugins()`, and raised when something of its is asked for; it takes nothing else down, not even its own other hooks.
Two distributions that offer one name are an error for that name, whoever came first.
"""

from __future__ import annotations

import importlib
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import Distribution, EntryPoint, distributions
from inspect import getattr_static
from reprlib import repr as short
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
        kind: "cell", "wrapper", "loss" or "optimizer"; "plugin" for what went wrong with an entry point.
        name: what to ask for; of a "plugin", the entry point's name.
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

    name: str
    value: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version} (entry point {self.name} = {self.value})"

    def is_called(self, name: str) -> bool:
        """Whether a thing called `name` is most likely this one's; asked only where the thing itself is not to be had.

        A package `minigrad-mgu` with an entry point `mgu` or `mgu_cells` is where one expects "mgu".
        """
        own = (_alike(self.name), _alike(self.distribution).removeprefix("minigrad-"))
        return any(word == _alike(name) or word.startswith(f"{_alike(name)}-") for word in own)


@dataclass(frozen=True)
class _Failure:
    """What went wrong with a plugin: with the hook of one kind of thing, or with all of it."""

    source: _Source
    kind: str | None
    error: BaseException

    def __str__(self) -> str:
        hook = f"{HOOKS[self.kind]}(): " if self.kind else ""
        return hook + _described(self.error)


class Registry:
    """All factories by kind and name, with where they come from, and all that failed."""

    def __init__(self) -> None:
        self.offers: dict[str, dict[str, list[tuple[_Source, Callable[..., Any]]]]] = {kind: {} for kind in HOOKS}
        self.failures: list[_Failure] = []
        for distribution in _distributions():
            self._load_all(distribution)

    def _load_all(self, distribution: Distribution) -> None:
        """Load all plugins of a distribution; a module that it names twice is loaded once."""
        found: dict[str, EntryPoint] = {}
        with self._kept(_Source("?", "entry_points.txt", *_identity(distribution))):
            found = {point.value: point for point in distribution.entry_points.select(group=hookspecs.GROUP)}
        for entry_point in found.values():
            source = _Source(entry_point.name, entry_point.value, *_identity(distribution))
            with self._kept(source):
                self._load(entry_point, source)

    def _load(self, entry_point: EntryPoint, source: _Source) -> None:
        """Import one plugin, and call its hooks one by one."""
        plugin = entry_point.load()
        manager = pluggy.PluginManager(hookspecs.GROUP)  # one for each plugin, so that none can disturb another
        manager.add_hookspecs(hookspecs)
        manager.register(plugin, name=str(source))
        callers = manager.get_hookcallers(plugin) or []
        marked = {caller.name for caller in callers}
        bare = [hook for hook in HOOKS.values() if hook not in marked and getattr_static(plugin, hook, None)]
        if bare:
            self._fail(source, None, PluginError(f"{' and '.join(bare)}: the decorator @minigrad.hookimpl is missing"))
        elif not callers:
            raise PluginError(_without_hooks(entry_point))
        for caller in callers:
            for implementation in caller.get_hookimpls():
                if caller.has_spec():
                    self._call(source, caller.name, implementation.function)
                elif not implementation.optionalhook:
                    self._fail(source, None, PluginError(_misspelt(caller.name)))

    def _call(self, source: _Source, hook: str, function: Callable[..., Any]) -> None:
        """Take in what one hook of a plugin returns."""
        kind = next(kind for kind in HOOKS if HOOKS[kind] == hook)
        offered: dict[str, Callable[..., Any]] = {}
        with self._kept(source, kind):
            offered = _checked(function())
        for name, factory in offered.items():
            found = self.offers[kind].setdefault(name, [])
            again = any(other is factory and origin.distribution == source.distribution for origin, other in found)
            if not again:  # such as by a second module of the same package that imports the hook of the first
                found.append((source, factory))

    @contextmanager
    def _kept(self, source: _Source, kind: str | None = None) -> Iterator[None]:
        """Keep what a stranger's code raises. That can be anything: SystemExit too, or the panic of an extension."""
        try:
            yield
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self._fail(source, kind, error)

    def _fail(self, source: _Source, kind: str | None, error: BaseException) -> None:
        self.failures.append(_Failure(source, kind, error))

    def get(self, kind: str, name: str) -> Callable[..., Any]:
        """The factory called `name`.

        Raises:
            PluginConflictError: several plugins offer it.
            PluginError: the plugin with this name failed to load.
            UnknownNameError: nobody offers it; the message lists close matches and what there is.
        """
        if not isinstance(name, str):
            raise TypeError(f"minigrad.{kind} takes the name of a registered {kind}, a string; got {short(name)}")
        found = self.offers[kind].get(name, [])
        if len(found) == 1:
            return found[0][1]
        if found:
            raise PluginConflictError(
                f"the {kind} {name!r} is offered by {' and by '.join(str(source) for source, _ in found)}. "
                "Uninstall one of them, or import the class you want and use it directly"
            )
        for failure in self.failures:
            if failure.kind in (None, kind) and failure.source.is_called(name):
                raise PluginError(f"{failure.source} failed to load: {failure}") from failure.error
        raise UnknownNameError(self._unknown(kind, name))

    def _unknown(self, kind: str, name: str) -> str:
        folded = {known.casefold(): known for known in sorted(self.offers[kind])}
        lines = [f"there is no {kind} {name!r}"]
        close = get_close_matches(name.casefold(), folded, n=3, cutoff=0.5)
        if close:
            lines[0] += f"; did you mean {' or '.join(repr(folded[match]) for match in close)}?"
        lines += [
            f"the {other} of this name: minigrad.{other}({name!r})" for other in HOOKS if name in self.offers[other]
        ]
        installed = ", ".join(sorted(self.offers[kind]))
        lines.append(f"installed: {installed or 'none (is minigrad itself installed? pip install minigrad)'}")
        lines += [f"not loaded: {failure.source}: {failure}" for failure in self.failures]
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
        for failure in self.failures:
            source = failure.source
            lines.append(PluginInfo("plugin", source.name, source.distribution, source.version, f"failed: {failure}"))
        return lines


# --- what is installed


def _distributions() -> Iterator[Distribution]:
    """The installed distributions that may have plugins; of two of one name, the first on the path, as in an import.

    `importlib.metadata.entry_points` would do, but a single damaged file of anybody's makes it fail for everybody.
    """
    seen = set()
    for distribution in distributions():
        try:
            text = distribution.read_text("entry_points.txt") or ""
        except ValueError:  # not UTF-8; who reads its entry points will see that
            text = f"[{hookspecs.GROUP}]"
        if f"[{hookspecs.GROUP}]" in text:
            name, _ = _identity(distribution)
            key = text if name == _UNNAMED else _alike(name)
            if key not in seen:
                seen.add(key)
                yield distribution


_UNNAMED = "unnamed distribution"


def _identity(distribution: Distribution) -> tuple[str, str]:
    """Name and version, where the distribution's metadata have them."""
    try:
        metadata: Any = distribution.metadata
        fields = dict(metadata.items())
    except Exception:  # which one, for a missing file, differs between Python versions
        fields = {}
    return fields.get("Name") or _UNNAMED, fields.get("Version") or "?"


# --- what is wrong with a plugin


def _checked(factories: Any) -> dict[str, Callable[..., Any]]:
    """What a hook returned, if it is a dict of names to factories."""
    if not isinstance(factories, Mapping):
        raise PluginError(f"must return a dict of names to factories; it returned {short(factories)}")
    for name, factory in factories.items():
        if not isinstance(name, str) or not name:
            raise PluginError(f"must return a dict of names to factories; {short(name)} is not a name")
        if not callable(factory):
            raise PluginError(
                f"must return a dict of names to factories; its {name!r} is {short(factory)}, no callable"
            )
    return dict(factories)


def _without_hooks(entry_point: EntryPoint) -> str:
    spec = getattr(sys.modules.get(entry_point.module), "__spec__", None)
    if getattr(spec, "_initializing", False):
        return (
            f"{entry_point.module} was still being imported when something in it asked minigrad for a registered name. "
            "Ask inside a function, or import the class"
        )
    return (
        f"it implements none of the hooks {', '.join(HOOKS.values())}. An entry point of the group "
        f"{hookspecs.GROUP!r} names a module with such functions, decorated with @minigrad.hookimpl"
    )


def _misspelt(hook: str) -> str:
    close = get_close_matches(hook, HOOKS.values(), n=1)
    return f"there is no hook {hook}; " + (
        f"did you mean {close[0]}?" if close else f"there are {', '.join(HOOKS.values())}"
    )


def _alike(name: str) -> str:
    """A name as package indexes compare them."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _described(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # a stranger's exception; its type says something at least
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


# --- the registry of this process

_registry: Registry | None = None
_loading = False
_lock = threading.RLock()


def registry() -> Registry:
    """The registry, made at the first request; other threads wait for it.

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
                _registry = Registry()
            finally:
                _loading = False
        return _registry


def refresh() -> None:
    """Look for plugins again at the next request, such as after installing one in a running session."""
    global _registry
    with _lock:
        _registry = None
        importlib.invalidate_caches()


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
