"""A setting that has another value inside a `with` block: what `no_grad`, `use_backend` and `default_dtype` return."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any


class Within:
    """A `with` block, or a decorator, in which an attribute has another value. However it ends, the value is set back.

    Layers enter several of them at each call, and this takes a third of the time of a generator made a context. Blocks
    of one such object may be open one inside the other, but not in several threads.

    >>> class Setting:
    ...     grad = True
    >>> with Within(Setting, "grad", False):
    ...     print(Setting.grad)
    False
    >>> Setting.grad
    True
    """

    __slots__ = ("_before", "_name", "_owner", "_value")

    def __init__(self, owner: Any, name: str, value: Any) -> None:
        self._owner, self._name, self._value = owner, name, value
        self._before: list[Any] = []  # of each block that is open, one inside the other

    def __enter__(self) -> Any:
        self._before.append(getattr(self._owner, self._name))
        setattr(self._owner, self._name, self._value)
        return self._value

    def __exit__(self, *exception: Any) -> None:
        setattr(self._owner, self._name, self._before.pop())

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def inside(*args: Any, **kwargs: Any) -> Any:
            with Within(self._owner, self._name, self._value):  # each call its own, also in several threads
                return function(*args, **kwargs)

        return inside
