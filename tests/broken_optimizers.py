"""Optimizers with one defect each, for the kit to catch: (the check that does, a factory, what it says)."""

from __future__ import annotations

from functools import partial
from itertools import count
from typing import Any

import numpy as np

import minigrad as mg
from minigrad.ops import sqrt
from minigrad.optimizers import SGD, Adam, Optimizer

Momentum = partial(SGD, momentum=0.5)


class Bare:
    """Descent with momentum that checks nothing. What is right in it is so by simplicity."""

    momentum = 0.5

    def __init__(self, params: Any, lr: Any = 0.01) -> None:
        self.params, self.lr = list(params), lr
        self.buffers: dict[str, Any] = {}

    def step(self) -> None:
        for position, parameter in enumerate(self.params):
            if parameter.grad is not None:
                self.update(str(position), parameter, parameter.grad.data)

    def update(self, key: str, parameter: Any, gradient: Any) -> None:
        self.buffers[key] = self.momentum * self.buffers.get(key, 0.0) + gradient
        parameter.data = parameter.data - self.lr * self.buffers[key]

    def zero_grad(self) -> None:
        for parameter in self.params:
            parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        return {"lr": self.lr, "buffers": self.buffers}

    def load_state_dict(self, state: Any) -> None:
        self.lr, self.buffers = state["lr"], state["buffers"]


# --- descent


class Ascent(Optimizer):
    @staticmethod
    def update(parameter, gradient, state, *, lr=0.01):
        return parameter + lr * gradient, state


class Tires(Optimizer):
    @staticmethod
    def update(parameter, gradient, state, *, lr=0.01):
        step = state.get("step", 0) + 1
        return parameter - lr / step**2 * gradient, {"step": step}


# --- saving


class RemembersElsewhere(Optimizer):
    """Momentum in an attribute that no state dict has."""

    def __init__(self, params, **options):
        super().__init__(params, **options)
        self.speed = {}

    def step(self):
        for group in self.groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self.speed[parameter] = 0.5 * self.speed.get(parameter, 0.0) + parameter.grad.data
                    parameter.data = np.asarray(parameter.data - group["lr"] * self.speed[parameter])

    @staticmethod
    def update(parameter, gradient, state, *, lr=0.01):
        raise NotImplementedError


class ForgetsItsRate(SGD):
    def load_state_dict(self, state_dict):
        rates = [group["lr"] for group in self.groups]
        super().load_state_dict(state_dict)
        for group, rate in zip(self.groups, rates, strict=True):
            group["lr"] = rate


class Lends(Bare):
    def update(self, key, parameter, gradient):
        buffer = self.buffers.setdefault(key, np.zeros(parameter.shape))
        buffer *= 0.5
        buffer += gradient
        parameter.data = np.asarray(parameter.data - self.lr * buffer)


class Borrows(Lends):
    def state_dict(self):
        return {"lr": self.lr, "buffers": {key: buffer.copy() for key, buffer in self.buffers.items()}}


class NumberedKeys(SGD):
    def state_dict(self):
        state = super().state_dict()
        return {**state, "state": dict(enumerate(state["state"]))}

    def load_state_dict(self, state_dict):
        super().load_state_dict({**state_dict, "state": list(state_dict["state"].values())})


class HalfLoaded(Adam):
    def load_state_dict(self, state_dict):
        for group, saved in zip(self.groups, state_dict.get("groups", []), strict=False):
            group["lr"] = saved["lr"]
        super().load_state_dict(state_dict)


class LoadsAnything(Bare):
    def load_state_dict(self, state):
        self.lr, self.buffers = state.get("lr", self.lr), state.get("buffers", {})


# --- groups and learning rates


class OneRate(SGD):
    def __init__(self, params, **options):
        super().__init__(params, **options)
        for group in self.groups:
            group["lr"] = self.groups[0]["lr"]


class FixedRate(SGD):
    def __init__(self, params, **options):
        super().__init__(params, **options)
        self.rates = [group["lr"] for group in self.groups]

    def step(self):
        for group, rate in zip(self.groups, self.rates, strict=True):
            group["lr"] = rate
        super().step()


class RateOfTheFirstStep(FixedRate):
    def __init__(self, params, **options):
        SGD.__init__(self, params, **options)
        self.rates = []

    def step(self):
        self.rates = self.rates or [group["lr"] for group in self.groups]
        super().step()


class Decays(Optimizer):
    """Weight decay that does not know of the learning rate."""

    @staticmethod
    def update(parameter, gradient, state, *, lr=0.01):
        return parameter * 0.999 - lr * gradient, state


class Lax(SGD):
    @classmethod
    def check(cls, hyperparameters):
        pass


def deaf(params, lr=0.01, **ignored):
    return SGD(params, lr=lr)


# --- parameters


class RateByPosition(SGD):
    def step(self):
        for position, parameter in enumerate(self._names):
            if parameter.grad is not None:
                parameter.data = np.asarray(
                    parameter.data - self.groups[0]["lr"] / (1 + position) * parameter.grad.data
                )


class StateByShape(Bare):
    """Momentum that parameters of one shape share."""

    def update(self, key, parameter, gradient):
        super().update(str(parameter.shape), parameter, gradient)


class CountsFirst(SGD):
    def __init__(self, params, **options):
        self.count = sum(1 for _ in params)
        super().__init__(params, **options)


# --- gradients


class KeepsRolling(SGD):
    """Goes on with its momentum where there is no gradient."""

    def step(self):
        for group in self.groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    parameter.grad = mg.zeros_like(parameter)
        super().step()


class StopsAtTheFirst(Bare):
    def step(self):
        for position, parameter in enumerate(self.params):
            if parameter.grad is None:
                return
            self.update(str(position), parameter, parameter.grad.data)


class Normalized(Optimizer):
    @staticmethod
    def update(parameter, gradient, state, *, lr=0.01):
        return parameter - lr * gradient / sqrt((gradient * gradient).sum()), state


class ZeroesGradients(SGD):
    def zero_grad(self):
        for group in self.groups:
            for parameter in group["params"]:
                parameter.grad = mg.zeros_like(parameter)


class FirstGroupAlone(SGD):
    def zero_grad(self):
        for parameter in self.groups[0]["params"]:
            parameter.grad = None


# --- arrays


class InPlace(Bare):
    def update(self, key, parameter, gradient):
        parameter.data -= self.lr * gradient


class ClipsInPlace(SGD):
    def step(self):
        for parameter in self._names:
            np.clip(parameter.grad.data, -0.1, 0.1, out=parameter.grad.data)
        super().step()


class BehindTheTape(Bare):
    def update(self, key, parameter, gradient):
        mg.Tensor.data.__set__(parameter, np.asarray(parameter.data - self.lr * gradient))


class Narrows(Optimizer):
    @staticmethod
    def update(parameter, gradient, state, *, lr=0.01):
        return (parameter - lr * gradient).astype("float32").astype(parameter.dtype), state


class OneStateForAll(Bare):
    shared: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, params, lr=0.01):
        super().__init__(params, lr)
        self.buffers = self.shared


class Unseeded(Bare):
    numbers = count()

    def update(self, key, parameter, gradient):
        super().update(key, parameter, gradient * (1 + next(self.numbers)))


class OnTheCurrentBackend(SGD):
    def step(self):
        for parameter in self._names:
            if parameter.grad is not None:
                parameter.grad = mg.Tensor(parameter.grad.data + mg.zeros(parameter.shape).data)
        super().step()


class ByNumPy(Optimizer):
    @staticmethod
    def update(parameter, gradient, state, *, lr=0.01):
        return parameter - lr * np.sign(gradient), state


class KeepsDeviceArrays(SGD):
    def state_dict(self):
        state = super().state_dict()
        return {**state, "last": [parameter.data for parameter in self._names]}


DEFECTS = [
    (
        "quadratic",
        Ascent,
        "a convex quadratic after 300 steps, .* at lr=0.1, the best of 0.1, .*: inf, allowed is 0.01",
    ),
    ("rosenbrock", Tires, "Rosenbrock's function after 3000 steps, .* allowed is 0.05"),
    ("saved_state", RemembersElsewhere, r"loaded after 3 steps, .*: parameter 0 of shape \(3, 2\) is .* and should be"),
    ("saved_state", ForgetsItsRate, "loaded after 0 steps"),
    ("saved_state", Lends, "state_dict.. returned changes with later steps; it must be a copy: state_dict.*'buffers'"),
    ("saved_state", Borrows, "given to load_state_dict changes with later steps"),
    ("saved_state", lambda params, lr=0.01: object(), "needs step, zero_grad, state_dict, load_state_dict; object has"),
    ("checkpoint", NumberedKeys, "the keys of a checkpoint are strings; optimizer.state has the key 0"),
    ("misfit_state", LoadsAnything, "state dict that is empty: nothing is raised; it must be StateDictError"),
    ("misfit_state", Bare, "it raises KeyError .'lr'., not StateDictError"),
    ("misfit_state", HalfLoaded, r"was refused, but changed something: state_dict\(\)\['groups'\]\[0\]\['lr'\] is 0.5"),
    (
        "groups",
        OneRate,
        "groups with lr 0.1 .* against two optimizers: parameter 2 of shape .. is 0.354311 and should be 0.240844",
    ),
    ("changed_lr", FixedRate, r'after group\["lr"\] was set from 0.1 to 0.01, before the first step, .*: parameter 0'),
    ("changed_lr", RateOfTheFirstStep, "set from 0.1 to 0.01, after 3 steps: parameter 0 .* is as with lr=0.1"),
    ("changed_lr", Bare, "has no `groups`"),
    ("zero_lr", Decays, "3 steps with lr=0: parameter 0"),
    ("negative_lr", Lax, "lr=-0.1: nothing is raised; it must be ValueError"),
    ("unknown_hyperparameter", deaf, "no_such_hyperparameter=1.: nothing is raised"),
    ("order", RateByPosition, "with the parameters in reverse order: parameter 0"),
    ("own_state", StateByShape, r"3 parameters of shape \(3, 2\) in one optimizer, .*: parameter 0 of"),
    ("parameter_forms", CountsFirst, "there are no parameters"),
    ("no_parameters", Bare, "factory of list with no parameters: nothing is raised"),
    ("not_parameters", Bare, r"factory\(\[a number\]\): nothing is raised"),
    ("duplicate_parameter", Bare, r"factory\(\[p, p\]\): nothing is raised"),
    ("shapes", Bare, r"a parameter of shape \(\) has become a float64"),
    ("no_gradients", partial(KeepsRolling, momentum=0.5), "a step without gradients after 3 steps: parameter 0"),
    (
        "some_gradients",
        partial(KeepsRolling, momentum=0.5),
        "3 steps without a gradient of parameter 1, .* parameter 1 of",
    ),
    ("some_gradients", StopsAtTheFirst, "updating the others: parameter 2 of"),
    ("zero_gradients", Normalized, "3 steps with gradients of 0.0 after 0 others: FloatingPointError: invalid"),
    ("misshaped_gradient", Bare, r"a gradient of shape \(\) for a parameter \(3, 2\): nothing is raised"),
    ("zero_grad", ZeroesGradients, r"after zero_grad\(\) the gradient of parameter 0 is not None: tensor"),
    ("zero_grad", FirstGroupAlone, r"after zero_grad\(\) the gradient of parameter 2 is not None"),
    ("no_mutation", InPlace, "step 0 wrote into the old array of a parameter: parameter 0"),
    ("no_mutation", ClipsInPlace, "step 0 wrote into the gradient of a parameter"),
    (
        "stale_guard",
        BehindTheTape,
        r"a parameter \(3, 2\), computed before a step: nothing is raised; .* StaleParameter",
    ),
    ("dtype", Bare, r"parameter 0, \(3, 2\), was float32; after 3 steps it is float64"),
    ("dtype", Narrows, "float64 parameters hold float32 numbers after 3 steps"),
    ("determinism", OneStateForAll, "the second of two optimizers that are made and used alike: parameter 0"),
    ("determinism", Unseeded, "the second of two optimizers"),
    ("backend[numpy]", OnTheCurrentBackend, "the parameters are on numpy, strict is current: TypeError"),
    ("backend[strict]", ByNumPy, "the parameters are on strict, strict is current: TypeError"),
    ("backend[strict]", KeepsDeviceArrays, r"state_dict\(\)\['last'\]\[0\] is a StrictArray; .* its arrays NumPy's"),
    ("backend[cupy]", ByNumPy, ""),
]
