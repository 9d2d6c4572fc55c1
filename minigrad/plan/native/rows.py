"""Rows: what each sequence has of every value of a program, and how it is computed from what it has of others.

An axis of a value counts sequences, the first in most of them; the other axes, in their order, are the columns of a
row. Rows never meet, so that each thread can run its sequences from the first step to the last; a value in which they
do cannot be written in C. If there is only one sequence all elements are one row, and no axis counts anything.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from minigrad.plan.graph import Graph, Level, Operand, Value, is_draw
from minigrad.plan.native.moves import Move, Segment, is_move, mixes, move_of, segments_of
from minigrad.plan.native.parts import (
    ASTYPE,
    BROADCAST,
    COSTLY,
    GATHERS,
    MASKS,
    PRODUCTS,
    REDUCTIONS,
    SCALARS,
    VECTORS,
    NotExpressibleError,
    is_boolean,
    is_elementwise,
    is_integer,
    reduced_axes,
)

_AS_THEY_ARE = frozenset(
    {"astype", "astype_discrete", "in_range", "isfinite", "logical_and", "logical_or", "logical_not"}
)
"""Elementwise operations that convert their operands themselves."""


class Rows:
    """The rows of a program's values.

    Args:
        graph: where broadcasts and conversions that an operation implies are made values of their own.
        batch: how many sequences there are.
        real: the floating-point dtype.
    """

    def __init__(self, graph: Graph, batch: int, real: Any) -> None:
        self.graph, self.batch, self.real = graph, batch, real
        self._axes: dict[int, int | NotExpressibleError | None] = {}
        self._moves: dict[int, Move] = {}
        self._segments: dict[int, list[Segment] | None] = {}
        self._operands: dict[int, list[Operand]] = {}
        self._widths: dict[int, int] = {}
        self._vectors: dict[int, bool] = {}

    # --- shapes

    def axis(self, value: Value) -> int | None:
        """The axis that counts sequences; None if there is but one."""
        if value.index not in self._axes:
            try:
                self._axes[value.index] = None if self.batch == 1 else self._found_axis(value)
            except NotExpressibleError as why:
                self._axes[value.index] = why
        found = self._axes[value.index]
        if isinstance(found, NotExpressibleError):
            raise found
        return found

    def sizes(self, value: Value) -> tuple[int, ...]:
        """The shape of a row."""
        axis = self.axis(value)
        return tuple(size for a, size in enumerate(value.shape) if a != axis)

    def width(self, value: Value) -> int:
        """Elements in a row."""
        if value.index not in self._widths:
            self._widths[value.index] = prod(self.sizes(value))
        return self._widths[value.index]

    # --- how a value is computed

    def is_moved(self, value: Value) -> bool:
        """Whether columns of a value are read as columns of others."""
        return not value.is_source and is_move(value) and self.segments(value) is not None

    def is_vector(self, value: Value) -> bool:
        """Whether a value is computed right where it is needed, many columns at once."""
        if value.index not in self._vectors:
            self._vectors[value.index] = (
                value.name in VECTORS
                and is_elementwise(value)
                and (value.dtype == self.real or (is_boolean(value.dtype) and value.name in (*MASKS, "where")))
                and not any(is_integer(v.dtype) for v in self.varying(value))
            )
        return self._vectors[value.index]

    def whole(self, value: Value) -> Value:
        """What a slice, or the like, is a part of; of anything else the value itself."""
        while (parts := self._parts(value)) and len(parts) == 1:
            (value,) = parts
        return value

    def _parts(self, value: Value) -> list[Value]:
        """What a moved value is made of."""
        try:
            return self.varying(value) if self.is_moved(value) and value.name != "assemble" else []
        except NotExpressibleError:
            return []  # which is said where it is computed

    def is_arithmetic(self, value: Value) -> bool:
        """Whether to compute a value costs no more than to read it from memory."""
        return not value.is_source and self.is_vector(value) and value.name not in COSTLY

    def is_operation(self, value: Value) -> bool:
        """Whether a value is computed from rows that lie in memory, into memory."""
        return not (value.is_source or is_draw(value) or self.is_moved(value) or self.is_vector(value))

    def is_packed(self, value: Value) -> bool:
        """Whether a value is a product of rows with one matrix of parameters, which can be packed."""
        if value.name not in PRODUCTS or value.dtype != self.real:
            return False
        x, weight = value.inputs
        plain = isinstance(weight, Value) and weight.level is Level.CONSTANT and len(weight.shape) == 2
        return plain and x.level is not Level.CONSTANT and x.dtype == weight.dtype == self.real

    def move(self, value: Value) -> Move:
        """How a value is put together."""
        if value.index not in self._moves:
            move = move_of(value, self.batch, self.axis)
            pieces = [replace(piece, operand=self._converted(piece.operand, value.dtype)) for piece in move.pieces]
            self._moves[value.index] = replace(move, pieces=pieces)
        return self._moves[value.index]

    def segments(self, value: Value) -> list[Segment] | None:
        """The columns of a value that is put together; None if they come from too many places, or are integers."""
        if value.index not in self._segments:
            self._segments[value.index] = None if is_integer(value.dtype) else segments_of(self.move(value))
        return self._segments[value.index]

    def source(self, value: Value, start: int, size: int) -> Segment | None:
        """Where some columns of a moved value come from; None if nothing covers them: they are 0."""
        for segment in self.segments(value) or ():
            if segment.start <= start and start + size <= segment.start + segment.size:
                at = segment.at if segment.spread else segment.at + start - segment.start
                return Segment(start, size, segment.operand, segment.axis, at, segment.spread and size > 1)
            if start < segment.start + segment.size and segment.start < start + size:
                raise NotExpressibleError(f"{value!r} is cut at other places than it is put together")
        return None

    def operands(self, value: Value) -> list[Operand]:
        """What a value is computed from; of an elementwise operation in its shape and in the dtype it computes in.

        Constants, and what has but one column, stay as they are.
        """
        if value.index not in self._operands:
            found = list(value.inputs)
            if is_move(value):
                found = [piece.operand for piece in self.move(value).pieces]
            elif is_elementwise(value):
                common = self._computed_in(value)
                found = [self._fitted(v, value, common) if isinstance(v, Value) else v for v in found]
            self._operands[value.index] = found
        return self._operands[value.index]

    def varying(self, value: Value) -> list[Value]:
        """The operands that are not constant."""
        return [v for v in self.operands(value) if isinstance(v, Value) and v.level is not Level.CONSTANT]

    def _computed_in(self, value: Value) -> Any:
        """The dtype that operands are converted to; None if they are taken as they are."""
        if value.name in _AS_THEY_ARE:
            return None
        if value.name in MASKS:
            return np.result_type(*[v.dtype if isinstance(v, Value) else v for v in value.inputs])
        return value.dtype

    def _fitted(self, operand: Value, value: Value, dtype: Any) -> Value:
        if operand.level is Level.CONSTANT:
            return operand
        is_condition = value.name == "where" and operand is value.inputs[0]
        if is_integer(operand.dtype) and dtype is not None and dtype.kind == "f" and not is_condition:
            operand = self._converted(operand, dtype)
        if operand.shape == value.shape or self.width(operand) == 1:
            self._check_axis(operand, value)
            return operand
        return self.graph.add(BROADCAST, (operand,), {"shape": value.shape}, value.shape, operand.dtype)

    def _converted(self, operand: Value, dtype: Any) -> Value:
        if operand.dtype == dtype or operand.level is Level.CONSTANT:
            return operand
        return self.graph.add(ASTYPE, (operand,), {"dtype": dtype}, operand.shape, dtype)

    def _check_axis(self, operand: Value, value: Value) -> None:
        axis = self.axis(operand)
        if axis is not None and axis + len(value.shape) - len(operand.shape) != self.axis(value):
            raise mixes(value)

    # --- which axis counts sequences

    def _found_axis(self, value: Value) -> int | None:
        name = value.name
        if value.is_source or is_draw(value) or value.level is Level.CONSTANT:
            if not value.shape or value.shape[0] != self.batch:
                raise NotExpressibleError(f"{name} of shape {value.shape} is not given by sequence")
            return 0
        if is_move(value):
            return self.move(value).axis
        axes = {n: self.axis(v) for n, v in enumerate(value.inputs) if isinstance(v, Value) and v.level > 0}
        if is_elementwise(value):
            found: set[int | None] = {(a or 0) + len(value.shape) - len(value.inputs[n].shape) for n, a in axes.items()}
        elif name in REDUCTIONS:
            found = {self._of_reduction(value, axes[0] or 0)}
        elif name in PRODUCTS:
            found = {self._of_product(value, n, a or 0) for n, a in axes.items()}
        elif name in GATHERS:
            found = {self._of_gather(value, n, a or 0) for n, a in axes.items()}
        else:
            raise unknown(value)
        if len(found) != 1 or None in found:
            raise mixes(value)
        return found.pop()

    def _of_reduction(self, value: Value, axis: int) -> int | None:
        reduced = reduced_axes(value)
        if axis in reduced:
            return None
        gone = 0 if len(value.shape) == len(value.values[0].shape) else sum(a < axis for a in reduced)
        return axis - gone

    def _of_product(self, value: Value, number: int, axis: int) -> int | None:
        rank, shapes = len(value.shape), [v.shape for v in value.values]
        from_end = axis - len(shapes[number])
        if value.name == "linear":
            return axis if number == 0 and from_end != -1 else None
        vectors = [len(shape) == 1 for shape in shapes]
        if vectors[number] or from_end == (-1, -2)[number]:
            return None  # the axis that is summed over
        if number == 0:
            return rank + from_end + int(vectors[1])
        return rank - 1 if from_end == -1 else rank + from_end + int(vectors[0])

    def _of_gather(self, value: Value, number: int, axis: int) -> int | None:
        if value.name == "one_hot":
            return axis
        along: int = value.attrs["axis"] % len(value.attrs.get("shape", value.inputs[0].shape))
        if value.name.startswith("take_along_axis"):
            return axis if axis != along else None
        indices = len(value.inputs[1].shape)
        if value.name == "take":
            if number == 1:
                return along + axis
            return None if axis == along else axis if axis < along else axis + indices - 1
        if number == 1 or along <= axis < along + indices:
            return None
        return axis if axis < along else axis - indices + 1


def check(value: Value, rows: Rows) -> None:
    """Raise unless rows of the value can be computed from rows of its operands."""
    name = value.name
    if value.dtype.kind not in "fiub" or (value.dtype.kind == "f" and value.dtype != rows.real):
        raise NotExpressibleError(f"{name} gives {value.dtype}; a program has one floating-point dtype")
    if not prod(value.shape) or any(not prod(v.shape) for v in value.values):
        raise NotExpressibleError(f"{name} gives or takes a value without elements")
    if name in PRODUCTS and any(v.dtype != value.dtype for v in value.values):
        raise NotExpressibleError(f"{name} multiplies values of several dtypes")
    rows.axis(value)
    if not rows.is_operation(value) or is_move(value) or name in PRODUCTS | REDUCTIONS | GATHERS:
        return
    if name not in SCALARS or (name == "power" and value.dtype != rows.real):
        raise unknown(value)


def unknown(value: Value) -> NotExpressibleError:
    if not isinstance(value.op, str) and value.name.startswith("foreign_"):
        return NotExpressibleError(f"{value.name} is an operation of {value.op.forward.__module__}")
    return NotExpressibleError(f"{value.name} of {value.dtype} is not among what can be written in C")
