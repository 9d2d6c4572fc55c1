"""The CUDA source of many cells: NVIDIA's compiler takes it, and it is as it is meant to be."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from contextlib import suppress
from ctypes.util import find_library
from pathlib import Path

import numpy as np
import pytest
from cuda_programs import kernels, plugin_cells, program_of
from plan_cells import CELLS

import minigrad as mg
from minigrad.plan.cuda.layout import Kernel, Product
from minigrad.plan.cuda.schedule import Schedule
from minigrad.plan.cuda.source import module, preamble, write
from minigrad.plan.cuda.storage import schedule_of

pytestmark = pytest.mark.host_only("source code is made without any array")

NVCC = shutil.which("nvcc") or ("/usr/local/cuda/bin/nvcc" if Path("/usr/local/cuda/bin/nvcc").exists() else None)

SOME = ("rnn", "lstm", "gru", "gru-reset-before", "mgu", "layer_norm_lstm", "lstmp", "Letters", "Memory", "Reductions")
"""Cells with kernels of each kind."""


@pytest.mark.skipif(NVCC is None, reason="nvcc, NVIDIA's compiler, is not installed")
@pytest.mark.parametrize(
    ("dtype", "storage", "architecture"),
    [
        ("float32", "", "sm_80"),
        ("float32", "", "sm_90"),
        ("float64", "", "sm_90"),
        ("float32", "bfloat16", "sm_80"),
        ("float32", "float16", "sm_90"),
    ],
)
def test_nvcc_compiles_the_kernels_of_all_cells(dtype: str, storage: str, architecture: str, tmp_path: Path) -> None:
    """For the A100's and the H100's generation, all at once: kernels of one name get a number."""
    cells = kernels(dtype, storage, SOME if storage else None)
    assert len(cells) >= (len(SOME) if storage else 65)
    assert {"rnn", "lstm", "gru", "mgu", "layer_norm_lstm", *([] if storage else plugin_cells())} <= cells.keys()
    assert not storage or all(f"{storage} *" in "".join(cells[name]) for name in ("rnn", "lstm", "gru"))
    parts = [preamble(np.dtype(dtype), storage)]
    for number, (name, texts) in enumerate(cells.items()):
        parts += [f"// {name}", *(re.sub(r"(__global__ void \w+)\(", rf"\1_of_{number}(", text) for text in texts)]
    source = tmp_path / "kernels.cu"
    source.write_text("\n".join(parts), encoding="utf-8")
    out = tmp_path / "kernels.cubin"
    command = [str(NVCC), "-std=c++17", "-cubin", f"-arch={architecture}", "-Werror", "all-warnings", "-o", str(out)]
    done = subprocess.run([*command, str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert out.stat().st_size > (30_000 if storage else 100_000)


def work(cell: mg.Cell) -> dict[str, list[str]]:
    """What is done in each section: products and kernels."""
    schedule = Schedule(program_of(cell))
    return {
        section.name: ["product" if isinstance(item, Product) else "kernel" for item in section.work]
        for section in (*schedule.sections["forward"], *schedule.sections["backward"])
    }


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_a_step_is_one_product_and_one_kernel(name: str) -> None:
    done = work(mg.cell(name, 2, 5))
    assert done["forward"] == ["product", "kernel"]
    assert done["backward"] == ["kernel", "product"]
    assert done["forward_before"] == ["product"]
    assert done["backward_after"] == ["product"]
    assert done["forward_after"] == done["backward_before"] == []


def test_each_product_that_waits_for_another_has_a_kernel_of_its_own() -> None:
    done = work(mg.GRUCell(2, 5, reset_after=False))
    assert done["forward"] == ["product", "kernel", "product", "kernel"]
    assert done["backward"] == ["kernel", "product", "kernel", "product"]


def test_layer_norm_and_softmax_are_inside_the_kernel() -> None:
    class Normed(mg.Cell):
        def __init__(self) -> None:
            self.over, self.norm = mg.Linear(5, 5), mg.LayerNorm(5)

        def init_state(self, batch_size: int) -> mg.Tensor:
            return mg.zeros((batch_size, 5))

        def step(self, x: mg.Tensor, state: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
            state = mg.softmax(mg.tanh(self.norm(self.over(state) + x[:, :1])))
            return state, state

    schedule = Schedule(program_of(Normed()))
    loop = schedule.forward
    assert [type(item) for item in loop.work] == [Product, Kernel]
    (kernel,) = (item for item in loop.work if isinstance(item, Kernel))
    assert kernel.by_rows
    text = write(schedule)["forward"].text
    assert text.count("block_mean") == 2
    assert "block_softmax" in text
    assert text.count("{") == text.count("}")


def test_the_names_are_the_cells() -> None:
    schedule = Schedule(program_of(mg.LSTMCell(2, 5)))
    text = "\n".join(kernel.text for kernel in write(schedule).values())
    for name in ("state_0", "state_1", "d_state_1", "d_output_0", "v_sigmoid(", "v_tanh("):
        assert name in text
    assert set(map(schedule.name, schedule.arrays)) >= {"x", "weight_ih", "weight_hh"}


def test_names_that_are_taken() -> None:
    class Named(mg.Cell):
        def __init__(self) -> None:
            self.tanh, self.new, self.rows = (mg.Parameter(mg.ones((5,))) for _ in range(3))

        def init_state(self, batch_size: int) -> mg.Tensor:
            return mg.zeros((batch_size, 5))

        def step(self, x: mg.Tensor, state: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
            state = mg.tanh(state * self.tanh + self.new) * self.rows + x[:, :1]
            return state, state

    schedule = Schedule(program_of(Named()))
    write(schedule)
    assert {"p_tanh", "p_new", "p_rows"} <= set(map(schedule.name, schedule.arrays))


# --- NVRTC, which compiles at run time for CuPy and has no headers of the host


def nvrtc() -> ctypes.CDLL | None:
    """The library, where it is installed or LIBNVRTC says that it is."""
    names = [os.environ.get("LIBNVRTC"), find_library("nvrtc"), "libnvrtc.so.13", "libnvrtc.so.12"]
    for name in filter(None, names):
        with suppress(OSError):
            return ctypes.CDLL(name)
    return None


@pytest.mark.skipif(nvrtc() is None, reason="NVRTC is not installed (LIBNVRTC may name its file)")
@pytest.mark.parametrize("name", ["lstm", "gru-reset-before", "layer_norm_lstm", "Nested"])
@pytest.mark.parametrize(
    ("dtype", "storage"), [("float32", ""), ("float64", ""), ("float32", "float16"), ("float32", "bfloat16")]
)
def test_nvrtc_compiles_a_module(dtype: str, storage: str, name: str) -> None:
    library = nvrtc()
    with mg.default_dtype(dtype):
        schedule = schedule_of(program_of((CELLS | plugin_cells())[name](), dtype=dtype), storage)
    source = module(schedule, write(schedule)).encode()
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    assert library.nvrtcCreateProgram(ctypes.byref(program), source, b"plan.cu", 0, None, None) == 0
    options = (ctypes.c_char_p * 2)(b"--std=c++14", b"--gpu-architecture=sm_90")
    status = library.nvrtcCompileProgram(program, 2, options)
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    assert status == 0, log.value.decode()
    assert b"warning" not in log.value, log.value.decode()
