"""What a long benchmark has measured, in a file from which a second call goes on."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from processes import machine

import minigrad as mg

Case = dict[str, Any]
"""Its cell, its size (T, B, I, H), its number of threads, and by peer what was measured."""


class Results:
    """Cases, written to a file after each.

    Args:
        path: the file, if any. What it holds is kept, and not measured again.
        settings: how everything is measured.
        fresh: begin anew even if there is a file.

    Raises:
        ValueError: the file was written by something else, or with other settings, so that its figures cannot stand
            beside new ones.
    """

    def __init__(self, path: Path | None, settings: dict[str, Any], fresh: bool) -> None:
        self.path = path
        self.contents: dict[str, Any] = {"machine": machine(), "settings": settings, "peaks": [], "cases": []}
        if path is None or fresh or not path.exists():
            return
        found = load(path)
        for name, value in settings.items():
            if found["settings"].get(name) != value:
                raise ValueError(
                    f"{path} was measured with {name} {found['settings'].get(name)}, this is {value}: give the same, "
                    "or another file, or --fresh to begin anew"
                )
        self.contents = found

    @property
    def cases(self) -> list[Case]:
        cases: list[Case] = self.contents["cases"]
        return cases

    def has(self, cell: str, size: tuple[int, ...], threads: int) -> bool:
        """Whether a case has been measured."""
        wanted = (cell, list(size), threads)
        return any((case["cell"], case["size"], case["threads"]) == wanted for case in self.cases)

    def add(self, cell: str, size: tuple[int, ...], threads: int, peers: dict[str, Any]) -> None:
        """Keep a case, and write the file."""
        case = {"cell": cell, "size": list(size), "threads": threads, "source": source(), "peers": peers}
        self.cases.append(case)
        self.save()

    def add_peak(self, peak: dict[str, float]) -> None:
        """Keep a measurement of the machine's peak, by library, and write the file."""
        self.contents["peaks"].append(peak)
        self.save()

    def save(self) -> None:
        """Write the file, whole or not at all."""
        if self.path:
            unfinished = self.path.with_name(self.path.name + ".tmp")
            unfinished.write_text(json.dumps(self.contents, indent=1))
            os.replace(unfinished, self.path)


def load(path: Path) -> dict[str, Any]:
    """What a file holds.

    Raises:
        ValueError: no benchmark of this folder that measures cases has written it.
    """
    try:
        found = json.loads(path.read_text())
        if not {"machine", "settings", "peaks", "cases"} <= found.keys():
            raise KeyError
    except (ValueError, KeyError, AttributeError):
        raise ValueError(f"{path} is not a file of results; give another, or --fresh to write over it") from None
    contents: dict[str, Any] = found
    return contents


def source() -> str:
    """A short hash of minigrad's code as it is now."""
    folder = Path(mg.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".c", ".h")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:10]
