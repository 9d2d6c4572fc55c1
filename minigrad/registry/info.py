"""What is known of a plugin: one line of the listing, where it comes from, what is wrong with it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from minigrad.hookspecs import HOOKS

__all__ = ["PluginInfo", "Problem", "Source", "alike", "described"]


@dataclass(frozen=True)
class PluginInfo:
    """One line of the listing, and where something comes from; as a string `distribution:name@version`.

    Attributes:
        kind: "cell", "wrapper", "loss", "optimizer" or "callback"; "plugin" for one that is not loaded.
        name: what to ask for; of a "plugin", the entry point's name.
        distribution: the installed package that offers it; of a file in the folder of plugins, the file's name.
        version: of that package.
        status: "ok", or what is wrong: "conflict: ...", "failed: ...", "incompatible: ...", "switched off: ...".
    """

    kind: str
    name: str
    distribution: str
    version: str
    status: str = "ok"

    def __str__(self) -> str:
        return f"{self.distribution}:{self.name}@{self.version}"


@dataclass(frozen=True)
class Source:
    """Where a plugin comes from: an entry point of a distribution, or a file in a folder of plugins."""

    name: str
    value: str
    distribution: str
    version: str
    is_file: bool = False

    def __str__(self) -> str:
        if self.is_file:
            return f"{self.distribution} (file {self.value})"
        return f"{self.distribution} {self.version} (entry point {self.name} = {self.value})"

    def is_called(self, name: str) -> bool:
        """Whether a thing called `name` is most likely this one's; asked only where the thing itself is not to be had.

        A package `minigrad-mgu` with an entry point `mgu` or `mgu_cells` is where one expects "mgu".
        """
        own = (alike(self.name), alike(self.distribution).removeprefix("minigrad-"))
        return any(word == alike(name) or word.startswith(f"{alike(name)}-") for word in own)


@dataclass(frozen=True)
class Problem:
    """Why a plugin, or its hook for one kind of thing, is not there.

    Attributes:
        source: the plugin.
        word: "failed", "incompatible" or "switched off".
        reason: more of it.
        kind: of the hook that failed; None for all of the plugin.
        error: what was raised.
    """

    source: Source
    word: str
    reason: str
    kind: str | None = None
    error: BaseException | None = None

    @classmethod
    def failure(cls, source: Source, error: BaseException, kind: str | None = None) -> Problem:
        """That a plugin, or one of its hooks, raised an error."""
        hook = f"{HOOKS[kind]}(): " if kind else ""
        return cls(source, "failed", hook + described(error), kind, error)

    def __str__(self) -> str:
        """A sentence, told when something of the plugin's is asked for."""
        verb = {"failed": "failed to load"}.get(self.word, f"is {self.word}")
        return f"{self.source} {verb}: {self.reason}"

    @property
    def info(self) -> PluginInfo:
        """The line of the listing."""
        source = self.source
        return PluginInfo("plugin", source.name, source.distribution, source.version, f"{self.word}: {self.reason}")


def alike(name: str) -> str:
    """A name as package indexes compare them."""
    return re.sub(r"[-_.]+", "-", name).lower()


def described(error: BaseException) -> str:
    """An error's type and text, of which a stranger's exception may have none."""
    try:
        text = str(error)
    except Exception:
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
