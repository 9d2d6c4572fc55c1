"""Rows of a table, such as an embedding's vectors, as what a layer over time is given.

A layer that is given `embedding(indices)` runs, where it pays, a cell that looks the rows up by itself: its plan then
multiplies each row of the table once instead of each vector of the sequence (see `plan/tables.py`), and the gradient
goes from the layer to the table without a gradient of the vectors in between. For who asks for that one the sequence is
run again, on the tape, and from then on the layer takes vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from minigrad.contract import Cell
from minigrad.ops import take
from minigrad.plan.operations import TAKE
from minigrad.tape import Node
from minigrad.tensor import Parameter, Tensor

if TYPE_CHECKING:
    from minigrad.plan.plans import Plans

STEPS = 8
"""A table may have so many rows for each sequence."""


class Looking(Cell):
    """A cell that is given integers, and looks up in a table what `cell` is to be given."""

    def __init__(self, cell: Cell, table: Tensor) -> None:
        self.cell, self.table = cell, table

    def init_state(self, batch_size: int) -> Any:
        return self.cell.init_state(batch_size)

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        return self.cell.step(take(self.table, x), state)


@dataclass(frozen=True)
class Lookup:
    """How x was made.

    Attributes:
        table: (V, n).
        indices: integers, of x's shape without the last axis.
        node: what looked them up.
        plans: of the layer.
    """

    table: Parameter
    indices: Tensor
    node: Node
    plans: Plans

    def after(self, change: Callable[[Tensor], Tensor]) -> Lookup:
        """How `change(x)` is made, for a change that moves vectors about or leaves some out."""
        return Lookup(self.table, change(self.indices), self.node, self.plans)


def looked_up(x: Tensor, batch: int, plans: Plans) -> Lookup | None:
    """How x was made, of so many sequences, if a layer with these plans may look it up by itself; else None.

    It may if x is rows of a small table on the host. The table must be finite, since rows that are not looked up are
    multiplied by 0 for a gradient; and nobody must have written into x, which takes looking it up again to know.
    """
    node = x.node
    if node is None or not x.requires_grad or plans.take_vectors or x.backend.compiles != "c":
        return None
    if node.primitive is not TAKE or node.attrs["axis"] != 0:
        return None
    table, indices = node.inputs
    if not (isinstance(table, Parameter) and isinstance(indices, Tensor) and table.requires_grad):
        return None
    if table.ndim != 2 or indices.ndim != 2 or table.shape[0] > min(STEPS * batch, indices.size):
        return None
    values = table.data
    if not x.backend.xp.isfinite(values).all() or not (values[indices.data] == x.data).all():
        return None
    return Lookup(table, indices, node, plans)
