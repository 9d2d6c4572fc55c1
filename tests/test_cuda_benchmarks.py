"""The scripts that are to run on a GPU run on the stand-in, and the check of everything leaves what it has found."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import fake_cuda
import pytest

import minigrad as mg
from minigrad import backend as backends

FOLDER = Path(__file__).parent.parent / "benchmarks"
pytestmark = [
    pytest.mark.host_only("it has a stand-in of its own"),
    pytest.mark.skipif(not shutil.which("g++"), reason="there is no g++ to compile the kernels for the CPU"),
]


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The stand-in under the name that the scripts ask for."""
    monkeypatch.syspath_prepend(str(FOLDER))
    made = fake_cuda.install(monkeypatch)
    made.name = "cupy"
    monkeypatch.setitem(backends._loaded, "cupy", made)
    return made


@pytest.fixture
def clock(cupy: Any) -> Any:
    gpu_peers = pytest.importorskip("gpu_peers")
    return gpu_peers.Clock(time.perf_counter, lambda a, b: b - a, lambda result: None, "none", "a stand-in")


@pytest.mark.parametrize("way", ["float64", "float32", "tf32", "float16", "bfloat16"])
@pytest.mark.parametrize("cell", ["gru", "Letters"])
def test_parity(way: str, cell: str, cupy: Any) -> None:
    parity = pytest.importorskip("gpu_parity")
    chosen = parity.WAYS[way]
    assert parity.compare(parity.cells_of(chosen)[cell], chosen)
    assert cupy.tf32 == (way == "tf32")
    assert cupy.xp.cuda.blas.mode == (19 if way == "tf32" else 16)
    with pytest.raises(AssertionError):
        parity.compare(parity.cells_of(chosen)[cell], chosen._replace(bound=0.0))


def test_options(clock: Any, capsys: pytest.CaptureFixture[str]) -> None:
    options, tables = pytest.importorskip("gpu_options"), pytest.importorskip("tables")
    mg.set_backend("cupy")
    with tables.console.capture() as shown:
        options.ways(["mgu"], ["3,2,4,5"], 0.0, clock)
        options.directions(["gru"], ["3,2,4,5"], 0.0, clock)
    rows = [line.split() for line in shown.get().splitlines() if line.strip().startswith(("mgu", "gru"))]
    assert [len(row) for row in rows] == [9, 7]
    differences = [float(rows[0][column]) for column in (4, 6, 8)]
    assert differences[0] == 0
    assert 1e-5 < differences[2] < differences[1] < 0.1
    assert rows[1][-1] == "0"


def test_profile(clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    profile, tables = pytest.importorskip("gpu_profile"), pytest.importorskip("tables")
    monkeypatch.setattr(profile, "CALLS", 1)
    mg.set_backend("cupy")
    with tables.console.capture() as shown:
        profile.profile("lstm", profile.Size.parse("3,2,4,5"), clock)
    assert "forward: product with weight_hh" in shown.get()
    assert "graph of backward" in shown.get()


STEPS = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import gpu_check
from gpu_check import Step

def python(text):
    return [sys.executable, "-uc", text]

gpu_check.no_device = lambda: ""
gpu_check.steps = lambda out, seconds: [
    Step("good", python("print('all is well')"), 60, {}),
    Step("bad", python("raise SystemExit('something is wrong')"), 60, {}),
    Step("missing", ["/there/is/no/such/program"], 60, {}),
    Step("late", python("import time; print('begun', flush=True); time.sleep(600)"), LIMIT, {}),
    Step("last", python("print('still done')"), 60, {}),
]
gpu_check.main()
"""


def check(limit: int, out: Path) -> list[str]:
    return [sys.executable, "-c", STEPS.replace("LIMIT", str(limit)), str(FOLDER), "--out", str(out)]


def test_a_step_that_fails_or_is_late_takes_nothing_along(tmp_path: Path) -> None:
    begin = time.perf_counter()
    subprocess.run(check(6, tmp_path), check=True, capture_output=True)
    assert time.perf_counter() - begin < 60
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    for words in ("good: status 0", "bad: status 1", "missing: not run", "late: stopped after 6 s", "last: status 0"):
        assert f"- {words}" in report
    for words in ("all is well", "something is wrong", "begun", "still done"):
        assert words in report


def test_what_was_done_is_there_when_it_is_killed(tmp_path: Path) -> None:
    child = subprocess.Popen(check(600, tmp_path), stdout=subprocess.PIPE)
    try:
        until = time.perf_counter() + 60
        while "begun" not in (text := _text(tmp_path / "3.log")) and time.perf_counter() < until:
            time.sleep(0.05)
        assert "begun" in text
        os.kill(child.pid, signal.SIGTERM)
        assert child.wait(60) == 128 + signal.SIGTERM
    finally:
        child.kill()
        child.communicate()
    report = _text(tmp_path / "report.md")
    assert "- good: status 0" in report
    assert "- late: under way" in report
    assert "- last" not in report


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""
