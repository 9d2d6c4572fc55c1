"""What a plan depends on in a cell: a key that changes when anything in it does, and a copy without values to trace."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

from minigrad.errors import PlanError
from minigrad.module import Module
from minigrad.plan.abstract import Abstract
from minigrad.plan.classes import PLAIN, plain_key
from minigrad.plan.kinds import Copier, kind_of
from minigrad.tensor import Tensor

Key = Any
"""Of an object: what it is known by, and its parts' keys by name; of a number, tensor or the like something shorter."""


def fingerprint(module: Module) -> tuple[Key, list[Any]]:
    """A key of everything that a step can read from a module, and the objects that the key knows by identity.

    Numbers, strings and host arrays count by value, tensors by identity, shape and dtype (their values are read anew at
    each run), everything else by its attributes or items, and by what is on its class. Functions count by identity,
    with what they have enclosed. What they read from global variables is not seen.

    Raises:
        PlanError: something in it can change without being noticed.
    """
    held: list[Any] = []
    try:
        return _key(module, held, {}), held
    except PlanError as error:
        raise PlanError(f"{type(module).__name__} holds {error}") from None
    except RecursionError:
        raise PlanError(f"what {type(module).__name__} holds is nested too deeply") from None


def _key(value: Any, held: list[Any], seen: dict[int, int]) -> Key:
    kind = type(value)
    if kind in PLAIN:
        return plain_key(value)
    if isinstance(value, Tensor):
        held.append(value)
        data = value.data
        return id(value), data.shape, data.dtype, value.requires_grad
    if id(value) in seen:
        return seen[id(value)]
    seen[id(value)] = len(seen)
    known = kind_of(kind)  # type: ignore[arg-type]  # types have a hash
    if known is None:
        raise PlanError(
            f"a {kind.__module__}.{kind.__qualname__}, and the plan would not notice a change in it. Keep it out of "
            "the cell, or use numbers, arrays, tensors, lists and dicts, or an object with plain attributes"
        )
    known_by, parts = known.look(value)
    if known_by is None:
        held.append(value)
        known_by = id(value)
    return known_by, tuple([(n, plain_key(p) if type(p) in PLAIN else _key(p, held, seen)) for n, p in parts])


def differences(before: Key, after: Key, name: str = "") -> Iterator[str]:
    """The names, with dots, of what differs between two keys of one module."""
    if before == after:
        return
    if not (_has_parts(before) and _has_parts(after) and before[0] == after[0]):
        yield name or "something on its class"
        return
    old, new = dict(before[1]), dict(after[1])
    if isinstance(before[0], type) and old.keys() != new.keys():  # a list, dict or the like has grown or shrunk
        yield name
        return
    for part in [*old, *(part for part in new if part not in old)]:
        yield from differences(old.get(part), new.get(part), f"{name}.{part}" if name else str(part))


def _has_parts(key: Key) -> bool:
    return isinstance(key, tuple) and len(key) == 2 and isinstance(key[1], tuple)


class Shadow:
    """A copy of a module in which every tensor has lost its values.

    Attributes:
        module: the copy.
        tensors: the tensors in it; originals: for each of them the original, by identity.

    Raises:
        PlanError: there is a tensor where a copy cannot have another, so that a step would read its values.
    """

    def __init__(self, module: Module) -> None:
        self.tensors: list[Tensor] = []
        self.originals: dict[int, Tensor] = {}
        self.module = Copier(self._without_values)(module)
        self._key, held = fingerprint(self.module)
        for tensor in held:
            if isinstance(tensor, Tensor) and id(tensor) not in self.originals:
                raise PlanError(
                    f"{type(module).__name__} holds a tensor of shape {tensor.shape} that is on a class, in a set, or "
                    "enclosed by a function of a module, so the plan would take its values for fixed: make it an "
                    "attribute of the cell, or keep it in a list, tuple or dict of it"
                )

    def _without_values(self, tensor: Tensor) -> Tensor:
        made = copy.copy(tensor)
        object.__setattr__(made, "data", Abstract(tensor.shape, tensor.dtype))
        made.node = made.grad = None
        self.tensors.append(made)
        self.originals[id(made)] = tensor
        return made

    def changes(self) -> list[str]:
        """The names of what is no longer as it was copied."""
        return sorted(set(differences(self._key, fingerprint(self.module)[0])))

    def filled(self, tensor_for: Callable[[Tensor], Tensor]) -> Any:
        """A module like this one, with other tensors.

        Args:
            tensor_for: gives the tensor for each original.
        """
        return Copier(lambda tensor: tensor_for(self.originals[id(tensor)]))(self.module)
