"""Microseconds per operation, forward plus backward, of the tape beside PyTorch eager.

    python benchmarks/tape.py [--rounds 7] [--steps 50]

On 4 x 4 float32 matrices the arithmetic costs next to nothing: what is left is the price of recording an operation
and walking back over it. The two libraries run in processes of their own, on one thread, in alternating rounds;
the medians over the rounds are shown. Without PyTorch in this interpreter only minigrad is measured.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from processes import Turns, in_turn, is_installed, medians
from timing import Say, serve

SIZE = 4
ROWS: dict[str, Callable[..., Any]] = {
    "mix: h = tanh(h*W); h = h@W + B": lambda f, h, W, B, b: f.tanh(h * W) @ W + B,
    "h + W": lambda f, h, W, B, b: h + W,
    "h + b (broadcast)": lambda f, h, W, B, b: h + b,
    "h * W": lambda f, h, W, B, b: h * W,
    "h / W": lambda f, h, W, B, b: h / W,
    "h ** 2": lambda f, h, W, B, b: h**2,
    "h @ W": lambda f, h, W, B, b: h @ W,
    "tanh(h)": lambda f, h, W, B, b: f.tanh(h),
    "sigmoid(h)": lambda f, h, W, B, b: f.sigmoid(h),
    "h[0:4]": lambda f, h, W, B, b: h[0:4],
    "h.reshape(4, 4)": lambda f, h, W, B, b: h.reshape(SIZE, SIZE),
    "h.T": lambda f, h, W, B, b: h.T,
    "softmax(h, -1)": lambda f, h, W, B, b: f.softmax(h, -1),
}
OPS = {"mix: h = tanh(h*W); h = h@W + B": 4}


def library(name: str) -> tuple[Any, Callable[[Any], Any]]:
    """A library's functions, and how it makes a leaf of nested lists."""
    if name == "torch":
        import torch

        torch.set_num_threads(1)
        return torch, lambda data: torch.tensor(data, dtype=torch.float32, requires_grad=True)
    import minigrad as mg

    return mg, lambda data: mg.tensor(data, dtype="float32", requires_grad=True)


def measure(arguments: list[str], say: Say) -> None:
    """Answer each line on stdin with one timing of every row: microseconds per operation."""
    name, steps = arguments[1], int(arguments[2])
    functions, leaf = library(name)
    say({})
    # sizes for which 50 steps neither overflow nor reach the denormal numbers, whose arithmetic is slow
    W = leaf([[0.24 + 0.002 * (3 * i + j) for j in range(SIZE)] for i in range(SIZE)])
    B = leaf([[0.1] * SIZE] * SIZE)
    b = leaf([0.1] * SIZE)
    start = leaf([[0.5 + 0.1 * (i - j) for j in range(SIZE)] for i in range(SIZE)])

    def run(step: Callable[..., Any], times: int) -> float:
        begin = time.perf_counter()
        for _ in range(times):
            h = start
            for _ in range(steps):
                h = step(functions, h, W, B, b)
            h.sum().backward()
            W.grad = B.grad = b.grad = start.grad = None
        return (time.perf_counter() - begin) / times

    for _ in sys.stdin:
        result = {}
        for row, step in ROWS.items():
            run(step, 3)
            seconds = min(run(step, 5) for _ in range(4))
            result[row] = seconds * 1e6 / (steps * OPS.get(row, 1))
        say(result)


def rounds_of(names: list[str], rounds: int, steps: int) -> dict[str, dict[str, float]]:
    """The medians of each library, which take turns."""
    commands = {name: ["tape.py", "--worker", name, str(steps)] for name in names}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        found = in_turn(commands, Turns(1, rounds, "go", 120.0), Path(folder))
    for name, answer in found.items():
        if "missing" in answer:
            raise SystemExit(f"{name} was not measured: {answer['missing']}")
    return {name: medians(answer["rounds"]) for name, answer in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="how many turns each library has")
    parser.add_argument("--steps", type=int, default=50, help="length of the chain")
    options = parser.parse_args()
    from rich.console import Console
    from rich.table import Table

    has_torch = is_installed("torch")
    found = rounds_of(["minigrad", "torch"] if has_torch else ["minigrad"], options.rounds, options.steps)
    table = Table(title=f"microseconds per operation, forward + backward, {SIZE} x {SIZE} float32, one thread")
    table.add_column(f"{options.steps} steps of")
    for column in ("minigrad", "PyTorch", "ratio"):
        table.add_column(column, justify="right")
    for row in ROWS:
        mine, theirs = found["minigrad"][row], found.get("torch", {}).get(row)
        compared = (f"{theirs:.2f}", f"{mine / theirs:.2f}") if theirs else ("-", "-")
        table.add_row(row, f"{mine:.2f}", *compared, end_section=row in OPS)
    console = Console()
    console.print(table)
    import numpy as np

    import minigrad as mg

    versions = [f"Python {sys.version.split()[0]}", f"NumPy {np.__version__}", f"backend {mg.get_backend().name}"]
    if has_torch:
        import torch

        versions.append(f"PyTorch {torch.__version__}")
    console.print(
        f"{', '.join(versions)}; medians of {options.rounds} alternating rounds; ratio below 1: minigrad is faster"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        serve(measure)
    else:
        main()
