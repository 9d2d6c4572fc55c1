"""`Cell`: the contract of a recurrent cell. A cell knows one step; time belongs to `Recurrent`."""

from __future__ import annotations

from typing import Any

from minigrad.backend import default_dtype, is_floating, use_backend
from minigrad.module import Module
from minigrad.nest import describe, map_nest
from minigrad.tensor import Tensor, as_tensor, tensor

__all__ = ["Cell"]


class Cell(Module):
    """Base class of recurrent cells: (y_t, s_t) = step(x_t, s_{t-1}).

    Subclass it, assign parameters, and write two methods; any layer, truncation, masking and backend then works.
    State is a tensor or any nest of tuples, lists and dicts of tensors, each with the batch as its first axis.

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

    def init_state(self, batch_size: int) -> Any:
        """The state before the first step, made with `mg.zeros` and the like, for `batch_size` sequences."""
        raise NotImplementedError(f"{type(self).__name__} must define init_state(self, batch_size)")

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """One step: from x (B, ...) and the state before it to the output y (B, ...) and the new state."""
        raise NotImplementedError(f"{type(self).__name__} must define step(self, x, state) -> (y, state)")

    def forward(self, x: Any, state: Any = None) -> tuple[Tensor, Any]:
        """One step on x (B, ...) with its arguments checked; `state` None is the initial state."""
        x = check_input(self, x, leading=1)
        expected = start_state(self, self, x, x.shape[0])
        state = expected if state is None else check_state(state, expected)
        return checked_step(self, x, state)


def checked_step(cell: Cell, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    """`cell.step`, or an error that says what it should have returned."""
    result = cell.step(x, state)
    if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[0], Tensor):
        raise TypeError(
            f"{type(cell).__name__}.step must return (y, state), the output tensor and then the new state; "
            f"it returned {describe(result)}"
        )
    return result


def check_input(module: Module, given: Any, leading: int) -> Tensor:
    """x as a tensor that fits the module: rank, features, dtype.

    Args:
        module: a cell or layer; `input_size`, if it has one, is the size that the last axis must have.
        given: integers, or numbers in the dtype of the parameters.
        leading: how many axes come before the features (1: the batch; 2: time and batch).
    """
    parameter = next(module.parameters(), None)
    x = given if isinstance(given, Tensor) else tensor(given)
    if x is not given and parameter is not None and is_floating(x.dtype):
        x = x.astype(parameter.dtype)  # bare data takes the dtype that it meets
    name = type(module).__name__
    if x.ndim < leading:
        axes = "(T, B, ...)" if leading == 2 else "(B, ...)"
        raise ValueError(f"{name} takes x of shape {axes}; this is {x.shape}")
    if is_floating(x.dtype):
        size = getattr(module, "input_size", None)
        if size is not None and (x.ndim == leading or x.shape[-1] != size):
            raise ValueError(f"{name} has input_size {size}: the last axis of x must have that size; x is {x.shape}")
        if parameter is not None and x.dtype != parameter.dtype:
            raise TypeError(
                f"x is {x.dtype}, the parameters of {name} are {parameter.dtype}: "
                f"convert one, x.astype({str(parameter.dtype)!r}) or module.to(dtype={str(x.dtype)!r})"
            )
    return x


def start_state(module: Any, owner: Module, x: Tensor, batch_size: int) -> Any:
    """`module.init_state(batch_size)` made on the backend of x and in the dtype of `owner`'s parameters (or of x)."""
    parameter = next(owner.parameters(), None)
    dtype = parameter.dtype if parameter is not None else x.dtype if is_floating(x.dtype) else None
    with use_backend(x.backend):
        if dtype is None:
            return module.init_state(batch_size)
        with default_dtype(dtype):
            return module.init_state(batch_size)


def check_state(state: Any, expected: Any) -> Any:
    """A given state with arrays made tensors, or an error if it is not built like the initial state."""

    def fit(given: Any, wanted: Tensor) -> Tensor:
        leaf = as_tensor(given, like=wanted)
        if leaf.shape != wanted.shape:
            raise ValueError("shapes differ")
        return leaf

    try:
        return map_nest(lambda wanted, given: fit(given, wanted), expected, state)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"state must be built like init_state's, {describe(expected)}; this is {describe(state)}"
        ) from error
