"""Pieces laid into zeros: what a concatenation makes, and what a slice sends back. They are one value, `"assemble"`.

Its attribute `places` says where each piece is: for every axis a slice with all three numbers, or an integer. Places do
not overlap; what no piece covers is 0.
"""

from __future__ import annotations

from functools import reduce
from math import prod
from typing import Any

from minigrad.plan.graph import Graph, Level, Value, is_a
from minigrad.plan.operations import ADD, GETITEM, MATMUL, RESHAPE
from minigrad.primitive import Primitive

Places = tuple[tuple[Any, ...], ...]


def concat(graph: Graph, inputs: Any, attrs: Any, shape: Any, dtype: Any) -> Value | None:
    axis, start, places = attrs["axis"] % len(shape), 0, []
    for value in inputs:
        size = value.shape[axis]
        places.append(_place_of(shape, (slice(None),) * axis + (slice(start, start + size),)))
        start += size
    return _assembled(graph, inputs, tuple(places), shape, dtype)


def stack(graph: Graph, inputs: Any, attrs: Any, shape: Any, dtype: Any) -> Value | None:
    before = (slice(None),) * (attrs["axis"] % len(shape))
    return _assembled(graph, inputs, tuple(_place_of(shape, (*before, i)) for i in range(len(inputs))), shape, dtype)


def from_slice(graph: Graph, inputs: Any, attrs: Any, shape: Any, dtype: Any) -> Value | None:
    place = _place_of(shape, attrs["index"] if isinstance(attrs["index"], tuple) else (attrs["index"],))
    return _assembled(graph, inputs, (place,), shape, dtype)


def pad(graph: Graph, inputs: Any, attrs: Any, shape: Any, dtype: Any) -> Value | None:
    if attrs["value"] != 0:
        return None
    sizes = zip(attrs["pad_width"], inputs[0].shape, strict=True)
    place = tuple(slice(before, before + size, 1) for (before, _), size in sizes)
    return _assembled(graph, inputs, (place,), shape, dtype)


def _assembled(graph: Graph, inputs: Any, places: Any, shape: Any, dtype: Any) -> Value | None:
    if None in places or not all(isinstance(value, Value) and value.dtype == dtype for value in inputs):
        return None
    flat = [part for value, place in zip(inputs, places, strict=True) for part in _flattened(value, place)]
    places = tuple(place for _, place in flat)
    return graph.add("assemble", tuple(value for value, _ in flat), {"places": places}, shape, dtype)


def _flattened(piece: Value, place: tuple[Any, ...]) -> list[tuple[Value, tuple[Any, ...]]]:
    """The pieces of a piece that is assembled itself, where it has no gap."""
    plain = all(isinstance(part, slice) and part.step == 1 for part in place)
    if not is_a(piece, "assemble") or not plain or has_gaps(piece):
        return [(piece, place)]
    return [
        (inner, tuple(_shifted(part, outer.start) for part, outer in zip(where, place, strict=True)))
        for inner, where in zip(piece.inputs, piece.attrs["places"], strict=True)
    ]


def _shifted(part: Any, start: int) -> Any:
    return slice(part.start + start, part.stop + start, part.step) if isinstance(part, slice) else part + start


def _place_of(shape: tuple[int, ...], index: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """An index of slices and integers, written out for every axis; None for any other."""
    if index.count(Ellipsis) if all(type(part) in (int, slice, type(...)) for part in index) else False:
        at = index.index(Ellipsis)
        index = index[:at] + (slice(None),) * (len(shape) - len(index) + 1) + index[at + 1 :]
    if not all(type(part) in (int, slice) for part in index):
        return None
    index += (slice(None),) * (len(shape) - len(index))
    place: list[Any] = []
    for part, size in zip(index, shape, strict=True):
        if isinstance(part, slice):
            start, stop, step = part.indices(size)
            if step < 0:
                return None
            place.append(slice(start, max(start, stop), step))
        else:
            place.append(part % size)
    return tuple(place)


def merged(graph: Graph, a: Value, b: Value) -> Value | None:
    """The pieces of both; None where some overlap in part."""
    pieces = dict(zip(map(_ranges, a.attrs["places"]), zip(a.inputs, a.attrs["places"], strict=True), strict=True))
    for piece, place in zip(b.inputs, b.attrs["places"], strict=True):
        where = _ranges(place)
        if where in pieces:
            known, place = pieces[where]
            if piece.shape != known.shape:  # one index is an integer, the other a slice of one element
                piece = graph.apply(RESHAPE, piece, shape=known.shape)
            pieces[where] = (graph.apply(ADD, known, piece), place)
        elif any(not _disjoint(known, where) for known in pieces):
            return None
        else:
            pieces[where] = (piece, place)
    ordered = [pieces[where] for where in sorted(pieces, key=lambda ranges: [part.start for part in ranges])]
    return _assembled(graph, [piece for piece, _ in ordered], [place for _, place in ordered], a.shape, a.dtype)


def _ranges(place: tuple[Any, ...]) -> tuple[range, ...]:
    return tuple(range(p.start, p.stop, p.step) if isinstance(p, slice) else range(p, p + 1) for p in place)


def _disjoint(a: tuple[range, ...], b: tuple[range, ...]) -> bool:
    """Whether two places have no element in common."""
    for one, other in zip(a, b, strict=True):
        if one.start >= other.stop or other.start >= one.stop:
            return True
        if not (one.step == other.step == 1) and not set(one).intersection(other):
            return True
    return False


def has_gaps(value: Value) -> bool:
    """Whether a value is made of pieces that do not cover it."""
    return value.name == "assemble" and sum(prod(piece.shape) for piece in value.values) < prod(value.shape)


def getitem(graph: Graph, inputs: Any, attrs: Any, shape: Any, dtype: Any) -> Value | None:
    (a,) = inputs
    if is_a(a, "assemble"):
        place = _place_of(a.shape, attrs["index"] if isinstance(attrs["index"], tuple) else (attrs["index"],))
        for piece, where in zip(a.inputs, a.attrs["places"], strict=True):
            if place == where and piece.shape == shape:
                found: Value = piece
                return found
    if _is_whole(a, attrs["index"]):
        return a if a.shape == shape and a.dtype == dtype else None
    if is_a(a, "matmul") and a.level >= Level.COTANGENT:  # what a concatenation sends back
        return _columns(graph, a, attrs["index"])
    return None


def _columns(graph: Graph, product: Value, index: Any) -> Value | None:
    """Some columns of a product with a constant: the product with some columns of that."""
    g, weight = product.inputs
    place = _place_of(product.shape, index if isinstance(index, tuple) else (index,))
    if place is None or not all(isinstance(v, Value) and len(v.shape) == 2 for v in (g, weight)):
        return None
    rows, columns = place
    if weight.level is not Level.CONSTANT or rows != slice(0, product.shape[0], 1) or not isinstance(columns, slice):
        return None
    return graph.apply(MATMUL, g, graph.apply(GETITEM, weight, index=(slice(None), columns)))


def _is_whole(value: Value, index: Any) -> bool:
    place = _place_of(value.shape, index if isinstance(index, tuple) else (index,))
    return place == tuple(slice(0, size, 1) for size in value.shape)


# --- products of pieces


def by_pieces(graph: Graph, op: Primitive, x: Value, weight: Value, axis: int) -> Value | None:
    """The product of [x; h] with a weight as W x + U h, if x and h do not depend on the same: W x can leave the loop.

    Args:
        graph, op: where, and how to multiply.
        x: side by side in its last axis.
        weight: constant, with its parts side by side in this axis.
    """
    if not is_a(x, "assemble") or has_gaps(x) or len({piece.level for piece in x.values}) == 1:
        return None
    runs: list[list[tuple[Value, slice]]] = []
    for piece, place in zip(x.values, x.attrs["places"], strict=True):
        if piece.shape[:-1] != x.shape[:-1] or len(piece.shape) != len(x.shape):
            return None
        last = runs[-1][-1] if runs else None
        if last is not None and last[0].level is piece.level and last[1].stop == place[-1].start:
            runs[-1].append((piece, place[-1]))
        else:
            runs.append([(piece, place[-1])])
    terms = []
    for run in sorted(runs, key=lambda run: run[0][0].level):
        rows = slice(run[0][1].start, run[-1][1].stop, 1)
        part = graph.apply(GETITEM, weight, index=(slice(None),) * axis + (rows,))
        terms.append(graph.apply(op, side_by_side(graph, [piece for piece, _ in run]), part))
    return reduce(lambda total, term: graph.apply(ADD, term, total), terms)


def side_by_side(graph: Graph, parts: list[Value]) -> Value:
    """Values as one, along the last axis."""
    if len(parts) == 1:
        return parts[0]
    leading = tuple(slice(0, n, 1) for n in parts[0].shape[:-1])
    places, size = [], 0
    for part in parts:
        places.append((*leading, slice(size, size + part.shape[-1], 1)))
        size += part.shape[-1]
    return graph.add("assemble", tuple(parts), {"places": tuple(places)}, (*parts[0].shape[:-1], size), parts[0].dtype)
