"""Truncated backpropagation through time: every k1 steps, the newest k1 losses, through the last k2 steps.

The definition is that of BPTT(h; h') in Williams and Peng (1990), with h = k2 and h' = k1. k1 = k2 is the usual
windowed form, k1 = 1 real-time truncation, k1 = k2 = T full backpropagation. The whole state is cut by one call, each
window owns its piece of the tape, and memory does not grow with T.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from minigrad.autograd import accumulate_grads, pull_back
from minigrad.backend import is_floating
from minigrad.nest import describe, detach, leaves, map_nest
from minigrad.ops import concat, where
from minigrad.recurrent import check_lengths
from minigrad.tensor import Tensor, tensor

__all__ = ["Window", "tbptt"]

Loss = Callable[..., Tensor]


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
    its gradient flows back through the steps max(0, e-k2) .. e-1 and no further. At each item the parameters' `.grad`
    holds this window's gradient alone; update them before asking for the next.

    Args:
        model: a module, `model(x, state) -> (outputs, state)` with x and outputs time first.
        xs: inputs (T, B, ...).
        ys: targets (T, B, ...).
        loss: `loss(outputs, targets)` to one element; if it has an argument `lengths`, it gets the window's.
        state: before the first step; by default the model's own. Gradients reach it only if it is a leaf.
        k1: an update every k1 steps.
        k2: how many steps back; at least k1, and k1 if left out.
        stale: what to do where k2 > k1 and the weights have been updated since a step was first run. `"recompute"`:
            run the last k2 steps again with today's weights, from the stored state (random masks are drawn anew).
            `"keep"`: keep the old steps with copies of the weights that they used. `"error"`: raise.
        reset: (T, B) booleans; where true, the sequence starts again from the initial state before this step.
        lengths: (B,) integers; the model then also gets `lengths=`, those that fall into the window.
        reduction: `"mean"`: the loss is a mean over steps, and a shorter last window is scaled by steps/k1, so that
            every step weighs the same; `"sum"`: the loss is used as it is.

    Returns:
        An iterator of `Window`s; none for T = 0.

    Raises:
        ValueError: an argument does not fit; before anything is run.
        StaleParameterError: with `stale="error"`, when the weights have changed.

    >>> model = mg.RNN(1, 4)
    >>> xs, ys = mg.ones((10, 2, 1)), mg.zeros((10, 2, 4))
    >>> [window.steps for window in mg.tbptt(model, xs, ys, mg.loss("mse"), k1=4, k2=6)]
    [4, 4, 2]

    Source: Williams and Peng 1990, section 3; k1 and k2 after Sutskever 2013, section 2.8.6.
    """
    run = _Sequence(model, _as_data(xs, model), _as_data(ys, model), loss, reset, lengths)
    k2 = k1 if k2 is None else k2
    for name, value in {"k1": k1, "k2": k2}.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is a number of steps, an integer of at least 1; got {value!r}")
    if k2 < k1:
        raise ValueError(f"k2 must be at least k1, so that every loss is counted; got k1={k1}, k2={k2}")
    if stale not in ("recompute", "keep", "error"):
        raise ValueError(f"stale is 'recompute', 'keep' or 'error', not {stale!r}")
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction is 'mean' or 'sum', not {reduction!r}")
    for leaf in leaves(state) if state is not None else ():
        if not hasattr(leaf, "shape") or leaf.shape[:1] != (run.batch,):
            raise ValueError(
                f"state must have the batch of xs, {run.batch}, as its first axis; it is {describe(state)}"
            )
    state = map_nest(lambda leaf: leaf.detach() if getattr(leaf, "node", None) else leaf, state)
    scales = (lambda steps: steps / k1) if reduction == "mean" else (lambda steps: 1.0)
    if stale == "recompute" or k1 == k2:
        return _recompute(run, state, k1, k2, scales)
    return _retain(run, state, k1, k2, scales, copy_weights=stale == "keep")


def _recompute(run: _Sequence, state: Any, k1: int, k2: int, scales: Callable[[int], float]) -> Iterator[Window]:
    """Each window runs its last k2 steps anew, from the state that the window before has stored."""
    for newest, stop in run.windows(k1):
        run.model.zero_grad()
        start = max(0, stop - k2)
        next_start = max(0, min(stop + k1, run.steps) - k2)
        next_state = current = state
        outputs = []
        for a, b in pairwise(sorted({start, max(start, next_start), newest, stop})):
            output, current = run(a, b, current)
            if a >= newest:
                outputs.append(output)
            if b == next_start:
                next_state = detach(current)
        value = run.loss_of(outputs, newest, stop)
        value.backward(scales(stop - newest))
        yield Window(value.detach(), detach(current), stop - newest)
        state = next_state


@dataclass
class _Piece:
    """A stretch of steps with its own piece of tape, cut off at both ends."""

    start: int
    state_in: Any
    outputs: Tensor
    state_out: Any


def _retain(
    run: _Sequence, state: Any, k1: int, k2: int, scales: Callable[[int], float], copy_weights: bool
) -> Iterator[Window]:
    """Each step is run once; the pieces of tape within reach are kept, and walked through again by later windows."""
    starts = {max(0, stop - k2) for _, stop in run.windows(k1)}
    pieces: list[_Piece] = []
    for newest, stop in run.windows(k1):
        run.model.zero_grad()
        for a, b in pairwise(sorted({newest, stop, *(s for s in starts if newest < s < stop)})):
            outputs, state_out = run(a, b, state)
            pieces.append(_Piece(a, state, outputs, state_out))
            state = map_nest(_as_leaf, state_out)
        if copy_weights:  # the tape holds the old arrays; whoever updates in place now writes into new ones
            for parameter in run.model.parameters():
                parameter.data = parameter.data.copy()
        pieces = [piece for piece in pieces if piece.start >= max(0, stop - k2)]
        value = _walk_pieces(run, pieces, newest, stop, scales(stop - newest), allow_stale=copy_weights)
        yield Window(value, detach(state), stop - newest)


def _walk_pieces(
    run: _Sequence, pieces: list[_Piece], newest: int, stop: int, scale: float, allow_stale: bool
) -> Tensor:
    """Backward from the newest pieces' loss through all pieces, handing the state's cotangent from each to the last."""
    ends = {piece.start: _as_leaf(piece.outputs) for piece in pieces if piece.start >= newest}
    value = run.loss_of([ends[start] for start in sorted(ends)], newest, stop)
    if not value.requires_grad:
        value.backward()  # raises, and says why
    gradients = pull_back([value], [Tensor(value.backend.xp.full_like(value.data, scale))])
    from_later: list[tuple[Tensor, Any]] = []  # tensors of a piece's last state with their cotangents
    for index in reversed(range(len(pieces))):
        piece = pieces[index]
        roots = list(from_later)
        if piece.start in ends and ends[piece.start] in gradients:
            roots.append((piece.outputs, gradients.pop(ends[piece.start])))
        found = pull_back(
            [tensor for tensor, _ in roots],
            [Tensor(cotangent) for _, cotangent in roots],
            retain_graph=True,
            allow_stale=allow_stale,
        )
        from_later = []
        if index:
            cut = zip(leaves(pieces[index - 1].state_out), leaves(piece.state_in), strict=True)
            from_later = [(before, found.pop(after)) for before, after in cut if after in found]
        elif piece.start:
            for leaf in leaves(piece.state_in):
                found.pop(leaf, None)
        for leaf, cotangent in found.items():
            gradients[leaf] = gradients[leaf] + cotangent if leaf in gradients else cotangent
    accumulate_grads(gradients)
    return value.detach()


class _Sequence:
    """The data with the model that runs over it: any stretch of steps, with lengths and resets taken into account."""

    def __init__(self, model: Any, xs: Tensor, ys: Tensor, loss: Loss, reset: Any, lengths: Any) -> None:
        if not callable(model) or not hasattr(model, "parameters") or not hasattr(model, "zero_grad"):
            raise TypeError(f"model must be a mg.Module, so that its gradients can be cleared; got {model!r}")
        if not callable(loss):
            raise TypeError(f"loss must be a function of (outputs, targets), such as mg.loss('mse'); got {loss!r}")
        if xs.ndim < 2 or xs.shape[:2] != ys.shape[:2]:
            raise ValueError(f"xs and ys must both be (T, B, ...); they are {xs.shape} and {ys.shape}")
        self.model, self.xs, self.ys, self.loss = model, xs, ys, loss
        self.steps, self.batch = xs.shape[:2]
        self.lengths = None if lengths is None else check_lengths(lengths, self.steps, self.batch)
        self.reset = None if reset is None else _as_data(reset, model)
        if self.reset is not None and (self.reset.shape != xs.shape[:2] or self.reset.dtype.kind != "b"):
            raise ValueError(
                f"reset must be booleans of shape (T, B) = {xs.shape[:2]}; it is {self.reset.dtype} {self.reset.shape}"
            )
        self.resets = [] if self.reset is None else [t for t, row in enumerate(self.reset.numpy()) if row.any()]
        self.loss_takes_lengths = self.lengths is not None and "lengths" in _arguments_of(loss)

    def windows(self, k1: int) -> Iterator[tuple[int, int]]:
        """The newest steps of each window."""
        return ((start, min(start + k1, self.steps)) for start in range(0, self.steps, k1))

    def __call__(self, start: int, stop: int, state: Any) -> tuple[Tensor, Any]:
        """Outputs of the steps start .. stop-1 and the state after them."""
        outputs = []
        inner = [t for t in self.resets if start < t < stop]
        for a, b in pairwise([start, *inner, stop]):
            if state is not None and a in self.resets:
                assert self.reset is not None
                fresh = self._run(0, 0, None)[1]
                mask = self.reset.data[a]
                state = map_nest(lambda new, old, mask=mask: _select(mask, new, old), fresh, state)
            output, state = self._run(a, b, state)
            outputs.append(output)
        return (outputs[0] if len(outputs) == 1 else concat(outputs)), state

    def _run(self, start: int, stop: int, state: Any) -> tuple[Tensor, Any]:
        options = {} if self.lengths is None else {"lengths": self._lengths(start, stop)}
        result = self.model(self.xs[start:stop], state, **options)
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError(f"model(x, state) must return (outputs, state); it returned {describe(result)}")
        return result

    def loss_of(self, outputs: list[Tensor], start: int, stop: int) -> Tensor:
        """The loss on the steps start .. stop-1, given their outputs."""
        options = {"lengths": self._lengths(start, stop)} if self.loss_takes_lengths else {}
        value = self.loss(outputs[0] if len(outputs) == 1 else concat(outputs), self.ys[start:stop], **options)
        if not isinstance(value, Tensor) or value.size != 1:
            raise ValueError(f"loss must return a tensor of one element; it returned {describe(value)}")
        return value

    def _lengths(self, start: int, stop: int) -> list[int]:
        """How many of the steps start .. stop-1 count for each sequence."""
        assert self.lengths is not None
        return [min(max(length - start, 0), stop - start) for length in self.lengths]


def _as_data(data: Any, model: Any) -> Tensor:
    """Bare data as a tensor, in the dtype of the model's parameters if it is floating."""
    if isinstance(data, Tensor):
        return data
    made = tensor(data)
    parameter = next(model.parameters(), None) if hasattr(model, "parameters") else None
    return made.astype(parameter.dtype) if parameter is not None and is_floating(made.dtype) else made


def _as_leaf(value: Any) -> Any:
    """A tensor cut off from the tape, as a leaf that gathers a gradient."""
    return Tensor(value.data, requires_grad=is_floating(value.dtype))


def _select(mask: Any, new: Tensor, old: Tensor) -> Tensor:
    return where(mask.reshape(mask.shape + (1,) * (new.ndim - 1)), new, old)


def _arguments_of(function: Callable[..., Any]) -> set[str]:
    try:
        return set(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # some callables of C have no signature
        return set()
