"""What all optimizers share. An algorithm is one pure function, `update`; groups, state and checks are here."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from minigrad.backend import Array, backend_of, is_floating
from minigrad.errors import StateDictError
from minigrad.optimizers._arguments import as_groups, is_number, listed, no_parameter, no_parameters, plain, plain_value
from minigrad.plan.native.updates import update_all
from minigrad.tensor import Tensor

State = dict[str, Any]
"""What an optimizer remembers of one parameter: arrays of its shape and dtype, and numbers."""

Limits = Mapping[str, tuple[float, float]]


class Optimizer:
    """Base class of optimizers. A subclass defines `update`; its keywords are the hyperparameters with their defaults.

    Groups, state and checks are done here. On the CPU, where there is a C compiler, an update that treats every element
    alike, by operators and functions such as `mg.sqrt`, becomes one compiled pass over all parameters, unless they are
    small; any other is called for each.

    >>> from minigrad.optimizers import Optimizer
    >>> class SignDescent(Optimizer):
    ...     @staticmethod
    ...     def update(parameter, gradient, state, *, lr=0.01):
    ...         return parameter - lr * mg.sign(gradient), state
    >>> weight = mg.Parameter([1.0, 2.0])
    >>> (weight * weight).sum().backward()
    >>> SignDescent([weight], lr=0.5).step()
    >>> weight.numpy()
    array([0.5, 1.5], dtype=float32)

    Args:
        params: parameters, or pairs of a name and a parameter, or dicts `{"params": ..., "lr": ...}` of either, each a
            group with hyperparameters of its own.
        hyperparameters: for all groups that do not have their own.

    Attributes:
        groups: one dict per group: its tuple "params" and every hyperparameter. Change the hyperparameters between
            steps; `step` checks them.
        state: what is remembered of each parameter that has been updated. A step may write into its arrays.

    Raises:
        ValueError: there are no parameters, one is there twice, or a hyperparameter is out of range.
        TypeError: something is no parameter, or no hyperparameter.
    """

    _keywords: ClassVar[dict[str, inspect.Parameter]]

    update: ClassVar[Callable[..., tuple[Array, State]]]
    """`update(parameter, gradient, state, **hyperparameters) -> (parameter, state)`: a pure function of arrays.

    It changes none of its arguments, and keeps none of them elsewhere. `state` is empty before the first update.
    """

    required_state: ClassVar[tuple[str, ...]] = ()
    """What the state holds after any update. A loaded state is checked against it where a class says so."""

    optional_state: ClassVar[tuple[str, ...]] = ()
    """What it holds besides with some hyperparameters."""

    limits: ClassVar[Limits] = {"lr": (0, math.inf), "weight_decay": (0, math.inf)}
    """Hyperparameters that must be in [low, high). Those of a subclass are added to its base's.

    Of one whose default is a tuple, such as betas, each number must be; and there must be as many.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.limits = {name: limit for c in cls.__mro__[::-1] for name, limit in vars(c).get("limits", {}).items()}
        if "update" in vars(cls):
            arguments = inspect.signature(cls.update).parameters
            cls._keywords = {name: p for name, p in arguments.items() if p.kind is p.KEYWORD_ONLY}
            params = inspect.Parameter("params", inspect.Parameter.POSITIONAL_OR_KEYWORD)
            signature = inspect.Signature([params, *cls._keywords.values()])
            cls.__signature__ = signature  # type: ignore[attr-defined]  # for help

    def __init__(self, params: Iterable[Any], **hyperparameters: Any) -> None:
        defaults = {name: p.default for name, p in self._keywords.items() if p.default is not p.empty}
        self.groups: list[dict[str, Any]] = []
        self.state: dict[Tensor, State] = {}
        self._names: dict[Tensor, str] = {}
        for group in as_groups(params):
            members = self._collect(group["params"])
            self.groups.append({**defaults, **hyperparameters, **group, "params": members})
        if not self._names:
            raise no_parameters()
        for group in self.groups:
            self._hyperparameters(group)

    def _collect(self, members: Any) -> tuple[Tensor, ...]:
        """The parameters of a group, checked and entered with their names."""
        collected = []
        for member in listed(members):
            name, parameter = member if isinstance(member, tuple) and len(member) == 2 else (None, member)
            if wrong := no_parameter(parameter):
                raise TypeError(f"an optimizer takes parameters, such as model.parameters(); got {wrong}")
            name = str(name or getattr(parameter, "name", "a tensor"))
            if parameter in self._names:
                raise ValueError(f"{name} of shape {parameter.shape} is there twice; it would be updated twice a step")
            self._names[parameter] = name
            collected.append(parameter)
        return tuple(collected)

    def _hyperparameters(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """A group's hyperparameters, plain and checked: what `update` takes."""
        values = plain(group)
        unknown = [name for name in values if name not in self._keywords]
        if unknown:
            raise TypeError(f"{type(self).__name__} has no {', '.join(unknown)}; it has: {', '.join(self._keywords)}")
        missing = [name for name in self._keywords if name not in values]
        if missing:
            raise TypeError(f"{type(self).__name__} needs {', '.join(missing)}")
        self.check(values)
        return values

    @classmethod
    def check(cls, hyperparameters: Mapping[str, Any]) -> None:
        """Raise ValueError for hyperparameters out of their `limits`. Subclasses add what else they need.

        One whose default is True or False must be one of these.
        """
        for name, value in hyperparameters.items():
            default = cls._keywords[name].default
            if name in cls.limits:
                _check_limits(name, value, cls.limits[name], len(default) if isinstance(default, tuple) else None)
            if isinstance(default, bool) and not isinstance(value, bool):
                raise ValueError(f"{name} is {value!r}; it must be True or False")

    def step(self) -> None:
        """Update every parameter that has a gradient; the others, and their state, are left alone.

        `parameter.data` becomes a new array: results of before keep the old one, and the tape knows of the update.

        Raises:
            ValueError, TypeError: a hyperparameter was changed to what is not allowed, and nothing is updated; or a
                gradient is no tensor of its parameter's shape.
        """
        checked = [self._hyperparameters(group) for group in self.groups]
        for group, hyperparameters in zip(self.groups, checked, strict=True):
            members = [p for p in group["params"] if p.grad is not None]
            given: list[Any] = [(p.data, self._gradient(p), self.state.get(p)) for p in members]
            for number, (data, state) in update_all(self.update, given, hyperparameters):
                self.state[members[number]] = state
                members[number].data = backend_of(data).asarray(data)

    def _gradient(self, parameter: Tensor) -> Array:
        """A parameter's gradient in its dtype."""
        if not isinstance(parameter.grad, Tensor):
            kind = type(parameter.grad).__name__
            raise TypeError(f"the gradient of {self._names[parameter]} is no tensor but {kind}: use mg.tensor")
        gradient = parameter.grad.data
        if gradient.shape != parameter.shape:
            raise ValueError(
                f"the gradient of {self._names[parameter]} has shape {gradient.shape}, not {parameter.shape}"
            )
        return gradient if gradient.dtype == parameter.dtype else gradient.astype(parameter.dtype)

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self._names:
            parameter.grad = None

    # --- in and out

    def state_dict(self) -> dict[str, Any]:
        """A copy of everything a run needs to go on bit for bit, as plain data.

        Returns:
            "algorithm": the class's name. "groups": each group's hyperparameters, and as "params" the positions of its
            parameters. "shapes": of all parameters in order. "state": of all parameters in order, a dict of NumPy
            arrays and numbers. All but these arrays is ready for JSON.
        """
        positions = {parameter: position for position, parameter in enumerate(self._names)}
        return {
            "algorithm": type(self).__name__,
            "groups": [
                {
                    **{name: list(v) if isinstance(v, tuple) else v for name, v in plain(group).items()},
                    "params": [positions[parameter] for parameter in group["params"]],
                }
                for group in self.groups
            ],
            "shapes": [list(parameter.shape) for parameter in self._names],
            "state": [
                {name: _to_host(value) for name, value in self.state.get(parameter, {}).items()}
                for parameter in self._names
            ],
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken.

        Raises:
            StateDictError: it does not fit; the message lists all that is wrong, and nothing is changed.
        """
        problems = self._misfits(state_dict)
        if problems:
            raise StateDictError(
                f"the state dict does not fit this {type(self).__name__}; nothing was loaded:\n  "
                + "\n  ".join(problems)
            )
        for group, saved in zip(self.groups, state_dict["groups"], strict=True):
            group.update({name: plain_value(value) for name, value in saved.items() if name != "params"})
        self.state = {
            parameter: {
                name: parameter.backend.asarray(value).astype(parameter.dtype) if hasattr(value, "shape") else value
                for name, value in saved.items()
            }
            for parameter, saved in zip(self._names, state_dict["state"], strict=True)
            if saved
        }

    def _misfits(self, state_dict: Mapping[str, Any]) -> list[str]:
        """All that keeps `state_dict` from being loaded."""
        missing = [key for key in ("algorithm", "groups", "shapes", "state") if key not in state_dict]
        if missing:
            return [f"missing: {key}" for key in missing]
        problems = []
        if state_dict["algorithm"] != type(self).__name__:
            problems.append(f"it is of the algorithm {state_dict['algorithm']}")
        groups = state_dict["groups"]
        if len(groups) != len(self.groups):
            problems.append(f"it has {len(groups)} groups; this one has {len(self.groups)}")
        for position, (group, saved) in enumerate(zip(self.groups, groups, strict=False)):
            problems += [f"groups[{position}]: {problem}" for problem in self._group_misfits(group, saved)]
        for what in ("shapes", "state"):
            if len(state_dict[what]) != len(self._names):
                problems.append(f"it has {what} of {len(state_dict[what])} parameters; this one has {len(self._names)}")
        for (parameter, name), shape in zip(self._names.items(), state_dict["shapes"], strict=False):
            if tuple(shape) != parameter.shape:
                problems.append(f"{name} has shape {tuple(shape)}; here it is {parameter.shape}")
        for (parameter, name), state in zip(self._names.items(), state_dict["state"], strict=False):
            problems += [f"state of {name}: {problem}" for problem in self._state_misfits(parameter, state)]
        return problems

    def _group_misfits(self, group: Mapping[str, Any], saved: Mapping[str, Any]) -> list[str]:
        problems = [f"missing: {name}" for name in group if name not in saved]
        problems += [f"unexpected: {name}" for name in saved if name not in group]
        positions = {parameter: position for position, parameter in enumerate(self._names)}
        here = [positions[parameter] for parameter in group["params"]]
        if "params" in saved and list(saved["params"]) != here:
            problems.append(f"it holds the parameters {list(saved['params'])}; here they are {here}")
        if not problems:
            try:
                self.check(plain(saved))
            except ValueError as error:
                problems.append(str(error))
        return problems

    def _state_misfits(self, parameter: Tensor, state: Mapping[str, Any]) -> list[str]:
        problems = [f"missing: {name}" for name in self.required_state if state and name not in state]
        known = {*self.required_state, *self.optional_state} or state
        for name, value in state.items():
            if name not in known:
                problems.append(f"unexpected: {name}")
            elif hasattr(value, "shape"):
                if value.shape != parameter.shape:
                    problems.append(f"{name} has shape {value.shape}; the parameter has {parameter.shape}")
                elif not is_floating(value.dtype):
                    problems.append(f"{name} is {value.dtype}, which is no floating-point dtype")
            elif not isinstance(value, int | float):
                problems.append(f"{name} is {value!r}, which is no array and no number")
        return problems

    def __repr__(self) -> str:
        groups = ", ".join(
            f"[{len(group['params'])} parameters" + "".join(f", {k}={v}" for k, v in plain(group).items()) + "]"
            for group in self.groups
        )
        return f"{type(self).__name__}({groups})"


def _check_limits(name: str, value: Any, limit: tuple[float, float], count: int | None) -> None:
    """Raise unless `value` is a number in [low, high); or, with a `count`, a tuple of so many."""
    low, high = limit
    values = (value,) if count is None else value if isinstance(value, tuple) and len(value) == count else (None,)
    if not all(is_number(number) and low <= number < high for number in values):
        allowed = f"in [{low}, {high})" if high < math.inf else f">= {low}"
        wanted = f"it must be a number {allowed}" if count is None else f"it must be {count} numbers {allowed}"
        raise ValueError(f"{name} is {value!r}; {wanted}")


def _to_host(value: Any) -> Any:
    return backend_of(value).to_host(value).copy() if hasattr(value, "shape") else value
