"""One pass over arrays as compiled C: the same operations on each element of all, in a loop that reads each once.

The result is NumPy's to the last bit where only sums, products, quotients and square roots are taken. There are no
warnings of an overflow or the like.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from minigrad.plan.native.expressions import expression
from minigrad.plan.native.lines import Line
from minigrad.plan.native.memory import address
from minigrad.plan.native.parts import MASKS
from minigrad.plan.native.pool import get_num_threads, pool_run_address, pool_source
from minigrad.plan.native.source import text
from minigrad.plan.native.tasks import partial, whole
from minigrad.plan.native.toolchain import NativeUnavailable, load, load_ahead, unavailable

FOR_TWO = 50_000
"""Elements from which on a second thread is worth its price."""


class Arrays(ctypes.Structure):
    """`struct arrays` of the source."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("arrays", "sizes", "numbers")] + [("count", ctypes.c_long)]


def sweep(
    lines: tuple[Line, ...],
    results: Sequence[int],
    read: list[list[Any]],
    written: list[list[Any]],
    numbers: list[float],
) -> bool:
    """Do some operations on the elements of arrays.

    Args:
        lines: what to do with each element.
        results: which lines' results are wanted.
        read, written: groups of arrays, given ones and ones for the results; all of a group have one shape and no gaps,
            all are float32, or all float64. A result may go where something is read.
        numbers: operands that all elements have in common.

    Returns:
        Whether it is done: not where there is no native code.
    """
    call = _function(read[0][0].dtype.char, lines, tuple(results), len(read[0]))
    if call is None:
        return False
    both = zip(read, written, strict=True)
    addresses = np.array([address(array) for given, made in both for array in (*given, *made)], np.uint64)
    sizes = np.array([given[0].size for given in read], np.int64)
    values = np.array(numbers, np.float64)
    arrays = Arrays(address(addresses), address(sizes), address(values), len(read))
    call(arrays, get_num_threads() if sizes.sum() > FOR_TWO else 1)
    return True


@lru_cache(256)
def _function(char: str, lines: tuple[Line, ...], results: tuple[int, ...], given: int) -> Any:
    """The compiled pass, or None if there is none here."""
    if unavailable() is not None:
        return None
    load_ahead(pool_source())
    library = load(source(np.dtype(char), lines, results, given), ("-ffp-contract=off",))
    pool = pool_run_address()
    if isinstance(library, NativeUnavailable) or isinstance(pool, NativeUnavailable):
        return None
    if not hasattr(library, "sweep"):
        return None
    library.sweep.argtypes = [ctypes.POINTER(Arrays), ctypes.c_void_p, ctypes.c_int]
    library.sweep.restype = None
    return lambda arrays, threads: library.sweep(arrays, pool, threads)


def source(real: Any, lines: tuple[Line, ...], results: tuple[int, ...], given: int) -> str:
    """The translation unit."""
    body = [f"const vec g{n} = LOAD(given{n} + j);" for n in range(given)]
    for number, (name, operands) in enumerate(lines):
        kind = "mask" if name in MASKS else "vec"
        body.append(f"const {kind} l{number} = {expression(name, [f'{of[0]}{n}' for of, n in operands], {})};")
    body += [f"STORE(result{n} + j, l{line});" for n, line in enumerate(results)]
    count = 1 + max((n for _, operands in lines for kind, n in operands if kind == "numbers"), default=-1)
    return "\n".join(
        [
            f"#define REAL {'float' if real.itemsize == 4 else 'double'}",
            text("vector_math.h"),
            "struct arrays { REAL *const *arrays; const long *sizes; const double *numbers; long count; };",
            "static void some(void *context, int worker, int workers) {",
            "    const struct arrays *of = context;",
            *(f"    const vec n{n} = v_set((REAL)of->numbers[{n}]);" for n in range(count)),
            "    for (long i = 0; i < of->count; i++) {",
            f"        REAL *const *at = of->arrays + i * {given + len(results)};",
            *(f"        const REAL *given{n} = at[{n}];" for n in range(given)),
            *(f"        REAL *result{n} = at[{given + n}];" for n in range(len(results))),
            "        const long size = of->sizes[i], vectors = (size + LANES - 1) / LANES;",
            "        const long end = vectors * (worker + 1) / workers * LANES, to = end < size ? end : size;",
            "        long j = vectors * worker / workers * LANES;",
            "        for (; j + LANES <= to; j += LANES) {",
            *("            " + whole(line) for line in body),
            "        }",
            "        if (j < to) {",
            *("            " + partial(line, "(int)(to - j)") for line in body),
            "        }",
            "    }",
            "}",
            "void sweep(struct arrays *of, void (*run)(void (*task)(void *, int, int), void *, int), int workers) {",
            "    if (workers > 1) run(some, of, workers);",
            "    else some(of, 0, 1);",
            "}",
        ]
    )
