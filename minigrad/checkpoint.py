"""Checkpoints: arrays in safetensors, everything else as JSON in the same file's metadata. No pickle anywhere.

A file is written beside its place and then moved there in one step, so that an interrupted write leaves the last good
checkpoint as it was. It carries a digest of all that it holds, so that a changed byte is noticed. It names the plugins
that its contents come from, as `distribution:name@version`, so that whoever lacks one is told what to install.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from minigrad.backend import host_array
from minigrad.errors import CheckpointError, PluginWarning
from minigrad.registry.needed import NeededPlugins

__all__ = ["load_checkpoint", "save_checkpoint"]

_ENTRY = "minigrad"
_PLUGINS = "$plugins"
_ARRAY = "$array"
_DIGEST = "$sha256"
_RESERVED = (_ARRAY, _PLUGINS, _DIGEST, "__metadata__")
"""Keys with a meaning: three of ours, one of the file format's."""


def save_checkpoint(path: str | os.PathLike[str], contents: Mapping[str, Any], plugins: Iterable[Any] = ()) -> None:
    """Write a checkpoint, atomically.

    Args:
        path: the file, by custom `*.safetensors`; its folder is made if it is missing.
        contents: a nest of dicts and lists with host arrays and what JSON has: state dicts, settings, random states.
            Modules and optimizers stand for their state dicts. An array is stored under its dotted place in the nest,
            such as `model.weight`.
        plugins: models, losses and optimizers that the contents were made with; the file names the plugins that they
            come from (see `minigrad.registry.origins`), and those of the modules and optimizers in the contents.

    Raises:
        TypeError: something is neither an array nor of JSON's types; the message says where. Nothing is written.
        ValueError: two arrays have the same dotted place, or a key is one of `$array`, `$plugins`, `$sha256`,
            `__metadata__`.

    >>> import tempfile, os
    >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
    >>> save_checkpoint(path, {"model": mg.GRU(2, 1), "epoch": 3}, plugins=[mg.loss("mse")])
    >>> load_checkpoint(path)["epoch"]
    3
    """
    path = Path(path)
    arrays: dict[str, Any] = {}
    holders: list[Any] = []
    outline = _without_arrays(contents, "", arrays, holders)
    needed = NeededPlugins.of(*holders, *plugins)
    outline = {_PLUGINS: needed.as_json(), **outline}
    outline = {_DIGEST: _digest(outline, arrays), **outline}
    data = save(arrays, metadata={_ENTRY: json.dumps(outline)})  # two entries would come in any order
    path.parent.mkdir(parents=True, exist_ok=True)
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


def load_checkpoint(path: str | os.PathLike[str], check_plugins: bool = True) -> dict[str, Any]:
    """Read back what `save_checkpoint` wrote (tuples come back as lists).

    Args:
        path: the file.
        check_plugins: whether the plugins that the file names must be there. The arrays can be read without them.

    Raises:
        CheckpointError: the file is missing, damaged, or was not written by minigrad; or it needs plugins that are not
            there: the message says what to install.

    Warns:
        PluginWarning: a plugin has another version than the one that the file was written with.
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
        outline = json.loads(metadata[_ENTRY])
        if not isinstance(outline, dict):
            raise ValueError("the contents of a checkpoint are a dict")
        changed = outline.pop(_DIGEST) != _digest(outline, arrays)
        needed = NeededPlugins.from_json(outline.pop(_PLUGINS))
        contents: dict[str, Any] = _with_arrays(outline, arrays)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} was not written by minigrad: its metadata lack a sound {_ENTRY!r}") from error
    if changed:
        raise CheckpointError(f"{path} is damaged: its contents have changed since it was written")
    if check_plugins:
        _check(path, needed)
    return contents


def _digest(outline: Mapping[str, Any], arrays: Mapping[str, Any]) -> str:
    """A fingerprint of everything in a checkpoint."""
    digest = sha256(json.dumps(outline, sort_keys=True).encode())
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode() + arrays[name].tobytes())
    return digest.hexdigest()


def _check(path: Path, needed: NeededPlugins) -> None:
    """Raise if plugins that a file needs are missing, and warn of those with another version."""
    if missing := needed.missing():
        raise CheckpointError(
            f"{path} needs plugins that are not there:\n  "
            + "\n  ".join(missing)
            + "\nIts arrays can be read without them: load_checkpoint(path, check_plugins=False)"
        )
    for difference in needed.differing():
        warnings.warn(f"{path} was written with {difference}", PluginWarning, stacklevel=3)


def _without_arrays(value: Any, place: str, arrays: dict[str, Any], holders: list[Any]) -> Any:
    """The nest with a reference in place of each array, which goes to `arrays`; what has a state dict, to `holders`."""
    if hasattr(value, "load_state_dict"):
        holders.append(value)
        value = value.state_dict()
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"the keys of a checkpoint are strings; {place or 'the top'} has the key {key!r}")
            if key in _RESERVED:
                raise ValueError(f"the key {key!r} has a meaning in checkpoints; rename it in {place or 'the top'}")
        return {
            key: _without_arrays(part, f"{place}.{key}".lstrip("."), arrays, holders) for key, part in value.items()
        }
    if isinstance(value, list | tuple):
        return [_without_arrays(part, f"{place}.{index}", arrays, holders) for index, part in enumerate(value)]
    if hasattr(value, "dtype"):
        if place in arrays:
            raise ValueError(f"two arrays have the place {place!r} in the checkpoint; rename a key")
        array = host_array(value)
        if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
            raise TypeError(f"a checkpoint holds numbers of at most 64 bits; {place} is an array of {array.dtype}")
        arrays[place] = array.astype(array.dtype.newbyteorder("="), order="C")  # the bytes in the order of a file's
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
