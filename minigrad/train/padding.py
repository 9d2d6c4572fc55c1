"""One field of all examples: plain numbers, or sequences of different lengths to be padded to one tensor."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import numpy as np

from minigrad.backend import host_array, is_floating
from minigrad.tensor import Tensor, tensor

__all__ = ["Column"]


class Column:
    """A field of every example, on the host.

    Args:
        name: what messages call it.
        values: one per example: numbers, or sequences (T_i, ...) with equal sizes behind the first axis.

    Attributes:
        lengths: of each example's sequence; None if the field holds plain numbers.

    Raises:
        ValueError: the examples' values do not go together.
    """

    def __init__(self, name: str, values: Sequence[Any]) -> None:
        arrays = [_on_host(f"examples[{number}][{name}]", value) for number, value in enumerate(values)]
        told = [array for array in arrays if array.shape != (0,)]  # an empty list does not say what its rows would be
        first = told[0] if told else arrays[0]
        for number, array in enumerate(arrays):
            alike = array.ndim == first.ndim and array.shape[1:] == first.shape[1:]
            if not alike and not (array.shape == (0,) and first.ndim):
                raise ValueError(
                    f"examples[{number}][{name}] has shape {array.shape}, and others {first.shape}: a field holds "
                    "plain numbers, or sequences (T, ...) that differ in T alone"
                )
        self.arrays, self.shape = arrays, first.shape[1:]
        self.dtype = _common_dtype([array.dtype for array in told or arrays])
        self.lengths = [len(array) for array in arrays] if first.ndim else None

    def pad(self, indices: Sequence[int]) -> Tensor:
        """The examples with these indices: (B,), or (T, B, ...) with zeros past each sequence's end."""
        if self.lengths is None:
            return tensor(np.array([self.arrays[i] for i in indices], self.dtype))
        longest = max(self.lengths[i] for i in indices)
        padded = np.zeros((longest, len(indices), *self.shape), self.dtype)
        for place, i in enumerate(indices):
            if self.lengths[i]:
                padded[: self.lengths[i], place] = self.arrays[i]
        return tensor(padded)

    def digest(self) -> str:
        """A fingerprint of all values."""
        digest = sha256(f"{self.dtype} {self.shape} {self.lengths}".encode())
        for array in self.arrays:
            digest.update(array.astype(self.dtype).tobytes())
        return digest.hexdigest()


def _on_host(place: str, value: Any) -> Any:
    try:
        return value.numpy() if isinstance(value, Tensor) else host_array(value)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


def _common_dtype(dtypes: list[Any]) -> Any:
    """The dtype for all; integers among floating-point numbers do not widen them."""
    floating = [dtype for dtype in dtypes if is_floating(dtype)]
    return max(floating, key=lambda dtype: dtype.itemsize) if floating else np.result_type(*dtypes)
