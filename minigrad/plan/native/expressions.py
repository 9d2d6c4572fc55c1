"""One loop over columns as C: every value that it needs is computed once, in a vector of columns."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from minigrad.plan.graph import Level, Value
from minigrad.plan.native.parts import MASKS, NotExpressibleError
from minigrad.plan.native.phase import Phase
from minigrad.plan.native.places import Place, Store
from minigrad.plan.native.scalars import COMPARE, INFIX, LOGICAL, number

_CALLS = {
    name: f"v_{short}"
    for name, short in {
        "tanh": "tanh", "sigmoid": "sigmoid", "exp": "exp", "expm1": "expm1", "log": "log", "log1p": "log1p",
        "sqrt": "sqrt", "sin": "sin", "cos": "cos", "abs": "abs", "maximum": "max", "minimum": "min", "sign": "sign",
        "softplus": "softplus",
    }.items()
}  # fmt: skip


def pointer(place: Place) -> str:
    """The name of the pointer to a place's rows at the step being computed."""
    return f"a{place.array.number}{'_after' if place.after else ''}"


def row_pointer(place: Place) -> str:
    """The name of the pointer to the row of a place that is being computed."""
    return f"row{place.array.number}{'_after' if place.after else ''}"


class Loop:
    """The stores of one width at one stage, over the rows of a thread.

    Args:
        phase: whose.
        stage: which.
        size: columns.
        stores: what to compute.

    Attributes:
        places: all that is read or written.
        row: lines for each row; body: lines for each vector of columns, with LOAD and STORE for memory.
    """

    def __init__(self, phase: Phase, stage: int, size: int, stores: list[Store]) -> None:
        self.phase, self.stage, self.size = phase, stage, size
        self.schedule, self.rows = phase.schedule, phase.rows
        self.places: dict[Place, None] = {}
        self.row: list[str] = []
        self.body: list[str] = []
        self._names: dict[Any, str] = {}
        self._masks: set[str] = set()
        for store in stores:
            name = self._real(self._columns(store.value, store.start))
            self.body.append(f"STORE({self._row(store.place)} + {store.start} + j, {name});")

    # --- memory

    def _row(self, place: Place) -> str:
        self.places[place] = None
        return row_pointer(place)

    def _name(self, key: Any, kind: str, expression: str, once: bool = False) -> str:
        """A variable for an expression; `once` for each row."""
        name = self._names[key] = f"{'m' if kind == 'mask' else 'v'}{len(self._names)}"
        (self.row if once else self.body).append(f"{kind} {name} = {expression};")
        if kind == "mask":
            self._masks.add(name)
        return name

    def _load(self, value: Value, place: Place, start: int, broadcast: bool) -> str:
        key = ("load", place, start, broadcast)
        if key in self._names:
            return self._names[key]
        address = f"{self._row(place)} + {start}"
        name = self._name(key, "vec", f"v_set(*({address}))" if broadcast else f"LOAD({address} + j)", broadcast)
        if value.dtype == bool:
            name = self._name((*key, "mask"), "mask", f"{name} != 0", broadcast)
            self._names[key] = name
        return name

    # --- values

    def _columns(self, value: Value, start: int, broadcast: bool = False) -> str:
        """A variable with columns of a value, from `start` on; or with one column in each lane."""
        broadcast = broadcast or (self.rows.width(value) == 1 and self.size > 1)
        key = (value.index, start, broadcast)
        if key in self._names:
            return self._names[key]
        if value.level is Level.CONSTANT:
            return self._constant(value, value.shape, self.rows.axis(value), start, broadcast)
        phase = self.phase
        place = phase.places.get(value.index)
        ready = phase.is_there(value) or phase.stage(value) < self.stage or self.rows.is_operation(value)
        if place is not None and ready:
            name = self._load(value, place, start, broadcast)
        elif self.rows.is_moved(value):
            name = self._moved(value, start, broadcast)
        else:
            name = self._compute(value, start, broadcast)
        self._names[key] = name
        return name

    def _moved(self, value: Value, start: int, broadcast: bool) -> str:
        segment = self.rows.source(value, start, 1 if broadcast else self.size)
        if segment is None:
            return "v_set(0)"
        operand, broadcast = segment.operand, broadcast or segment.spread
        if operand.level is Level.CONSTANT:
            return self._constant(operand, operand.shape, segment.axis, segment.at, broadcast)
        return self._columns(operand, segment.at, broadcast)

    def _constant(self, value: Value, shape: tuple[int, ...], axis: int | None, start: int, broadcast: bool) -> str:
        """Columns of what depends on parameters alone, as it is seen from a shape with this axis of sequences."""
        single = prod(value.shape) == 1
        place = Place(self.schedule.constant(value, shape, axis, self.schedule.real))
        return self._load(value, place, 0 if single else start, broadcast or single)

    def _operand(self, operand: Any, like: Value, start: int, broadcast: bool) -> str:
        if not isinstance(operand, Value):
            return f"v_set({number(operand)})"
        if operand.level is Level.CONSTANT:
            return self._constant(operand, like.shape, self.rows.axis(like), start, broadcast)
        return self._columns(operand, 0 if self.rows.width(operand) == 1 else start, broadcast)

    def _compute(self, value: Value, start: int, once: bool) -> str:
        operands = [self._operand(v, value, start, once) for v in self.rows.operands(value)]
        kind = "mask" if value.name in MASKS else "vec"
        return self._name((value.index, start, "computed"), kind, self._expression(value, operands), once)

    def _expression(self, value: Value, operands: list[str]) -> str:
        name = value.name
        if name in LOGICAL or name == "logical_not":
            operands = [o if o in self._masks else f"({o} != 0)" for o in operands]
        elif name == "where":
            condition = operands[0] if operands[0] in self._masks else f"({operands[0]} != 0)"
            operands = [condition, *map(self._real, operands[1:])]
        else:
            operands = list(map(self._real, operands))
        return expression(name, operands, value.attrs)

    def _real(self, name: str) -> str:
        """A variable as numbers: a mask is 1 or 0."""
        return f"v_select({name}, v_set(1), v_set(0))" if name in self._masks else name


def expression(name: str, operands: list[str], attrs: dict[str, Any]) -> str:
    """An operation on vectors: of numbers, or of masks where it takes these."""
    if name == "where":
        return f"v_select({', '.join(operands)})"
    if name == "logical_not":
        return f"~{operands[0]}"
    for infix in (LOGICAL, INFIX, COMPARE):
        if name in infix:
            return f"{operands[0]} {infix[name]} {operands[1]}"
    if name in _CALLS:
        return f"{_CALLS[name]}({', '.join(operands)})"
    if name in _FORMULAS:
        return _FORMULAS[name](operands[0], **attrs)
    raise NotExpressibleError(f"{name} is not among what can be written in C")


def _clip(a: str, min: float | None, max: float | None) -> str:
    a = a if min is None else f"v_max({a}, v_set({number(min)}))"
    return a if max is None else f"v_min({a}, v_set({number(max)}))"


def _elu(a: str, alpha: float) -> str:
    return f"v_select({a} > 0, {a}, {number(alpha)} * v_expm1(v_min({a}, v_set(0))))"


_FORMULAS: dict[str, Callable[..., str]] = {
    "positive": lambda a: a,
    "negative": lambda a: f"-{a}",
    "square": lambda a: f"{a} * {a}",
    "relu": lambda a: f"v_max({a}, v_set(0))",
    "leaky_relu": lambda a, negative_slope: f"v_select({a} > 0, {a}, {a} * {number(negative_slope)})",
    "elu": _elu,
    "clip": _clip,
    "isfinite": lambda a: f"({a} - {a}) == 0",
    "astype": lambda a, dtype: a,
}
