"""The built-in losses, one per file, offered by the same hook as anyone else's; and what a loss of one's own needs.

Every loss takes what the model gave, what it should have given, and options; `mg.loss(name, **options)` fixes the
options and returns `loss(outputs, targets, lengths=None)`. Sequences are time first, (T, B, ...).
"""

from __future__ import annotations

from minigrad.hookspecs import Factories, hookimpl
from minigrad.lengths import check_lengths
from minigrad.losses import examples
from minigrad.losses.bce_with_logits import bce_with_logits
from minigrad.losses.cross_entropy import cross_entropy
from minigrad.losses.ctc import ctc
from minigrad.losses.huber import huber
from minigrad.losses.mae import mae
from minigrad.losses.mse import mse
from minigrad.losses.nll import nll
from minigrad.losses.options import check_option, check_options, factory, is_number
from minigrad.losses.parts import as_outputs, as_values, paired, reduce, time_mask, without_padding

__all__ = [
    "as_outputs",
    "as_values",
    "bce_with_logits",
    "check_lengths",
    "check_option",
    "cross_entropy",
    "ctc",
    "factory",
    "huber",
    "is_number",
    "mae",
    "mse",
    "nll",
    "paired",
    "reduce",
    "time_mask",
    "without_padding",
]


@hookimpl
def minigrad_losses() -> Factories:
    return {
        "cross_entropy": factory(cross_entropy, examples.logits_and_classes, check_options),
        "nll": factory(nll, examples.log_probabilities_and_classes, check_options),
        "bce_with_logits": factory(bce_with_logits, examples.logits_and_answers, check_options),
        "mse": factory(mse, examples.values, check_options),
        "mae": factory(mae, examples.values, check_options),
        "huber": factory(huber, examples.values, check_options),
        "ctc": factory(ctc, examples.frames_and_labels, check_options),
    }
