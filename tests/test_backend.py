"""Which backend is current, what happens where one is missing, random numbers and dtypes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import types
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import backend as backends
from minigrad.testing.strict import StrictArray, StrictBackend


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter."""
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


# --- choosing


def test_new_tensors_are_on_the_current_backend(backend: Any) -> None:
    assert mg.get_backend() is backend
    for made in (mg.zeros(2), mg.tensor([1.0]), mg.arange(3), mg.normal(shape=2), mg.as_tensor(1.0), mg.Parameter([1])):
        assert made.backend is backend
        assert isinstance(made.data, backend.xp.ndarray)
    assert (mg.zeros_like(mg.ones(2).to("numpy"))).backend.name == "numpy"


@pytest.mark.host_only("changes the backend itself")
def test_set_and_use() -> None:
    mg.set_backend("strict")
    assert mg.get_backend().name == "strict"
    with mg.use_backend("numpy") as inner:
        assert inner.name == mg.get_backend().name == "numpy"
        mg.set_backend("strict")  # for later: the block still holds
        assert mg.get_backend().name == "numpy"
    assert mg.get_backend().name == "strict"
    with pytest.raises(KeyError), mg.use_backend("numpy"):
        raise KeyError
    assert mg.get_backend().name == "strict"
    mg.set_backend(backends.load_backend("numpy"))
    assert repr(mg.get_backend()) == "<Backend numpy>"
    assert mg.get_backend().xp is np


@pytest.mark.host_only("changes the backend itself")
def test_use_backend_is_for_this_thread() -> None:
    found = []
    with mg.use_backend("strict"):
        thread = threading.Thread(target=lambda: found.append(mg.get_backend().name))
        thread.start()
        thread.join()
    assert found == ["numpy"]


@pytest.mark.host_only("changes the backend itself")
def test_an_unknown_name_lists_the_known_ones() -> None:
    for choose in (mg.set_backend, mg.tensor(1.0).to, lambda name: mg.use_backend(name).__enter__()):
        with pytest.raises(ValueError, match="unknown backend 'torch'; there are: 'numpy', 'cupy', 'strict'"):
            choose("torch")


@pytest.mark.host_only("a fresh interpreter")
def test_the_environment_variable() -> None:
    code = "import minigrad as mg; print(mg.get_backend().name, mg.zeros(1).backend.name)"
    assert run(code, MINIGRAD_BACKEND="numpy").stdout.split() == ["numpy", "numpy"]
    assert run(code, MINIGRAD_BACKEND="").stdout.split() == ["numpy", "numpy"]
    wrong = run(code, MINIGRAD_BACKEND="abacus")
    assert wrong.returncode == 1
    assert "unknown backend 'abacus'" in wrong.stderr
    chosen = run("import minigrad as mg; mg.set_backend('numpy'); print(mg.get_backend().name)", MINIGRAD_BACKEND="no")
    assert chosen.stdout.split() == ["numpy"]


@pytest.mark.host_only("a fresh interpreter")
def test_importing_minigrad_imports_no_gpu_library() -> None:
    code = "import minigrad, sys; print(sorted({'cupy', 'torch', 'matplotlib', 'hypothesis'} & set(sys.modules)))"
    assert run(code).stdout.strip() == "[]"


# --- CuPy missing, or its device


@pytest.mark.host_only("pretends that there is no CuPy")
def test_cupy_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.delitem(backends._loaded, "cupy", raising=False)
    for choose in (mg.set_backend, mg.tensor(1.0).to):
        with pytest.raises(mg.BackendUnavailableError) as caught:
            choose("cupy")
        for words in ("needs CuPy, which is not installed", "minigrad[cuda12]", "minigrad[cuda13]", "numpy backend"):
            assert words in str(caught.value)
    assert mg.get_backend().name == "numpy"


class FakeCuda(types.ModuleType):
    """A `cupy` that sees `devices` devices, or whose driver fails."""

    class CUDARuntimeError(RuntimeError):
        pass

    def __init__(self, devices: int | None) -> None:
        super().__init__("cupy")

        def count() -> int:
            if devices is None:
                raise self.CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")
            return devices

        runtime = types.SimpleNamespace(getDeviceCount=count, CUDARuntimeError=self.CUDARuntimeError)
        runtime.runtimeGetVersion = lambda: 12090
        self.cuda = types.SimpleNamespace(
            runtime=runtime, Device=lambda: types.SimpleNamespace(compute_capability="90")
        )
        self.ndarray = type("ndarray", (), {})


@pytest.mark.host_only("pretends that there is no device")
@pytest.mark.parametrize(("devices", "reason"), [(None, "cudaErrorNoDevice"), (0, "no device is visible")])
def test_cupy_without_a_device(monkeypatch: pytest.MonkeyPatch, devices: int | None, reason: str) -> None:
    monkeypatch.setitem(sys.modules, "cupy", FakeCuda(devices))
    monkeypatch.delitem(backends._loaded, "cupy", raising=False)
    with pytest.raises(mg.BackendUnavailableError) as caught:
        mg.set_backend("cupy")
    for words in ("CuPy is installed, but it finds no CUDA device", reason, "nvidia-smi", "CUDA_VISIBLE_DEVICES"):
        assert words in str(caught.value)
    assert "pip install" not in str(caught.value)


@pytest.mark.host_only("pretends that there is a device")
def test_cupy_with_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeCuda(1)
    monkeypatch.setitem(sys.modules, "cupy", fake)
    monkeypatch.setattr(backends, "_loaded", dict(backends._loaded))
    backends._loaded.pop("cupy", None)
    monkeypatch.setattr(backends, "by_type", {})
    assert backends.load_backend("cupy").xp is fake
    assert backends.by_type[fake.ndarray].name == "cupy"


# --- two backends at once


@pytest.mark.host_only("mixes two backends")
@pytest.mark.parametrize("name", ["add", "multiply", "power", "maximum", "matmul", "equal", "less", "take", "concat"])
def test_mixing_backends_says_what_to_move(name: str) -> None:
    here, there = mg.ones(2), mg.ones(2).to("strict")
    operation = getattr(mg, name)
    first, second = ("x1", "x2") if name not in ("take", "concat") else ("x", "indices")
    first, second = ("xs[0]", "xs[1]") if name == "concat" else (first, second)
    for a, b in ((here, there), (there, here)):
        if name == "take":
            b = b.astype("int64")
        with pytest.raises(mg.DeviceMismatchError) as caught:
            operation([a, b]) if name == "concat" else operation(a, b)
        places = (a.backend.name, b.backend.name)
        assert f"{name}: {first} is on {places[0]}, {second} is on {places[1]}" in str(caught.value)
        assert f"{second}.to({places[0]!r}), or {first}.to({places[1]!r})" in str(caught.value)


def test_operations_follow_their_arrays_not_the_current_backend() -> None:
    for place in ("numpy", "strict"):
        x = mg.tensor([1.0, 4.0], requires_grad=True).to(place)
        y = (mg.sqrt(x) * mg.softmax(x) + mg.max(x) * x**2 + 2**x + mg.concat([x, x])[:2]).sum()
        assert y.backend.name == place
        assert mg.grad(y, x)[0].backend.name == place


def test_moving() -> None:
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    there = x.to("strict")
    assert there.backend.name == "strict"
    assert there.requires_grad
    assert there.grad is None
    back = there.to("numpy")
    assert back.numpy().tolist() == [1.0, 2.0]
    assert x.to(x.backend) is x
    if x.backend.name == "numpy":
        there.data[0] = 5.0
        assert x.numpy().tolist() == [1.0, 2.0]


def test_a_moved_result_is_a_constant() -> None:
    y = mg.tensor([1.0], requires_grad=True) * 2
    other = "strict" if y.backend.name == "numpy" else "numpy"
    assert not y.to(other).requires_grad


def test_a_moved_parameter_is_a_parameter() -> None:
    w = mg.Parameter([1.0, 2.0])
    w.name = "cell.weight"
    other = "strict" if w.backend.name == "numpy" else "numpy"
    moved = w.to(other)
    assert isinstance(moved, mg.Parameter)
    assert (moved.name, moved.requires_grad, moved.backend.name) == ("cell.weight", True, other)
    assert w.to(w.backend) is w


# --- random numbers


def test_a_seed_gives_the_same_numbers_again_and_everywhere() -> None:
    def draws() -> list[Any]:
        mg.seed(11)
        x = mg.ones((3, 4))
        return [a.numpy() for a in (mg.normal(shape=(2, 3)), mg.uniform(shape=5), mg.dropout(x, 0.5), mg.normal())]

    first = draws()
    for place in ("numpy", "strict"):
        with mg.use_backend(place):
            for one, other in zip(first, draws(), strict=True):
                np.testing.assert_array_equal(one, other)
    assert first[3] != mg.normal().numpy()


@pytest.mark.host_only("numbers are drawn on the host")
def test_the_random_state_survives_json() -> None:
    mg.normal(shape=3)
    state = json.loads(json.dumps(backends.random_state()))
    first = mg.normal(shape=4).numpy()
    mg.normal(shape=9)
    backends.set_random_state(state)
    np.testing.assert_array_equal(mg.normal(shape=4).numpy(), first)


# --- dtypes


def test_default_dtype() -> None:
    assert mg.get_default_dtype() == np.float32
    with mg.default_dtype("float64"):
        for made in (mg.zeros(1), mg.tensor(1.0), mg.normal(), mg.one_hot(mg.tensor([0]), 2), mg.arange(0.0, 1.0, 0.5)):
            assert made.dtype == np.float64
    assert mg.tensor([1.0]).dtype == np.float32
    mg.set_default_dtype("float64")
    assert mg.tensor([1.0]).dtype == np.float64
    assert mg.tensor([1]).dtype == np.int64
    for wrong in ("float16", "int32"):
        with pytest.raises(ValueError, match="'float32' or 'float64', not"):
            mg.set_default_dtype(wrong)


# --- the stand-in


@pytest.mark.host_only("about the stand-in itself")
def test_the_stand_in_refuses_what_cupy_refuses() -> None:
    backend, host = StrictBackend(), np.ones(3, "float32")
    device = backend.asarray(host)
    attempts: list[Any] = [
        lambda: np.tanh(device),
        lambda: np.asarray(device),
        lambda: np.concatenate([device, device]),
        lambda: device + host,
        lambda: host + device,
        lambda: host == device,
        lambda: device * np.float32(2),
        lambda: np.float32(2) * device,
        lambda: device.__iadd__(host),
        lambda: backend.xp.tanh(host),
        lambda: backend.xp.concatenate([device, host]),
        lambda: backend.xp.where(device > 0, device, np.float32(0)),
        lambda: device.__setitem__(0, host[0]),
        lambda: device.max(initial=0),
    ]
    for attempt in attempts:
        with pytest.raises(TypeError):
            attempt()
    with pytest.raises(IndexError):
        device[np.array([0])]
    with pytest.raises(AttributeError):
        backend.xp.apply_along_axis  # noqa: B018  # the access is the test
    assert isinstance(device.sum(), StrictArray)
    assert isinstance(device[0], StrictArray)
    assert device.sum().shape == ()
    host[0] = 7
    assert device.get().tolist() == [1, 1, 1]
