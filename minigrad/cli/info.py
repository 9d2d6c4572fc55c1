"""`minigrad info`: what runs here, for a report of a problem."""

from __future__ import annotations

import json
import platform
from collections import Counter
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

import typer
from packaging.requirements import Requirement
from rich.table import Table
from rich.text import Text
from threadpoolctl import threadpool_info

import minigrad as mg
from minigrad.backend import load_backend
from minigrad.cli.console import BackendOption, JsonOption, console, fail


def info(backend: BackendOption = None, as_json: JsonOption = False) -> None:
    """Show versions, the backend, the device, the BLAS and its threads, and how many plugins there are.

    **Examples**

    `minigrad info`

    `minigrad info --backend cupy`: whether it can run here, and on what

    `minigrad info --json`
    """
    try:
        if backend is not None:
            mg.set_backend(backend)
        current = mg.get_backend().name
    except (ValueError, mg.MinigradError) as error:
        fail(str(error))
    found = {
        "versions": _versions(),
        "optional": _optional(),
        "backend": current,
        "device": _device(),
        "blas": _blas(),
        "native": _native(),
        "plugins": _plugins(),
    }
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        _print(found)


def _versions() -> dict[str, str]:
    """Versions of Python and of what minigrad needs."""
    python = f"{platform.python_version()} ({platform.python_implementation()}, {platform.platform()})"
    needed = {needed.name: _version(needed.name) or "not installed" for needed in _requirements(extra=False)}
    return {"minigrad": _version("minigrad") or "not installed", "python": python, **needed}


def _optional() -> dict[str, str | None]:
    """Versions of what minigrad can use; None for what is not installed."""
    return {needed.name: _version(needed.name) for needed in _requirements(extra=True)}


def _requirements(extra: bool) -> list[Requirement]:
    listed = [Requirement(text) for text in requires("minigrad") or ()]
    return [needed for needed in listed if ("extra" in str(needed.marker)) == extra and needed.name != "minigrad"]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _device() -> dict[str, Any]:
    """The GPU that the cupy backend would use, or why there is none."""
    try:
        cupy = load_backend("cupy").xp
    except mg.BackendUnavailableError as error:
        return {"available": False, "reason": str(error)}
    runtime = cupy.cuda.runtime
    number = runtime.getDevice()
    properties = runtime.getDeviceProperties(number)
    free, total = runtime.memGetInfo()
    return {
        "available": True,
        "name": properties["name"].decode(),
        "number": number,
        "devices": runtime.getDeviceCount(),
        "memory": total,
        "free": free,
        "cuda": _cuda_version(runtime.runtimeGetVersion()),
        "driver": _cuda_version(runtime.driverGetVersion()),
        "cupy": cupy.__version__,
    }


def _cuda_version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _blas() -> list[dict[str, Any]]:
    """The libraries that compute products on the CPU, and their threads."""
    kept = ("internal_api", "version", "num_threads", "threading_layer", "architecture")
    return [
        {key: library[key] for key in kept if key in library}
        for library in threadpool_info()
        if library["user_api"] == "blas"
    ]


def _native() -> dict[str, str]:
    """What compiles cells to C, or why nothing does, and how many threads run them."""
    from minigrad.plan.native.pool import get_num_threads
    from minigrad.plan.native.toolchain import describe

    return {**describe(), "threads of native code": str(get_num_threads())}


def _plugins() -> dict[str, int]:
    """How many things are offered, and how many are not there, by the first word of their status."""
    counts = Counter(found.status.partition(":")[0] for found in mg.plugins())
    return {status: counts[status] for status in ("ok", "conflict", "failed", "incompatible", "switched off")}


def _print(found: dict[str, Any]) -> None:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    rows = dict(found["versions"])
    rows["optional"] = ", ".join(f"{name} {there or '(not installed)'}" for name, there in found["optional"].items())
    rows["backend"] = found["backend"]
    rows["device"] = _described_device(found["device"])
    rows["BLAS"] = "; ".join(map(_described_blas, found["blas"])) or "none that threadpoolctl knows"
    rows |= found["native"]
    rows["plugins"] = ", ".join(f"{count} {status}" for status, count in found["plugins"].items() if count)
    for name, value in rows.items():
        table.add_row(name, Text(str(value)))
    console.print(table, soft_wrap=False)


def _described_device(device: dict[str, Any]) -> str:
    if not device["available"]:
        return f"no GPU: {device['reason']}"
    return (
        f"{device['name']}, {device['memory'] / 2**30:.0f} GiB ({device['free'] / 2**30:.0f} free), number "
        f"{device['number']} of {device['devices']}; CUDA {device['cuda']}, driver {device['driver']}, "
        f"CuPy {device['cupy']}"
    )


def _described_blas(library: dict[str, Any]) -> str:
    name = " ".join(str(library[key]) for key in ("internal_api", "version", "architecture") if library.get(key))
    return f"{name}, threads: {library['num_threads']}"
