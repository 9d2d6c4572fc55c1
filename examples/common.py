"""What the examples share: options, data of installed packages, and how results are shown."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

import minigrad as mg

console = Console(highlight=False, soft_wrap=True)


def options(
    description: str, *, epochs: int, cell: str | None = None, small: Mapping[str, Any] | None = None, **more: Any
) -> argparse.Namespace:
    """The options that all examples have, with an example's own defaults; sets backend and seed, and makes the folder.

    Args:
        description: for --help, which shows its first line.
        epochs: default of --epochs.
        cell: default of --cell; None for an example without one.
        small: the defaults that --small has instead.
        more: further options with their defaults. `cells` are several, with commas between them.

    Returns:
        The options; `out` is a folder that exists.
    """
    program = Path(sys.argv[0])
    parser = argparse.ArgumentParser(
        prog=f"python -m examples.{program.parent.name}.{program.stem}",
        description=description.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--epochs", type=int, default=epochs, help="how often to go over the data")
    if cell is not None:
        parser.add_argument("--cell", default=cell, help="any registered cell, see `minigrad plugins`")
    for option, value in more.items():
        flag, words = f"--{option.replace('_', '-')}", option.replace("_", " ")
        if isinstance(value, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=value, help=words)
        else:
            parser.add_argument(flag, type=type(value), default=value, help=words)
    parser.add_argument("--seed", type=int, default=0, help="of weights, batches and samples")
    parser.add_argument("--backend", help="numpy or cupy; by default MINIGRAD_BACKEND, or numpy")
    parser.add_argument("--out", type=Path, default=Path("out") / program.stem, help="folder for picture and result")
    parser.add_argument("--small", action="store_true", help="less of everything, to see that it works")
    if "--small" in sys.argv[1:]:
        parser.set_defaults(**(small or {}))
    found = parser.parse_args()
    try:
        if found.backend is not None:
            mg.set_backend(found.backend)
        mg.get_backend()
    except (mg.BackendUnavailableError, ValueError) as error:
        parser.error(str(error))
    if found.epochs < 1:
        parser.error(f"--epochs is 1 or more, not {found.epochs}")
    registered = {info.name for info in mg.plugins() if info.kind == "cell"}
    for name in found.cells.split(",") if "cells" in more else [found.cell] if cell is not None else []:
        if name not in registered:
            parser.error(f"there is no cell {name!r}; there are {', '.join(sorted(registered))}")
    mg.seed(found.seed)
    threadpool_limits(1, user_api="blas")  # products this small are faster on one thread
    try:
        found.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out must be a folder that can be written to: {error}")
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


def read_digits() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """scikit-learn's handwritten digits in three parts, the same in each run and in all examples.

    Returns:
        Images (N, 8, 8) of numbers from 0 to 1, float32, and digits (N,): 1,257 to train on, 180 for validation, and
        360 held out, called test.
    """
    table = np.loadtxt(data_file("sklearn", "datasets/data/digits.csv.gz"), delimiter=",")
    table = table[np.random.default_rng(0).permutation(len(table))]
    images, digits = (table[:, :-1] / 16).reshape(-1, 8, 8).astype("float32"), table[:, -1].astype(int)
    parts = {"train": slice(1257), "validation": slice(1257, 1437), "test": slice(1437, None)}
    return {name: (images[part], digits[part]) for name, part in parts.items()}


def accuracy(scores: mg.Tensor, classes: mg.Tensor) -> mg.Tensor:
    """The share of the scores (B, C) of which the highest is that of the right class (B,)."""
    return mg.mean(mg.equal(mg.argmax(scores, axis=-1), classes).astype("float32"))


def report(
    out: Path,
    metric: str,
    ours: float,
    baseline: float,
    of: str,
    *,
    lower_is_better: bool = False,
    title: str = "on held-out data",
) -> None:
    """Show a metric beside a trivial baseline's, and write both to `result.json`."""
    rows = [("this model", f"{ours:.4g}"), (f"baseline: {of}", f"{baseline:.4g}")]
    show(title, ("", metric + (" (lower is better)" if lower_is_better else "")), rows)
    result = {"metric": metric, "ours": ours, "baseline": baseline, "of": of, "lower_is_better": lower_is_better}
    (out / "result.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table, such as of samples."""
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
