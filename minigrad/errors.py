"""The errors that minigrad raises on purpose. Each says what came, what is allowed and what to do."""

from __future__ import annotations

__all__ = [
    "BackendUnavailableError",
    "CheckpointError",
    "DeviceMismatchError",
    "FreedGraphError",
    "MinigradError",
    "PlanError",
    "PluginConflictError",
    "PluginError",
    "PluginWarning",
    "StaleParameterError",
    "StateDictError",
    "UnknownNameError",
]


class MinigradError(Exception):
    """Base of every error that only minigrad raises."""


class BackendUnavailableError(MinigradError):
    """The chosen backend cannot run here: its library or its device is missing."""


class DeviceMismatchError(MinigradError, TypeError):
    """Arrays of two backends met in one operation."""


class FreedGraphError(MinigradError, RuntimeError):
    """A backward walk reached a node whose saved values an earlier walk has already freed."""


class StaleParameterError(MinigradError, RuntimeError):
    """A backward walk needs a parameter's value from before its last update."""


class PlanError(MinigradError, RuntimeError):
    """A layer with `engine="plan"` has a cell that cannot be compiled; the message says why and what to change."""


class StateDictError(MinigradError, ValueError):
    """A state dict does not fit the module; nothing was loaded."""


class CheckpointError(MinigradError, ValueError):
    """A checkpoint file is missing, damaged or not from this program; nothing was loaded."""


class PluginError(MinigradError):
    """A plugin is not there (it failed to load, needs another minigrad, is switched off), and it was asked for."""


class PluginConflictError(PluginError):
    """Two distributions offer the same name."""


class UnknownNameError(MinigradError, LookupError):
    """No plugin offers this name."""


class PluginWarning(UserWarning):
    """A choice of plugins that does nothing, or a checkpoint that another version of a plugin wrote."""
