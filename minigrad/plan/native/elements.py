"""What an update does to each element of its arrays, found by running it on arrays without values."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.backend import by_type, load_backend
from minigrad.plan.native.lines import Line, Operand


class NotElementwiseError(Exception):
    """An update does something else than treating every element alike."""

    def __str__(self) -> str:
        return "an update has kept what it was given in an earlier call; it must be a pure function of its arguments"


class Recording:
    """What has been done to elements so far.

    Attributes:
        lines: the operations, in order.
        numbers: the Python numbers among their operands.
        real: the dtype of the arrays.
        refused: whether something was asked that elements do not know; an update may have caught the error.
    """

    def __init__(self, real: Any) -> None:
        self.lines: list[Line] = []
        self.numbers: list[float] = []
        self.real, self.refused = real, False

    def refuse(self) -> NotElementwiseError:
        """The error to raise."""
        self.refused = True
        return NotElementwiseError()

    def add(self, name: str, operands: list[Any]) -> Operand:
        """The result of an operation on elements and numbers."""
        flags = [isinstance(operand, Elements) and operand.is_flag for operand in operands]
        wanted = [name in _LOGICAL or (name == "where" and not position) for position in range(len(operands))]
        if flags != wanted or (name == "where" and not any(isinstance(o, Elements) for o in operands[1:])):
            raise self.refuse()  # numbers alone would make float64 of it
        self.lines.append(Line(name, tuple(map(self._operand, operands))))
        return "lines", len(self.lines) - 1

    def result(self, value: Any) -> Any:
        """What an update gives: the place of elements, or a number itself."""
        if isinstance(value, Elements):
            if value.is_flag:
                raise self.refuse()
            return self._operand(value)
        if type(value) not in (int, float):
            raise self.refuse()
        return value

    def _operand(self, operand: Any) -> Operand:
        if isinstance(operand, Elements):
            if operand.recording is not self:
                raise self.refuse()
            return operand.place
        if type(operand) not in (int, float):
            raise self.refuse()
        self.numbers.append(operand)
        return "numbers", len(self.numbers) - 1


class Elements(np.lib.mixins.NDArrayOperatorsMixin):
    """An array of any shape, of which only is known that each element is computed like all others.

    Attributes:
        recording: where what is done with it is noted.
        place: what it is.
        is_flag: whether it holds booleans.
        is_given: whether it is one of the arrays that an update is given, and must not change.
    """

    __slots__ = ("is_flag", "is_given", "place", "recording")
    __hash__ = None  # type: ignore[assignment]  # as for arrays
    __class__ = property(lambda self: np.ndarray)  # for isinstance

    def __init__(self, recording: Recording, place: Operand, is_flag: bool = False, is_given: bool = False) -> None:
        self.recording, self.place, self.is_flag, self.is_given = recording, place, is_flag, is_given

    dtype = property(lambda self: np.dtype(bool) if self.is_flag else self.recording.real)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
        name, operands = _NAMES.get(ufunc), list(inputs)
        if ufunc is np.power and type(operands[1]) in (int, float):
            name = _POWERS.get(operands.pop())
        if name is None or method != "__call__" or options:
            raise self.recording.refuse()
        found = self._computed(name, operands)
        if out is None:
            return found
        (target,) = out
        if not isinstance(target, Elements) or target.is_given or target.is_flag != found.is_flag:
            raise self.recording.refuse()
        target.place = found.place
        return target

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function is np.where and len(args) == 3:
            return self._computed("where", list(args))
        if function is np.copy and len(args) == 1 and not kwargs:
            return args[0].copy()
        raise self.recording.refuse()

    def _computed(self, name: str, operands: list[Any]) -> Elements:
        place = self.recording.add(name, operands)
        return Elements(self.recording, place, name in _GIVE_FLAGS)

    def copy(self) -> Elements:
        return self._computed("positive", [self])

    def __getattr__(self, name: str) -> Any:
        raise self.recording.refuse()  # a shape, a sum, a value

    def _refuse(self, *args: Any) -> Any:
        raise self.recording.refuse()

    __array__ = __bool__ = __int__ = __float__ = __index__ = __len__ = __iter__ = __getitem__ = __setitem__ = _refuse


_LOGICAL = {"logical_and", "logical_or", "logical_not"}
_GIVE_FLAGS = {"equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "isfinite"} | _LOGICAL
_SAME_NAME = {"add", "subtract", "multiply", "negative", "square", "sqrt", "sign", "maximum", "minimum", "exp", "expm1"}
_SAME_NAME |= {"log", "log1p", "tanh", "sin", "cos", "positive"} | _GIVE_FLAGS
_NAMES = {getattr(np, name): name for name in _SAME_NAME} | {
    np.true_divide: "divide",
    np.absolute: "abs",
    np.bitwise_and: "logical_and",
    np.bitwise_or: "logical_or",
    np.invert: "logical_not",
}
_POWERS = {2: "square", 0.5: "sqrt"}
by_type[Elements] = load_backend("numpy")
