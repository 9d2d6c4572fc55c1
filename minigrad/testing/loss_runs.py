"""Running a loss that is checked: on the subject's example, or on what a check makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

import minigrad as mg
from minigrad.testing.expect import EXACT, difference
from minigrad.testing.results import CheckError, Measured, NotApplicableError, worst

Example = Callable[[np.random.Generator], tuple[Any, Any]]


@dataclass(frozen=True)
class Data:
    """Outputs (T, B, ...) and targets on the host.

    Attributes:
        axes: for each part of the targets how many of its first axes are those of (T, B): 2, 0, or, of targets of whole
            sequences, 1 for (B,).
    """

    outputs: Any
    targets: Any
    axes: tuple[int, ...]

    @property
    def parts(self) -> tuple[Any, ...]:
        """The targets, or those in the tuple."""
        return self.targets if isinstance(self.targets, tuple) else (self.targets,)

    @property
    def per_step(self) -> bool:
        """Whether each step has a target of its own."""
        return 2 in self.axes

    @property
    def elementwise(self) -> bool:
        """Whether each number of the outputs has a target of its own."""
        return not isinstance(self.targets, tuple) and self.targets.shape == self.outputs.shape

    def map(self, change: Callable[[Any, int], Any]) -> Data:
        """With `change(array, axes)` in the place of the outputs, and of each part of the targets."""
        parts = tuple(change(part, axes) for part, axes in zip(self.parts, self.axes, strict=True))
        return Data(change(self.outputs, 2), parts if isinstance(self.targets, tuple) else parts[0], self.axes)

    def take(self, steps: Any = slice(None), batch: Any = slice(None)) -> Data:
        """Some steps of some sequences: slices, or lists of indices."""

        def change(array: Any, axes: int) -> Any:
            return array if not axes else array[batch] if axes == 1 else array[steps][:, batch]

        return self.map(change)

    def filled(self, padding: Any, value: float, index: int) -> Data:
        """With a value (or in integers an index) wherever `padding` (T, B) is true."""

        def change(array: Any, axes: int) -> Any:
            if axes < 2 or array.dtype.kind not in "fi":
                return array
            array = array.copy()
            array[padding] = value if array.dtype.kind == "f" else np.clip(index, *_limits(array.dtype))
            return array

        return self.map(change)

    def with_outputs(self, outputs: Any) -> Data:
        return replace(self, outputs=outputs)


def _limits(dtype: Any) -> tuple[int, int]:
    return np.iinfo(dtype).min, np.iinfo(dtype).max


class Subject:
    """A loss to check: its factory, and the example to check it on."""

    def __init__(self, factory: Callable[..., Any], example: Example) -> None:
        self.factory, self.example = factory, example

    @cached_property
    def data(self) -> Data:
        """The example, checked."""
        found = self.example(np.random.default_rng(1234))
        if not isinstance(found, tuple) or len(found) != 2:
            raise CheckError("example(generator) must return a pair of host arrays: (outputs, targets)")
        outputs = np.array(found[0], dtype="float64")
        if outputs.ndim < 2 or min(outputs.shape[:2]) < 2:
            raise CheckError(f"example's outputs must be (T, B, ...), T and B at least 2; they are {outputs.shape}")
        targets = tuple(map(np.array, found[1])) if isinstance(found[1], tuple) else np.array(found[1])
        parts = targets if isinstance(targets, tuple) else (targets,)
        axes = [2 if p.shape[:2] == outputs.shape[:2] else int(p.shape[:1] == outputs.shape[1:2]) for p in parts]
        return Data(outputs, targets, tuple(axes))

    def loss(self, **options: Any) -> Any:
        """The loss with these options."""
        made = self.factory(**options)
        if not callable(made):
            raise CheckError(f"the factory must return a function loss(outputs, targets, lengths=None), not {made!r}")
        return made

    def reduced(self, reduction: str) -> Any:
        """The loss with this reduction, if it can be chosen."""
        try:
            return self.loss(reduction=reduction)
        except TypeError as error:
            raise NotApplicableError(f"the loss has no option `reduction` ({error})") from None

    @cached_property
    def lengths(self) -> list[int]:
        """A full sequence, one of a single step, an empty one, and so on.

        If targets belong to whole sequences, each has as many steps as it needs to have a finite loss.
        """
        steps, batch = self.data.outputs.shape[:2]
        wanted = [(steps, 1, 0, steps - 1)[n % 4] for n in range(batch)]
        if self.data.per_step:
            return wanted
        return [self._enough(b, max(1, length), steps) for b, length in enumerate(wanted)]

    def _enough(self, b: int, least: int, steps: int) -> int:
        loss = self.loss()
        sizes = range(least, steps)
        alone = ((n, self.data.take(slice(n), slice(b, b + 1))) for n in sizes)
        return next((n for n, data in alone if np.isfinite(run(loss, data).value).all()), steps)


@dataclass(frozen=True)
class Run:
    """What a loss gave: its value and the gradient of the outputs, on the host."""

    value: Any
    gradient: Any


def run(loss: Any, data: Data, lengths: Any = None, *, dtype: str = "float64", backend: str = "numpy") -> Run:
    """The loss of some data, and its gradient: that of the sum, if it is not reduced."""
    with mg.use_backend(backend):
        outputs, targets = tensors(data, dtype)
    return run_tensors(loss, outputs, targets, lengths)


def run_tensors(loss: Any, outputs: mg.Tensor, targets: Any, lengths: Any = None) -> Run:
    value = loss(outputs, targets) if lengths is None else loss(outputs, targets, lengths=lengths)
    if not isinstance(value, mg.Tensor):
        kind = type(value).__name__
        raise CheckError(f"the loss must be a tensor; of outputs {outputs.shape} it is a {kind}: {value!r:.60}")
    if value.requires_grad:
        value.backward(mg.ones_like(value))
    gradient = outputs.grad
    if gradient is None:
        return Run(value.numpy(), np.zeros(outputs.shape, str(outputs.dtype)))
    return Run(value.numpy(), gradient.numpy())


def tensors(data: Data, dtype: str) -> tuple[mg.Tensor, Any]:
    """Outputs that need a gradient, and targets; all floats of this dtype."""
    parts = tuple(mg.tensor(p, dtype=dtype) if p.dtype.kind == "f" else mg.tensor(p) for p in data.parts)
    outputs = mg.tensor(data.outputs, requires_grad=True, dtype=dtype)
    return outputs, parts if isinstance(data.targets, tuple) else parts[0]


def same(where: str, found: Run, wanted: Run, tolerance: float = EXACT, gradient: Any = ...) -> Measured:
    """The larger difference of values and of gradients; `gradient` is an index of those that are compared."""
    return worst(
        difference(f"the loss {where}", found.value, wanted.value, tolerance),
        difference(f"the gradient {where}", found.gradient[gradient], wanted.gradient[gradient], tolerance),
    )


def must_be_zero(where: str, gradient: Any) -> None:
    """Raise unless a part of the gradient, which the message calls `where`, is exactly 0."""
    if (wrong := gradient[~(gradient == 0)]).size:
        raise CheckError(
            f"the gradient {where} must be exactly 0; {wrong.size} numbers are not, such as {wrong[0]:.3g}"
        )


def must_be_finite(where: str, found: Run) -> None:
    for what, array in (("loss", found.value), ("gradient", found.gradient)):
        if not np.isfinite(array).all():
            wrong = np.asarray(array)[~np.isfinite(array)]
            raise CheckError(f"the {what} {where} is not finite: {wrong[0]}")
