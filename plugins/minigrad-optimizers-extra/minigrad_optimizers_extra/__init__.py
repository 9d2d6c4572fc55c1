"""Optimizers: Lion, NAdam, RAdam, and Lookahead around any other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import minigrad as mg
from minigrad_optimizers_extra.lion import Lion
from minigrad_optimizers_extra.lookahead import Lookahead, lookahead
from minigrad_optimizers_extra.nadam import NAdam
from minigrad_optimizers_extra.radam import RAdam

__all__ = ["Lion", "Lookahead", "NAdam", "RAdam", "lookahead"]


@mg.hookimpl
def minigrad_optimizers() -> Mapping[str, Callable[..., Any]]:
    return {"lion": Lion, "nadam": NAdam, "radam": RAdam, "lookahead": lookahead}
