"""How large the outputs of each part of a model are, step by step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from minigrad.backend import is_floating, load_backend
from minigrad.contract import Cell
from minigrad.diagnose.plotting import Path, new_figure, save
from minigrad.diagnose.runs import paths
from minigrad.module import Module
from minigrad.nest import leaves
from minigrad.recurrent import Recurrent
from minigrad.tape import Node, Tape, no_grad
from minigrad.tensor import Tensor

__all__ = ["ActivationNorms", "activation_norms"]


@dataclass(frozen=True)
class ActivationNorms:
    """What `activation_norms` measured. `print` shows a line for each part.

    Attributes:
        norms: for each part by its dotted name (the whole model by its type) a float64 NumPy array of norms: (T, B) for
            outputs (T, B, F), and for a cell or a part of it, which is called at each step. States of a cell are under
            its name with their place, such as `cell.state[0]`.
    """

    norms: dict[str, Any]

    def __str__(self) -> str:
        rows: list[tuple[str, ...]] = [("part", "mean", "first", "last", "max")]
        for name, norms in self.norms.items():
            if norms.size:
                values = (
                    (norms.mean(), norms[:1].mean(), norms[-1:].mean(), norms.max()) if norms.ndim else (norms,) * 4
                )
                rows.append((name, *(f"{float(value):.3g}" for value in values)))
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        lines = ("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows)
        return "\n".join(lines)

    def plot(self, path: Path) -> None:
        """Draw the norms over the steps, averaged over sequences. Needs matplotlib."""
        figure, ((axes,),) = new_figure(size=(9.0, 4.2))
        curves: dict[Any, tuple[list[str], Any]] = {}  # equal ones are one line: a layer's and its cell's outputs
        for name, norms in self.norms.items():
            if norms.ndim > 1 and norms.size:
                curve = norms.reshape(norms.shape[0], -1).mean(axis=1)
                curves.setdefault(tuple(curve.tolist()), ([], curve))[0].append(name)
        for names, curve in curves.values():
            axes.plot(curve, label="\n".join(names))
        axes.set(xlabel="step", ylabel="norm", title="norms of outputs and states")
        axes.grid(alpha=0.3)
        if axes.lines:
            figure.legend(loc="outside right upper", fontsize=8)
        save(figure, path)


def activation_norms(model: Module, *inputs: Any, **options: Any) -> ActivationNorms:
    """The Euclidean norms of what each part of a model gives, and of the states of its cells.

        norm = sqrt(sum_f y_f^2)                              (over the last axis of y; of a state all but the first)

    Norms that grow with the step show dynamics that explode, norms that shrink to 0 a signal that is lost; in a sum of
    parts of very different norms one drowns the others.

    Args:
        model: any module; a cell runs over time, as by `mg.Recurrent(cell)`.
        inputs, options: what it is called with, such as x (T, B, ...) and lengths.

    Returns:
        The norms by part, as `ActivationNorms`. A part that was called several times with one shape has a first axis
        more, one entry per call. Parts that give no floating-point tensor (first in a tuple, if they give one), and
        those that are not called, are left out.

    Raises:
        TypeError: the model is no module.

    The model runs on the tape, without gradients, in the mode it is in. Meanwhile no other thread may use it.

    >>> from minigrad.diagnose import activation_norms
    >>> model = mg.Stack(mg.Recurrent(mg.LSTMCell(3, 5)), mg.Recurrent(mg.GRUCell(5, 2)))
    >>> found = activation_norms(model, mg.ones((7, 4, 3)))
    >>> [name for name in found.norms if "state" not in name]
    ['Stack', 'layers.0', 'layers.0.cell', 'layers.1', 'layers.1.cell']
    >>> found.norms["layers.0.cell.state[1]"].shape
    (7, 4)

    Source: Krueger and Memisevic (2016), "Regularizing RNNs by stabilizing activations", on norms over time.
    """
    if not isinstance(model, Module):
        raise TypeError(f"model is a module; not {type(model).__name__}")
    found: dict[str, list[Any]] = {}
    with _watched(model, found), no_grad(), _Silent():
        (Recurrent(model, engine="tape") if isinstance(model, Cell) else model)(*inputs, **options)
    return ActivationNorms({name: _together(norms) for name, norms in found.items() if norms})


class _Silent(Tape):
    """A tape that keeps nothing: while there is one, each step of a cell runs by itself."""

    def note(self, node: Node, y: Any) -> None:
        """Forget it."""


@contextmanager
def _watched(model: Module, found: dict[str, list[Any]]) -> Iterator[None]:
    """A context in which each part of a model leaves the norms of what it gives under its name."""
    parts = [(name, part, "step" if isinstance(part, Cell) else "forward") for name, part in model.named_modules()]
    own = [{key: vars(part)[key] for key in (method,) if key in vars(part)} for _, part, method in parts]
    try:
        for name, part, method in parts:
            name = name or type(part).__name__
            found[name] = []
            watch = _watch_step if method == "step" else _watch_forward
            vars(part)[method] = watch(getattr(part, method), name, found)
        yield
    finally:
        for (_, part, method), before in zip(parts, own, strict=True):
            vars(part).pop(method, None)
            vars(part).update(before)


def _watch_forward(forward: Any, name: str, found: dict[str, list[Any]]) -> Any:
    def watched(*args: Any, **options: Any) -> Any:
        result = forward(*args, **options)
        _note(result[0] if isinstance(result, tuple) and result else result, found[name])
        return result

    return watched


def _watch_step(step: Any, name: str, found: dict[str, list[Any]]) -> Any:
    def watched(x: Tensor, state: Any) -> Any:
        y, new = result = step(x, state)
        _note(y, found[name])
        for path, leaf in zip(paths(new, f"{name}.state"), leaves(new), strict=True):
            _note(leaf, found.setdefault(path, []), flat=True)
        return result

    return watched


def _note(y: Any, norms: list[Any], flat: bool = False) -> None:
    """Add the norms of y, a tensor of floating-point numbers, to a list."""
    if isinstance(y, Tensor) and is_floating(y.dtype):
        values = abs(y.numpy().astype("float64"))
        if flat and values.ndim > 2:
            values = values.reshape(values.shape[0], -1)
        norms.append((values**2).sum(axis=-1) ** 0.5 if values.ndim > 1 else values)


def _together(norms: list[Any]) -> Any:
    """The norms of one call, or of several: stacked, or in a row if their shapes differ."""
    xp = load_backend("numpy").xp
    if len(norms) == 1:
        return norms[0]
    if len({found.shape for found in norms}) == 1:
        return xp.stack(norms)
    return xp.concatenate([found.ravel() for found in norms])
