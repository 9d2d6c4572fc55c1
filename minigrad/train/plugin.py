"""The built-in callbacks, offered through the same hook as anybody else's."""

from __future__ import annotations

from minigrad.hookspecs import Factories, hookimpl
from minigrad.train.bar import ProgressBar
from minigrad.train.curves import Curves
from minigrad.train.logs import JsonLines, TensorBoard

__all__ = ["minigrad_callbacks"]


@hookimpl
def minigrad_callbacks() -> Factories:
    return {"progress_bar": ProgressBar, "json_lines": JsonLines, "tensorboard": TensorBoard, "curves": Curves}
