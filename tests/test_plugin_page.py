"""The plugin page says what the code does: its snippets are the distributions' own, and it leaves nothing out."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import minigrad as mg
from minigrad import hookspecs
from minigrad.testing import check_cell, check_optimizer
from minigrad.testing.cells import CELL_CHECKS

pytestmark = pytest.mark.host_only("reads text")

FOLDER = Path(__file__).parent.parent / "plugins"
PAGE = (FOLDER / "README.md").read_text(encoding="utf-8")
HOOKS = [name for name, value in vars(hookspecs).items() if inspect.isfunction(value) and name.startswith("minigrad_")]


MARKED = re.findall(r"<!-- from (\S+) -->\n```(\w+)\n(.*?)```", PAGE, re.S)
SNIPPETS = [(path, code) for path, kind, code in MARKED if kind == "python"]


def parsed(code: str) -> list[ast.stmt]:
    """The statements, without docstrings."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            del node.body[0]
    return tree.body


def is_among(statement: ast.stmt, others: list[ast.stmt]) -> bool:
    """Whether it is there: of a class its name, bases and some of its body, of an import some of its names."""
    alike: list[Any] = [other for other in others if type(other) is type(statement)]
    if isinstance(statement, ast.ClassDef):
        wanted = statement.name, dumped(statement.bases)
        same = [other for other in alike if (other.name, dumped(other.bases)) == wanted]
        return any(all(is_among(part, other.body) for part in statement.body) for other in same)
    if isinstance(statement, ast.ImportFrom):
        names = set(dumped(statement.names))
        return any(other.module == statement.module and names <= set(dumped(other.names)) for other in alike)
    return ast.dump(statement) in dumped(alike)


def dumped(nodes: Sequence[ast.AST]) -> list[str]:
    return list(map(ast.dump, nodes))


def test_every_snippet_says_which_file_it_is_from() -> None:
    assert len(MARKED) == len(re.findall(r"```(?:python|toml)\n", PAGE)) >= 5
    for path, kind, code in MARKED:
        if kind == "toml":
            assert code in (FOLDER / path).read_text(encoding="utf-8"), path
            assert tomllib.loads(code)


@pytest.mark.parametrize(("path", "code"), SNIPPETS, ids=[path.rpartition("/")[2] for path, _ in SNIPPETS])
def test_what_a_snippet_says_is_in_its_file(path: str, code: str) -> None:
    file = parsed((FOLDER / path).read_text(encoding="utf-8"))
    for statement in parsed(code):
        assert is_among(statement, file), ast.unparse(statement)


@pytest.mark.parametrize(
    ("old", "new"), [("f * (n - h)", "f * (h - n)"), ("gates = 2", "gates = 3"), ("GatedCell", "Cell"), ("mgu", "gru")]
)
def test_a_change_of_a_snippet_is_noticed(old: str, new: str) -> None:
    path, code = SNIPPETS[1] if old == "mgu" else SNIPPETS[0]
    file = parsed((FOLDER / path).read_text(encoding="utf-8"))
    assert old in code
    assert not all(is_among(statement, file) for statement in parsed(code.replace(old, new)))


def pasted(number: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that a snippet makes, where the distributions are installed, in the folder of the file that it is."""
    path, code = SNIPPETS[number]
    for folder in (*(path.parent for path in FOLDER.glob("*/pyproject.toml")), (FOLDER / path).parent):
        monkeypatch.syspath_prepend(str(folder))
    names: dict[str, Any] = {"__name__": "pasted"}
    exec(compile(code, path, "exec"), names)
    return names


def test_the_cell_runs_as_it_is_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = pasted(0, monkeypatch)["MGUCell"]
    assert [result for result in check_cell(cell, only=["contract", "gradients"]) if result.status != "passed"] == []


def test_its_tests_run_as_they_are_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    sys.modules.pop("references", None)  # another distribution's
    pasted(1, monkeypatch)["TestMGU"]().test_conformance("reference")
    del sys.modules["references"]


def test_the_hooks_run_as_they_are_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    names = pasted(2, monkeypatch)
    made = names["minigrad_wrappers"]()["weight_norm"](names["minigrad_cells"]()["irnn"](2, 3))
    assert isinstance(made, mg.Cell)


def test_the_optimizer_runs_as_it_is_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    (result,) = check_optimizer(pasted(3, monkeypatch)["Lion"], only="quadratic")
    assert result.status == "passed", result


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
