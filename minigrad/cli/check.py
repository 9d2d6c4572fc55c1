"""`minigrad check`: the conformance kit on something that is registered."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

import minigrad as mg
from minigrad.cli.console import BackendOption, JsonOption, Kind, console, fail
from minigrad.registry import PluginInfo, registry
from minigrad.testing import CellTests, CheckResult, LossTests, OptimizerTests, WrapperTests, summary

KITS: dict[Kind, Any] = {
    Kind.CELL: CellTests,
    Kind.WRAPPER: WrapperTests,
    Kind.LOSS: LossTests,
    Kind.OPTIMIZER: OptimizerTests,
}
"""The checks of each kind: `checks` by name, and the function `check` that runs them."""

STYLES = {"passed": "green", "failed": "red", "expected failure": "yellow", "not run": "dim"}
"""How each status is shown."""


def check(
    kind: Annotated[Kind, typer.Argument(metavar="KIND", help="cell, wrapper, loss or optimizer.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name it is registered by; see `minigrad plugins`.")],
    only: Annotated[list[str] | None, typer.Option(metavar="CHECK", help="Run this check alone; repeatable.")] = None,
    backend: BackendOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check that a registered cell, wrapper, loss or optimizer keeps minigrad's contracts.

    The exit status is 0 only if no check failed.

    **Examples**

    `minigrad check cell lstm`: gradients, masks, truncation, saving, backends and more

    `minigrad check cell lstm --only gradients --only padding`: two of the checks

    `minigrad check loss mse --json`
    """
    try:
        if backend is not None:
            mg.set_backend(backend)
        mg.get_backend()
        info, factory = registry().get(kind.value, name)
        results = _run(KITS[kind], factory, only)
    except (ValueError, mg.MinigradError) as error:
        fail(str(error))
    if as_json:
        typer.echo(json.dumps(_report(info, results), indent=2))
    else:
        _print(info, results)
    if any(result.status == "failed" for result in results):
        raise typer.Exit(1)


def _run(kit: Any, factory: Callable[..., Any], only: Collection[str] | None) -> list[CheckResult]:
    """The checks one by one, with a progress bar."""
    unknown = [name for name in only or () if name not in kit.checks]
    names = unknown or [name for name in kit.checks if not only or name in only]
    results: list[CheckResult] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task("", total=len(names))
        for name in names:
            bars.update(bar, description=name)
            results += kit.check(factory, only=[name])
            bars.advance(bar)
    return results


def _report(info: PluginInfo, results: list[CheckResult]) -> dict[str, Any]:
    counts = Counter(result.status for result in results)
    origin = {key: value for key, value in asdict(info).items() if key != "status"}
    checks = [
        {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}
        for row in map(asdict, results)
    ]
    return {**origin, "summary": {status: counts[status] for status in STYLES}, "checks": checks}


def _print(info: PluginInfo, results: list[CheckResult]) -> None:
    table = Table()
    for column in ("check", "status", "error", "tolerance", "reason"):
        table.add_column(column, overflow="fold", justify="right" if column in ("error", "tolerance") else "left")
    for result in results:
        numbers = ("" if value is None else f"{value:.2g}" for value in (result.error, result.tolerance))
        table.add_row(result.name, Text(result.status, STYLES[result.status]), *numbers, Text(result.reason))
    console.print(f"{info.kind} {info.name}, of {info.distribution} {info.version}")
    console.print(table, soft_wrap=False)
    console.print(summary(results))
