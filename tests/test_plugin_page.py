"""The plugin page says what the code does: its snippets are the distributions' own, and it leaves nothing out."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import minigrad as mg
from minigrad import hookspecs
from minigrad.testing.cells import CELL_CHECKS

pytestmark = pytest.mark.host_only("reads text")

FOLDER = Path(__file__).parent.parent / "plugins"
PAGE = (FOLDER / "README.md").read_text(encoding="utf-8")
HOOKS = [name for name, value in vars(hookspecs).items() if inspect.isfunction(value) and name.startswith("minigrad_")]


def test_every_snippet_is_in_the_file_that_it_says_it_is_from() -> None:
    marked = re.findall(r"<!-- from (\S+) -->\n```\w+\n(.*?)```", PAGE, re.S)
    assert len(marked) == len(re.findall(r"```(?:python|toml)\n", PAGE))
    for path, snippet in marked:
        assert snippet in (FOLDER / path).read_text(encoding="utf-8"), path


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_documented_tested_and_used(hook: str) -> None:
    assert inspect.getdoc(getattr(hookspecs, hook))
    assert f"| `{hook}` |" in PAGE
    others = [path for path in Path(__file__).parent.glob("*.py") if path != Path(__file__)]
    assert any(re.search(rf"{hook}|{hook.removeprefix('minigrad_')}=", path.read_text("utf-8")) for path in others)
    ours = [*FOLDER.glob("*/minigrad_*/*.py"), *(FOLDER.parent / "minigrad").glob("*/*.py")]
    assert any(f"def {hook}()" in path.read_text(encoding="utf-8") for path in ours)


def test_every_distribution_is_listed_with_all_that_it_offers() -> None:
    for folder in FOLDER.iterdir():
        if folder.is_dir():
            row = re.search(rf"\| \[`{folder.name}`\]\(\S+\) \| (.*) \|", PAGE)
            assert row is not None, folder.name
            module = next(folder.glob("minigrad_*/__init__.py")).parent
            sources = "\n".join(path.read_text(encoding="utf-8") for path in module.glob("*.py"))
            bodies = re.findall(r"def minigrad_\w+\(\).*?return \{(.*?)\}", sources, re.S)
            offered = [name for body in bodies for name in re.findall(r'"(\w+)":', body)]
            assert sorted(re.findall(r"`(\w+)`", row[1])) == sorted(offered), folder.name


def test_every_kind_of_check_is_explained_where_it_is_made() -> None:
    assert all(check.__doc__ for check in CELL_CHECKS.values())
    assert all(f"`{kind}Tests`" in PAGE for kind in ("Cell", "Wrapper", "Loss", "Optimizer"))


def test_the_commands_exist() -> None:
    from minigrad.cli import app

    known = {
        command.name or command.callback.__name__.replace("_", "-")
        for command in app.registered_commands
        if command.callback
    }
    used = set(re.findall(r"minigrad(?: --\S+ \S+)? (plugins|check|demo|new-plugin|info)\b", PAGE))
    assert used <= known
    assert mg.plugins()
