"""Checkpoints: arrays in safetensors, everything else as JSON in the same file's metadata. No pickle anywhere.

A file is written beside its place and then moved there in one step, so that an interrupted write leaves the last good
checkpoint as it was.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from minigrad.backend import host_array
from minigrad.errors import CheckpointError

__all__ = ["load_checkpoint", "save_checkpoint"]

_ENTRY = "minigrad"
_ARRAY = "$array"


def save_checkpoint(path: str | os.PathLike[str], contents: Mapping[str, Any]) -> None:
    """Write a checkpoint, atomically.

    Args:
        path: the file, by custom `*.safetensors`; its folder is made if it is missing.
        contents: a nest of dicts and lists with host arrays and what JSON has: state dicts of modules and optimizers,
            settings, random states. An array is stored under its dotted place in the nest, such as `model.weight`.

    Raises:
        TypeError: something is neither an array nor of JSON's types; the message says where. Nothing is written.
        ValueError: two arrays have the same dotted place.

    >>> import tempfile, os
    >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
    >>> save_checkpoint(path, {"model": mg.Linear(2, 1).state_dict(), "epoch": 3})
    >>> load_checkpoint(path)["epoch"]
    3
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {}
    outline = _without_arrays(contents, "", arrays)
    data = save(arrays, metadata={_ENTRY: json.dumps(outline)})
    temporary = path.with_name(path.name + ".part")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read back what `save_checkpoint` wrote (tuples come back as lists).

    Raises:
        CheckpointError: the file is missing, damaged, or was not written by minigrad.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # file is no mapping
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged, or no safetensors file: {error}") from error
    try:
        contents: dict[str, Any] = _with_arrays(json.loads(metadata[_ENTRY]), arrays)
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path} was not written by minigrad: its metadata lack a sound {_ENTRY!r}") from error
    return contents


def _without_arrays(value: Any, place: str, arrays: dict[str, Any]) -> Any:
    """The nest with each array moved to `arrays` and a reference in its place."""
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"the keys of a checkpoint are strings; {place or 'the top'} has the key {key!r}")
        return {key: _without_arrays(part, f"{place}.{key}".lstrip("."), arrays) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_arrays(part, f"{place}.{index}", arrays) for index, part in enumerate(value)]
    if hasattr(value, "dtype"):
        if place in arrays:
            raise ValueError(f"two arrays have the place {place!r} in the checkpoint; rename a key")
        arrays[place] = host_array(value).copy(order="C")
        return {_ARRAY: place}
    if value is not None and not isinstance(value, str | int | float | bool):
        raise TypeError(f"a checkpoint holds arrays and what JSON has; {place} is a {type(value).__name__}")
    return value


def _with_arrays(value: Any, arrays: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        if value.keys() == {_ARRAY}:
            return arrays[value[_ARRAY]]
        return {key: _with_arrays(part, arrays) for key, part in value.items()}
    return [_with_arrays(part, arrays) for part in value] if isinstance(value, list) else value
