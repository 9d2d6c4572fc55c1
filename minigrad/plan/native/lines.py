"""What a compiled pass over the elements of arrays does: a list of operations."""

from __future__ import annotations

from typing import NamedTuple

Operand = tuple[str, int]
"""A kind and a number: of "given" arrays, of "numbers", or of "lines"."""


class Line(NamedTuple):
    """An operation, by `mg`'s name (NumPy's for a copy), on what is given and on what lines before it gave."""

    name: str
    operands: tuple[Operand, ...]
