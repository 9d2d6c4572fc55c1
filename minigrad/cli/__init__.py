"""The `minigrad` command; each of its commands has a file here."""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Annotated

import typer

from minigrad.cli import cache, check, demo, info, new_plugin, plugins
from minigrad.cli.console import notices
from minigrad.registry import configure

__all__ = ["app"]

app = typer.Typer(
    help="Recurrent networks on a small tape-based autograd.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
)
app.command()(demo.demo)
app.command()(plugins.plugins)
app.command()(check.check)
app.command()(new_plugin.new_plugin)
app.command()(info.info)
app.add_typer(cache.app, name="cache")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"minigrad {version_of('minigrad')}")
        raise typer.Exit


@app.callback()
def main(
    context: typer.Context,
    disable_plugin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Leave a plugin out, by distribution or entry point; repeatable. Also MINIGRAD_DISABLE_PLUGINS=A,B.",
        ),
    ] = None,
    plugins_dir: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            exists=True,
            file_okay=False,
            help="Load every *.py in this folder as a plugin; repeatable. Also MINIGRAD_PLUGINS_DIR.",
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Recurrent networks on a small tape-based autograd.

    **Examples**

    `minigrad demo`

    `minigrad --plugins-dir my_plugins demo --cell my_cell`

    `minigrad --disable-plugin minigrad-mgu plugins`
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a sample may hold what the terminal cannot show
    context.with_resource(notices())
    configure(disable_plugin or (), plugins_dir or ())
    context.call_on_close(configure)
