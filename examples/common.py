"""What the examples share: options, files of installed data packages, and how results are shown."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

import minigrad as mg

console = Console(highlight=False, soft_wrap=True)


def options(description: str, *, epochs: int, cell: str | None = None, **more: Any) -> argparse.Namespace:
    """The options that all examples have, with an example's own defaults; sets backend and seed, and makes the folder.

    Args:
        description: one line, for --help.
        epochs: default of --epochs.
        cell: default of --cell; None for an example without one.
        more: further options with their defaults.

    Returns:
        The options; `out` is a folder that exists, `small` whether to run at a reduced size, for tests.
    """
    name = Path(sys.argv[0]).stem
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--epochs", type=int, default=epochs, help="how often to go over the data")
    if cell is not None:
        parser.add_argument("--cell", default=cell, help="any registered cell, see `minigrad plugins`")
    for option, value in more.items():
        flag = f"--{option.replace('_', '-')}"
        if isinstance(value, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=value)
        else:
            parser.add_argument(flag, type=type(value), default=value)
    parser.add_argument("--seed", type=int, default=0, help="of weights, batches and samples")
    parser.add_argument("--backend", help="numpy or cupy; by default MINIGRAD_BACKEND, or numpy")
    parser.add_argument("--out", type=Path, default=Path("out") / name, help="folder for the picture and the result")
    parser.add_argument("--small", action="store_true", help="a reduced size, to see that it works")
    found = parser.parse_args()
    try:
        if found.backend is not None:
            mg.set_backend(found.backend)
        mg.get_backend()
    except (mg.BackendUnavailableError, ValueError) as error:
        parser.error(str(error))
    mg.seed(found.seed)
    threadpool_limits(1, user_api="blas")  # products this small are faster on one thread
    found.out.mkdir(parents=True, exist_ok=True)
    return found


def data_file(package: str, path: str) -> Path:
    """A file of an installed package, found without importing the package."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        sys.exit(f"This example reads data of {package}, which is not installed: pip install 'minigrad[examples]'")
    found = Path(spec.submodule_search_locations[0]) / path
    if not found.exists():
        sys.exit(f"{found} is missing: this version of {package} has its data elsewhere")
    return found


def report(out: Path, metric: str, ours: float, baseline: float, of: str, *, lower_is_better: bool = False) -> None:
    """Show a held-out metric beside a trivial baseline's, and write both to `result.json`."""
    table = Table(title="held out")
    for column in ("", metric):
        table.add_column(column)
    table.add_row("this model", f"{ours:.4g}")
    table.add_row(f"baseline: {of}", f"{baseline:.4g}")
    console.print(table)
    result = {"metric": metric, "ours": ours, "baseline": baseline, "of": of, "lower_is_better": lower_is_better}
    (out / "result.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table of samples."""
    table = Table(title=title)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(str, row))
    console.print(table)


def pyplot() -> Any:
    """matplotlib's pyplot, drawing to files only; save with `save_picture`."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    return plt


def save_picture(figure: Any, path: Path) -> None:
    """Write a figure and say where it is."""
    figure.savefig(path, dpi=120)
    console.print(f"picture: {path}")
