"""The trainer where runs begin, are cut short and go on, and what it refuses before it could do harm."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from train_runs import assert_same, make, state_of

import minigrad as mg
from minigrad.checkpoint import load_checkpoint
from minigrad.train import Batches, Callback, Plateau, Schedule, StepDecay, Trainer, WarmUp


class Count(mg.Module):
    """A weight that rises by one each update, with SGD of rate 1."""

    def __init__(self) -> None:
        self.w = mg.Parameter([0.0])


def rise(model: Any, batch: Any) -> Any:
    return -mg.sum(model.w)


def scored(values: list[float]) -> Any:
    """The same, with a metric that takes these values at the validations."""
    rest = iter(values)
    return lambda model, batch: (rise(model, batch), {} if model.training else {"score": next(rest)})


def counting(step: Any = rise, **options: Any) -> Trainer:
    model = Count()
    return Trainer(model, mg.optimizer("sgd", model.parameters(), lr=1.0), step, progress=False, **options)


def numbers(count: int = 4) -> Batches:
    """As many batches of one example."""
    return Batches([(float(i),) for i in range(count)], 1)


class StopAt(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, trainer: Any, record: Any) -> None:
        if record["step"] == self.step:
            trainer.stop("enough")


# --- epochs cut short


def test_resuming_a_run_that_is_over_reports_the_epoch_cut_short_as_before(tmp_path: Path) -> None:
    mg.seed(0)
    trainer, train, validation = make("batches", tmp_path)
    before, state = trainer.fit(train, validation, steps=8), state_of(trainer)
    again, train, validation = make("batches", tmp_path)
    after = again.fit(train, validation, steps=8, resume=True)
    assert before.records[1]["train_loss"] > 0
    assert after.records == [before.records[0], {**before.records[1], "seconds": after.records[1]["seconds"]}]
    assert_same(state_of(again), state)


@pytest.mark.parametrize("stop", [5, 8])
def test_an_epoch_that_a_callback_cuts_short_is_recorded_and_goes_on(tmp_path: Path, stop: int) -> None:
    mg.seed(0)
    trainer, train, validation = make("batches", None)
    trainer.fit(train, validation, epochs=3)
    undisturbed = state_of(trainer)
    mg.seed(0)
    trainer, train, validation = make("batches", tmp_path, [StopAt(stop)])
    history = trainer.fit(train, validation, epochs=3)
    assert (history.stopped, history["step"][-1]) == ("enough", stop)
    assert history["validation_loss"][-1] == pytest.approx(trainer.evaluate(validation)["loss"])
    trainer, train, validation = make("batches", tmp_path)
    trainer.fit(train, validation, epochs=3, resume=True)
    assert_same(state_of(trainer), undisturbed)


def test_an_epoch_cut_short_can_be_the_best(tmp_path: Path) -> None:
    trainer = counting(scored([2.0, 3.0, 1.0]), out=tmp_path)
    history = trainer.fit(numbers(), numbers(1), steps=10, monitor="score", patience=5)
    assert (history.best, history.best_epoch, history["validation_score"]) == (1.0, 3, [2.0, 3.0, 1.0])
    assert trainer.model.w.item() == 10.0
    assert load_checkpoint(tmp_path / "best.safetensors")["model"]["w"].item() == 10.0
    contents = load_checkpoint(tmp_path / "step-00000010.safetensors")
    assert (contents["progress"]["best"], contents["best"]["w"].item()) == (2.0, 4.0)  # the epoch is not over yet


# --- the best weights


@pytest.mark.parametrize(
    ("options", "restored"),
    [
        ({}, False),
        ({"patience": 5}, True),
        ({"restore_best": True}, True),
        ({"patience": 5, "restore_best": False}, False),
    ],
)
def test_the_best_weights_come_back_as_asked(options: dict[str, Any], restored: bool) -> None:
    trainer = counting(scored([2.0, 1.0, 3.0]))
    history = trainer.fit(numbers(), numbers(1), epochs=3, monitor="score", **options)
    assert history.best_epoch == 2
    assert trainer.model.w.item() == (8.0 if restored else 12.0)


def test_losses_that_are_means_over_words_are_weighed_by_words() -> None:
    def step(model: Any, batch: Any) -> Any:
        words = float(batch[0].sum().item())
        loss = batch.indices[0] + rise(model, batch) * 0
        return loss, {"loss": (loss * words, words)}

    data = Batches([(1.0,), (3.0,), (4.0,)], 1, shuffle=False)
    assert counting(step).fit(data, data, epochs=1)["validation_loss"] == [pytest.approx((0 * 1 + 1 * 3 + 2 * 4) / 8)]


# --- a run begins anew


def test_a_run_that_failed_before_its_first_update_can_simply_be_started_again(tmp_path: Path) -> None:
    def wrong(model: Any, batch: Any) -> Any:
        raise RuntimeError("a slip")

    with pytest.raises(RuntimeError, match="a slip"):
        counting(wrong, out=tmp_path).fit(numbers(), epochs=1)
    assert counting(out=tmp_path).fit(numbers(), epochs=1).stopped == "epochs"
    with pytest.raises(FileExistsError, match="step-00000004"):
        counting(out=tmp_path).fit(numbers(), epochs=1)


def test_a_metric_that_was_misspelt_can_be_corrected_at_the_resume(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"monitor is 'scores'; the metrics on the validation data are.*'score'"):
        counting(scored([1.0]), out=tmp_path).fit(numbers(), numbers(1), epochs=2, monitor="scores")
    trainer = counting(scored([2.0, 1.0, 0.0]), out=tmp_path)
    assert trainer.fit(numbers(), numbers(1), epochs=2, monitor="score", resume=True).best == 1.0
    with pytest.raises(ValueError, match="goes by the min score; resume it with that, not min loss"):
        counting(scored([0.0]), out=tmp_path).fit(numbers(), numbers(1), epochs=3, resume=True)


def test_a_second_run_of_a_trainer_begins_its_schedule_anew() -> None:
    trainer = counting(scored([1.0] * 9), schedule=WarmUp(2) * Plateau(1, 0.5))
    first = trainer.fit(numbers(), numbers(1), epochs=3, monitor="score")
    assert first["lr"] == [1.0, 1.0, 0.5]
    assert trainer.fit(numbers(), numbers(1), epochs=3, monitor="score")["lr"] == first["lr"]


def test_the_optimizer_has_its_own_rates_again_after_a_run(tmp_path: Path) -> None:
    class Failing(Callback):
        def on_step_end(self, trainer: Any, record: Any) -> None:
            seen.append(trainer.optimizer.groups[0]["lr"])
            if record["step"] == 3:
                raise RuntimeError("crash")

    seen: list[float] = []
    trainer = counting(schedule=StepDecay(1, 0.5), callbacks=[Failing()], out=tmp_path, save_every=0)
    with pytest.raises(RuntimeError, match="crash"):
        trainer.fit(numbers(), epochs=1)
    assert (seen, trainer.optimizer.groups[0]["lr"]) == ([1.0, 0.5, 0.25], 1.0)
    trainer = counting(schedule=StepDecay(1, 0.5), out=tmp_path)
    assert trainer.fit(numbers(), epochs=2, resume=True)["lr"] == [0.125, 0.5**7]
    after = Trainer(trainer.model, trainer.optimizer, rise, progress=False)
    assert after.fit(numbers(), epochs=1)["lr"] == [1.0]


@pytest.mark.host_only("processes")
@pytest.mark.skipif(sys.platform == "win32", reason="there are no locks of folders")
def test_two_processes_do_not_write_into_one_folder(tmp_path: Path) -> None:
    other: list[Any] = []

    class Intrude(Callback):
        def on_step_end(self, trainer: Any, record: Any) -> None:
            if record["step"] == 5:
                code = (
                    "import sys; sys.path.insert(0, sys.argv[1]); from train_runs import make; "
                    "trainer, *data = make('batches', sys.argv[2]); trainer.fit(*data, epochs=1, resume=True)"
                )
                program = [sys.executable, "-c", code, Path(__file__).parent, tmp_path]
                other.append(subprocess.run(program, capture_output=True, text=True, check=False))

    trainer, train, validation = make("batches", tmp_path, [Intrude()], save_every=0)
    assert trainer.fit(train, validation, epochs=1).stopped == "epochs"
    assert other[0].returncode == 1
    assert f"another run is writing to {tmp_path} now" in other[0].stderr
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["best.safetensors", "metrics.jsonl", "step-00000005.safetensors", "step-00000006.safetensors"]
    trainer, train, validation = make("batches", tmp_path)
    assert trainer.fit(train, validation, epochs=2, resume=True).stopped == "epochs"  # the lock is gone with the run


@pytest.mark.host_only("threads")
@pytest.mark.skipif(sys.platform == "win32", reason="there are no locks of folders")
def test_nor_do_two_threads_and_a_run_that_fails_lets_go(tmp_path: Path) -> None:
    errors: list[str] = []

    class Intrude(Callback):
        def on_step_end(self, trainer: Any, record: Any) -> None:
            def run() -> None:
                try:
                    counting(out=tmp_path).fit(numbers(), epochs=1)
                except BlockingIOError as error:
                    errors.append(str(error))

            thread = threading.Thread(target=run)
            thread.start()
            thread.join()
            raise RuntimeError("crash")

    with pytest.raises(RuntimeError, match="crash"):
        counting(out=tmp_path, callbacks=[Intrude()]).fit(numbers(), epochs=1)
    assert errors == [f"another run is writing to {tmp_path} now: give this one another folder"]
    assert counting(out=tmp_path).fit(numbers(), epochs=1, resume=True).stopped == "epochs"


@pytest.mark.parametrize("kind", ["batches", "streams"])
def test_a_callback_that_evaluates_and_draws_does_not_change_the_run(kind: str) -> None:
    class Samples(Callback):
        def write(self, trainer: Any, *_: Any) -> None:
            trainer.model.eval()
            mg.normal(shape=5)

        on_fit_start = on_epoch_start = on_step_end = on_epoch_end = write

    def run(*callbacks: Callback) -> dict[str, Any]:
        mg.seed(0)
        trainer, train, validation = make(kind, None, callbacks)
        if kind == "streams":
            trainer.model.layers.training = False  # what was frozen stays so
        modes.append([module.training for _, module in trainer.model.named_modules()])
        trainer.fit(train, validation, epochs=2)
        modes.append([module.training for _, module in trainer.model.named_modules()])
        return state_of(trainer)

    modes: list[list[bool]] = []
    assert_same(run(Samples()), run())
    assert modes[0] == modes[1] == modes[2] == modes[3]


@pytest.mark.parametrize("fails", [False, True])
def test_all_callbacks_are_closed_even_if_one_cannot_be(fails: bool) -> None:
    class Close(Callback):
        def __init__(self, name: str) -> None:
            self.name = name

        def on_step_end(self, trainer: Any, record: Any) -> None:
            if fails:
                raise KeyError("in the run")

        def on_fit_end(self, trainer: Any) -> None:
            closed.append(self.name)
            if self.name == "b":
                raise OSError("no space")

    closed: list[str] = []
    with pytest.raises(OSError, match="no space") as caught:
        counting(callbacks=[Close("a"), Close("b"), Close("c")]).fit(numbers(), epochs=1)
    assert closed == ["a", "b", "c"]
    assert isinstance(caught.value.__context__, KeyError) == fails


# --- what it refuses


@pytest.mark.host_only("messages")
def test_what_could_only_fail_later_is_refused_at_once(tmp_path: Path) -> None:
    class Nothing:
        def __len__(self) -> int:
            return 0

        def batches(self) -> Any:
            return iter(())

    with pytest.raises(ValueError, match="validation holds no batches"):
        counting().fit(numbers(), Nothing(), epochs=1)
    with pytest.raises(TypeError, match="data must be data such as"):
        counting().evaluate([1.0, 2.0])
    with pytest.raises(ValueError, match="restore_best, monitor and mode go by a validation metric"):
        counting().fit(numbers(), epochs=1, restore_best=True)
    for schedule in (Plateau(2), WarmUp(2) * Plateau(2), WarmUp(2).then(2, StepDecay(2) * Plateau(2))):
        with pytest.raises(ValueError, match="the schedule goes by validations, as Plateau does: give validation data"):
            counting(schedule=schedule).fit(numbers(), epochs=1)
    assert not (WarmUp(2) * StepDecay(2)).observes
    with pytest.raises(ValueError, match="the optimizer holds none of the model's parameters"):
        Trainer(Count(), mg.optimizer("sgd", Count().parameters(), lr=1.0), rise)
    file = tmp_path / "file"
    file.write_text("", encoding="utf-8")
    with pytest.raises(NotADirectoryError, match=r"out is a folder for checkpoints and metrics; .* is a file"):
        counting(out=file)
    for seed in (-1, 0.5, True):
        with pytest.raises(ValueError, match="seed is an integer of 0 or more"):
            Batches([(1.0,)], 1, seed=seed)


@pytest.mark.host_only("messages")
@pytest.mark.parametrize("factor", [None, math.nan, math.inf, -0.5, "x"])
def test_a_factor_that_is_none_names_the_schedule(factor: Any) -> None:
    class Wrong(Schedule):
        def __call__(self, step: int) -> Any:
            return 1.0 if step < 2 else factor

    trainer = counting(schedule=Wrong())
    with pytest.raises(ValueError, match="a schedule gives a finite factor of 0 or more; after 2 updates it gave"):
        trainer.fit(numbers(), epochs=1)
    assert trainer.model.w.item() == 2.0


def test_numbers_of_numpy_serve() -> None:
    class One:
        size = np.int64(2)

    class Ones:
        def __len__(self) -> int:
            return 3

        def batches(self, *_: Any) -> Any:
            return iter([One()] * 3)

    trainer = counting(schedule=lambda step: np.float32(0.5))
    history = trainer.fit(Ones(), epochs=np.int64(2))  # type: ignore[arg-type]
    assert (history["step"], trainer.model.w.item()) == ([3, 6], 3.0)
    assert StepDecay(np.int64(2), 0.5)(2) == 0.5  # type: ignore[arg-type]


@pytest.mark.host_only("looks at files")
def test_a_full_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        counting(out=tmp_path).fit(numbers(), epochs=1)
    assert "step-00000000.safetensors could not be written" in caught.value.__notes__[0]
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()] == []
