"""Recurrent layers on a GPU, in each library: made of the same data, run without waiting for the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from recurrent_cells import CELLS, Inputs

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


class Runner(NamedTuple):
    """A cell in a library on the GPU.

    Attributes:
        train: one forward and backward; gives the outputs and the gradients by minigrad's names, perhaps unfinished.
        forward: the outputs alone, with nothing recorded.
        to_numpy: makes an array of an output or a gradient.
        note: how it runs; asked after the first call.
        layer: minigrad's.
    """

    train: Callable[[], tuple[Any, dict[str, Any]]]
    forward: Callable[[], Any]
    to_numpy: Callable[[Any], np.ndarray]
    note: Callable[[], str]
    layer: Any = None


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
        finish = lambda result: cupy.cuda.get_current_stream().synchronize()  # noqa: E731
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
    """A cell in a library."""
    if peer in ("plan", "tape"):
        return minigrad_runner(peer, cell, inputs)
    return torch_runner(peer, cell, inputs) if peer.startswith("torch") else jax_runner(cell, inputs)


def minigrad_runner(engine: str, cell: str, inputs: Inputs) -> Runner:
    """minigrad on CuPy, with one of its engines."""
    import minigrad as mg

    mg.set_backend("cupy")
    made = CELLS[cell](inputs.size.inputs, inputs.size.hidden)
    made.load_state_dict(inputs.weights)
    layer = mg.Recurrent(made, engine=engine)
    x, dy = mg.tensor(inputs.x), mg.tensor(inputs.dy)
    parameters = dict(made.named_parameters())

    def train() -> tuple[Any, dict[str, Any]]:
        layer.zero_grad()
        ys, _ = layer(x)
        ys.backward(dy)
        return ys, {name: parameter.grad for name, parameter in parameters.items()}

    def forward() -> Any:
        with mg.no_grad():
            return layer(x)[0]

    def note() -> str:
        return "\n".join(layer.explain().splitlines()[:2])

    return Runner(train, forward, lambda value: value.numpy(), note, layer)


def torch_runner(peer: str, cell: str, inputs: Inputs) -> Runner:
    """PyTorch: its own layer by cuDNN, or a user's cell in a loop. All in float32, without TF32."""
    import torch
    from recurrent_torch import CELLS as USERS
    from recurrent_torch import LAYERS, NOTES, USERS_NAMES, Loop

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    size = inputs.size
    if peer == "torch-nn":
        layer = module = LAYERS[cell](size.inputs, size.hidden).cuda()
        names = {name: f"{name}_l0" for name in inputs.weights}
        note = f"torch.nn.{type(layer).__name__} by cuDNN {torch.backends.cudnn.version()}"
    else:
        module = USERS[cell](size.inputs, size.hidden).cuda()
        names = {name: USERS_NAMES.get(name, name) for name in inputs.weights}
        step = torch.compile(module) if peer == "torch-compile" else module
        layer = Loop(step, size.hidden, pair=cell in ("lstm", "lnlstm"))
        note = NOTES[peer]
    module.load_state_dict({names[name]: torch.from_numpy(weight) for name, weight in inputs.weights.items()})
    known = dict(module.named_parameters())
    parameters = {name: known[theirs] for name, theirs in names.items()}
    x, dy = torch.from_numpy(inputs.x).cuda(), torch.from_numpy(inputs.dy).cuda()

    def train() -> tuple[Any, dict[str, Any]]:
        for parameter in parameters.values():
            parameter.grad = None
        ys, _ = layer(x)
        ys.backward(dy)
        return ys, {name: parameter.grad for name, parameter in parameters.items()}

    def forward() -> Any:
        with torch.no_grad():
            return layer(x)[0]

    return Runner(train, forward, lambda value: value.detach().cpu().numpy(), lambda: note)


def jax_runner(cell: str, inputs: Inputs) -> Runner:
    """JAX on the GPU, in float32 without TF32."""
    import jax
    from jax import numpy as jnp
    from recurrent_jax import STEPS

    jax.config.update("jax_default_matmul_precision", "float32")
    step = STEPS[cell]

    def sequence(weights: Any, x: Any) -> Any:
        zeros = jnp.zeros((x.shape[1], inputs.size.hidden), x.dtype)
        carry = (zeros, zeros) if cell in ("lstm", "lnlstm") else zeros
        return jax.lax.scan(lambda carry, x: step(weights, carry, x), carry, x)[1]

    @jax.jit
    def train_step(weights: Any, x: Any, dy: Any) -> Any:
        ys, backward = jax.vjp(lambda weights: sequence(weights, x), weights)
        return ys, backward(dy)[0]

    weights = {name: jnp.asarray(weight.T) for name, weight in inputs.weights.items()}
    x, dy = jnp.asarray(inputs.x), jnp.asarray(inputs.dy)
    outputs = jax.jit(sequence)
    return Runner(
        train=lambda: train_step(weights, x, dy),
        forward=lambda: outputs(weights, x),
        to_numpy=lambda value: np.asarray(value).T if value.ndim == 2 else np.asarray(value),
        note=lambda: "jax.jit of vjp over lax.scan",
    )
