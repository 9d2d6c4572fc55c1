"""Which minigrad a plugin needs: by its distribution's metadata, or by the comment at the head of a single file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

from packaging.requirements import Requirement

from minigrad.errors import PluginError

__all__ = ["own_version", "script_requirements", "unmet"]


def own_version() -> str | None:
    """The version of the minigrad that runs; None where it is not installed."""
    try:
        return version("minigrad")
    except PackageNotFoundError:
        return None


def unmet(requirements: Iterable[str]) -> str | None:
    """What to tell if this minigrad is not one that these requirements allow.

    Args:
        requirements: such as `minigrad>=0.1`; those on other packages do not count.

    Raises:
        InvalidRequirement: one on minigrad cannot be read.
    """
    own = own_version()
    for text in requirements:
        if own is None or not re.match(r"\s*minigrad\s*($|[^\w\s.-])", text, re.IGNORECASE):
            continue
        needed = Requirement(text)
        applies = needed.marker is None or needed.marker.evaluate({"extra": ""})
        if applies and not needed.specifier.contains(own, prereleases=True):
            wanted = f"minigrad{needed.specifier}"
            return f"it needs {wanted}, and this is minigrad {own}: pip install '{wanted}', or another version of it"
    return None


_SCRIPT = re.compile(r"(?m)^# /// script\r?\n((?:^#(?:| .*)\r?\n)+?)^# ///\s*?$")


def script_requirements(source: str) -> list[str]:
    """The `dependencies` in the metadata comment of a single file (PEP 723, inline script metadata).

        # /// script
        # dependencies = ["minigrad>=0.2"]
        # ///

    Raises:
        PluginError: the comment is not as it should be.
    """
    found = _SCRIPT.search(source)
    if found is None:
        return []
    try:
        lines = "\n".join(line[2:] for line in found[1].splitlines())
        listed = tomllib.loads(lines).get("dependencies", [])
    except tomllib.TOMLDecodeError as error:
        raise PluginError(f"its comment '# /// script' is no TOML: {error}") from error
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
        raise PluginError(f"the dependencies in its comment '# /// script' are {listed!r}, not a list of strings")
    return listed
