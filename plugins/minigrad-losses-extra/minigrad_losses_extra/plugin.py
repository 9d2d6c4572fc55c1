"""What minigrad finds: the losses by name, each with an example to be tested with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import minigrad as mg
from minigrad.losses import factory
from minigrad_losses_extra.focal import check_gamma, focal
from minigrad_losses_extra.pinball import check_quantiles, pinball
from minigrad_losses_extra.soft_dtw import NOT_PER_STEP, check_smoothing, soft_dtw


@mg.hookimpl
def minigrad_losses() -> Mapping[str, Callable[..., Any]]:
    return {
        "focal": factory(focal, example=_logits_and_classes, check=check_gamma),
        "pinball": factory(pinball, example=_values, check=check_quantiles),
        "soft_dtw": factory(soft_dtw, example=_values, check=check_smoothing, expected_failures=NOT_PER_STEP),
    }


def _values(generator: Any) -> tuple[Any, Any]:
    return generator.standard_normal((5, 3, 4)), generator.standard_normal((5, 3, 4))


def _logits_and_classes(generator: Any) -> tuple[Any, Any]:
    return generator.standard_normal((5, 3, 4)), generator.integers(0, 4, (5, 3))
