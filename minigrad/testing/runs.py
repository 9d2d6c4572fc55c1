"""Running what is checked: a subject makes it anew for each check, and a run gives all that it computes, by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

import minigrad as mg
from minigrad.backend import is_floating
from minigrad.nest import map_nest
from minigrad.testing.results import CheckError, Measured, NotApplicableError, worst

STEPS, BATCH, INPUT_SIZE, HIDDEN_SIZE = 4, 3, 3, 4
"""What the checks use unless they need something else: small, and all different."""

Arrays = dict[str, Any]
"""Host arrays by name: "outputs", "state 0" (a leaf of the last state), "gradient of x", "gradient of weight_ih"..."""


class Subject:
    """A cell to check, or a layer made of one.

    Args:
        factory: `factory(input_size, hidden_size)`, or `factory()`; makes a cell, or a layer.
        example: `example(generator, steps, batch)`, x (T, B, ...) as a host array; by default normal numbers.
        double_backward: whether gradients of gradients are promised.
        reference: see `check_cell`.
    """

    def __init__(
        self,
        factory: Callable[..., Any],
        example: Callable[..., Any] | None = None,
        double_backward: bool = True,
        reference: Callable[..., Any] | None = None,
    ) -> None:
        self.factory, self.example, self.double_backward, self.reference = factory, example, double_backward, reference
        self.takes_sizes = _takes_two(factory)

    def make(self, training: bool = False, seed: int = 0, dtype: str = "float64") -> Any:
        """A fresh one, with the weights of this seed, on the current backend."""
        mg.seed(seed)
        with mg.default_dtype(dtype):
            made = self.factory(INPUT_SIZE, HIDDEN_SIZE) if self.takes_sizes else self.factory()
        if not isinstance(made, mg.Cell | mg.RecurrentLayer):
            raise CheckError(f"the factory must return a minigrad.Cell (or a layer); it returned {type(made).__name__}")
        return made.train(training)

    def layer(self, training: bool = False, **options: Any) -> Any:
        """A fresh one as a layer; options are `Recurrent`'s."""
        made = self.make(training)
        return mg.Recurrent(made, **options) if isinstance(made, mg.Cell) else made

    def x(self, steps: int = STEPS, batch: int = BATCH, seed: int = 1, dtype: str = "float64") -> Any:
        """Inputs (T, B, ...) as a host array."""
        generator = np.random.default_rng(seed)
        if self.example is not None:
            array = np.asarray(self.example(generator, steps, batch))
            if array.shape[:2] != (steps, batch):
                raise CheckError(f"example must return an array of shape ({steps}, {batch}, ...); it is {array.shape}")
        else:
            size = input_size_of(self.make()) or INPUT_SIZE
            array = generator.normal(size=(steps, batch, size))
        return array.astype(dtype) if array.dtype.kind == "f" else array

    def state(self, layer: Any, batch: int = BATCH, dtype: str = "float64") -> Any:
        """A state that is not the initial one: that after two steps, as host arrays."""
        mg.seed(3)
        with mg.no_grad():
            _, last = layer(mg.as_tensor(self.x(2, batch, seed=2, dtype=dtype)))
        return map_nest(lambda leaf: leaf.numpy(), last)

    @property
    def is_random(self) -> bool:
        """Whether what it computes in training depends on the seed."""
        x = self.x()
        return _differ(*(run(self.layer(training=True), x, seed=seed, gradients=False) for seed in (5, 6)))


def _takes_two(factory: Callable[..., Any]) -> bool:
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):
        return True
    for arguments in ((3, 4), ()):
        try:
            signature.bind(*arguments)
        except TypeError:
            continue
        return bool(arguments)
    raise ValueError(f"factory must be callable as factory(input_size, hidden_size) or factory(); it is {signature}")


def input_size_of(made: Any) -> int | None:
    """The `input_size` of the outermost module that has one."""
    sizes = (getattr(module, "input_size", None) for _, module in made.named_modules())
    return next((size for size in sizes if isinstance(size, int)), None)


# --- one run


def run(
    layer: mg.Module,
    x: Any,
    state: Any = None,
    *,
    lengths: Sequence[int] | None = None,
    seed: int = 7,
    gradients: bool = True,
    engine: str | None = None,
    weights: Callable[[str, Any], Any] | None = None,
) -> Arrays:
    """Run a layer (or another module that takes x, state, lengths) forward and backward.

    Args:
        layer: what to run.
        x: host array (T, B, ...).
        state: host arrays, which get gradients too; by default the layer's own initial state.
        lengths: as for layers.
        seed: of the random numbers that are drawn.
        gradients: whether to go backward.
        engine: "plan" or "tape" instead of the layer's own.
        weights: a function of a result's name and array to the array that it is projected on, for a scalar to go
            backward from; by default fixed random numbers.

    Returns:
        Results and gradients on the host.
    """
    x = mg.as_tensor(x)
    x = mg.Tensor(x.data, gradients and is_floating(x.dtype))
    mg.seed(seed)
    if state is not None:
        state = map_nest(lambda leaf: _leaf(leaf, gradients), state)
    with by_engine(layer, engine):
        ys, last = layer(x, state) if lengths is None else layer(x, state, lengths=lengths)
    results = {"outputs": ys, **{f"state {n}": leaf for n, leaf in enumerate(by_key(last))}}
    found = {name: result.numpy() for name, result in results.items()}
    if gradients:
        project = weights or fixed
        total = mg.zeros((), dtype=str(ys.dtype))
        for name, result in results.items():
            if is_floating(result.dtype):
                g = mg.Tensor(result.backend.asarray(project(name, found[name]).astype(result.dtype)))
                total = total + (result * g).sum()
        reached = {"x": x, **dict(layer.named_parameters())}
        if state is not None:
            reached |= {f"the initial state {n}": leaf for n, leaf in enumerate(by_key(state))}
        for tensor in reached.values():
            tensor.grad = None
        if total.requires_grad:
            total.backward()
        for name, tensor in reached.items():
            if tensor.requires_grad:
                zeros = np.zeros(tensor.shape, str(tensor.dtype))
                found[f"gradient of {name}"] = zeros if tensor.grad is None else tensor.grad.numpy()
    return found


def _leaf(value: Any, gradients: bool) -> Any:
    data = mg.as_tensor(value)
    return mg.Tensor(data.data, gradients and is_floating(data.dtype))


def by_key(nest: Any) -> Iterator[Any]:
    """The leaves of a nest, those of a dict in the order of its keys: a step may return them in any."""
    if isinstance(nest, tuple | list | dict):
        for part in (nest[key] for key in sorted(nest, key=str)) if isinstance(nest, dict) else nest:
            yield from by_key(part)
    else:
        yield nest


@contextmanager
def by_engine(layer: Any, engine: str | None) -> Iterator[None]:
    """Let an engine run all `Recurrent`s in a layer."""
    if engine is None:
        yield
        return
    parts = [part for _, part in layer.named_modules() if isinstance(part, mg.Recurrent)]
    before = [part.engine for part in parts]
    try:
        for part in parts:
            part.engine = engine
        yield
    finally:
        for part, name in zip(parts, before, strict=True):
            part.engine = name


def fixed(name: str, array: Any) -> Any:
    """What a result is projected on: numbers that depend on its name, and in each sequence's column on its place."""
    return np.cos(np.arange(array.size, dtype=float).reshape(array.shape) * 0.7 + len(name))


# --- comparing


def compare(found: Arrays, wanted: Arrays, tolerance: float = 1e-9) -> Measured:
    """The largest difference over the largest value wanted, of all arrays.

    Raises:
        CheckError: names, shapes or dtypes differ.
    """
    if missing := [name for name in wanted if name not in found]:
        raise CheckError(f"missing: {', '.join(missing)}")
    parts = [Measured(0.0, tolerance)]
    for name, array in wanted.items():
        other = found[name]
        if other.shape != array.shape:
            raise CheckError(f"{name} has shape {other.shape}; it should be {array.shape}")
        if array.dtype.kind != other.dtype.kind:
            raise CheckError(f"{name} is {other.dtype}; it should be {array.dtype}")
        error = np.abs(other.astype("float64") - array).max(initial=0.0) / max(1.0, np.abs(array).max(initial=0.0))
        parts.append(Measured(float(error), tolerance, name))
    return worst(*parts)


def _differ(one: Arrays, two: Arrays) -> bool:
    return any(not np.array_equal(one[name], two[name]) for name in one)


def needs_randomness(subject: Subject) -> None:
    """Raise unless it draws random numbers in training."""
    if not subject.is_random:
        raise NotApplicableError("it draws no random numbers in training")
