"""A program in words: bin by bin, what is computed from what."""

from __future__ import annotations

from typing import Any

from minigrad.plan.graph import Operand, Value
from minigrad.plan.program import BINS, Program

_WHEN = {
    "constant": "from parameters alone: once",
    "input": "from x, not from the state: many steps at once, before the loop",
    "recurrent": "from the state: in the loop",
    "output": "from the state, but the next state does not need it: many steps at once, after the loop",
    "coefficient": "needs no gradient of a later step: many steps at once, before the backward loop",
    "cotangent": "from the gradient of the state: in the backward loop",
    "sink": "nothing in the backward loop needs it: many steps at once, after that loop",
    "total": "summed over all steps",
    "final": "from these sums: once",
}


def describe(program: Program) -> str:
    """The program, a line for each value."""
    lines = []
    for name in BINS:
        lines.append(f"  {name} ({_WHEN[name]})")
        for value in program.bins[name]:
            made = _label(value.attrs["of"]) if value.op == "total" else _call(value)
            lines.append(f"    %{value.index} {_shape(value)} = {made}")
    return "\n".join(lines)


def _call(value: Value) -> str:
    if value.name == "assemble":
        pieces = zip(value.inputs, value.attrs["places"], strict=True)
        return "pieces: " + ", ".join(f"{_label(piece)} at {_index(place)}" for piece, place in pieces)
    attrs = {k: v for k, v in value.attrs.items() if k not in ("index", "shape")}
    arguments = [*map(_label, value.inputs), *(f"{key}={part}" for key, part in attrs.items())]
    if value.name == "getitem":
        return f"{_label(value.inputs[0])}[{_index(value.attrs['index'])}]"
    return f"{value.name}({', '.join(arguments)})"


def _label(value: Operand) -> str:
    if not isinstance(value, Value):
        return str(value)
    if not value.is_source or value.op == "total":
        return f"%{value.index}"
    number, name = value.attrs.get("number"), value.attrs.get("name", "")
    labels: dict[str, str] = {
        "x": "x",
        "alive": "alive",
        "carry": name,
        "leaf": name,
        "constant": f"constant{_shape(value)}",
        "cotangent": f"d output[{number}]",
        "carried": f"d {name}",
    }
    return labels[value.name]


def _index(index: Any) -> str:
    parts = index if isinstance(index, tuple) else (index,)
    return ", ".join(_part(part) for part in parts)


def _part(part: Any) -> str:
    if not isinstance(part, slice):
        return "..." if part is Ellipsis else str(part)
    start, stop = ("" if end is None else str(end) for end in (part.start, part.stop))
    return f"{start}:{stop}" + (f":{part.step}" if part.step not in (None, 1) else "")


def _shape(value: Value) -> str:
    return "(" + ", ".join(map(str, value.shape)) + ")"
