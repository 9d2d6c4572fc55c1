"""Storage in 16 bits: numbers are rounded as NumPy rounds them, results are near those of float32, and less is kept."""

from __future__ import annotations

import shutil
from math import prod
from types import SimpleNamespace
from typing import Any

import fake_cuda_blas
import numpy as np
import pytest
from cuda_programs import plugin_cells
from plan_cells import CELLS
from plan_cells_random import RANDOM
from plan_runs import Case, run
from test_cuda_join import A_STEP, OWN, launches

import minigrad as mg
from minigrad.plan.cuda.executor import CudaExecutor
from minigrad.plan.cuda.layout import NARROW
from minigrad.plan.cuda.source import preamble
from minigrad.plan.cuda.storage import Converter, chosen

pytestmark = [
    pytest.mark.host_only("it has a stand-in of its own"),
    pytest.mark.usefixtures("fake"),
    pytest.mark.skipif(not shutil.which("g++"), reason="there is no g++ to compile the kernels for the CPU"),
]
TYPES = {"float16": 2, "bfloat16": 14}
"""With cuBLAS's numbers of them."""

APART = {"float16": 4e-3, "bfloat16": 3e-2}
"""How far a result may be from that of float32, over its size: some units in the last of 11 and of 8 bits.

Three times as far with layer normalisation, which divides by what may be small.
"""

ALL = CELLS | RANDOM | plugin_cells() | OWN
NAMED = ["rnn", "lstm", "gru", "gru-reset-before", "mgu", "layer_norm_lstm", "layer_norm_gru", "lstmp", "peephole_lstm"]


# --- conversions


@pytest.fixture(params=TYPES)
def converter(request: pytest.FixtureRequest, fake: Any) -> Any:
    module = fake.xp.RawModule(code=preamble(np.dtype("float32"), request.param))
    made = Converter(fake.xp, {name: module.get_function(name) for name in ("narrow", "widen")})
    return SimpleNamespace(it=made, kind=TYPES[request.param], xp=fake.xp)


def test_every_16_bit_number_is_read(converter: Any) -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    found = converter.it.widened(converter.xp.asarray(bits)).get()
    expected = fake_cuda_blas.wide(bits.view(fake_cuda_blas.DTYPES[converter.kind]), converter.kind)
    np.testing.assert_array_equal(found, expected)


def test_rounding_to_the_nearest_of_two_the_even(converter: Any) -> None:
    """All 16-bit numbers, the middle between each and the next, and the float32 numbers beside these; and many more."""
    with np.errstate(all="ignore"):
        every = fake_cuda_blas.wide(
            np.arange(1 << 16, dtype=np.uint16).view(fake_cuda_blas.DTYPES[converter.kind]), converter.kind
        )
        middles = ((every[:-1].astype("float64") + every[1:]) / 2).astype("float32")
        beside = [np.nextafter(middles, np.float32(far)) for far in (np.inf, -np.inf)]
        any_bits = (
            np.random.default_rng(0).integers(0, 1 << 32, 1 << 19, dtype=np.uint64).astype("uint32").view("float32")
        )
    numbers = np.concatenate([every, middles, *beside, any_bits])
    narrow = converter.xp.asarray(np.zeros(len(numbers), NARROW))
    converter.it.narrow(converter.xp.asarray(numbers), narrow)
    found = narrow.get()
    with np.errstate(all="ignore"):
        expected = fake_cuda_blas.narrow(numbers, converter.kind).view(np.uint16)
    known = ~np.isnan(numbers)
    np.testing.assert_array_equal(found[known], expected[known])
    largest = np.uint16(0x7C00 if converter.kind == 2 else 0x7F80)
    assert (found[~known] & 0x7FFF > largest).all(), "a NaN stays one"


# --- results


def in_float32(layer: mg.Recurrent, case: Case, **options: Any) -> dict[str, Any]:
    return flat(run(mg.Recurrent(layer.cell, engine="tape", reverse=layer.reverse), case, **options))


def flat(nest: Any, name: str = "") -> dict[str, Any]:
    """The arrays of a run's results by their names."""
    if isinstance(nest, dict | list):
        pairs = nest.items() if isinstance(nest, dict) else enumerate(nest)
        return {key: array for word, part in pairs for key, array in flat(part, f"{name} {word}").items()}
    return {name: nest}


def agree(found: dict[str, Any], expected: dict[str, Any], bound: float) -> None:
    """Whether all results are so near: by the size of each as a whole."""
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        apart = np.linalg.norm(found[name].astype("float64") - array)
        assert apart <= bound * max(np.linalg.norm(array.astype("float64")), 1e-3), (name, apart)


def executor_of(layer: mg.Recurrent) -> Any:
    found = layer._plans.latest.executor
    assert isinstance(found, CudaExecutor)
    return found


@pytest.mark.parametrize("storage", TYPES)
@pytest.mark.parametrize("name", NAMED)
def test_near_float32(name: str, storage: str, fake: Any) -> None:
    """Run three times: step by step, captured, and launched."""
    fake.storage = storage
    cell = ALL[name]()
    layer, case = mg.Recurrent(cell, engine="plan"), Case(cell)
    expected = in_float32(layer, case, lengths=[5, 2, 4])
    for _ in range(3):
        found = flat(run(layer, case, lengths=[5, 2, 4]))
        agree(found, expected, APART[storage] * (3 if "norm" in name else 1))
    assert storage in layer.explain()
    kinds = {array.kind for array in executor_of(layer).schedule.arrays if array.dtype == NARROW}
    assert kinds >= {"given", "matrix", "saved", "carry"}
    apart = max(np.abs(found[name] - expected[name]).max() for name in expected)
    assert apart > 1e-6, "nothing was rounded"


@pytest.mark.parametrize("name", [name for name in ALL if name not in NAMED])
def test_whatever_a_cell_does(name: str, fake: Any) -> None:
    """Decisions by values, such as those of ReLU or argmax, may turn out otherwise, so that bounds are wide."""
    fake.storage = "float16"
    cell = ALL[name]()
    layer, case = mg.Recurrent(cell, engine="plan", checkpoint_every=2), Case(cell)
    expected = in_float32(layer, case)
    for _ in range(2):
        agree(flat(run(layer, case)), expected, 5e-2)


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru", "mgu", "layer_norm_lstm", "Gates", "gru-reset-before"])
def test_a_step_has_no_more_launches(name: str, fake: Any) -> None:
    fake.storage = "bfloat16"
    cuda = fake.xp.cuda
    shorter, longer = (launches(cuda, ALL[name], steps) for steps in (2, 3))
    assert tuple(b - a for a, b in zip(shorter, longer, strict=True)) == A_STEP[name]


def test_less_is_kept(fake: Any) -> None:
    """Of an LSTM's memory a third less, though states stay as they are."""

    def kept(storage: str) -> int:
        fake.storage = storage
        layer = mg.Recurrent(mg.LSTMCell(8, 16), engine="plan")
        layer(mg.tensor(mg.normal(shape=(5, 4, 8)), True))[0].sum().backward()
        schedule, memory = executor_of(layer).schedule, executor_of(layer).spare[0]
        return sum(
            prod(memory.arrays[array.number].shape) * array.dtype.itemsize
            for array in schedule.arrays
            if array.number in memory.arrays
        )

    wide, narrow = kept("float32"), kept("float16")
    assert narrow < 0.67 * wide


def test_too_large_a_number_shows(fake: Any) -> None:
    """65520 is the least that rounds to infinity in float16, and fits bfloat16 easily."""
    found = {}
    for storage in TYPES:
        fake.storage = storage
        cell = mg.RNNCell(2, 3, nonlinearity="relu")
        layer, x = mg.Recurrent(cell, engine="plan"), mg.ones((4, 1, 2))
        cell.weight_ih.data = fake.asarray(np.full((3, 2), 65520.0, "float32"))
        cell.weight_hh.data = fake.asarray(np.zeros((3, 3), "float32"))
        found[storage] = layer(x)[0].numpy()
    assert np.isinf(found["float16"][0]).all()
    assert not np.isfinite(found["float16"]).any()
    np.testing.assert_allclose(found["bfloat16"], 2 * 65520.0, rtol=1e-2)


def test_float64_is_left_alone(fake: Any) -> None:
    fake.storage = "bfloat16"
    mg.set_default_dtype("float64")
    cell = mg.LSTMCell(2, 5)
    layer, case = mg.Recurrent(cell, engine="plan"), Case(cell)
    agree(flat(run(layer, case)), in_float32(layer, case), 1e-12)
    assert "bfloat16" not in layer.explain()


def test_parameters_and_gradients_stay_float32(fake: Any) -> None:
    """And a table's gradient, which is put together row by row, is summed in float32."""
    fake.storage = "bfloat16"
    cell = ALL["Letters"]()
    layer, case = mg.Recurrent(cell, engine="plan"), Case(cell)
    found, expected = flat(run(layer, case)), in_float32(layer, case)
    agree(found, expected, APART["bfloat16"])
    assert {array.dtype.name for array in found.values()} <= {"float32", "int64"}


# --- how it is asked for


def test_asked_for(fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MINIGRAD_STORAGE", raising=False)
    assert chosen(fake) == ""
    monkeypatch.setenv("MINIGRAD_STORAGE", "bfloat16")
    assert chosen(fake) == "bfloat16"
    fake.storage = "float16"
    assert chosen(fake) == "float16", "a program has the last word"
    fake.storage = "float32"
    assert chosen(fake) == ""


def test_what_cannot_be_had_is_told(fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIGRAD_STORAGE", "half")
    with pytest.warns(UserWarning, match=r"MINIGRAD_STORAGE is 'half'; it may be 'float16', 'bfloat16'"):
        assert chosen(fake) == ""
    fake.storage = "bfloat16"
    monkeypatch.setattr(fake.xp.cuda, "Device", lambda: SimpleNamespace(id=0, compute_capability="75"))
    with pytest.warns(
        UserWarning, match=r"storage is 'bfloat16', which takes a GPU of compute capability 8.0 or newer"
    ):
        assert chosen(fake) == ""
