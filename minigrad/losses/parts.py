"""What the losses share: tensors of what they are given, leaving out padding, and reducing to a number.

Sequences are time first: outputs of shape (T, B, ...) with lengths (B,). Whatever stands at a position
t >= lengths[b] counts neither in a sum nor in a mean's denominator, and its gradient is exactly 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minigrad.backend import as_dtype, is_floating
from minigrad.lengths import check_lengths
from minigrad.losses.options import check_options
from minigrad.ops import astype, equal, less, reshape, sum, where
from minigrad.tensor import Tensor, as_tensor


def as_real(name: str, value: Any, like: Tensor | None = None) -> Tensor:
    """`value` as a tensor of real numbers, or an error that says which argument it is."""
    try:
        tensor = as_tensor(value, like=like)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None
    if tensor.dtype.kind == "c":
        raise TypeError(f"{name} are {tensor.dtype}; losses take real numbers only")
    return tensor


def as_outputs(outputs: Any) -> Tensor:
    """What the model gave, as a floating-point tensor; integers and bare data take the default dtype.

    >>> from minigrad.losses import as_outputs
    >>> as_outputs([1, 2])
    tensor([1., 2.], dtype=float32)
    """
    tensor = as_real("outputs", outputs)
    return tensor if is_floating(tensor.dtype) else astype(tensor, as_dtype(None))


def as_values(name: str, value: Any, outputs: Tensor) -> Tensor:
    """Targets or weights in the dtype of the outputs, so that float32 stays float32.

    Args:
        name: of the argument, for messages.
        value: a tensor, an array, or numbers.
        outputs: a floating-point tensor.

    >>> from minigrad.losses import as_values
    >>> as_values("targets", [1, 2], mg.ones(2, dtype="float64")).dtype
    dtype('float64')
    """
    tensor = as_real(name, value, like=outputs)
    return tensor if tensor.dtype == outputs.dtype else astype(tensor, outputs.dtype)


def paired(outputs: Any, targets: Any, lengths: Any) -> tuple[Tensor, Tensor, Tensor | None]:
    """Outputs and targets of one shape and dtype, with 0 at padding; and the mask of what counts, as `time_mask` gives.

    >>> from minigrad.losses import paired
    >>> outputs, targets, mask = paired(mg.ones((3, 2)), mg.ones((3, 2)), lengths=[3, 1])
    >>> outputs.numpy().tolist(), targets.shape, mask.shape
    ([[1.0, 1.0], [1.0, 0.0], [1.0, 0.0]], (3, 2), (3, 2))

    Raises:
        ValueError: the shapes differ (nothing is broadcast), or the lengths do not fit.
    """
    outputs = as_outputs(outputs)
    targets = as_values("targets", targets, outputs)
    check_same_shape(outputs, targets)
    mask = time_mask(lengths, outputs.shape, outputs)
    return without_padding(outputs, mask), without_padding(targets, mask), mask


def reduce_errors(
    formula: Callable[[Tensor], Tensor], outputs: Any, targets: Any, reduction: str, lengths: Any
) -> Tensor:
    """The loss of a regression: the formula of outputs - targets, reduced."""
    check_options(reduction=reduction)
    outputs, targets, mask = paired(outputs, targets, lengths)
    return reduce(formula(outputs - targets), reduction, mask)


def check_same_shape(outputs: Tensor, targets: Tensor) -> None:
    if outputs.shape != targets.shape:
        raise ValueError(
            f"targets have shape {targets.shape}, but the outputs have {outputs.shape}; they must be equal, because "
            "broadcasting would pair outputs with targets of other positions. Use .reshape(...) on one of them"
        )


def check_broadcasts(name: str, value: Tensor, shape: tuple[int, ...]) -> None:
    """Raise unless `value` can be broadcast against `shape` without enlarging it."""
    extra = len(shape) - value.ndim
    if extra < 0 or any(size not in (1, whole) for size, whole in zip(value.shape, shape[extra:], strict=True)):
        raise ValueError(f"{name} has shape {value.shape}, which does not broadcast to that of the outputs, {shape}")


def check_indices(
    name: str, indices: Tensor, stop: int, counted: Tensor | None = None, but_not: int | None = None
) -> None:
    """Raise unless all of `indices` (where `counted`) are in [0, stop) and none is `but_not`.

    A wrong index would wrap around to another class in silence. On a GPU the error comes with the next number that is
    read, as a rule the loss: nothing waits for it before.
    """
    data = indices.data
    wrong = (data < 0) | (data >= stop)
    if but_not is not None:
        wrong = wrong | (data == but_not)
    if counted is not None:
        wrong = wrong & counted.data

    def error() -> IndexError:
        found = sorted({int(index) for index in indices.numpy()[Tensor(wrong).numpy()]})
        listed = ", ".join(map(str, found[:5])) + (", ..." if len(found) > 5 else "")
        besides = "" if but_not is None else f" other than {but_not}, the blank"
        if but_not is None and found[0] < 0:
            besides = f". If {found[0]} marks what shall not count, pass ignore_index={found[0]}"
        return IndexError(f"{name} hold {listed}; with {stop} classes they must be in [0, {stop}){besides}")

    indices.backend.require(~wrong.any(), error)


def check_integers(name: str, values: Tensor) -> None:
    if values.dtype.kind not in "iu":
        raise TypeError(f"{name} are {values.dtype}; they must be integers: use {name}.astype('int64')")


def positions(count: int, like: Tensor) -> Tensor:
    """0, 1, ..., count - 1 on the backend of `like`."""
    return Tensor(like.backend.xp.arange(count))


def time_mask(lengths: Any, shape: tuple[int, ...], like: Tensor) -> Tensor | None:
    """Which of the positions of `shape` (T, B, ...) count: t < lengths[b], as booleans (T, B); None if all do.

    Args:
        lengths: (B,) integers in 0..T; None for all.
        shape: of a loss per position.
        like: a tensor on the backend that the mask shall be on.

    >>> from minigrad.losses import time_mask
    >>> time_mask([2, 1], (2, 2), mg.ones(1))
    tensor([[ True,  True],
           [ True, False]])
    """
    if lengths is None:
        return None
    if len(shape) < 2:
        raise ValueError(f"lengths need a loss per position of shape (T, B, ...), time first; here it is {shape}")
    steps, batch = shape[:2]
    limits = as_tensor(check_lengths(lengths, steps, batch), like=like)
    return less(positions(steps, like)[:, None], limits[None, :])


def without_padding(x: Tensor, mask: Tensor | None) -> Tensor:
    """x (T, B, ...) with 0 where the mask (T, B) is false: NaN there reaches neither the loss nor a gradient.

    >>> from minigrad.losses import time_mask, without_padding
    >>> x = mg.tensor([[1.0], [float("nan")]])
    >>> without_padding(x, time_mask([1], x.shape, x)).numpy().tolist()
    [[1.0], [0.0]]
    """
    return x if mask is None else where(reshape(mask, mask.shape + (1,) * (x.ndim - 2)), x, 0)


def reduce(losses: Tensor, reduction: str, mask: Tensor | None = None, weights: Tensor | None = None) -> Tensor:
    """The losses of all positions as one number.

    Args:
        losses: any shape; (T, B, ...) with a mask.
        reduction: "mean", "sum", or "none" for the losses themselves (0 at padding).
        mask: which positions count, (T, B).
        weights: how much each position counts in the denominator of a mean, shape of `losses`; by default 1.

    Returns:
        A scalar, or the shape of `losses`. A mean over no positions is 0.

    Raises:
        ValueError: there is no such reduction.

    >>> from minigrad.losses import reduce, time_mask
    >>> losses = mg.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> reduce(losses, "mean", time_mask([2, 1], losses.shape, losses)).item()
    2.0
    """
    check_options(reduction=reduction)
    losses = without_padding(losses, mask)
    if reduction == "none":
        return losses
    total = sum(losses)
    if reduction == "sum":
        return total
    if weights is not None:
        count = sum(without_padding(weights, mask))
    elif mask is not None:
        count = sum(astype(mask, losses.dtype)) * (losses.size // max(mask.size, 1))
    else:
        return total / max(losses.size, 1)
    return total / where(equal(count, 0), 1.0, count)
