"""Wrappers of any cell: zoneout, variational and recurrent dropout, residual and highway connections."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import minigrad as mg
from minigrad_regularizers.highway import Highway
from minigrad_regularizers.recurrent_dropout import RecurrentDropout
from minigrad_regularizers.residual import Residual
from minigrad_regularizers.variational_dropout import VariationalDropout
from minigrad_regularizers.wrapper import Wrapper
from minigrad_regularizers.zoneout import Zoneout

__all__ = ["Highway", "RecurrentDropout", "Residual", "VariationalDropout", "Wrapper", "Zoneout"]


@mg.hookimpl
def minigrad_wrappers() -> Mapping[str, Callable[..., mg.Cell]]:
    return {
        "zoneout": Zoneout,
        "variational_dropout": VariationalDropout,
        "recurrent_dropout": RecurrentDropout,
        "residual": Residual,
        "highway": Highway,
    }
