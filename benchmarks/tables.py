"""How benchmarks write: the console, times, sizes, tables."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

console = Console(highlight=False, markup=False)
if not console.is_terminal:
    console.width = 140


def three_digits(value: float) -> str:
    """With the digits that count."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def milliseconds(seconds: float | None) -> str:
    """A time in ms."""
    return "-" if seconds is None else three_digits(seconds * 1e3)


def microseconds(seconds: float | None) -> str:
    """A time in µs."""
    return "-" if seconds is None else three_digits(seconds * 1e6)


def compared(ratio: float | None, bound: float = 1.0) -> Text:
    """A ratio; green up to the bound, which is what is hoped for."""
    return Text("-") if ratio is None else Text(f"{ratio:.2f}", "green" if ratio <= bound else "yellow")


def verdict(met: bool, text: str) -> Text:
    """A figure, and whether it meets what was asked."""
    return Text(f"{text} {'yes' if met else 'NO'}", "green" if met else "bold red")


def new_table(title: str, left: list[str], right: list[str]) -> Table:
    """An empty table with some columns of words and then some of figures."""
    made = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1))
    for name in left:
        made.add_column(name, no_wrap=True)
    for name in right:
        made.add_column(name, justify="right")
    return made


def size_of(case: dict[str, Any]) -> str:
    """T,B,I,H of a case."""
    return ",".join(map(str, case["size"]))


def two_lines(size: str) -> str:
    """A size for the head of a narrow column."""
    steps, batch, inputs, hidden = size.split(",")
    return f"{steps},{batch},\n{inputs},{hidden}"


def missing(found: dict[str, dict[str, Any]], where: str) -> None:
    """Say which peers were not measured, and why."""
    for peer, result in found.items():
        if "missing" in result:
            console.print(Text.assemble((f"not measured: {peer}, {where}: ", "bold red"), result["missing"]))
