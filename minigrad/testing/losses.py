"""Placeholder, being written."""

LOSS_CHECKS: dict = {}


def check_loss(*a, **k):
    raise NotImplementedError
