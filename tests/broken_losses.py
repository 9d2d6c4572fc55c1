"""Losses with one defect each, for the kit to catch: (the check that does, a factory, what it says)."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

import minigrad as mg
from minigrad.losses import mse

Loss = Any


def made(loss: Loss, base: Any = mse) -> Any:
    """A factory of a loss that is right but for one thing: loss(base with options, outputs, targets, lengths)."""

    def factory(*, reduction: str = "mean") -> Loss:
        def whole(outputs: Any, targets: Any, lengths: Any = None) -> Any:
            return loss(partial(base, reduction=reduction), outputs, targets, lengths)

        return whole

    return factory


def plain(loss: Loss) -> Any:
    """A factory without options."""
    return lambda: loss


def mask_of(lengths: Any, like: Any) -> Any:
    return mg.tensor(np.arange(like.shape[0])[:, None] < np.asarray(lengths)).astype(like.dtype)[:, :, None]


def half_detached(base, outputs, targets, lengths):
    return base((outputs + outputs.detach()) * 0.5, targets, lengths=lengths)


def linearised(base, outputs, targets, lengths):
    error = outputs - targets
    fixed = error.detach()
    return (2 * fixed * error - fixed * fixed).mean()


def sum_over_time(*, reduction="mean"):
    def loss(outputs, targets, lengths=None):
        losses = mse(outputs, targets, reduction="none", lengths=lengths)
        return {"none": losses, "sum": losses.sum() / outputs.shape[1], "mean": losses.mean()}[reduction]

    return loss


def mean_counts_padding(*, reduction="mean"):
    def loss(outputs, targets, lengths=None):
        losses = mse(outputs, targets, reduction="none", lengths=lengths)
        return {"none": losses, "sum": losses.sum(), "mean": losses.mean()}[reduction]

    return loss


def none_is_summed_over_the_batch(*, reduction="mean"):
    def loss(outputs, targets, lengths=None):
        value = mse(outputs, targets, lengths=lengths, reduction=reduction)
        return value.sum(axis=(1, 2)) if reduction == "none" else value

    return loss


def any_other_reduction_is_a_mean(*, reduction="mean"):
    return partial(mse, reduction=reduction if reduction in ("sum", "none") else "mean")


def mean_of_a_share(base, outputs, targets, lengths):
    value = base(outputs, targets, lengths=lengths)
    return value / outputs.shape[1] if base.keywords["reduction"] == "mean" else value


def mean_over_half_the_batch(base, outputs, targets, lengths):
    if base.keywords["reduction"] == "mean":
        outputs, targets = (x[:, : (x.shape[1] + 1) // 2] for x in (outputs, targets))
        lengths = None if lengths is None else lengths[: outputs.shape[1]]
    return base(outputs, targets, lengths=lengths)


def masked_by_a_product(base, outputs, targets, lengths):
    losses = mg.square(outputs - targets)
    return (losses if lengths is None else losses * mask_of(lengths, outputs)).sum()


def deaf_to_lengths(base, outputs, targets, lengths):
    return base(outputs, targets)


def lengths_of_time_last(base, outputs, targets, lengths):
    if lengths is not None:
        lengths = [outputs.shape[0] - n for n in np.asarray(lengths)]
    return base(outputs, targets, lengths=lengths)


def lists_alone(base, outputs, targets, lengths):
    if lengths is not None and not isinstance(lengths, list):
        lengths = [outputs.shape[0]] * outputs.shape[1]
    return base(outputs, targets, lengths=lengths)


def without_the_last_step(base, outputs, targets, lengths):
    return base(outputs, targets, lengths=None if lengths is None else [max(n - 1, 0) for n in lengths])


def divided_by_the_count(base, outputs, targets, lengths):
    if lengths is None:
        return base(outputs, targets)
    return mse(outputs, targets, reduction="sum", lengths=lengths) / (sum(np.asarray(lengths)) * outputs.shape[2])


def offset_by_one(base, outputs, targets, lengths):
    return base(outputs, targets, lengths=lengths) + 1.0


def clipped_lengths(base, outputs, targets, lengths):
    if lengths is not None:
        lengths = np.clip(np.resize(lengths, outputs.shape[1]), 0, outputs.shape[0]).astype(int)
    return base(outputs, targets, lengths=lengths)


def naive_logistic(base, outputs, targets, lengths):
    return (mg.log(1 + mg.exp(outputs)) - outputs * targets).mean()


def root(base, outputs, targets, lengths):
    return mg.sqrt(base(outputs, targets, lengths=lengths))


def nan_is_zero(base, outputs, targets, lengths):
    return base(mg.where(mg.isfinite(outputs), outputs, 0.0), targets, lengths=lengths)


def bessel_over_the_batch(base, outputs, targets, lengths):
    return base(outputs, targets, lengths=lengths) / mg.tensor(np.array(outputs.shape[1] - 1.0))


def steps_between(base, outputs, targets, lengths):
    return base(outputs, targets) * (len(outputs) / max(len(outputs) - 1, 1))


def default_dtype(base, outputs, targets, lengths):
    return base(outputs, targets, lengths=lengths) * mg.ones(())


def float16_inside(base, outputs, targets, lengths):
    inside = outputs.astype("float16").astype("float32") if outputs.dtype == "float32" else outputs
    return base(inside, targets, lengths=lengths)


def writes_into_outputs(base, outputs, targets, lengths):
    value = base(outputs, targets, lengths=lengths)
    outputs.data[...] = 0
    return value


def writes_into_targets(base, outputs, targets, lengths):
    value = base(outputs, targets, lengths=lengths)
    targets.data += 1
    return value


def sorts_lengths(base, outputs, targets, lengths):
    if lengths is not None:
        lengths.sort()
    return base(outputs, targets, lengths=lengths)


def noisy(base, outputs, targets, lengths):
    return base(outputs + mg.tensor(np.random.default_rng().normal(size=outputs.shape)), targets, lengths=lengths)


def counts_its_calls(base, outputs, targets, lengths, calls=[]):  # noqa: B006
    calls.append(1)
    return base(outputs, targets, lengths=lengths) * len(calls)


def on_a_leaf_of_its_own(base, outputs, targets, lengths):
    with mg.enable_grad():
        return base(outputs * mg.tensor(np.ones(()), requires_grad=True), targets, lengths=lengths)


def divided_by_the_steps_of_the_first_call():
    steps = []

    def loss(outputs, targets, lengths=None):
        steps.append(len(outputs))
        return mse(outputs, targets, lengths=lengths, reduction="sum") / steps[0]

    return loss


def broadcasts(base, outputs, targets, lengths):
    return mg.square(outputs - targets).mean()


def by_numpy(base, outputs, targets, lengths):
    return base(outputs, targets, lengths=lengths) * float(np.ones_like(outputs.data).mean())


DEFECTS = [
    ("scalar", made(lambda base, x, y, n: mse(x, y, reduction="none")), r"shape \(\); it is of shape \(5, 3, 4\)"),
    ("scalar", plain(lambda x, y, lengths=None: mse(x, y).item()), "it is a float"),
    ("scalar", plain(lambda x, y, lengths=None: mse(x.detach(), y)), "needs no gradient, though the outputs do"),
    ("scalar", plain(lambda x, y, lengths=None: mse(x, y) * np.inf), "the loss of the example is inf"),
    ("gradients", made(half_detached), r"the gradient of outputs \(5, 3, 4\).*: .* allowed is 1e-06"),
    ("gradients_of_gradients", made(linearised), r"second gradient of outputs \(5, 3, 4\)"),
    ("reduction", sum_over_time, 'of reduction "sum", against the sum of "none"'),
    ("reduction", mean_counts_padding, r"positions that are all equal, with lengths \[5, 1, 0\]"),
    ("reduction", none_is_summed_over_the_batch, r'reduction "none" the loss has shape \(5,\); with outputs \(5, 3, 4'),
    ("reduction", made(mean_of_a_share), 'the loss of reduction "mean" of positions that are all equal'),
    ("reduction", made(mean_over_half_the_batch), 'reduction "mean" of a batch that holds each sequence twice'),
    ("padding", made(masked_by_a_product), r"with lengths \[5, 1, 0\] and nan .* must be exactly 0; .* such as nan"),
    ("padding", made(deaf_to_lengths), "must be exactly 0"),
    ("lengths", mean_counts_padding, r"lengths=\[1\], against that of its first 1 steps alone"),
    ("lengths", made(lengths_of_time_last), "against the sum over sequences alone"),
    ("lengths", made(lists_alone), "with lengths as ndarray, against a list"),
    ("lengths", plain(lambda x, y, *, lengths=None: mse(x, y, lengths=lengths)), "positional argument"),
    ("full_lengths", made(without_the_last_step), r"with lengths \[5, 5, 5\], against none"),
    ("no_steps", made(divided_by_the_count), r"with lengths \[0, 0, 0\]"),
    ("no_steps", made(offset_by_one), r"with lengths \[0, 0, 0\] the loss must be 0; it is 1"),
    ("bad_lengths", made(clipped_lengths), r"lengths \[5, 5, 5, 5\] with outputs \(5, 3, 4\): nothing is raised"),
    ("extreme_outputs", made(naive_logistic), "of outputs that are .* overflow"),
    ("extreme_outputs", made(root), "of outputs that are the targets: .* divide by zero"),
    ("nan_shows", made(nan_is_zero), "NaN is hidden"),
    ("batch_of_one", made(bessel_over_the_batch), "of a batch of one sequence"),
    (
        "time_of_one",
        made(steps_between),
        "the loss of sequences of one step, against that of two copies, is 3.08395 and should be 6.16789; off by",
    ),
    ("dtype", made(default_dtype), "the loss of float32 outputs and targets is float64"),
    ("dtype", made(float16_inside), "in float32, against float64"),
    ("no_mutation", made(writes_into_outputs), "changes its argument outputs in place"),
    ("no_mutation", made(writes_into_targets), "changes its argument targets in place"),
    ("no_mutation", made(sorts_lengths), "changes its argument lengths in place"),
    ("determinism", made(noisy), "gives something else for the same arguments"),
    ("determinism", made(counts_its_calls), "called again, the same loss gives something else"),
    ("no_grad", made(on_a_leaf_of_its_own), "needs a gradient all the same"),
    ("tbptt", divided_by_the_steps_of_the_first_call, "the loss of the window of steps 4..4 with lengths None"),
    ("mismatched_shapes", made(broadcasts), r"outputs \(5, 3, 4\) with targets \(5, 1, 4\): nothing is raised"),
    ("unknown_option", any_other_reduction_is_a_mean, 'reduction="no_such_reduction": nothing is raised'),
    ("unknown_option", lambda **options: mse, r"no_such_option=1\): nothing is raised"),
    ("backend[numpy]", made(default_dtype), "are on numpy, strict is current: DeviceMismatchError: multiply: x1 is on"),
    ("backend[strict]", made(by_numpy), "are on strict, .* TypeError: numpy.ones_like was called on a device array"),
    ("backend[cupy]", made(by_numpy), ""),
]
