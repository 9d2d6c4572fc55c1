"""One loop over columns as CUDA: the expressions of `native/expressions.py`, with one column for each thread."""

from __future__ import annotations

from typing import Any

from minigrad.plan.cuda.layout import IN_TIME, is_later
from minigrad.plan.cuda.sections import Section
from minigrad.plan.graph import Value
from minigrad.plan.native import expressions as native
from minigrad.plan.native.places import Place, Store


def address(section: Section, place: Place) -> tuple[str, str]:
    """An array, and where in it the row `q` of a place begins: rows are counted over all steps, batch after batch."""
    array, batch = place.array, section.schedule.batch
    row = "q"
    if array.kind in IN_TIME:
        row = f"(q + {batch})" if is_later(place) else "q"
    elif array.kind == "scratch":
        row = "(q - first)"
    elif array.kind == "constant":
        row = f"(q % {batch})"
    return section.schedule.name(array), f"{row} * {array.row}" if array.row else "0"


_TYPES = {"vec": "REAL", "mask": "bool"}
"""What a vector and a mask are of which a thread has one element."""


class Loop(native.Loop):
    """The stores of one width at one stage of a kernel, for one column `j` of a row `q`: see the base class.

    Attributes:
        body: lines.
    """

    def __init__(self, section: Section, stage: int, size: int, stores: list[Store]) -> None:
        self._taken: set[str] = set()
        super().__init__(section, stage, size, stores)
        self.body = list(map(_tidy, self.body))

    def _row(self, place: Place) -> str:
        self.places[place] = None
        return " + ".join(address(self.phase, place))  # type: ignore[arg-type]  # a section

    def _name(self, key: Any, kind: str, expression: str, once: bool = False) -> str:
        """A variable for an expression, called after the operation, or the array that is read."""
        if key[0] == "load":
            start = f"_{key[2]}" if key[2] else ""
            word = f"{self.schedule.name(key[1].array)}{start}_in"  # type: ignore[attr-defined]  # of ours
        else:
            start = f"_{key[1]}" if key[1] else ""
            word = f"{self.schedule.step.graph.values[key[0]].name}_{key[0]}{start}"
        name, count = word, 1
        while name in self._taken:
            count += 1
            name = f"{word}_{count}"
        self._taken.add(name)
        self._names[key] = name
        self.body.append(f"const {_TYPES[kind]} {name} = {expression};")
        if kind == "mask":
            self._masks.add(name)
        return name

    def _expression(self, value: Value, operands: list[str]) -> str:
        if value.name == "logical_not":
            return f"!{operands[0]}"
        return super()._expression(value, operands)


def _tidy(line: str) -> str:
    """Without what adds nothing."""
    for clutter, rest in ((" * 1 +", " +"), (" + 0 +", " +"), (" + 0 +", " +"), (" * 1)", ")"), (" + 0)", ")")):
        line = line.replace(clutter, rest)
    return line
