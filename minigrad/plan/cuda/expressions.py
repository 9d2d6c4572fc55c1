"""One loop over columns as CUDA: what a thread does for its column of a row, every value computed once."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, isinf, isnan
from typing import Any

from minigrad.plan.cuda.layout import IN_TIME, Place, Store
from minigrad.plan.cuda.rows import MASKS, NotExpressibleError, is_moved, moved, width
from minigrad.plan.cuda.sections import Section
from minigrad.plan.graph import Level, Value

_INFIX = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/"}
_COMPARE = {"equal": "==", "not_equal": "!=", "less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">="}
_LOGICAL = {"logical_and": "&&", "logical_or": "||"}
_CALLS = {
    "maximum": "larger", "minimum": "smaller", "abs": "fabs", "sigmoid": "sigmoid", "sign": "sign",
    "softplus": "softplus", **{name: name for name in "tanh exp expm1 log log1p sqrt sin cos".split()},  # noqa: SIM905
}  # fmt: skip


def number(value: float) -> str:
    """A Python number as CUDA has it."""
    if isnan(value):
        return "(REAL)NAN"
    if isinf(value):
        return "(REAL)INFINITY" if value == inf else "-(REAL)INFINITY"
    return f"(REAL){float(value)!r}"


def address(place: Place, batch: int) -> str:
    """Where the row `q` of a place begins: rows are counted over all steps, row after row of one step's batch."""
    array = place.array
    row = "q"
    if array.kind in IN_TIME:
        row = f"(q + {batch})" if place.is_later else "q"
    elif array.kind == "scratch":
        row = "(q - first)"
    elif array.kind == "constant":
        row = f"(q % {batch})"
    text = f"{array.name} + {row} * {array.row}" if array.row else array.name
    return f"{text} + {place.first}" if place.first else text


class Loop:
    """The stores of one width at one stage of a kernel, for one column `j` of a row `q`.

    Args:
        section: whose.
        stage: which.
        size: columns.
        stores: what to compute.

    Attributes:
        places: all that is read or written.
        body: lines.
    """

    def __init__(self, section: Section, stage: int, size: int, stores: list[Store]) -> None:
        self.section, self.stage, self.size = section, stage, size
        self.schedule = section.schedule
        self.places: dict[Place, None] = {}
        self.body: list[str] = []
        self._names: dict[Any, str] = {}
        self._booleans: set[str] = set()
        self._taken: set[str] = set()
        for store in stores:
            name = self._real(self._columns(store.value, store.start))
            self.body.append(f"{self._element(store.place, store.start, False)} = {name};")

    # --- memory

    def _element(self, place: Place, start: int, single: bool) -> str:
        self.places[place] = None
        base = address(place, self.schedule.batch)
        column = f"{start}" if single else f"{start} + j" if start else "j"
        name, _, rest = base.partition(" + ")
        return f"{name}[{rest} + {column}]" if rest else f"{name}[{column}]"

    def _name(self, key: Any, word: str, kind: str, expression: str) -> str:
        """A variable for an expression."""
        name, count = word, 1
        while name in self._taken:
            count += 1
            name = f"{word}_{count}"
        self._taken.add(name)
        self._names[key] = name
        self.body.append(f"const {kind} {name} = {expression};")
        if kind == "bool":
            self._booleans.add(name)
        return name

    def _load(self, value: Value, place: Place, start: int, single: bool) -> str:
        key = ("load", place, start, single)
        if key not in self._names:
            element, word = self._element(place, start, single), f"{place.array.name}_{start}" if start else ""
            word = f"{word or place.array.name}_in"
            if value.dtype == bool:
                self._name(key, word, "bool", f"{element} != 0")
            else:
                self._name(key, word, "REAL", element)
        return self._names[key]

    # --- values

    def _columns(self, value: Value, start: int, single: bool = False) -> str:
        """A variable with a column of a value, `start + j`; or the column `start` for all j."""
        single = single or (width(value) == 1 and self.size > 1)
        key = (value.index, start, single)
        if key in self._names:
            return self._names[key]
        if value.level is Level.CONSTANT:
            return self._operand(value, value, start, single)
        place = self.section.places.get(value.index)
        if place is not None and self.section.is_ready(value, self.stage):
            name = self._load(value, place, start, single)
        elif is_moved(value):
            part = moved(value, start, 1 if single else self.size)
            name = "(REAL)0" if part is None else self._columns(*part, single)
        else:
            name = self._compute(value, start, single)
        self._names[key] = name
        return name

    def _operand(self, operand: Any, like: Value, start: int, single: bool) -> str:
        if not isinstance(operand, Value):
            return number(operand)
        rank = len(like.shape)
        spread = ((1,) * (rank - len(operand.shape)) + operand.shape)[1:] in ((), (1,))
        at = 0 if spread else start
        if operand.level is Level.CONSTANT:
            return self._load(operand, Place(self.schedule.constant(operand, rank)), at, single or spread)
        return self._columns(operand, at, single)

    def _compute(self, value: Value, start: int, single: bool) -> str:
        name, operands = value.name, [self._operand(v, value, start, single) for v in value.inputs]
        for operand in value.inputs:
            if isinstance(operand, Value) and operand.dtype not in (bool, self.schedule.real):
                raise NotExpressibleError(f"{name} takes {operand.dtype}")
        word = f"{name}_{value.index}" + (f"_{start}" if start else "")
        kind = "bool" if name in MASKS else "REAL"
        return self._name((value.index, start, "computed", single), word, kind, self._expression(value, operands))

    def _expression(self, value: Value, operands: list[str]) -> str:
        name = value.name
        if name == "where":
            condition, a, b = operands
            return f"{self._boolean(condition)} ? {self._real(a)} : {self._real(b)}"
        if name in _LOGICAL:
            return f" {_LOGICAL[name]} ".join(map(self._boolean, operands))
        if name == "logical_not":
            return f"!{self._boolean(operands[0])}"
        reals = [self._real(operand) for operand in operands]
        if name in _INFIX or name in _COMPARE:
            return f"{reals[0]} {(_INFIX | _COMPARE)[name]} {reals[1]}"
        if name in _CALLS:
            return f"{_CALLS[name]}({', '.join(reals)})"
        if name in _FORMULAS:
            return _FORMULAS[name](reals[0], **value.attrs)
        if name == "power":
            exponent = value.inputs[1]
            whole = not isinstance(exponent, Value) and exponent in (2, 3)
            return " * ".join(reals[:1] * int(exponent)) if whole else f"pow({', '.join(reals)})"
        raise NotExpressibleError(f"{name} is not among what can be written in CUDA")

    def _real(self, name: str) -> str:
        """An operand as a number: a boolean is 1 or 0."""
        return f"(REAL){name}" if name in self._booleans else name

    def _boolean(self, name: str) -> str:
        return name if name in self._booleans else f"({name} != 0)"


def _clip(a: str, min: float | None, max: float | None) -> str:
    a = a if min is None else f"larger({a}, {number(min)})"
    return a if max is None else f"smaller({a}, {number(max)})"


_FORMULAS: dict[str, Callable[..., str]] = {
    "negative": lambda a: f"-{a}",
    "square": lambda a: f"{a} * {a}",
    "relu": lambda a: f"larger({a}, (REAL)0)",
    "leaky_relu": lambda a, negative_slope: f"{a} > 0 ? {a} : {a} * {number(negative_slope)}",
    "elu": lambda a, alpha: f"{a} > 0 ? {a} : {number(alpha)} * expm1({a})",
    "clip": _clip,
    "isfinite": lambda a: f"{a} - {a} == 0",
    "astype": lambda a, dtype: a,
}
