"""One field of all examples: numbers, arrays of one shape, or sequences of different lengths to be padded."""

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
        fixed: whether arrays are no sequences, but all of one shape.

    Attributes:
        lengths: of each example's sequence; None if the field holds none.

    Raises:
        ValueError: the examples' values do not go together.
    """

    def __init__(self, name: str, values: Sequence[Any], fixed: bool = False) -> None:
        arrays = [_on_host(f"examples[{number}][{name}]", value) for number, value in enumerate(values)]
        told = [array for array in arrays if array.shape != (0,)]  # an empty list does not say what its rows would be
        first = told[0] if told else arrays[0]
        for number, array in enumerate(arrays):
            alike = array.shape == first.shape if fixed else _alike_but_for_length(array.shape, first.shape)
            if not alike:
                what = "a fixed field holds arrays of one shape"
                what = what if fixed else "a field holds plain numbers, or sequences (T, ...) that differ in T alone"
                raise ValueError(
                    f"examples[{number}][{name}] has shape {array.shape}, and others {first.shape}: {what}"
                )
        self.arrays, self.shape = arrays, first.shape if fixed else first.shape[1:]
        self.dtype = _common_dtype([array.dtype for array in told or arrays])
        self.lengths = [len(array) for array in arrays] if first.ndim and not fixed else None

    def pad(self, indices: Sequence[int]) -> Tensor:
        """The examples with these indices: (B, ...), or (T, B, ...) with zeros past each sequence's end."""
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


def _alike_but_for_length(shape: tuple[int, ...], first: tuple[int, ...]) -> bool:
    """Whether arrays differ in nothing but the size of the first axis; an empty list fits all sequences."""
    return (len(shape) == len(first) and shape[1:] == first[1:]) or (shape == (0,) and bool(first))


def _on_host(place: str, value: Any) -> Any:
    try:
        return value.numpy() if isinstance(value, Tensor) else host_array(value)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


def _common_dtype(dtypes: list[Any]) -> Any:
    """The dtype for all; integers among floating-point numbers do not widen them."""
    floating = [dtype for dtype in dtypes if is_floating(dtype)]
    return max(floating, key=lambda dtype: dtype.itemsize) if floating else np.result_type(*dtypes)
