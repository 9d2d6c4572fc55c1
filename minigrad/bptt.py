"""Truncated backpropagation through time: every k1 steps, the newest k1 losses, through the last k2 steps.

The definition is that of BPTT(h; h') in Williams and Peng (1990), with h = k2 and h' = k1. k1 = k2 is the usual
windowed form, k1 = 1 real-time truncation, k1 = k2 = T full backpropagation. The whole state is cut by one call, each
window owns its piece of the tape, and memory does not grow with T.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from numbers import Integral
from typing import Any

from minigrad.autograd import accumulate_grads, pull_back
from minigrad.contract import Cell, check_state, start_state
from minigrad.errors import StaleParameterError
from minigrad.layers import Sequential
from minigrad.lengths import check_lengths
from minigrad.module import Module
from minigrad.nest import describe, leaves, map_nest
from minigrad.ops import concat, where
from minigrad.recurrent import Recurrent
from minigrad.tensor import Parameter, Tensor, as_tensor, tensor

__all__ = ["Window", "tbptt"]

Loss = Callable[..., Tensor]
Gradients = dict[Any, Any]


@dataclass
class Window:
    """One item of `tbptt`.

    Attributes:
        loss: what the loss function gave for the newest steps, without history.
        state: the state after them, without history: carry on with it.
        steps: how many newest steps there were: k1, or fewer at the end.
    """

    loss: Tensor
    state: Any
    steps: int


def tbptt(
    model: Any,
    xs: Any,
    ys: Any,
    loss: Loss,
    state: Any = None,
    *,
    k1: int,
    k2: int | None = None,
    stale: str = "recompute",
    reset: Any = None,
    lengths: Any = None,
    reduction: str = "mean",
) -> Iterator[Window]:
    """Train on a long sequence, window by window.

    Window w has the newest steps (w-1)*k1 .. e-1 with e = min(w*k1, T). Its loss is computed on these steps alone, and
    its gradient flows back through the steps max(0, e-k2) .. e-1 and no further. At each item `.grad` holds this
    window's gradient alone, on the parameters and on every other leaf that it reaches; update before asking for the
    next. An exception leaves the `.grad` of the window before.

    Args:
        model: a module that runs forward in time, `model(x, state) -> (outputs, state)`, x and outputs time first.
            If it has `init_state(batch_size)`, that is its state at the start and after a reset; otherwise what it
            returns for no steps is.
        xs: inputs (T, B, ...).
        ys: targets (T, B, ...).
        loss: `loss(outputs, targets)` to one element; if it has an argument `lengths`, it gets the window's.
        state: before the first step; by default the model's own. Gradients reach it only if it is a leaf.
        k1: an update every k1 steps.
        k2: how many steps back; at least k1, and k1 if left out.
        stale: what to do where k2 > k1 and the weights have been updated since a step was first run. `"recompute"`:
            run the last k2 steps again with today's weights, from the stored state (random masks are drawn anew).
            `"keep"`: keep the old steps with copies of the weights that they used. `"error"`: raise.
        reset: (T, B) booleans; where true, the sequence starts again from the initial state before this step. Past a
            sequence's length it has no influence.
        lengths: (B,) integers; the model then also gets `lengths=`, those that fall into the window.
        reduction: `"mean"`: the loss is a mean over steps, and a shorter last window is scaled by steps/k1, so that
            every step weighs the same; `"sum"`: the loss is used as it is.

    Returns:
        An iterator of `Window`s; none for T = 0.

    Raises:
        ValueError, TypeError: an argument does not fit; before anything is run.
        StaleParameterError: with `stale="error"`, when the weights have changed.

    >>> model = mg.RNN(1, 4)
    >>> xs, ys = mg.ones((10, 2, 1)), mg.zeros((10, 2, 4))
    >>> [window.steps for window in mg.tbptt(model, xs, ys, mg.loss("mse"), k1=4, k2=6)]
    [4, 4, 2]

    Source: Williams and Peng 1990, section 3; k1 and k2 after Sutskever 2013, section 2.8.6.
    """
    k2 = k1 if k2 is None else k2
    for name, value in {"k1": k1, "k2": k2}.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name} is a number of steps, an integer of at least 1; got {value!r}")
    if k2 < k1:
        raise ValueError(f"k2 must be at least k1, so that every loss is counted; got k1={k1}, k2={k2}")
    if stale not in ("recompute", "keep", "error"):
        raise ValueError(f"stale is 'recompute', 'keep' or 'error', not {stale!r}")
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction is 'mean' or 'sum', not {reduction!r}")
    run = _Sequence(model, xs, ys, loss, reset, lengths, int(k1), int(k2), reduction)
    state = run.start(state)
    if stale == "recompute" or k1 == k2:
        return _leave_gradients(model, _recompute(run, state))
    return _leave_gradients(model, _retain(run, state, copy_weights=stale == "keep"))


def _leave_gradients(model: Any, windows: Iterator[tuple[Window, Gradients]]) -> Iterator[Window]:
    """Leave each window's gradients in `.grad`, and nothing of the window before."""
    reached: list[Any] = []
    for window, gradients in windows:
        for leaf in (*model.parameters(), *reached, *gradients):
            leaf.grad = None
        accumulate_grads(gradients)
        reached = list(gradients)
        yield window


# --- run the last k2 steps anew for each window


def _recompute(run: _Sequence, state: Any) -> Iterator[tuple[Window, Gradients]]:
    """Each window runs its last k2 steps anew, from the state that the window before has stored."""
    for newest, stop in run.windows():
        next_start = max(0, min(stop + run.k1, run.steps) - run.k2)
        item, state = _replay(run, state, newest, stop, next_start)
        yield item


def _replay(
    run: _Sequence, state: Any, newest: int, stop: int, next_start: int
) -> tuple[tuple[Window, Gradients], Any]:
    """One window, from `state` at max(0, stop-k2), and the state at `next_start`."""
    outputs = []
    next_state = current = state
    for a, b in pairwise(sorted({max(0, stop - run.k2), next_start, newest, stop})):
        output, current = run(a, b, current)
        if a >= newest:
            outputs.append(output)
        if b == next_start:
            next_state = _cut(current)
    value, gradients = run.loss_of(outputs, newest, stop)
    return (Window(value, _cut(current), stop - newest), gradients), next_state


# --- or run each step once, and keep its piece of the tape


@dataclass
class _Piece:
    """A stretch of steps with its own piece of tape, cut off at both ends."""

    start: int
    state_in: Any
    outputs: Tensor
    state_out: Any


def _retain(run: _Sequence, state: Any, copy_weights: bool) -> Iterator[tuple[Window, Gradients]]:
    """Each step is run once; the pieces of tape within reach are kept, and walked through again by later windows."""
    weights = [] if copy_weights else [(parameter, parameter.data.copy()) for parameter in run.model.parameters()]
    pieces: list[_Piece] = []
    for newest, stop in run.windows():
        pieces = [piece for piece in pieces if piece.start >= stop - run.k2]
        if pieces:
            _check_unchanged(weights)
        with _on_copies(run.model.parameters()) if copy_weights else nullcontext():
            for a, b in pairwise([newest, *run.later_starts(newest, stop), stop]):
                pieces.append(_Piece(a, state, *run(a, b, state)))
                state = map_nest(_as_leaf, pieces[-1].state_out)
        yield _backward(run, pieces, newest, stop)


def _backward(run: _Sequence, pieces: list[_Piece], newest: int, stop: int) -> tuple[Window, Gradients]:
    """Backward from the newest pieces' loss through all pieces, handing the state's cotangent from each to the last."""
    ends = {piece.start: _as_leaf(piece.outputs) for piece in pieces if piece.start >= newest}
    value, gradients = run.loss_of(list(ends.values()), newest, stop)
    from_later: list[tuple[Tensor, Any]] = []  # tensors of a piece's last state with their cotangents
    for before, piece in reversed(list(pairwise([None, *pieces]))):
        assert piece is not None
        roots = list(from_later)
        if piece.start in ends and ends[piece.start] in gradients:
            roots.append((piece.outputs, gradients.pop(ends[piece.start])))
        found = pull_back(
            [end for end, _ in roots],
            [Tensor(cotangent) for _, cotangent in roots],
            retain_graph=True,
            allow_stale=True,  # the tape holds copies, or the weights have not changed
        )
        from_later = []
        if piece.start:
            ends_before = leaves(piece.state_in if before is None else before.state_out)
            cut = list(zip(ends_before, leaves(piece.state_in), strict=True))
            from_later = [(end, found.pop(leaf)) for end, leaf in cut if leaf in found]
        for leaf, cotangent in found.items():
            gradients[leaf] = gradients[leaf] + cotangent if leaf in gradients else cotangent
    return Window(value, _cut(pieces[-1].state_out), stop - newest), gradients


@contextmanager
def _on_copies(parameters: Iterator[Parameter]) -> Iterator[None]:
    """Run on copies of the weights, so that the tape keeps them when the user writes into the weights' own arrays."""
    own = [(parameter, parameter.data, parameter.version) for parameter in parameters]
    try:
        for parameter, data, _ in own:
            parameter.data = data.copy()
        yield
    finally:
        for parameter, data, version in own:
            parameter.data, parameter.version = data, version


def _check_unchanged(weights: list[tuple[Parameter, Any]]) -> None:
    """Raise if a weight is not what it was; also one that was written into, which its version does not show."""
    for parameter, before in weights:
        now = parameter.data
        if bool(((now != before) & ((now == now) | (before == before))).any()):  # a NaN that stays is no change
            raise StaleParameterError(
                f"{parameter.name} has been updated since the steps within reach were run, so this window's gradient "
                "would mix old and new weights. Use stale='recompute' or stale='keep', or k2 = k1"
            )


# --- the model over its data


class _Sequence:
    """The data with the model that runs over it: any stretch of steps, with lengths and resets taken into account."""

    def __init__(
        self, model: Any, xs: Any, ys: Any, loss: Loss, reset: Any, lengths: Any, k1: int, k2: int, reduction: str
    ) -> None:
        _check_model(model)
        if not callable(loss):
            raise TypeError(f"loss must be a function of (outputs, targets), such as mg.loss('mse'); got {loss!r}")
        self.parameter = next(iter(model.parameters()), None)
        xs, ys = self._data("xs", xs), self._data("ys", ys)
        if xs.ndim < 2 or xs.shape[:2] != ys.shape[:2]:
            raise ValueError(f"xs and ys must both be (T, B, ...); they are {xs.shape} and {ys.shape}")
        self.model, self.xs, self.ys, self.loss = model, xs, ys, loss
        self.steps, self.batch = xs.shape[:2]
        self.k1, self.k2, self.reduction = k1, k2, reduction
        self.lengths = None if lengths is None else check_lengths(lengths, self.steps, self.batch)
        if lengths is not None and not _takes_lengths(model):
            raise TypeError(f"with lengths, the model must take them: {type(model).__name__}(x, state, lengths=...)")
        self.loss_takes_lengths = self.lengths is not None and _takes_lengths(loss)
        self.resets = {} if reset is None else self._resets(self._data("reset", reset))

    def _data(self, name: str, data: Any) -> Tensor:
        """Bare data as a tensor, on the backend of the model and, if it is floating, in its dtype."""
        made = as_tensor(data, like=self.parameter)
        if made.requires_grad and made.node is not None:
            raise ValueError(
                f"{name} has a history, which the first window would use up: pass {name}.detach(), or compute it in "
                "the model"
            )
        return made

    def _resets(self, reset: Tensor) -> dict[int, Any]:
        """For each step with a reset the mask (B,) of the sequences that it is for."""
        if reset.shape != self.xs.shape[:2] or reset.dtype.kind != "b":
            raise ValueError(
                f"reset must be booleans of shape (T, B) = {self.xs.shape[:2]}; it is {reset.dtype} {reset.shape}"
            )
        rows = reset.numpy()
        if self.lengths is not None:
            ends = tensor(self.lengths, dtype="int64").numpy()
            rows = [row & (t < ends) for t, row in enumerate(rows)]
        return {t: self.xs.backend.asarray(row) for t, row in enumerate(rows) if row.any()}

    def start(self, state: Any) -> Any:
        """The given state as leaves, or an error if it does not fit."""
        if state is None:
            return None
        state = map_nest(lambda leaf: leaf.detach() if getattr(leaf, "node", None) else leaf, state)
        if hasattr(self.model, "init_state"):
            return check_state(state, start_state(self.model, self.model, self.xs, self.batch))
        for leaf in leaves(state):
            if getattr(leaf, "shape", ())[:1] != (self.batch,):
                raise ValueError(
                    f"state must have the batch of xs, {self.batch}, as its first axis; it is {describe(state)}"
                )
        return map_nest(lambda leaf: as_tensor(leaf, like=self.parameter), state)

    def windows(self) -> Iterator[tuple[int, int]]:
        """The newest steps of each window."""
        return ((start, min(start + self.k1, self.steps)) for start in range(0, self.steps, self.k1))

    def later_starts(self, newest: int, stop: int) -> list[int]:
        """Where among the newest steps the reach of later windows will start: at e - k2, for ends e."""
        last = self.steps - self.k2
        return [s for s in range(newest + 1, stop) if (s + self.k2) % self.k1 == 0 or s == last]

    def __call__(self, start: int, stop: int, state: Any) -> tuple[Tensor, Any]:
        """Outputs of the steps start .. stop-1 and the state after them."""
        outputs = []
        inner = [t for t in range(start + 1, stop) if t in self.resets]
        for a, b in pairwise([start, *inner, stop]):
            if state is not None and a in self.resets:
                state = self._restarted(self.resets[a], state)
            output, state = self._run(a, b, state)
            outputs.append(output)
        return _joined(outputs), state

    def _restarted(self, mask: Any, state: Any) -> Any:
        """The state with the sequences in `mask` at the model's initial state."""
        if hasattr(self.model, "init_state"):
            fresh = start_state(self.model, self.model, self.xs, self.batch)
        else:
            fresh = self._run(0, 0, None)[1]

        def select(new: Tensor, old: Tensor) -> Tensor:
            return where(mask.reshape(mask.shape + (1,) * (new.ndim - 1)), new, old)

        return map_nest(select, fresh, state)

    def _run(self, start: int, stop: int, state: Any) -> tuple[Tensor, Any]:
        options = {} if self.lengths is None else {"lengths": self._lengths(start, stop)}
        result = self.model(self.xs[start:stop], state, **options)
        if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[0], Tensor):
            raise TypeError(
                f"model(x, state) must return (outputs, state), outputs a tensor; it returned {describe(result)}"
            )
        if result[0].shape[:1] != (stop - start,):
            raise ValueError(
                f"model must return an output for each of the {stop - start} steps it is given, (T, ...); "
                f"its outputs are {result[0].shape}"
            )
        return result

    def loss_of(self, outputs: list[Tensor], start: int, stop: int) -> tuple[Tensor, Gradients]:
        """The loss on the steps start .. stop-1, given their outputs, and its gradients, scaled by `reduction`."""
        options = {"lengths": self._lengths(start, stop)} if self.loss_takes_lengths else {}
        value = self.loss(_joined(outputs), self.ys[start:stop], **options)
        if not isinstance(value, Tensor) or value.size != 1:
            raise ValueError(f"loss must return a tensor of one element; it returned {describe(value)}")
        if not value.requires_grad:
            if self.lengths is None or start < max(self.lengths, default=0):
                value.backward()  # raises, and says why
            return value.detach(), {}
        scale = (stop - start) / self.k1 if self.reduction == "mean" else 1.0
        return value.detach(), pull_back([value], [Tensor(value.backend.xp.full_like(value.data, scale))])

    def _lengths(self, start: int, stop: int) -> list[int]:
        """How many of the steps start .. stop-1 count for each sequence."""
        assert self.lengths is not None
        return [min(max(length - start, 0), stop - start) for length in self.lengths]


def _check_model(model: Any) -> None:
    if isinstance(model, Cell):
        raise TypeError(f"model must run over time; wrap the cell: mg.Recurrent({type(model).__name__}(...))")
    if isinstance(model, type) or not callable(model) or not callable(getattr(model, "parameters", None)):
        raise TypeError(f"model must be a mg.Module, so that its gradients can be cleared; got {model!r}")
    if isinstance(model, Sequential):
        raise TypeError("model must carry a state: write a module with forward(self, x, state) -> (outputs, state)")
    for name, part in model.named_modules() if isinstance(model, Module) else ():
        if getattr(part, "batch_first", False):
            raise ValueError(f"model must be time first, as xs and ys are; {name or 'this one'} has batch_first=True")
        if isinstance(part, Recurrent) and part.reverse:
            raise ValueError(
                f"model must run forward in time; {name or 'this one'} runs backward, and a window has no future"
            )


def _takes_lengths(function: Any) -> bool:
    """Whether a function, or a module's forward, has an argument `lengths`."""
    try:
        parameters = inspect.signature(function.forward if isinstance(function, Module) else function).parameters
    except (TypeError, ValueError):  # some callables of C have no signature
        return False
    return "lengths" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _joined(outputs: list[Tensor]) -> Tensor:
    return outputs[0] if len(outputs) == 1 else concat(outputs)


def _as_leaf(value: Tensor) -> Tensor:
    """A tensor cut off from the tape, as a leaf that gathers a gradient if the tensor did."""
    return Tensor(value.data, requires_grad=value.requires_grad)


def _cut(state: Any) -> Any:
    """The state without its history, in memory of its own: it may be a view of a weight, which is about to change."""
    return map_nest(lambda leaf: Tensor(leaf.data.copy()), state)
