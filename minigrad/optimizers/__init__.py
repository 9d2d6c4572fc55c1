"""The built-in optimizers, one per file, offered by the same hook as anyone else's; and the clipping of gradients."""

from __future__ import annotations

from minigrad.hookspecs import Factories, hookimpl
from minigrad.optimizers._arguments import is_number
from minigrad.optimizers.adagrad import Adagrad
from minigrad.optimizers.adam import Adam
from minigrad.optimizers.adamw import AdamW
from minigrad.optimizers.base import Optimizer
from minigrad.optimizers.clip import clip_grad_norm, clip_grad_value
from minigrad.optimizers.rmsprop import RMSprop
from minigrad.optimizers.sgd import SGD

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Optimizer", "RMSprop", "clip_grad_norm", "clip_grad_value", "is_number"]


@hookimpl
def minigrad_optimizers() -> Factories:
    return {"sgd": SGD, "rmsprop": RMSprop, "adagrad": Adagrad, "adam": Adam, "adamw": AdamW}
