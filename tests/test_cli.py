"""The commands about plugins and about the machine; the demo and new-plugin have files of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_plugins import HEADER, ONES, Site, make_site, offering
from typer.testing import CliRunner, Result

import minigrad as mg
from minigrad import backend as backends
from minigrad.backend import Backend
from minigrad.cli import app
from minigrad.registry import PluginInfo, configure
from minigrad.testing import CellTests

pytestmark = pytest.mark.host_only("prints what others compute")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    made = make_site(tmp_path, monkeypatch)
    yield made
    monkeypatch.undo()
    configure()
    made.clear()


def run(*arguments: Any, **environment: str) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200", **environment})


def one_line(text: str) -> str:
    return " ".join(text.split())


# --- help


@pytest.mark.parametrize("command", ["demo", "plugins", "check", "new-plugin", "info"])
def test_help_shows_examples(command: str) -> None:
    shown = one_line(run(command, "--help").output)
    assert "Examples" in shown
    assert shown.count(f"minigrad {command}") >= 2
    assert command in run().output


def test_the_version_is_the_packages() -> None:
    assert run("--version").output.strip() == f"minigrad {version('minigrad')}"


def test_it_runs_as_a_module_too() -> None:
    shown = subprocess.run([sys.executable, "-m", "minigrad", "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == f"minigrad {version('minigrad')}"


# --- plugins


def test_plugins_lists_everything_as_a_table_and_as_json() -> None:
    found = json.loads(run("plugins", "--json").stdout)
    lstm = next(line for line in found if line["name"] == "lstm")
    assert lstm == {"kind": "cell", "name": "lstm", "distribution": "minigrad", "version": "0.1.0", "status": "ok"}
    assert [line["name"] for line in found if line["kind"] == "cell" and line["distribution"] == "minigrad"] == [
        "gru",
        "lstm",
        "rnn",
    ]
    table = run("plugins").output
    assert all(line["name"] in table for line in found)


def test_the_table_shows_a_failure_as_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = PluginInfo("plugin", "x", "minigrad-x", "1", "failed: KeyError: 'no [cuda] kernel [/x]'")
    monkeypatch.setattr("minigrad.registry.plugins", lambda: [failed])
    result = run("plugins")
    assert result.exit_code == 0
    assert "no [cuda] kernel [/x]" in one_line(result.output)


def test_plugins_are_switched_off_and_loaded_from_folders_by_options(site: Site, tmp_path: Path) -> None:
    site.install("minigrad-mgu", offering(cells="mgu"))
    site.install("minigrad-later", "1 / 0", requires=("minigrad>=99",))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "mine.py").write_text(offering(losses="mine"), encoding="utf-8")
    options = ("--disable-plugin", "minigrad-mgu", "--disable-plugin", "mine2", "--plugins-dir", folder)
    result = run(*options, "plugins", "--json")
    found = {line["distribution"]: line for line in json.loads(result.stdout) if line["distribution"] != "minigrad"}
    assert found["minigrad-mgu"]["status"] == "switched off: --disable-plugin minigrad-mgu"
    assert found["minigrad-later"]["status"].startswith("incompatible: it needs minigrad>=99, and this is minigrad 0.1")
    assert (found["mine.py"]["kind"], found["mine.py"]["status"]) == ("loss", "ok")
    assert result.stderr == "Notice: --disable-plugin mine2: there is no plugin of this name; did you mean mine?\n"
    table = one_line(run(*options, "plugins").stdout)
    assert "switched off: --disable-plugin minigrad-mgu" in table
    assert "mine.py" in table


def test_the_options_end_with_the_command(site: Site) -> None:
    site.install("minigrad-mgu", offering(cells="mgu"))
    assert run("--disable-plugin", "mgu", "plugins").exit_code == 0
    assert mg.cell("mgu") == ("minigrad_mgu", "mgu")
    assert "switched off" not in run("plugins").output


def test_the_environment_does_the_same(site: Site, tmp_path: Path) -> None:
    site.install("minigrad-mgu", offering(cells="mgu"))
    (tmp_path / "mine.py").write_text(offering(losses="mine"), encoding="utf-8")
    result = run("plugins", MINIGRAD_DISABLE_PLUGINS="mgu,gone", MINIGRAD_PLUGINS_DIR=str(tmp_path))
    assert "switched off: MINIGRAD_DISABLE_PLUGINS=mgu" in one_line(result.stdout)
    assert "mine.py" in result.stdout
    assert "Notice: MINIGRAD_DISABLE_PLUGINS=gone: there is no plugin of this name" in result.stderr


@pytest.mark.parametrize("what", ["nowhere", "file"])
def test_a_folder_that_is_none_is_refused(tmp_path: Path, what: str) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    result = run("--plugins-dir", tmp_path / what, "plugins")
    assert result.exit_code == 2
    assert "--plugins-dir" in result.output


def test_another_warning_is_shown_as_ever(site: Site) -> None:
    site.install("minigrad-old", "import warnings\nwarnings.warn('old', DeprecationWarning)\n" + offering(cells="old"))
    script = "import warnings; warnings.simplefilter('always'); from minigrad.cli import app; app(['plugins'])"
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(site.folder)!r}); {script}"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "minigrad_old.py:2: DeprecationWarning: old" in shown.stderr


# --- check

MEMORY = """
class Sum(Ones):
    \"\"\"A cell with one thing wrong, by name.\"\"\"

class Detached(Ones):
    def step(self, x, state):
        return super().step(x.detach(), state)

class Known(Detached):
    expected_failures = {"gradients": "it is known to be constant"}

@mg.hookimpl
def minigrad_cells():
    return {"sum": Sum, "detached": Detached, "known": Known}
"""


def test_a_good_cell_passes_and_all_its_checks_are_counted() -> None:
    result = run("check", "cell", "gru")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("cell gru, of minigrad 0.1.0\n")
    summary = result.stdout.splitlines()[-1]
    run_count, not_run = int(summary.split()[0]), int(summary.split()[-3])
    assert run_count + not_run == len(CellTests.checks)
    assert f"{run_count} passed, 0 failed, 0 expected failures" in summary
    row = next(line for line in result.stdout.splitlines() if "│ gradients " in line)
    _, name, status, error, tolerance, _, _ = (part.strip() for part in row.split("│"))
    assert (name, status) == ("gradients", "passed")
    assert 0 <= float(error) <= float(tolerance)


@pytest.mark.parametrize(("kind", "name"), [("wrapper", "bidirectional"), ("loss", "mse"), ("optimizer", "sgd")])
def test_the_built_ins_of_each_kind_can_be_checked(kind: str, name: str) -> None:
    result = run("check", kind, name, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["kind"], report["name"], report["distribution"], report["version"]) == (
        kind,
        name,
        "minigrad",
        version("minigrad"),
    )
    assert report["summary"]["failed"] == 0
    assert report["summary"]["passed"] > 10
    assert sum(report["summary"].values()) == len(report["checks"])


def test_a_bad_cell_fails_with_the_reason(site: Site) -> None:
    site.install("minigrad-odd", HEADER + ONES + MEMORY)
    result = run("check", "cell", "detached")
    assert result.exit_code == 1
    row = next(line for line in result.stdout.splitlines() if "│ gradients " in line)
    assert "failed" in row
    assert "gradient" in row.split("│")[5]
    assert ", 0 failed" not in result.stdout
    report = json.loads(run("check", "cell", "detached", "--json").stdout)
    assert report["summary"]["failed"] >= 1
    checks = {check["name"]: check for check in report["checks"]}
    assert checks["gradients"]["status"] == "failed"
    assert checks["gradients"]["error"] > checks["gradients"]["tolerance"]


def test_an_expected_failure_is_counted_and_no_failure(site: Site) -> None:
    site.install("minigrad-odd", HEADER + ONES + MEMORY)
    result = run("check", "cell", "known", "--only", "gradients", "--only", "contract")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "2 run: 1 passed, 0 failed, 1 expected failures; 0 not run"
    assert "it is known to be constant" in one_line(result.stdout)


def test_only_some_checks_are_run(site: Site) -> None:
    report = json.loads(run("check", "cell", "rnn", "--only", "padding", "--only", "contract", "--json").stdout)
    assert [check["name"] for check in report["checks"]] == ["contract", "padding"]
    assert report["summary"] == {"passed": 2, "failed": 0, "expected failure": 0, "not run": 0}
    result = run("check", "cell", "rnn", "--only", "pading")
    assert result.exit_code == 1
    assert "only names pading; the checks are: contract, " in one_line(result.output)


def test_what_cannot_be_checked_is_told(site: Site) -> None:
    site.install("minigrad-bad", "1 / 0")
    result = run("check", "cell", "lsmt")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: there is no cell 'lsmt'; did you mean 'lstm'?\n  installed: gru, lstm, rnn")
    result = run("check", "cell", "bad")
    assert result.exit_code == 1
    assert "failed to load: ZeroDivisionError: division by zero" in one_line(result.stderr)
    result = run("--disable-plugin", "minigrad:cells", "check", "cell", "cells")
    assert "is switched off: --disable-plugin minigrad:cells" in one_line(result.stderr)
    result = run("check", "layer", "lstm")
    assert result.exit_code == 2
    assert all(kind in result.stderr for kind in ("cell", "wrapper", "loss", "optimizer"))
    result = run("check")
    assert result.exit_code == 2
    assert "Usage:" in result.stderr
    assert "unknown backend 'tpu'" in run("check", "cell", "lstm", "--backend", "tpu").stderr


def test_an_error_that_is_no_number_is_null_in_json(monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    nan = "class Broken(Ones):\n    def step(self, x, state):\n        return super().step(x * float('nan'), state)\n"
    hook = "@mg.hookimpl\ndef minigrad_cells():\n    return {'nan': Broken}\n"
    site.install("minigrad-nan", HEADER + ONES + nan + hook)

    def refuse(text: str) -> None:
        raise AssertionError(f"{text} is no JSON")

    result = run("check", "cell", "nan", "--only", "gradients", "--json")
    report = json.loads(result.stdout, parse_constant=refuse)
    assert report["checks"][0]["status"] == "failed"
    assert result.exit_code == 1


# --- info


def test_info_says_what_runs_here() -> None:
    report = json.loads(run("info", "--json").stdout)
    assert report["versions"]["minigrad"] == version("minigrad")
    assert report["versions"]["numpy"] == np.__version__
    assert report["versions"]["python"].startswith(".".join(map(str, sys.version_info[:3])))
    assert {"pluggy", "rich", "typer", "safetensors"} <= set(report["versions"])
    assert report["optional"]["pytest"] == pytest.__version__
    assert {"matplotlib", "cupy-cuda12x", "cupy-cuda13x"} <= set(report["optional"])
    assert report["backend"] == "numpy"
    assert all(library["num_threads"] >= 1 and library["internal_api"] for library in report["blas"])
    assert report["plugins"]["ok"] == len([info for info in mg.plugins() if info.status == "ok"])
    table = one_line(run("info").output)
    for text in (np.__version__, "backend numpy", "BLAS", f"plugins {report['plugins']['ok']} ok"):
        assert text in table


def test_info_says_why_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.delitem(backends._loaded, "cupy", raising=False)
    report = json.loads(run("info", "--json").stdout)
    assert report["device"]["available"] is False
    assert "pip install 'minigrad[cuda12]'" in report["device"]["reason"]
    assert "no GPU: the cupy backend needs CuPy, which is not installed" in one_line(run("info").output)


def test_info_describes_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """With CuPy's answers played; `minigrad info` on a real one is a check by hand."""
    runtime = SimpleNamespace(
        getDevice=lambda: 0,
        getDeviceCount=lambda: 2,
        getDeviceProperties=lambda number: {"name": b"Some GPU"},
        memGetInfo=lambda: (3 * 2**30, 8 * 2**30),
        runtimeGetVersion=lambda: 12060,
        driverGetVersion=lambda: 13000,
    )

    class Played(Backend):
        xp = SimpleNamespace(cuda=SimpleNamespace(runtime=runtime), __version__="13.6.0")

    monkeypatch.setattr("minigrad.cli.info.load_backend", lambda name: Played())
    assert json.loads(run("info", "--json").stdout)["device"] == {
        "available": True,
        "name": "Some GPU",
        "number": 0,
        "devices": 2,
        "memory": 8 * 2**30,
        "free": 3 * 2**30,
        "cuda": "12.6",
        "driver": "13.0",
        "cupy": "13.6.0",
    }
    assert "Some GPU, 8 GiB (3 free), number 0 of 2; CUDA 12.6, driver 13.0, CuPy 13.6.0" in one_line(
        run("info").output
    )


def test_info_counts_plugins_that_are_not_there(site: Site) -> None:
    site.install("minigrad-bad", "1 / 0")
    site.install("minigrad-later", "", requires=("minigrad>=99",))
    site.install("minigrad-mgu", offering(cells="mgu", losses="mgu"))
    ok = len([info for info in mg.plugins() if info.status == "ok"])
    counts = json.loads(run("info", "--json").stdout)["plugins"]
    assert counts == {"ok": ok, "conflict": 0, "failed": 1, "incompatible": 1, "switched off": 0}
    shown = one_line(run("--disable-plugin", "mgu", "info").output)
    assert f"plugins {ok - 2} ok, 1 failed, 1 incompatible, 1 switched off" in shown


def test_info_tells_of_a_backend_that_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(backends._loaded, "cupy", raising=False)
    monkeypatch.setitem(sys.modules, "cupy", None)
    result = run("info", "--backend", "cupy")
    assert result.exit_code == 1
    assert "CuPy, which is not installed" in one_line(result.stderr)


@pytest.mark.host_only("shows what there is")
def test_info_says_what_compiles_and_why_nothing_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIGRAD_NATIVE", "0")
    found = json.loads(CliRunner().invoke(app, ["info", "--json"]).stdout)["native"]
    assert found["native code"] == "no: MINIGRAD_NATIVE=0 switches native code off"
    assert int(found["threads of native code"]) >= 1


@pytest.mark.host_only("deletes files")
def test_cache_clear_deletes_compiled_code_and_nothing_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MINIGRAD_CACHE", str(tmp_path))
    folder = tmp_path / "native"
    folder.mkdir(mode=0o700)
    (folder / "notes.txt").write_text("mine")
    done = CliRunner().invoke(app, ["cache", "clear"])
    assert done.exit_code == 0, done.output
    assert "0 entries" in done.output
    assert (folder / "notes.txt").read_text() == "mine"
