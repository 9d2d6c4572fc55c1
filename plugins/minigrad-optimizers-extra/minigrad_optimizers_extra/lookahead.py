"""Lookahead: slow weights that follow the fast ones of any other optimizer, a part of the way every k steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import minigrad as mg
from minigrad.optimizers import is_number

METHODS = ("step", "zero_grad", "state_dict", "load_state_dict")


class Lookahead:
    """After every k steps of another optimizer: slow <- slow + alpha (p - slow), and p <- slow.

    The slow weights begin as the weights are before the first step; between one such pull and the next they are kept,
    at the cost of one array per parameter. A step in which a parameter has no gradient leaves it alone, as with any
    optimizer, and so is none of its k.

    Args:
        optimizer: any optimizer with `groups`, `step`, `zero_grad` and a state dict.
        k: how many of its steps are taken between two pulls, at least 1.
        alpha: how far the slow weights follow, in (0, 1].

    Attributes:
        optimizer: the other one.
        groups: its groups: change hyperparameters there.
        state: of each parameter between two pulls the number of "steps" since the last, and the "slow" weights.

    Raises:
        TypeError: `optimizer` is none.
        ValueError: k or alpha is out of range.

    >>> from minigrad.optimizers import SGD
    >>> from minigrad_optimizers_extra import Lookahead
    >>> weight = mg.Parameter([1.0])
    >>> optimizer = Lookahead(SGD([weight], lr=0.1), k=2, alpha=0.5)
    >>> for _ in range(2):  # fast: 1.0, 0.9, 0.8
    ...     weight.grad = mg.ones(1)
    ...     optimizer.step()
    >>> round(weight.item(), 4)
    0.9

    Source: Zhang et al., Lookahead Optimizer: k Steps Forward, 1 Step Back (2019), algorithm 1.
    """

    def __init__(self, optimizer: Any, k: int = 5, alpha: float = 0.5) -> None:
        if isinstance(optimizer, type) or not all(hasattr(optimizer, name) for name in ("groups", *METHODS)):
            raise TypeError(
                f"Lookahead takes an optimizer, with groups, {', '.join(METHODS)}; got {optimizer!r}. Make one first: "
                "Lookahead(mg.optimizer('adam', model.parameters()))"
            )
        check(k, alpha)
        self.optimizer = optimizer
        self.k, self.alpha = k, alpha
        self.state: dict[mg.Tensor, dict[str, Any]] = {}

    @property
    def groups(self) -> list[dict[str, Any]]:
        groups: list[dict[str, Any]] = self.optimizer.groups
        return groups

    def step(self) -> None:
        """One step of the other optimizer; and, where it is a parameter's k-th, the pull."""
        check(self.k, self.alpha)
        before = {parameter: parameter.data for parameter in self._parameters() if parameter.grad is not None}
        self.optimizer.step()
        for parameter, data in before.items():
            state = self.state.pop(parameter, {"steps": 0, "slow": data})
            steps, slow = state["steps"] + 1, state["slow"]
            if steps < self.k:
                self.state[parameter] = {"steps": steps, "slow": slow}
            else:
                parameter.data = parameter.backend.asarray(slow + self.alpha * (parameter.data - slow))

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        self.optimizer.zero_grad()

    def _parameters(self) -> list[mg.Tensor]:
        return [parameter for group in self.groups for parameter in group["params"]]

    # --- in and out

    def state_dict(self) -> dict[str, Any]:
        """A copy of everything a run needs to go on bit for bit, as plain data.

        Returns:
            "algorithm", "k", "alpha"; "state": of all parameters in order, a dict of "steps" and "slow", a NumPy array,
            which is empty if there was no step since the last pull; and "optimizer", the other one's state dict.
        """
        return {
            "algorithm": type(self).__name__,
            "k": self.k,
            "alpha": self.alpha,
            "state": [_saved(self.state.get(parameter, {})) for parameter in self._parameters()],
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken.

        Raises:
            StateDictError: it does not fit; the message lists what is wrong, and nothing is changed.
        """
        parameters = self._parameters()
        problems = _misfits(type(self).__name__, parameters, state_dict)
        if problems:
            raise mg.StateDictError(
                f"the state dict does not fit this {type(self).__name__}; nothing was loaded:\n  "
                + "\n  ".join(problems)
            )
        self.optimizer.load_state_dict(state_dict["optimizer"])  # which changes nothing if it raises
        self.k, self.alpha = state_dict["k"], state_dict["alpha"]
        self.state = {
            parameter: {
                "steps": saved["steps"],
                "slow": parameter.backend.asarray(saved["slow"]).astype(parameter.dtype),
            }
            for parameter, saved in zip(parameters, state_dict["state"], strict=True)
            if saved
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.optimizer!r}, k={self.k}, alpha={self.alpha})"


def lookahead(params: Any, inner: str = "adam", k: int = 5, alpha: float = 0.5, **inner_options: Any) -> Lookahead:
    """`Lookahead` around the registered optimizer `inner`, which gets the parameters and the other options.

    One with an option `k` or `alpha` of its own is to be made first: `Lookahead(RMSprop(params, alpha=0.9))`.

    >>> mg.optimizer("lookahead", [mg.Parameter([1.0])], inner="sgd", k=6, lr=0.1).groups[0]["lr"]
    0.1
    """
    check(k, alpha)
    return Lookahead(mg.optimizer(inner, params, **inner_options), k, alpha)


def check(k: Any, alpha: Any) -> None:
    """Raise a ValueError unless k and alpha are what they can be."""
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise ValueError(f"k is {k!r}; it must be a number of steps, an integer >= 1")
    if not (is_number(alpha) and 0 < alpha <= 1):
        raise ValueError(f"alpha is {alpha!r}; it must be a number in (0, 1]")


def _saved(state: Mapping[str, Any]) -> dict[str, Any]:
    """The state of a parameter, in memory of its own on the host."""
    return {**state, "slow": mg.Tensor(state["slow"]).numpy().copy()} if state else {}


def _misfits(algorithm: str, parameters: list[mg.Tensor], state_dict: Mapping[str, Any]) -> list[str]:
    """All that keeps `state_dict` from being loaded, but for the other optimizer's own."""
    missing = [key for key in ("algorithm", "k", "alpha", "state", "optimizer") if key not in state_dict]
    if missing:
        return [f"missing: {key}" for key in missing]
    problems = []
    if state_dict["algorithm"] != algorithm:
        problems.append(f"it is of the algorithm {state_dict['algorithm']}")
    try:
        check(state_dict["k"], state_dict["alpha"])
    except ValueError as error:
        return [*problems, str(error)]
    if len(state_dict["state"]) != len(parameters):
        problems.append(f"it has the state of {len(state_dict['state'])} parameters; this one has {len(parameters)}")
    for position, (parameter, saved) in enumerate(zip(parameters, state_dict["state"], strict=False)):
        if saved:
            wrong = _state_misfits(parameter, saved, state_dict["k"])
            problems += [f"state[{position}]: {problem}" for problem in wrong]
    return problems


def _state_misfits(parameter: mg.Tensor, saved: Mapping[str, Any], k: int) -> list[str]:
    if saved.keys() != {"steps", "slow"}:
        return [f"it has {', '.join(saved)}; it must have steps and slow"]
    problems, slow = [], saved["slow"]
    if saved["steps"] not in range(1, k):
        problems.append(f"steps is {saved['steps']!r}; it must be an integer >= 1 and less than k, {k}")
    if getattr(slow, "shape", None) != parameter.shape:
        shape = getattr(slow, "shape", type(slow).__name__)
        problems.append(f"slow has shape {shape}; the parameter has {parameter.shape}")
    elif slow.dtype.kind != "f":
        problems.append(f"slow is {slow.dtype}, which is no floating-point dtype")
    return problems
