"""The checkpoints of a run in its folder: the last k, and the best."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from minigrad.checkpoint import load_checkpoint, save_checkpoint
from minigrad.errors import CheckpointError

__all__ = ["Saves"]

PROGRAM = "minigrad trainer"
BEST = "best.safetensors"


class Saves:
    """The checkpoints in a folder: `step-00000040.safetensors`, named by the updates done, and `best.safetensors`.

    Each file holds all that the run needs. It is written beside its place and moved there in one step, and only then
    are older ones deleted, so that there is a whole one at any moment.

    Args:
        folder: where they are; made at the first write.
        keep: how many of the last to keep.
    """

    def __init__(self, folder: str | os.PathLike[str], keep: int) -> None:
        if isinstance(keep, bool) or not isinstance(keep, int) or keep < 1:
            raise ValueError(f"keep is a number of checkpoints, an integer of at least 1; got {keep!r}")
        self.folder, self.keep = Path(folder), keep
        if self.folder.exists() and not self.folder.is_dir():
            raise NotADirectoryError(f"out is a folder for checkpoints and metrics; {self.folder} is a file")

    def paths(self) -> list[Path]:
        """The checkpoints there are, the oldest first, without the best."""
        found = [(re.fullmatch(r"step-(\d+)\.safetensors", path.name), path) for path in self.folder.glob("step-*")]
        return [path for _, path in sorted((int(match[1]), path) for match, path in found if match)]

    def write_best(self, contents: dict[str, Any]) -> None:
        """Write a checkpoint under the best's name."""
        self._write(self.folder / BEST, contents)

    def write(self, step: int, contents: dict[str, Any]) -> Path:
        """Write a checkpoint, and delete those that are too many."""
        path = self.folder / f"step-{step:08}.safetensors"
        self._write(path, contents)
        for old in self.paths()[: -self.keep]:
            old.unlink(missing_ok=True)
        for part in self.folder.glob("*.safetensors.part"):  # of a process that was killed while writing
            part.unlink(missing_ok=True)
        return path

    def _write(self, path: Path, contents: dict[str, Any]) -> None:
        try:
            save_checkpoint(path, {"program": PROGRAM, **contents})
        except OSError as error:
            error.add_note(f"{path} could not be written; the checkpoints there were are as before.")
            raise

    def read(self) -> tuple[Path, dict[str, Any]]:
        """The newest checkpoint.

        Raises:
            CheckpointError: there is none, or it is damaged or not a trainer's.
        """
        paths = self.paths()
        if not paths:
            raise CheckpointError(f"there is no checkpoint in {self.folder}; leave out resume=True to begin a run")
        *older, path = paths
        try:
            contents = load_checkpoint(path)
        except CheckpointError as error:
            hint = f"; delete it to go on from {older[-1].name}" if older else ""
            raise CheckpointError(f"{error}{hint}") from error
        if contents.get("program") != PROGRAM:
            raise CheckpointError(f"{path} was not written by mg.Trainer")
        return path, contents
