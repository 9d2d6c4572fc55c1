"""Every example runs at a reduced size, and what it learns beats its baseline."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.host_only("each runs in a process of its own, on numpy")

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted(
    path for path in (ROOT / "examples").glob("*/*.py") if path.name != "__init__.py" and not path.name.startswith("_")
)
NAMES = [f"examples.{path.parent.name}.{path.stem}" for path in EXAMPLES]


@pytest.mark.parametrize("name", NAMES)
def test_it_beats_its_baseline(name: str, tmp_path: Path) -> None:
    environment = {**os.environ, "COLUMNS": "100"}
    command = [sys.executable, "-W", "error", "-m", name, "--small", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    better = result["ours"] < result["baseline"] if result["lower_is_better"] else result["ours"] > result["baseline"]
    assert better, result
    assert list(tmp_path.glob("*.png")), "it draws no picture"


@pytest.mark.parametrize("path", EXAMPLES, ids=NAMES)
def test_it_is_short_and_its_folders_readme_shows_its_command_and_figure(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 130
    readme = (path.parent / "README.md").read_text(encoding="utf-8")
    assert f"python -m examples.{path.parent.name}.{path.stem}" in readme
    assert re.search(r"\d", readme)


def test_the_map_names_every_example() -> None:
    page = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    assert [name for name in NAMES if name.removeprefix("examples.").replace(".", "/") not in page] == []


def test_every_command_of_the_readmes_names_an_example_and_its_options() -> None:
    for readme in (ROOT / "examples").rglob("README.md"):
        for name, rest in re.findall(r"python -m (examples\.[\w.]+)([^`\n#]*)", readme.read_text(encoding="utf-8")):
            assert name in NAMES, f"{readme}: {name}"
            options = re.findall(r"--[\w-]+", rest)
            if options:
                done = subprocess.run(
                    [sys.executable, "-m", name, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
                )
                assert [option for option in options if option not in done.stdout] == [], f"{readme}: {name}"
