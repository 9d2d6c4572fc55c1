"""Running any cell over a sequence: `Recurrent`, `Bidirectional`, `Stack`.

Layers take x (T, B, ...) and return (ys, state). State goes in and comes out, and nothing is hidden in a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from numbers import Integral
from typing import Any

from minigrad.backend import is_floating
from minigrad.contract import Cell, check_input, check_state, output_size, start_state
from minigrad.creation import zeros, zeros_like
from minigrad.engines import run_plan, run_tape
from minigrad.layers import check_probability
from minigrad.lengths import Mask, silence
from minigrad.lookup import looked_up
from minigrad.module import Module
from minigrad.nest import describe, map_nest
from minigrad.ops import broadcast_to, concat, dropout, flip, permute_dims
from minigrad.plan.plans import Plans
from minigrad.tape import no_grad
from minigrad.tensor import Parameter, Tensor

__all__ = ["Bidirectional", "Recurrent", "RecurrentLayer", "Stack"]

ENGINES = ("auto", "plan", "tape")


class RecurrentLayer(Module):
    """What `Recurrent`, `Bidirectional` and `Stack` have in common: how they are called."""

    batch_first = False

    @property
    def axes(self) -> str:
        """The first axes of x and of the outputs, by name."""
        return "B, T" if self.batch_first else "T, B"

    @property
    def output_size(self) -> int:
        """The size of the last axis of the outputs: what a layer after this one takes.

        >>> layer = mg.Bidirectional(mg.GRUCell(3, 5))
        >>> mg.Linear(layer.output_size, 2).weight.shape
        (2, 10)
        """
        raise NotImplementedError(f"{type(self).__name__} must define the property output_size")

    def init_state(self, batch_size: int) -> Any:
        """The state before the first step, for `batch_size` sequences."""
        raise NotImplementedError

    def explain(self) -> str:
        """Which engine runs the layer, and why."""
        raise NotImplementedError

    def forward(self, x: Any, state: Any = None, lengths: Any = None, return_states: bool = False) -> Any:
        """Run over whole sequences.

        Args:
            x: (T, B, ...), or (B, T, ...) if batch_first; T and B may be 0.
            state: the state before the first step; by default the initial state.
            lengths: (B,) integers in 0..T: how many steps of each sequence count. Outputs past a sequence's end are 0
                and its state stops changing there; what x holds there has no influence on values or gradients.
            return_states: also return the state after every step, stacked like the outputs.

        Returns:
            (ys, state), or (ys, state, states): outputs like x in their first two axes, and the last state.
        """
        raise NotImplementedError


class Recurrent(RecurrentLayer):
    """Runs a cell over time.

    Args:
        cell: any `Cell`.
        reverse: run from the last step to the first; with lengths, from each sequence's own last step.
        batch_first: x and outputs are (B, T, ...).
        engine: `"tape"` records each step operation by operation; `"plan"` runs the sequence as one program, and
            raises `PlanError` if the cell's step cannot be compiled; `"auto"` takes the plan where it can.
        learn_initial_state: make the initial state a parameter, starting from the cell's own.
        checkpoint_every: keep every n-th state only, and compute what is between anew in the backward: less memory for
            one more forward. About the square root of T needs least. The tape keeps everything nevertheless.

    >>> layer = mg.Recurrent(mg.LSTMCell(3, 5))
    >>> ys, (h, c) = layer(mg.ones((7, 2, 3)), lengths=[7, 4])
    >>> ys.shape, bool((ys[4:, 1] == 0).numpy().all())
    ((7, 2, 5), True)
    """

    made_for: int | None = None
    """The input size that `recurrent` has made the cell for; the cell itself need not say it."""

    def __init__(
        self,
        cell: Cell,
        reverse: bool = False,
        batch_first: bool = False,
        engine: str = "auto",
        learn_initial_state: bool = False,
        checkpoint_every: int | None = None,
    ) -> None:
        self.cell = check_cell(cell=cell)
        self.reverse = reverse
        self.batch_first = batch_first
        self.engine = engine
        self.checkpoint_every = checkpoint_every
        self._plans = Plans()
        if learn_initial_state:
            parameter = cell.first_parameter()
            like = zeros(1) if parameter is None else parameter
            self.initial_state = map_nest(_learnable, start_state(cell, cell, like, 1))

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "engine" and value not in ENGINES:
            raise ValueError(f"engine is one of {ENGINES}, not {value!r}")
        if name == "checkpoint_every":
            _check_checkpoint_every(value)
        super().__setattr__(name, value)

    @property
    def output_size(self) -> int:
        """What the cell says, its `output_size` or else `hidden_size`; if it says neither, that of a step on zeros.

        Raises:
            ValueError: no step can be taken, or its output has no features.
        """
        return output_size(self.cell, self.made_for)

    def init_state(self, batch_size: int) -> Any:
        if not hasattr(self, "initial_state"):
            return self.cell.init_state(batch_size)
        return map_nest(lambda leaf: broadcast_to(leaf, (batch_size, *leaf.shape[1:])), self.initial_state)

    def explain(self) -> str:
        name = f"Recurrent({type(self.cell).__name__})"
        if self.engine == "tape":
            return f"{name}: engine tape, as asked for. Each step is recorded operation by operation."
        return f"{name}: {self._plans.explain()}"

    def forward(self, x: Any, state: Any = None, lengths: Any = None, return_states: bool = False) -> Any:
        return self.begin(x, state, lengths, return_states)()

    def begin(self, x: Any, state: Any, lengths: Any, return_states: bool) -> Callable[[], Any]:
        """Run the cell; the function that is returned does the rest of `forward`, which may wait for another run."""
        x = check_input(self.cell, x, axes=self.axes)
        steps, batch = x.shape[1::-1] if self.batch_first else x.shape[:2]
        expected = start_state(self, self, x, batch)
        state = expected if state is None else check_state(state, expected)
        mask = Mask(lengths, steps, batch, x)
        alive = mask.alive(self.reverse)

        def in_order(x: Tensor) -> Tensor:
            """Time first, without steps that are past all ends, the first one to be taken first."""
            x = swap_axes(x) if self.batch_first else x
            x = x if mask.longest == steps else x[: mask.longest]
            x = flip(x, 0) if self.reverse else x
            return x if alive is None else silence(alive, x)  # so that not even a NaN there comes through

        run, lookup = in_order(x), None
        if alive is None and (found := looked_up(x, batch, self._plans)) is not None:
            lookup = found.after(in_order)
        if steps:
            result = run_plan(self, run, state, alive, return_states, lookup)
            ys, last, states = result or run_tape(self.cell, run, state, alive, return_states)
        else:
            ys, last = self._no_steps(run, expected), state
            states = map_nest(_no_rows, state) if return_states else None
        return partial(self._arranged, ys, last, states, state, steps - mask.longest)

    def _arranged(self, ys: Tensor, last: Any, states: Any, state: Any, missing: int) -> Any:
        """The results of a run from `state`, as `forward` gives them; so many steps are missing at the end.

        states: after every step, or None.
        """
        if self.reverse:
            ys = flip(ys, 0)
            states = None if states is None else map_nest(lambda leaf: flip(leaf, 0), states)
        if missing:
            ys = _extended(ys, zeros_like(ys[0]), missing)
            if states is not None:
                states = map_nest(partial(_extended, steps=missing), states, state if self.reverse else last)
        if self.batch_first:
            ys = swap_axes(ys)
            states = None if states is None else map_nest(swap_axes, states)
        return (ys, last) if states is None else (ys, last, states)

    def _no_steps(self, x: Tensor, expected: Any) -> Tensor:
        """The outputs of a run over no steps; one is taken for their shape."""
        with no_grad():
            y = self.cell.step(Tensor(x.backend.xp.zeros(x.shape[1:], dtype=x.dtype)), expected)[0]
        return _no_rows(y)


class Bidirectional(RecurrentLayer):
    """Runs one cell forward and another backward over the same sequence and merges their outputs.

    The state is the pair (forward, backward). With lengths, the backward cell starts at each sequence's own end.

    Args:
        cell: any `Cell`.
        backward_cell: the cell for the other direction; by default a fresh one made like `cell`. Passing `cell` itself
            shares its weights.
        merge: `"concat"` (along the last axis), `"sum"`, `"mean"`, or a function of (forward, backward).
        batch_first: x and outputs are (B, T, ...).
        engine, learn_initial_state, checkpoint_every: as for `Recurrent`.

    >>> ys, (forward, backward) = mg.Bidirectional(mg.GRUCell(3, 5))(mg.ones((7, 2, 3)))
    >>> ys.shape
    (7, 2, 10)
    """

    def __init__(
        self,
        cell: Cell,
        backward_cell: Cell | None = None,
        merge: str | Callable[[Tensor, Tensor], Tensor] = "concat",
        batch_first: bool = False,
        engine: str = "auto",
        learn_initial_state: bool = False,
        checkpoint_every: int | None = None,
    ) -> None:
        if not callable(merge) and merge not in _MERGES:
            raise ValueError(f"merge is one of {', '.join(map(repr, _MERGES))}, or a function; not {merge!r}")
        check_cell(cell=cell)
        backward_cell = cell.clone() if backward_cell is None else check_cell(backward_cell=backward_cell)
        self.merge = merge
        self.batch_first = batch_first
        self.forward_layer = Recurrent(cell, False, batch_first, engine, learn_initial_state, checkpoint_every)
        self.backward_layer = Recurrent(backward_cell, True, batch_first, engine, learn_initial_state, checkpoint_every)

    @property
    def output_size(self) -> int:
        """Of the merged outputs; a function given as `merge` is asked with zeros."""
        sizes = self.forward_layer.output_size, self.backward_layer.output_size
        like = next(self.parameters(), zeros(0))
        ahead, back = (Tensor(like.backend.xp.zeros((1, 1, size), dtype=like.dtype)) for size in sizes)
        with no_grad():
            merged = self.merge(ahead, back) if callable(self.merge) else _MERGES[self.merge](ahead, back)
        return int(merged.shape[-1])

    def init_state(self, batch_size: int) -> Any:
        return self.forward_layer.init_state(batch_size), self.backward_layer.init_state(batch_size)

    def explain(self) -> str:
        return f"forward: {self.forward_layer.explain()}\nbackward: {self.backward_layer.explain()}"

    def forward(self, x: Any, state: Any = None, lengths: Any = None, return_states: bool = False) -> Any:
        x = check_input(self.forward_layer.cell, x, axes=self.axes)
        ahead, back = _check_parts(state, 2, "Bidirectional", "(forward, backward)")
        try:
            with x.backend.aside():
                finish_ahead = self.forward_layer.begin(x, ahead, lengths, return_states)
            finish_back = self.backward_layer.begin(x, back, lengths, return_states)
        finally:
            x.backend.join()
        (ys_ahead, *rest_ahead), (ys_back, *rest_back) = finish_ahead(), finish_back()
        if not callable(self.merge):
            merged = _MERGES[self.merge](ys_ahead, ys_back)
        else:
            merged = _past_ends_zero(self.merge(ys_ahead, ys_back), lengths, int(self.batch_first))
        return merged, *zip(rest_ahead, rest_back, strict=True)


class Stack(RecurrentLayer):
    """Layers one above the other: the outputs of each are the inputs of the next.

    The state is a tuple with one entry per layer.

    Args:
        layers: `Recurrent`, `Bidirectional`, or other stacks, all with the same batch_first.
        dropout: in training, the probability of setting an output to 0 between one layer and the next.

    >>> stack = mg.Stack(mg.Recurrent(mg.LSTMCell(3, 5)), mg.Recurrent(mg.GRUCell(5, 2)))
    >>> ys, ((h0, c0), h1) = stack(mg.ones((7, 2, 3)))
    >>> ys.shape
    (7, 2, 2)
    """

    def __init__(self, *layers: RecurrentLayer, dropout: float = 0.0) -> None:
        for position, layer in enumerate(layers):
            if not isinstance(layer, RecurrentLayer):
                wrap = " (wrap a cell: mg.Recurrent(cell))" if isinstance(layer, Cell) else ""
                raise TypeError(f"Stack takes recurrent layers; argument {position} is {_named(layer)}{wrap}")
        if not layers:
            raise ValueError("Stack needs at least one layer")
        if len({layer.batch_first for layer in layers}) > 1:
            raise ValueError("all layers of a Stack must have the same batch_first")
        self.layers = list(layers)
        self.batch_first = layers[0].batch_first
        self.dropout = check_probability(dropout=dropout)

    @property
    def output_size(self) -> int:
        """That of the last layer."""
        return self.layers[-1].output_size

    def init_state(self, batch_size: int) -> Any:
        return tuple(layer.init_state(batch_size) for layer in self.layers)

    def explain(self) -> str:
        return "\n".join(f"layer {number}: {layer.explain()}" for number, layer in enumerate(self.layers))

    def forward(self, x: Any, state: Any = None, lengths: Any = None, return_states: bool = False) -> Any:
        parts = _check_parts(state, len(self.layers), "Stack", "one entry per layer")
        rests = []
        for number, (layer, part) in enumerate(zip(self.layers, parts, strict=True)):
            if number:
                x = dropout(x, self.dropout, self.training)
            x, *rest = layer(x, part, lengths, return_states)
            rests.append(rest)
        return x, *zip(*rests, strict=True)


# --- small parts


def _check_checkpoint_every(steps: Any) -> None:
    if steps is not None and (isinstance(steps, bool) or not isinstance(steps, Integral) or steps < 1):
        raise ValueError(f"checkpoint_every is a number of steps, an integer of 1 or more, or None; got {steps!r}")


def _past_ends_zero(ys: Tensor, lengths: Any, time: int) -> Tensor:
    """Merged outputs with zeros past each sequence's end, whatever the merge has put there."""
    if lengths is None:
        return ys
    alive = Mask(lengths, ys.shape[time], ys.shape[1 - time], ys).flags
    return ys if alive is None else silence(alive.T if time else alive, ys)


def _concat_features(ahead: Tensor, back: Tensor) -> Tensor:
    if ahead.ndim < 3:
        raise ValueError(f"merge='concat' needs outputs with features, (B, ...) at each step; these are {ahead.shape}")
    return concat([ahead, back], axis=-1)


_MERGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "concat": _concat_features,
    "sum": lambda ahead, back: ahead + back,
    "mean": lambda ahead, back: (ahead + back) * 0.5,
}


def check_cell(**cells: Any) -> Cell:
    """The one cell given, or an error that names the argument if it is no cell."""
    ((name, cell),) = cells.items()
    if not isinstance(cell, Cell):
        hint = "layers are combined with mg.Stack" if isinstance(cell, RecurrentLayer) else "subclass mg.Cell"
        raise TypeError(f"{name} must be a cell, not {_named(cell)}: {hint}")
    return cell


def _named(value: Any) -> str:
    return f"the class {value.__name__} itself" if isinstance(value, type) else type(value).__name__


def _check_parts(state: Any, count: int, layer: str, parts: str) -> Sequence[Any]:
    """The parts of a composed state; None, for initial states, where it is missing."""
    if state is None:
        return [None] * count
    if not isinstance(state, tuple | list) or len(state) != count:
        raise ValueError(f"the state of {layer} is a tuple of {count}, {parts}; got {describe(state)}")
    return state


def _learnable(leaf: Tensor) -> Tensor:
    if not leaf.ndim:
        raise ValueError("learn_initial_state needs tensors with the batch first; the state of this cell has a 0-d one")
    return Parameter(leaf) if is_floating(leaf.dtype) else leaf


def swap_axes(x: Tensor) -> Tensor:
    """The first two axes exchanged."""
    return permute_dims(x, (1, 0, *range(2, x.ndim)))


def _no_rows(like: Tensor) -> Tensor:
    """A tensor of no steps, each of which would be like this."""
    return Tensor(like.backend.xp.zeros((0, *like.shape), dtype=like.dtype))


def _extended(ys: Tensor, value: Tensor, steps: int) -> Tensor:
    """`ys` with some more steps that all have one value."""
    return concat([ys, broadcast_to(value, (steps, *value.shape))])
