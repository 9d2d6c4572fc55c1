"""What runs on the device, and when; what is shown of it, and what is said if it cannot: on a stand-in for it."""

from __future__ import annotations

import shutil
import sys
from types import SimpleNamespace
from typing import Any

import fake_cuda
import numpy as np
import pytest
from cuda_steps import STEPS, data, step

import minigrad as mg
from minigrad import backend as backends

pytestmark = [
    pytest.mark.host_only("it has a stand-in of its own"),
    pytest.mark.usefixtures("fake"),
    pytest.mark.skipif(not shutil.which("g++"), reason="there is no g++ to compile the kernels for the CPU"),
]
# --- graphs


def test_the_loop_is_called_once_step_by_step_and_then_launched(cuda: Any) -> None:
    layer, x = mg.Recurrent(mg.LSTMCell(2, 5), engine="plan"), data()
    step(layer, x)
    assert (cuda.counts["captures"], cuda.counts["graphs"]) == (0, 0)
    assert cuda.counts["kernels"] == 2 * STEPS
    step(layer, x)
    assert (cuda.counts["captures"], cuda.counts["graphs"]) == (2, 2)
    calls = cuda.counts["kernels"], cuda.counts["products"]
    step(layer, x)
    step(layer, x)
    assert (cuda.counts["captures"], cuda.counts["graphs"]) == (2, 6)
    before_and_after_the_loop = 2 * 3  # two steps, each with one product before it, and two sums of products and rows
    assert cuda.counts["kernels"] == calls[0]
    assert cuda.counts["products"] - calls[1] == before_and_after_the_loop + 2


def test_the_number_of_calls_does_not_grow_with_the_steps(cuda: Any) -> None:
    def calls(steps: int) -> Any:
        layer, x = mg.Recurrent(mg.GRUCell(2, 5), engine="plan"), data(steps)
        for _ in range(2):
            step(layer, x)
        cuda.counts.clear()
        step(layer, x)
        return dict(cuda.counts)

    assert calls(4) == calls(40)


def test_another_length_has_a_graph_of_its_own(cuda: Any) -> None:
    layer = mg.Recurrent(mg.RNNCell(2, 5), engine="plan")
    for _ in range(2):
        step(layer, data(4))
    assert cuda.counts["captures"] == 2
    for _ in range(2):
        step(layer, data(7))
    assert cuda.counts["captures"] == 4


def test_spans_share_a_graph(cuda: Any) -> None:
    layer = mg.Recurrent(mg.RNNCell(2, 5), engine="plan", checkpoint_every=2)
    step(layer, data(6))
    assert (cuda.counts["captures"], cuda.counts["graphs"]) == (2, 6)  # 3 and 2 again forward, 3 backward; first not


# --- explain


def test_explain_shows_the_work_and_the_kernels() -> None:
    layer = mg.Recurrent(mg.LSTMCell(2, 5))
    layer(data())
    text = layer.explain()
    assert "compiled to CUDA" in text
    assert "forward, at each step: step_linear_9 = state_0 @ weight_hh.T (cuBLAS)" in text
    assert 'extern "C" __global__ void forward(' in text


# --- errors


def test_too_little_memory_says_what_takes_it_and_what_to_reduce(fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = mg.Recurrent(mg.LSTMCell(2, 5), engine="plan"), data()
    empty = fake.xp.empty

    def limited(shape: Any, dtype: Any = float) -> Any:
        if shape == (STEPS + 1, 3, 5):
            raise fake_cuda.OutOfMemoryError("Out of memory allocating 420 bytes (allocated so far: 9,999 bytes).")
        return empty(shape, dtype=dtype)

    monkeypatch.setattr(fake.xp, "empty", limited)
    with pytest.raises(MemoryError) as caught:
        layer(x)
    text = str(caught.value)
    for words in (
        "6 steps of x (3, 2)",
        "all_linear_7 (6, 3, 20) 1,440 bytes",
        "Out of memory allocating 420 bytes",
        "smaller batch",
        "shorter window",
        "checkpoint_every=n",
    ):
        assert words in text


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_too_little_memory_for_a_result(fake: Any, direction: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = mg.Recurrent(mg.LSTMCell(2, 5), engine="plan"), mg.tensor(data(), True)
    step(layer, x)
    empty = fake.xp.empty

    def limited(shape: Any, dtype: Any = float) -> Any:
        if shape == ((STEPS, 3, 5) if direction == "forward" else (20, 5)):
            raise fake_cuda.OutOfMemoryError("Out of memory allocating 360 bytes.")
        return empty(shape, dtype=dtype)

    monkeypatch.setattr(fake.xp, "empty", limited)
    with pytest.raises(MemoryError, match=r"Out of memory allocating 360 bytes\. A smaller batch or a shorter window"):
        step(layer, x)


def test_too_little_memory_in_an_operation_names_it(fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(*args: Any, **options: Any) -> Any:
        raise fake_cuda.OutOfMemoryError("Out of memory allocating 12 bytes.")

    a = mg.ones((2, 3))
    monkeypatch.setattr(fake.xp, "tanh", refusing)
    with pytest.raises(MemoryError, match=r"tanh: Out of memory allocating 12 bytes\. .*smaller batch.*\(2, 3\)"):
        mg.tanh(a)


def test_arrays_of_two_devices_in_a_run(cuda: Any) -> None:
    layer, x = mg.Recurrent(mg.RNNCell(2, 5), engine="plan"), data()
    cuda.elsewhere[id(layer.cell.weight_hh.data._host)] = 1
    with pytest.raises(mg.DeviceMismatchError) as caught:
        layer(x)
    for words in ("CUDA device 0 is the current one", "weight_hh on CUDA device 1", "cupy.cuda.Device(n)"):
        assert words in str(caught.value)


def test_arrays_of_two_devices_in_an_operation(cuda: Any, fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(*args: Any) -> Any:
        raise ValueError("Array device must be same as the current device")

    a, b = mg.ones(3), mg.ones(3)
    cuda.elsewhere[id(b.data._host)] = 1
    monkeypatch.setattr(fake.xp, "maximum", refusing)
    with pytest.raises(mg.DeviceMismatchError, match=r"maximum: x1 is on CUDA device 0, x2 is on CUDA device 1\. Make"):
        mg.maximum(a, b)


@pytest.mark.parametrize("engine", ["auto", "tape"])
@pytest.mark.parametrize(
    "mixed",
    [lambda x: mg.tensor(np.asarray(x.data)), lambda x: mg.Tensor(x.data + np.ones(x.shape, "float32"))],
    ids=["to NumPy", "from NumPy"],
)
def test_a_cell_that_mixes_the_gpus_arrays_with_numpys_is_named(mixed: Any, engine: str) -> None:
    class Leaking(mg.Cell):
        def init_state(self, batch_size: int) -> mg.Tensor:
            return mg.zeros((batch_size, 2))

        def step(self, x: mg.Tensor, state: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
            return x, mixed(x) + state

    with pytest.raises(TypeError, match=r"Leaking\.step gives an array of the GPU to NumPy, or .* mg\.tanh"):
        mg.Recurrent(Leaking(), engine=engine)(data())


class Cupy:
    """A `cupy` whose driver, or whose device, is of no use."""

    class CUDARuntimeError(RuntimeError):
        pass

    ndarray = type("ndarray", (), {})

    def __init__(self, error: str = "", version: int = 13000, capability: str = "90") -> None:
        def count() -> int:
            if error:
                raise self.CUDARuntimeError(error)
            return 1

        runtime = SimpleNamespace(
            getDeviceCount=count, CUDARuntimeError=self.CUDARuntimeError, runtimeGetVersion=lambda: version
        )
        self.cuda = SimpleNamespace(
            runtime=runtime, Device=lambda: SimpleNamespace(compute_capability=capability, id=0)
        )


@pytest.mark.parametrize(
    ("cupy", "words"),
    [
        (Cupy("cudaErrorInsufficientDriver: CUDA driver version is insufficient"), "no NVIDIA driver, or one that is"),
        (Cupy("cudaErrorNoDevice: no CUDA-capable device is detected"), "it finds no CUDA device"),
        (Cupy(capability="70"), "compute capability 7.0, and CUDA 13 needs 7.5 or newer"),
        (Cupy(version=12090, capability="37"), "compute capability 3.7, and CUDA 12 needs 5.0 or newer"),
    ],
)
def test_a_device_that_is_missing_or_too_old(cupy: Any, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    with pytest.raises(mg.BackendUnavailableError, match=words) as caught:
        backends.CuPyBackend()
    assert "numpy backend" in str(caught.value)


@pytest.mark.parametrize(("value", "expected"), [("1", True), ("0", False), (None, False)])
def test_tf32_is_off_unless_asked_for(value: str | None, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", Cupy())
    monkeypatch.delenv("CUPY_TF32", raising=False)
    if value is not None:
        monkeypatch.setenv("CUPY_TF32", value)
    assert backends.CuPyBackend().tf32 is expected
