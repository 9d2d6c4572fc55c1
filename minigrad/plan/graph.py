"""The step as a graph of values: what an operation is applied to, and what each value depends on.

Equal values are one value (common subexpressions disappear as the graph is built), and `simplify` has a first look at
every new one.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any

import numpy as np

from minigrad.plan.abstract import Abstract
from minigrad.primitive import Primitive

Operand = Any
"""What a value is computed from: a `Value` or a Python number."""


class Level(IntEnum):
    """What a value depends on, at most. A value of a lower level can be computed before one of a higher level."""

    CONSTANT = 0  # parameters and constants alone
    TIME = 1  # x and whatever else is given for each step
    CARRY = 2  # the state before the step
    COTANGENT = 3  # the gradient of an output
    CARRIED = 4  # the gradient of the state after the step


class Value:
    """One value of the step.

    Attributes:
        op: the primitive that makes it; or a word for what it is: `"x"`, `"alive"`, `"carry"`, `"leaf"`, `"constant"`,
            `"cotangent"` (of an output), `"carried"` (the cotangent of a carry), `"total"` (a sum over all steps),
            `"assemble"` (pieces laid into zeros).
        inputs: values and Python numbers.
        attrs: the operation's keyword arguments. For what is given `number`, its place among those of its kind; a leaf,
            carry or carried cotangent has a `name`, for people, and a total `of`, the value that is summed. A constant
            has only its `array`, and pieces their `places`, see `pieces.py`.
        shape, dtype: of one step's value, batch first.
        index: its place in the order in which values were made; greater than that of each input.
        level: see `Level`.
    """

    __slots__ = ("attrs", "dtype", "index", "inputs", "level", "name", "op", "shape")

    def __init__(
        self,
        op: Primitive | str,
        inputs: tuple[Operand, ...],
        attrs: dict[str, Any],
        shape: tuple[int, ...],
        dtype: Any,
        index: int,
        level: Level,
    ) -> None:
        self.op, self.inputs, self.attrs = op, inputs, attrs
        self.shape, self.dtype, self.index, self.level = shape, dtype, index, level
        self.name = op if isinstance(op, str) else _name(op)

    @property
    def values(self) -> list[Value]:
        """The inputs that are values."""
        return [value for value in self.inputs if isinstance(value, Value)]

    @property
    def is_source(self) -> bool:
        """Whether it is given and not computed."""
        return isinstance(self.op, str) and self.op != "assemble"

    def __repr__(self) -> str:
        return f"<{self.index} {self.name}{list(self.shape)}>"


def _name(op: Primitive) -> str:
    return op.name if op.forward.__module__.startswith("minigrad.") else f"foreign_{op.name}"


_SOURCES = {
    "leaf": Level.CONSTANT,
    "constant": Level.CONSTANT,
    "x": Level.TIME,
    "alive": Level.TIME,
    "carry": Level.CARRY,
    "cotangent": Level.COTANGENT,
    "carried": Level.CARRIED,
    "total": Level.CONSTANT,
}


class Graph:
    """Makes values, each of them once.

    Args:
        simplify: asked before an operation is added, with the graph and what `add` is given: a value that is equal to
            it, or None.

    Attributes:
        table: the leaf in which x, of integers, is looked up, if it is known to have few rows.
    """

    table: Value | None = None

    def __init__(self, simplify: Callable[..., Value | None]) -> None:
        self._simplify = simplify
        self.values: list[Value] = []
        self._interned: dict[Any, Value] = {}  # by key

    def source(self, op: str, shape: tuple[int, ...], dtype: Any, number: int, **attrs: Any) -> Value:
        """Something given: see `Value.op`."""
        return self._new((op, number), op, (), {"number": number, **attrs}, shape, dtype, _SOURCES[op])

    def constant(self, array: Any) -> Value:
        """An array made in the step."""
        key = ("constant", array.shape, array.dtype, array.tobytes())
        return self._new(key, "constant", (), {"array": array}, array.shape, array.dtype, Level.CONSTANT)

    def add(
        self,
        op: Primitive | str,
        inputs: tuple[Operand, ...],
        attrs: dict[str, Any],
        shape: tuple[int, ...],
        dtype: Any,
        occurrence: int | None = None,
    ) -> Value:
        """The value of an operation; with an `occurrence` (a random draw) no other's equal, and never constant."""
        if occurrence is None:
            simpler = self._simplify(self, op, inputs, attrs, shape, dtype)
            if simpler is not None and (simpler.shape, simpler.dtype) == (shape, dtype):
                return simpler
        level = max((value.level for value in inputs if isinstance(value, Value)), default=Level.CONSTANT)
        if occurrence is not None:
            level = max(level, Level.TIME)
        operands = [v.index if isinstance(v, Value) else (type(v), repr(v)) for v in inputs]
        if op in COMMUTATIVE or getattr(op, "name", "") in COMMUTATIVE:
            operands.sort(key=repr)
        name = op if isinstance(op, str) else id(op)
        key = (name, tuple(operands), _hashable(attrs), occurrence, shape, dtype)
        return self._new(key, op, inputs, attrs, shape, dtype, level)

    def apply(self, op: Primitive, *inputs: Operand, **attrs: Any) -> Value:
        """The value of an operation whose shape and dtype are to be found out."""
        attrs = {**op.defaults, **attrs}
        arrays = [Abstract(v.shape, v.dtype) if isinstance(v, Value) else v for v in inputs]
        with np.errstate(all="ignore"):
            y = op.forward(np, *arrays, **attrs)
        return self.add(op, inputs, attrs, y.shape, y.dtype)

    def _new(
        self,
        key: Any,
        op: Primitive | str,
        inputs: tuple[Operand, ...],
        attrs: dict[str, Any],
        shape: tuple[int, ...],
        dtype: Any,
        level: Level,
    ) -> Value:
        value = self._interned.get(key)
        if value is None:
            value = self._interned[key] = Value(op, inputs, attrs, shape, dtype, len(self.values), level)
            self.values.append(value)
        return value


COMMUTATIVE = frozenset({"add", "multiply", "maximum", "minimum", "logical_and", "logical_or", "equal", "not_equal"})


def _hashable(value: Any) -> Any:
    """A key that is equal for equal attributes."""
    if isinstance(value, dict):
        return tuple((name, _hashable(part)) for name, part in value.items())
    if isinstance(value, tuple | list):
        return (type(value), *map(_hashable, value))
    if isinstance(value, slice):
        return (slice, value.start, value.stop, value.step)
    if hasattr(value, "tobytes"):
        return (value.shape, str(value.dtype), value.tobytes())
    return (type(value), repr(value) if isinstance(value, float) else value)  # -0.0 is another number than 0.0


def level_of(value: Operand) -> int:
    """The level of an operand; that of a number is below all."""
    return value.level if isinstance(value, Value) else -1


def is_a(value: Operand, name: str) -> bool:
    """Whether an operand is a value of this operation."""
    return isinstance(value, Value) and value.name == name


def needed(roots: list[Value]) -> list[Value]:
    """Everything that `roots` are computed from, and they themselves, in order."""
    seen: dict[int, Value] = {}
    stack = list(roots)
    while stack:
        value = stack.pop()
        if value.index not in seen:
            seen[value.index] = value
            stack.extend(value.values)
    return [seen[index] for index in sorted(seen)]


def rebuild(
    graph: Graph, values: list[Value], change: Callable[[Value, dict[int, Value]], Value | None]
) -> dict[int, Value]:
    """New values for `values`, by the index of the old ones.

    Args:
        graph: where the new ones are made.
        values: in an order in which they can be computed.
        change: gives the new value of one, or None if it is the same operation on the new operands; it is handed the
            value and the new ones so far.
    """
    new: dict[int, Value] = {}
    for value in values:
        made = change(value, new)
        if made is None and all(new[operand.index] is operand for operand in value.values):
            made = value
        elif made is None:
            inputs = tuple(new[v.index] if isinstance(v, Value) else v for v in value.inputs)
            occurrence = -value.index if is_opaque(value.op) else None
            made = graph.add(value.op, inputs, value.attrs, value.shape, value.dtype, occurrence)
        new[value.index] = made
    return new


def is_opaque(op: Primitive | str) -> bool:
    """Whether an operation may give another value each time, as far as is known: random ones and a stranger's."""
    return not isinstance(op, str) and (is_random(op) or not op.forward.__module__.startswith("minigrad."))


def is_random(op: Primitive) -> bool:
    """Whether an operation draws from the generator."""
    return op.forward.__module__ == "minigrad.ops.random"


def is_draw(value: Value) -> bool:
    """Whether a value is drawn from the generator."""
    return not isinstance(value.op, str) and is_random(value.op)
