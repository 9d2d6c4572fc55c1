"""A loss's options: checking their values, and the factory that fixes them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any

from minigrad.tensor import Tensor

Loss = Callable[..., Tensor]
Check = Callable[..., None]
Example = Callable[[Any], tuple[Any, Any]]

REDUCTIONS = ("mean", "sum", "none")
_OPTIONS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "reduction": (
        lambda value: isinstance(value, str) and value in REDUCTIONS,
        "one of 'mean', 'sum', 'none'",
    ),
    "delta": (lambda value: is_number(value) and value > 0, "a number > 0"),
    "label_smoothing": (lambda value: is_number(value) and 0 <= value <= 1, "a number in [0, 1]"),
    "ignore_index": (lambda value: value is None or isinstance(value, Integral), "an integer or None"),
    "blank": (lambda value: isinstance(value, Integral) and int(value) >= 0, "an integer >= 0"),
    "zero_infinity": (lambda value: isinstance(value, bool), "True or False"),
}
"""The options of the built-in losses: what fits, and how to say it."""


def factory(
    loss: Loss,
    example: Example | None = None,
    check: Check | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> Callable[..., Loss]:
    """What the hook `minigrad_losses` returns for a loss: a function of its options that fixes them.

    Args:
        loss: `loss(outputs, targets, ..., lengths=None)` to a tensor; its other arguments are the options.
        example: `example(generator) -> (outputs, targets)`, host arrays drawn with a NumPy generator: data of the kind
            that the loss takes. It is kept as the factory's `example`, with which the conformance kit tests the loss.
        check: called with the options that are given, as keywords; it raises ValueError (see `check_option`). Their
            names and `reduction` are checked in any case.
        expected_failures: names of the kit's checks that cannot hold for this loss, with the reasons.

    Returns:
        `factory(**options)`, which raises for options that fit no input, at once, and returns
        `loss(outputs, targets, lengths=None)`.

    >>> from minigrad.losses import factory, paired, reduce
    >>> def log_cosh(outputs, targets, scale=1.0, reduction="mean", lengths=None):
    ...     outputs, targets, mask = paired(outputs, targets, lengths)
    ...     errors = (outputs - targets) / scale
    ...     return reduce(mg.softplus(2 * errors) - errors - mg.softplus(0.0), reduction, mask)
    >>> loss = factory(log_cosh)(scale=0.5)
    >>> round(loss(mg.tensor([1.0]), mg.tensor([0.0])).item(), 4)
    1.325
    """
    name = loss.__name__
    allowed = [option for option in list(inspect.signature(loss).parameters)[2:] if option != "lengths"]

    def made(**options: Any) -> Loss:
        unknown = [option for option in options if option not in allowed]
        if unknown:
            raise TypeError(f"{name} has no option {', '.join(unknown)}; it has: {', '.join(allowed)}")
        check_options(**{option: value for option, value in options.items() if option == "reduction"})
        if check is not None:
            check(**options)

        def fixed(outputs: Any, targets: Any, lengths: Any = None) -> Tensor:
            return loss(outputs, targets, lengths=lengths, **options)

        fixed.__name__ = fixed.__qualname__ = name
        fixed.__doc__ = f"`{name}` of (outputs, targets, lengths=None), with its options fixed:\n\n    {loss.__doc__}"
        return fixed

    made.__name__ = made.__qualname__ = name
    made.__doc__ = loss.__doc__
    if example is not None:
        made.example = example  # type: ignore[attr-defined]  # where the conformance kit looks
    if expected_failures is not None:
        made.expected_failures = dict(expected_failures)  # type: ignore[attr-defined]  # likewise
    return made


def check_options(**options: Any) -> None:
    """Raise for an option with a value that fits no input. Losses ask this first, and their factories at once."""
    for name, value in options.items():
        if name in _OPTIONS:
            fits, allowed = _OPTIONS[name]
            check_option(name, value, fits(value), allowed)


def check_option(name: str, value: Any, fits: bool, allowed: str) -> None:
    """Raise a ValueError that names the option, what it is and what it may be, unless it fits.

    >>> from minigrad.losses import check_option, is_number
    >>> gamma = -1.0
    >>> check_option("gamma", gamma, is_number(gamma) and gamma >= 0, "a number >= 0")
    Traceback (most recent call last):
    ValueError: gamma is -1.0; it must be a number >= 0
    """
    if not fits:
        raise ValueError(f"{name} is {value!r}; it must be {allowed}")


def is_number(value: Any) -> bool:
    """Whether an option is a real number, and not True or False.

    >>> from minigrad.losses import is_number
    >>> is_number(0.5), is_number(True), is_number("1")
    (True, False, False)
    """
    return isinstance(value, Real) and not isinstance(value, bool)
