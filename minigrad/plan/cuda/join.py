"""Products that can be one: of the same rows with several matrices, or with a sum in which several of them end.

    x A.T, x B.T          one product x [A; B].T, of which both are columns
    g A + h B             one product [g, h] [A; B], where g and h are gradients
    g.T x, h.T x          one product [g, h].T x, of which both are rows; likewise x.T g, x.T h

The matrices are put together once a run, as whatever depends on parameters alone. Only products of one bin are joined,
so that none gets into the loop that need not be there. Gradients are computed side by side; what is there before, such
as two states, would have to be copied, and is left alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import reduce
from typing import Any

from minigrad.plan.graph import Graph, Level, Value, needed, rebuild
from minigrad.plan.native.parts import PRODUCTS
from minigrad.plan.operations import ADD, GETITEM, LINEAR, MATMUL
from minigrad.plan.pieces import side_by_side
from minigrad.plan.program import Program, build


def joined(program: Program) -> Program:
    """The program with fewer products."""
    for find in (_of_the_same_rows, _in_one_sum, _over_sequences):
        changes = find(program)
        if changes:
            program = _changed(program, changes)
    return program


Change = Callable[[dict[int, Value]], Value]
"""Makes a value's new one, given the new ones of those before it."""


def _changed(program: Program, changes: dict[int, Change]) -> Program:
    """The program with other values in the place of some, by their indices."""
    step = program.step

    def change(value: Value, new: dict[int, Value]) -> Value | None:
        return changes[value.index](new) if value.index in changes else None

    values = needed(_roots(program))
    after = _depending(values, set(changes))
    new = rebuild(step.graph, sorted(values, key=lambda value: (value.index in after, value.index)), change)

    def of(value: Value | None) -> Value | None:
        return None if value is None else new[value.index]

    return build(
        replace(
            step,
            outputs=[new[value.index] for value in step.outputs],
            results=[new[value.index] for value in step.results],
            x_grad=of(step.x_grad),
            carry_grads=list(map(of, step.carry_grads)),
            leaf_grads=list(map(of, step.leaf_grads)),
        )
    )


def _roots(program: Program) -> list[Value]:
    step = program.step
    grads = (step.x_grad, *step.carry_grads, *step.leaf_grads)
    return [*step.outputs, *step.results, *(grad for grad in grads if grad is not None)]


def _depending(values: list[Value], some: set[int]) -> set[int]:
    """The indices of those that are among `some`, or depend on them."""
    found = set(some)
    for value in values:
        if any(operand.index in found for operand in value.values):
            found.add(value.index)
    return found


def _is_product(value: Value) -> bool:
    """Whether a value is one of rows with a matrix of parameters."""
    if value.name not in PRODUCTS or len(value.values) != 2:
        return False
    rows, matrix = value.values
    varies = rows.level is not Level.CONSTANT and len(rows.shape) > 1
    return varies and matrix.level is Level.CONSTANT and len(matrix.shape) == 2


def _groups(keyed: Iterable[tuple[Any, Value]]) -> list[list[Value]]:
    """Values with the same key, where there are several."""
    found: dict[Any, list[Value]] = {}
    for key, value in keyed:
        found.setdefault(key, []).append(value)
    return [group for group in found.values() if len(group) > 1]


def _part(graph: Graph, value: Value, axis: int, start: int, size: int) -> Value:
    index = tuple(slice(start, start + size) if a == axis else slice(None) for a in range(len(value.shape)))
    return graph.apply(GETITEM, value, index=index)


def _stacked(graph: Graph, matrices: list[Value], axis: int) -> Value:
    """Matrices as one, one above the other or side by side."""
    if axis:
        return side_by_side(graph, matrices)
    places, start = [], 0
    for matrix in matrices:
        places.append((slice(start, start + matrix.shape[0], 1), slice(0, matrix.shape[1], 1)))
        start += matrix.shape[0]
    shape = (start, matrices[0].shape[1])
    return graph.add("assemble", tuple(matrices), {"places": tuple(places)}, shape, matrices[0].dtype)


def _of_the_same_rows(program: Program) -> dict[int, Change]:
    graph, changes = program.step.graph, {}
    products = [value for value in needed(_roots(program)) if _is_product(value)]
    keyed = (((value.op, value.values[0].index, program.bin_of(value), value.dtype), value) for value in products)
    for group in _groups(keyed):
        axis, start = (0, 0) if group[0].op is LINEAR else (1, 0)
        for value in group:
            size = value.shape[-1]
            changes[value.index] = _columns_of(graph, group, axis, start, size)
            start += size
    return changes


def _columns_of(graph: Graph, group: list[Value], axis: int, start: int, size: int) -> Change:
    def change(new: dict[int, Value]) -> Value:
        matrix = _stacked(graph, [value.values[1] for value in group], axis)
        whole = graph.apply(group[0].op, new[group[0].values[0].index], matrix)  # type: ignore[arg-type]  # a primitive
        return _part(graph, whole, len(whole.shape) - 1, start, size)

    return change


def _in_one_sum(program: Program) -> dict[int, Change]:
    """Terms of one sum that nothing else reads: the last of them becomes the one product, and the sum has fewer."""
    graph, values = program.step.graph, needed(_roots(program))
    uses = Counter(operand.index for value in values for operand in value.values)
    uses.update(root.index for root in _roots(program))
    inner = {
        term.index
        for value in values
        if value.op is ADD
        for term in value.values
        if term.op is ADD and uses[term.index] == 1 and _alike(term, value)
    }
    changes: dict[int, Change] = {}
    for value in values:
        if value.op is ADD and value.index not in inner:
            terms = _terms(value, inner)
            keyed = (
                ((term.op, program.bin_of(term), term.values[0].shape[:-1]), term)
                for term in terms
                if isinstance(term, Value) and _is_product(term) and _is_gradient(term.values[0])
                if uses[term.index] == 1 and _alike(term, value)
            )
            if groups := _groups(keyed):
                changes[value.index] = _sum_of(graph, terms, groups)
    return changes


def _alike(term: Value, total: Value) -> bool:
    return (term.shape, term.dtype) == (total.shape, total.dtype)


def _terms(value: Value, inner: set[int]) -> list[Any]:
    """What a sum consists of, in order."""
    terms, stack = [], [*reversed(value.inputs)]
    while stack:
        at = stack.pop()
        if isinstance(at, Value) and at.index in inner:
            stack += reversed(at.inputs)
        else:
            terms.append(at)
    return terms


def _sum_of(graph: Graph, terms: list[Any], groups: list[list[Value]]) -> Change:
    in_groups = {value.index for group in groups for value in group}

    def change(new: dict[int, Value]) -> Value:
        rest = [term for term in terms if not (isinstance(term, Value) and term.index in in_groups)]
        made: list[Any] = [new[term.index] if isinstance(term, Value) else term for term in rest]
        for group in groups:
            rows = side_by_side(graph, [new[value.values[0].index] for value in group])
            matrix = _stacked(graph, [value.values[1] for value in group], int(group[0].op is LINEAR))
            made.append(graph.add(group[0].op, (rows, matrix), group[0].attrs, group[0].shape, group[0].dtype))
        total: Value = reduce(lambda sum_, term: graph.apply(ADD, sum_, term), made)
        return total

    return change


def _is_gradient(value: Value) -> bool:
    return value.level >= Level.COTANGENT


def _over_sequences(program: Program) -> dict[int, Change]:
    """Products over sequences, which the gradients of matrices consist of."""
    graph, changes = program.step.graph, {}
    keyed = []
    for value in needed([grad for grad in program.step.leaf_grads if grad is not None]):
        if value.op is MATMUL and len(value.values) == 2 and all(len(v.shape) == 2 for v in value.values):
            left, right = value.values
            if left.name != "matrix_transpose" or _is_gradient(left) == _is_gradient(right):
                continue
            gradient, other = (left.values[0], right) if _is_gradient(left) else (right, left)
            keyed.append(((other.index, program.bin_of(gradient), gradient.shape[0]), value))
    groups = _groups(keyed)
    after = _depending(needed(_roots(program)), {value.index for group in groups for value in group})
    for group in groups:
        if any(operand.index in after for value in group for operand in value.values):
            continue  # one waits for another
        axis, start = (0, 0) if _is_gradient(group[0].values[0]) else (1, 0)
        for value in group:
            size = value.shape[axis]
            changes[value.index] = _part_of_product(graph, group, axis, start, size)
            start += size
    return changes


def _part_of_product(graph: Graph, group: list[Value], axis: int, start: int, size: int) -> Change:
    def change(new: dict[int, Value]) -> Value:
        if axis:
            left = new[group[0].values[0].index]
            right = side_by_side(graph, [new[value.values[1].index] for value in group])
        else:
            transpose, right = group[0].values[0].op, new[group[0].values[1].index]
            rows = side_by_side(graph, [new[value.values[0].values[0].index] for value in group])
            left = graph.apply(transpose, rows)  # type: ignore[arg-type]  # a primitive
        return _part(graph, graph.apply(MATMUL, left, right), axis, start, size)

    return change
