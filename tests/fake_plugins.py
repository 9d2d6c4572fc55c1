"""Plugins as installers lay them out: a module and a `.dist-info` folder, in a folder on the path."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from minigrad import registry

HEADER = "import minigrad as mg\n"
ONES = '''
class Ones(mg.Cell):
    """Sums its inputs."""

    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size

    def init_state(self, batch_size):
        return mg.zeros((batch_size, self.hidden_size))

    def step(self, x, state):
        state = state + x.sum(axis=-1, keepdims=True)
        return state, state
'''


def offering(**names: str) -> str:
    """A plugin's source: each hook (`cells`, `losses`, ...) offers one name, with a factory that says whose it is."""
    hooks = [
        f"@mg.hookimpl\ndef minigrad_{kind}():\n    return {{{name!r}: lambda *a, **k: (__name__, {name!r})}}\n"
        for kind, name in names.items()
    ]
    return HEADER + "\n".join(hooks)


class Site:
    """A folder of installed packages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.modules: list[str] = []

    def module(self, name: str, source: str) -> None:
        self.modules.append(name)
        (self.folder / f"{name}.py").write_text(dedent(source), encoding="utf-8")

    def metadata(self, name: str, entry_points: str | bytes, version: str = "1.0", folder: Path | None = None) -> Path:
        info = (folder or self.folder) / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
        data = entry_points if isinstance(entry_points, bytes) else f"[minigrad]\n{entry_points}\n".encode()
        (info / "entry_points.txt").write_bytes(data)
        self.look()
        return info

    def install(self, name: str, source: str, target: str = "") -> None:
        """A distribution `name` with one module, `name` with underscores, and one entry point."""
        module = name.replace("-", "_")
        self.module(module, source)
        self.metadata(name, f"{module.removeprefix('minigrad_')} = {module}{target}")

    def look(self) -> None:
        importlib.invalidate_caches()
        registry.refresh()

    def clear(self) -> None:
        for module in self.modules:
            sys.modules.pop(module, None)
        self.look()


def make_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return Site(folder)
