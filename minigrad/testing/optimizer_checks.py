"""The checks of optimizers. Each takes a `Subject`; `OPTIMIZER_CHECKS` has them by name."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from math import nan
from typing import Any

import numpy as np

import minigrad as mg
from minigrad.testing.expect import difference, float_errors_raise, must_raise, require_backend, same_backend
from minigrad.testing.optimizer_descent import quadratic, rosenbrock
from minigrad.testing.optimizer_runs import (
    RATE,
    Subject,
    descend,
    misfit,
    must_equal,
    parameters,
    set_gradient,
    set_gradients,
    values,
)
from minigrad.testing.optimizer_saving import checkpoint, misfit_state, saved_state
from minigrad.testing.results import Check, CheckError, Measured, worst

__all__ = ["OPTIMIZER_CHECKS"]

# --- groups and learning rates


def groups(subject: Subject) -> None:
    """Groups with learning rates of their own are as good as optimizers of their own."""
    subject.needs_lr()
    (a, b, c), alone = parameters(), parameters()
    found = descend(subject.make([{"params": [a, b], "lr": 0.1}, {"params": [c]}], RATE), [a, b, c])
    wanted = descend(subject.make(alone[:2], 0.1), alone[:2]) + descend(subject.make(alone[2:], RATE), alone[2:])
    must_equal(f"groups with lr 0.1 (parameters 0, 1) and {RATE} (2), against two optimizers", found, wanted)


def changed_lr(subject: Subject) -> None:
    """A learning rate that is changed in `optimizer.groups`, as by a schedule, is that of the next step."""
    subject.needs_lr()
    where = f'3 steps after group["lr"] was set from 0.1 to {RATE}'
    params, others = parameters(), parameters()
    optimizer = subject.make(params, 0.1)
    _set_lr(optimizer)
    wanted = descend(subject.make(others), others)
    must_equal(f"{where}, before the first step, against lr={RATE}", descend(optimizer, params), wanted)
    params, others = parameters(), parameters()
    optimizer, constant = subject.make(params, 0.1), subject.make(others, 0.1)
    descend(optimizer, params)
    descend(constant, others)
    _set_lr(optimizer)
    for position, (array, other) in enumerate(zip(descend(optimizer, params), descend(constant, others), strict=True)):
        if np.array_equal(array, other):
            raise CheckError(f"{where}, after 3 steps: parameter {position} of shape {array.shape} is as with lr=0.1")


def _set_lr(optimizer: Any) -> None:
    if not hasattr(optimizer, "groups"):
        raise CheckError("the optimizer has no `groups`, dicts in which schedules change lr")
    for group in optimizer.groups:
        group["lr"] = RATE


def zero_lr(subject: Subject) -> None:
    """A learning rate of 0 changes no parameter."""
    subject.needs_lr()
    params = parameters()
    before = values(params)
    must_equal("3 steps with lr=0", descend(subject.make(params, 0.0), params), before)


def negative_lr(subject: Subject) -> None:
    """Learning rates that are negative or NaN are refused."""
    subject.needs_lr()
    for lr in (-0.1, nan):
        must_raise(f"lr={lr}", partial(subject.make, parameters(), lr), ValueError, naming="lr")
        must_raise(f"a group with lr={lr}", partial(subject.make, [{"params": parameters(), "lr": lr}]), ValueError)


def unknown_hyperparameter(subject: Subject) -> None:
    """A hyperparameter that there is not, such as one with a typing error, is refused."""
    name = "no_such_hyperparameter"
    must_raise(f"factory(params, {name}=1)", lambda: subject.make(parameters(), **{name: 1}), TypeError, naming=name)


# --- which parameters


def order(subject: Subject) -> None:
    """The order of the parameters does not matter."""
    params, others = parameters(), parameters()
    found = descend(subject.make(others[::-1]), others)
    must_equal("with the parameters in reverse order", found, descend(subject.make(params), params))


def own_state(subject: Subject) -> None:
    """Parameters of one shape and different gradients are updated each as if it were alone."""
    shape = (3, 2)
    params, others = (parameters(shapes=[shape] * 3) for _ in range(2))
    found = descend(subject.make(params), params)
    wanted = [array for other in others for array in descend(subject.make([other]), [other])]
    must_equal(f"3 parameters of shape {shape} in one optimizer, against 3 optimizers", found, wanted)


def parameter_forms(subject: Subject) -> None:
    """Parameters may come from a generator, such as `model.parameters()`, and with names."""
    params = parameters()
    wanted = descend(subject.make(params), params)
    forms: dict[str, Callable[[Any], Any]] = {
        "a generator": iter,
        "(name, parameter) pairs": lambda members: [(f"p{n}", member) for n, member in enumerate(members)],
        "one group": lambda members: [{"params": members}],
    }
    for form, shaped in forms.items():
        others = parameters()
        must_equal(f"with {form} as params", descend(subject.make(shaped(others)), others), wanted)


def no_parameters(subject: Subject) -> None:
    """An empty list, or a generator that is used up, is refused."""
    empties: list[Any] = [[], iter(())]
    for empty in empties:
        must_raise(f"factory of {type(empty).__name__} with no parameters", partial(subject.make, empty), ValueError)


def not_parameters(subject: Subject) -> None:
    """Numbers and tensors that are not learned are refused."""
    wrong = {"a number": 3.0, "a constant tensor": mg.ones(2), "a computed tensor": mg.Parameter(np.ones(2)) * 2}
    for what, value in wrong.items():
        must_raise(f"factory([{what}])", partial(subject.make, [value]), TypeError, ValueError)


def duplicate_parameter(subject: Subject) -> None:
    """A parameter that is given twice, which would be updated twice a step, is refused."""
    (parameter,) = parameters(shapes=[(2,)])
    must_raise("factory([p, p])", lambda: subject.make([parameter, parameter]), ValueError)
    two = [{"params": [parameter]}, {"params": [parameter]}]
    must_raise("factory of two groups that share a parameter", lambda: subject.make(two), ValueError)


def shapes(subject: Subject) -> None:
    """Parameters of any shape, 0-d and empty ones too, stay leaves of this shape, in an array."""
    params = parameters(shapes=[(), (0,), (3, 0), (1, 1), (2, 3)])
    params[0].data = params[3].data.reshape(())
    descend(subject.make(params), params)
    for parameter, shape in zip(params, [(), (0,), (3, 0), (1, 1), (2, 3)], strict=True):
        if not isinstance(parameter.data, np.ndarray) or parameter.shape != shape:
            kind = type(parameter.data).__name__
            raise CheckError(f"a parameter of shape {shape} has become a {kind} of shape {parameter.shape}")
        if parameter.node is not None or not parameter.requires_grad:
            raise CheckError(f"a parameter of shape {shape} is no leaf any more, or needs no gradient")
    where = "a 0-d parameter, against one of shape (1, 1) with the same value"
    must_equal(where, [params[0].numpy().reshape(1, 1)], [params[3].numpy()])


# --- which gradients


def no_gradients(subject: Subject) -> None:
    """A step without gradients changes neither parameters nor state, also in the middle of a run."""
    for before in (3, 0):
        params = parameters()
        optimizer = subject.make(params)
        wanted = descend(optimizer, params, before)
        for parameter in params:
            parameter.grad = None
        kept = deepcopy(optimizer.state_dict())
        optimizer.step()
        must_equal(f"a step without gradients after {before} steps", values(params), wanted)
        if text := misfit(optimizer.state_dict(), kept):
            raise CheckError(f"a step without gradients after {before} steps changes the state: {text}")


def some_gradients(subject: Subject) -> None:
    """A parameter without a gradient is left alone; the others are updated as if it were not there."""
    params, others = parameters(), parameters()
    optimizer, other = subject.make(params), subject.make([others[0], others[2]])
    wanted = descend(optimizer, params)[1]
    descend(other, [others[0], others[2]])
    for _ in range(3):
        set_gradients(params)
        params[1].grad = None
        optimizer.step()
        set_gradients(others)
        other.step()
    where = "3 steps without a gradient of parameter 1, against leaving it alone and updating the others"
    must_equal(where, values(params), [others[0].numpy(), wanted, others[2].numpy()])


def zero_gradients(subject: Subject) -> None:
    """Gradients of 0, or near it, from the start or later, keep the parameters finite."""
    for before in (0, 3):
        for size in (0.0, 1e-30):
            params = parameters("float32")
            optimizer = subject.make(params)
            descend(optimizer, params, before)
            where = f"3 steps with gradients of {size} after {before} others"
            with float_errors_raise(where):
                for _ in range(3):
                    for parameter in params:
                        set_gradient(parameter, np.full(parameter.shape, size))
                    optimizer.step()
            if not all(np.isfinite(array).all() for array in values(params)):
                raise CheckError(f"{where}: parameters are not finite")


def misshaped_gradient(subject: Subject) -> None:
    """A gradient of another shape is refused, not broadcast."""
    for shape in ((), (1, 2), (2, 3)):
        (parameter,) = parameters(shapes=[(3, 2)])
        optimizer = subject.make([parameter])
        set_gradient(parameter, np.ones(shape))
        must_raise(
            f"a step with a gradient of shape {shape} for a parameter (3, 2)", optimizer.step, ValueError, TypeError
        )


def zero_grad(subject: Subject) -> None:
    """`zero_grad` forgets the gradients of all groups: `.grad` is None, so that a step leaves the parameter alone."""
    params = parameters()
    optimizer = subject.make([{"params": params[:2]}, {"params": params[2:]}])
    set_gradients(params)
    optimizer.zero_grad()
    for position, parameter in enumerate(params):
        if parameter.grad is not None:
            raise CheckError(
                f"after zero_grad() the gradient of parameter {position} is not None: {parameter.grad!r:.60}"
            )


# --- arrays


def no_mutation(subject: Subject) -> None:
    """A step changes neither gradients nor the old arrays of parameters, which the tape may need."""
    params = parameters()
    optimizer = subject.make(params)
    for step in range(3):
        set_gradients(params)
        gradients = [parameter.grad for parameter in params]
        arrays = {"old array of": [p.data for p in params], "gradient of": [g.data for g in gradients if g is not None]}
        before = {what: [array.copy() for array in members] for what, members in arrays.items()}
        optimizer.step()
        for what, members in arrays.items():
            must_equal(f"step {step} wrote into the {what} a parameter", members, before[what])
        for position, (parameter, gradient) in enumerate(zip(params, gradients, strict=True)):
            if parameter.grad is not gradient:
                raise CheckError(f"step {step} replaces the gradient of parameter {position}; it belongs to the caller")


def stale_guard(subject: Subject) -> None:
    """After a step the tape knows that what it has recorded is out of date: `parameter.data` was assigned."""
    for parameter in parameters():
        loss = (parameter * parameter).sum()
        set_gradients([parameter])
        subject.make([parameter]).step()
        where = f"backward from a loss of a parameter {parameter.shape}, computed before a step"
        must_raise(where, loss.backward, mg.StaleParameterError)


def dtype(subject: Subject) -> Measured:
    """float32 and float64 parameters keep their dtype, and float64 its precision, also if lr is a NumPy number."""
    found = {}
    for name in ("float32", "float64"):
        params = parameters(name)
        found[name] = descend(subject.make(params, np.float64(RATE) if name == "float32" else RATE), params)
        for position, array in enumerate(found[name]):
            if array.dtype != name:
                raise CheckError(f"parameter {position}, {array.shape}, was {name}; after 3 steps it is {array.dtype}")
    if all(np.array_equal(array, array.astype("float32")) for array in found["float64"]):
        raise CheckError("float64 parameters hold float32 numbers after 3 steps: something in the update narrows them")
    parts = enumerate(zip(found["float32"], found["float64"], strict=True))
    return worst(*(difference(f"parameter {n} in float32, against float64,", a, b, 1e-4) for n, (a, b) in parts))


def determinism(subject: Subject) -> None:
    """Two optimizers that are made and used alike do alike, with the same `mg.seed`."""
    runs = []
    for _ in range(2):
        mg.seed(7)
        params = parameters()
        runs.append(descend(subject.make(params), params))
    must_equal("the second of two optimizers that are made and used alike", runs[1], runs[0])


def on_backend(name: str, subject: Subject) -> Measured:
    """On a backend the parameters, also after saving and loading, are those on NumPy; the state dict is on the host."""
    require_backend(name)
    params = parameters()
    wanted, found = descend(subject.make(params), params, 6), []
    for current in (name, "strict" if name == "numpy" else "numpy"):
        with mg.use_backend(name):
            params, others = parameters(), parameters()
        with mg.use_backend(current), same_backend(f"the parameters are on {name}, {current} is current"):
            optimizer, other = subject.make(params), subject.make(others)
            descend(optimizer, params)
            state = optimizer.state_dict()
            _check_on_host(state, "state_dict()")
            other.load_state_dict(state)
            for parameter, trained in zip(others, params, strict=True):
                parameter.data = trained.data
            arrays = descend(other, others)
        if (place := others[0].backend.name) != name:
            raise CheckError(f"parameters on {name} are on {place} after a step")
        where = f"on {name}, while {current} is current, against NumPy"
        found += [
            difference(f"parameter {n} {where}", a, b) for n, (a, b) in enumerate(zip(arrays, wanted, strict=True))
        ]
    return worst(*found)


def _check_on_host(value: Any, place: str) -> None:
    if isinstance(value, dict):
        for key, part in value.items():
            _check_on_host(part, f"{place}[{key!r}]")
    elif isinstance(value, list | tuple):
        for position, part in enumerate(value):
            _check_on_host(part, f"{place}[{position}]")
    elif hasattr(value, "shape") and not isinstance(value, np.ndarray | np.generic):
        raise CheckError(f"{place} is a {type(value).__name__}; a state dict is plain data, its arrays NumPy's")


OPTIMIZER_CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        quadratic,
        rosenbrock,
        saved_state,
        checkpoint,
        misfit_state,
        groups,
        changed_lr,
        zero_lr,
        negative_lr,
        unknown_hyperparameter,
        order,
        own_state,
        parameter_forms,
        no_parameters,
        not_parameters,
        duplicate_parameter,
        shapes,
        no_gradients,
        some_gradients,
        zero_gradients,
        misshaped_gradient,
        zero_grad,
        no_mutation,
        stale_guard,
        dtype,
        determinism,
    )
}
OPTIMIZER_CHECKS |= {f"backend[{name}]": partial(on_backend, name) for name in ("numpy", "strict", "cupy")}
