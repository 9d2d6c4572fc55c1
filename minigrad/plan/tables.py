"""Rules for products with rows of a table of parameters, as an embedding's vectors are.

Where the table is known to have fewer rows than are looked up in a run, each row is multiplied once, and the product is
looked up: x W with x = E[i] is (E W)[i]. Backward, what comes for each row of the table is summed first and multiplied
then: with S[j] the sum of the cotangents g of all (E W)[i] with i = j, the gradient of W is E^T S, and that of E is
S W^T.
"""

from __future__ import annotations

from typing import Any

from minigrad.plan.graph import Graph, Level, Operand, Value, is_a
from minigrad.plan.operations import MATMUL, TAKE, TAKE_TRANSPOSE, TRANSPOSE
from minigrad.primitive import Primitive


def multiplied(graph: Graph, op: Primitive, rows: Operand, weight: Operand) -> Value | None:
    """`op(rows, weight)`, a product with a matrix of parameters, where `rows` are of a table."""
    if not _is_looked_up(graph, rows) or not isinstance(weight, Value) or weight.level is not Level.CONSTANT:
        return None
    table, indices = rows.inputs
    return graph.apply(TAKE, graph.apply(op, table, weight), indices, axis=0)


def of_weight(graph: Graph, g: Operand, rows: Operand) -> Value | None:
    """`g^T rows`, as the gradient of such a matrix is."""
    if not is_a(g, "matrix_transpose") or len(g.shape) != 2 or not _is_looked_up(graph, rows):
        return None
    table, indices = rows.inputs
    summed = _summed(graph, g.inputs[0], indices, table.shape[0])
    return graph.apply(MATMUL, graph.apply(TRANSPOSE, summed), table)


def of_table(graph: Graph, inputs: Any, attrs: Any, shape: Any, dtype: Any) -> Value | None:
    """What comes for the rows of the table, where it is a product with a matrix of parameters."""
    g, indices = inputs
    if graph.table is None or not is_a(indices, "x") or shape != graph.table.shape or not is_a(g, "matmul"):
        return None
    factor, weight = g.inputs
    if not isinstance(weight, Value) or weight.level is not Level.CONSTANT or len(weight.shape) != 2:
        return None
    return graph.apply(MATMUL, _summed(graph, factor, indices, shape[0]), weight)


def _summed(graph: Graph, g: Value, indices: Operand, rows: int) -> Value:
    return graph.apply(TAKE_TRANSPOSE, g, indices, axis=0, shape=(rows, *g.shape[1:]))


def _is_looked_up(graph: Graph, value: Operand) -> bool:
    """Whether it is rows of the graph's table."""
    return is_a(value, "take") and value.inputs[0] is graph.table and value.attrs["axis"] == 0
