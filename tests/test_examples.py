"""Every command of the examples' READMEs runs, at a reduced size, and what it learns beats its baseline."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.host_only("each runs in a process of its own, on numpy")

ROOT = Path(__file__).parent.parent
READMES = sorted((ROOT / "examples").rglob("README.md"))
EXAMPLES = sorted(
    path for path in (ROOT / "examples").glob("*/*.py") if path.name != "__init__.py" and not path.name.startswith("_")
)
NAMES = [f"examples.{path.parent.name}.{path.stem}" for path in EXAMPLES]
WITH_CELL = [
    name for name, path in zip(NAMES, EXAMPLES, strict=True) if re.search(r"\bcell=", path.read_text(encoding="utf-8"))
]


def commands(readme: Path) -> list[str]:
    """The commands in a README that start an example, without `python -m` and what is said about them."""
    lines = readme.read_text(encoding="utf-8").splitlines()
    found = [shlex.split(line, comments=True) for line in lines if line.startswith("python -m examples.")]
    return [shlex.join(words[2:]) for words in found]


COMMANDS = sorted({command for readme in READMES for command in commands(readme)})

MORE = {"examples.encoder_decoder.g2p --no-attention": ["--epochs", "5"]}
"""What a command needs besides at its reduced size: without attention two epochs over few words are too few."""

NO_BETTER = {"examples.one_to_one.home --word noon"}
"""Commands that show what cannot be learned: their metric is the baseline's."""


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_runs_and_beats_its_baseline(command: str, tmp_path: Path) -> None:
    """Each as it is in the README, and `--small` behind it, which changes defaults but no option that is given."""
    words = [*shlex.split(command), *MORE.get(command, []), "--small", "--out", str(tmp_path)]
    environment = {**os.environ, "COLUMNS": "100"}
    if command.startswith("examples.encoder_decoder."):
        environment["MINIGRAD_NATIVE"] = "0"  # to compile them takes longer than runs of this size do
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", *words], cwd=ROOT, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    ours, baseline = result["ours"], result["baseline"]
    if command in NO_BETTER:
        assert ours == pytest.approx(baseline, abs=1e-6), result
    else:
        assert ours < baseline if result["lower_is_better"] else ours > baseline, result
    assert f"{ours:.4g}" in done.stdout
    assert f"{baseline:.4g}" in done.stdout
    pictures = list(tmp_path.glob("*.png"))
    assert [path for path in pictures if path.read_bytes()[:4] != b"\x89PNG"] == []
    assert pictures, "it draws no picture"
    assert [path.name for path in pictures if f"picture: {path}" not in done.stdout] == []


CELL = """
import minigrad as mg


class Wide(mg.Cell):
    'Its outputs have another size than its state.'

    def __init__(self, input_size, hidden_size):
        self.input_size, self.hidden_size, self.output_size = input_size, hidden_size, hidden_size + 3
        self.inner, self.spread = mg.GRUCell(input_size, hidden_size), mg.Linear(hidden_size, hidden_size + 3)

    def init_state(self, batch_size):
        return self.inner.init_state(batch_size)

    def step(self, x, state):
        h, state = self.inner.step(x, state)
        return self.spread(h), state


@mg.hookimpl
def minigrad_cells():
    return {"wide": Wide}
"""
AFTER_ONE_UPDATE = """
import json, sys
from importlib import import_module

from minigrad.backend import register_backend
from minigrad.testing import StrictBackend
from minigrad.train import Trainer

register_backend("strict", StrictBackend)
fit = Trainer.fit
Trainer.fit = lambda self, *data, epochs, **options: fit(self, *data, steps=1, **options)
for name, options in json.loads(sys.argv[1]).items():
    print(name, flush=True)
    sys.argv = [name.replace(".", "/") + ".py", "--small", "--backend", "strict", *options]
    import_module(name).main()
"""


def test_any_registered_cell_does_and_any_backend(tmp_path: Path) -> None:
    """After one update everything else of an example is run too; what it has learned is no matter here.

    The cell's outputs have another size than its state, and the backend is the stand-in for a GPU.
    """
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "wide.py").write_text(CELL, encoding="utf-8")
    cells = {name: ["--cell", "wide"] if name in WITH_CELL else [] for name in NAMES}
    cells |= {name: ["--cells", "wide,gru"] for name in NAMES if name.startswith("examples.why_gates.")}
    options = {name: [*given, "--out", str(tmp_path / name)] for name, given in cells.items()}
    environment = {**os.environ, "MINIGRAD_PLUGINS_DIR": str(tmp_path / "plugins")}
    command = [sys.executable, "-W", "error", "-c", AFTER_ONE_UPDATE, json.dumps(options)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-3000:]
    assert [name for name in NAMES if not (tmp_path / name / "result.json").exists()] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--cell", "lstn"], "there is no cell 'lstn'; there are gru, lstm, rnn"),
        (["--epochs", "0"], "--epochs is 1 or more, not 0"),
        (["--backend", "cuda"], "cuda"),
        (["--out", "README.md"], "--out must be a folder that can be written to"),
        (["--hidden", "3.5"], "argument --hidden-size: invalid int value: '3.5'"),
    ],
)
def test_options_that_do_not_fit_are_said_without_a_traceback(words: list[str], message: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "examples.many_to_one.digit_rows", "--out", str(tmp_path), *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert message in done.stderr
    assert "usage: python -m examples.many_to_one.digit_rows" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("path", EXAMPLES, ids=NAMES)
def test_it_is_short_and_its_folders_readme_shows_its_command_and_figure(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 130
    readme = path.parent / "README.md"
    assert f"examples.{path.parent.name}.{path.stem}" in commands(readme)
    section = readme.read_text(encoding="utf-8").split(f"## {path.name}\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    assert len([row for row in rows if re.search(r"\d", row)]) >= 2, "its figure, and what it is to be compared with"


def test_the_map_names_every_example() -> None:
    page = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    assert [name for name in NAMES if name.removeprefix("examples.").replace(".", "/") not in page] == []


def test_no_command_of_a_readme_is_left_out() -> None:
    """Wherever a README says `python -m examples...`, it is in one of the commands that are run."""
    for readme in READMES:
        written = readme.read_text(encoding="utf-8").count("python -m examples.")
        assert written == len(commands(readme)), readme
    assert {command.split()[0] for command in COMMANDS} == set(NAMES)
