"""Programs of cells, written for CUDA without a device: what each test of the source needs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from plan_cells import CELLS, takes_integers

import minigrad as mg
from minigrad.nest import map_nest
from minigrad.plan.abstract import Abstract
from minigrad.plan.cuda.source import write
from minigrad.plan.cuda.storage import schedule_of
from minigrad.plan.native.parts import NotExpressibleError
from minigrad.plan.program import Program, build
from minigrad.plan.trace import Request, trace

PLUGINS = Path(__file__).parent.parent / "plugins"


def plugin_cells() -> dict[str, Callable[[], mg.Cell]]:
    """The cells of our distributions of plugins, whether these are installed or not."""
    found: dict[str, Callable[[], mg.Cell]] = {}
    for folder in ("minigrad-cells-classic", "minigrad-cells-normalized"):
        sys.path.insert(0, str(PLUGINS / folder))
        try:
            module = __import__(folder.replace("-", "_"))
        finally:
            sys.path.pop(0)
        for name, factory in module.minigrad_cells().items():
            found[name] = (lambda made: lambda: made(2, 5))(factory)
    return found


def program_of(cell: mg.Cell, batch: int = 3, dtype: str = "float32", features: Any = None) -> Program:
    """The program of a cell's step, forward and backward, with gradients of everything."""

    def blank(shape: Any, of: Any) -> mg.Tensor:
        return mg.Tensor(Abstract(shape, np.dtype(of)), np.dtype(of).kind == "f")

    shape = getattr(cell, "features", (2,)) if features is None else features
    if takes_integers(cell):
        shape, dtype = (), "int64"
    state = map_nest(lambda leaf: blank(leaf.shape, leaf.dtype), cell.init_state(batch))
    return build(trace(cell, Request(blank((batch, *shape), dtype), state, True, False, True)))


def kernels(dtype: str, storage: str = "", names: Any = None) -> dict[str, list[str]]:
    """The texts of the kernels of all cells that can be written in CUDA, or of some, by the cell's name."""
    found = {}
    cells = CELLS | plugin_cells()
    with mg.default_dtype(dtype):
        for name, make in ((name, cells[name]) for name in names or cells):
            with suppress(NotExpressibleError):
                written = write(schedule_of(program_of(make(), dtype=dtype), storage))
                found[name] = [kernel.text for kernel in written.values()]
    return found
