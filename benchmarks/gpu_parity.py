"""Whether minigrad gives the same on the GPU as on the CPU: the tests' cells, plan on CuPy against tape on NumPy.

    python benchmarks/gpu_parity.py

In float64 to 1e-9 and in float32 to 1e-3, outputs, states and all gradients, run three times each: step by step, as a
graph just captured, and as that graph launched again. Ends with status 1 if anything differs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

BOUNDS = {"float64": 1e-9, "float32": 1e-3}


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    from gpu import no_device

    if reason := no_device():
        sys.exit(f"nothing is compared without a GPU: {reason}")
    from plan_cells import CELLS
    from plan_runs import Case, agree, run

    import minigrad as mg
    from minigrad.plan.cuda.executor import CudaExecutor

    compiled = failed = 0
    for dtype, bound in BOUNDS.items():
        mg.set_default_dtype(dtype)
        for name, make in CELLS.items():
            try:
                mg.set_backend("numpy")
                mg.seed(1)
                cell = make()
                case = Case(cell)
                expected = run(mg.Recurrent(cell, engine="tape"), case, lengths=[5, 2, 4])
                state = cell.state_dict()
                mg.set_backend("cupy")
                mg.seed(1)
                moved = make()
                moved.load_state_dict(state)
                layer = mg.Recurrent(moved, engine="plan")
                moved_case = Case(moved)
                moved_case.x, moved_case.state = _moved(case.x), _moved(case.state)
                for _ in range(3):
                    agree(run(layer, moved_case, lengths=[5, 2, 4]), expected, rtol=bound, atol=bound)
                compiled += isinstance(layer._plans.latest.executor, CudaExecutor)
            except Exception as error:
                failed += 1
                lines = [line for line in str(error).splitlines() if line.strip()]
                print(f"{dtype} {name}: {type(error).__name__}: {' | '.join(lines[:4])}", flush=True)
    print(f"{2 * len(CELLS)} comparisons, {failed} failed; {compiled} were compiled to CUDA")
    sys.exit(bool(failed))


def _moved(nest: object) -> object:
    from minigrad.nest import map_nest

    return map_nest(lambda leaf: leaf.to("cupy"), nest)


if __name__ == "__main__":
    main()
