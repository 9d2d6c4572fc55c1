"""Each distribution in `plugins/` installs into a fresh virtual environment, and its own tests pass there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from fresh_venv import FreshVenv
from plugin_source import not_public

from minigrad.testing import CellTests, LossTests, OptimizerTests, WrapperTests

pytestmark = pytest.mark.host_only("what is installed makes no difference between backends")

FOLDER = Path(__file__).parent.parent / "plugins"
DISTRIBUTIONS = sorted(path.parent.name for path in FOLDER.glob("*/pyproject.toml"))


def test_they_are_all_there() -> None:
    assert DISTRIBUTIONS == [
        "minigrad-cells-classic",
        "minigrad-cells-normalized",
        "minigrad-losses-extra",
        "minigrad-optimizers-extra",
        "minigrad-regularizers",
    ]


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_its_tests_pass_where_it_is_installed(name: str, tmp_path: Path) -> None:
    source = tmp_path / name
    shutil.copytree(FOLDER / name, source, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    environment = FreshVenv(tmp_path / "venv")
    environment.install(source)
    listed = environment.run("-m", "minigrad", "plugins", "--json", cwd=tmp_path)
    found = [info for info in json.loads(listed.stdout) if info["distribution"] == name]
    assert found
    assert {info["status"] for info in found} == {"ok"}
    package = next(path for path in source.iterdir() if (path / "__init__.py").exists())
    shutil.rmtree(package)  # so that what is tested is what was installed
    done = environment.run("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", cwd=source)
    assert done.returncode == 0, done.stdout[-6000:]
    print(done.stdout.splitlines()[-1], file=sys.stderr)


@pytest.mark.both_executors
@pytest.mark.parametrize("name", ["minigrad-cells-classic", "minigrad-cells-normalized"])
def test_its_cells_pass_where_they_are_compiled(name: str) -> None:
    """The checks in which the plan has the most to say, of the cells as they are."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(FOLDER.parent), str(FOLDER / name)])}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "addopts="]
    chosen = ["-k", "plan_equals_tape or tbptt", "test_conformance.py"]
    done = subprocess.run(
        [*command, *chosen], cwd=FOLDER / name / "tests", capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stdout[-6000:]
    assert " passed" in done.stdout


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_it_uses_public_names_alone(name: str) -> None:
    paths = list((FOLDER / name).glob("minigrad_*/**/*.py"))
    assert paths
    for path in paths:
        assert not_public(path.read_text(encoding="utf-8"), path.parent.name) == [], path


NOT_PUBLIC = {
    "import numpy as np": "line 1: import of numpy",
    "def f():\n    from numpy import tanh": "line 2: import of numpy",
    "from cupy.lib import x": "line 1: import of cupy.lib",
    "import importlib\nimportlib.import_module('numpy')": "line 2: import of numpy",
    "from minigrad.plan import graph": "line 1: import of minigrad.plan",
    "from minigrad import autograd": "line 1: import of minigrad.autograd",
    "import minigrad.nest": "line 1: import of minigrad.nest",
    "from minigrad.losses import _reduce": "private _reduce of minigrad.losses",
    "import minigrad as mg\nmg.init._fans(1)": "line 2: private mg.init._fans",
    "import minigrad as other\nother._x": "line 2: private other._x",
    "def f(tensor):\n    return tensor._data": "line 2: private tensor._data",
    "class A(B):\n    def f(self):\n        return self._of_the_base": "line 3: private self._of_the_base",
    "getattr(x, '_node')": "line 1: private '_node' by its name",
}


@pytest.mark.parametrize("source", NOT_PUBLIC)
def test_what_is_not_public_is_found(source: str) -> None:
    assert NOT_PUBLIC[source] in not_public(source, "mine")


@pytest.mark.parametrize(
    "source",
    [
        "from mine._parts import _helper\n_helper()",
        "class A:\n    def __init__(self):\n        self._own = 1\n    def f(self):\n        return self._own",
        "'import numpy as np; mg._x'  # import numpy",
        "import minigrad as mg\nfrom minigrad.losses import factory\nmg.nest.map_nest(mg.tanh, mg.__name__)",
        "from minigrad import testing, nest",
    ],
)
def test_what_is_public_or_its_own_is_not(source: str) -> None:
    assert not_public(source, "mine") == []


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_everything_that_it_offers_is_in_its_readme_and_passes_the_kit(name: str, monkeypatch: Any) -> None:
    project = tomllib.loads((FOLDER / name / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    monkeypatch.syspath_prepend(str(FOLDER / name))
    readme = (FOLDER / name / "README.md").read_text(encoding="utf-8")
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (FOLDER / name / "tests").glob("*.py"))
    for module_name in project["entry-points"]["minigrad"].values():
        module = __import__(module_name)
        for hook in (value for key, value in vars(module).items() if key.startswith("minigrad_") and callable(value)):
            for offered, factory in hook().items():
                assert f"`{offered}`" in readme or f'"{offered}"' in readme, offered
                assert factory.__name__ in tests or offered in tests, offered
    assert any(kind.__name__ in tests for kind in (CellTests, WrapperTests, LossTests, OptimizerTests))
