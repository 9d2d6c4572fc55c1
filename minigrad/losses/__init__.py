"""The built-in losses, one per file, offered by the same hook as anyone else's.

Every loss takes what the model gave, what it should have given, and options; `mg.loss(name, **options)` fixes the
options and returns `loss(outputs, targets, lengths=None)`. Sequences are time first, (T, B, ...).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from minigrad.hookspecs import Factories, hookimpl
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
    losses: list[Loss] = [cross_entropy, nll, bce_with_logits, mse, mae, huber]
    return {**{loss.__name__: _factory(loss, loss) for loss in losses}, "ctc": _factory(_ctc, ctc)}


def _ctc(outputs: Any, targets: Any, lengths: Any = None, **options: Any) -> Tensor:
    """`ctc` in the form of every other loss: targets are labels (B, S), or a pair of labels and their lengths (B,)."""
    labels, target_lengths = targets if isinstance(targets, tuple | list) else (targets, None)
    return ctc(outputs, labels, lengths, target_lengths, **options)


def _factory(loss: Loss, described: Loss) -> Callable[..., Loss]:
    """A function of the loss's options that returns the loss with these options fixed."""
    tensors = {"lengths", "input_lengths", "target_lengths"}
    allowed = [name for name in list(inspect.signature(described).parameters)[2:] if name not in tensors]

    def factory(**options: Any) -> Loss:
        unknown = [name for name in options if name not in allowed]
        if unknown:
            raise TypeError(f"{described.__name__} has no option {', '.join(unknown)}; it has: {', '.join(allowed)}")

        def fixed(outputs: Any, targets: Any, lengths: Any = None) -> Tensor:
            return loss(outputs, targets, lengths=lengths, **options)

        fixed.__name__ = fixed.__qualname__ = described.__name__
        fixed.__doc__ = described.__doc__
        return fixed

    factory.__name__ = factory.__qualname__ = described.__name__
    factory.__doc__ = described.__doc__
    return factory
