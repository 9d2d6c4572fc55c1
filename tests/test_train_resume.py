"""A run that was stopped, killed or crashed goes on bit for bit; a checkpoint that does not fit changes nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from train_runs import EPOCHS, Average, Language, assert_same, characters, classify, examples, make, state_of

import minigrad as mg
from minigrad.checkpoint import load_checkpoint, save_checkpoint
from minigrad.train import Batches, Callback, Plateau, StepDecay, Streams, Trainer

KINDS = ["batches", "streams", "reaching streams", "ragged streams"]


class Crash(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, trainer: Any, record: Any) -> None:
        if record["step"] == self.step:
            raise RuntimeError("crash")


def undisturbed(kind: str) -> dict[str, Any]:
    return _undisturbed(kind, mg.get_backend().name)


@cache
def _undisturbed(kind: str, backend: str) -> dict[str, Any]:
    mg.seed(0)
    trainer, train, validation = make(kind, None)
    trainer.fit(train, validation, epochs=EPOCHS)
    return state_of(trainer)


def resumed(kind: str, out: Path) -> dict[str, Any]:
    """A run that goes on with what is in `out`, where the seed, and so all random numbers, are others."""
    mg.seed(77)
    trainer, train, validation = make(kind, out)
    trainer.fit(train, validation, epochs=EPOCHS, resume=True)
    return state_of(trainer)


def contents_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [1, 6, 7, 13])
def test_a_crashed_run_goes_on_bit_for_bit(tmp_path: Path, kind: str, step: int) -> None:
    mg.seed(0)
    trainer, train, validation = make(kind, tmp_path, [Crash(step)], save_every=0)
    with pytest.raises(RuntimeError, match="crash"):
        trainer.fit(train, validation, epochs=EPOCHS)
    assert trainer.saves.paths()[-1].name == f"step-{step - 1:08}.safetensors"
    assert_same(resumed(kind, tmp_path), undisturbed(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_a_finished_run_can_go_on_for_more_epochs(tmp_path: Path, kind: str) -> None:
    mg.seed(0)
    trainer, train, validation = make(kind, tmp_path)
    trainer.fit(train, validation, epochs=1)
    assert_same(resumed(kind, tmp_path), undisturbed(kind))


def test_a_run_cut_short_by_steps_goes_on_bit_for_bit(tmp_path: Path) -> None:
    mg.seed(0)
    trainer, train, validation = make("batches", tmp_path)
    history = trainer.fit(train, validation, steps=8)
    assert (history.stopped, history["step"], history["epoch"]) == ("steps", [6, 8], [1, 2])
    assert trainer.progress.position == 2
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2
    assert_same(resumed("batches", tmp_path), undisturbed("batches"))
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == EPOCHS


def test_the_best_weights_of_before_are_restored_and_the_rates_are_those_of_before(tmp_path: Path) -> None:
    values = iter([5.0, 1.0, 2.0, 3.0, 4.0])

    def step(model: Any, batch: Any) -> Any:
        return mg.sum(model.weight) + 0 * mg.mean(batch[0]), {} if model.training else {"score": next(values)}

    def run(lr: float, epochs: int, resume: bool) -> Any:
        model = mg.Linear(1, 1, bias=False)
        model.weight.data = mg.tensor([[8.0]]).data
        optimizer = mg.optimizer("sgd", model.parameters(), lr=lr)
        trainer = Trainer(model, optimizer, step, schedule=StepDecay(2, 0.5), out=tmp_path, progress=False)
        data = Batches([(1.0,)], 1)
        return model, trainer.fit(data, data, epochs=epochs, monitor="score", patience=3, resume=resume)

    model, _ = run(1.0, 3, resume=False)
    assert model.weight.item() == 6.0
    model, history = run(100.0, 9, resume=True)
    assert (history.stopped, history.best_epoch, history["lr"]) == ("patience", 2, [1.0, 1.0, 0.5, 0.5, 0.25])
    assert model.weight.item() == 6.0
    assert load_checkpoint(sorted(tmp_path.glob("step-*"))[-1])["model"]["weight"].item() == 4.75


@pytest.mark.host_only("NumPy's layouts")
def test_arrays_have_the_layout_in_which_a_checkpoint_gives_them_back() -> None:
    """A product may round otherwise for another layout, and then a resumed run would differ in the last bit."""

    def step(model: Any, batch: Any) -> Any:
        batch.next_state = (mg.tensor(np.zeros((2, 3), order="F")),)
        model.weight.grad = mg.tensor(np.ones((2, 3), "float32", order="F"))
        assert not model.weight.grad.data.flags.c_contiguous
        assert model.weight.data.flags.c_contiguous
        return mg.tensor(1.0)

    model = mg.Linear(3, 2, bias=False)
    model.weight.data = np.asfortranarray(model.weight.data)
    trainer = Trainer(model, mg.optimizer("adam", model.parameters()), step, progress=False)
    trainer.fit(Batches([(1.0,)] * 4, 1), steps=3)
    (carried,) = trainer.carried
    state = next(iter(trainer.optimizer.state.values()))
    for array in (model.weight.data, model.weight.grad.data, state["mean"], carried.data):
        assert array.flags.c_contiguous


@pytest.mark.host_only("a process of its own")
@pytest.mark.parametrize(
    ("kind", "how", "when"), [("batches", "step", 9), ("streams", "step", 10), ("batches", "write", 9)]
)
def test_a_killed_run_goes_on_bit_for_bit(tmp_path: Path, kind: str, how: str, when: int) -> None:
    program = [sys.executable, Path(__file__).with_name("train_runs.py"), kind, tmp_path, how, str(when)]
    killed = subprocess.run(program, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    parts = list(tmp_path.glob("*.part"))
    assert len(parts) == (how == "write")
    assert_same(resumed(kind, tmp_path), undisturbed(kind))
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.host_only("counts files")
def test_the_last_and_the_best_checkpoints_stay_and_are_whole(tmp_path: Path) -> None:
    trainer, train, validation = make("batches", tmp_path, keep=3)
    history = trainer.fit(train, validation, epochs=EPOCHS)
    names = [f"step-{step:08}.safetensors" for step in (6, 12, 18)]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "best.safetensors", "metrics.jsonl"])
    best = load_checkpoint(tmp_path / "best.safetensors")
    assert best["progress"]["best_epoch"] == best["progress"]["epoch"] == history.best_epoch
    trainer.model.load_state_dict(best["model"])
    assert trainer.evaluate(validation)["loss"] == history.best


# --- Ctrl-C


@pytest.mark.host_only("signals")
@pytest.mark.parametrize("kind", ["batches", "streams"])
def test_ctrl_c_saves_and_stops_cleanly(tmp_path: Path, kind: str) -> None:
    class Press(Callback):
        def on_step_end(self, trainer: Any, record: Any) -> None:
            if record["step"] == 8:
                signal.raise_signal(signal.SIGINT)

    mg.seed(0)
    trainer, train, validation = make(kind, tmp_path, [Press()])
    before = signal.getsignal(signal.SIGINT)
    assert trainer.fit(train, validation, epochs=EPOCHS, patience=9).stopped == "interrupted"
    assert signal.getsignal(signal.SIGINT) is before
    assert trainer.progress.step == 8
    assert trainer.saves.paths()[-1].name == "step-00000008.safetensors"
    assert_same(trainer.model.state_dict(), load_checkpoint(trainer.saves.paths()[-1])["model"])  # not the best ones
    assert_same(resumed(kind, tmp_path), undisturbed(kind))


@pytest.mark.host_only("signals")
def test_ctrl_c_in_a_validation_leaves_the_epoch_to_be_closed(tmp_path: Path) -> None:
    def press(model: Any, batch: Any) -> Any:
        if not model.training and trainer.progress.epoch == 1 and not pressed:
            pressed.append(True)
            signal.raise_signal(signal.SIGINT)
        return classify(model, batch)

    pressed: list[bool] = []
    mg.seed(0)
    trainer, train, validation = make("batches", tmp_path)
    trainer.step = trainer.updater.step = press
    assert trainer.fit(train, validation, epochs=EPOCHS).stopped == "interrupted"
    assert (trainer.progress.epoch, trainer.progress.position, len(trainer.records)) == (1, len(train), 1)
    assert_same(resumed("batches", tmp_path), undisturbed("batches"))


@pytest.mark.host_only("signals")
def test_ctrl_c_pressed_twice_ends_at_once_and_other_threads_are_left_alone(tmp_path: Path) -> None:
    class Press(Callback):
        def on_step_end(self, trainer: Any, record: Any) -> None:
            for _ in range(2):
                signal.raise_signal(signal.SIGINT)

    trainer, train, validation = make("batches", tmp_path / "a", [Press()])
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(train, validation, epochs=1)
    trainer, train, validation = make("batches", tmp_path / "b")
    reasons: list[str] = []
    thread = threading.Thread(target=lambda: reasons.append(trainer.fit(train, validation, epochs=1).stopped))
    thread.start()
    thread.join()
    assert reasons == ["epochs"]


# --- checkpoints that do not fit


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """A folder with the checkpoints of a run of two epochs."""
    mg.seed(0)
    trainer, train, validation = make("batches", tmp_path)
    trainer.fit(train, validation, epochs=2)
    return tmp_path


def check_refused(trainer: Trainer, train: Any, validation: Any, message: str, error: Any = mg.CheckpointError) -> None:
    """Resuming fails with this message, and nothing of the trainer, the data or the folder has changed."""
    random_before = mg.backend.random_state()
    before, seed = state_of(trainer), getattr(train, "seed", None)
    mg.backend.set_random_state(random_before)
    files = contents_of(trainer.saves.folder)
    with pytest.raises(error, match=message):
        trainer.fit(train, validation, epochs=4, resume=True)
    assert_same(state_of(trainer), before)
    assert getattr(train, "seed", None) == seed
    assert contents_of(trainer.saves.folder) == files


@pytest.mark.host_only("files hold host arrays")
def test_a_damaged_checkpoint_is_refused_and_the_one_before_named(stopped: Path) -> None:
    older, path = sorted(stopped.glob("step-*"))
    whole = path.read_bytes()
    for damaged in (whole[:-9], whole[: len(whole) // 2], b"", b"x" * 500):
        path.write_bytes(damaged)
        check_refused(
            *make("batches", stopped), f"is damaged, or no safetensors file.*; delete it to go on from {older.name}"
        )
    path.unlink()
    assert_same(resumed("batches", stopped), undisturbed("batches"))


@pytest.mark.host_only("files hold host arrays")
def test_a_foreign_checkpoint_is_refused(stopped: Path) -> None:
    path = sorted(stopped.glob("step-*"))[-1]
    save_file({"w": np.ones(2)}, path)
    check_refused(*make("batches", stopped), "was not written by minigrad")
    save_checkpoint(path, {"program": "minigrad demo", "model": {}})
    check_refused(*make("batches", stopped), r"was not written by mg\.Trainer")
    save_checkpoint(path, {"program": "minigrad trainer", "model": {}})
    check_refused(*make("batches", stopped), "nothing was changed: it lacks 'data'")


@pytest.mark.host_only("files hold host arrays")
@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("model", {"x": np.ones(1)}, "missing: layer.cell.weight_ih"),
        ("optimizer", {}, "missing: algorithm"),
        ("schedule", {"first": {}, "second": {"waited": 1}}, r"WarmUp remembers|joined schedules|Joined"),
        ("schedule", None, "the run was without a schedule"),
        ("callbacks", {"Other": {"x": 1}}, r"the run had the callback Other.*this trainer has \['Average'\]"),
        ("callbacks", {"Average": {}}, "it lacks 'weights'"),
        ("progress", {"epochs": 3}, "epochs"),
        ("random_state", {"bit_generator": "MT19937"}, "PCG64"),
        ("carried", [np.ones(3)], "next_state"),
    ],
)
def test_a_checkpoint_with_one_part_that_does_not_fit_changes_nothing(
    stopped: Path, part: str, value: Any, message: str
) -> None:
    path = sorted(stopped.glob("step-*"))[-1]
    save_checkpoint(path, {**load_checkpoint(path), part: value})
    check_refused(*make("batches", stopped), message)


@pytest.mark.host_only("files hold host arrays")
def test_other_data_another_model_or_another_monitor_are_refused(stopped: Path) -> None:
    trainer, train, validation = make("batches", stopped)
    check_refused(trainer, Batches(examples(23, seed=5), 4), validation, "not what the run began with: sha256 was")
    check_refused(trainer, Batches(examples(), 5), validation, "batch_size was 4, and is 5")
    text = characters(10)
    check_refused(trainer, Streams(text[:-1], text[1:], 5), validation, "kind was Batches, and is Streams")
    with pytest.raises(ValueError, match="goes by the min loss; resume it with that, not max accuracy"):
        trainer.fit(train, validation, epochs=3, resume=True, monitor="accuracy", mode="max")
    model = Language()
    other = Trainer(
        model, mg.optimizer("sgd", model.parameters(), lr=0.1), classify, out=stopped, callbacks=[Average()]
    )
    check_refused(other, train, validation, "the state dict does not fit Language")
    plain = Trainer(
        trainer.model, mg.optimizer("adam", trainer.model.parameters()), classify, out=stopped, callbacks=[Average()]
    )
    check_refused(plain, train, validation, "the run was with a schedule")
    plateau = Trainer(
        trainer.model, trainer.optimizer, classify, out=stopped, callbacks=[Average()], schedule=Plateau(1)
    )
    check_refused(plateau, train, validation, "Plateau remembers")


@pytest.mark.host_only("files hold host arrays")
def test_a_carried_state_of_another_shape_is_refused(tmp_path: Path) -> None:
    trainer, train, validation = make("streams", tmp_path, save_every=0)
    trainer.fit(train, validation, steps=3)
    path = trainer.saves.paths()[-1]
    contents = load_checkpoint(path)
    assert len(contents["carried"]) == 3
    save_checkpoint(path, {**contents, "carried": contents["carried"][:2]})
    check_refused(*make("streams", tmp_path), "the carried state had tensors of the shapes")


@pytest.mark.host_only("looks at files")
def test_a_run_is_not_overwritten_and_none_is_not_resumed(stopped: Path, tmp_path: Path) -> None:
    files = contents_of(stopped)
    trainer, train, validation = make("batches", stopped)
    with pytest.raises(FileExistsError, match=r"holds another run \(step-00000012.*resume=True"):
        trainer.fit(train, validation, epochs=1)
    assert contents_of(stopped) == files
    trainer, train, validation = make("batches", tmp_path / "nowhere")
    with pytest.raises(mg.CheckpointError, match=r"there is no checkpoint in .*nowhere; leave out resume=True"):
        trainer.fit(train, validation, epochs=1, resume=True)
    trainer, train, validation = make("batches", None)
    with pytest.raises(ValueError, match="resume needs the folder"):
        trainer.fit(train, validation, epochs=1, resume=True)


def test_an_interrupted_write_leaves_the_checkpoints_there_are(stopped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents_of(stopped)
    trainer, train, validation = make("batches", stopped)

    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            trainer.fit(train, validation, epochs=3, resume=True)
    assert {name: data for name, data in contents_of(stopped).items() if name != "metrics.jsonl"} == {
        name: data for name, data in before.items() if name != "metrics.jsonl"
    }
    assert_same(resumed("batches", stopped), undisturbed("batches"))
