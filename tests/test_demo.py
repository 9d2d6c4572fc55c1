"""The demo and the command line: it learns, goes on bit for bit, and says clearly what it cannot do."""

from __future__ import annotations

import math
import random
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import minigrad as mg
from minigrad import backend as backends
from minigrad.checkpoint import load_checkpoint, save_checkpoint
from minigrad.cli import app
from minigrad.demo import Settings, Training, read_text, sample
from minigrad.registry import origins
from minigrad.registry.origins import made

SMALL = Settings(hidden_size=12, num_layers=2, batch_size=4, window=10, learning_rate=1e-2)


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def one_line(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture
def words() -> str:
    """A text in which each word is one of four: at most log2(4) bits each, 0.4 per character."""
    draw = random.Random(0)
    return " ".join(draw.choice(["apple", "banana", "cherry", "damson"]) for _ in range(500))


@pytest.fixture
def text(tmp_path: Path, words: str) -> Path:
    path = tmp_path / "words.txt"
    path.write_text(words, encoding="utf-8")
    return path


def weights(path: Path) -> dict[str, Any]:
    return load_checkpoint(path / "model.safetensors")["model"]


def test_the_demo_learns_writes_and_reports(tmp_path: Path, text: Path) -> None:
    out = tmp_path / "out"
    result = run("demo", "--text", text, "--out", out, "--epochs", 10, "--hidden-size", 32, "--length", 200)
    assert result.exit_code == 0, result.output
    held_out = load_checkpoint(out / "model.safetensors")["progress"]["held_out"]
    assert len(held_out) == 10
    assert held_out[0] > 2.0  # letters at random: log2(15) = 3.9
    assert held_out[-1] < 0.8
    for number, bits in enumerate(held_out, 1):
        assert f"epoch {number}/10: training" in result.output
        assert f"held out {bits:.3f} bits/char" in result.output
    samples = (out / "samples.txt").read_text(encoding="utf-8")
    for temperature in ("0.5", "0.8", "1.0"):
        assert f"--- temperature {temperature}" in samples
    cool = samples.split("--- temperature 0.8")[0].split()[4:-1]
    assert sum(word in ("apple", "banana", "cherry", "damson") for word in cool) > 0.7 * len(cool)


@pytest.mark.parametrize("cell", ["gru", "rnn"])
def test_any_registered_cell_runs(tmp_path: Path, text: Path, cell: str) -> None:
    result = run("demo", "--text", text, "--out", tmp_path, "--epochs", 1, "--cell", cell, "--hidden-size", 8)
    assert result.exit_code == 0, result.output
    assert load_checkpoint(tmp_path / "model.safetensors")["settings"]["cell"] == cell


def test_two_runs_with_one_seed_are_the_same_and_another_seed_differs(tmp_path: Path, text: Path) -> None:
    for name, seed in {"a": 3, "b": 3, "c": 4}.items():
        assert run("demo", "--text", text, "--out", tmp_path / name, "--epochs", 1, "--seed", seed).exit_code == 0
    samples = [(tmp_path / name / "samples.txt").read_text(encoding="utf-8") for name in "abc"]
    assert samples[0] == samples[1]
    assert samples[0] != samples[2]


def test_resume_after_an_epoch_goes_on_bit_for_bit(tmp_path: Path, text: Path) -> None:
    common = ("demo", "--text", text, "--hidden-size", 8)
    assert run(*common, "--out", tmp_path / "whole", "--epochs", 3).exit_code == 0
    assert run(*common, "--out", tmp_path / "parts", "--epochs", 1).exit_code == 0
    result = run("demo", "--text", text, "--out", tmp_path / "parts", "--epochs", 3, "--resume")
    assert result.exit_code == 0, result.output
    assert "going on after 1 epochs" in result.output
    for name, value in weights(tmp_path / "whole").items():
        np.testing.assert_array_equal(value, weights(tmp_path / "parts")[name])
    whole, parts = ((tmp_path / name / "samples.txt").read_text(encoding="utf-8") for name in ("whole", "parts"))
    assert whole == parts


def test_resume_in_the_middle_of_an_epoch_goes_on_bit_for_bit(tmp_path: Path, words: str) -> None:
    path = tmp_path / "c.safetensors"
    whole = Training(words, SMALL)
    for count, _ in enumerate(whole.epoch(), 1):
        if count == 7:
            whole.save(path)
    again = Training.resume(path, words)
    assert again.progress.position == 70
    mg.uniform(shape=100)  # what the generator has drawn meanwhile must not matter
    again = Training.resume(path, words)
    list(again.epoch())
    assert again.progress == whole.progress
    for mine, theirs in zip(again.model.parameters(), whole.model.parameters(), strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())
    mg.seed(5)
    text = sample(again, [1.0], 50)
    mg.seed(5)
    assert sample(whole, [1.0], 50) == text


def test_a_run_that_fails_keeps_its_last_good_checkpoint(
    tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ("demo", "--text", text, "--out", tmp_path, "--hidden-size", 8)
    assert run(*common, "--epochs", 1).exit_code == 0
    before = (tmp_path / "model.safetensors").read_bytes()
    monkeypatch.setattr(Training, "resume", classmethod(_with_nan_loss(Training.resume)))
    result = run(*common, "--epochs", 2, "--resume")
    assert result.exit_code == 1
    assert "the loss is nan in epoch 2, step 0" in one_line(result.output)
    assert "go on from it with --resume" in one_line(result.output)
    assert (tmp_path / "model.safetensors").read_bytes() == before


def _with_nan_loss(resume: Any) -> Any:
    def patched(cls: type[Training], *arguments: Any) -> Training:
        training: Training = resume(*arguments)
        (origin,) = origins(training.loss)
        training.loss = made(lambda outputs, targets: mg.sum(outputs) * math.nan, origin)
        return training

    return patched


def test_held_out_bits_are_those_of_the_probabilities(words: str) -> None:
    training = Training(words, SMALL)
    xs, ys = training.held_out_data
    with mg.no_grad():
        scores, _ = training.model(xs)
    log_p = mg.log_softmax(scores).numpy()
    chosen = np.take_along_axis(log_p, ys.numpy()[..., None], axis=-1)
    assert training.evaluate() == pytest.approx(-chosen.mean() / math.log(2), rel=1e-5)


def test_targets_are_the_inputs_one_character_later_and_the_last_tenth_is_held_out(words: str) -> None:
    training = Training(words, SMALL)
    text = {}
    for name, (xs, ys) in {"train": training.train_data, "held": training.held_out_data}.items():
        np.testing.assert_array_equal(xs.numpy()[1:], ys.numpy()[:-1])
        text[name] = "".join(training.characters[code] for code in xs.numpy().T.ravel())
    assert words.startswith(text["train"])
    assert words.index(text["held"]) == len(words) * 9 // 10
    assert len(text["train"]) + len(text["held"]) > len(words) - 2 * SMALL.batch_size


def test_sampling_at_low_temperature_takes_the_likeliest_and_at_high_it_is_even(words: str) -> None:
    training = Training(words, SMALL)
    training.model.output.bias.data = mg.one_hot(mg.tensor(3), len(training.characters)).data * 2
    training.model.output.weight.data = mg.zeros(training.model.output.weight.shape).data
    cold, warm, hot = sample(training, [0.01, 1.0, 100.0], 2000)
    likeliest = training.characters[3]
    assert cold == likeliest * 2000
    share = math.exp(2) / (math.exp(2) + len(training.characters) - 1)
    assert warm.count(likeliest) / 2000 == pytest.approx(share, abs=0.05)
    assert hot.count(likeliest) / 2000 == pytest.approx(1 / len(training.characters), abs=0.03)


@pytest.mark.host_only("reads text")
def test_the_default_text_is_pythons_manual() -> None:
    manual = read_text(None)
    assert len(manual) > 300_000
    assert 'The "with" statement' in manual


@pytest.mark.host_only("errors before any array is made")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no file"),
        (b"", "holds 0 characters; training needs at least 200"),
        (b"too short", "holds 9 characters; training needs at least 200"),
        (b"x" * 300 + b"\xe9" + b"x" * 300, "is not UTF-8: byte 300 is 0xe9"),
    ],
)
def test_bad_texts_are_told(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "t.txt"
    if content is not None:
        path.write_bytes(content)
    result = run("demo", "--text", path, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert message in one_line(result.output)
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.host_only("errors before any array is made")
def test_other_bad_input_is_told(tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("demo", "--text", text, "--cell", "lsmt", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "there is no cell 'lsmt'; did you mean 'lstm'?" in one_line(result.output)
    result = run("demo", "--text", text, "--backend", "tpu", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "unknown backend 'tpu'; there are: 'numpy', 'cupy'" in one_line(result.output)
    result = run("demo", "--text", text, "--resume", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "there is no checkpoint" in one_line(result.output)
    result = run("demo", "--text", tmp_path, "--out", tmp_path / "out")
    assert "is a folder; --text takes a file" in one_line(result.output)
    result = run("demo", "--text", text, "--out", text)
    assert "is a file; --out takes a folder" in one_line(result.output)
    result = run("demo", "--text", tmp_path / "[red]x[/y].txt")
    assert "there is no file" in result.output
    assert "[red]x[/y].txt" in result.output


@pytest.mark.host_only("asks for a backend by name")
def test_a_backend_that_cannot_run_is_told(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.delitem(backends._loaded, "cupy", raising=False)
    result = run("demo", "--text", text, "--backend", "cupy")
    assert result.exit_code == 1
    assert "pip install 'minigrad[cuda12]' or pip install 'minigrad[cuda13]'" in one_line(result.output)
    monkeypatch.setattr("minigrad.backend._default_backend", None)
    monkeypatch.setenv("MINIGRAD_BACKEND", "tpu")
    result = run("demo", "--text", text)
    assert "the environment variable MINIGRAD_BACKEND: unknown backend 'tpu'" in one_line(result.output)


def test_the_training_figure_is_the_mean_over_the_epoch(words: str) -> None:
    training = Training(words, SMALL)
    losses = list(training.epoch())
    mean = sum(steps * value for steps, value in losses) / training.steps / math.log(2)
    assert training.progress.training == [pytest.approx(mean)]
    assert [read for read, _ in training.progress.curve] == [
        20 * SMALL.window * training.train_data[0].shape[1] * (point + 1) for point in range(len(losses) // 20)
    ]


def test_a_new_run_keeps_the_checkpoint_of_the_one_before(tmp_path: Path, text: Path) -> None:
    common = ("demo", "--text", text, "--out", tmp_path, "--epochs", 1, "--hidden-size", 4)
    assert run(*common).exit_code == 0
    before = (tmp_path / "model.safetensors").read_bytes()
    result = run(*common, "--seed", 1)
    assert "the checkpoint of an earlier run is kept as" in result.output
    assert (tmp_path / "previous.safetensors").read_bytes() == before
    assert (tmp_path / "model.safetensors").read_bytes() != before


def test_resume_with_other_settings_is_refused(tmp_path: Path, text: Path) -> None:
    common = ("demo", "--text", text, "--out", tmp_path, "--hidden-size", 4)
    assert run(*common, "--epochs", 1).exit_code == 0
    result = run(*common, "--epochs", 2, "--resume", "--cell", "gru")
    assert result.exit_code == 1
    assert "--cell gru is not what" in one_line(result.output)
    assert "was trained with, lstm: leave it out" in one_line(result.output)
    assert run(*common, "--epochs", 1, "--resume", "--cell", "lstm").exit_code == 0


def test_an_interrupt_saves_what_was_done_and_the_run_goes_on_bit_for_bit(
    tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ("demo", "--text", text, "--epochs", 1, "--hidden-size", 4)
    assert run(*common, "--out", tmp_path / "whole").exit_code == 0
    epoch = Training.epoch

    def interrupted(self: Training) -> Any:
        for count, item in enumerate(epoch(self)):
            if count == 5:
                signal.raise_signal(signal.SIGINT)
            yield item

    with monkeypatch.context() as patch:
        patch.setattr(Training, "epoch", interrupted)
        result = run(*common, "--out", tmp_path / "parts")
    assert result.exit_code == 130
    assert "stopped;" in result.output
    assert "go on from it with --resume" in one_line(result.output)
    result = run(*common, "--out", tmp_path / "parts", "--resume")
    assert result.exit_code == 0, result.output
    for name, value in weights(tmp_path / "whole").items():
        np.testing.assert_array_equal(value, weights(tmp_path / "parts")[name])


def test_resume_with_a_foreign_checkpoint_or_another_text_is_refused(tmp_path: Path, text: Path) -> None:
    assert run("demo", "--text", text, "--out", tmp_path, "--epochs", 1, "--hidden-size", 4).exit_code == 0
    other = tmp_path / "other.txt"
    other.write_text(text.read_text(encoding="utf-8")[::-1], encoding="utf-8")  # of the same characters
    result = run("demo", "--text", other, "--out", tmp_path, "--resume")
    assert result.exit_code == 1
    assert "the text is not the one that" in one_line(result.output)
    save_checkpoint(tmp_path / "model.safetensors", {"program": "something else"})
    result = run("demo", "--text", text, "--out", tmp_path, "--resume")
    assert result.exit_code == 1
    assert "is a checkpoint of another program" in one_line(result.output)
    save_checkpoint(tmp_path / "model.safetensors", {"program": "minigrad demo", "settings": {"warmup": 3}})
    result = run("demo", "--text", text, "--out", tmp_path, "--resume")
    assert result.exit_code == 1
    assert "was written by another version of 'minigrad demo'" in one_line(result.output)


def test_a_cell_whose_outputs_have_another_size_runs(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Wide(mg.GRUCell):
        def step(self, x: mg.Tensor, state: mg.Tensor) -> Any:
            h, state = super().step(x, state)
            return mg.concat([h, x], axis=-1), state

        @property
        def output_size(self) -> int:
            return self.hidden_size + self.input_size

    monkeypatch.setattr("minigrad.registry.cell", lambda name, *sizes: Wide(*sizes))
    training = Training(words, SMALL)
    assert training.model.output.weight.shape == (len(training.characters), 12 + 12 + 64)
    assert math.isfinite(training.evaluate())


@pytest.mark.host_only("draws a picture")
def test_the_curve_is_drawn_and_without_matplotlib_that_is_said_once(
    tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ("demo", "--text", text, "--epochs", 2, "--hidden-size", 4)
    assert run(*common, "--out", tmp_path / "with").exit_code == 0
    from matplotlib import image

    picture = image.imread(tmp_path / "with" / "curve.png")
    assert np.ptp(picture[..., :3].reshape(-1, 3), axis=0).min() > 0.5  # something is drawn in colour
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run(*common, "--out", tmp_path / "without")
    assert result.exit_code == 0
    assert result.output.count("matplotlib is not installed") == 1
    assert (tmp_path / "without" / "samples.txt").exists()
    assert not (tmp_path / "without" / "curve.png").exists()
