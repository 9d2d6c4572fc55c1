"""Long sequences for truncated backpropagation through time: window after window, with the state carried along."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from numbers import Integral
from typing import Any

from minigrad.bptt import tbptt
from minigrad.lengths import check_lengths
from minigrad.module import Module
from minigrad.nest import map_nest
from minigrad.ops import concat
from minigrad.tensor import Tensor, as_tensor
from minigrad.train.batches import check_same_data

__all__ = ["Streams", "Stretch", "Truncated"]


@dataclass
class Stretch:
    """One window of the streams, with the steps before it that its gradient flows back through.

    Attributes:
        x, y: inputs and targets, (T, B, ...).
        newest: how many steps at the end are the window; the loss is on them alone.
        weight: what the window's mean loss counts in the update: newest / k1.
        next_start: where, counted from the first step, the next stretch begins.
        lengths: how many of the T steps count for each of the B sequences; None if all do.
        state: the state before the first step; None at the start of an epoch.
        next_state: to be set by the training step: the state before `next_start`, without history.
    """

    x: Tensor
    y: Tensor
    newest: int
    weight: float
    next_start: int
    lengths: list[int] | None = None
    state: Any = None
    next_state: Any = None

    @property
    def newest_lengths(self) -> list[int] | None:
        """How many of the window's own steps count for each sequence; None if all do."""
        return None if self.lengths is None else _within(self.lengths, len(self.x) - self.newest, len(self.x))

    @property
    def size(self) -> int:
        """How many examples the window holds: its steps times the streams, padding apart."""
        lengths = self.newest_lengths
        return self.newest * self.x.shape[1] if lengths is None else sum(lengths)


class Streams:
    """B long sequences side by side, for `Truncated`; an epoch reads them once, from a fresh state.

    Args:
        xs: inputs (T, B, ...).
        ys: targets (T, B, ...).
        k1: an update every k1 steps.
        k2: how many steps back the gradient flows, at least k1; k1 if left out.
        lengths: (B,) integers, if the sequences end at different steps: model and loss then also get `lengths=`, those
            within the window, and an epoch ends with the longest sequence.

    One long sequence becomes B streams so:

    >>> from minigrad.train import Streams
    >>> text, B = mg.arange(13), 3
    >>> steps = (len(text) - 1) // B
    >>> xs, ys = (text[first : first + B * steps].reshape(B, steps).T for first in (0, 1))
    >>> data = Streams(xs, ys, k1=2)
    >>> for window in data.batches(epoch=0):
    ...     print(window.x.numpy().tolist())
    [[0, 4, 8], [1, 5, 9]]
    [[2, 6, 10], [3, 7, 11]]
    """

    def __init__(self, xs: Any, ys: Any, k1: int, k2: int | None = None, lengths: Any = None) -> None:
        self.xs, self.ys = as_tensor(xs), as_tensor(ys)
        if self.xs.ndim < 2 or self.xs.shape[:2] != self.ys.shape[:2] or not all(self.xs.shape[:2]):
            raise ValueError(
                f"xs and ys must both be (T, B, ...), with at least one step and one sequence; they are "
                f"{self.xs.shape} and {self.ys.shape}"
            )
        k2 = k1 if k2 is None else k2
        for name, value, least in (("k1", k1, 1), ("k2", k2, k1)):
            if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
                raise ValueError(f"{name} is a number of steps, an integer of at least {least}; got {value!r}")
        self.lengths = None if lengths is None else check_lengths(lengths, *self.xs.shape[:2])
        if self.lengths is not None and not any(self.lengths):
            raise ValueError("lengths are all 0, so that there is nothing to train on")
        self.k1, self.k2 = int(k1), int(k2)
        self.steps = self.xs.shape[0] if self.lengths is None else max(self.lengths)
        self._digest = ""

    def __len__(self) -> int:
        """Windows per epoch."""
        return -(-self.steps // self.k1)

    def batches(self, epoch: int | None = None, start: int = 0, state: Any = None) -> Iterator[Stretch]:
        """The windows of any epoch, from number `start`, which begins with `state`."""
        for number in range(start, len(self)):
            newest = number * self.k1
            stop = min(newest + self.k1, self.steps)
            first = max(0, stop - self.k2)
            next_first = max(0, min(stop + self.k1, self.steps) - self.k2)
            x, y = self.xs[first:stop], self.ys[first:stop]
            lengths = None if self.lengths is None else _within(self.lengths, first, stop)
            stretch = Stretch(x, y, stop - newest, (stop - newest) / self.k1, next_first - first, lengths, state)
            yield stretch
            state = stretch.next_state

    # --- in and out

    def state_dict(self) -> dict[str, Any]:
        """A fingerprint of the data. The carried state is the trainer's to keep."""
        if not self._digest:
            arrays = (self.xs.numpy(), self.ys.numpy())
            lengths = "" if self.lengths is None else str(self.lengths)
            data = b"".join(f"{a.dtype} {a.shape}".encode() + a.tobytes() for a in arrays)
            self._digest = sha256(data + lengths.encode()).hexdigest()
        return {"kind": type(self).__name__, "k1": self.k1, "k2": self.k2, "sha256": self._digest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Check that the data is the same.

        Raises:
            ValueError: it is not.
        """
        check_same_data(self.state_dict(), state)


class Truncated:
    """The training step for `Streams`: `mg.tbptt` on each window, and the state carried to the next.

    With loss L of the window's steps alone and the state s before its reach, the gradient is that of L(s; weights)
    where s is a constant: it flows through the last k2 steps and no further. Steps that are within reach again are run
    again with today's weights (`stale="recompute"`).

    Args:
        loss: `loss(outputs, targets)`, a mean over steps and streams; or a pair of it and a dict of metrics. If the
            streams have lengths, `loss(outputs, targets, lengths=...)`.

    >>> from minigrad.train import Streams, Trainer, Truncated
    >>> model = mg.RNN(1, 4)
    >>> trainer = Trainer(model, mg.optimizer("adam", model.parameters(), lr=0.01), Truncated(mg.loss("mse")))
    >>> history = trainer.fit(Streams(mg.ones((10, 2, 1)), mg.zeros((10, 2, 4)), k1=4, k2=6), epochs=3)
    >>> history["train_loss"][2] < history["train_loss"][0]
    True

    Source: Williams and Peng 1990, section 3; see `mg.tbptt`.
    """

    def __init__(self, loss: Callable[..., Any]) -> None:
        if not callable(loss):
            raise TypeError(f"loss must be a function of (outputs, targets), such as mg.loss('mse'); got {loss!r}")
        self.loss = loss

    def __call__(self, model: Any, batch: Stretch) -> Any:
        """Train on one window; out of training, only compute."""
        if not isinstance(batch, Stretch):
            raise TypeError(f"Truncated takes windows of Streams; got a {type(batch).__name__}")
        if not model.training:
            return self.whole(model, batch)
        run = _Stopping(model, batch) if len(batch.x) > batch.newest or batch.next_start < len(batch.x) else model
        found: dict[str, Any] = {}

        def newest(outputs: Tensor, targets: Tensor) -> Tensor:
            loss, found["metrics"] = self._loss(outputs, targets, batch)
            found["loss"] = loss.detach()
            return loss if batch.weight == 1 else loss * batch.weight

        k1, lengths = len(batch.x), batch.lengths
        windows = tbptt(run, batch.x, batch.y, newest, batch.state, k1=k1, lengths=lengths, reduction="sum")
        (window,) = windows
        batch.next_state = run.next_state if isinstance(run, _Stopping) else window.state
        return found["loss"], found["metrics"]

    def whole(self, model: Any, batch: Stretch) -> Any:
        """The same loss in one piece, with its history."""
        run = _Stopping(model, batch)
        outputs, _ = run(batch.x, batch.state, batch.lengths)
        batch.next_state = run.next_state
        return self._loss(outputs, batch.y, batch)

    def _loss(self, outputs: Tensor, targets: Tensor, batch: Stretch) -> tuple[Tensor, dict[str, Any]]:
        """The loss on the newest steps, and metrics."""
        if len(targets) > batch.newest:
            outputs, targets = outputs[-batch.newest :], targets[-batch.newest :]
        options = {} if batch.lengths is None else {"lengths": batch.newest_lengths}
        result = self.loss(outputs, targets, **options)
        return result if isinstance(result, tuple) else (result, {})


class _Stopping(Module):
    """A model that stops on its way, to leave the state before the next stretch, and where the newest steps begin.

    Attributes:
        next_state: the state before the next stretch, once the model has run.
    """

    def __init__(self, model: Any, batch: Stretch) -> None:
        self.model = model
        self.stops = sorted({0, batch.next_start, len(batch.x) - batch.newest, len(batch.x)})
        self.newest, self.next_start = len(batch.x) - batch.newest, batch.next_start
        self.next_state: Any = None

    def forward(self, x: Tensor, state: Any = None, lengths: list[int] | None = None) -> tuple[Tensor, Any]:
        outputs = []
        for first, stop in pairwise(self.stops):
            options = {} if lengths is None else {"lengths": _within(lengths, first, stop)}
            ys, state = self.model(x[first:stop], state, **options)
            outputs.append(ys if first >= self.newest else ys.detach())
            if stop == self.next_start:
                self.next_state = map_nest(lambda leaf: Tensor(leaf.data.copy()), state)
        return outputs[0] if len(outputs) == 1 else concat(outputs), state


def _within(lengths: list[int], first: int, stop: int) -> list[int]:
    """How many of the steps first .. stop-1 count for each sequence."""
    return [min(max(length - first, 0), stop - first) for length in lengths]
