"""What a plan depends on in a cell: a key that changes when an attribute does, and a copy without values to trace."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from datetime import date, time, timedelta
from enum import Enum
from functools import cache, partial
from logging import Logger
from numbers import Number
from pathlib import PurePath
from re import Pattern
from types import BuiltinFunctionType, CellType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from minigrad.backend import by_type
from minigrad.errors import PlanError
from minigrad.module import Module
from minigrad.plan.abstract import Abstract
from minigrad.primitive import Primitive
from minigrad.tensor import Tensor

_PLAIN = frozenset({int, float, bool, str, bytes, complex, type(None), range, slice, type(...)})
_OPAQUE = (type, FunctionType, BuiltinFunctionType, MethodType, ModuleType)
_UNCHANGING = (*_OPAQUE, Enum, Number, PurePath, Pattern, date, time, timedelta, Logger, np.dtype, np.ufunc, Primitive)
"""What does not change once it is made (or, a logger, is no matter to a step), so that its identity says all."""


def fingerprint(module: Module) -> tuple[Any, list[Any]]:
    """A key of everything that a step can read from a module, and the objects that the key knows by identity.

    Numbers, strings and host arrays count by value, tensors by identity, shape and dtype (their values are read anew at
    each run), everything else by its attributes or items. What a function reads from outside is not seen, except what
    it has enclosed.

    Raises:
        PlanError: something in it can change without being noticed.
    """
    held: list[Any] = []
    try:
        return _key(module, held, {}), held
    except PlanError as error:
        raise PlanError(f"{type(module).__name__} holds {error}") from None


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
    known_by, parts_of = _kind(kind)  # type: ignore[arg-type]  # types have a hash
    if parts_of is None:
        raise PlanError(
            f"a {kind.__module__}.{kind.__qualname__}, and the plan would not notice a change in it. Keep it out of "
            "the cell, or use numbers, arrays, tensors, lists and dicts, or an object with plain attributes"
        )
    if known_by is None:
        held.append(value)
    return known_by or id(value), *[(name, _key(part, held, seen)) for name, part in parts_of(value)]


@cache
def _kind(kind: Any) -> tuple[type | None, Callable[[Any], Iterable[tuple[Any, Any]]] | None]:
    """How to know objects of a type: by the type (or, if it is None, one by one), and all that they can differ in.

    The second is None if that cannot be said.
    """
    if kind in (dict, OrderedDict):
        return kind, lambda value: list(value.items())
    if kind in (list, tuple) or (issubclass(kind, tuple) and hasattr(kind, "_fields")):
        return kind, enumerate
    if kind in (set, frozenset):
        return kind, lambda value: enumerate(sorted(value, key=repr))
    if issubclass(kind, partial):
        return kind, lambda value: enumerate((value.func, value.args, value.keywords))
    if issubclass(kind, FunctionType):
        return None, lambda f: enumerate([*map(_enclosed, f.__closure__ or ()), f.__defaults__, f.__kwdefaults__])
    if issubclass(kind, MethodType):
        return None, lambda value: enumerate((value.__func__, value.__self__))
    if issubclass(kind, _UNCHANGING):
        return None, lambda value: ()
    if issubclass(kind, Module) or (_is_plain(kind) and hasattr(kind, "__dict__")):
        return kind, lambda value: [*vars(value).items(), *_class_attributes(kind)]
    return kind, None


def _enclosed(cell: CellType) -> Any:
    """What a function has enclosed, if it is there yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _class_attributes(kind: type) -> Iterator[tuple[str, Any]]:
    """Plain values that a step finds on the class."""
    for base in kind.__mro__:
        if base.__module__ != Module.__module__ and base is not object:
            for name, value in vars(base).items():
                if (type(value) in _PLAIN or type(value) in _CONTAINERS) and not name.startswith("__"):
                    yield name, value


_CONTAINERS = frozenset({list, tuple, dict, set, frozenset})


def attributes(module: Module) -> dict[str, Any]:
    """A key of each attribute of a module and its parts, by dotted name."""
    return {
        f"{prefix}.{name}" if prefix else name: _key(value, [], {})
        for prefix, part in module.named_modules()
        for name, value in vars(part).items()
        if not isinstance(value, Module)
    }


def _is_plain(kind: type) -> bool:
    """Whether nothing of an object is outside its `__dict__`: no class of it is made in C, or has slots."""
    bases = (vars(base) for base in kind.__mro__ if base is not object)
    return all("__new__" not in base and not base.get("__slots__") for base in bases)


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
