"""Placeholder, being written."""

OPTIMIZER_CHECKS: dict = {}


def check_optimizer(*a, **k):
    raise NotImplementedError
