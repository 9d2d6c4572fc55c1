"""Elementwise operations as C on one element: those on integers and booleans, which wrap around as NumPy's do."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, isinf, isnan
from typing import Any

import numpy as np

from minigrad.plan.graph import Operand, Value
from minigrad.plan.native.parts import NotExpressibleError, is_boolean, is_integer

INFIX = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/"}
COMPARE = {"equal": "==", "not_equal": "!=", "less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">="}
LOGICAL = {"logical_and": "&", "logical_or": "|"}


def number(value: float) -> str:
    """A Python number as C has it."""
    if isnan(value):
        return "(REAL)NAN"
    if isinf(value):
        return "(REAL)INFINITY" if value == inf else "-(REAL)INFINITY"
    return f"(REAL){float(value)!r}"


def stored(dtype: Any) -> str:
    """The C type that a dtype has in memory: booleans are numbers, 1 or 0."""
    return "int64_t" if is_integer(dtype) else "REAL"


def computed(dtype: Any) -> str:
    """The C type that a dtype is computed in."""
    if is_boolean(dtype):
        return "int"
    return f"{dtype.name}_t" if is_integer(dtype) else "REAL"


def load(element: str, dtype: Any) -> str:
    """An element in memory as what is computed with."""
    return f"({element} != 0)" if is_boolean(dtype) else f"({computed(dtype)}){element}"


def expression(value: Value, operands: list[str]) -> str:
    """The result as C, of operands that are expressions of the type that they have, see `computed`."""
    name, dtype = value.name, value.dtype
    made = _made(name, value.inputs, operands, value.attrs, dtype)
    if made is None:
        raise NotExpressibleError(f"{name} of {dtype} is not among what can be written in C")
    return f"({made}) != 0" if is_boolean(dtype) else f"({computed(dtype)})({made})"


def _made(name: str, inputs: tuple[Operand, ...], operands: list[str], attrs: dict[str, Any], dtype: Any) -> str | None:
    a, b = operands[0], operands[-1]
    if name in COMPARE:
        common = np.result_type(*[v.dtype if isinstance(v, Value) else v for v in inputs])
        if any(_is_beyond(v, common) for v in inputs):  # then 0 stands for all that the other operand can be
            a, b = ("0" if isinstance(v, Value) else "1" if v > 0 else "-1" for v in inputs)
        else:
            a, b = (f"({computed(common)}){operand}" for operand in operands)
        return f"{a} {COMPARE[name]} {b}"
    if name in LOGICAL:
        return f"({a} != 0) {LOGICAL[name]} ({b} != 0)"
    if name == "where":
        return f"{a} ? {operands[1]} : {b}"
    if name == "power":
        return f"VM(powf, pow)({a}, {b})"
    if is_boolean(dtype) and name in ("add", "maximum", "multiply", "minimum"):
        return f"{a} {'|' if name in ('add', 'maximum') else '&'} {b}"
    if name in ("add", "subtract", "multiply") and is_integer(dtype):
        return f"(uint64_t){a} {INFIX[name]} (uint64_t){b}"
    if name in ("maximum", "minimum") and is_integer(dtype):
        a, b = (f"({computed(dtype)}){operand}" for operand in operands)
        return f"{a} {'>' if name == 'maximum' else '<'} {b} ? {a} : {b}"
    if name == "clip" and is_integer(dtype):
        return _clip(a, dtype, **attrs)
    if dtype.kind == "f" and name not in ("astype",):
        return None
    return _UNARY[name](a) if name in _UNARY else None


def _is_beyond(operand: Operand, dtype: Any) -> bool:
    """Whether a Python integer is larger or smaller than all integers of a dtype."""
    if isinstance(operand, Value) or not is_integer(dtype):
        return False
    return not np.iinfo(dtype).min <= operand <= np.iinfo(dtype).max


def _clip(a: str, dtype: Any, min: float | None, max: float | None) -> str:
    kind = computed(dtype)
    a = a if min is None else f"({a} < ({kind}){min} ? ({kind}){min} : {a})"
    return a if max is None else f"({a} > ({kind}){max} ? ({kind}){max} : {a})"


_UNARY: dict[str, Callable[[str], str]] = {
    "astype": lambda a: a,
    "astype_discrete": lambda a: a,
    "in_range": lambda a: a,
    "logical_not": lambda a: f"!{a}",
    "isfinite": lambda a: f"({a} - {a}) == 0",
    "negative": lambda a: f"-(uint64_t){a}",
    "square": lambda a: f"(uint64_t){a} * (uint64_t){a}",
    "abs": lambda a: f"{a} < 0 ? -(uint64_t){a} : (uint64_t){a}",
    "sign": lambda a: f"({a} > 0) - ({a} < 0)",
}
