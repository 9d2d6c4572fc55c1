"""Speed and errors of the native executor's elementary functions.

    python benchmarks/vector_math.py                 # nanoseconds per element, beside NumPy
    python benchmarks/vector_math.py --exhaustive    # the largest error over all 2^32 floats

Arrays fit in the first-level cache; of several rounds the fastest counts.
"""

from __future__ import annotations

import argparse
import ctypes
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from native_math import DTYPES, LIMITS, VectorMath

SIZE = 2048
CALLS = 200
ROUNDS = 15


def sigmoid(x: Any, out: Any) -> None:
    np.negative(x, out=out)
    np.exp(out, out=out)
    np.add(out, 1, out=out)
    np.divide(1, out, out=out)


def nanoseconds(call: Callable[[], Any]) -> float:
    """Per element, of the fastest round."""
    fastest = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(CALLS):
            call()
        fastest = min(fastest, time.perf_counter() - start)
    return fastest / CALLS / SIZE * 1e9


def speed(real: str) -> None:
    library = VectorMath(real)
    x = np.random.default_rng(0).normal(scale=2, size=SIZE).astype(DTYPES[real])
    y = np.empty_like(x)
    pointers = ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(y.ctypes.data)
    empty, size = ctypes.c_long(0), ctypes.c_long(SIZE)
    print(f"{real}, vectors of {library.lanes}: ns per element")
    for function in LIMITS:
        number = library.library.find(function.encode())
        whole = nanoseconds(lambda number=number: library.library.apply(number, *pointers, size))
        call = nanoseconds(lambda number=number: library.library.apply(number, *pointers, empty))
        of_numpy = sigmoid if function == "sigmoid" else getattr(np, function, None)
        with np.errstate(all="ignore"):
            beside = nanoseconds(lambda f=of_numpy: f(x, out=y)) if of_numpy else float("nan")
        print(f"  {function:10}{whole - call:8.3f}   NumPy {beside:8.3f}")


def exhaustive() -> None:
    library = VectorMath("float")
    for function in LIMITS:
        error, where = library.worst_of_all(function, first=0, stride=1)
        print(f"  {function:10}{error:8.4f} ulp at {where!r}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exhaustive", action="store_true", help="the errors of all floats; takes about ten minutes")
    if parser.parse_args().exhaustive:
        exhaustive()
    else:
        for real in DTYPES:
            speed(real)


if __name__ == "__main__":
    main()
