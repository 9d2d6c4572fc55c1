"""Writes a program down as flat calls of array functions: one Python function per phase, to be run chunk by chunk.

Each call writes into memory that is already there. Where an operand lies is looked up beforehand: a name stands for an
array, or for a list of arrays, one per step (`[t]`) or one per chunk (`[c]`), which are views of that memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

from minigrad.backend import is_floating
from minigrad.plan.graph import Level, Operand, Value, is_draw
from minigrad.plan.layout import PHASES, Extent, Layout, is_feature_major, is_view
from minigrad.plan.operations import ELEMENTWISE
from minigrad.plan.program import is_product, is_row_sum, is_scatter
from minigrad.primitive import Primitive


@dataclass(frozen=True)
class Slot:
    """How an array is handed to the code.

    Attributes:
        value: whose array.
        rank: with axes of size 1 put before it up to this rank (of one step).
        swapped: with the last two axes exchanged.
        part: only this part of it: integers, and slices as (start, stop, step); None for all of it.
        kind: what array it is: `"value"`; `"after"`, where a carry is after the step, see `Layout.offset`;
            `"repeated"`, a constant as broadcasting repeats it to the shape in `part`, which is faster to read;
            `"joined"`, memory for the values of many steps side by side; `"joining"`, the same step by step.
        per: `"step"` or `"chunk"`: a list; `"run"`: one array.
    """

    value: int
    rank: int
    swapped: bool
    part: Any
    per: str
    kind: str = "value"


class Code:
    """The functions of a program for one layout.

    Attributes:
        source: for each phase the text of its function `(c, steps, first, slots)`.
        slots: for each phase what the function takes, in order.
        functions, numbers, rows, forwards: what the text refers to beside its arguments: array functions by name; names
            of numbers, of rows of equal numbers, and of operations with attributes, whose own forwards are called.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.numbers: dict[tuple[str, str], tuple[str, Any]] = {}
        self.rows: dict[tuple[int, float, str], str] = {}
        self.forwards: dict[str, tuple[Primitive, dict[str, Any]]] = {}
        self.functions = {"copyto"}
        self.slots: dict[str, dict[Slot, str]] = {"forward": {}, "backward": {}}
        self.lines: list[str] = []
        self.joined: dict[tuple[int, int], str] = {}
        self.source = {phase: self._function(phase) for phase in PHASES}

    def _function(self, phase: str) -> str:
        before, loop, after = PHASES[phase]
        bins = self.layout.program.bins
        self.phase, self.lines, self.joined = phase, [], {}
        self._draws(bins[before])
        self._bin(bins[before], batched=True)
        mark = len(self.lines)
        self._bin(bins[loop], batched=False)
        for track in self.layout.tracks[phase]:
            if not track.joined:
                self._call("copyto", self._after(track), self._ref(track.result, len(track.result.shape), False))
        self.lines[mark:] = ["for t in steps:", *("    " + line for line in self.lines[mark:] or ["pass"])]
        self._bin(bins[after], batched=True)
        if phase == "backward":
            self._totals(bins["total"])
        slots = ", ".join(self.slots[phase].values())
        lines = [f"({slots},) = slots" if slots else "pass", *self.lines]
        return f"def {phase}(c, steps, first, slots):\n" + "".join(f"    {line}\n" for line in lines)

    def _bin(self, values: Iterable[Value], batched: bool) -> None:
        self.batched = batched
        for value in values:
            if not is_view(value) and not is_draw(value):
                self._emit(value)

    # --- operands

    def _ref(self, value: Operand, rank: int, swapped: bool, part: Any = None) -> str:
        """An operand as the code names it, aligned to a result of `rank` axes."""
        if not isinstance(value, Value):
            return repr(value)
        per = "chunk" if self.batched else "step"
        if value.level is Level.CONSTANT or self.layout.extent_of(value) is Extent.STEP:
            per = "run"
        if part is not None:
            part = tuple((p.start, p.stop, p.step) if isinstance(p, slice) else p for p in part)
        return self._slot(Slot(value.index, rank, swapped, part, per), value.name)

    def _slot(self, slot: Slot, word: str) -> str:
        """The name of a slot, with a word of what it is."""
        name = self.slots[self.phase].setdefault(slot, f"{word}_{len(self.slots[self.phase])}")
        return name + {"step": "[t]", "chunk": "[c]", "run": ""}[slot.per]

    def _after(self, track: Any) -> str:
        """Where a carry that is not joined with its result is put after a step."""
        return self._slot(Slot(track.source.index, len(track.source.shape), False, None, "step", "after"), "next")

    def _number(self, number: Any, dtype: Any) -> str:
        """A Python number as an array, which is faster to compute with, where it has the result's dtype anyway."""
        key = (repr(number), str(dtype))  # -0.0 is another number than 0.0
        return self.numbers.setdefault(key, (f"number_{len(self.numbers)}", number))[0]

    def _row(self, size: int, number: float, dtype: Any) -> str:
        """A row of equal numbers."""
        return self.rows.setdefault((size, number, str(dtype)), f"row_{len(self.rows)}")

    def _aligned(self, value: Operand, like: Value) -> str:
        """An operand of an operation element by element."""
        if not isinstance(value, Value):
            floats = is_floating(like.dtype) and all(v.dtype == like.dtype for v in like.values)
            return self._number(value, like.dtype) if floats else repr(value)
        rank, swapped = len(like.shape), is_feature_major(like)
        if value.level is Level.CONSTANT and 1 < prod(value.shape) < prod(like.shape):
            return self._slot(Slot(value.index, rank, swapped, like.shape, "run", "repeated"), value.name)
        return self._ref(value, rank, swapped)

    def _natural(self, value: Operand, **options: Any) -> str:
        return self._ref(value, len(value.shape) if isinstance(value, Value) else 0, False, **options)

    def _swapped(self, value: Value, **options: Any) -> str:
        return self._ref(value, len(value.shape), True, **options)

    def _out(self, value: Value) -> str:
        return self._ref(value, len(value.shape), is_feature_major(value))

    def _call(self, function: str, *arguments: str) -> None:
        self.functions.add(function)
        if function in ("maximum", "minimum"):  # NumPy wants this one by name
            arguments = (*arguments[:-1], f"out={arguments[-1]}")
        self.lines.append(f"{function}({', '.join(arguments)})")

    def _forward(self, value: Value, **changed: Any) -> str:
        """The operation's own forward, with its attributes."""
        assert isinstance(value.op, Primitive)
        name = f"{value.name}_forward_{len(self.forwards)}"
        self.forwards[name] = value.op, {**value.attrs, **changed}
        return name

    # --- operations

    def _emit(self, value: Value) -> None:
        name = value.name
        if name in _RECIPES:
            _RECIPES[name](self, value)
        elif name in _UFUNCS:
            self._call(_UFUNCS[name], *(self._aligned(v, value) for v in value.inputs), self._out(value))
        elif name in ELEMENTWISE:
            operands = ", ".join(self._aligned(v, value) for v in value.inputs)
            self._call("copyto", self._out(value), f"{self._forward(value)}(xp, {operands})")
        else:
            self._general(value)

    def _general(self, value: Value) -> None:
        """Any other operation: its own forward, on one step at a time."""
        batched, self.batched = self.batched, False
        operands = ", ".join(self._natural(v) for v in value.inputs)
        line = f"copyto({self._natural(value)}, {self._forward(value)}(xp, {operands}))"
        self.lines.extend(["for t in steps:", "    " + line] if batched else [line])
        self.batched = batched

    def _draws(self, values: Iterable[Value]) -> None:
        """Random numbers, in the order in which a loop over steps draws them."""
        draws = [value for value in values if is_draw(value)]
        self.batched = False
        if draws:
            self.lines.append("for t in steps:")
        for value in draws:
            out = self._natural(value)
            like = out if value.op.inputs else ""  # type: ignore[union-attr]  # a mask is drawn like a tensor
            self.lines.append(f"    copyto({out}, {self._forward(value)}(xp, {like}))")

    def _reduction(self, value: Value) -> None:
        (x,) = value.values
        rank, keep = len(x.shape), value.attrs["keepdims"]
        swapped = is_feature_major(x)
        size = x.shape[-1] if rank else 0
        if (
            swapped
            and size
            and is_floating(x.dtype)
            and value.name in ("sum", "mean")
            and _is_last(value.attrs["axis"], 2)
        ):
            row = self._row(size, 1.0 if value.name == "sum" else 1 / size, x.dtype)
            return self._call("matmul", row, self._ref(x, 2, True), self._ref(value, 2, keep))  # many times faster
        axis = _negative_axes(value.attrs["axis"], rank, swapped)
        out = self._ref(value, len(value.shape), swapped and keep)
        operand = self._ref(x, rank, swapped)
        if value.name == "mean":
            count = 1
            for a in _negative_axes(value.attrs["axis"], rank, False):
                count *= x.shape[a]
            if not count:
                return self._general(value)
            self.lines.append(f"{operand}.sum(axis={axis}, keepdims={keep}, out={out})")
            return self._call("multiply", out, self._number(1 / count, value.dtype), out)
        self.lines.append(f"{operand}.{value.name}(axis={axis}, keepdims={keep}, out={out})")
        return None

    def _along_axis(self, value: Value) -> None:
        (x,) = value.values
        (axis,) = _negative_axes(value.attrs["axis"], len(x.shape), is_feature_major(x))
        self._call("copyto", self._out(value), f"{self._forward(value, axis=axis)}(xp, {self._out(x)})")

    def _linear(self, value: Value) -> None:
        x, weight = value.values
        if self._is_one_row(value, x, weight):
            self._rows(value, x, self._swapped(weight))
        elif len(x.shape) == 2:
            self._call("matmul", self._natural(weight), self._swapped(x), self._out(value))
        elif len(x.shape) == 1:
            self._general(value)
        else:
            self._call("matmul", self._natural(x), self._swapped(weight), self._natural(value))

    def _is_one_row(self, value: Value, a: Value, b: Value) -> bool:
        """Whether many steps' products of a vector with one matrix can be one product."""
        return self.batched and value.shape[:-1] == a.shape[:-1] == (1,) and b.level is Level.CONSTANT

    def _rows(self, value: Value, a: Value, matrix: str) -> None:
        self._call("matmul", self._ref(a, 1, False, (0,)), matrix, self._ref(value, 1, False, (0,)))

    def _matmul(self, value: Value) -> None:
        a, b = value.inputs
        rank = len(value.shape)
        if not (isinstance(a, Value) and isinstance(b, Value)) or min(len(a.shape), len(b.shape)) < 2:
            self._general(value)
        elif self._is_one_row(value, a, b):
            self._rows(value, a, self._natural(b))
        elif rank == 2:
            self._call("matmul", self._swapped(b), self._swapped(a), self._out(value))
        else:
            self._call("matmul", self._ref(a, rank, False), self._ref(b, rank, False), self._natural(value))

    def _where(self, value: Value) -> None:
        condition, x1, x2 = value.inputs
        if not isinstance(condition, Value):
            return self._general(value)
        out = self._out(value)
        if (other := self._aligned(x2, value)) != out:
            self._call("copyto", out, other)
        self._call("copyto", out, self._aligned(x1, value), f"where={self._aligned(condition, value)}")
        return None

    def _sigmoid(self, value: Value) -> None:
        out, limit = self._out(value), -708.0 if value.dtype.itemsize == 8 else -87.0
        self._call("maximum", self._aligned(value.inputs[0], value), self._number(limit, value.dtype), out)
        self._call("negative", out, out)
        self._call("exp", out, out)
        one = self._number(1.0, value.dtype)
        self._call("add", out, one, out)
        self._call("divide", one, out, out)

    def _relu(self, value: Value) -> None:
        self._call("maximum", self._aligned(value.inputs[0], value), self._number(0.0, value.dtype), self._out(value))

    def _square(self, value: Value) -> None:
        x = self._aligned(value.inputs[0], value)
        self._call("multiply", x, x, self._out(value))

    def _power(self, value: Value) -> None:
        exponent = value.inputs[1]
        if not isinstance(exponent, Value) and exponent == 2:
            return self._square(value)
        return self._call("power", *(self._aligned(v, value) for v in value.inputs), self._out(value))

    def _astype(self, value: Value) -> None:
        self._call("copyto", self._out(value), self._aligned(value.inputs[0], value), "'unsafe'")

    def _reshape(self, value: Value) -> None:
        out = self._natural(value)
        self._call("copyto", out, f"{self._natural(value.values[0])}.reshape({out}.shape)")

    def _take(self, value: Value) -> None:
        table, indices = value.inputs
        whole = isinstance(indices, Value) and table.level is Level.CONSTANT and value.attrs["axis"] == 0
        if not whole:
            return self._general(value)
        operands = f"{self._natural(table)}, {self._natural(indices)}"
        return self._call("copyto", self._natural(value), f"{self._forward(value)}(xp, {operands})")

    def _one_hot(self, value: Value) -> None:
        operand = self._natural(value.inputs[0])
        self._call("copyto", self._natural(value), f"{self._forward(value)}(xp, {operand})")

    def _assemble(self, value: Value) -> None:
        for piece, place in zip(value.values, value.attrs["places"], strict=True):
            whole, where = self.layout.pieces.get(piece.index, (None, None))
            if whole is value and where == place:
                continue
            rank = len(piece.shape)
            swapped = rank == 2 and len(value.shape) == 2
            self._call("copyto", self._ref(value, rank, swapped, place), self._ref(piece, rank, swapped))

    # --- sums over steps

    def _totals(self, totals: Iterable[Value]) -> None:
        self.batched = True
        for total in totals:
            of: Value = total.attrs["of"]
            out = self._ref(total, len(total.shape), False)
            if is_product(total):
                a, b = (self._side_by_side(factor, axis) for axis, factor in enumerate(of.values))
                once, more = f"matmul({a}, {b}.T, {out})", f"add({out}, matmul({a}, {b}.T), {out})"
            elif is_scatter(total):
                (batch, size), each = of.values[0].shape, self._natural(of.values[0])
                rows = f"{each}.reshape(len(steps) * {batch}, {size})"
                call = f"{self._forward(of)}(xp, {rows}, {self._natural(of.values[1])}.reshape(-1))"
                once, more = f"copyto({out}, {call})", f"add({out}, {call}, {out})"
            elif is_row_sum(of):
                (x,) = of.values
                rows = f"matmul({self._swapped(x)}, {self._row(x.shape[0], 1.0, x.dtype)}[0])"
                once, more = f"{rows}.sum(axis=0, out={out})", f"add({out}, {rows}.sum(axis=0), {out})"
            else:
                each = self._natural(of)
                once, more = f"{each}.sum(axis=0, out={out})", f"add({out}, {each}.sum(axis=0), {out})"
            self.functions |= {"matmul", "add", "copyto"}
            self.lines.append(f"{once} if first else {more}")

    def _side_by_side(self, value: Value, axis: int) -> str:
        """The values of all steps side by side: (n, steps * m), where n is the size of this axis and m of the other."""
        while value.name == "matrix_transpose":
            value, axis = value.values[0], 1 - axis
        key = value.index, axis
        if key not in self.joined:
            each = self._ref(value, 2, axis == 1)
            self.joined[key] = f"side_by_side_{len(self.joined)}"
            if value.shape[1 - axis] == 1:  # they are already
                joined = f"{each}.transpose(1, 0, 2).reshape({value.shape[axis]}, len(steps))"
            else:
                slots = [Slot(value.index, 2, axis == 1, None, "chunk", kind) for kind in ("joining", "joined")]
                joined = f"side_by_side({each}, {', '.join(self._slot(slot, slot.kind) for slot in slots)}, xp)"
            self.lines.append(f"{self.joined[key]} = {joined}")
        return self.joined[key]


def _is_last(axis: Any, rank: int) -> bool:
    """Whether a reduction goes over the last axis alone."""
    return axis in (-1, rank - 1, (-1,), (rank - 1,))


def _negative_axes(axis: Any, rank: int, swapped: bool) -> tuple[int, ...]:
    """Axes counted from the end, so that more in front do not matter; as they lie where the last two are exchanged."""
    axes = range(rank) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    counted = [a % rank - rank for a in axes] if rank else []
    return tuple({-1: -2, -2: -1}.get(a, a) if swapped else a for a in counted)


_UFUNCS = {
    name: {"abs": "absolute"}.get(name, name)
    for name in """abs add cos divide equal exp expm1 greater greater_equal isfinite less less_equal log log1p
    logical_and logical_not logical_or maximum minimum multiply negative not_equal sign sin sqrt subtract
    tanh""".split()  # noqa: SIM905
}
_RECIPES: dict[str, Callable[[Code, Value], None]] = {
    "sum": Code._reduction,
    "mean": Code._reduction,
    "max": Code._reduction,
    "min": Code._reduction,
    "softmax": Code._along_axis,
    "log_softmax": Code._along_axis,
    "linear": Code._linear,
    "matmul": Code._matmul,
    "where": Code._where,
    "sigmoid": Code._sigmoid,
    "relu": Code._relu,
    "square": Code._square,
    "power": Code._power,
    "astype": Code._astype,
    "astype_discrete": Code._astype,
    "reshape": Code._reshape,
    "take": Code._take,
    "one_hot": Code._one_hot,
    "assemble": Code._assemble,
}
