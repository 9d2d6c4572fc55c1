"""What a step finds on a class: methods and what these enclose, attributes; and whether all of it is as it was.

Anything on a class can be replaced at any time, so a class is looked at anew at each call. That must be fast: the
objects that are found on it, in order, are compared by identity with those of the last look.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import chain
from operator import attrgetter, is_
from types import CellType, FunctionType, MethodType
from typing import Any

from minigrad.contract import Cell
from minigrad.module import Module

PLAIN = frozenset({int, float, bool, str, bytes, complex, type(None), range, type(...)})
"""Types whose objects never change."""

LOOKS = 256
"""How many classes are remembered."""

_OURS = (object, Module, Cell)
_PARTS = attrgetter("__code__", "__defaults__", "__kwdefaults__", "__dict__")
_CONTENTS = attrgetter("cell_contents")
_END = object()


def plain_key(value: Any) -> tuple[type, Any]:
    """A key of an object of a plain type. -0.0 is another number than 0.0, and NaN the same as NaN."""
    kind = type(value)
    return kind, repr(value) if kind is float or kind is complex else value


class Look:
    """A class as it is when it is looked at.

    Two looks are equal if they found the same objects, or equal numbers and strings.

    Attributes:
        inside: by name what can change and remain the same object (lists, arrays, tensors, ...).
    """

    def __init__(self, kind: type) -> None:
        self.kind, self.mro = kind, kind.__mro__
        self.inside: list[tuple[str, Any]] = []
        self._dicts: list[Any] = []
        self._functions: list[FunctionType] = []
        self._cells: list[CellType] = []
        for base in self.mro:
            if base not in _OURS and not is_fixed(base):
                self._watch(vars(base))
                for name, value in list(vars(base).items()):
                    if isinstance(value, FunctionType) or not _is_python_s(name):
                        self._collect(name, value)
        self._found = list(self._now())
        marks = (plain_key(value) if type(value) in PLAIN else id(value) for value in self._found)
        self._content = id(kind), *marks
        self._hash = hash(self._content)

    def is_current(self) -> bool:
        """Whether the class is as it was."""
        try:
            return self.kind.__mro__ is self.mro and all(map(is_, self._now(), self._found))
        except (ValueError, RuntimeError):  # an empty cell; another thread adds something just now
            return False

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Look) and self._content == other._content)

    def __hash__(self) -> int:
        return self._hash

    def _now(self) -> Iterator[Any]:
        """What is found now; with an end, so that none is the beginning of another."""
        parts = chain.from_iterable(map(_PARTS, self._functions))
        return chain(chain.from_iterable(self._dicts), parts, map(_CONTENTS, self._cells), (_END,))

    def _watch(self, names: Any) -> None:
        self._dicts += names.keys(), names.values()

    def _collect(self, name: str, value: Any) -> None:
        if isinstance(value, FunctionType):
            self._collect_function(value)
        elif isinstance(value, staticmethod | classmethod):
            self._collect(name, value.__func__)
        elif isinstance(value, property | cached_property):
            for accessor in ("fget", "fset", "fdel", "func"):
                self._collect(name, getattr(value, accessor, None))
        elif not self._is_settled(value) and all(value is not known for _, known in self.inside):
            self.inside.append((name, value))

    def _is_settled(self, value: Any) -> bool:
        """Whether a value can only be replaced: it does not change, is seen already, or a descriptor."""
        if isinstance(value, type):
            return value in self.mro or is_fixed(value)
        return type(value) in PLAIN or (hasattr(type(value), "__get__") and not isinstance(value, MethodType))

    def _collect_function(self, function: FunctionType) -> None:
        if function not in self._functions:
            self._functions.append(function)
            self._watch(vars(function))
            for name, value in enclosed(function):
                self._collect(name, value)
            self._cells += [cell for cell in function.__closure__ or () if _is_filled(cell)]
            values = enumerate(function.__defaults__ or ())
            for key, value in chain(vars(function).items(), (function.__kwdefaults__ or {}).items(), values):
                self._collect(f"{function.__name__}.{key}", value)


def enclosed(function: FunctionType) -> list[tuple[str, Any]]:
    """What a function has enclosed, by name, as far as it is there yet."""
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    return [(name, cell.cell_contents) for name, cell in cells if _is_filled(cell)]


def _is_filled(cell: CellType) -> bool:
    try:
        _CONTENTS(cell)
    except ValueError:
        return False
    return True


def _is_python_s(name: str) -> bool:
    """Whether Python itself (or a class of its library) has put an attribute of this name on a class."""
    return (len(name) > 2 and name.startswith("_") and name.endswith("_")) or name == "_abc_impl"


def is_fixed(kind: type) -> bool:
    """Whether nothing can be assigned to a class: it is made in C."""
    made_in_python, immutable = 1 << 9, 1 << 8
    return not kind.__flags__ & made_in_python or bool(kind.__flags__ & immutable)


_looks: dict[type, Look] = {}


def look_at(kind: type) -> Look:
    """The class as it is now."""
    look = _looks.get(kind)
    if look is None or not look.is_current():
        if len(_looks) >= LOOKS:
            _looks.clear()
        look = _looks[kind] = Look(kind)
    return look
