"""How often gates are shut or wide open, and tanh units at their limits, where hardly any gradient passes."""

from __future__ import annotations

import inspect
import linecache
import sys
from dataclasses import dataclass
from math import ceil, sqrt
from numbers import Real
from types import FrameType
from typing import Any

from minigrad.contract import Cell, start_state
from minigrad.diagnose.plotting import Path, new_figure, save
from minigrad.diagnose.runs import stepwise
from minigrad.ops import flip
from minigrad.recurrent import Recurrent, swap_axes
from minigrad.tape import Node, Tape, no_grad
from minigrad.tensor import Tensor, as_tensor

__all__ = ["Activation", "GateSaturation", "gate_saturation"]


@dataclass(frozen=True)
class Activation:
    """One sigmoid or tanh of a cell's step.

    Attributes:
        op: "sigmoid" or "tanh".
        name: where it is in the step: the expression in the source, such as `sigmoid(f)`, or its number if there is no
            source. Of several with one name the later ones are numbered.
        low, high: float64 NumPy arrays, for each unit the fraction of steps and sequences at which it was saturated at
            the lower and at the upper end.
    """

    op: str
    name: str
    low: Any
    high: Any

    @property
    def saturated(self) -> float:
        """The fraction over all units, at either end."""
        return float((self.low + self.high).mean()) if self.low.size else 0.0


@dataclass(frozen=True)
class GateSaturation:
    """What `gate_saturation` counted. `print` shows a line for each activation.

    Attributes:
        activations: in the order in which the step computes them.
        threshold: how near to its limit an activation counts as saturated.
    """

    activations: list[Activation]
    threshold: float

    def __str__(self) -> str:
        rows = [("activation", "low", "high")]
        rows += [(a.name, f"{_mean(a.low):.1%}", f"{_mean(a.high):.1%}") for a in self.activations]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        return "\n".join(f"{name:<{widths[0]}}  {a:>{widths[1]}}  {b:>{widths[2]}}" for name, a, b in rows)

    def plot(self, path: Path) -> None:
        """For each activation draw a point per unit, by the fractions at both ends. Needs matplotlib."""
        if not self.activations:
            raise ValueError("there is nothing to draw: the step computes no sigmoid and no tanh")
        columns = ceil(sqrt(len(self.activations)))
        rows = ceil(len(self.activations) / columns)
        figure, grid = new_figure(columns, rows, (2.6 * columns + 0.6, 2.6 * rows + 0.4))
        for axes, activation in zip(grid.flat, self.activations, strict=False):
            axes.scatter(activation.high.ravel(), activation.low.ravel(), s=14, alpha=0.5)
            axes.plot([0, 1], [1, 0], color="gray", linewidth=0.8, linestyle="--")
            axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel="saturated high", ylabel="saturated low")
            axes.set_title(activation.name.replace("$", r"\$"), fontsize=9)
        for axes in grid.flat[len(self.activations) :]:
            axes.set_axis_off()
        save(figure, path)


def gate_saturation(model: Any, x: Any, state: Any = None, threshold: float = 0.05) -> GateSaturation:
    """How often each sigmoid and tanh of a cell is saturated over a sequence.

        sigmoid   low: y < threshold           high: y > 1 - threshold
        tanh      low: y < -(1 - threshold)    high: y > 1 - threshold

    A forget gate that is always high keeps everything, an input gate that is always low takes nothing in, and neither
    learns: hardly any gradient passes through a saturated activation to what it was computed from. The operations are
    found by recording each step, so this works for any cell.

    Args:
        model: a cell, or a `Recurrent` around one.
        x: inputs (T, B, ...), or (B, T, ...) if the model has batch_first; T at least 1.
        state: before the first step; by default the model's own.
        threshold: in (0, 0.5).

    Returns:
        The fractions by activation and unit, as `GateSaturation`. An activation of shape (B, ...) has units (...).

    Raises:
        ValueError: threshold, x or the state does not fit.
        TypeError: the model is neither a cell nor a `Recurrent`.

    >>> from minigrad.diagnose import gate_saturation
    >>> cell = mg.LSTMCell(3, 5, forget_bias=8.0)
    >>> print(gate_saturation(cell, mg.zeros((2, 4, 3))))
    activation   low    high
    sigmoid(f)  0.0%  100.0%
    sigmoid(i)  0.0%    0.0%
    tanh(g)     0.0%    0.0%
    sigmoid(o)  0.0%    0.0%
    tanh(c)     0.0%    0.0%

    Source: Karpathy et al. (2015), "Visualizing and understanding recurrent networks", on gates; their thresholds are
    0.1 and 0.9.
    """
    if isinstance(threshold, bool) or not isinstance(threshold, Real) or not 0 < threshold < 0.5:
        raise ValueError(f"threshold is a number above 0 and below 0.5; got {threshold!r}")
    if isinstance(model, Recurrent):
        model, x, state = _unwrapped(model, x, state)
    elif not isinstance(model, Cell):
        raise TypeError(
            f"model is a cell, or a Recurrent around one; not {type(model).__name__}. Of a model with several layers "
            "pass one at a time, with its own inputs"
        )
    step, x, state = stepwise(model, x, state)
    counts: dict[Any, _Count] = {}
    with no_grad():
        for t in range(x.shape[0]):
            with _Watch() as watch:
                _, state = step(x[t], state)
            for key, op, name, y in watch.seen:
                counts.setdefault(key, _Count(op, name)).add(y, x.shape[1], float(threshold))
    names: dict[str, int] = {}
    activations = []
    for count in counts.values():
        names[count.name] = number = names.get(count.name, 0) + 1
        name = count.name if number == 1 else f"{count.name} ({number})"
        activations.append(Activation(count.op, name, *count.fractions()))
    return GateSaturation(activations, float(threshold))


def _unwrapped(layer: Recurrent, x: Any, state: Any) -> tuple[Any, Any, Any]:
    """A layer's cell, with its inputs in the order in which the cell gets them, and its state."""
    x = as_tensor(x, like=layer.first_parameter())
    x = swap_axes(x) if layer.batch_first and x.ndim > 1 else x
    if state is None and x.ndim > 1:
        state = start_state(layer, layer, x, x.shape[1])
    return layer.cell, flip(x, 0) if layer.reverse and x.ndim else x, state


class _Watch(Tape):
    """A tape that keeps what sigmoid and tanh give, and where in the source they are called.

    Attributes:
        seen: for each of them a key that is the same at each step, the operation, a name, and the array.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Any, str, str, Any]] = []
        self.times: dict[Any, int] = {}

    def note(self, node: Node, y: Any) -> None:
        if node.op in ("sigmoid", "tanh"):
            place, name = _place(node.op, len(self.seen) + 1)
            self.times[place] = nth = self.times.get(place, 0) + 1
            self.seen.append(((place, nth), node.op, name, y))


@dataclass
class _Count:
    """How often an activation was saturated."""

    op: str
    name: str
    low: Any = 0
    high: Any = 0
    total: int = 0

    def add(self, y: Any, batch: int, threshold: float) -> None:
        top = 1 - threshold
        low, high = y < (threshold if self.op == "sigmoid" else -top), y > top
        by_unit = len(y.shape) > 1 and y.shape[0] == batch
        self.low = self.low + (low.sum(axis=0) if by_unit else low * 1)
        self.high = self.high + (high.sum(axis=0) if by_unit else high * 1)
        self.total += batch if by_unit else 1

    def fractions(self) -> tuple[Any, Any]:
        low, high = (Tensor(count).numpy().astype("float64") for count in (self.low, self.high))
        return low / max(self.total, 1), high / max(self.total, 1)


def _mean(fractions: Any) -> float:
    return float(fractions.mean()) if fractions.size else 0.0


# --- where in the source


LONGEST = 60
"""Characters of an expression that are shown."""


def _place(op: str, number: int) -> tuple[Any, str]:
    """Where the operation that is being recorded was called, as a key, and as an expression for people."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_globals.get("__name__") == "minigrad.primitive":
        frame = frame.f_back
    positions = inspect.getframeinfo(frame, context=0).positions if frame is not None else None
    if frame is None or positions is None:
        return number, f"{op} {number}"
    key = (frame.f_code.co_filename, tuple(positions))
    return key, _expression(frame, *tuple(positions)) or f"{op} {number}"


def _expression(frame: FrameType, line: Any, last_line: Any, start: Any, end: Any) -> str:
    """The source between two positions on one line, or ''. Columns count bytes."""
    if None in (line, last_line, start, end):
        return ""
    lines = [
        linecache.getline(frame.f_code.co_filename, n, frame.f_globals).encode() for n in range(line, last_line + 1)
    ]
    lines[-1] = lines[-1][:end]
    lines[0] = lines[0][start:]
    text = " ".join(b"".join(lines).decode(errors="replace").split())
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
