"""A NaN or infinity stops the run, says where it began, and leaves the weights and the checkpoints as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_train import Slope, fit_slope, pairs, slope_trainer
from train_runs import Language, characters

import minigrad as mg
from minigrad.train import Batches, Callback, NonFiniteError, Streams, Trainer, Truncated

pytestmark = pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")


def trouble(step: Any, data: Any, match: str, **options: Any) -> str:
    """The message of a run of this step, which must end in trouble."""
    trainer = slope_trainer(step, **options)
    with pytest.raises(NonFiniteError, match=match) as caught:
        trainer.fit(data, epochs=2)
    return str(caught.value)


def test_a_nan_in_the_loss_names_step_parameter_operation_and_checkpoint(tmp_path: Path) -> None:
    def step(model: Any, batch: Any) -> Any:
        x, _ = batch
        mg.exp(x * 0.0)  # has no part in it
        return mg.mean(mg.square(mg.log(x) + model.w))

    said = trouble(step, pairs(1.0, 2.0, 3.0, -4.0, 5.0, 6.0), "the loss is nan", out=tmp_path, save_every=0)
    assert said.startswith("step 2 (epoch 1, batch 2): the loss is nan; the gradients are not finite: w (nan). ")
    assert (
        "The first operation on the tape to give nan from finite inputs is log, operation 3 of 6, on (2,) in [-4, 3]"
        in said
    )
    assert said.endswith(f"The last good checkpoint is {tmp_path / 'step-00000001.safetensors'}.")


def test_an_infinity_that_turns_into_nan_is_followed_back_to_its_origin() -> None:
    def step(model: Any, batch: Any) -> Any:
        x, _ = batch
        big = mg.exp(x * model.w)
        hidden = mg.where(mg.less(x, 0.0), mg.log(x * 0.0), x)  # infinite where it does not count
        return mg.mean(big / big + hidden)

    said = trouble(step, pairs(1.0, 200.0), "the loss is nan", w=1.0)
    assert "to give inf from finite inputs is exp, operation 2 of" in said
    assert "on (2,) in [1, 200]; the first to make nan of it is divide" in said


def test_a_gradient_names_the_operation_whose_rule_it_was() -> None:
    def step(model: Any, batch: Any) -> Any:
        x, _ = batch
        return mg.mean(mg.sqrt(mg.square(model(x))) + mg.square(model.w))

    said = trouble(step, pairs(1.0), "the gradients are not finite: w")
    assert "the loss is" not in said
    assert "The forward is finite; the first gradient that is inf is that of sqrt, operation" in said
    assert "on (1,) in [0, 0]" in said


def test_weights_that_are_not_finite_are_named_and_never_saved(tmp_path: Path) -> None:
    said = trouble(fit_slope, pairs(1e10, 1e12), "the weights are not finite", lr=1e30, out=tmp_path)
    assert said.startswith("after step 1 the weights are not finite: w (inf). The update has made them so")
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["step-00000000.safetensors"]
    said = trouble(fit_slope, pairs(1.0), "before the first step", w=float("nan"), out=tmp_path / "other")
    assert said == "before the first step the weights are not finite: w (nan). There is no checkpoint."
    said = trouble(fit_slope, pairs(1e10, 1e12, 1.0), "the loss is", lr=1e30)
    assert "step 2 (epoch 1, batch 2): the loss is inf" in said
    assert "The weights are not finite already: w (inf). The update before has made them so" in said
    assert said.endswith("There is no checkpoint: pass out=folder.")


def test_data_that_is_not_finite_is_blamed() -> None:
    said = trouble(fit_slope, pairs(1.0, 2.0, float("nan")), "the loss is nan")
    assert "multiply, operation 1 of 4, on (1,) in [1, 1], (1,) in [nan, nan] has given nan" in said
    assert "its input is not finite already: look at the data" in said


def test_nothing_is_updated_and_the_random_numbers_go_on(tmp_path: Path) -> None:
    def step(model: Any, batch: Any) -> Any:
        x, _ = batch
        noise = mg.normal(shape=x.shape)
        drawn.append(noise.numpy().tolist())
        return mg.mean(mg.sqrt(x * model.w - 1.0) + 0 * noise)

    drawn: list[Any] = []
    trainer = slope_trainer(step, w=1.0)
    before = trainer.optimizer.state_dict()
    mg.seed(2)
    with pytest.raises(NonFiniteError):
        trainer.fit(pairs(0.5), epochs=1)
    assert trainer.model.w.numpy().tolist() == [1.0]
    assert trainer.optimizer.state_dict() == before
    assert len(drawn) == 2
    assert drawn[0] == drawn[1]  # the second time under the tape
    mg.seed(2)
    mg.normal(shape=(1,))
    expected = mg.normal().item()
    mg.seed(2)
    with pytest.raises(NonFiniteError):
        trainer.fit(pairs(0.5), epochs=1)
    assert mg.normal().item() == expected


def test_the_operation_is_found_within_a_layer_that_a_plan_runs() -> None:
    class Diverging(mg.Cell):
        def __init__(self) -> None:
            self.weight = mg.Parameter([3.0])

        def init_state(self, batch_size: int) -> Any:
            return mg.zeros((batch_size, 1))

        def step(self, x: Any, h: Any) -> Any:
            h = mg.square(self.weight * h) + x
            return h, h

    class Model(mg.Module):
        def __init__(self) -> None:
            self.layer = mg.Recurrent(Diverging())

        def forward(self, x: Any, state: Any = None) -> Any:
            return self.layer(x, state)

    model = Model()
    trainer = Trainer(model, mg.optimizer("sgd", model.parameters(), lr=0.0), Truncated(mg.loss("mae")), progress=False)
    with pytest.raises(NonFiniteError) as caught:
        trainer.fit(Streams(mg.ones((12, 1, 1)), mg.zeros((12, 1, 1)), k1=4), epochs=1)
    assert "engine plan" in model.layer.explain()
    said = str(caught.value)
    assert said.startswith(
        "step 2 (epoch 1, batch 2): the loss is inf; the gradients are not finite: layer.cell.weight"
    )
    assert "to give inf from finite inputs is square, operation" in said


def test_gradients_of_truncated_backpropagation_are_traced_too() -> None:
    def loss(outputs: Any, targets: Any) -> Any:
        return mg.mean(mg.sqrt(mg.abs(outputs - outputs.detach())))

    model, text = Language(), characters(10)
    trainer = Trainer(model, mg.optimizer("sgd", model.parameters(), lr=0.1), Truncated(loss), progress=False)
    with pytest.raises(NonFiniteError, match=r"the first gradient that is (inf|nan) is that of (sqrt|abs), operation"):
        trainer.fit(Streams(text[:-1], text[1:], 3, 5), epochs=1)


def test_a_norm_beyond_the_dtype_and_a_run_that_cannot_be_repeated() -> None:
    def huge(model: Any, batch: Any) -> Any:
        return mg.mean(1e200 * model.w)

    with mg.default_dtype("float64"):
        trouble(huge, pairs(1.0), "the norm of the gradients is inf, though each of them is finite")

    def once(model: Any, batch: Any) -> Any:
        if calls:
            raise KeyError("used up")
        calls.append(True)
        return mg.mean(mg.log(model.w - 1.0))

    calls: list[bool] = []
    assert "Running the batch again on the tape failed: KeyError: 'used up'" in trouble(once, pairs(1.0), "is nan")


def test_a_step_that_leaves_the_gradients_itself_is_traced_forward() -> None:
    def step(model: Any, batch: Any) -> Any:
        x, _ = batch
        loss = mg.mean(mg.log(model.w - x))
        loss.backward()
        return loss.detach()

    assert "nan from finite inputs is log, operation" in trouble(step, pairs(1.0), "the loss is nan")


def test_a_monitored_metric_that_is_nan_stops_and_an_infinite_one_is_never_best() -> None:
    def step(model: Any, batch: Any) -> Any:
        return fit_slope(model, batch), {} if model.training else {"score": next(values)}

    values = iter([2.0, float("inf"), float("nan")])
    trainer = slope_trainer(step)
    with pytest.raises(NonFiniteError, match="the validation metric 'score' is NaN after epoch 3"):
        trainer.fit(pairs(1.0), pairs(1.0), epochs=4, monitor="score")
    assert trainer.progress.best_epoch == 1
    assert len(trainer.records) == 2


def test_an_error_of_a_callback_is_not_taken_for_it() -> None:
    class Broken(Callback):
        def on_step_end(self, trainer: Any, record: Any) -> None:
            raise FloatingPointError("mine")

    model = Slope()
    trainer = Trainer(
        model, mg.optimizer("sgd", model.parameters(), lr=0.1), fit_slope, callbacks=[Broken()], progress=False
    )
    with pytest.raises(FloatingPointError, match=r"^mine$"):
        trainer.fit(Batches([(1.0, 2.0)], 1), epochs=1)
