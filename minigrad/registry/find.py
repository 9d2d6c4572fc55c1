"""Which plugins there are: entry points of the installed distributions, and files in folders. Nothing is imported."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, distributions
from pathlib import Path
from types import ModuleType
from typing import Any

from minigrad.errors import PluginError
from minigrad.hookspecs import GROUP
from minigrad.registry.info import Source, alike
from minigrad.registry.requirements import script_requirements

__all__ = ["Found", "in_distributions", "in_folder"]


@dataclass(frozen=True)
class Found:
    """A plugin that has not been loaded.

    Attributes:
        source: where it comes from.
        load: imports it, and returns what has the hooks.
        requirements: what it says that it needs.
    """

    source: Source
    load: Callable[[], Any]
    requirements: Callable[[], list[str]] = list


def _broken(source: Source, error: BaseException) -> Found:
    """One that cannot even be named; loading it raises why."""

    def load() -> Any:
        raise error

    return Found(source, load)


# --- distributions


def in_distributions() -> Iterator[Found]:
    """The plugins of all installed distributions; a module that one of them names twice is one."""
    for distribution in _distributions():
        name, version, requirements = _metadata(distribution)
        try:
            points = {point.value: point for point in distribution.entry_points.select(group=GROUP)}
        except Exception as error:  # which one, for a damaged file, differs between Python versions
            yield _broken(Source("?", "entry_points.txt", name, version), error)
            continue
        for point in points.values():
            yield _of_entry_point(point, name, version, requirements)


def _of_entry_point(point: EntryPoint, name: str, version: str, requirements: list[str]) -> Found:
    return Found(Source(point.name, point.value, name, version), point.load, lambda: requirements)


def _distributions() -> Iterator[Distribution]:
    """The installed distributions that may have plugins; of two of one name, the first on the path, as in an import.

    `importlib.metadata.entry_points` would do, but a single damaged file of anybody's makes it fail for everybody.
    """
    seen = set()
    for distribution in distributions():
        try:
            text = distribution.read_text("entry_points.txt") or ""
        except ValueError:  # not UTF-8; who reads its entry points will see that
            text = f"[{GROUP}]"
        if f"[{GROUP}]" in text:
            name, _, _ = _metadata(distribution)
            key = text if name == _UNNAMED else alike(name)
            if key not in seen:
                seen.add(key)
                yield distribution


_UNNAMED = "unnamed distribution"


def _metadata(distribution: Distribution) -> tuple[str, str, list[str]]:
    """Name, version and requirements, where the distribution's metadata have them."""
    try:
        metadata: Any = distribution.metadata
        fields = list(metadata.items())
    except Exception:  # which one, for a missing file, differs between Python versions
        fields = []
    known = dict(fields)
    requirements = [value for field, value in fields if field == "Requires-Dist"]
    return known.get("Name") or _UNNAMED, known.get("Version") or "?", requirements


# --- folders


def in_folder(folder: Path, how: str) -> Iterator[Found]:
    """Every `*.py` in a folder, by name; hidden files are left out.

    Args:
        folder: where to look.
        how: how the folder was given, to be told if it cannot be read.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".py" and not path.name.startswith("."))
    except OSError as error:
        source = Source("?", str(folder), folder.name, "?", is_file=True)
        yield _broken(source, PluginError(f"{how}: the folder of plugins cannot be read: {error.strerror or error}"))
        return
    for path in paths:
        yield _of_file(path)


def _of_file(path: Path) -> Found:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError):  # loading it will say what is wrong
        text = ""
    version = re.search(r"""(?m)^__version__\s*(?::\s*str\s*)?=\s*["']([^"']+)["']""", text)
    source = Source(path.stem, str(path), path.name, version[1] if version else "?", is_file=True)
    return Found(source, lambda: _run(path), lambda: script_requirements(text))


def _run(path: Path) -> ModuleType:
    """The file as a module of its own; it is read anew each time, and leaves no compiled file behind."""
    name = f"minigrad_plugins_dir.{path.stem}"
    while name in sys.modules and sys.modules[name].__file__ != str(path):
        name += "_"
    module = ModuleType(name)
    module.__file__ = str(path)
    code = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    sys.modules[name] = module
    try:
        exec(code, vars(module))
    except BaseException:
        del sys.modules[name]
        raise
    return module
