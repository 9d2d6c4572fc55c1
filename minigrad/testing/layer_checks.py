"""Checks of anything that runs over whole sequences: a cell in `Recurrent`, or a layer."""

from __future__ import annotations

import re
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

import minigrad as mg
from minigrad.autograd import grad
from minigrad.backend import is_floating
from minigrad.nest import leaves, map_nest
from minigrad.testing.gradients import gradient_errors
from minigrad.testing.place_checks import EXACT, LENGTHS, in_dtype, on_backend
from minigrad.testing.results import Check, CheckError, Measured, NotApplicableError, worst
from minigrad.testing.runs import (
    BATCH,
    STEPS,
    Subject,
    by_engine,
    by_key,
    compare,
    fixed,
    input_size_of,
    needs_randomness,
    run,
)

__all__ = ["LAYER_CHECKS"]

STEP = 1e-7
"""Of differences between gradients: small, so that they seldom step over the kink of a relu."""

# --- gradients


def gradients(subject: Subject) -> Measured:
    """Of x, the state and every parameter, through all steps, against differences, with lengths, and from the start."""
    return worst(*(part for training in _modes(subject) for part in _gradient_errors(subject, training)))


def gradients_with_random_masks(subject: Subject) -> Measured:
    """The same in training, with each run's random numbers those of one seed."""
    needs_randomness(subject)
    return worst(*_gradient_errors(subject, training=True))


def _modes(subject: Subject) -> tuple[bool, ...]:
    """Out of training; and in training too, unless that is random."""
    return (False,) if subject.is_random else (False, True)


def gradients_of_gradients(subject: Subject) -> Measured:
    """Gradients of gradients, along random directions in x, state and parameters, against differences."""
    if not subject.double_backward:
        raise NotApplicableError("gradients of gradients are not promised (double_backward=False)")
    layer = subject.layer(training=True)
    function, tensors = _as_function(subject, layer, None)
    wanted = [x for x in tensors if x.requires_grad] + _trained(layer)
    bases = [x.data for x in wanted]
    first = [np.cos(np.arange(x.size, dtype=float)).reshape(x.shape) for x in wanted]

    def projected() -> Any:
        """The gradients of the results, along `first`."""
        output = function(*tensors)
        found = grad(output, wanted, fixed("results", output.numpy()), create_graph=True)
        return mg.sum(mg.stack([(g * mg.as_tensor(w, like=g)).sum() for g, w in zip(found, first, strict=True)]))

    start = projected()
    second = grad(start, wanted) if start.requires_grad else [mg.zeros_like(x) for x in wanted]  # it is linear
    generator = np.random.default_rng(23)
    parts = []
    for _ in range(4):
        direction = [generator.normal(size=x.shape) for x in wanted]
        sides = []
        for step in (STEP, -STEP):
            for x, base, d in zip(wanted, bases, direction, strict=True):
                x.data = base + step * x.backend.asarray(d)
            sides.append(projected().item())
        for x, base in zip(wanted, bases, strict=True):
            x.data = base
        expected = (sides[0] - sides[1]) / (2 * STEP)
        found = float(sum((g.numpy() * d).sum() for g, d in zip(second, direction, strict=True)))
        error = abs(found - expected) / max(1.0, abs(expected))
        parts.append(Measured(error, 1e-5, "the second derivative along a random direction"))
    return worst(*parts)


def _gradient_errors(subject: Subject, training: bool) -> list[Measured]:
    layer, errors = subject.layer(training), []
    for lengths, given in ((None, True), (LENGTHS, True), (None, False)):
        function, tensors = _as_function(subject, layer, lengths, given)
        parameters = _trained(layer)
        if parameters or any(tensor.requires_grad for tensor in tensors):
            errors += gradient_errors(function, *tensors, parameters=parameters, order=1)
    return [Measured(e.error, e.tolerance, _named(e.where)) for e in errors]


def _named(where: str) -> str:
    """With x and the parts of the state instead of numbers of inputs."""
    number = re.search(r"input (\d+)$", where)
    if number is None:
        return where
    return where.replace(number[0], "x" if number[1] == "0" else f"state {int(number[1]) - 1}")


def _trained(layer: Any) -> list[Any]:
    return [parameter for parameter in layer.parameters() if parameter.requires_grad]


def _as_function(subject: Subject, layer: Any, lengths: Any, given: bool = True) -> tuple[Any, list[Any]]:
    """The layer as a function of x and, if `given`, the leaves of its state, to all results side by side; arguments."""
    x, state = mg.as_tensor(subject.x()), subject.state(layer)

    def function(x: Any, *parts: Any) -> Any:
        mg.seed(7)
        left = iter(parts)
        before = map_nest(lambda leaf: next(left), state) if given else None
        ys, last = layer(x, before, lengths=lengths)
        return mg.concat([part.reshape(-1) for part in (ys, *by_key(last)) if is_floating(part.dtype)])

    tensors = [x, *(map(mg.as_tensor, leaves(state)) if given else ())]
    return function, [mg.Tensor(tensor.data, is_floating(tensor.dtype)) for tensor in tensors]


# --- engines, masks, batches


def plan_equals_tape(subject: Subject) -> Measured:
    """The compiled step computes what the recorded one does, in training and out of it, with and without lengths."""
    parts = []
    for training in (False, True):
        layer = subject.layer(training)
        x, state = subject.x(), subject.state(layer)
        for lengths in (None, LENGTHS):
            by_plan, by_tape = (run(layer, x, state, lengths=lengths, engine=engine) for engine in ("plan", "tape"))
            parts.append(compare(by_plan, by_tape))
    return worst(*parts)


def padding(subject: Subject) -> Measured:
    """A batch with lengths 4, 1, 2, 0 is its sequences alone, in values and gradients, whatever is in the padding."""
    return worst(*(padding_of(subject, subject.layer(training)) for training in _modes(subject)))


def padding_of(subject: Subject, layer: Any) -> Measured:
    lengths = (*LENGTHS, 0)
    x, state = subject.x(batch=len(lengths)), subject.state(layer, batch=len(lengths))
    for b, length in enumerate(lengths):
        if x.dtype.kind == "f":
            x[length:, b] = np.nan
        elif length < STEPS:
            x[length:, b] = x[0, 0]
    together = run(layer, x, state, lengths=lengths)
    parts = []
    for b, length in enumerate(lengths):
        if np.abs(together["outputs"][length:, b]).max(initial=0.0) != 0:
            raise CheckError(f"sequence {b} has {length} steps; its outputs after them are not 0")
        if "gradient of x" in together and not (together["gradient of x"][length:, b] == 0).all():
            raise CheckError(f"sequence {b} has {length} steps; the gradient of x after them is not 0")
    alone = [
        run(
            layer,
            x[:length, b : b + 1],
            map_nest(lambda leaf, b=b: leaf[b : b + 1], state),
            weights=_parts_of_a_batch(together, slice(length), b),
        )
        for b, length in enumerate(lengths)
    ]
    for b, (found, length) in enumerate(zip(alone, lengths, strict=True)):
        parts.append(compare(_sequence(together, b, length), {n: a for n, a in found.items() if _by_sequence(n)}))
    parts.append(compare(together, _total(alone)))
    return worst(*parts)


def batch_of_one(subject: Subject) -> Measured:
    """Each sequence of a batch is computed as if it were alone."""
    parts = []
    for training in _modes(subject):
        layer, alone = subject.layer(training), []
        x, state = subject.x(), subject.state(layer)
        together = run(layer, x, state)
        for b in range(BATCH):
            own = map_nest(lambda leaf, b=b: leaf[b : b + 1], state)
            found = run(layer, x[:, b : b + 1], own, weights=_parts_of_a_batch(together, slice(None), b))
            alone.append(found)
            parts.append(compare(_sequence(together, b, STEPS), {n: a for n, a in found.items() if _by_sequence(n)}))
        parts.append(compare(together, _total(alone)))
    return worst(*parts)


def no_steps(subject: Subject) -> Measured:
    """No steps: no outputs, and the state as it was. No sequences: empty results of the right shapes."""
    layer = subject.layer()
    some, x, state = run(layer, subject.x(1)), subject.x(0), subject.state(layer)
    none = run(layer, x, state)
    if none["outputs"].shape != (0, *some["outputs"].shape[1:]):
        raise CheckError(f"without steps the outputs have shape {none['outputs'].shape}")
    wanted = {f"state {n}": leaf for n, leaf in enumerate(by_key(state))}
    empty = run(layer, subject.x(batch=0))
    for name, array in some.items():
        shape = (STEPS, 0, *array.shape[2:]) if name == "outputs" else (0, *array.shape[1:])
        if name.startswith(("outputs", "state")) and empty[name].shape != shape:
            raise CheckError(f"without sequences {name} has shape {empty[name].shape}; it should be {shape}")
    return compare(none, wanted)


def _by_sequence(name: str) -> bool:
    """Whether an array of a run has a part for each sequence."""
    return name == "outputs" or name.startswith(("state ", "gradient of x", "gradient of the initial state"))


def _sequence(together: Any, b: int, length: int) -> Any:
    """One sequence's part of a run."""
    over_time = ("outputs", "gradient of x")
    return {
        name: array[:length, b : b + 1] if name in over_time else array[b : b + 1]
        for name, array in together.items()
        if _by_sequence(name)
    }


def _parts_of_a_batch(together: Any, steps: slice, b: int) -> Any:
    """What the results of one sequence are projected on, if those of the batch are projected on `fixed`."""

    def weights(name: str, array: Any) -> Any:
        whole = fixed(name, together[name])
        return whole[steps, b : b + 1] if name == "outputs" else whole[b : b + 1]

    return weights


def _total(alone: list[Any]) -> Any:
    """The gradients that are sums over sequences."""
    return {name: sum(found[name] for found in alone) for name in alone[0] if not _by_sequence(name)}


# --- weights, seeds, modes


def save_and_load(subject: Subject) -> Measured:
    """Weights saved and loaded into a fresh one, also through a file, make it compute the same."""
    x = subject.x()
    one, other, third = (
        layer if isinstance(layer, mg.RecurrentLayer) else mg.Recurrent(layer)
        for layer in (subject.make(seed=seed) for seed in (1, 2, 3))
    )
    other.load_state_dict(one.state_dict())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        mg.save_checkpoint(path, {"model": one.state_dict()})
        third.load_state_dict(mg.load_checkpoint(path).get("model", {}))
    wanted = run(one, x)
    return worst(compare(run(other, x), wanted, EXACT), compare(run(third, x), wanted, EXACT))


def seeded(subject: Subject) -> Measured:
    """`mg.seed` decides everything random: weights, and masks in training."""
    x = subject.x()
    one, two = (run(subject.layer(training=True), x) for _ in range(2))
    return compare(two, one, EXACT)


def repeatable(subject: Subject) -> Measured:
    """The same call gives the same again: nothing is remembered but in the state that goes in and comes out."""
    layer, x = subject.layer(training=True), subject.x()
    parts = []
    for engine in ("tape", None):
        one = run(layer, x, engine=engine)
        run(layer, subject.x(seed=9), engine=engine)
        parts.append(compare(run(layer, x, engine=engine), one, EXACT))
    return worst(*parts)


def inputs_unchanged(subject: Subject) -> None:
    """x, the state and the parameters are as they were, after forward and backward."""
    layer = subject.layer(training=True)
    state = map_nest(mg.as_tensor, subject.state(layer))
    x = mg.as_tensor(subject.x())
    named = {"x": x, **{f"state {n}": leaf for n, leaf in enumerate(leaves(state))}, **dict(layer.named_parameters())}
    before = {name: tensor.numpy().copy() for name, tensor in named.items()}
    for engine, lengths in product(("tape", None), (None, LENGTHS)):
        with by_engine(layer, engine):
            ys, _ = layer(x, state, lengths=lengths)
            if ys.requires_grad:
                ys.sum().backward()
    if changed := [name for name, tensor in named.items() if not np.array_equal(tensor.numpy(), before[name])]:
        raise CheckError(f"changed in place: {', '.join(changed)}")


def train_and_eval(subject: Subject) -> Measured:
    """Out of training nothing is random, and going from one mode to the other and back changes nothing."""
    layer, x = subject.layer(), subject.x()
    calm = run(layer, x, seed=1)
    again = run(layer, x, seed=2)
    lively = run(layer.train(), x, seed=1)
    back = run(layer.eval(), x, seed=1)
    lively_again = run(layer.train(), x, seed=1)
    return worst(compare(again, calm, EXACT), compare(back, calm, EXACT), compare(lively_again, lively, EXACT))


def wrong_state(subject: Subject) -> None:
    """A state for another number of sequences is refused with a ValueError that speaks of the state."""
    layer = subject.layer()
    state = subject.state(layer, batch=BATCH + 1)
    if not list(leaves(state)):
        raise NotApplicableError("its state is empty")
    x = subject.x()
    _refused(lambda: layer(x, state), f"a state for {BATCH + 1} sequences with x of {BATCH}", "state")


def wrong_input_size(subject: Subject) -> None:
    """x with a feature too many is refused with a ValueError that names the size it should have."""
    layer = subject.layer()
    size = input_size_of(layer)
    if size is None or subject.x().ndim != 3:
        raise NotApplicableError("it has no input_size, so that x is not checked")
    _refused(lambda: layer(np.zeros((STEPS, BATCH, size + 1))), f"x with {size + 1} features instead of {size}", size)


def _refused(call: Any, what: str, said: Any) -> None:
    try:
        call()
    except ValueError as error:
        if str(said) not in str(error):
            raise CheckError(f"{what} is refused with a message that does not name {said}: {error}") from None
        return
    except Exception as error:  # what a shape that does not fit raises deep inside
        kind = type(error).__name__
        raise CheckError(f"{what} ends in a {kind}, not in a ValueError that says what is wrong: {error}") from None
    raise CheckError(f"{what} is taken without an error")


LAYER_CHECKS: dict[str, Check] = {
    "gradients": gradients,
    "gradients_with_random_masks": gradients_with_random_masks,
    "gradients_of_gradients": gradients_of_gradients,
    "plan_equals_tape": plan_equals_tape,
    "padding": padding,
    "batch_of_one": batch_of_one,
    "no_steps": no_steps,
    **{f"backend[{name}]": on_backend(name) for name in ("numpy", "strict", "cupy")},
    **{f"dtype[{name}]": in_dtype(name) for name in ("float32", "float64")},
    "save_and_load": save_and_load,
    "seeded": seeded,
    "repeatable": repeatable,
    "inputs_unchanged": inputs_unchanged,
    "train_and_eval": train_and_eval,
    "wrong_state": wrong_state,
    "wrong_input_size": wrong_input_size,
}
