"""Placeholder, being written."""

CELL_CHECKS: dict = {}


def check_cell(*a, **k):
    raise NotImplementedError
