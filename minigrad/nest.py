"""State is any nest of tuples, lists and dicts of tensors. These are the few things done to a whole nest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from minigrad.tensor import Tensor

__all__ = ["detach", "leaves", "map_nest"]


def map_nest(function: Callable[..., Any], nest: Any, *others: Any) -> Any:
    """The nest with `function` applied to each leaf, together with the leaves of `others` at the same place.

    Raises:
        ValueError: the nests are not built alike.

    >>> mg.nest.map_nest(lambda a, b: a + b, (1, {"c": 2}), (10, {"c": 20}))
    (11, {'c': 22})
    """
    for other in others:
        alike = type(other) is type(nest) or not isinstance(nest, tuple | list | dict)
        if not alike or (isinstance(nest, tuple | list | dict) and len(other) != len(nest)):
            raise ValueError(f"the nests differ: {describe(nest)} and {describe(other)}")
    if isinstance(nest, dict):
        if any(other.keys() != nest.keys() for other in others):
            raise ValueError(f"the nests differ: {describe(nest)} and {', '.join(map(describe, others))}")
        mapped_items = {key: map_nest(function, nest[key], *(other[key] for other in others)) for key in nest}
        return mapped_items if type(nest) is dict else type(nest)(mapped_items)
    if isinstance(nest, tuple | list):
        mapped = [map_nest(function, *parts) for parts in zip(nest, *others, strict=True)]
        return type(nest)(*mapped) if hasattr(nest, "_fields") else type(nest)(mapped)
    return function(nest, *others)


def leaves(nest: Any) -> Iterator[Any]:
    """The leaves of a nest, in order."""
    if isinstance(nest, tuple | list | dict):
        for part in nest.values() if isinstance(nest, dict) else nest:
            yield from leaves(part)
    else:
        yield nest


def build(nest: Any) -> Any:
    """How a nest is put together, whatever its leaves are: equal, and with the same hash, for nests built alike."""
    if isinstance(nest, dict):
        return type(nest), tuple([(key, build(part)) for key, part in nest.items()])
    if isinstance(nest, tuple | list):
        return type(nest), tuple([build(part) for part in nest])
    return None


def detach(nest: Any) -> Any:
    """The whole nest cut off from the tape: what carries a state over without its history.

    >>> h = mg.ones(2, requires_grad=True) * 2
    >>> [leaf.requires_grad for leaf in mg.nest.leaves(mg.detach((h, [h])))]
    [False, False]
    """
    return map_nest(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, nest)


def describe(nest: Any) -> str:
    """The build of a nest with the shapes of its leaves, and dtypes other than float32, for messages."""
    if isinstance(nest, dict):
        return "{" + ", ".join(f"{key!r}: {describe(part)}" for key, part in nest.items()) + "}"
    if isinstance(nest, tuple | list):
        parts = ", ".join(map(describe, nest))
        return f"[{parts}]" if isinstance(nest, list) else f"({parts}{',' * (len(nest) == 1)})"
    if not hasattr(nest, "shape"):
        return type(nest).__name__
    kind = "Tensor" if isinstance(nest, Tensor) else type(nest).__name__
    return f"{kind}{list(nest.shape)}" + ("" if str(nest.dtype) == "float32" else f" {nest.dtype}")
