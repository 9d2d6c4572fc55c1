"""Every test starts from the same seed, dtype and backend."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import minigrad as mg


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    mg.set_backend("numpy")
    mg.set_default_dtype("float64")
    mg.seed(0)
    yield
    mg.set_default_dtype("float32")
