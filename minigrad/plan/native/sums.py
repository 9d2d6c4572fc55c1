"""Gradients of parameters as sums over steps and sequences: what is added up, and what is left to do with the sums.

What a parameter's gradient gets from a step is a product of rows, gᵀ x, or a sum of rows over the batch, or rows added
to those of a table; or these put together, reshaped, negated and so on, which can as well be done once with the sums
over all steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

from minigrad.plan.graph import Level, Value
from minigrad.plan.native.parts import EXPAND_DIMS, MULTIPLY, NotExpressibleError, reduced_axes
from minigrad.plan.native.rows import Rows

_LATER = frozenset(
    """reshape squeeze expand_dims matrix_transpose permute_dims assemble getitem getitem_transpose add subtract
    negative flip sum mean broadcast_to multiply divide matmul linear""".split()  # noqa: SIM905  # a list of names
)
"""Linear operations, which can be done once with sums instead of at each step, if but one operand varies."""


@dataclass(frozen=True)
class Base:
    """What is added up over steps: value is one step's share.

    Attributes:
        value: one step's share.
        how: `"rows"` are added up; or `"products"` of the elements of two rows; or rows go to those of a `"table"` that
            integers name; or each sequence has a sum `"apart"`.
        rows: whose rows; for a table also whose integers.
        shape: of the sum as the code gives it.
        parts: into how many rows of equal size each row is cut.
        axis: which axis counts sequences in what is added up; None if there is but one.
        reduced: over which axes of that it is summed.
    """

    value: Value
    how: str
    rows: tuple[Value, ...]
    shape: tuple[int, ...]
    parts: int = 1
    axis: int | None = None
    reduced: tuple[int, ...] = ()

    def finished(self, array: Any) -> Any:
        """The sum of the value, from what the code gives."""
        order, axes = self._left_to_do
        if order:
            array = array.transpose(order)
        if axes:
            array = array.sum(axis=axes)
        return array if array.shape == self.value.shape else array.reshape(self.value.shape)

    @cached_property
    def _left_to_do(self) -> tuple[list[int], tuple[int, ...]]:
        """The order to put the axes in, and those to sum over."""
        if self.how == "apart" and self.axis is not None:
            order = [*range(1, len(self.shape))]
            order.insert(self.axis, 0)
            return order, ()
        if self.how == "rows":
            left = [a for a in range(len(self.rows[0].shape)) if a != self.axis]
            return [], tuple([n for n, a in enumerate(left) if a in self.reduced])
        return [], ()


def bases_of(value: Value, rows: Rows) -> tuple[list[Base], list[Value]]:
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
        base = _base(at, rows)
        is_later = _is_later(at)
        if base is None and _axis(at, rows) is not None and not (is_later and rows.batch == 1):
            base = Base(at, "apart", (at,), (rows.batch, *rows.sizes(at)), axis=rows.axis(at))
        if base is not None:
            bases[at.index] = base
        elif is_later:
            later[at.index] = at
            stack += [operand for operand in at.values if operand.level is not Level.CONSTANT]
        else:
            raise NotExpressibleError(f"the gradient of a parameter sums {at.name} of shape {at.shape}, not rows")
    return list(bases.values()), [later[index] for index in sorted(later)]


def _is_later(value: Value) -> bool:
    """Whether a value can be computed from the sums of what it is computed from."""
    varying = [operand for operand in value.values if operand.level is not Level.CONSTANT]
    if value.name in ("add", "subtract"):
        return len(varying) == 2
    if value.name == "where":  # of a gradient and 0
        return value.inputs[0] is not varying[0] and len(varying) == 1 and 0.0 in value.inputs[1:]
    if value.name in ("divide", "linear") and value.inputs[0] is not varying[0]:
        return False
    return value.name in _LATER and (len(varying) == 1 or value.name == "assemble")


def _base(value: Value, rows: Rows) -> Base | None:
    """A sum over sequences."""
    if value.name == "matmul" and all(v.level is not Level.CONSTANT for v in value.values):
        return _products(value, rows)
    if value.name == "sum":
        (x,) = value.values
        axis, reduced = _axis(x, rows), reduced_axes(value)
        if axis is not None and axis in reduced and x.shape[axis] == rows.batch:
            sizes = tuple(size for a, size in enumerate(x.shape) if a != axis)
            return Base(value, "rows", (x,), sizes, axis=axis, reduced=reduced)
    if value.name == "take_transpose" and value.inputs[1].level is not Level.CONSTANT:
        g, indices = value.values
        along, axis = value.attrs["axis"] % len(value.shape), _axis(indices, rows)
        if axis is not None and _axis(g, rows) in (along + axis, 0 if rows.batch == 1 else None):
            shape = prod(value.shape[:along]), value.shape[along], prod(value.shape[along + 1 :])
            return Base(value, "table", (g, indices), shape)
    return None


def _axis(value: Value, rows: Rows) -> int | None:
    """The axis that counts sequences, the first if there is only one sequence; None if they meet in the value."""
    try:
        return rows.axis(value) or 0
    except NotExpressibleError:
        return None


def _products(value: Value, rows: Rows) -> Base | None:
    """A product of matrices that sums over all rows of both factors."""
    if any(len(v.shape) != 2 for v in value.values):
        return _apart_first(value, rows)
    left, right = _rows_of(value.values[0], 1, rows), _rows_of(value.values[1], 0, rows)
    if left is None or right is None or left[1] != right[1]:
        return None
    return Base(value, "products", (left[0], right[0]), value.shape, left[1])


def _rows_of(value: Value, along: int, rows: Rows) -> tuple[Value, int] | None:
    """The value whose rows a factor has that is summed over an axis, and how many rows each sequence has in it."""
    while value.name in ("matrix_transpose", "permute_dims") and len(value.shape) == 2:
        exchanged = value.attrs.get("axes") not in ((0, 1), [0, 1])
        value, along = value.values[0], 1 - along if exchanged else along
    if value.shape[along] == rows.batch:
        return (value, 1) if _axis(value, rows) == along or rows.batch == 1 else None
    if value.name == "reshape" and along == 0:
        source = value.values[0]
        if _axis(source, rows) == 0 and source.shape[-1] == value.shape[-1] and len(source.shape) > 1:
            return source, value.shape[0] // rows.batch
    return None


def _apart_first(value: Value, rows: Rows) -> Base | None:
    """Many products that sum over the batch: those of each sequence by themselves, and then their sum."""
    left, right = value.values
    ranks = len(left.shape), len(right.shape)
    if min(ranks) < 2 or (_axis(left, rows), _axis(right, rows)) != (ranks[0] - 1, ranks[1] - 2):
        return None
    graph, axis = rows.graph, max(ranks) - 1
    columns = graph.apply(EXPAND_DIMS, left, axis=-1)  # (..., m, batch, 1)
    with_rows = graph.apply(EXPAND_DIMS, right, axis=-3)  # (..., 1, batch, n)
    each = graph.apply(MULTIPLY, columns, with_rows)
    sizes = tuple(size for a, size in enumerate(each.shape) if a != axis)
    return Base(value, "rows", (each,), sizes, axis=axis, reduced=(axis,))
