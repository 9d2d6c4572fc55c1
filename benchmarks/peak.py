"""The machine's peak in matrix products, GFLOP/s: the best that any library here reaches on large float32 matrices.

    python benchmarks/peak.py [--threads 2] [--budget 3.0]

It is what the whole train step of a recurrent layer is held against. Other programs lower it: `recurrent.py`
measures it before and after everything else, and takes the best.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from processes import Turns, cores, in_turn, is_installed
from timing import Say, seconds_of, serve, threads

SIZES = (768, 1024, 1536, 2048, 3072)
"""Of square matrices; which suits a library best depends on its blocks and on the caches."""
LIBRARIES = ("numpy", "torch")


def numpy_product(size: int) -> Callable[[], Any]:
    """A product of NumPy's matrices, into memory that is there."""
    import numpy as np

    a, b = np.random.default_rng(0).random((2, size, size), dtype="float32")
    out = np.empty_like(a)
    return lambda: np.matmul(a, b, out=out)


def torch_product(size: int) -> Callable[[], Any]:
    """A product of PyTorch's."""
    import torch

    torch.set_num_threads(threads())
    a, b, out = (torch.rand(size, size) for _ in range(3))
    return lambda: torch.mm(a, b, out=out)


def measure(arguments: list[str], say: Say) -> None:
    """Answer with the fastest product of each size, in GFLOP/s, for about as many seconds as asked, smallest first."""
    library, budget = arguments[1], float(arguments[2])
    make = {"numpy": numpy_product, "torch": torch_product}[library]
    best: dict[str, float] = {}
    begin = time.perf_counter()
    for size in SIZES:
        if best and time.perf_counter() > begin + budget:
            break
        product = make(size)
        product()
        fastest, end = seconds_of(product), time.perf_counter() + budget / len(SIZES)
        while time.perf_counter() < end:
            fastest = min(fastest, seconds_of(product))
        best[str(size)] = 2e-9 * size**3 / fastest
    say(best)


def measure_peak(thread_count: int, budget: float) -> dict[str, float]:
    """GFLOP/s of each library that is installed, each in a process of its own."""
    commands = {
        library: ["peak.py", "--worker", library, str(budget)] for library in LIBRARIES if library_is_there(library)
    }
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        found = in_turn(commands, Turns(thread_count, 0, "", 120.0), Path(folder))
    return {
        library: max(value for key, value in answer.items() if key.isdecimal())
        for library, answer in found.items()
        if "missing" not in answer
    }


def library_is_there(library: str) -> bool:
    return library == "numpy" or is_installed(library)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=cores(), help="of each library (default: all cores)")
    parser.add_argument("--budget", type=float, default=3.0, help="seconds for each library (default 3)")
    options = parser.parse_args()
    for library, gflops in measure_peak(options.threads, options.budget).items():
        print(f"{library:8}{gflops:8.1f} GFLOP/s")


if __name__ == "__main__":
    import sys

    if sys.argv[1:2] == ["--worker"]:
        serve(measure)
    else:
        main()
