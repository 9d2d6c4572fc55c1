"""Recurrent layers on a GPU, in each library: made of the same data, run without waiting for the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from recurrent_cells import Inputs, Runner, minigrad_runner

PEERS = {
    "plan": "minigrad plan, CUDA",
    "tape": "minigrad tape, CuPy",
    "torch-nn": "torch nn layer, cuDNN",
    "torch-eager": "torch eager",
    "torch-compile": "torch compile",
    "jax": "jax scan",
}
LIBRARIES = {"plan": "cupy", "tape": "cupy", "torch-nn": "torch", "torch-eager": "torch", "torch-compile": "torch"}
"""Which package a peer needs; JAX's is `jax`."""


class Clock(NamedTuple):
    """How a library's time on the device is taken.

    Attributes:
        mark: puts a mark on the stream of work.
        between: seconds from one mark to the next; waits for it.
        finish: waits for all work.
        device, version: of the GPU and the library, in words.
    """

    mark: Callable[[], Any]
    between: Callable[[Any, Any], float]
    finish: Callable[[Any], None]
    device: str
    version: str


def clock_of(peer: str) -> Clock:
    """Device events; JAX has none, and is timed by the host over calls that are waited for together."""
    if peer in ("plan", "tape"):
        import cupy

        def mark() -> Any:
            event = cupy.cuda.Event()
            event.record()
            return event

        def between(first: Any, last: Any) -> float:
            last.synchronize()
            return float(cupy.cuda.get_elapsed_time(first, last)) / 1e3

        name = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()

        def finish(result: Any) -> None:
            cupy.cuda.get_current_stream().synchronize()

        return Clock(mark, between, finish, name, f"CuPy {cupy.__version__}")
    if peer.startswith("torch"):
        import torch

        def record() -> Any:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            return event

        def elapsed(first: Any, last: Any) -> float:
            last.synchronize()
            return float(first.elapsed_time(last)) / 1e3

        cudnn = torch.backends.cudnn.version()
        version = f"PyTorch {torch.__version__}, cuDNN {cudnn}"
        return Clock(record, elapsed, lambda result: torch.cuda.synchronize(), torch.cuda.get_device_name(0), version)
    import time

    import jax

    device = str(jax.devices()[0])
    return Clock(
        time.perf_counter, lambda a, b: b - a, lambda result: jax.block_until_ready(result), device,
        f"JAX {jax.__version__}",
    )  # fmt: skip


def runner(peer: str, cell: str, inputs: Inputs) -> Runner:
    """A cell in a library, on the GPU, in float32 without TF32, and without waiting for the device."""
    if peer in ("plan", "tape"):
        import minigrad as mg

        mg.set_backend("cupy")
        return minigrad_runner(peer, cell, inputs)
    if peer.startswith("torch"):
        import torch
        from recurrent_torch import torch_runner

        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        return torch_runner(peer, cell, inputs, "cuda")
    import jax
    from recurrent_jax import jax_runner

    jax.config.update("jax_default_matmul_precision", "float32")
    return jax_runner(cell, inputs, finish=lambda result: result)
