"""The two directions of a layer on two streams: beside each other, and never on memory that is not ready."""

from __future__ import annotations

import gc
import shutil
import threading
from typing import Any

import fake_cuda
import numpy as np
import pytest
from cuda_races import RaceError
from plan_runs import everything

import minigrad as mg
from minigrad.nest import leaves, map_nest
from minigrad.plan.cuda import beside

pytestmark = [
    pytest.mark.host_only("it has a stand-in of its own"),
    pytest.mark.skipif(not shutil.which("g++"), reason="there is no g++ to compile the kernels for the CPU"),
]
STEPS, B, I, H = 6, 3, 2, 5  # noqa: E741  # sizes of x and of the state


@pytest.fixture(autouse=True)
def _float64(fake: Any) -> None:
    mg.set_default_dtype("float64")


def data() -> mg.Tensor:
    return mg.tensor(mg.normal(shape=(STEPS, B, I)), True)


def train(layer: Any, x: mg.Tensor, **options: Any) -> None:
    """A train step whose loss reads outputs and states."""
    everything(*layer(x, return_states=True, **options)).backward()
    layer.zero_grad()


# --- in order


def test_work_on_two_streams_needs_an_event_between(cuda: Any, fake: Any) -> None:
    """What is found, and what is not: the other tests would not be worth much otherwise."""
    side, xp = cuda.Stream(non_blocking=True), fake.xp
    a = xp.ones(3)
    with side, pytest.raises(RaceError, match=r"add reads .* what stream"):
        xp.add(a, a)
    side.wait_event(cuda.null.record())
    with side:
        b = xp.add(a, a)
    with pytest.raises(RaceError, match="fill writes"):
        a.fill(0)  # the other stream may not have read it yet
    with pytest.raises(RaceError, match="get reads"):
        b.get()
    cuda.null.wait_event(side.record())
    a.fill(0)
    assert b.get().tolist() == [2, 2, 2]
    assert cuda.races.crossings > 0


def test_freed_memory_goes_back_to_its_stream(cuda: Any, fake: Any) -> None:
    side, xp = cuda.Stream(non_blocking=True), fake.xp
    a = xp.ones(3)
    side.wait_event(cuda.null.record())
    with side:
        b = xp.add(a, a)
    del a
    with pytest.raises(RaceError, match="allocates memory that stream"):
        xp.ones(3)
    side.synchronize()
    assert xp.ones(3).get().sum() == 3
    assert b is not None


# --- beside each other

LAYERS: dict[str, Any] = {
    "lstm": lambda: mg.Bidirectional(mg.LSTMCell(I, H), engine="plan"),
    "shared weights": lambda: (lambda cell: mg.Bidirectional(cell, cell, engine="plan"))(mg.GRUCell(I, H)),
    "sum": lambda: mg.Bidirectional(mg.GRUCell(I, H), merge="sum", engine="plan"),
    "mean": lambda: mg.Bidirectional(mg.RNNCell(I, H), merge="mean", engine="plan"),
    "product": lambda: mg.Bidirectional(mg.RNNCell(I, H), merge=lambda a, b: mg.tanh(a * b), engine="plan"),
    "learned state": lambda: mg.Bidirectional(mg.GRUCell(I, H), learn_initial_state=True, engine="plan"),
    "checkpoints": lambda: mg.Bidirectional(mg.LSTMCell(I, H), checkpoint_every=2, engine="plan"),
}
LENGTHS = {"all steps": None, "lengths": [6, 2, 4], "shorter": [3, 2, 4]}
"""With the last, zeros are put behind the outputs of each direction."""


def are_beside(first: Any, second: Any) -> bool:
    """Whether two launches may run at the same time: neither comes after the other."""
    (one, before_one), (other, before_other) = first, second
    return one != other and before_other[one] <= before_one[one] and before_one[other] <= before_other[other]


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("batch_first", [False, True])
def test_both_directions_run_at_the_same_time(name: str, lengths: str, batch_first: bool, cuda: Any) -> None:
    """Forward and backward, captured and launched; the host waits for nothing."""
    layer, x = LAYERS[name](), data()
    if batch_first:
        for part in (layer, layer.forward_layer, layer.backward_layer):
            part.batch_first = True
        x = mg.tensor(mg.normal(shape=(B, STEPS, I)), True)
    for _ in range(2):
        train(layer, x, lengths=LENGTHS[lengths])
    cuda.launched.clear()
    cuda.counts.clear()
    train(layer, x, lengths=LENGTHS[lengths])
    assert cuda.counts["synchronized"] == 0
    streams = [stream for stream, _ in cuda.launched]
    half = len(streams) // 2
    forward, backward = cuda.launched[:half], cuda.launched[half:]
    if name == "checkpoints":  # three spans each; of the backward's, two are run again first
        forward, backward = [forward[0], forward[3]], [backward[0], backward[-1]]
        assert {forward[0][0], forward[1][0]} == {backward[0][0], backward[1][0]} == set(streams)
    else:
        assert [stream for stream, _ in forward] == [stream for stream, _ in backward][::-1]
    assert are_beside(*forward)
    assert are_beside(*backward)


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("name", LAYERS)
def test_directions_agree_with_the_tape(name: str, lengths: str) -> None:
    plan, x = LAYERS[name](), data()
    expected = None
    for engine in ("tape", "plan", "plan", "plan"):
        for layer in (plan.forward_layer, plan.backward_layer):
            layer.engine = engine
        plan.zero_grad()
        x.grad = None
        ys, state = plan(x, lengths=LENGTHS[lengths])
        ((ys * ys).sum() + sum((leaf * leaf).sum() for leaf in leaves(state))).backward()
        found = [ys, x.grad, *(parameter.grad for parameter in plan.parameters())]
        arrays = [tensor.numpy() for tensor in found]
        expected = expected or arrays
        for a, b in zip(arrays, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("batch_first", [False, True])
def test_layers_above_each_other(batch_first: bool, cuda: Any) -> None:
    """Two layers, dropout between them, truncated windows with a state that is carried on; and an optimizer."""
    options = {"num_layers": 2, "bidirectional": True, "dropout": 0.4, "batch_first": batch_first}
    model = mg.LSTM(I, H, **options)
    optimizer = mg.optimizer("adam", model.parameters(), lr=0.01)
    x = mg.normal(shape=(B, STEPS, I) if batch_first else (STEPS, B, I))
    state = None
    for _ in range(4):
        ys, state = model(x, state, lengths=[6, 5, 6])
        optimizer.zero_grad()
        (ys * ys).sum().backward()
        optimizer.step()
        state = map_nest(lambda leaf: leaf.detach(), state)
    streams = {stream for stream, _ in cuda.launched}
    assert len(streams) == 2
    assert cuda.races.crossings > 0


def test_a_result_that_is_read_in_between_waits(fake: Any, cuda: Any) -> None:
    """Something is computed from the outputs of one layer before the other runs: its backward comes later."""
    ahead, back = (mg.Recurrent(mg.GRUCell(I, H), engine="plan") for _ in range(2))
    for _ in range(3):
        cuda.launched.clear()
        x = data()
        with fake.aside():
            twice = ahead(x)[0] * 2.0
        ys = back(x)[0]
        fake.join()
        (twice * ys).sum().backward()
    assert are_beside(*cuda.launched[:2])
    assert not are_beside(*cuda.launched[2:])


# --- streams and threads of the user's own


def train_on(stream: Any, layer: Any, turns: int) -> list[Any]:
    """Train steps on a stream, without reading a number: x and its gradient of each."""
    found = []
    with stream:
        for _ in range(turns):
            x = data()
            ys, _ = layer(x)
            (ys * ys).sum().backward()
            found.append((x.detach(), x.grad))
            layer.zero_grad()
    return found


def expect(layer: Any, found: list[Any], cuda: Any, *streams: Any) -> None:
    """The same gradients come from the tape."""
    layer.engine = "tape"
    for stream in streams:
        cuda.null.wait_event(stream.record())
    for values, gradient in found:
        x = mg.tensor(values.numpy(), True)
        ys, _ = layer(x)
        (ys * ys).sum().backward()
        assert x.grad is not None
        np.testing.assert_allclose(gradient.numpy(), x.grad.numpy(), rtol=1e-10)


def test_streams_take_turns(cuda: Any) -> None:
    """What one stream may still use is not the other's."""
    layer = mg.Recurrent(mg.GRUCell(I, H), engine="plan")
    streams = [cuda.Stream(non_blocking=True) for _ in range(2)]
    for stream in streams:
        stream.wait_event(cuda.null.record())  # for the parameters
    found = [run for turn in range(6) for run in train_on(streams[turn % 2], layer, 1)]
    assert {stream for stream, _ in cuda.launched} == {stream.ptr for stream in streams}
    expect(layer, found, cuda, *streams)


def test_constants_of_a_step_are_there_for_every_stream(cuda: Any) -> None:
    """They are made with the plan, on the stream that is current then."""

    class Scaled(mg.RNNCell):
        def step(self, x: Any, h: Any) -> Any:
            y, h = super().step(x, h)
            return y * mg.tensor([1.0, 2.0, 3.0, 4.0, 5.0]), h

    layer = mg.Recurrent(Scaled(I, H), engine="plan")
    streams = [cuda.Stream(non_blocking=True) for _ in range(2)]
    for stream in streams:
        stream.wait_event(cuda.null.record())
    found = [run for stream in streams for run in train_on(stream, layer, 1)]
    assert layer._plans.latest.executor.constants
    expect(layer, found, cuda, *streams)


@pytest.mark.parametrize("own", [False, True], ids=["one stream", "streams of their own"])
def test_threads_train_one_layer(own: bool, cuda: Any) -> None:
    layer = mg.Recurrent(mg.GRUCell(I, H), engine="plan")
    for parameter in layer.parameters():
        parameter.requires_grad = False  # each thread would add to the same gradients
    found: list[Any] = []
    streams: list[Any] = []

    def work() -> None:
        mg.set_default_dtype("float64")
        stream = cuda.Stream(non_blocking=True) if own else cuda.null
        streams.append(stream)
        stream.wait_event(cuda.null.record())
        try:
            found.extend(train_on(stream, layer, 8))
        except BaseException as failure:
            found.append(failure)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [run for run in found if isinstance(run, BaseException)] == []
    expect(layer, found, cuda, *streams)


def test_a_thread_that_ends_gives_back_what_it_took(cuda: Any) -> None:
    layer = mg.Recurrent(mg.GRUCell(I, H), engine="plan")
    train_on(cuda.null, layer, 3)
    before = len(cuda.blas.handles)
    captured = cuda.counts["captures"]
    for _ in range(3):
        thread = threading.Thread(target=train_on, args=(cuda.null, layer, 3))
        thread.start()
        thread.join()
    assert cuda.counts["captures"] == 4 * captured > 0  # each with handle and memory of its own
    gc.collect()
    assert len(cuda.blas.handles) == before


def test_an_answer_from_another_stream_is_waited_for(fake: Any) -> None:
    """As after a failure between the directions, or in a thread that reads on another stream."""
    with fake.aside():
        fake.require(fake.asarray([3]) > 4, lambda: IndexError("aside"))
    with pytest.raises(IndexError, match="aside"):
        fake.to_host(fake.asarray([1.0]))


def test_a_failure_of_one_direction_leaves_streams_in_order(fake: Any, cuda: Any) -> None:
    class Failing(mg.RNNCell):
        def step(self, x: Any, h: Any) -> Any:
            raise RuntimeError("no")

    x = data()
    layer = mg.Bidirectional(mg.RNNCell(I, H), Failing(I, H), engine="plan")
    layer.forward_layer(x)
    with pytest.raises(RuntimeError, match="no"):
        layer(x)
    side = fake._side()
    assert cuda.races.clock(side.ptr) <= cuda.races.clock(cuda.null.ptr)


# --- each event is needed


def forgetful(monkeypatch: pytest.MonkeyPatch, what: str, fake: Any) -> None:
    """Leave one wait out."""
    if what == "forward waits for x":
        monkeypatch.setattr(fake_cuda.Stream, "wait_event", lambda self, event: None)
    elif what == "outputs wait for both":
        monkeypatch.setattr(type(fake), "join", lambda self: None)
    elif what == "backward waits for gradients":
        monkeypatch.setattr(beside.Ready, "events", lambda self, arrays: [])
    elif what == "what follows waits for the backward":
        waits = fake_cuda.Stream.wait_event
        null = fake.xp.cuda.null

        def wait(self: Any, event: Any) -> None:
            if self is not null or not fake.xp.cuda.launched[2:]:
                waits(self, event)

        monkeypatch.setattr(fake_cuda.Stream, "wait_event", wait)


@pytest.mark.parametrize(
    "what",
    [
        "forward waits for x",
        "outputs wait for both",
        "backward waits for gradients",
        "what follows waits for the backward",
    ],
)
def test_each_wait_is_missed(what: str, fake: Any, cuda: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = mg.Bidirectional(mg.GRUCell(I, H), engine="plan")
    for _ in range(2):
        train(layer, data())
    cuda.launched.clear()
    x = data()
    forgetful(monkeypatch, what, fake)
    with pytest.raises(RaceError):
        read_after_training(layer, x)


def read_after_training(layer: Any, x: mg.Tensor) -> None:
    train(layer, x)
    assert x.grad is not None
    x.grad.numpy()


def test_a_gradient_from_elsewhere_is_waited_for() -> None:
    """A loss that reads one direction's state after both have run, and before: two gradients that are added."""
    ahead, back = (mg.Recurrent(mg.RNNCell(I, H), engine="plan") for _ in range(2))
    backend = mg.get_backend()
    for _ in range(3):
        x = data()
        with backend.aside():
            ys, _ = ahead(x)
            early = ys * 2.0
        zs, _ = back(x)
        backend.join()
        ((ys * ys).sum() + (early * zs).sum()).backward()
        assert x.grad is not None
        expected = x.grad.numpy()
        for layer in (ahead, back):
            layer.engine = "tape"
        again = mg.tensor(x.numpy(), True)
        ys, zs = ahead(again)[0], back(again)[0]
        ((ys * ys).sum() + (2.0 * ys * zs).sum()).backward()
        np.testing.assert_allclose(again.grad.numpy(), expected, rtol=1e-10)
        for layer in (ahead, back):
            layer.engine = "plan"
