"""What can be written in CUDA: rows. Which element of which value an element of another one is.

A value is batch first, and a row of it belongs to one sequence: (B, n) has rows of n elements, (B,) and (B, 1) of one.
Rows do not meet: a kernel has some of them. Slices, concatenations and
the like move elements within a row and compute nothing: columns of such a value are columns of another.
"""

from __future__ import annotations

from typing import Any

from minigrad.plan.graph import Level, Value, is_random
from minigrad.plan.operations import ELEMENTWISE

PRODUCTS = frozenset({"linear", "matmul"})
REDUCTIONS = frozenset({"sum", "mean", "max", "min", "logsumexp", "softmax", "log_softmax"})
"""Operations that need a whole row at once."""
MOVES = frozenset({"getitem", "reshape", "expand_dims", "squeeze", "assemble", "broadcast_to", "astype", "detach"})


BOOLEANS = frozenset(
    """equal not_equal less less_equal greater greater_equal logical_and logical_or logical_not isfinite
    where""".split()  # noqa: SIM905  # a list of names
)
"""Operations that may give booleans."""


MASKS = BOOLEANS - {"where"}
"""Operations that give booleans whatever they are given."""


class NotExpressibleError(Exception):
    """A program cannot be written in CUDA; says which operation stops it."""


def width(value: Value) -> int:
    """Elements in a row."""
    return value.shape[1] if len(value.shape) == 2 else 1


def is_elementwise(value: Value) -> bool:
    return value.name in ELEMENTWISE and not _is_float_cast(value)


def _is_float_cast(value: Value) -> bool:
    """Whether a value is a floating-point one as it was."""
    return value.name == "astype" and value.dtype == value.values[0].dtype


def moved(value: Value, start: int, size: int) -> tuple[Value, int] | None:
    """Where some columns of a slice or the like come from: whose, and which; None if no piece covers them: they are 0.

    Raises:
        NotExpressibleError: it comes from several places; see `cuts`.
    """
    if value.name == "getitem":
        first, _ = _columns(value)
        return value.values[0], first + start
    if value.name == "assemble":
        for piece, place in zip(value.values, value.attrs["places"], strict=True):
            first, last = _range(place)
            if first <= start and start + size <= last:
                return piece, start - first
            if start < last and first < start + size:
                raise NotExpressibleError(f"{value!r} is cut at other places than it is put together")
        return None
    return value.values[0], start if width(value.values[0]) > 1 else 0


def is_moved(value: Value) -> bool:
    """Whether a value consists of elements of others."""
    return not value.is_source and value.name in MOVES and not (value.name == "astype" and not _is_float_cast(value))


def _columns(value: Value) -> tuple[int, int]:
    """The columns that an index takes: the first, and how many."""
    (x,) = value.values
    index = value.attrs["index"]
    index = index if isinstance(index, tuple) else (index,)
    if not all(type(part) in (int, slice, type(None), type(...)) for part in index):
        raise NotExpressibleError(f"{value!r} gathers")
    if Ellipsis in index:
        at = index.index(Ellipsis)
        index = (
            index[:at]
            + (slice(None),) * (len(x.shape) - len([i for i in index if i is not None]) + 1)
            + index[at + 1 :]
        )
    parts = [part for part in index if part is not None] + [slice(None)] * len(x.shape)
    if parts[0] != slice(None) and not (
        isinstance(parts[0], slice) and parts[0].indices(x.shape[0]) == (0, x.shape[0], 1)
    ):
        raise NotExpressibleError(f"{value!r} indexes the batch")
    if len(x.shape) < 2:
        return 0, 1
    column = parts[1]
    if type(column) is int:
        return column % x.shape[1], 1
    if type(column) is slice:
        first, last, step = column.indices(x.shape[1])
        if step == 1:
            return first, max(last - first, 0)
    raise NotExpressibleError(f"{value!r} takes columns that do not lie side by side")


def _range(place: tuple[Any, ...]) -> tuple[int, int]:
    """The columns of a piece: first, and one more than the last."""
    if len(place) == 1:
        return 0, 1
    rows, columns = place
    if type(rows) is int:
        raise NotExpressibleError("pieces are put together along the batch")
    if type(columns) is int:
        return columns, columns + 1
    if columns.step not in (1, None):
        raise NotExpressibleError("pieces are put together with gaps between their columns")
    return columns.start, columns.stop


def cuts(value: Value, read: dict[int, set[int]], known: Any) -> list[int]:
    """Where the columns of a value must be cut, so that each range comes from one place, from 0 to its width.

    Args:
        value: whose.
        read: for each value where others cut it, by index.
        known: whether a value is in memory, and so in one place.
    """
    found = {0, width(value)}
    stack = [(value, 0, 0, width(value))]  # a value, its column, the column of ours that this is, and how many
    seen = set()
    while stack:
        at, start, ours, size = stack.pop()
        if (at.index, start, ours, size) in seen:
            continue
        seen.add((at.index, start, ours, size))
        found |= {ours + cut - start for cut in read.get(at.index, ()) if start < cut < start + size}
        if at.is_source or (known(at) and at is not value):
            continue
        if at.name == "assemble":
            for piece, place in zip(at.values, at.attrs["places"], strict=True):
                first, last = _range(place)
                a, b = max(first, start), min(last, start + size)
                if a < b:
                    found |= {ours + a - start, ours + b - start}
                    stack.append((piece, a - first, ours + a - start, b - a))
        elif at.name == "getitem":
            stack.append((at.values[0], _columns(at)[0] + start, ours, size))
        elif is_moved(at) or is_elementwise(at):
            stack += [(v, start, ours, size) for v in at.values if v.level is not Level.CONSTANT and width(v) > 1]
    return sorted(found)


def slices_read(values: list[Value]) -> dict[int, set[int]]:
    """For each value the columns where slices of it begin and end."""
    read: dict[int, set[int]] = {}
    for value in values:
        if value.name == "getitem" and value.level is not Level.CONSTANT:
            first, size = _columns(value)
            read.setdefault(value.values[0].index, set()).update({first, first + size})
    return read


def _goes_over_columns(value: Value, batch: int) -> bool:
    """Whether a reduction is of each row by itself."""
    (x,), axis = value.values, value.attrs["axis"]
    axes = {0, 1} if axis is None else {a % 2 for a in (axis if isinstance(axis, tuple) else (axis,))}
    return len(x.shape) == 2 and 1 in axes and (0 not in axes or batch == 1) and len(value.shape) > 0


def check(value: Value, batch: int, real: Any) -> None:
    """Raise unless rows of the value can be computed from rows of its operands."""
    name, varying = value.name, [v for v in value.values if v.level is not Level.CONSTANT]
    if value.dtype != real and value.dtype != bool:
        raise NotExpressibleError(f"{name} gives {value.dtype}; a program has one floating-point dtype")
    if len(value.shape) not in (1, 2) or value.shape[0] != batch:
        raise NotExpressibleError(f"{name} gives the shape {value.shape}, not rows (B, n)")
    if not isinstance(value.op, str) and is_random(value.op):
        return
    if not isinstance(value.op, str) and not value.op.forward.__module__.startswith("minigrad."):
        raise NotExpressibleError(f"{name} is an operation of {value.op.forward.__module__}")
    if value.dtype == bool and name not in BOOLEANS and not is_moved(value):
        raise NotExpressibleError(f"{name} gives booleans")
    if any(len(v.shape) not in (1, 2) or v.shape[0] != batch for v in varying):
        raise NotExpressibleError(f"{name} takes other shapes than rows (B, n)")
    if name in PRODUCTS:
        a, b = value.inputs
        if a.level is Level.CONSTANT or b.level is not Level.CONSTANT or len(a.shape) != 2 or len(b.shape) != 2:
            raise NotExpressibleError(f"{name} is no product of rows with a matrix of parameters")
    elif name in REDUCTIONS:
        if not _goes_over_columns(value, batch):
            raise NotExpressibleError(f"{name} goes over the batch")
    elif is_elementwise(value):
        if any(len(v.shape) != len(value.shape) for v in varying):
            raise NotExpressibleError(f"{name} pairs rows with columns")
        if any(v.level is Level.CONSTANT and len(v.shape) > len(value.shape) for v in value.values):
            raise NotExpressibleError(f"{name} takes a constant of more axes")
    elif name == "broadcast_to":
        if len(varying[0].shape) != len(value.shape):
            raise NotExpressibleError("broadcast_to pairs rows with columns")
    elif name == "reshape":
        if width(value) != width(varying[0]):
            raise NotExpressibleError("reshape moves elements from row to row")
    elif name == "getitem":
        _columns(value)
    elif name == "assemble":
        for place in value.attrs["places"]:
            if place[0] != slice(0, batch, 1):
                raise NotExpressibleError("pieces are put together along the batch")
            _range(place)
    elif not is_moved(value):
        raise NotExpressibleError(f"{name} is not among what can be written in CUDA")
