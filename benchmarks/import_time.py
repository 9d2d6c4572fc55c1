"""What `import minigrad` costs over `import numpy`: fresh interpreters, in turn, medians.

python benchmarks/import_time.py [--rounds 15]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

TIMED = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"
MODULES = ("numpy", "minigrad")


def import_seconds(module: str) -> float:
    """The time of one import in an interpreter of its own."""
    done = subprocess.run([sys.executable, "-c", TIMED.format(module)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="how many interpreters for each module")
    rounds = parser.parse_args().rounds

    for module in MODULES:
        import_seconds(module)  # so that files are in the cache and compiled
    seconds: dict[str, list[float]] = {module: [] for module in MODULES}
    for turn in range(rounds):
        for module in MODULES if turn % 2 else MODULES[::-1]:
            seconds[module].append(import_seconds(module))
    medians = {module: 1000 * statistics.median(seconds[module]) for module in MODULES}

    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"milliseconds per import, medians of {rounds} alternating rounds")
    table.add_column("import")
    table.add_column("ms", justify="right")
    for module in MODULES:
        table.add_row(module, f"{medians[module]:.1f}")
    table.add_row("minigrad over numpy", f"{medians['minigrad'] - medians['numpy']:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
