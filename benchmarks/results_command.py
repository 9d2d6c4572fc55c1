"""What the commands that keep cases in a file have in common: their options, and their end."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from processes import is_installed
from recurrent_case import differ
from results import load
from tables import console

Contents = dict[str, Any]
"""Of a file of results."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options about files."""
    add = parser.add_argument
    add("--json", type=Path, metavar="FILE", help="write everything measured, and go on from what the file holds")
    add("--fresh", action="store_true", help="begin anew, and write over --json")
    add("--png", type=Path, metavar="FILE", help="draw the times of train steps; needs matplotlib")
    add("--from-json", type=Path, metavar="FILE", help="show what an earlier run wrote; measure nothing")


def check_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End with an error before anything is measured rather than after."""
    if options.rounds < 1 or options.threads < 1:
        parser.error("--rounds and --threads take numbers of at least 1")
    if options.png and not is_installed("matplotlib"):
        parser.error("--png needs matplotlib: pip install '.[bench]'")
    if options.from_json and not options.from_json.is_file():
        parser.error(f"there is no file {options.from_json}")
    for file in (options.json, options.png):
        if file and not file.absolute().parent.is_dir():
            parser.error(f"there is no folder to write {file} into")


def finish(
    options: argparse.Namespace,
    run: Callable[[argparse.Namespace], Contents],
    report: Callable[[Contents], None],
    draw: Callable[[Contents, Path], None],
) -> None:
    """Measure, or read what was measured; print, draw; end with status 1 if a peer's results were wrong."""
    try:
        results = load(options.from_json) if options.from_json else run(options)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    report(results)
    if options.png:
        draw(results, options.png)
        console.print(f"drawn: {options.png}")
    if differ(results["cases"]):
        raise SystemExit(1)
