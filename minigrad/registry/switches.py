"""What the user has chosen: plugins that are switched off, and folders whose files are plugins."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from minigrad.registry.info import Source, alike

__all__ = ["DISABLED", "FOLDERS", "Switches"]

DISABLED = "MINIGRAD_DISABLE_PLUGINS"
"""The environment variable with names of plugins that are not to be loaded, separated by commas."""

FOLDERS = "MINIGRAD_PLUGINS_DIR"
"""The environment variable with a folder of plugins, or several, separated as in PATH."""


@dataclass(frozen=True)
class Switches:
    """Names and folders, each with how it was given, such as "--disable-plugin mgu".

    Attributes:
        disabled: names of distributions, entry points, or `distribution:entry-point`.
        folders: folders of plugins.
    """

    disabled: tuple[tuple[str, str], ...] = ()
    folders: tuple[tuple[Path, str], ...] = ()

    @classmethod
    def of(cls, disable: Iterable[str] = (), folders: Iterable[str | os.PathLike[str]] = ()) -> Switches:
        """The environment's choices, and these from the command line."""
        given = [(name, f"{DISABLED}={name}") for name in _listed(DISABLED, ",")]
        given += [(name, f"--disable-plugin {name}") for name in disable]
        places = [(Path(folder), f"{FOLDERS}={folder}") for folder in _listed(FOLDERS, os.pathsep)]
        places += [(Path(folder), f"--plugins-dir {folder}") for folder in folders]
        once = {path.expanduser().resolve(): how for path, how in reversed(places)}
        return cls(tuple(given), tuple(reversed(once.items())))

    def off(self, source: Source) -> str | None:
        """How this plugin was switched off, if it was."""
        return next((how for name, how in self.disabled if alike(name) in _names(source)), None)

    def unknown(self, sources: Iterable[Source]) -> list[str]:
        """What to tell of names that switch nothing off."""
        known = {name for source in sources for name in _names(source)}
        return [
            f"{how}: there is no plugin of this name" + _hint(name, known)
            for name, how in self.disabled
            if alike(name) not in known
        ]


def _names(source: Source) -> tuple[str, str, str]:
    """What a plugin can be called by."""
    distribution, name = alike(source.distribution), alike(source.name)
    return distribution, name, f"{distribution}:{name}"


def _listed(variable: str, separator: str) -> list[str]:
    return [word.strip() for word in os.environ.get(variable, "").split(separator) if word.strip()]


def _hint(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(alike(name), sorted(known), n=1)
    return f"; did you mean {close[0]}?" if close else "; `minigrad plugins` lists them"
