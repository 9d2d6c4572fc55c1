"""The checks of losses. Each takes a `Subject`; `LOSS_CHECKS` has them by name."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

import minigrad as mg
from minigrad.testing.expect import difference, float_errors_raise, must_raise, number, require_backend, same_backend
from minigrad.testing.gradients import gradient_errors
from minigrad.testing.loss_runs import Data, Subject, must_be_finite, must_be_zero, run, run_tensors, same, tensors
from minigrad.testing.results import Check, CheckError, Measured, NotApplicableError, worst

__all__ = ["LOSS_CHECKS"]

# --- values and gradients


def scalar(subject: Subject) -> None:
    """By default the loss is one finite number, which a backward walk can begin from."""
    outputs, targets = tensors(subject.data, "float64")
    value = subject.loss()(outputs, targets)
    if not isinstance(value, mg.Tensor) or value.shape != ():
        shown = f"of shape {value.shape}" if isinstance(value, mg.Tensor) else f"a {type(value).__name__}"
        raise CheckError(f"the loss of outputs {outputs.shape} must be a tensor of shape (); it is {shown}")
    if not value.requires_grad:
        raise CheckError("the loss needs no gradient, though the outputs do: something in it leaves the tape")
    if not np.isfinite(value.item()):
        raise CheckError(f"the loss of the example is {value.item()}")


def gradients(subject: Subject) -> Measured:
    """The gradient of the outputs is that of central differences."""
    return worst(*_gradient_errors(subject, 1))


def gradients_of_gradients(subject: Subject) -> Measured:
    """The gradient can be differentiated again."""
    errors = _gradient_errors(subject, 2)
    return worst(*(error for error in errors if "second" in error.where))


def _gradient_errors(subject: Subject, order: int) -> list[Measured]:
    loss, data = subject.loss(), subject.data
    outputs, targets = tensors(data, "float64")
    found = []
    for lengths in (None, subject.lengths):
        options = {} if lengths is None else {"lengths": lengths}
        errors = gradient_errors(lambda x, options=options: loss(x, targets, **options), outputs, order=order)
        name = f"outputs {outputs.shape}" + (f" with lengths {lengths}" if lengths else "")
        found += [Measured(e.error, e.tolerance, e.where.replace("input 0", name)) for e in errors]
    return found


def reduction(subject: Subject) -> Measured:
    """ "none" has a loss per position or sequence, "sum" is their sum, "mean" the mean; no other is accepted."""
    mean, total, none = (subject.reduced(name) for name in ("mean", "sum", "none"))
    data, found = subject.data, []
    for lengths in (None, subject.lengths):
        losses = run(none, data, lengths)
        _check_none_shape(losses.value.shape, data.outputs.shape)
        where = f'of reduction "sum", against the sum of "none", with lengths {lengths},'
        found.append(difference(f"the loss {where}", run(total, data, lengths).value, losses.value.sum()))
        found.append(difference(f"the gradient {where}", run(total, data, lengths).gradient, losses.gradient))
    doubled = data.take(batch=[*range(data.outputs.shape[1])] * 2)
    twice = 'the loss of reduction "{}" of a batch that holds each sequence twice,'
    found.append(difference(twice.format("mean"), run(mean, doubled).value, run(mean, data).value))
    found.append(difference(twice.format("sum"), run(total, doubled).value, 2 * run(total, data).value))
    if data.per_step:
        steps, batch = data.outputs.shape[:2]
        equal = data.take([0] * steps, [0] * batch)
        wanted = run(none, equal).value.mean()
        for lengths in (None, subject.lengths):
            where = f'the loss of reduction "mean" of positions that are all equal, with lengths {lengths},'
            found.append(difference(where, run(mean, equal, lengths).value, wanted))
    return worst(*found)


def _check_none_shape(shape: tuple[int, ...], outputs: tuple[int, ...]) -> None:
    count = len(shape)
    if not (count > 1 and shape == outputs[:count]) and not (count and shape == outputs[1 : count + 1]):
        raise CheckError(
            f'of reduction "none" the loss has shape {shape}; with outputs {outputs} it must have the first axes of '
            f"these, {outputs[:2]} or more, or for a loss of whole sequences {outputs[1:2]}"
        )


# --- padding


def padding(subject: Subject) -> Measured:
    """What stands in the padding, NaN too, changes nothing, and its gradient is exactly 0."""
    data, loss, lengths = subject.data, subject.loss(), subject.lengths
    padded = np.arange(data.outputs.shape[0])[:, None] >= np.array(lengths)
    wanted, found = run(loss, data, lengths), []
    for value, index in ((np.nan, -100), (1e30, 10**6), (-np.inf, 0)):
        with np.errstate(all="ignore"):
            other = run(loss, data.filled(padded, value, index), lengths)
        where = f"with lengths {lengths} and {value} as outputs (and targets) in the padding"
        must_be_zero(f"{where}, there,", other.gradient[padded])
        found.append(same(f"{where}, against the loss with the example's own values there,", other, wanted))
    return worst(*found)


def lengths(subject: Subject) -> Measured:
    """A loss with lengths is that of the sequences alone; lengths may be a list, an array or a tensor, or third."""
    data, loss, all_lengths, found = subject.data, subject.loss(), subject.lengths, []
    for b, length in enumerate(all_lengths):
        if length:
            one = data.take(batch=slice(b, b + 1))
            where = f"of one sequence with lengths=[{length}], against that of its first {length} steps alone,"
            alone = run(loss, one.take(slice(length)))
            found.append(same(where, run(loss, one, [length]), alone, gradient=slice(length)))
    wanted = run(loss, data, all_lengths)
    for form in (np.array(all_lengths), mg.tensor(np.array(all_lengths))):
        where = f"with lengths as {type(form).__name__}, against a list,"
        found.append(same(where, run(loss, data, form), wanted))
    third = run_tensors(lambda x, y: loss(x, y, all_lengths), *tensors(data, "float64"))
    found.append(same("with lengths as third argument, against lengths=,", third, wanted))
    try:
        total = subject.reduced("sum")
    except NotApplicableError:
        return worst(*found)
    parts = [run(total, data.take(slice(n), slice(b, b + 1))).value if n else 0.0 for b, n in enumerate(all_lengths)]
    where = f'the loss of reduction "sum" with lengths {all_lengths}, against the sum over sequences alone,'
    return worst(*found, difference(where, run(total, data, all_lengths).value, sum(parts)))


def full_lengths(subject: Subject) -> Measured:
    """Lengths that are all T are as good as none."""
    data, loss = subject.data, subject.loss()
    everything = [data.outputs.shape[0]] * data.outputs.shape[1]
    return same(f"with lengths {everything}, against none,", run(loss, data, everything), run(loss, data))


def no_steps(subject: Subject) -> None:
    """With lengths of 0 alone, as in a window in which all sequences have ended, loss and gradient are 0."""
    data = subject.data
    if not data.per_step:
        raise NotApplicableError("the targets belong to whole sequences, and one without steps may have no loss")
    nothing = [0] * data.outputs.shape[1]
    with float_errors_raise(f"with lengths {nothing}"):
        found = run(subject.loss(), data, nothing)
    if not (found.value == 0).all():
        raise CheckError(f"with lengths {nothing} the loss must be 0; it is {number(found.value)}")
    must_be_zero(f"with lengths {nothing}", found.gradient)


def bad_lengths(subject: Subject) -> None:
    """Lengths that do not fit are refused."""
    data, loss = subject.data, subject.loss()
    steps, batch = data.outputs.shape[:2]
    for wrong in ([steps] * (batch + 1), [steps + 1] * batch, [-1] * batch, [steps - 0.5] * batch):
        where = f"lengths {wrong} with outputs {data.outputs.shape}"
        must_raise(where, partial(_value, loss, data, wrong), ValueError, TypeError, IndexError)


def _value(*arguments: Any) -> Any:
    return run(*arguments).value


# --- values and sizes that are out of the ordinary


def extreme_outputs(subject: Subject) -> None:
    """Outputs of +-1e4 in float32, and others at which formulas break, have a finite loss and gradient."""
    data, loss = subject.data, subject.loss()
    outputs = data.outputs
    cases = {
        "of outputs that are the example's times 1e4": outputs * 1e4,
        "of outputs that are 1e4 or -1e4": np.where(outputs < 0, -1e4, 1e4),
        "of outputs that are all 1e4": np.full_like(outputs, 1e4),
        "of outputs that are all -1e4": np.full_like(outputs, -1e4),
        "of outputs that are all 0": np.zeros_like(outputs),
    }
    if data.elementwise:
        cases["of outputs that are the targets"] = data.targets
    for where, values in cases.items():
        with float_errors_raise(f"the loss {where}"):
            found = run(loss, data.with_outputs(values), dtype="float32")
        must_be_finite(where, found)


def nan_shows(subject: Subject) -> None:
    """Outputs that are NaN do not vanish in the loss: who trains has to see them."""
    data, loss = subject.data, subject.loss()
    weight = np.abs(run(loss, data).gradient).reshape(*data.outputs.shape[:2], -1).sum(-1)
    step, sequence = np.unravel_index(weight.argmax(), weight.shape)  # one that counts
    spoilt = data.outputs.copy()
    spoilt[step, sequence] = np.nan
    with np.errstate(all="ignore"):
        value = run(loss, data.with_outputs(spoilt)).value
    if np.isfinite(value).all():
        place = f"step {step} of sequence {sequence}"
        raise CheckError(f"with NaN as the outputs of {place} the loss is {number(value)}: NaN is hidden")


def batch_of_one(subject: Subject) -> Measured:
    """A batch of one sequence has the loss of two copies of it (or half of that, if batches are summed)."""
    one, two, everything = ({"batch": [0] * n} for n in (1, 2, 2 * subject.data.outputs.shape[1]))
    return _against_two(subject, one, two, everything, 1, "of a batch of one sequence")


def time_of_one(subject: Subject) -> Measured:
    """Sequences of one step have the loss of two copies of this step (or half of that, if steps are summed)."""
    if not subject.data.per_step:
        raise NotApplicableError("the targets belong to whole sequences, and one step may be too few for them")
    one, two, everything = ({"steps": [0] * n} for n in (1, 2, 2 * subject.data.outputs.shape[0]))
    return _against_two(subject, one, two, everything, 0, "of sequences of one step")


def _against_two(subject: Subject, one: Any, two: Any, many: Any, axis: int, where: str) -> Measured:
    """Compare one copy with two; whether copies are summed shows where there are many, and twice as many."""
    data, loss = subject.data, subject.loss()
    few = {name: copies[: len(copies) // 2] for name, copies in many.items()}
    with float_errors_raise(f"the loss {where}"):
        found = run(loss, data.take(**one))
    must_be_finite(where, found)
    twice, half, whole = (run(loss, data.take(**copies)) for copies in (two, few, many))
    share = 2 if abs(whole.value - 2 * half.value) < abs(whole.value - half.value) else 1
    gradient = twice.gradient.sum(axis, keepdims=True) / share
    return worst(
        difference(f"the loss {where}, against that of two copies,", found.value, twice.value / share),
        difference(f"the gradient {where}, against that of two copies,", found.gradient, gradient),
    )


def dtype(subject: Subject) -> Measured:
    """float32 and float64 outputs have a loss of their dtype, whatever the default is, and nearly the same."""
    found = {}
    for name, default in (("float32", "float64"), ("float64", "float32")):
        with mg.default_dtype(default):
            found[name] = run(subject.loss(), subject.data, subject.lengths, dtype=name)
        if found[name].value.dtype != name:
            raise CheckError(f"the loss of {name} outputs and targets is {found[name].value.dtype}; it must be {name}")
    return same("in float32, against float64,", found["float32"], found["float64"], 2e-5)


# --- what it does besides


def no_mutation(subject: Subject) -> None:
    """Outputs, targets and lengths are not changed."""
    outputs, targets = tensors(subject.data, "float64")
    parts = targets if isinstance(targets, tuple) else (targets,)
    lengths = np.array(subject.lengths)
    arrays = {
        "outputs": outputs.data,
        **{f"targets {n}": part.data for n, part in enumerate(parts)},
        "lengths": lengths,
    }
    before = {name: array.copy() for name, array in arrays.items()}
    run_tensors(subject.loss(), outputs, targets, lengths)
    for name, array in arrays.items():
        if not np.array_equal(array, before[name]):
            raise CheckError(f"the loss changes its argument {name.split()[0]} in place; they belong to the caller")


def determinism(subject: Subject) -> None:
    """The same arguments give the same, to the last bit, whatever was computed before."""
    data, loss = subject.data, subject.loss()
    first = run(loss, data, subject.lengths)
    mg.seed(5)
    run(loss, data.take(batch=slice(0, 2)))
    for which, again in (("the same", loss), ("a new", subject.loss())):
        found = run(again, data, subject.lengths)
        if not np.array_equal(found.value, first.value) or not np.array_equal(found.gradient, first.gradient):
            values = f"{number(first.value)} and {number(found.value)}"
            raise CheckError(f"called again, {which} loss gives something else for the same arguments: {values}")


def no_grad(subject: Subject) -> Measured:
    """In `mg.no_grad()`, as for validation, the loss is the same, without a history."""
    outputs, targets = tensors(subject.data, "float64")
    with mg.no_grad():
        value = subject.loss()(outputs, targets)
    if value.requires_grad:
        raise CheckError("in mg.no_grad() the loss needs a gradient all the same")
    return difference("the loss in mg.no_grad()", value.numpy(), run(subject.loss(), subject.data).value)


class _Scaled(mg.Module):
    """x times a number, as a model with a state that does nothing."""

    def __init__(self) -> None:
        self.scale = mg.Parameter(np.ones(()))

    def forward(self, x: mg.Tensor, state: Any = None, lengths: Any = None) -> tuple[mg.Tensor, Any]:
        return x * self.scale, mg.zeros((x.shape[1],)) if state is None else state


def tbptt(subject: Subject) -> Measured:
    """Under `mg.tbptt` each window has the loss, and the gradient, of its own steps."""
    data, found = subject.data, []
    if not data.per_step or isinstance(data.targets, tuple):
        raise NotApplicableError("mg.tbptt cuts targets into windows, and needs one array of them, (T, B, ...)")
    for lengths in (None, subject.lengths):
        model, start = _Scaled(), 0
        xs, ys = tensors(data, "float64")
        for window in mg.tbptt(model, xs.detach(), ys, subject.loss(), k1=2, lengths=lengths, reduction="sum"):
            part = data.take(slice(start, start + window.steps))
            counts = None if lengths is None else [min(max(n - start, 0), window.steps) for n in lengths]
            wanted = run(subject.loss(), part, counts)
            where = f"of the window of steps {start}..{start + window.steps - 1} with lengths {counts}"
            gradient = 0.0 if model.scale.grad is None else model.scale.grad.item()
            found.append(difference(f"the loss {where}", window.loss.numpy(), wanted.value))
            found.append(difference(f"the gradient {where}", gradient, (wanted.gradient * part.outputs).sum()))
            start += window.steps
    return worst(*found)


def mismatched_shapes(subject: Subject) -> None:
    """Outputs and targets of different sizes are refused, not broadcast."""
    data, loss = subject.data, subject.loss()
    pairs = [(data, data.take(batch=[0])), (data.take(batch=[0]), data)]
    if data.per_step:
        pairs += [(data, data.take([0])), (data.take([0]), data), (data.take(slice(0, -1)), data)]
    if data.elementwise and data.outputs.shape[-1] > 1:
        pairs += [(data, data.map(lambda array, axes: array[..., :1]))]
    for some, other in pairs:
        mixed = Data(some.outputs, other.targets, other.axes)
        shapes = " and ".join(str(part.shape) for part in other.parts)
        where = f"outputs {mixed.outputs.shape} with targets {shapes}"
        must_raise(where, partial(_value, loss, mixed), ValueError, TypeError, IndexError)


def unknown_option(subject: Subject) -> None:
    """An option or a reduction that there is not, such as one with a typing error, is refused."""
    must_raise("factory(no_such_option=1)", lambda: subject.loss(no_such_option=1), TypeError)
    try:
        subject.reduced("sum")
    except NotApplicableError:
        return
    wrong = "no_such_reduction"
    must_raise(
        f'reduction="{wrong}"', lambda: _value(subject.loss(reduction=wrong), subject.data), ValueError, TypeError
    )


def on_backend(name: str, subject: Subject) -> Measured:
    """On a backend the loss is that of NumPy. Its arguments say where it is computed, not which backend is current."""
    require_backend(name)
    data, found = subject.data, []
    wanted = run(subject.loss(), data, subject.lengths)
    for current in (name, "strict" if name == "numpy" else "numpy"):
        with mg.use_backend(name):
            outputs, targets = tensors(data, "float64")
            lengths = mg.tensor(np.array(subject.lengths))
        with mg.use_backend(current), same_backend(f"outputs and targets are on {name}, {current} is current"):
            value = subject.loss()(outputs, targets, lengths=lengths)
            if value.backend.name != name:
                raise CheckError(f"outputs on {name} have a loss on {value.backend.name}")
            other = run_tensors(subject.loss(), outputs, targets, subject.lengths)
        where = f"of outputs on {name}, while new arrays are made on {current}, against NumPy,"
        found += [same(where, other, wanted), difference(f"the loss {where}", value.numpy(), wanted.value)]
    return worst(*found)


LOSS_CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        scalar,
        gradients,
        gradients_of_gradients,
        reduction,
        padding,
        lengths,
        full_lengths,
        no_steps,
        bad_lengths,
        extreme_outputs,
        nan_shows,
        batch_of_one,
        time_of_one,
        dtype,
        no_mutation,
        determinism,
        no_grad,
        tbptt,
        mismatched_shapes,
        unknown_option,
    )
}
LOSS_CHECKS |= {f"backend[{name}]": partial(on_backend, name) for name in ("numpy", "strict", "cupy")}
