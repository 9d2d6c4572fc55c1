"""Runs a program with all that it starts, to its end or to a time limit."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from dataclasses import dataclass

LINES = 8
"""How many of a program's lines are shown where it has failed."""

running: set[subprocess.Popen[bytes]] = set()
"""What has not ended yet."""


@dataclass(frozen=True)
class Ended:
    """How a program ended: its exit status, None if it was stopped at the time limit, and its first output."""

    status: int | None
    output: str


def run(command: list[str], seconds: float, folder: str | None = None, zig: str = "") -> Ended:
    """Run a program; it and all that it has started are stopped at the time limit, or if this is interrupted.

    Zig's compiler compiles parts of itself, which it keeps in the folder `zig` rather than in the home folder: it does
    not end where that cannot be written.
    """
    zig_folders = {"ZIG_GLOBAL_CACHE_DIR": zig, "ZIG_LOCAL_CACHE_DIR": folder} if folder else {}
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env={**zig_folders, **os.environ, "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a group of its own, which can be stopped as a whole
            )
        except OSError as error:
            return Ended(127, str(error))
        status: int | None
        running.add(process)
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            _stop(process)
            status = None
        except BaseException:
            _stop(process)
            raise
        finally:
            running.discard(process)
        output.seek(0)
        return Ended(status, output.read(1 << 16).decode(errors="replace"))


def stop_all() -> None:
    """Stop what is running, in whichever thread."""
    for process in list(running):
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def failure(ended: Ended, seconds: float) -> str:
    """How a program failed, with the first lines of what it said."""
    if ended.status is None:
        how = f"did not end within {seconds:g} s and was stopped"
    elif ended.status < 0:
        how = f"crashed with signal {-ended.status}"
    else:
        how = f"exit status {ended.status}"
    lines = [line[:200] for line in ended.output.strip().splitlines()[:LINES]]
    return "\n".join([how, *lines])
