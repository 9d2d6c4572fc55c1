"""`minigrad cache`: the compiled code that is kept for the next time."""

from __future__ import annotations

import typer

from minigrad.cli.console import console, fail
from minigrad.plan.native.cache import UnsafeFolderError, clear, user_folder

app = typer.Typer(help="The compiled code of cells, kept for the next time.", no_args_is_help=True)


@app.command("clear")
def clear_cache() -> None:
    """Delete all compiled code; it is compiled anew when it is needed.

    **Examples**

    `minigrad cache clear`

    `MINIGRAD_CACHE=/tmp/other minigrad cache clear`: of another folder
    """
    try:
        entries, size = clear()
    except (UnsafeFolderError, OSError) as error:
        fail(str(error))
    console.print(f"{entries} entries of {size / 2**20:.1f} MiB deleted from {user_folder()}")
