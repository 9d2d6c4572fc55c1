"""What a plan depends on in a cell: a key that changes when an attribute does, and a copy without values to trace."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from minigrad.backend import by_type
from minigrad.module import Module
from minigrad.plan.abstract import Abstract
from minigrad.tensor import Tensor

_PLAIN = frozenset({int, float, bool, str, bytes, complex, type(None)})
_OPAQUE = (type, FunctionType, BuiltinFunctionType, MethodType, ModuleType)


def fingerprint(module: Module) -> tuple[Any, list[Any]]:
    """A key of everything that a step can read from a module, and the objects that the key knows by identity.

    Numbers, strings and host arrays count by value, tensors by identity, shape and dtype (their values are read anew at
    each run), everything else by its attributes, or by identity if it has none.
    """
    held: list[Any] = []
    return _key(module, held, {}), held


def _key(value: Any, held: list[Any], seen: dict[int, int]) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return kind, value if kind not in (float, complex) else repr(value)  # -0.0 is another number than 0.0
    if isinstance(value, Tensor):
        held.append(value)
        data = value.data
        return id(value), data.shape, data.dtype, value.requires_grad
    if id(value) in seen:
        return seen[id(value)]
    if kind in by_type and by_type[kind].name == "numpy":
        return value.shape, value.dtype.str, value.tobytes()
    seen[id(value)] = len(seen)
    if isinstance(value, dict):
        return kind, *[(name, _key(part, held, seen)) for name, part in value.items()]
    if isinstance(value, list | tuple):
        return kind, *[_key(part, held, seen) for part in value]
    held.append(value)
    if isinstance(value, _OPAQUE) or not hasattr(value, "__dict__"):
        return id(value)
    parts = [(name, _key(part, held, seen)) for name, part in vars(value).items()]
    return kind, *parts, *_class_attributes(kind)


def _class_attributes(kind: type) -> Iterator[Any]:
    """Plain values that a step finds on the class."""
    for base in kind.__mro__:
        if base is Module or base is object:
            return
        for name, value in vars(base).items():
            if type(value) in _PLAIN and not name.startswith("__"):
                yield name, type(value), value


def attributes(module: Module) -> dict[str, Any]:
    """A key of each attribute of a module and its parts, by dotted name."""
    return {
        f"{prefix}.{name}" if prefix else name: _key(value, [], {})
        for prefix, part in module.named_modules()
        for name, value in vars(part).items()
        if not isinstance(value, Module)
    }


def _is_plain(kind: type) -> bool:
    """Whether nothing of an object is outside its `__dict__`."""
    return all("__new__" not in vars(base) for base in kind.__mro__ if base is not object)


def snapshot(module: Module) -> Any:
    """The module as it is now, with the same tensors: changes of its attributes do not reach it."""
    return _snapshot(module, {})


def _snapshot(value: Any, known: dict[int, Any]) -> Any:
    if id(value) in known:
        return known[id(value)]
    if isinstance(value, Module):
        made = known[id(value)] = object.__new__(type(value))
        vars(made).update({name: _snapshot(part, known) for name, part in vars(value).items()})
        return made
    if type(value) in (list, tuple):
        return type(value)([_snapshot(part, known) for part in value])
    if type(value) is dict:
        return {name: _snapshot(part, known) for name, part in value.items()}
    return value


class Shadow:
    """A copy of a module in which every tensor has lost its values.

    Attributes:
        module: the copy.
        tensors: for each tensor of the copy its original, by identity.
    """

    def __init__(self, module: Module) -> None:
        self.tensors: dict[int, Tensor] = {}
        self.copies: dict[int, Any] = {}
        self.module: Any = self._copy(module)

    def _copy(self, value: Any) -> Any:
        if id(value) in self.copies:
            return self.copies[id(value)]
        if isinstance(value, Tensor):
            made: Any = copy.copy(value)
            object.__setattr__(made, "data", Abstract(value.shape, value.dtype))
            made.node = made.grad = None
            self.tensors[id(made)] = value
        elif isinstance(value, Module):
            made = self.copies[id(value)] = object.__new__(type(value))
            vars(made).update({name: self._copy(part) for name, part in vars(value).items()})
        elif isinstance(value, dict):
            made = type(value)((name, self._copy(part)) for name, part in value.items())
        elif type(value) in (list, tuple):
            made = type(value)(map(self._copy, value))
        elif hasattr(value, "__dict__") and not isinstance(value, _OPAQUE) and _is_plain(type(value)):
            made = self.copies[id(value)] = object.__new__(type(value))  # nothing of it is outside its __dict__
            vars(made).update({name: self._copy(part) for name, part in vars(value).items()})
        else:
            made = value
        self.copies[id(value)] = made
        return made
