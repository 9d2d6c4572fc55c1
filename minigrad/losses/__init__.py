"""The built-in losses, one per file, offered by the same hook as anyone else's.

Every loss takes what the model gave, what it should have given, and options; `mg.loss(name, **options)` fixes the
options and returns `loss(outputs, targets, lengths=None)`. Sequences are time first, (T, B, ...).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from minigrad.hookspecs import Factories, hookimpl
from minigrad.losses._reduce import check_options
from minigrad.losses.bce_with_logits import bce_with_logits
from minigrad.losses.cross_entropy import cross_entropy
from minigrad.losses.ctc import ctc
from minigrad.losses.huber import huber
from minigrad.losses.mae import mae
from minigrad.losses.mse import mse
from minigrad.losses.nll import nll
from minigrad.tensor import Tensor

__all__ = ["bce_with_logits", "cross_entropy", "ctc", "huber", "mae", "mse", "nll"]

Loss = Callable[..., Tensor]


@hookimpl
def minigrad_losses() -> Factories:
    losses: list[Loss] = [cross_entropy, nll, bce_with_logits, mse, mae, huber, ctc]
    return {loss.__name__: _factory(loss) for loss in losses}


def _factory(loss: Loss) -> Callable[..., Loss]:
    """A function of the loss's options that returns the loss with these options fixed."""
    name = loss.__name__
    allowed = [option for option in list(inspect.signature(loss).parameters)[2:] if option != "lengths"]

    def factory(**options: Any) -> Loss:
        unknown = [option for option in options if option not in allowed]
        if unknown:
            raise TypeError(f"{name} has no option {', '.join(unknown)}; it has: {', '.join(allowed)}")
        check_options(**options)

        def fixed(outputs: Any, targets: Any, lengths: Any = None) -> Tensor:
            return loss(outputs, targets, lengths=lengths, **options)

        fixed.__name__ = fixed.__qualname__ = name
        fixed.__doc__ = f"`{name}` of (outputs, targets, lengths=None), with its options fixed:\n\n    {loss.__doc__}"
        return fixed

    factory.__name__ = factory.__qualname__ = name
    factory.__doc__ = loss.__doc__
    return factory
