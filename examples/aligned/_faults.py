"""Faults of a measuring station, planted into a monthly series for `anomalies.py`."""

from __future__ import annotations

import numpy as np

KINDS = ("spike", "stuck", "wrong months")
BLOCK = 54


def planted(values: np.ndarray, start: int, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Temperatures with each kind of fault once in every BLOCK months from `start` on; and 0, or 1 + kind, per month.

    A spike is a month 1.5 to 3 degrees too warm or too cold; a stuck sensor repeats a reading for 4 to 6 months; and
    for 6 months there stand the readings of three months later.
    """
    values, faults = values.copy(), np.zeros(len(values), dtype=int)
    for block in range(start, len(values) - BLOCK + 1, BLOCK):
        for place, kind in enumerate(draw.permutation(3)):
            first = block + place * BLOCK // 3 + draw.integers(2, 10)
            last = first + (1, draw.integers(4, 7), 6)[kind]
            spike = values[first] + draw.choice([-1, 1]) * draw.uniform(1.5, 3)
            values[first:last] = (spike, values[first - 1], values[first + 3 : last + 3].copy())[kind]
            faults[first:last] = 1 + kind
    return values, faults
