"""Learning-rate schedules against their formulas, joined, and in the optimizer."""

from __future__ import annotations

import math
from typing import Any

import pytest

import minigrad as mg
from minigrad.train import Callback, Cosine, Plateau, Schedule, StepDecay, Streams, Trainer, Truncated, WarmUp
from minigrad.train.schedules import as_schedule

pytestmark = pytest.mark.host_only("numbers of Python")


def test_each_follows_its_formula() -> None:
    for t in range(60):
        assert StepDecay(every=7, gamma=0.3)(t) == pytest.approx(0.3 ** math.floor(t / 7))
        assert WarmUp(12)(t) == pytest.approx(min(1, (t + 1) / 12))
        down = 0.2 + 0.8 * (math.cos(math.pi * t / 40) + 1) / 2 if t <= 40 else 0.2
        assert Cosine(40, floor=0.2)(t) == pytest.approx(down)
    assert Cosine(10)(10) == 0.0
    assert WarmUp(1)(0) == 1.0


def test_they_multiply_follow_one_another_and_mix_with_functions() -> None:
    both, then = WarmUp(5) * Cosine(20), WarmUp(5).then(5, Cosine(20))
    mixed = (lambda t: 1 / (t + 1)) * StepDecay(3, 0.5)
    three = WarmUp(2).then(4, StepDecay(2, 0.5)).then(9, lambda t: 100.0 + t)
    for t in range(30):
        assert both(t) == WarmUp(5)(t) * Cosine(20)(t)
        assert then(t) == (WarmUp(5)(t) if t < 5 else Cosine(20)(t - 5))
        assert mixed(t) == pytest.approx(0.5 ** (t // 3) / (t + 1))
    assert [three(t) for t in (0, 3, 4, 6, 8, 9, 10)] == [0.5, 1.0, 1.0, 0.5, 0.25, 100.0, 101.0]


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_a_plateau_falls_after_patience_validations_without_a_new_best(patience: int) -> None:
    schedule = Plateau(patience, gamma=0.1)
    falls = waited = 0
    for step, improved in enumerate([False, True, False, False, False, True, False, False, False, False, False, False]):
        waited = 0 if improved else waited + 1
        if waited == patience:
            falls, waited = falls + 1, 0
        schedule.observe(step, improved)
        assert schedule(step) == pytest.approx(0.1**falls)
    assert falls == {1: 10, 2: 4, 3: 3}[patience]


def test_memory_comes_back_through_products_and_sequences() -> None:
    def made() -> Schedule:
        return (WarmUp(3) * Plateau(2, 0.5)).then(10, Plateau(1, 0.1) * Cosine(30))

    schedule, again = made(), made()
    for step in (3, 6, 9):
        schedule.observe(step, False)
    assert schedule(9) == 0.5
    assert schedule(10) == 1.0  # what is to follow has not been told of what was before its turn
    schedule.observe(12, False)
    assert schedule(10) == pytest.approx(0.1)
    again.load_state_dict(schedule.state_dict())
    assert [again(t) for t in range(40)] == [schedule(t) for t in range(40)]
    again.observe(9, False)
    assert again(9) == 0.25
    with pytest.raises(ValueError, match="two joined schedules remember"):
        again.load_state_dict({})
    with pytest.raises(ValueError, match=r"Plateau remembers \['waited', 'falls'\]; the state dict has \['x'\]"):
        Plateau(1).load_state_dict({"x": 1})


class Rates(Callback):
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_step_end(self, trainer: Any, record: Any) -> None:
        self.seen.append((record["lr"], *[group["lr"] for group in trainer.optimizer.groups]))


def test_the_trainer_multiplies_each_groups_own_rate() -> None:
    model, rates = mg.RNN(1, 2), Rates()
    first, *rest = model.parameters()
    optimizer = mg.optimizer("sgd", [{"params": [first], "lr": 0.1}, {"params": rest, "lr": 0.02}])
    trainer = Trainer(
        model, optimizer, Truncated(mg.loss("mse")), schedule=StepDecay(2, 0.5), callbacks=[rates], progress=False
    )
    trainer.fit(Streams(mg.ones((10, 1, 1)), mg.zeros((10, 1, 2)), k1=2), epochs=1)
    factors = [1.0, 1.0, 0.5, 0.5, 0.25]
    assert rates.seen == [(0.1 * f, 0.1 * f, 0.02 * f) for f in factors]
    trainer.fit(Streams(mg.ones((4, 1, 1)), mg.zeros((4, 1, 2)), k1=2), epochs=1)
    assert rates.seen[5] == (0.1, 0.1, 0.02)  # a new run begins with the rates of old


def test_a_plateau_goes_by_the_monitored_metric() -> None:
    values = iter([3.0, 2.0, 2.0, 1.0, 1.0, 1.0])
    model, rates = mg.Linear(1, 1), Rates()

    def step(model: Any, batch: Any) -> Any:
        return mg.mean(model(batch.x)), {} if model.training else {"score": next(values)}

    data = Streams(mg.ones((1, 1, 1)), mg.ones((1, 1, 1)), k1=1)
    optimizer = mg.optimizer("sgd", model.parameters(), lr=1.0)
    trainer = Trainer(model, optimizer, step, schedule=Plateau(1, 0.5), callbacks=[rates], progress=False)
    history = trainer.fit(data, data, epochs=6, monitor="score")
    assert [lr for lr, _ in rates.seen] == [1.0, 1.0, 1.0, 0.5, 0.5, 0.25]
    assert history["lr"] == [1.0, 1.0, 1.0, 0.5, 0.5, 0.25]
    assert (history.best, history.best_epoch) == (1.0, 4)


def test_wrong_arguments_are_named() -> None:
    for wrong in (0, 1.5, True):
        with pytest.raises(ValueError, match="every is an integer of at least 1"):
            StepDecay(every=wrong)
    for wrong in (-0.1, 1.1, "x", math.nan):
        with pytest.raises(ValueError, match=r"gamma is a number in \[0, 1\]"):
            StepDecay(2, wrong)
    with pytest.raises(TypeError, match="a schedule is a function"):
        as_schedule(0.5)
    with pytest.raises(TypeError, match="a schedule is a function"):
        WarmUp(3) * WarmUp
    model = mg.Linear(1, 1)

    class Bare:
        def step(self) -> None: ...

    with pytest.raises(TypeError, match="a schedule needs an optimizer whose groups have an lr"):
        Trainer(model, Bare(), lambda model, batch: None, schedule=WarmUp(3))
