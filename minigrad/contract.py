"""`Cell`: the contract of a recurrent cell. A cell knows one step; time belongs to `Recurrent`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import wraps
from numbers import Integral
from typing import Any

from minigrad.backend import (
    Backend,
    default_dtype,
    get_backend,
    get_default_dtype,
    is_floating,
    random_state,
    set_random_state,
    use_backend,
)
from minigrad.creation import zeros
from minigrad.layers import converting
from minigrad.module import Module
from minigrad.nest import describe, leaves, map_nest
from minigrad.tape import no_grad
from minigrad.tensor import Tensor, as_tensor

__all__ = ["Cell"]


class Cell(Module):
    """Base class of recurrent cells: (y_t, s_t) = step(x_t, s_{t-1}).

    Subclass it, assign parameters, and write two methods; any layer, truncation, masking and backend then works.
    State is a tensor or any nest of tuples, lists and dicts of tensors, each with the batch as its first axis. It keeps
    its build, shapes and dtypes from step to step. A cell that sets `input_size` to an integer takes x of shape
    (B, input_size), and is told when it gets another; its integer inputs, and cells without it, are not checked. One
    whose outputs have another size than its `hidden_size` says so in `output_size`.

    >>> class Decay(mg.Cell):
    ...     def __init__(self, size):
    ...         self.rate = mg.Parameter(mg.zeros(size))
    ...         self.size = size
    ...     def init_state(self, batch_size):
    ...         return mg.zeros((batch_size, self.size))
    ...     def step(self, x, h):
    ...         h = mg.sigmoid(self.rate) * h + x
    ...         return h, h
    >>> ys, h = mg.Recurrent(Decay(1))(mg.ones((3, 1, 1)))
    >>> ys.reshape(3)
    tensor([1.  , 1.5 , 1.75], dtype=float32, requires_grad=True)
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "init_state" in vars(cls):
            cls.init_state = _made_like_parameters(cls.init_state)  # type: ignore[assignment]  # of the subclass

    def init_state(self, batch_size: int) -> Any:
        """The state before the first step, made with `mg.zeros` and the like, for `batch_size` sequences."""
        raise NotImplementedError(f"{type(self).__name__} must define init_state(self, batch_size)")

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """One step: from x (B, ...) and the state before it to the output y (B, ...) and the new state."""
        raise NotImplementedError(f"{type(self).__name__} must define step(self, x, state) -> (y, state)")

    def forward(self, x: Any, state: Any = None) -> tuple[Tensor, Any]:
        """One step on x (B, ...) with its arguments checked; `state` None is the initial state."""
        x = check_input(self, x, axes="B")
        expected = start_state(self, self, x, x.shape[0])
        state = expected if state is None else check_state(state, expected)
        return checked_step(self, x, state)


def _made_like_parameters(init_state: Callable[[Any, int], Any]) -> Callable[[Any, int], Any]:
    """A cell's `init_state`, whose new tensors take the backend and the dtype of the cell's parameters."""

    @wraps(init_state)
    def wrapped(self: Cell, batch_size: int) -> Any:
        parameter = self.first_parameter()
        if parameter is None:
            return init_state(self, batch_size)
        with _making(parameter.backend, parameter.dtype):
            return init_state(self, batch_size)

    return wrapped


def _making(backend: Backend, dtype: Any) -> AbstractContextManager[Any]:
    """A block in which new tensors are made on a backend and in a dtype. Nearly always they would be anyway."""
    if get_backend() is backend and get_default_dtype() == dtype:
        return _AS_IT_IS
    block = ExitStack()
    block.enter_context(default_dtype(dtype))
    block.enter_context(use_backend(backend))
    return block


_AS_IT_IS = nullcontext()


_MIXED = ("Implicit conversion to a NumPy array", "Unsupported type <class 'numpy.ndarray'>")
"""What CuPy says where its arrays meet NumPy's."""


def checked_step(cell: Cell, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    """`cell.step`, or an error that says what it should have returned."""
    try:
        result = cell.step(x, state)
    except TypeError as error:
        if not any(words in str(error) for words in _MIXED):
            raise
        raise TypeError(
            f"{type(cell).__name__}.step gives an array of the GPU to NumPy, or one of NumPy to the GPU ({error}). "
            "Compute with minigrad's functions, mg.tanh and the like, which run where their tensors are"
        ) from error
    if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[0], Tensor):
        raise TypeError(
            f"{type(cell).__name__}.step must return (y, state), the output tensor and then the new state; "
            f"it returned {describe(result)}"
        )
    y, new = result
    if y.shape[:1] != x.shape[:1]:
        raise ValueError(f"{type(cell).__name__}.step must return y of shape ({x.shape[0]}, ...); its y is {y.shape}")
    if not _alike(new, state):
        raise ValueError(
            f"{type(cell).__name__}.step must return a state built like the one it was given, {describe(state)}; "
            f"it returned {describe(new)}"
        )
    return y, new


def _alike(new: Any, old: Any) -> bool:
    """Whether two states have the same build, shapes and dtypes."""
    if isinstance(old, tuple | list | dict):
        if type(new) is not type(old) or len(new) != len(old):
            return False
        if isinstance(old, dict):
            return all(key in new and _alike(new[key], old[key]) for key in old)
        return all(map(_alike, new, old))
    return new is old or (isinstance(new, Tensor) and new.shape == old.shape and new.dtype == old.dtype)


def check_input(module: Module, given: Any, axes: str) -> Tensor:
    """x as a tensor that fits the module: rank, features, dtype.

    Args:
        module: a cell; `input_size`, if it is an integer, is the size of the one axis of features.
        given: integers, or numbers in the dtype of the parameters.
        axes: names of the axes before the features: "B", "T, B" or "B, T".
    """
    parameter = module.first_parameter()
    x = as_tensor(given, like=parameter)
    name = type(module).__name__
    leading = len(axes.split(","))
    if x.ndim < leading:
        raise ValueError(f"{name} takes x of shape ({axes}, ...); this is {x.shape}")
    if is_floating(x.dtype):
        size = getattr(module, "input_size", None)
        if isinstance(size, Integral) and x.shape[leading:] != (int(size),):
            raise ValueError(f"{name} has input_size {size}, so x has the shape ({axes}, {size}); this is {x.shape}")
        if parameter is not None and x.dtype != parameter.dtype:
            raise TypeError(
                f"x is {x.dtype}, the parameters of {name} are {parameter.dtype}: convert one, "
                f"{converting(x, parameter.dtype)}"
            )
    return x


def start_state(module: Any, owner: Module, x: Tensor, batch_size: int) -> Any:
    """`module.init_state(batch_size)` made on the backend of x and in the dtype of `owner`'s parameters (or of x)."""
    parameter = owner.first_parameter()
    dtype = parameter.dtype if parameter is not None else x.dtype if is_floating(x.dtype) else None
    with _making(x.backend, get_default_dtype() if dtype is None else dtype):
        state = module.init_state(batch_size)
    for leaf in leaves(state):
        if not isinstance(leaf, Tensor):
            raise TypeError(
                f"the state of {type(module).__name__} must be made of tensors, in tuples, lists and dicts; init_state "
                f"returned {describe(state)} (a number goes into a tensor of shape (B,), such as mg.zeros(batch_size))"
            )
    return state


def check_state(state: Any, expected: Any) -> Any:
    """A given state with arrays made tensors, or an error if it is not built like the initial state."""

    def fit(given: Any, wanted: Tensor) -> Tensor:
        leaf = as_tensor(given, like=wanted)
        if leaf.shape != wanted.shape:
            raise ValueError("shapes differ")
        if leaf.dtype != wanted.dtype:
            dtypes.append((leaf.dtype, wanted.dtype))
        return leaf

    dtypes: list[Any] = []
    try:
        fitted = map_nest(lambda wanted, given: fit(given, wanted), expected, state)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"state must be built like init_state's, {describe(expected)}; this is {describe(state)}"
        ) from error
    if dtypes:
        given, wanted = dtypes[0]
        raise TypeError(f"state is {given} where init_state's is {wanted}: convert it, state.astype({str(wanted)!r})")
    return fitted


def output_size(cell: Cell, input_size: Any = None) -> int:
    """The size of the last axis of a cell's outputs. `input_size` is for a cell that does not say its own."""
    for said in (getattr(cell, "output_size", None), getattr(cell, "hidden_size", None)):
        if isinstance(said, Integral):
            return int(said)
    name, size = type(cell).__name__, getattr(cell, "input_size", input_size)
    if not isinstance(size, Integral):
        raise ValueError(f"{name} does not say the size of its outputs; set self.output_size to an integer in it")
    like = next(cell.parameters(), zeros(0))
    x = Tensor(like.backend.xp.zeros((1, int(size)), dtype=like.dtype))
    drawn = random_state()
    try:
        with no_grad():
            shape = checked_step(cell, x, start_state(cell, cell, x, 1))[0].shape
    except (TypeError, ValueError, IndexError) as error:
        raise ValueError(
            f"{name} does not say the size of its outputs, and its step fails on zeros {x.shape}: set self.output_size "
            "to an integer in it"
        ) from error
    finally:
        set_random_state(drawn)  # what a step draws, of dropout, is not missing afterwards
    if len(shape) < 2:
        raise ValueError(f"the outputs of {name} have no features: at one step their shape is {shape}")
    return int(shape[-1])
