"""minigrad: recurrent networks on a small tape-based autograd, for NumPy and CuPy.

Everything public is here: `import minigrad as mg`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from minigrad import init, nest, ops
from minigrad.autograd import grad
from minigrad.backend import (
    Backend,
    default_dtype,
    get_backend,
    get_default_dtype,
    register_backend,
    seed,
    set_backend,
    set_default_dtype,
    use_backend,
)
from minigrad.builders import GRU, LSTM, RNN, recurrent
from minigrad.contract import Cell
from minigrad.creation import arange, full, ones, ones_like, zeros, zeros_like
from minigrad.errors import (
    BackendUnavailableError,
    CheckpointError,
    DeviceMismatchError,
    FreedGraphError,
    MinigradError,
    PlanError,
    PluginConflictError,
    PluginError,
    PluginWarning,
    StaleParameterError,
    StateDictError,
    UnknownNameError,
)
from minigrad.layers import Dropout, Embedding, LayerNorm, Linear, Sequential, check_size
from minigrad.lengths import last_outputs
from minigrad.module import Module
from minigrad.nest import detach
from minigrad.ops import *  # noqa: F403  # every operation is public
from minigrad.primitive import defvjp, primitive
from minigrad.recurrent import Bidirectional, Recurrent, RecurrentLayer, Stack
from minigrad.stateful import Stateful
from minigrad.tape import Tape, enable_grad, no_grad
from minigrad.tensor import Parameter, Tensor, as_tensor, tensor

if TYPE_CHECKING:
    from minigrad import decoding, diagnose, losses, optimizers, testing, train
    from minigrad.attention import AdditiveAttention, Attention, DotAttention
    from minigrad.bptt import Window, tbptt
    from minigrad.cells import GatedCell, GRUCell, LSTMCell, RNNCell
    from minigrad.checkpoint import load_checkpoint, save_checkpoint
    from minigrad.hookspecs import hookimpl
    from minigrad.optimizers import clip_grad_norm, clip_grad_value
    from minigrad.registry import PluginInfo, callback, cell, loss, optimizer, origins, plugins, wrapper
    from minigrad.train import Batches, Streams, Trainer, Truncated

_AT_FIRST_USE = {
    "attention": ("AdditiveAttention", "Attention", "DotAttention"),
    "bptt": ("Window", "tbptt"),
    "cells": ("GRUCell", "GatedCell", "LSTMCell", "RNNCell"),
    "checkpoint": ("load_checkpoint", "save_checkpoint"),
    "hookspecs": ("hookimpl",),
    "optimizers": ("clip_grad_norm", "clip_grad_value"),
    "registry": ("PluginInfo", "callback", "cell", "loss", "optimizer", "origins", "plugins", "wrapper"),
    "train": ("Batches", "Streams", "Trainer", "Truncated"),
}
"""Names by the module that is imported when one of them is first asked for, which keeps `import minigrad` quick."""

_MODULES = ("decoding", "diagnose", "losses", "optimizers", "testing", "train")
"""Modules that are imported when they are first asked for."""


def __getattr__(name: str) -> Any:
    for module, names in _AT_FIRST_USE.items():
        if name in names:
            return getattr(import_module(f"minigrad.{module}"), name)
    if name in _MODULES:
        return import_module(f"minigrad.{name}")
    raise AttributeError(f"module 'minigrad' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "AdditiveAttention",
    "Attention",
    "Backend",
    "BackendUnavailableError",
    "Batches",
    "Bidirectional",
    "Cell",
    "CheckpointError",
    "DeviceMismatchError",
    "DotAttention",
    "Dropout",
    "Embedding",
    "FreedGraphError",
    "GRUCell",
    "GatedCell",
    "LSTMCell",
    "LayerNorm",
    "Linear",
    "MinigradError",
    "Module",
    "Parameter",
    "PlanError",
    "PluginConflictError",
    "PluginError",
    "PluginInfo",
    "PluginWarning",
    "RNNCell",
    "Recurrent",
    "RecurrentLayer",
    "Sequential",
    "Stack",
    "StaleParameterError",
    "StateDictError",
    "Stateful",
    "Streams",
    "Tape",
    "Tensor",
    "Trainer",
    "Truncated",
    "UnknownNameError",
    "Window",
    "arange",
    "as_tensor",
    "callback",
    "cell",
    "check_size",
    "clip_grad_norm",
    "clip_grad_value",
    "decoding",
    "default_dtype",
    "defvjp",
    "detach",
    "diagnose",
    "enable_grad",
    "full",
    "get_backend",
    "get_default_dtype",
    "grad",
    "hookimpl",
    "init",
    "last_outputs",
    "load_checkpoint",
    "loss",
    "losses",
    "nest",
    "no_grad",
    "ones",
    "ones_like",
    "optimizer",
    "optimizers",
    "origins",
    "plugins",
    "primitive",
    "recurrent",
    "register_backend",
    "save_checkpoint",
    "seed",
    "set_backend",
    "set_default_dtype",
    "tbptt",
    "tensor",
    "testing",
    "train",
    "use_backend",
    "wrapper",
    "zeros",
    "zeros_like",
]
__all__ += ops.__all__
