"""Whether there is a GPU to compute on; and if not, why, and what to do."""

from __future__ import annotations

from typing import Any

from minigrad.errors import BackendUnavailableError

OLDEST = {11: 35, 12: 50, 13: 75}
"""The oldest compute capability, times 10, that the libraries of a CUDA version are built for."""


def check_device(cupy: Any) -> None:
    """Raise unless CuPy finds a device that its libraries are built for.

    Raises:
        BackendUnavailableError: there is no driver, no device, or only one that is too old.
    """
    try:
        devices = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise BackendUnavailableError(_no_device(str(error))) from error
    if not devices:
        raise BackendUnavailableError(_no_device("no device is visible"))
    _check_capability(cupy)


def _check_capability(cupy: Any) -> None:
    major = cupy.cuda.runtime.runtimeGetVersion() // 1000
    capability, oldest = cupy.cuda.Device().compute_capability, OLDEST.get(major, OLDEST[13])
    if int(capability) < oldest:
        raise BackendUnavailableError(
            f"this GPU has compute capability {capability[:-1]}.{capability[-1]}, and CUDA {major} needs "
            f"{oldest // 10}.{oldest % 10} or newer. Install CuPy for an older CUDA, choose another GPU with "
            "CUDA_VISIBLE_DEVICES, or use the numpy backend."
        )


def _no_device(reason: str) -> str:
    what = "no CUDA device"
    if "InsufficientDriver" in reason:
        what = "no NVIDIA driver, or one that is too old for it, and so no CUDA device"
    return (
        f"CuPy is installed, but it finds {what} ({reason}). The cupy backend needs an NVIDIA GPU "
        "with its driver; check `nvidia-smi` and CUDA_VISIBLE_DEVICES, or use the numpy backend."
    )
