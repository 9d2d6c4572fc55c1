"""Timings of minigrad's plan engine alone, with pytest-benchmark, to see whether a change has made it slower.

    python -m pytest benchmarks/test_recurrent.py --benchmark-save=before
    ... the change ...
    python -m pytest benchmarks/test_recurrent.py --benchmark-compare --benchmark-compare-fail=median:10%

`-k "lstm and train"` picks some. Results are kept in .benchmarks/, by machine. The tests of the package do not collect
this file. Nothing is compared with other libraries here: that is `recurrent.py`.
"""

from __future__ import annotations

from typing import Any

import pytest
from recurrent_cells import CELLS, Size, make_inputs, minigrad_runner

pytest.importorskip("pytest_benchmark", reason="pip install '.[bench]'")

SIZES = (Size(25, 1, 65, 100), Size(35, 20, 200, 200), Size(200, 32, 64, 64))


@pytest.mark.parametrize("mode", ["train", "forward"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_plan(benchmark: Any, cell: str, size: Size, mode: str) -> None:
    runner = minigrad_runner("plan", cell, make_inputs(cell, size))
    benchmark.group = f"{mode}, T,B,I,H = {size}"
    call = runner.train if mode == "train" else runner.forward
    call()  # compiles
    benchmark(call)
