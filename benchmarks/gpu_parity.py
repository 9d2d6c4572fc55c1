"""Whether minigrad gives the same on the GPU as on the CPU: the tests' cells, plan on CuPy against tape on NumPy.

    python benchmarks/gpu_parity.py [--ways float64 float32 tf32 float16 bfloat16]

In float64 to 1e-9 and in float32 to 1e-3, element by element: outputs, states and all gradients. With products in TF32
and with numbers kept in 16 bits, by the size of each result as a whole, for some cells. Each is run three times: step
by step, as a graph just captured, and as that graph launched again. Ends with status 1 if anything differs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))


class Way(NamedTuple):
    """How to compute.

    Attributes:
        dtype: of the layer; settings: of the backend.
        bound: how far results may be apart; by_size: whether that is of a whole result over its size.
    """

    dtype: str
    settings: dict[str, Any]
    bound: float
    by_size: bool


WAYS = {
    "float64": Way("float64", {}, 1e-9, False),
    "float32": Way("float32", {}, 1e-3, False),
    "tf32": Way("float32", {"tf32": True}, 1e-2, True),
    "float16": Way("float32", {"storage": "float16"}, 1.2e-2, True),
    "bfloat16": Way("float32", {"storage": "bfloat16"}, 9e-2, True),
}
PLAIN = {"tf32": False, "storage": "float32"}
SOME = (
    "rnn",
    "lstm",
    "gru",
    "gru-reset-before",
    "mgu",
    "layer_norm_lstm",
    "Joined",
    "Letters",
    "Memory",
    "NestedState",
)
"""Cells for what is not exact: no decision by a value, as in a ReLU, lies so near that rounding could turn it."""


def cells_of(way: Way) -> dict[str, Callable[[], Any]]:
    from cuda_programs import plugin_cells
    from plan_cells import CELLS

    every = CELLS | plugin_cells()
    return {name: every[name] for name in SOME} if way.by_size else every


def agree(found: Any, expected: Any, way: Way) -> None:
    """Raise if two results are too far apart."""
    import plan_runs

    if not way.by_size:
        plan_runs.agree(found, expected, rtol=way.bound, atol=way.bound)
        return
    for name, array in flat(expected).items():
        apart = np.linalg.norm((flat(found)[name] - array).astype("float64"))
        if not apart <= way.bound * max(float(np.linalg.norm(array.astype("float64"))), 1e-3):
            raise AssertionError(f"{name} differs by {apart:.2g} of {np.linalg.norm(array):.2g}")


def flat(nest: Any, name: str = "") -> dict[str, Any]:
    if isinstance(nest, dict | list):
        pairs = nest.items() if isinstance(nest, dict) else enumerate(nest)
        return {key: array for word, part in pairs for key, array in flat(part, f"{name} {word}").items()}
    return {name: nest}


def compare(make: Callable[[], Any], way: Way) -> bool:
    """Raise if a cell's results differ; gives whether it was compiled to CUDA."""
    from plan_runs import Case, run

    import minigrad as mg
    from minigrad.plan.cuda.executor import CudaExecutor

    mg.set_default_dtype(way.dtype)
    mg.set_backend("numpy")
    mg.seed(1)
    cell = make()
    case = Case(cell)
    expected = run(mg.Recurrent(cell, engine="tape"), case, lengths=[5, 2, 4])
    state = cell.state_dict()
    mg.set_backend("cupy")
    vars(mg.get_backend()).update(PLAIN | way.settings)
    mg.seed(1)
    moved = make()
    moved.load_state_dict(state)
    layer = mg.Recurrent(moved, engine="plan")
    moved_case = Case(moved)
    moved_case.x, moved_case.state = _moved(case.x), _moved(case.state)
    for _ in range(3):
        agree(run(layer, moved_case, lengths=[5, 2, 4]), expected, way)
    return isinstance(layer._plans.latest.executor, CudaExecutor)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    options = parser.parse_args()
    from gpu import no_device

    if reason := no_device():
        sys.exit(f"nothing is compared without a GPU: {reason}")
    failed = 0
    for name in options.ways:
        way = WAYS[name]
        cells, compiled, wrong = cells_of(way), 0, 0
        for cell, make in cells.items():
            try:
                compiled += compare(make, way)
            except Exception as error:
                wrong += 1
                lines = [line for line in str(error).splitlines() if line.strip()]
                print(f"{name} {cell}: {type(error).__name__}: {' | '.join(lines[:4])}", flush=True)
        print(f"{name}: {len(cells)} cells, {wrong} failed; {compiled} were compiled to CUDA", flush=True)
        failed += wrong
    sys.exit(bool(failed))


def _moved(nest: object) -> object:
    from minigrad.nest import map_nest

    return map_nest(lambda leaf: leaf.to("cupy"), nest)


if __name__ == "__main__":
    main()
