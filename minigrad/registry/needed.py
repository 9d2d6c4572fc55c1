"""Which plugins something was made with, kept in a file, and whether they are there when it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from minigrad.registry.info import PluginInfo, alike
from minigrad.registry.origins import origins

__all__ = ["NeededPlugins"]


@dataclass(frozen=True)
class NeededPlugins:
    """The registered things that something was made of.

    Attributes:
        infos: each with its kind, name, distribution and version.
    """

    infos: tuple[PluginInfo, ...] = ()

    @classmethod
    def of(cls, *things: Any) -> NeededPlugins:
        """Where these objects come from."""
        return cls(tuple(origins(*things)))

    def as_json(self) -> dict[str, list[str]]:
        """By kind, `distribution:name@version`."""
        kinds: dict[str, list[str]] = {}
        for info in self.infos:
            kinds.setdefault(info.kind, []).append(str(info))
        return kinds

    @classmethod
    def from_json(cls, kinds: Any) -> NeededPlugins:
        """Back from `as_json`.

        Raises:
            ValueError: it is something else.
        """
        if not isinstance(kinds, Mapping) or not all(isinstance(written, list) for written in kinds.values()):
            raise ValueError(f"the plugins needed are a dict of lists by kind, not {kinds!r}")
        return cls(tuple(_parsed(kind, text) for kind, written in kinds.items() for text in written))

    def missing(self) -> list[str]:
        """What is not there, each with what to do."""
        return [
            f"the {info.kind} {info.name!r} of {_named(info)}: {_remedy(info)}"
            for info in self.infos
            if _present(info) is None
        ]

    def differing(self) -> list[str]:
        """Distributions that are there in another version, each with what came from them."""
        lines = {}
        for info in self.infos:
            present = _present(info)
            if present is not None and present.version != info.version:
                uses = ", ".join(f"{i.kind} {i.name!r}" for i in self.infos if i.distribution == info.distribution)
                lines[info.distribution] = f"{_named(info)} ({uses}), and this is {present.version}"
        return list(lines.values())


def _parsed(kind: str, text: Any) -> PluginInfo:
    distribution, colon, rest = str(text).partition(":")
    name, sign, version = rest.rpartition("@")
    if not (colon and sign):
        raise ValueError(f"a plugin is written as distribution:name@version, not {text!r}")
    return PluginInfo(kind, name, distribution, version)


def _listing() -> list[PluginInfo]:
    from minigrad.registry import plugins

    return plugins()


def _present(info: PluginInfo) -> PluginInfo | None:
    """What is offered here under the same name by the same distribution."""
    for found in _listing():
        if (found.kind, found.name) == (info.kind, info.name) and _same_distribution(found, info):
            return found
    return None


def _same_distribution(found: PluginInfo, info: PluginInfo) -> bool:
    return alike(found.distribution) == alike(info.distribution)


def _remedy(info: PluginInfo) -> str:
    """Why it is not there, and what to do."""
    here = [found for found in _listing() if _same_distribution(found, info)]
    problems = [found.status for found in here if found.kind == "plugin"]
    if problems:
        return f"it is installed, but {'; '.join(problems)}"
    exact = info.distribution if info.version == "?" else f"{info.distribution}=={info.version}"
    remedy = f"pip install '{exact}'"
    if info.distribution.endswith(".py"):
        remedy = f"put {info.distribution} into a folder, and name it by --plugins-dir or MINIGRAD_PLUGINS_DIR"
    if here:
        return f"version {here[0].version} is there, and has no such {info.kind}: {remedy}"
    others = [str(found) for found in _listing() if (found.kind, found.name) == (info.kind, info.name)]
    return remedy + (f" (here this name is {' and '.join(others)})" if others else "")


def _named(info: PluginInfo) -> str:
    return info.distribution if info.version == "?" else f"{info.distribution} {info.version}"
