"""Gradients of parameters as sums over steps and sequences: what is added up, and what is left to do with the sums.

What a parameter's gradient gets from a step is a product of rows, gᵀ x, or a sum of rows over the batch; or these put
together, reshaped, negated and so on, which can as well be done once with the sums over all steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from minigrad.plan.cuda.rows import NotExpressibleError, width
from minigrad.plan.graph import Level, Value, needed

_LATER = frozenset(
    """reshape squeeze expand_dims matrix_transpose permute_dims assemble getitem add subtract negative flip
    multiply divide""".split()  # noqa: SIM905  # a list of names
)
"""Linear operations that can be done once with sums instead of at each step: of values that vary, or of one such."""


@dataclass(frozen=True)
class Base:
    """What is added up over steps: value is one step's share.

    Attributes:
        value: one step's share.
        rows: whose rows are added up; or, if there are two, whose rows' products are.
        by_row: whether each sequence has a sum of its own.
    """

    value: Value
    rows: tuple[Value, ...]
    by_row: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the sum as the code gives it."""
        if len(self.rows) == 2 or self.by_row:
            return self.value.shape
        return (width(self.rows[0]),)

    def finished(self, array: Any) -> Any:
        """The sum of the value, from what the code gives."""
        if self.value.name == "sum" and not self.by_row and self.value.attrs["axis"] in (None, (0, 1)):
            array = array.sum()
        return array.reshape(self.value.shape)


def bases_of(value: Value, batch: int) -> tuple[list[Base], list[Value]]:
    """What a sum over steps of a value is made of, and how: values to be evaluated once, in order.

    Raises:
        NotExpressibleError: it is not made of sums of rows.
    """
    bases: dict[int, Base] = {}
    later: dict[int, Value] = {}
    stack = [value]
    while stack:
        at = stack.pop()
        if at.index in bases or at.index in later or at.level is Level.CONSTANT:
            continue
        base = _base(at)
        if base is None and _is_rows(at, batch):
            base = Base(at, (at,), by_row=True)
        if base is not None:
            bases[at.index] = base
            continue
        varying = [operand for operand in at.values if operand.level is not Level.CONSTANT]
        scaled = at.name in ("multiply", "divide")
        linear = len(varying) == 1 and (at.name == "multiply" or at.inputs[0] is varying[0]) if scaled else True
        if at.name not in _LATER or not linear or (at.name in ("add", "subtract") and len(varying) < 2):
            raise NotExpressibleError(f"the gradient of a parameter sums {at.name} of shape {at.shape}, not rows")
        later[at.index] = at
        stack += varying
    return list(bases.values()), [later[index] for index in sorted(later)]


def _base(value: Value) -> Base | None:
    """A sum over the batch."""
    if value.name == "matmul" and all(v.level is not Level.CONSTANT and len(v.shape) == 2 for v in value.values):
        left, right = (_rows_of(factor, axis) for axis, factor in enumerate(value.values))
        return Base(value, (left, right)) if left is not None and right is not None else None
    if value.name == "sum" and len(value.values[0].shape) == 2 and value.attrs["axis"] in (None, 0, (0,), (0, 1)):
        return Base(value, (value.values[0],))
    return None


def _is_rows(value: Value, batch: int) -> bool:
    """Whether a value has rows, each of one sequence: it is made without any sum over the batch."""
    shaped = len(value.shape) in (1, 2) and value.shape[0] == batch
    return shaped and all(_base(at) is None for at in needed([value]))


def _rows_of(value: Value, axis: int) -> Value | None:
    """The value whose rows a factor of a product of all steps has: (n, B) as the first, (B, n) as the second."""
    swapped = axis == 0
    while value.name == "matrix_transpose":
        value, swapped = value.values[0], not swapped
    return None if swapped else value
