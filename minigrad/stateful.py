"""One step after the other, as they come: `Stateful` runs a recurrent layer and keeps its state between calls."""

from __future__ import annotations

from typing import Any

from minigrad.contract import check_input, check_state, start_state
from minigrad.creation import zeros
from minigrad.layers import check_size
from minigrad.nest import leaves, map_nest
from minigrad.ops import expand_dims, squeeze
from minigrad.plan.engine import plan_for
from minigrad.recurrent import Recurrent, RecurrentLayer, Stack
from minigrad.tape import no_grad
from minigrad.tensor import Tensor

__all__ = ["Stateful"]


class Stateful:
    """A recurrent layer on an endless sequence, of which it is given one step at a time.

    Gives what `layer(x, state)` would for the same steps, without gradients. Where the layer's cell is compiled to C,
    its weights are packed once and the state stays where the code has it: a step takes a few microseconds.

    Weights may change between steps, by an optimizer or `load_state_dict`; anything else about the layer is taken as it
    is at the first step.

    Args:
        layer: a `Recurrent` or a `Stack` of them that run forward in time, in evaluation mode.
        batch_size: how many sequences there are side by side.
        state: before the first step; by default the initial state.

    Raises:
        TypeError, ValueError: the layer needs whole sequences, or is in training mode; state or x does not fit.

    >>> layer = mg.LSTM(3, 5, num_layers=2).eval()
    >>> x = mg.normal(shape=(7, 1, 3))
    >>> stateful = mg.Stateful(layer)
    >>> ys = mg.stack([stateful(x[t]) for t in range(7)])
    >>> expected, state = layer(x)
    >>> bool(mg.abs(ys - expected).max() < 1e-6)
    True
    """

    def __init__(self, layer: RecurrentLayer, batch_size: int = 1, state: Any = None) -> None:
        check_size(batch_size=batch_size)
        if layer.training:
            raise ValueError(
                "a stateful layer is for inference, and this one is in training mode: call layer.eval() first"
            )
        self.layer, self.batch_size = layer, batch_size
        self._parts = [_Part(part, batch_size) for part in _parts(layer)]
        if state is not None:
            self.state = state

    @property
    def state(self) -> Any:
        """The state after the last step, built like the layer's own. It can be set."""
        states = iter([part.state for part in self._parts])
        return _like(self.layer, lambda: next(states))

    @state.setter
    def state(self, state: Any) -> None:
        expected = self.state
        with no_grad():
            checked = iter(leaves(check_state(state, expected)))
        for part in self._parts:
            part.state = map_nest(lambda leaf: next(checked), part.state)

    def __call__(self, x: Any) -> Tensor:
        """The output (B, ...) of the next step, whose input is x (B, ...)."""
        first, *rest = self._parts
        y = first(x)
        for part in rest:
            y = part(y)
        return y


def _parts(layer: Any) -> list[Recurrent]:
    """The layers that run one after the other at each step."""
    if isinstance(layer, Stack):
        return [part for inner in layer.layers for part in _parts(inner)]
    if not isinstance(layer, Recurrent):
        raise TypeError(f"what can be stateful is a Recurrent layer or a Stack of them, not {type(layer).__name__}")
    if layer.reverse:
        raise ValueError("a layer with reverse=True begins with the last step, so it cannot run step by step")
    return [layer]


def _like(layer: Any, state: Any) -> Any:
    """The states of a layer's parts, which `state` gives one after the other, put together."""
    return tuple(_like(part, state) for part in layer.layers) if isinstance(layer, Stack) else state()


class _Part:
    """One layer of a sequence: compiled at the first step if it can be, or called like any layer."""

    def __init__(self, layer: Recurrent, batch_size: int) -> None:
        self.layer, self.batch_size = layer, batch_size
        parameter = layer.first_parameter()
        like = zeros(1) if parameter is None else parameter
        with no_grad():
            self._state = start_state(layer, layer, like, batch_size)
        self._stepper: Any = None
        self._changing: list[int] = []
        self._kind: Any = None  # shape and dtype of the x that it is compiled for, or was called with

    @property
    def state(self) -> Any:
        if self._stepper is not None:
            known = list(leaves(self._state))
            for position, array in zip(self._changing, self._stepper.states, strict=True):
                known[position] = Tensor(array)
            following = iter(known)
            self._state = map_nest(lambda leaf: next(following), self._state)
        return self._state

    @state.setter
    def state(self, state: Any) -> None:
        self._state, self._stepper, self._kind = state, None, None

    def __getstate__(self) -> dict[str, Any]:
        """What a copy begins with: the state, without compiled code."""
        return vars(self) | {"_state": self.state, "_stepper": None, "_kind": None}

    def __call__(self, given: Any) -> Tensor:
        x = given if isinstance(given, Tensor) else check_input(self.layer.cell, given, "B")
        if (x.data.shape, x.data.dtype) != self._kind:
            self._begin(x)
        if self._stepper is not None:
            return Tensor(self._stepper.step(x.data))
        axis = int(self.layer.batch_first)
        with no_grad():
            ys, self._state = self.layer(expand_dims(x, axis), self._state)
            y: Tensor = squeeze(ys, axis)
        return y

    def _begin(self, x: Tensor) -> None:
        """See whether x fits, and compile for its kind if that can be."""
        check_input(self.layer.cell, x, "B")
        if x.shape[0] != self.batch_size:
            raise ValueError(f"this layer has batch_size {self.batch_size}; x has the shape {x.shape}")
        self.state = self.state  # what was compiled, if anything, was for another kind of x
        if self.layer.engine != "tape" and x.size:
            with no_grad():
                self._compile(x)
        self._kind = x.data.shape, x.data.dtype

    def _compile(self, x: Tensor) -> None:
        plan, _ = plan_for(self.layer._plans, self.layer.cell, expand_dims(x, 0), self._state, False, False, None)
        make = getattr(plan.executor, "stepper", None)  # of code alone: calls of array functions gain nothing by it
        if make is not None:
            initial = list(leaves(self._state))
            self._changing = plan.executor.program.step.changing
            self._stepper = make(plan.given(initial), [initial[i].data for i in self._changing])
