"""What a cell can hold: for each type of object its parts, what it is known by beside them, and how it is copied."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, time, timedelta
from enum import Enum
from functools import lru_cache, partial
from logging import Logger
from numbers import Number
from pathlib import PurePath
from re import Pattern
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    SimpleNamespace,
    WrapperDescriptorType,
)
from typing import Any

import numpy as np

from minigrad.backend import by_type
from minigrad.module import Module
from minigrad.plan.classes import enclosed, look_at
from minigrad.primitive import Primitive
from minigrad.tensor import Tensor

_UNCHANGING = (
    *(CodeType, ModuleType, MethodDescriptorType, WrapperDescriptorType),
    *(Number, PurePath, Pattern, date, time, timedelta, np.dtype, np.ufunc, np.generic, Primitive),
)
"""What does not change once it is made, apart from attributes that an object of a subclass may have."""

Parts = Iterable[tuple[Any, Any]]


class Unseen:
    """Base class of what a step does not depend on. A copy of a cell has a new one."""


@dataclass(frozen=True)
class Kind:
    """A type of objects.

    Attributes:
        look: gives what an object is known by beside its parts (None: by its identity), and the parts by name.
        copy: given an object and a `Copier`, a copy with copied parts; None if the object itself will do.
    """

    look: Callable[[Any], tuple[Any, Parts]]
    copy: Callable[[Any, Copier], Any] | None = None


class Copier:
    """Copies an object and all that it holds, each once.

    Args:
        of_tensor: gives what is to be in the place of a tensor.
    """

    def __init__(self, of_tensor: Callable[[Tensor], Any]) -> None:
        self.of_tensor = of_tensor
        self.made: dict[int, Any] = {}

    def __call__(self, value: Any) -> Any:
        if id(value) in self.made:
            return self.made[id(value)]
        if isinstance(value, Tensor):
            made = self.of_tensor(value)
        else:
            kind = kind_of(type(value))  # type: ignore[arg-type]  # types have a hash
            made = value if kind is None or kind.copy is None else kind.copy(value, self)
        self.made[id(value)] = made
        return made


@lru_cache(1024)
def kind_of(kind: Any) -> Kind | None:
    """How to know and copy the objects of a type; None if that cannot be said."""
    if kind in _KINDS:
        return _KINDS[kind]
    if kind in by_type:
        return _ARRAY if by_type[kind].name == "numpy" else None
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return _KINDS[tuple]
    if issubclass(kind, type):
        return Kind(lambda value: (look := look_at(value), look.inside))
    if issubclass(kind, Unseen):
        return Kind(lambda value: (kind, ()), lambda value, copied: kind())
    if issubclass(kind, (Enum, Logger, *_UNCHANGING)):
        has_more = kind.__dictoffset__ and not issubclass(kind, Logger | ModuleType)
        return Kind(_look_unchanging if has_more else _look_nowhere)
    if kind.__dictoffset__ and (issubclass(kind, Module) or _is_plain(kind)):
        return Kind(_look_module if issubclass(kind, Module) else _look_object, _copy_object)
    return None


def _is_plain(kind: type) -> bool:
    """Whether nothing of an object is outside its `__dict__`: no class of it is made in C, or has slots."""
    bases = (vars(base) for base in kind.__mro__ if base is not object)
    return all("__new__" not in base and not base.get("__slots__") for base in bases)


# --- objects


def _look_nowhere(value: Any) -> tuple[Any, Parts]:
    return None, ()


def _look_unchanging(value: Any) -> tuple[Any, Parts]:
    return None, [*vars(value).items(), ("its class", type(value))]


def _look_object(value: Any) -> tuple[Any, Parts]:
    look = look_at(type(value))
    return look, [*vars(value).items(), *look.inside]


def _look_module(value: Any) -> tuple[Any, Parts]:
    """What its constructor was given is no part of it, unless it has kept it."""
    look = look_at(type(value))
    parts = vars(value).copy()
    parts.pop("_arguments", None)
    return look, [*parts.items(), *look.inside] if look.inside else parts.items()


def _copy_object(value: Any, copied: Copier) -> Any:
    made = copied.made[id(value)] = object.__new__(type(value))
    vars(made).update({name: part if name == "_arguments" else copied(part) for name, part in vars(value).items()})
    return made


def _copy_namespace(value: Any, copied: Copier) -> Any:
    made = copied.made[id(value)] = SimpleNamespace()
    vars(made).update({name: copied(part) for name, part in vars(value).items()})
    return made


# --- functions


def _look_function(function: FunctionType) -> tuple[Any, Parts]:
    parts: list[tuple[Any, Any]] = [("its code", function.__code__), *enclosed(function), *vars(function).items()]
    if function.__defaults__ or function.__kwdefaults__:
        parts += [("its defaults", function.__defaults__), ("its keyword defaults", function.__kwdefaults__)]
    return None, parts


def _copy_function(function: FunctionType, copied: Copier) -> Any:
    """A function made inside another one; those of modules are known by their identity, also to a step."""
    if not function.__closure__ or "<locals>" not in function.__qualname__:
        return function
    cells = tuple(CellType() for _ in function.__closure__)
    made = FunctionType(function.__code__, function.__globals__, function.__name__, None, cells)
    copied.made[id(function)] = made
    held = dict(enclosed(function))
    for name, cell in zip(function.__code__.co_freevars, cells, strict=True):
        if name in held:
            cell.cell_contents = copied(held[name])
    made.__defaults__, made.__kwdefaults__ = copied(function.__defaults__), copied(function.__kwdefaults__)
    vars(made).update({name: copied(part) for name, part in vars(function).items()})
    made.__qualname__, made.__module__ = function.__qualname__, function.__module__
    return made


def _look_method(method: MethodType) -> tuple[Any, Parts]:
    return MethodType, [("its function", method.__func__), ("its object", method.__self__)]


def _copy_method(method: MethodType, copied: Copier) -> Any:
    return MethodType(copied(method.__func__), copied(method.__self__))


def _look_builtin(function: Any) -> tuple[Any, Parts]:
    owner = function.__self__
    return (
        (None, ()) if owner is None or isinstance(owner, ModuleType) else (function.__name__, [("its object", owner)])
    )


def _copy_builtin(function: Any, copied: Copier) -> Any:
    owner = function.__self__
    return function if copied(owner) is owner else getattr(copied(owner), function.__name__)


def _look_partial(value: partial[Any]) -> tuple[Any, Parts]:
    return partial, [
        ("its function", value.func),
        *enumerate(value.args),
        *value.keywords.items(),
        *vars(value).items(),
    ]


def _copy_partial(value: partial[Any], copied: Copier) -> Any:
    made = partial(copied(value.func), *map(copied, value.args), **copied(value.keywords))
    vars(made).update(copied(vars(value)))
    return made


# --- containers


def _copy_list(value: list[Any], copied: Copier) -> Any:
    made: list[Any] = []
    copied.made[id(value)] = made
    made.extend(map(copied, value))
    return made


def _copy_dict(value: dict[Any, Any], copied: Copier) -> Any:
    made = copied.made[id(value)] = type(value)()
    for name, part in value.items():
        made[name] = copied(part)
    return made


def _copy_tuple(value: Any, copied: Copier) -> Any:
    parts = [copied(part) for part in value]
    if all(part is old for part, old in zip(parts, value, strict=True)):
        return value
    return value._make(parts) if hasattr(value, "_make") else tuple(parts)


def _copy_set(value: Any, copied: Copier) -> Any:
    """With the members themselves, since a set of others would have another order."""
    made = value.copy()
    return made if all(a is b for a, b in zip(made, value, strict=True)) else value


def _look_array(array: Any) -> tuple[Any, Parts]:
    if array.dtype.hasobject:
        return (array.shape, array.dtype.str), enumerate(array.reshape(-1).tolist())
    return (array.shape, array.dtype.str, array.tobytes()), ()


def _copy_array(array: Any, copied: Copier) -> Any:
    made = array.copy()
    if array.dtype == object:
        for place, part in np.ndenumerate(array):
            made[place] = copied(part)
    return made


def _look_slice(value: slice) -> tuple[Any, Parts]:
    return slice, [("start", value.start), ("stop", value.stop), ("step", value.step)]


_ARRAY = Kind(_look_array, lambda value, copied: value if isinstance(value, np.generic) else _copy_array(value, copied))
_KINDS: dict[type, Kind] = {
    list: Kind(lambda value: (list, enumerate(value)), _copy_list),
    tuple: Kind(lambda value: (type(value), enumerate(value)), _copy_tuple),
    dict: Kind(lambda value: (dict, list(value.items())), _copy_dict),
    OrderedDict: Kind(lambda value: (OrderedDict, list(value.items())), _copy_dict),
    set: Kind(lambda value: (set, enumerate(value)), _copy_set),
    frozenset: Kind(lambda value: (frozenset, enumerate(value))),
    slice: Kind(_look_slice),
    object: Kind(_look_nowhere),
    SimpleNamespace: Kind(lambda value: (SimpleNamespace, list(vars(value).items())), _copy_namespace),
    FunctionType: Kind(_look_function, _copy_function),
    MethodType: Kind(_look_method, _copy_method),
    BuiltinFunctionType: Kind(_look_builtin, _copy_builtin),
    MethodWrapperType: Kind(_look_builtin, _copy_builtin),
    partial: Kind(_look_partial, _copy_partial),
}
