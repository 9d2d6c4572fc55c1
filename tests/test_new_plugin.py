"""`minigrad new-plugin`: packages that install, pass their own tests and lint as they are; bad names leave nothing."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_plugins import Site, make_site, offering
from fresh_venv import FreshVenv
from plugin_source import not_public
from typer.testing import CliRunner, Result

import minigrad as mg
from minigrad.cli import app, new_plugin

pytestmark = pytest.mark.host_only("writes packages")

KINDS = ["cell", "loss", "optimizer", "wrapper"]


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(app, ["new-plugin", *map(str, arguments)], env={"COLUMNS": "200"})


def one_line(text: str) -> str:
    return " ".join(text.split())


# --- good ones


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new package of each kind, in one folder."""
    folder = tmp_path_factory.mktemp("packages")
    for kind in KINDS:
        result = run(f"minigrad-soft-{kind}s", "--kind", kind, "--out", folder)
        assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="module")
def installed(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> FreshVenv:
    """A fresh environment in which they are installed."""
    environment = FreshVenv(tmp_path_factory.mktemp("environment"))
    for package in sorted(packages.iterdir()):
        environment.install(package)
    return environment


def test_they_are_plugins_once_they_are_installed(installed: FreshVenv, tmp_path: Path) -> None:
    listed = installed.run("-m", "minigrad", "plugins", "--json", cwd=tmp_path)
    found = [info for info in json.loads(listed.stdout) if info["distribution"].startswith("minigrad-soft-")]
    assert sorted((info["kind"], info["name"], info["version"], info["status"]) for info in found) == [
        (kind, f"soft_{kind}s", "0.1.0", "ok") for kind in KINDS
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_the_installed_package_keeps_the_contracts(installed: FreshVenv, tmp_path: Path, kind: str) -> None:
    checked = installed.run("-m", "minigrad", "check", kind, f"soft_{kind}s", cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout
    assert ", 0 failed, 0 expected failures" in checked.stdout


def own_tests(environment: FreshVenv, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """A run of a package's own tests."""
    return environment.run("-m", "pytest", "-q", "-p", "no:cacheprovider", *options, cwd=folder)


@pytest.mark.parametrize("kind", KINDS)
def test_its_tests_pass_as_they_are(packages: Path, installed: FreshVenv, kind: str) -> None:
    tests = own_tests(installed, packages / f"minigrad-soft-{kind}s")
    assert tests.returncode == 0, tests.stdout
    passed = re.search(r"(\d+) passed", tests.stdout)
    assert passed is not None
    assert int(passed[1]) > 15


BROKEN = {
    "cell": ("h + f * (n - h)", "h + f * (n + h)"),
    "loss": ("math.log(2)", "math.log(3)"),
    "optimizer": ("lr * average", "lr * gradient"),
    "wrapper": ("self.norm(y)", "y"),
}


@pytest.mark.parametrize(("kind", "change"), BROKEN.items())
def test_its_tests_notice_another_equation(
    packages: Path, installed: FreshVenv, tmp_path: Path, kind: str, change: tuple[str, str]
) -> None:
    folder = shutil.copytree(packages / f"minigrad-soft-{kind}s", tmp_path / "copy")
    code = folder / f"minigrad_soft_{kind}s" / f"{kind}.py"
    text = code.read_text(encoding="utf-8")
    assert change[0] in text
    code.write_text(text.replace(*change), encoding="utf-8")
    tests = own_tests(installed, folder, "-x", "-k", "equation or reference")
    assert tests.returncode == 1, tests.stdout
    assert "1 failed" in tests.stdout


def test_they_are_lint_free_and_formatted(packages: Path) -> None:
    for command in (["check"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", "."]
        found = subprocess.run(ruff, cwd=packages, capture_output=True, text=True)
        assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["Zz.Top", "aaa", "minigrad-" + "a" * 31, "b-" * 19 + "cc"])
def test_any_name_is_lint_free(tmp_path: Path, kind: str, name: str) -> None:
    assert run(name, "--kind", kind, "--out", tmp_path).exit_code == 0
    ruff = [sys.executable, "-m", "ruff", "check", "--no-cache", "."]
    found = subprocess.run(ruff, cwd=tmp_path, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_in_it(packages: Path, kind: str) -> None:
    folder = packages / f"minigrad-soft-{kind}s"
    package = f"minigrad_soft_{kind}s"
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} >= {
        "pyproject.toml",
        "README.md",
        ".gitignore",
        ".github/workflows/test.yml",
        f"{package}/__init__.py",
        f"{package}/{kind}.py",
        f"tests/test_soft_{kind}s.py",
    }
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["entry-points"]["minigrad"] == {f"soft_{kind}s": package}
    assert project["project"]["dependencies"] == ["minigrad>=0.1.0"]
    assert "${{ matrix.python }}" in (folder / ".github/workflows/test.yml").read_text(encoding="utf-8")
    code = (folder / package / f"{kind}.py").read_text(encoding="utf-8")
    assert not_public(code, package) == []


def test_what_to_do_next_is_said(tmp_path: Path) -> None:
    result = run("minigrad-soft-gate", "--out", tmp_path / "new")
    folder = tmp_path / "new" / "minigrad-soft-gate"
    assert result.output == (
        f"{folder} has a cell, 'soft_gate', which runs as it is. Next:\n"
        f"  cd {folder}\n"
        "  pip install -e '.[test]'\n"
        "  python -m pytest\n"
        "  minigrad check cell soft_gate\n"
        "and put your own into minigrad_soft_gate/cell.py\n"
    )
    assert [path.name for path in folder.parent.iterdir()] == ["minigrad-soft-gate"]


def test_by_default_the_folder_is_made_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("soft", "--kind", "loss").exit_code == 0
    assert (tmp_path / "soft" / "soft" / "loss.py").exists()


# --- what is refused

BAD = {
    "-mgu": "is no name for a distribution",
    "mgu-": "is no name for a distribution",
    "a b": "is no name for a distribution",
    "../mgu": "is no name for a distribution",
    "zéro": "is no name for a distribution",
    "": "is no name for a distribution",
    "m" * 41: "has 41 characters; at most 40 fit into a line",
    "3d-cell": "the package to import would be '3d_cell', which is no name in Python",
    "minigrad-3d": "the registered name would be '3d', which is no name in Python",
    "class": "the package to import would be 'class', which is a keyword of Python",
    "minigrad_lambda": "the registered name would be 'lambda', which is a keyword of Python",
    "minigrad": "'minigrad' would hide minigrad's module minigrad",
    "MiniGrad": "'MiniGrad' would hide minigrad's module minigrad",
    "json": "'json' would hide Python's module json",
    "tests": "'tests' would hide its own module tests",
    "numpy": "'numpy' would hide the module numpy that is installed",
    "minigrad-lstm": "the cell 'lstm' is already offered by minigrad 0.1.0",
    "gru": "the cell 'gru' is already offered by minigrad 0.1.0",
}


@pytest.mark.parametrize(("name", "expected"), BAD.items())
def test_a_bad_name_is_told_and_nothing_is_written(tmp_path: Path, name: str, expected: str) -> None:
    result = run("--out", tmp_path, "--", name)
    assert result.exit_code == 1
    assert expected in one_line(result.output)
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []


def test_a_built_ins_name_of_another_kind_is_free(tmp_path: Path) -> None:
    assert run("minigrad-lstm", "--kind", "loss", "--out", tmp_path).exit_code == 0


def test_an_unknown_kind_is_told_with_those_there_are(tmp_path: Path) -> None:
    result = run("soft", "--kind", "layer", "--out", tmp_path)
    assert result.exit_code == 2
    assert all(kind in result.output for kind in KINDS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["empty folder", "file", "dangling link"])
def test_what_is_there_already_is_left_alone(tmp_path: Path, what: str) -> None:
    place = tmp_path / "soft"
    if what == "empty folder":
        place.mkdir()
    elif what == "file":
        place.write_text("mine", encoding="utf-8")
    else:
        place.symlink_to(tmp_path / "nowhere")
    result = run("soft", "--out", tmp_path)
    assert result.exit_code == 1
    assert f"{place} exists; choose another name, or another place with --out" in one_line(result.output)
    assert list(tmp_path.rglob("*")) == [place]
    assert what != "file" or place.read_text(encoding="utf-8") == "mine"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    made = make_site(tmp_path, monkeypatch)
    yield made
    monkeypatch.undo()
    made.clear()


def test_the_name_of_anothers_plugin_is_refused(site: Site, tmp_path: Path) -> None:
    site.install("their-cells", offering(cells="soft"))
    result = run("minigrad-soft", "--out", tmp_path / "new")
    assert "the cell 'soft' is already offered by their-cells 1.0; choose another name" in one_line(result.output)
    result = run("their-cells", "--out", tmp_path / "new")
    assert "'their-cells' would hide the module their_cells that is installed" in one_line(result.output)
    assert not (tmp_path / "new").exists()
    assert mg.cell("soft") == ("their_cells", "soft")


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path, *_: Any, **__: Any) -> None:
        if self.name == "cell.py":
            raise OSError(28, "No space left on device")
        self.touch()

    monkeypatch.setattr(new_plugin.Path, "write_text", fail)
    result = run("soft", "--out", tmp_path)
    assert result.exit_code == 1
    assert f"cannot write {tmp_path / 'soft'}: No space left on device" in one_line(result.output)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    result = run("soft", "--out", tmp_path / "file")
    assert result.exit_code == 1
    assert "cannot write" in result.output
    assert "Traceback" not in result.output
