"""A NaN or infinity in loss or gradients: which operation was the first to produce it.

The batch is run again under `mg.Tape`, with the same random numbers, and so operation by operation even where a plan
would run. From the loss one goes back, along values that are not finite, to an operation whose inputs all are. If the
forward is finite, the gradients are computed anew, and one goes from a parameter's gradient along gradients that are
not finite to the operation whose own cotangent is finite: its rule it was.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from typing import Any

from minigrad.autograd import grad
from minigrad.backend import by_type, is_floating
from minigrad.errors import MinigradError
from minigrad.tape import Node, Tape
from minigrad.tensor import Tensor
from minigrad.train.metrics import Outcome
from minigrad.train.modes import same_draws

__all__ = ["NonFiniteError", "find_origin", "kind_of", "listed"]


class NonFiniteError(MinigradError, FloatingPointError):
    """Loss, gradients, weights or a monitored metric are NaN or infinite; the message says where it began."""


def kind_of(value: Any) -> str:
    """Whether a number, array or tensor holds "nan" or "inf"; empty if it is finite, or no number."""
    if isinstance(value, Tensor):
        value = value.data
    if isinstance(value, float):
        return "nan" if math.isnan(value) else "inf" if math.isinf(value) else ""
    backend = by_type.get(type(value))
    if backend is None or not is_floating(value.dtype) or bool(backend.xp.isfinite(value).all()):
        return ""
    return "nan" if bool(backend.xp.isnan(value).any()) else "inf"


def listed(tensors: Iterable[tuple[str, Any]]) -> str:
    """Which of these named tensors are not finite, in words; empty if all are."""
    bad = [f"{name} ({kind})" for name, tensor in tensors if (kind := kind_of(tensor))]
    return ", ".join(bad[:3]) + (f" and {len(bad) - 3} more" if len(bad) > 3 else "")


def find_origin(model: Any, step: Any, batch: Any, draws: dict[str, Any]) -> str:
    """Run a batch again and say in words where the first NaN or infinity comes from.

    Args:
        model: with the weights that the batch was run with.
        step: the training step; if it leaves the gradients itself, its `whole` gives the loss with its history.
        batch: the batch.
        draws: the state of the random numbers before it was run.
    """
    tape = _Kept()
    with warnings.catch_warnings(), same_draws(draws):
        warnings.simplefilter("ignore")
        try:
            with tape:
                loss = Outcome.of(getattr(step, "whole", step)(model, batch), batch).loss
            return tape.forward(loss) or tape.backward(loss, model) or _NOT_AGAIN
        except Exception as error:  # what is said about the run matters more
            return f"Running the batch again on the tape failed: {type(error).__name__}: {error}"


_NOT_AGAIN = "Run again operation by operation, none gave a NaN or infinity: it came of rounding, or outside the tape"


class _Kept(Tape):
    """A tape that keeps the results of its nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.results: dict[Node, Any] = {}

    def note(self, node: Node, y: Any) -> None:
        super().note(node, y)
        self.results[node] = y

    def forward(self, loss: Tensor) -> str:
        """The operation from which the loss is not finite; empty if it is finite."""
        if not kind_of(loss):
            return ""
        bad = [node for node in self.nodes if kind_of(self.results[node])]
        if not bad:
            return ""
        chain = [loss.node if loss.node in self.results else bad[-1]]  # a loss without history comes of the last
        while sources := [s for s in map(_origin, chain[-1].inputs) if kind_of(self._value(s))]:
            kind = kind_of(self.results[chain[-1]])
            source = next((s for s in sources if kind_of(self._value(s)) == kind), sources[0])
            if not isinstance(source, Node):
                break
            chain.append(source)
        first, kind = chain[-1], kind_of(self.results[chain[-1]])
        if sources:
            text = f"{self._described(first)} has given {kind}, and its input is not finite already: look at the data"
        else:
            text = f"The first operation on the tape to give {kind} from finite inputs is {self._described(first)}"
        if kind != kind_of(loss):
            turned = next(node for node in reversed(chain) if kind_of(self.results[node]) == kind_of(loss))
            text += f"; the first to make {kind_of(loss)} of it is {self._described(turned)}"
        return text

    def backward(self, loss: Tensor, model: Any) -> str:
        """The operation whose gradient rule is the first not to give finite numbers; empty if there is none."""
        nodes = self._behind(loss)
        parameters = list(model.parameters())
        tensors = [Tensor(self.results[node], True, node) for node in nodes]
        if not nodes:
            return ""
        found = grad(loss, [*parameters, *tensors], create_graph=True)
        cotangents = dict(zip([*parameters, *nodes], found, strict=True))
        consumers: dict[Any, list[Node]] = {}
        for node in nodes:
            for value in node.inputs:
                if isinstance(value, Node | Tensor):
                    consumers.setdefault(value, []).append(node)
        source: Any = next((parameter for parameter in parameters if kind_of(cotangents[parameter])), None)
        while source is not None:
            kind = kind_of(cotangents[source])
            source = next((n for n in consumers.get(source, ()) if _gives(n, source, cotangents[n])), None)
            if source is not None and not kind_of(cotangents[source]):
                return f"The forward is finite; the first gradient that is {kind} is that of {self._described(source)}"
        return ""

    def _behind(self, loss: Tensor) -> list[Node]:
        """The nodes that the loss depends on, the newest first."""
        reached = {loss.node}
        for node in reversed(self.nodes):
            if node in reached:
                reached.update(source for source in node.inputs if isinstance(source, Node))
        return [node for node in reversed(self.nodes) if node in reached] if loss.requires_grad else []

    def _value(self, source: Any) -> Any:
        return self.results.get(source) if isinstance(source, Node) else source

    def _described(self, node: Node) -> str:
        number = self.nodes.index(node) + 1
        inputs = ", ".join(_ranged(self._value(_origin(source))) for source in node.inputs)
        return f"{node.op}, operation {number} of {len(self.nodes)}, on {inputs}"


def _origin(source: Any) -> Any:
    """The node that made an input, also one that needs no gradient; otherwise the leaf or constant itself."""
    return source.node if isinstance(source, Tensor) and source.node is not None else source


def _gives(node: Node, source: Any, cotangent: Tensor) -> bool:
    """Whether it is through this operation that the source's cotangent is not finite."""
    assert node.saved is not None
    for value, rule in zip(node.inputs, node.primitive.rules):  # noqa: B905  # rules may be an endless iterable
        if value is source and rule is not None and kind_of(rule(cotangent.data, *node.saved, **node.attrs)):
            return True
    return False


def _ranged(value: Any) -> str:
    """A value; if it is an array its shape and the range of its elements."""
    data = value.data if isinstance(value, Tensor) else value
    if not getattr(data, "shape", ()) or not data.size or data.dtype.kind not in "fiu":
        return str(getattr(data, "shape", "")) or str(data) if getattr(data, "shape", ()) else str(data)
    return f"{data.shape} in [{data.min().item():.3g}, {data.max().item():.3g}]"
