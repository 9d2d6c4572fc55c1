"""Milliseconds per train step on a GPU with TF32, with storage in 16 bits, and of two directions at once.

    python benchmarks/gpu_options.py [--cells lstm mgu] [--sizes 50,64,128,256 ...] [--budget 0.2]

Each way is one of `MINIGRAD_STORAGE` and `CUPY_TF32`. Beside its time is how far its outputs and gradients are from
those of float32: the size of the difference over that of the result, the largest of all. A bidirectional layer is
compared with twice the same cell in one direction, and with PyTorch's where that is installed: at 0.5 the directions
cost no more than one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from gpu_peers import Clock, clock_of, runner
from gpu_worker import seconds_of
from processes import is_installed
from recurrent_cells import CELLS, Size, make_inputs
from tables import compared, console, milliseconds, new_table

WAYS: dict[str, dict[str, Any]] = {
    "float32": {"storage": "float32", "tf32": False},
    "TF32 products": {"storage": "float32", "tf32": True},
    "bfloat16 kept": {"storage": "bfloat16", "tf32": False},
    "float16 kept": {"storage": "float16", "tf32": False},
}
SIZES = ("50,64,128,256", "100,64,512,512", "100,128,1024,1024")


def apart(found: dict[str, Any], expected: dict[str, Any]) -> float:
    """The largest difference of a result, by its size; infinite if one is not finite."""
    far = [np.linalg.norm(found[name] - expected[name]) / np.linalg.norm(expected[name]) for name in expected]
    return float(max(far)) if np.isfinite(far).all() else float("inf")


def ways(cells: list[str], sizes: list[str], budget: float, clock: Clock) -> None:
    """A table of each way's times."""
    import minigrad as mg

    backend = mg.get_backend()
    plain, *others = WAYS
    heads = [f"{plain}, ms", *(word for way in others for word in (f"{way}, ms", "apart"))]
    made = new_table("a train step, by how numbers are kept and multiplied", ["cell", "T,B,I,H"], heads)
    for cell in cells:
        for text in sizes:
            inputs, row, expected = make_inputs(cell, Size.parse(text)), [], {}
            for way, settings in WAYS.items():
                try:
                    vars(backend).update(settings)
                    run = runner("plan", cell, inputs)
                    ys, gradients = run.train()
                    found = {name: run.to_numpy(value) for name, value in {**gradients, "outputs": ys}.items()}
                    time = milliseconds(seconds_of(run.train, clock, budget))
                    row += [time] if way == plain else [time, f"{apart(found, expected):.1e}" if expected else "-"]
                    expected = found if way == plain else expected
                except Exception as error:  # the other ways are worth having
                    console.print(f"{cell} {text} {way}: {type(error).__name__}: {error}")
                    row += ["-"] * (1 if way == plain else 2)
                finally:
                    vars(backend).update(WAYS[plain])
            made.add_row(cell, text, *row)
    console.print(made)


def step_of(layer: Any, inputs: Any, sides: int) -> Callable[[], Any]:
    """A train step of one of minigrad's layers."""
    import minigrad as mg

    x = mg.tensor(inputs.x, requires_grad=True)
    dy = mg.tensor(np.concatenate([inputs.dy] * sides, axis=-1))

    def train() -> Any:
        layer.zero_grad()
        x.grad = None
        ys, _ = layer(x)
        ys.backward(dy)
        return ys

    return train


def torch_step(inputs: Any) -> Callable[[], Any]:
    """PyTorch's bidirectional LSTM, with cuDNN."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    layer = torch.nn.LSTM(inputs.size.inputs, inputs.size.hidden, bidirectional=True, device="cuda")
    x = torch.tensor(inputs.x, device="cuda", requires_grad=True)
    dy = torch.tensor(np.concatenate([inputs.dy] * 2, axis=-1), device="cuda")

    def train() -> Any:
        layer.zero_grad(set_to_none=True)
        x.grad = None
        ys, _ = layer(x)
        ys.backward(dy)
        return ys

    return train


def directions(cells: list[str], sizes: list[str], budget: float, clock: Clock) -> None:
    """A table of bidirectional layers, and whether a result moves from one run to the next, as it would in a race."""
    import minigrad as mg

    heads = ["one, ms", "both, ms", "over twice one", "torch, ms", "runs that differ"]
    made = new_table("both directions of a layer", ["cell", "T,B,I,H"], heads)
    for cell in cells:
        for text in sizes:
            try:
                size = Size.parse(text)
                inputs = make_inputs(cell, size)
                one = mg.Recurrent(CELLS[cell](size.inputs, size.hidden), engine="plan")
                both = mg.Bidirectional(CELLS[cell](size.inputs, size.hidden), engine="plan")
                single = seconds_of(step_of(one, inputs, 1), clock, budget)
                train = step_of(both, inputs, 2)
                double = seconds_of(train, clock, budget)
                first, moved = None, 0
                for _ in range(20):
                    ys = train()
                    results = [ys.numpy(), *(p.grad.numpy() for p in both.parameters())]
                    first = first or results
                    moved += any((a != b).any() for a, b in zip(results, first, strict=True))
                torch = None
                if cell == "lstm" and is_installed("torch"):
                    torch = seconds_of(torch_step(inputs), clock_of("torch-nn"), budget)
                ratio = compared(double / (2 * single))
                made.add_row(
                    cell, text, milliseconds(single), milliseconds(double), ratio, milliseconds(torch), str(moved)
                )
            except Exception as error:  # the other cases are worth having
                console.print(f"{cell} {text} bidirectional: {type(error).__name__}: {error}")
    console.print(made)


def main() -> None:
    from gpu import no_device

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", choices=list(CELLS), default=["lstm", "mgu"])
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), metavar="T,B,I,H")
    parser.add_argument("--budget", type=float, default=0.2, metavar="SECONDS", help="to measure a case (default 0.2)")
    options = parser.parse_args()
    if reason := no_device():
        sys.exit(f"nothing is measured without a GPU: {reason}")
    import minigrad as mg

    mg.set_backend("cupy")
    clock = clock_of("plan")
    directions(options.cells, options.sizes, options.budget, clock)
    ways(options.cells, options.sizes, options.budget, clock)


if __name__ == "__main__":
    main()
