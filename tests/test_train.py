"""The trainer: what it computes, what it reports, when it stops, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from train_runs import Classifier, assert_same, classify, examples, make, state_of

import minigrad as mg
from minigrad.train import Batches, Callback, Trainer


class Slope(mg.Module):
    """y = w * x."""

    def __init__(self, w: float = 0.0) -> None:
        self.w = mg.Parameter([w])

    def forward(self, x: Any) -> Any:
        return self.w * x


def fit_slope(model: Any, batch: Any) -> Any:
    x, y = batch
    return mg.mean(mg.square(model(x) - y))


def slope_trainer(step: Any = fit_slope, lr: float = 0.1, w: float = 0.0, **options: Any) -> Trainer:
    model = Slope(w)
    return Trainer(model, mg.optimizer("sgd", model.parameters(), lr=lr), step, progress=False, **options)


def pairs(*values: float) -> Batches:
    return Batches([(x, 2 * x) for x in values], 2, shuffle=False)


def test_updates_are_those_of_a_loop_by_hand(tmp_path: Path) -> None:
    data = Batches(examples(), 4, seed=5)
    mg.seed(0)
    theirs = Classifier()
    optimizer = mg.optimizer("adam", theirs.parameters(), lr=0.05)
    for epoch in range(2):
        for batch in data.batches(epoch):
            theirs.zero_grad()
            loss, _ = classify(theirs, batch)
            loss.backward()
            mg.clip_grad_norm(theirs.parameters(), 0.2)
            optimizer.step()
    mg.seed(0)
    mine = Classifier()
    trainer = Trainer(
        mine, mg.optimizer("adam", mine.parameters(), lr=0.05), classify, clip_norm=0.2, out=tmp_path, progress=False
    )
    history = trainer.fit(data, Batches(examples(9, 1), 4), epochs=2)
    assert (history.stopped, trainer.progress.step) == ("epochs", 2 * len(data))
    assert_same(mine.state_dict(), theirs.state_dict())


@pytest.mark.parametrize("kind", ["batches", "streams"])
def test_a_seed_makes_a_run_repeatable(kind: str) -> None:
    states = []
    for seed in (4, 4, 5):
        mg.seed(seed)
        trainer, train, validation = make(kind, None)
        trainer.fit(train, validation, epochs=2)
        states.append(state_of(trainer))
    assert_same(states[0], states[1])
    assert states[0]["record 2.train_loss"] != states[2]["record 2.train_loss"]


def test_means_are_over_examples_and_over_what_pairs_count() -> None:
    def step(model: Any, batch: Any) -> Any:
        x, y = batch
        loss = mg.mean(mg.square(model(x) - y))
        return loss, {"x": mg.mean(x), "words": (x.sum(), 10 * batch.size), "many": batch.size, "none": (0, 0)}

    trainer = slope_trainer(step, lr=0.0)
    measured = trainer.evaluate(pairs(1.0, 2.0, 6.0))  # batches of 2 and 1: the mean of batch means would be 3.75
    assert measured == pytest.approx({"loss": 4 * 41 / 3, "x": 3.0, "words": 0.3, "many": 5 / 3, "none": 0.0})
    history = trainer.fit(pairs(1.0, 2.0, 6.0), pairs(6.0, 1.0, 1.0), epochs=1)
    assert history["train_x"] == [3.0]
    assert history["validation_x"] == pytest.approx([8 / 3])
    assert history["train_loss"] == pytest.approx([4 * 41 / 3])
    with pytest.raises(KeyError, match="no epoch has 'validation_loss '; there are: epoch, step"):
        history["validation_loss "]


def test_evaluating_leaves_modes_gradients_and_random_numbers_alone() -> None:
    class Noisy(Slope):
        def __init__(self) -> None:
            super().__init__()
            self.frozen, self.drop = mg.Dropout(0.5), mg.Dropout(0.5)

    seen = []

    def step(model: Any, batch: Any) -> Any:
        seen.append((model.training, model.frozen.training, model.drop.training, model(batch[0]).requires_grad))
        mg.uniform()
        return fit_slope(model, batch)

    model = Noisy()
    model.frozen.eval()
    trainer = Trainer(model, mg.optimizer("sgd", model.parameters(), lr=0.1), step, progress=False)
    mg.seed(3)
    expected = mg.uniform().item()
    mg.seed(3)
    trainer.evaluate(pairs(1.0))
    assert mg.uniform().item() == expected
    trainer.fit(pairs(1.0), pairs(1.0), epochs=1)
    assert seen == [(False, False, False, False), (True, False, True, True), (False, False, False, False)]
    assert (model.training, model.frozen.training, model.drop.training) == (True, False, True)
    model.eval()
    trainer.fit(pairs(1.0), epochs=1)
    assert seen[-1][0]


# --- when it stops


def scores(values: list[float]) -> Any:
    """A step whose validation metric takes these values, one per epoch, and whose weight counts the updates."""
    rest = iter(values)

    def step(model: Any, batch: Any) -> Any:
        return -mg.sum(model.w), {} if model.training else {"score": next(rest)}

    return step


@pytest.mark.parametrize("out", [False, True])
@pytest.mark.parametrize(
    ("mode", "values", "patience", "epochs", "best", "stopped"),
    [
        ("min", [5, 3, 4, 3, 1, 1], 2, 4, 2, "patience"),
        ("max", [5, 3, 7, 7, 6, 6, 9], 3, 6, 3, "patience"),
        ("max", [5, 6, 7], 1, 3, 3, "epochs"),
        ("min", [1, 2, 3], 5, 3, 1, "epochs"),
    ],
)
def test_early_stopping_ends_the_run_and_restores_the_best_weights(
    tmp_path: Path, out: bool, mode: str, values: list[float], patience: int, epochs: int, best: int, stopped: str
) -> None:
    trainer = slope_trainer(scores([float(v) for v in values]), lr=1.0, out=tmp_path if out else None)
    limit = len(values) if stopped == "patience" else epochs
    history = trainer.fit(pairs(1.0), pairs(1.0), epochs=limit, monitor="score", mode=mode, patience=patience)
    assert (history.stopped, len(history.records), history.best_epoch) == (stopped, epochs, best)
    assert history.best == values[best - 1]
    assert trainer.model.w.numpy().tolist() == [best]  # it rises by one each epoch


def test_without_patience_the_last_weights_stay() -> None:
    trainer = slope_trainer(scores([1.0, 2.0, 3.0]), lr=1.0)
    assert trainer.fit(pairs(1.0), pairs(1.0), epochs=3, monitor="score").best_epoch == 1
    assert trainer.model.w.numpy().tolist() == [3]


def test_steps_end_a_run_within_an_epoch_or_with_it() -> None:
    data = pairs(1.0, 2.0, 3.0, 4.0)  # two batches
    for steps, epochs, positions in ((1, [1], 1), (2, [1], 0), (3, [1, 2], 1), (4, [1, 2], 0)):
        trainer = slope_trainer(lr=0.01)
        history = trainer.fit(data, data, steps=steps)
        assert (history.stopped, trainer.progress.step, trainer.progress.position) == ("steps", steps, positions)
        assert history["epoch"] == epochs
        assert history["step"][-1] == steps
        assert history["validation_loss"][-1] == pytest.approx(trainer.evaluate(data)["loss"])


def test_a_callback_can_stop_the_run() -> None:
    class Stop(Callback):
        def on_epoch_end(self, trainer: Any, record: Any) -> None:
            if record["train_loss"] < 1.0:
                trainer.stop("good enough")
                trainer.stop("another reason")

    history = slope_trainer(callbacks=[Stop()]).fit(pairs(1.0), epochs=50)
    assert history.stopped == "good enough"
    losses = history["train_loss"]
    assert losses[-1] < 1.0 <= losses[-2]


class Log(Callback):
    def __init__(self) -> None:
        self.events: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("on_"):
            return lambda trainer, *arguments: self.events.append(" ".join([name[3:], *map(self.told, arguments)]))
        return super().__getattribute__(name)

    def told(self, value: Any) -> str:
        return value.name[-7:] if isinstance(value, Path) else str(value["step"])


def test_callbacks_are_told_of_everything_in_order(tmp_path: Path) -> None:
    class Both(Log):
        def told(self, value: Any) -> str:
            return value.stem[-2:] if isinstance(value, Path) else str(value["step"])

    log = Both()
    slope_trainer(out=tmp_path, callbacks=[log]).fit(pairs(1.0, 2.0, 3.0), epochs=2)
    first = ["epoch_start", "step_end 1", "step_end 2", "epoch_end 2", "save 02"]
    second = ["epoch_start", "step_end 3", "step_end 4", "epoch_end 4", "save 04"]
    assert log.events == ["fit_start", "save 00", *first, *second, "fit_end"]


def test_callbacks_are_closed_after_an_error_and_checkpoints_come_in_time(tmp_path: Path) -> None:
    def step(model: Any, batch: Any) -> Any:
        if len(log.events) > 4:
            raise RuntimeError("broken")
        return fit_slope(model, batch)

    log = Log()
    with pytest.raises(RuntimeError, match="broken"):
        slope_trainer(step, out=tmp_path, save_every=0, callbacks=[log]).fit(pairs(1.0, 2.0, 3.0), epochs=2)
    assert [event.split()[0] for event in log.events] == [
        "fit_start",
        "save",
        "epoch_start",
        "step_end",
        "save",
        "fit_end",
    ]


def test_records_tell_step_rate_norm_and_padding(tmp_path: Path) -> None:
    class Keep(Callback):
        def __init__(self) -> None:
            self.records: list[Any] = []

        def on_step_end(self, trainer: Any, record: Any) -> None:
            self.records.append(dict(record))

    keep = Keep()
    trainer = slope_trainer(out=tmp_path, callbacks=[keep], clip_norm=1.0)
    trainer.fit(pairs(3.0), epochs=2)
    assert keep.records[0] == {"step": 1, "lr": 0.1, "grad_norm": 36.0, "size": 1, "loss": 36.0}
    assert trainer.model.w.numpy() == pytest.approx(0.2)  # two clipped steps
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert lines == trainer.records
    assert [(line["epoch"], line["step"], line["padding"]) for line in lines] == [(1, 1, 0.0), (2, 2, 0.0)]
    assert lines[0].keys() == {"epoch", "step", "seconds", "lr", "padding", "train_loss"}
    trainer, train, validation = make("batches", None)
    assert trainer.fit(train, validation, epochs=2)["padding"] == [train.padding(0), train.padding(1)]


# --- what it refuses


@pytest.mark.host_only("messages")
@pytest.mark.parametrize(
    ("result", "message"),
    [
        (lambda loss: None, r"step\(model, batch\) must return a loss.*it returned NoneType"),
        (lambda loss: loss.item(), "it returned float"),
        (lambda loss: mg.stack([loss, loss]), r"it returned Tensor\[2\]"),
        (lambda loss: (loss, 3), "the metrics must be a dict.*step returned int"),
        (lambda loss: (loss, {"loss": 3}), r"'loss' can only be a pair \(sum, count\)"),
        (lambda loss: (loss, {"loss": (1.0, 2.0, 3.0)}), "the metric 'loss' must be a number"),
        (lambda loss: (loss, {"lr": 1.0}), "a metric cannot be called 'lr': the record of an update has that"),
        (lambda loss: (loss, {"a": "b"}), "the metric 'a' must be a number.*it is|returned str"),
        (lambda loss: (loss, {"a": mg.ones(2)}), r"returned Tensor\[2\]"),
        (lambda loss: loss.detach(), "no parameter of the model has a gradient"),
    ],
)
def test_what_is_no_loss_is_refused(result: Any, message: str) -> None:
    trainer = slope_trainer(lambda model, batch: result(fit_slope(model, batch)))
    with pytest.raises((TypeError, ValueError), match=message):
        trainer.fit(pairs(1.0), epochs=1)
    assert trainer.progress.step == 0


@pytest.mark.host_only("messages")
def test_wrong_arguments_are_named() -> None:
    model = Slope()
    optimizer = mg.optimizer("sgd", model.parameters(), lr=0.1)
    for options, message in (
        ({"clip_norm": 0}, "clip_norm is a number above 0"),
        ({"save_every": -1}, "save_every is a number of seconds"),
        ({"callbacks": [print]}, "callbacks are objects of subclasses"),
        ({"keep": 0, "out": "x"}, "keep is a number of checkpoints"),
        ({"schedule": 0.5}, "a schedule is a function"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            Trainer(model, optimizer, fit_slope, **options)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"model must be a mg\.Module"):
        Trainer(fit_slope, optimizer, fit_slope)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="step must be a function"):
        Trainer(model, optimizer, "mse")  # type: ignore[arg-type]
    trainer, data = slope_trainer(), pairs(1.0)
    for options, message in (
        ({}, "give either epochs or steps"),
        ({"epochs": 1, "steps": 1}, "give either epochs or steps"),
        ({"epochs": 0}, "epochs is an integer of at least 1"),
        ({"steps": 1.5}, "steps is an integer of at least 1"),
        ({"epochs": 1, "patience": 1}, "give validation data"),
        ({"epochs": 1, "monitor": "x"}, "give validation data"),
        ({"epochs": 1, "validation": data, "mode": "most"}, "mode is one of"),
        ({"epochs": 1, "validation": [1]}, "validation must be data such as"),
        ({"epochs": 1, "validation": data, "monitor": "x"}, r"monitor is 'x'; the metrics .* are \['loss'\]"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            trainer.fit(data, **options)  # type: ignore[arg-type]


def test_data_of_ones_own_serves(tmp_path: Path) -> None:
    class Endless:
        """One batch, made anew each time."""

        def __len__(self) -> int:
            return 3

        def batches(self, epoch: Any = None, start: int = 0, state: Any = None) -> Any:
            assert state is None  # each epoch begins anew, though the last batch has left a state
            for _ in range(start, 3):
                yield Made()

        def state_dict(self) -> dict[str, Any]:
            return {}

        def load_state_dict(self, state: Any) -> None: ...

    class Made:
        size, next_state = 2, mg.ones(1)
        x = mg.tensor(np.array([1.0, 2.0], "float32"))

    trainer = slope_trainer(lambda model, batch: mg.mean(mg.square(model(Made.x) - 2 * Made.x)), out=tmp_path)
    trainer.fit(Endless(), Endless(), epochs=20)
    assert trainer.model.w.numpy() == pytest.approx(2.0, rel=1e-3)
    Made.size = 0
    with pytest.raises(TypeError, match="a batch must have an attribute `size`"):
        trainer.evaluate(Endless())
