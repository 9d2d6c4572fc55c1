"""Progress bar, JSON Lines, TensorBoard, curves: right numbers, quiet where nobody looks, clear on what is missing."""

from __future__ import annotations

import io
import json
import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from test_train import fit_slope, pairs, slope_trainer

import minigrad as mg
from minigrad.train import Callback, Curves, JsonLines, ProgressBar, TensorBoard, Trainer, plot_curves

pytestmark = pytest.mark.host_only("text and pictures")


def bar(terminal: bool) -> tuple[ProgressBar, io.StringIO]:
    text = io.StringIO()
    return ProgressBar(Console(file=text, force_terminal=terminal, width=160, color_system=None)), text


def step(model: Any, batch: Any) -> Any:
    return fit_slope(model, batch), {"accuracy [%]": 50.0}


def test_the_bar_shows_loss_metrics_speed_and_time_left() -> None:
    class Look(Callback):
        def on_step_end(self, trainer: Any, record: Any) -> None:
            if record["step"] == 3:
                shown._bars.refresh()

    shown, text = bar(terminal=True)
    trainer = slope_trainer(step, callbacks=[shown, Look()])
    trainer.fit(pairs(1.0, 2.0, 3.0), pairs(1.0), epochs=2)
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text.getvalue())
    mean = trainer.records[0]["train_loss"]
    assert f"epoch 1: train_loss {mean:.4g}  train_accuracy [%] 50  validation_loss" in plain
    assert re.search(r"epoch 2 .* 3/4  loss [\d.]+  accuracy \[%\] 50  [\d,]+ examples/s \d:\d\d:\d\d", plain)


def test_a_resumed_bar_begins_where_the_run_was(tmp_path: Path) -> None:
    slope_trainer(out=tmp_path).fit(pairs(1.0, 2.0, 3.0), epochs=2)
    shown, text = bar(terminal=True)
    trainer = slope_trainer(out=tmp_path, callbacks=[shown])
    trainer.fit(pairs(1.0, 2.0, 3.0), epochs=3, resume=True)
    assert "epoch 2:" not in text.getvalue()
    assert "epoch 3:" in text.getvalue()
    assert " 4/6 " in text.getvalue()


def test_the_bar_is_quiet_where_there_is_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    shown, text = bar(terminal=False)
    model = mg.Linear(1, 1)
    optimizer = mg.optimizer("sgd", model.parameters(), lr=0.1)
    trainer = Trainer(model, optimizer, lambda model, batch: mg.mean(model([[1.0]])), callbacks=[shown])
    trainer.fit(pairs(1.0), epochs=2)
    assert text.getvalue() == ""
    assert capfd.readouterr() == ("", "")


def test_the_bar_is_closed_after_an_error() -> None:
    shown, _ = bar(terminal=True)

    def broken(model: Any, batch: Any) -> Any:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        slope_trainer(broken, callbacks=[shown]).fit(pairs(1.0), epochs=1)
    assert shown._bars is None


def test_json_lines_hold_each_epoch_once_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    trainer = slope_trainer(out=tmp_path)
    trainer.fit(pairs(1.0, 2.0, 3.0), epochs=2)
    with path.open("a", encoding="utf-8") as file:  # killed after the line, before the checkpoint; and within a line
        file.write('{"epoch": 3, "step": 6}\n{"epoch": 4, "st')
    trainer = slope_trainer(out=tmp_path)
    trainer.fit(pairs(1.0, 2.0, 3.0), epochs=4, resume=True)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert lines == trainer.records
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]


def test_json_lines_are_json_also_where_a_metric_is_not_finite(tmp_path: Path) -> None:
    path = tmp_path / "new" / "m.jsonl"
    trainer = slope_trainer(
        lambda model, batch: (fit_slope(model, batch), {"ratio": float("nan")}), callbacks=[JsonLines(path)]
    )
    trainer.fit(pairs(1.0), epochs=1)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    (line,) = path.read_text(encoding="utf-8").splitlines()
    assert json.loads(line, parse_constant=refuse)["train_ratio"] is None
    with pytest.raises(FileExistsError, match="holds the metrics of another run"):
        trainer.fit(pairs(1.0), epochs=1)
    assert path.read_text(encoding="utf-8").splitlines() == [line]


class Writer:
    made: list[Writer]

    def __init__(self, folder: str, purge_step: int | None, filename_suffix: str) -> None:
        self.folder, self.purge_step, self.suffix, self.closed = folder, purge_step, filename_suffix, False
        self.scalars: list[tuple[str, float, int]] = []
        Writer.made.append(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.scalars.append((name, value, step))

    def close(self) -> None:
        self.closed = True


def test_tensorboard_is_given_each_update_and_each_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("tensorboardX")
    module.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorboardX", module)
    Writer.made = []
    for epochs in (1, 2):
        trainer = slope_trainer(out=tmp_path / "run", callbacks=[TensorBoard(tmp_path / "board")])
        trainer.fit(pairs(1.0, 2.0, 3.0), pairs(1.0), epochs=epochs, resume=epochs == 2)
    first, second = Writer.made
    assert (first.folder, first.purge_step, second.purge_step) == (str(tmp_path / "board"), None, 3)
    assert (first.suffix, second.suffix) == (".00000000", ".00000002")  # files named alike would replace one another
    assert first.closed
    assert second.closed
    assert {name for name, _, _ in first.scalars} == {
        *(f"update/{name}" for name in ("loss", "lr", "grad_norm")),
        *(f"epoch/{name}" for name in ("epoch", "seconds", "lr", "padding", "train_loss", "validation_loss")),
    }
    assert [at for name, _, at in first.scalars + second.scalars if name == "update/loss"] == [1, 2, 3, 4]
    assert ("epoch/train_loss", trainer.records[1]["train_loss"], 4) in second.scalars


def test_what_is_not_installed_is_said_before_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorboardX", "matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install 'minigrad\[tensorboard\]'"):
        TensorBoard(tmp_path)
    with pytest.raises(ImportError, match=r"pip install 'minigrad\[plot\]'"):
        Curves(tmp_path / "c.png")
    with pytest.raises(ImportError, match=r"pip install 'minigrad\[plot\]'"):
        plot_curves([{"epoch": 1, "train_loss": 1.0}], tmp_path / "c.png")


def test_curves_show_every_metric_of_both_sides(tmp_path: Path) -> None:
    path = tmp_path / "new" / "curves.png"
    trainer = slope_trainer(step, callbacks=[Curves(path)])
    trainer.fit(pairs(1.0, 2.0), pairs(3.0), epochs=3)
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    records = [*trainer.records, {"epoch": 4, "train_loss": 9.0, "validation_new": 2.0}]
    figure = plot_curves(records, tmp_path / "again.png")
    drawn = {
        (axes.get_ylabel(), line.get_label()): (line.get_xdata().tolist(), line.get_ydata().tolist())
        for axes in figure.axes
        for line in axes.lines
    }
    assert drawn["loss", "training"] == ([1, 2, 3, 4], [record["train_loss"] for record in records])
    assert drawn["loss", "validation"] == ([1, 2, 3], [record["validation_loss"] for record in records[:3]])
    assert drawn["accuracy [%]", "validation"] == ([1, 2, 3], [50.0] * 3)
    assert drawn["new", "validation"] == ([4], [2.0])
    assert (tmp_path / "again.png").read_bytes() != path.read_bytes()
    with pytest.raises(ValueError, match="there are no records"):
        plot_curves([], path)


def test_importing_the_trainer_imports_no_extra() -> None:
    import subprocess

    code = "import sys, minigrad.train; print({'matplotlib', 'tensorboardX'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout == "set()\n"
