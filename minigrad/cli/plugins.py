"""`minigrad plugins`: what is there, and what is not and why."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer
from rich.table import Table
from rich.text import Text

import minigrad as mg
from minigrad.cli.console import JsonOption, console


def plugins(as_json: JsonOption = False) -> None:
    """List what the installed plugins offer, and which of them are not there and why.

    **Examples**

    `minigrad plugins`

    `minigrad plugins --json`

    `minigrad --plugins-dir my_plugins plugins`: with the single-file plugins of a folder
    """
    found = mg.plugins()
    if as_json:
        typer.echo(json.dumps([asdict(info) for info in found], indent=2))
        return
    table = Table()
    for column in ("kind", "name", "distribution", "version", "status"):
        table.add_column(column, overflow="fold")
    for info in found:
        style = "" if info.status == "ok" else "dim" if info.status.startswith("switched off") else "red"
        table.add_row(*(Text(value, style) for value in asdict(info).values()))
    console.print(table, soft_wrap=False)
