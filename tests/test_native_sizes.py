"""Every cell of the zoo in C, with 1, 15, 16 or 17 steps, sequences, features and units: around whole vectors."""

from __future__ import annotations

import os
from typing import Any

import cells_zoo
import numpy as np
import plan_cells
import plan_cells_ops
import plan_cells_random
import pytest
from native_toolchain import compile_with, needs_compiler
from plan_runs import Case, is_compiled, pair, run

import minigrad as mg

SIZES = (1, 15, 16, 17)
CELLS = plan_cells.CELLS | plan_cells_random.RANDOM
NOT_IN_C = {"AcrossBatch", "DropConnect", "Foreign", "Gram", "Turned"}
"""Sequences meet in them if there are several, or they have an operation of their own."""

FIXED = {
    *("Constant", "Constants", "DictState", "Gaps", "Gathers", "Later", "Overlapping", "Parted", "Pieces", "Sets"),
    *("Steady", "Turned", "Views"),
}
"""Written for 2 features and 3 units."""

pytestmark = [
    pytest.mark.host_only("native code runs on NumPy's arrays"),
    pytest.mark.skipif(os.name != "posix", reason="native code has not been made to work on this system yet"),
    needs_compiler,
]


def sizes(place: int, turn: int) -> tuple[int, int, int, int]:
    """Features, units, sequences and steps; all four of each come up for every cell in four turns."""
    starts = (place + turn, place // 4 + 3 * turn + 1, place // 2 + 3 * turn, place + turn + 2)
    inputs, units, batch, steps = (SIZES[start % 4] for start in starts)
    return inputs, units, batch, steps


def close(found: Any, wanted: Any, where: str = "") -> None:
    """To within rounding of the largest of the numbers that belong together: states of some cells grow and cancel."""
    if isinstance(wanted, dict):
        for key in wanted:
            close(found[key], wanted[key], f"{where} {key}")
    elif isinstance(wanted, list):
        for place, (a, b) in enumerate(zip(found, wanted, strict=True)):
            close(a, b, f"{where} {place}")
    else:
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape), where
        largest = np.nanmax(np.abs(wanted), initial=1) if wanted.dtype.kind == "f" else 0
        bound = largest * (1e-11 if wanted.dtype == np.float64 else 1e-3)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=bound, err_msg=where)


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning")  # some are NumPy's alone, on 64-bit Arm
def test_odd_sizes(monkeypatch: pytest.MonkeyPatch, name: str, dtype: str) -> None:
    monkeypatch.setenv("MINIGRAD_NATIVE", "1")
    compile_with(monkeypatch, "-O1")
    place = list(CELLS).index(name)
    inputs, units, batch, steps = sizes(place, turn=2 * (place // 8 % 2) + (dtype == "float32"))
    if name not in FIXED:
        for module in (cells_zoo, plan_cells, plan_cells_ops, plan_cells_random):
            monkeypatch.setattr(module, "I", inputs)
            monkeypatch.setattr(module, "H", units)
    mg.set_default_dtype(dtype)
    cell = CELLS[name]()
    plan, tape = pair(cell)
    case = Case(cell, steps=steps, batch=batch)
    wanted = run(tape, case)
    close(run(plan, case), wanted)
    assert is_compiled(plan) or name in NOT_IN_C, plan.explain()


def test_every_size_comes_up() -> None:
    for place in range(len(CELLS)):
        turns = [sizes(place, turn) for turn in range(4)]
        assert [set(column) for column in zip(*turns, strict=True)] == [set(SIZES)] * 4
