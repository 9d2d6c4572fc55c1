"""The benchmarks run, at tiny sizes and without other libraries; what they count, keep and judge is right."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.host_only("each runs in processes of its own, on numpy")

FOLDER = Path(__file__).parent.parent / "benchmarks"


def run(script: str, *arguments: str | Path) -> str:
    """What a benchmark prints."""
    command = [sys.executable, "-W", "error", FOLDER / script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"}, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))


SIZES = ("--sizes", "3,2,4,5", "4,3,2,6")
RECURRENT = ("--cells", "rnn", "--peers", "plan-numpy", "--rounds", "1", "--budget", "0.001")


def test_a_run_that_was_cut_off_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    arguments = (*RECURRENT, *SIZES, "--threads", "1", "--json", file)
    printed = run("recurrent.py", *arguments, "--limit-minutes", "0")
    assert "2 cases are left" in printed
    assert json.loads(file.read_text())["cases"] == []
    run("recurrent.py", *arguments, "--sizes", "3,2,4,5")
    (first,) = json.loads(file.read_text())["cases"]
    printed = run("recurrent.py", *arguments)
    assert "1 of 2 cases are in" in printed
    found = json.loads(file.read_text())
    assert found["cases"][0] == first
    assert [case["size"] for case in found["cases"]] == [[3, 2, 4, 5], [4, 3, 2, 6]]
    assert all(case["peers"]["plan"]["train"] > 0 for case in found["cases"])
    assert len(found["peaks"]) == 6
    assert found["peaks"][0]["numpy"] > 0
    assert "targets met" in run("recurrent.py", "--from-json", file, "--png", tmp_path / "results.png")
    assert (tmp_path / "results.png").stat().st_size > 10_000


@pytest.mark.usefixtures("_importable")
def test_figures_of_other_settings_are_not_mixed(tmp_path: Path) -> None:
    from results import Results

    file = tmp_path / "results.json"
    Results(file, {"rounds": 3}, fresh=False).add("rnn", (1, 2, 3, 4), 1, {})
    assert Results(file, {"rounds": 3}, fresh=False).has("rnn", (1, 2, 3, 4), 1)
    assert not Results(file, {"rounds": 3}, fresh=False).has("rnn", (1, 2, 3, 4), 2)
    assert not Results(file, {"rounds": 5}, fresh=True).cases
    with pytest.raises(ValueError, match="measured with rounds 3, this is 5"):
        Results(file, {"rounds": 5}, fresh=False)
    file.write_text("[]")
    with pytest.raises(ValueError, match="not a file of results"):
        Results(file, {"rounds": 3}, fresh=False)


@pytest.mark.usefixtures("_importable")
def test_multiply_adds_are_those_of_the_formulas() -> None:
    from flops import train_step_flops
    from recurrent_cells import Size

    T, B, I, H = size = Size(7, 3, 5, 11)  # noqa: E741
    for cell, gates in {"rnn": 1, "lstm": 4, "gru": 3, "lnlstm": 4}.items():
        products = 2 * I * T + 2 * H * T + H * (T - 1)  # forward and weights' gradients, and the gradient of h
        assert train_step_flops(cell, size) == 2 * B * gates * H * products
    # of the minimal gated unit's two products with h one is with f * h, whose f needs a gradient at the first step too
    assert train_step_flops("mgu", size) == 2 * B * H * (2 * 2 * I * T + 2 * 2 * H * T + H * (T - 1) + H * T)


def case(size: tuple[int, ...], **train: float) -> dict[str, Any]:
    """A measured case of an LSTM, from each peer's seconds."""
    return {"cell": "lstm", "size": size, "peers": {name.replace("_", "-"): {"train": s} for name, s in train.items()}}


@pytest.mark.usefixtures("_importable")
def test_targets_are_judged() -> None:
    from targets import PEAK, TARGETS, gflop, judge, peak_of

    of = {(target.ours, target.against, target.cells): target for target in TARGETS}
    lstm = of["plan", "torch-nn", ("lstm",)]
    assert judge(lstm, case((35, 20, 200, 200), plan=0.9, torch_nn=1.0), None).met
    small = judge(lstm, case((25, 1, 65, 100), plan=0.9, torch_nn=1.0), None)
    assert (small.met, small.asked, small.in_reach) == (False, 0.7, True)
    assert judge(lstm, case((25, 1, 65, 100), plan=0.9), None) is None
    big = case((100, 64, 512, 512), plan=0.5, torch_nn=0.4)
    peak = gflop(big) / 0.5 / 0.9  # at which the plan runs at nine tenths of it
    of_peak = next(target for target in TARGETS if target.against == PEAK)
    assert judge(of_peak, big, peak).measured == pytest.approx(0.9)
    assert judge(of_peak, big, peak).met
    assert not judge(of_peak, big, 2 * peak).met
    assert judge(of_peak, case((200, 32, 64, 64), plan=1.0), peak) is None
    beyond = judge(lstm, big, peak)
    assert beyond.possible == pytest.approx(0.45 / 0.4)
    assert not beyond.met
    assert not beyond.in_reach
    assert judge(lstm, big, 2 * peak).in_reach
    fastest = gflop(big) / 0.4
    assert peak_of([big], [{"numpy": 2 * fastest}, {"numpy": 1.0}]) == (2 * fastest, True)
    assert peak_of([big], [{"numpy": 0.5 * fastest}]) == (pytest.approx(fastest), False)


def test_scaling_measures_each_point_once_and_draws(tmp_path: Path) -> None:
    file, picture = tmp_path / "scaling.json", tmp_path / "scaling.png"
    arguments = ("--quick", "--peers", "plan-numpy", "--threads", "1", "--json", file, "--budget", "0.001")
    printed = run("scaling.py", *arguments, "--png", picture)
    found = json.loads(file.read_text())
    sizes = [(*case["size"], case["threads"]) for case in found["cases"]]
    assert len(set(sizes)) == len(sizes) == 6
    assert all(f"train step by {name}" in printed for name in ("T", "B", "H", "threads"))
    assert picture.stat().st_size > 10_000
    run("scaling.py", *arguments)
    assert json.loads(file.read_text()) == found


def test_streaming_times_every_way(tmp_path: Path) -> None:
    file = tmp_path / "streaming.json"
    small = ("--cells", "lstm", "--batches", "1", "--hidden", "6", "--rounds", "1", "--budget", "0.001")
    run("streaming.py", *small, "--threads", "1", "--json", file)
    (found,) = json.loads(file.read_text())["cases"]
    ours = found["libraries"]["minigrad"]
    assert len(ours["seconds"]) >= 3
    assert ours["seconds"].keys() == ours["differences"].keys()
    assert all(0 < seconds < 1 for seconds in ours["seconds"].values())


def test_the_demo_has_one_curve_with_all_engines(tmp_path: Path) -> None:
    file = tmp_path / "demo.json"
    small = ("--windows", "4", "--rounds", "2", "--hidden", "5", "--threads", "1")
    printed = run("demo.py", "--peers", "plan", "tape", *small, "--json", file)
    found = json.loads(file.read_text())["peers"]
    assert found["plan"]["losses"] == pytest.approx(found["tape"]["losses"], rel=1e-4)
    assert len(found["plan"]["losses"]) == 4
    assert found["plan"]["losses"][0] != found["plan"]["losses"][1]
    assert "characters" in printed


def test_the_readme_names_every_command_with_options_that_it_has() -> None:
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"python benchmarks/(\w+\.py)([^`\n#|]*)", page)
    for script in (
        "recurrent.py",
        "scaling.py",
        "streaming.py",
        "demo.py",
        "peak.py",
        "numpy_products.py",
        "optimizers.py",
        "tape.py",
    ):
        options = {option for name, rest in commands for option in re.findall(r"--[\w-]+", rest) if name == script}
        assert script in dict(commands)
        known = run(script, "--help")
        assert [option for option in options if option.replace("--no-", "--") not in known] == [], script
