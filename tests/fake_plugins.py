"""Plugins as installers lay them out: a module and a `.dist-info` folder, in a folder on the path."""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import minigrad as mg
from minigrad import registry
from minigrad.registry import PluginInfo

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

    def metadata(
        self,
        name: str,
        entry_points: str | bytes,
        version: str = "1.0",
        folder: Path | None = None,
        requires: tuple[str, ...] = (),
    ) -> Path:
        info = (folder or self.folder) / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        lines += [f"Requires-Dist: {requirement}" for requirement in requires]
        (info / "METADATA").write_text("\n".join([*lines, ""]), encoding="utf-8")
        data = entry_points if isinstance(entry_points, bytes) else f"[minigrad]\n{entry_points}\n".encode()
        (info / "entry_points.txt").write_bytes(data)
        self.look()
        return info

    def install(
        self, name: str, source: str, target: str = "", version: str = "1.0", requires: tuple[str, ...] = ()
    ) -> None:
        """A distribution `name` with one module, `name` with underscores, and one entry point."""
        module = name.replace("-", "_")
        self.module(module, source)
        self.metadata(name, f"{module.removeprefix('minigrad_')} = {module}{target}", version, requires=requires)

    def uninstall(self, name: str) -> None:
        for folder in self.folder.glob(f"{name.replace('-', '_')}-*.dist-info"):
            shutil.rmtree(folder)
        (self.folder / f"{name.replace('-', '_')}.py").unlink()
        sys.modules.pop(name.replace("-", "_"), None)
        self.look()

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


def message(error: type[BaseException], function: Any, *args: Any, **options: Any) -> str:
    """What the user reads."""
    with pytest.raises(error) as caught:
        function(*args, **options)
    return str(caught.value)


def listed(distribution: str) -> list[PluginInfo]:
    return [info for info in mg.plugins() if info.distribution == distribution]
