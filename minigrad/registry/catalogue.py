"""All that the plugins offer, loaded one by one, and what is wrong with the rest."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from inspect import getattr_static
from reprlib import repr as short
from typing import Any

import pluggy

from minigrad import hookspecs
from minigrad.errors import PluginConflictError, PluginError, UnknownNameError
from minigrad.hookspecs import HOOKS
from minigrad.registry.find import Found, in_distributions, in_folder
from minigrad.registry.info import PluginInfo, Problem, Source
from minigrad.registry.requirements import unmet
from minigrad.registry.switches import Switches

__all__ = ["Registry"]


class Registry:
    """All factories by kind and name, with where they come from, and what is wrong with the other plugins.

    Args:
        switches: what the user has chosen.

    Attributes:
        offers: by kind and name, who offers it and the factory.
        problems: plugins and hooks that are not there.
        notices: what the user should know of the choices.
    """

    def __init__(self, switches: Switches) -> None:
        self.offers: dict[str, dict[str, list[tuple[Source, Callable[..., Any]]]]] = {kind: {} for kind in HOOKS}
        self.problems: list[Problem] = []
        found = [*in_distributions(), *(plugin for folder in switches.folders for plugin in in_folder(*folder))]
        self.notices = switches.unknown(plugin.source for plugin in found)
        for plugin in found:
            if how := switches.off(plugin.source):
                self.problems.append(Problem(plugin.source, "switched off", how))
            else:
                with self._kept(plugin.source):
                    self._load(plugin)

    def _load(self, found: Found) -> None:
        """Import one plugin, unless it needs another minigrad, and call its hooks one by one."""
        source = found.source
        if reason := unmet(found.requirements()):
            self.problems.append(Problem(source, "incompatible", reason))
            return
        plugin = found.load()
        manager = pluggy.PluginManager(hookspecs.GROUP)  # one for each plugin, so that none can disturb another
        manager.add_hookspecs(hookspecs)
        manager.register(plugin, name=str(source))
        callers = manager.get_hookcallers(plugin) or []
        marked = {caller.name for caller in callers}
        bare = [hook for hook in HOOKS.values() if hook not in marked and getattr_static(plugin, hook, None)]
        if bare:
            self._fail(source, PluginError(f"{' and '.join(bare)}: the decorator @minigrad.hookimpl is missing"))
        elif not callers:
            raise PluginError(_without_hooks(source))
        for caller in callers:
            for implementation in caller.get_hookimpls():
                if caller.has_spec():
                    self._call(source, caller.name, implementation.function)
                elif not implementation.optionalhook:
                    self._fail(source, PluginError(_misspelt(caller.name)))

    def _call(self, source: Source, hook: str, function: Callable[..., Any]) -> None:
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
    def _kept(self, source: Source, kind: str | None = None) -> Iterator[None]:
        """Keep what a stranger's code raises. That can be anything: SystemExit too, or the panic of an extension."""
        try:
            yield
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self._fail(source, error, kind)

    def _fail(self, source: Source, error: BaseException, kind: str | None = None) -> None:
        self.problems.append(Problem.failure(source, error, kind))

    # --- questions

    def get(self, kind: str, name: str) -> tuple[PluginInfo, Callable[..., Any]]:
        """The factory called `name`, and where it comes from.

        Raises:
            PluginConflictError: several plugins offer it.
            PluginError: the plugin with this name failed to load, needs another minigrad, or is switched off.
            UnknownNameError: nobody offers it; the message lists close matches and what there is.
        """
        if not isinstance(name, str):
            raise TypeError(f"minigrad.{kind} takes the name of a registered {kind}, a string; got {short(name)}")
        found = self.offers[kind].get(name, [])
        if len(found) == 1:
            ((source, factory),) = found
            return PluginInfo(kind, name, source.distribution, source.version), factory
        if found:
            raise PluginConflictError(
                f"the {kind} {name!r} is offered by {' and by '.join(str(source) for source, _ in found)}. "
                "Uninstall one of them, switch it off (MINIGRAD_DISABLE_PLUGINS), or import the class you want and "
                "use it directly"
            )
        for problem in self.problems:
            if problem.kind in (None, kind) and problem.source.is_called(name):
                raise PluginError(str(problem)) from problem.error
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
        for problem in self.problems:
            word = {"failed": "not loaded"}.get(problem.word, problem.word)
            lines.append(f"{word}: {problem.source}: {problem.reason}")
        return "\n  ".join(lines)

    def listing(self) -> list[PluginInfo]:
        """All that is offered, and all that is not there."""
        lines = []
        for kind, names in self.offers.items():
            for name, found in sorted(names.items()):
                for source, _ in found:
                    others = [other for other, _ in found if other is not source]
                    status = f"conflict: also offered by {', '.join(map(str, others))}" if others else "ok"
                    lines.append(PluginInfo(kind, name, source.distribution, source.version, status))
        return lines + [problem.info for problem in self.problems]


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


def _without_hooks(source: Source) -> str:
    module = source.value.partition(":")[0].strip()
    spec = getattr(sys.modules.get(module), "__spec__", None)
    if getattr(spec, "_initializing", False):
        return (
            f"{module} was still being imported when something in it asked minigrad for a registered name. "
            "Ask inside a function, or import the class"
        )
    place = "A file in a folder of plugins has" if source.is_file else "An entry point of the group 'minigrad' names"
    module = "" if source.is_file else " a module with"
    return (
        f"it implements none of the hooks {', '.join(HOOKS.values())}. {place}{module} such functions, "
        "decorated with @minigrad.hookimpl"
    )


def _misspelt(hook: str) -> str:
    close = get_close_matches(hook, HOOKS.values(), n=1)
    return f"there is no hook {hook}; " + (
        f"did you mean {close[0]}?" if close else f"there are {', '.join(HOOKS.values())}"
    )
