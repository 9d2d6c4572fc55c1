"""What goes over the bus, and whether the host waits: counted on a stand-in for the device."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest
from cuda_steps import STEPS, data, step

import minigrad as mg
from minigrad.questions import MOST, SMALL, Questions
from minigrad.train import Batches, Callback, Trainer

pytestmark = [
    pytest.mark.host_only("it has a stand-in of its own"),
    pytest.mark.usefixtures("fake"),
    pytest.mark.skipif(not shutil.which("g++"), reason="there is no g++ to compile the kernels for the CPU"),
]


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_a_training_step_copies_nothing_and_waits_for_nothing(cuda: Any, name: str) -> None:
    layer, x = mg.recurrent(name, 2, 5, num_layers=2, bidirectional=True), data()
    optimizer = mg.optimizer("sgd", layer.parameters(), lr=0.1)
    targets = mg.zeros((STEPS, 3, 10))
    loss = mg.loss("mse")

    def train() -> mg.Tensor:
        ys, _ = layer(x)
        value: mg.Tensor = loss(ys, targets)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value

    for _ in range(2):
        train()
    cuda.counts.clear()
    value = train()
    assert cuda.counts["graphs"] == 8
    assert cuda.counts["to host"] == cuda.counts["to device"] == cuda.counts["synchronized"] == 0
    value.item()
    assert cuda.counts["to host"] == 1


class Model(mg.Module):
    """A classifier or a regression by the last outputs of two bidirectional layers."""

    def __init__(self, embedded: bool) -> None:
        self.table = mg.Embedding(7, 2)
        self.layer, self.out = mg.LSTM(2, 5, num_layers=2, bidirectional=True, dropout=0.3), mg.Linear(10, 3)
        self.embedded = embedded

    def forward(self, x: mg.Tensor, lengths: Any) -> mg.Tensor:
        ys, _ = self.layer(self.table(x) if self.embedded else x, lengths=lengths)
        made: mg.Tensor = self.out(ys[-1])
        return made


@pytest.mark.parametrize(
    ("loss", "embedded", "with_lengths"),
    [("mse", False, False), ("cross_entropy", False, False), ("cross_entropy", True, False), ("mse", True, True)],
)
def test_a_trainers_step_reads_numbers_once(loss: str, embedded: bool, with_lengths: bool, cuda: Any) -> None:
    """From the batch to the update: the loss, the norm that is clipped and reported, and whether integers are in range
    come in one copy."""
    rng = np.random.default_rng(0)
    examples: list[Any] = []
    for _ in range(12):
        x = rng.integers(0, 7, STEPS) if embedded else rng.normal(size=(STEPS, 2)).astype("float32")
        y = int(rng.integers(0, 3)) if loss == "cross_entropy" else rng.normal(size=3).astype("float32")
        examples.append((x, y))
    batches = Batches(examples, 4, fixed=[] if loss == "cross_entropy" else [1])
    model = Model(embedded)
    steps: list[dict[str, int]] = []

    def train(model: Any, batch: Any) -> mg.Tensor:
        x, y = batch
        value: mg.Tensor = mg.loss(loss)(model(x, batch.lengths[0] if with_lengths else None), y)
        return value

    class Counting(Callback):
        def on_step_end(self, trainer: Any, record: Any) -> None:
            assert cuda.counts["synchronized"] == 0
            steps.append({name: cuda.copied.count(name) for name in cuda.copied})
            cuda.copied.clear()

    optimizer = mg.optimizer("adam", model.parameters(), lr=0.01)
    cuda.copied.clear()
    Trainer(model, optimizer, train, clip_norm=1.0, callbacks=[Counting()], progress=False).fit(batches, steps=5)
    assert steps[1:] == [{"minigrad.train.update": 1}] * 4
    assert steps[0].keys() <= {"minigrad.train.update", "minigrad.plan.engine"}  # what is open is read before a trace


@pytest.mark.parametrize(("where", "words"), [("x", "Embedding takes|index 7"), ("y", "targets hold 3|index 3")])
def test_a_wrong_integer_is_told_before_the_update(where: str, words: str, fake: Any) -> None:
    """By whom is another matter: here such an index is an error at once, where a GPU takes another element."""
    model = Model(embedded=True)
    before = model.state_dict()
    x, y = np.zeros((12, STEPS), np.int64), np.zeros(12, np.int64)
    (x[:, 2] if where == "x" else y)[:] = 7 if where == "x" else 3

    def train(model: Any, batch: Any) -> mg.Tensor:
        inputs, targets = batch
        value: mg.Tensor = mg.loss("cross_entropy")(model(inputs, None), targets)
        return value

    trainer = Trainer(model, mg.optimizer("sgd", model.parameters(), lr=0.1), train, progress=False)
    with pytest.raises(IndexError, match=words):
        trainer.fit(Batches(list(zip(x, y, strict=True)), 4), steps=1)
    fake.questions = Questions(fake.xp)  # where it has been told at once, it is not to be told again
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_answers_come_with_the_next_number(fake: Any, cuda: Any) -> None:
    for array in (fake.asarray(np.arange(12.0).reshape(3, 4))[:, ::2].T, fake.asarray(True), fake.asarray([1, 2])[:0]):
        expected = fake.to_host(array)
        fake.require(fake.asarray(True), ValueError)
        fake.require(fake.asarray([3]) > 2, ValueError)
        cuda.counts.clear()
        found = fake.to_host(array)
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype
        assert cuda.counts["to host"] == 1
    fake.require(fake.asarray(True), ValueError)
    fake.require(fake.asarray(False), lambda: KeyError("the first"))
    fake.require(fake.asarray(False), ValueError)
    with pytest.raises(KeyError, match="the first"):
        fake.to_host(array)
    assert fake.to_host(array).shape == (0,)


def test_whoever_reads_nothing_is_told_too(fake: Any) -> None:
    fake.require(fake.asarray(False), lambda: KeyError("the first"))
    for _ in range(MOST - 1):
        fake.require(fake.asarray(True), ValueError)
    with pytest.raises(KeyError, match="the first"):
        fake.require(fake.asarray(True), ValueError)


class Dropping(mg.Cell):
    """Another mask at each step."""

    def __init__(self) -> None:
        self.over = mg.Linear(2, 2)

    def init_state(self, batch_size: int) -> mg.Tensor:
        return mg.zeros((batch_size, 2))

    def step(self, x: mg.Tensor, state: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
        mask = mg.dropout_mask(x, 0.3)
        state = mg.tanh(self.over(state) + x) * mask
        return mg.concat([mask, state], axis=-1), state


def test_random_masks_are_moved_once(cuda: Any) -> None:
    layer, x = mg.Recurrent(Dropping(), engine="plan"), data()
    step(layer, x)
    cuda.counts.clear()
    step(layer, x)
    assert "compiled to CUDA" in layer.explain()
    assert cuda.counts["to device"] == 1
    assert cuda.counts["to host"] == 0


@pytest.mark.parametrize("engine", ["plan", "tape"])
def test_random_numbers_are_those_of_numpy(engine: str, fake: Any) -> None:
    """One seed, one run: on the device, compiled, captured and launched, as on the host, and whatever comes after."""
    found = {}
    for backend in ("numpy", fake):
        mg.set_backend(backend)
        mg.seed(5)
        layer = mg.Recurrent(Dropping(), engine=engine)
        drawn = [parameter.numpy() for parameter in layer.parameters()]
        for _ in range(3):
            ys, _ = layer(mg.ones((STEPS, 4, 2)), lengths=[6, 1, 4, 2])
            drawn += [ys.numpy()[..., :2], mg.dropout(mg.ones((3, 3)), 0.5).numpy()]
        found[mg.get_backend().name] = [*drawn, mg.uniform(shape=(3,)).numpy(), mg.normal(shape=(3,)).numpy()]
    masks = found["numpy"][2][:, 0]  # of the sequence that goes on to the end
    assert 0 < (masks == 0).mean() < 1
    for a, b in zip(*found.values(), strict=True):
        np.testing.assert_array_equal(a, b)


class Looking(mg.Cell):
    """It looks up vectors in its step."""

    def __init__(self) -> None:
        self.table, self.over = mg.Embedding(4, 3), mg.Linear(3, 3)

    def init_state(self, batch_size: int) -> mg.Tensor:
        return mg.zeros((batch_size, 3))

    def step(self, x: mg.Tensor, state: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
        state = mg.tanh(self.over(state) + self.table(x))
        return state, state


@pytest.mark.parametrize("checkpoint_every", [None, 2])
def test_a_cell_that_looks_things_up_waits_for_nothing(checkpoint_every: int | None, cuda: Any, fake: Any) -> None:
    """Whether an integer was out of range is told when a number is read."""

    layer = mg.Recurrent(Looking(), engine="plan", checkpoint_every=checkpoint_every)
    x = mg.tensor(np.ones((STEPS, 3), "int64"))
    for _ in range(3):
        cuda.copied.clear()
        (layer(x)[0] ** 2).sum().backward()
        assert cuda.copied == []
        ys, _ = layer(x * 4)
        with pytest.raises(IndexError):
            ys.numpy()
        fake.questions = Questions(fake.xp)  # as above
    assert layer(x)[0].numpy().shape == (STEPS, 3, 3)


@pytest.mark.parametrize("checkpoint_every", [None, 2])
def test_a_flag_that_a_backward_leaves_is_not_told_of_the_next_run(checkpoint_every: int | None) -> None:
    """A GPU adds gradients to wrong places without an error, and the generated kernels note them once more."""

    layer = mg.Recurrent(Looking(), engine="plan", checkpoint_every=checkpoint_every)
    x = mg.tensor(np.ones((STEPS, 3), "int64"))
    expected = layer(x)[0].numpy()
    layer(x)[0].sum().backward()
    latest = layer._plans.latest
    assert latest is not None
    executor = latest.executor
    executor.spare[-1].arrays[executor.schedule.flag.number].fill(1)
    np.testing.assert_array_equal(layer(x)[0].numpy(), expected)


def test_what_is_open_is_told_before_a_step_is_traced(fake: Any) -> None:
    """A trace would take the error for one of the step, and the layer would stay on the tape."""
    layer = mg.Recurrent(mg.LSTMCell(2, 3), engine="auto")
    fake.require(fake.asarray(False), lambda: KeyError("asked before"))
    with pytest.raises(KeyError, match="asked before"):
        layer(data())
    layer(data())
    assert "compiled to CUDA" in layer.explain()


def test_large_arrays_are_not_copied_on_the_device_to_be_read(fake: Any, cuda: Any) -> None:
    array = fake.asarray(np.zeros(SMALL // 8 + 1))
    fake.require(fake.asarray(True), ValueError)
    cuda.counts.clear()
    assert fake.to_host(array).shape == array.shape
    assert cuda.counts["to host"] == 2  # the answers by themselves


def test_the_stand_in_sees_a_copy_during_a_capture(cuda: Any, fake: Any) -> None:
    """The tests above would not be worth much otherwise."""
    stream = cuda.Stream(non_blocking=True)
    array = fake.xp.zeros(3)
    with stream:
        stream.begin_capture()
        for work in (array.get, lambda: fake.xp.zeros(3), lambda: fake.asarray([1.0])):
            with pytest.raises(RuntimeError, match="while a stream is captured"):
                work()
        stream.end_capture()
