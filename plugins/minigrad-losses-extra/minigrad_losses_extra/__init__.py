"""Losses: focal, pinball (quantile), and soft dynamic time warping."""

from __future__ import annotations

from minigrad_losses_extra.focal import focal
from minigrad_losses_extra.pinball import pinball
from minigrad_losses_extra.plugin import minigrad_losses
from minigrad_losses_extra.soft_dtw import soft_dtw

__all__ = ["focal", "minigrad_losses", "pinball", "soft_dtw"]
