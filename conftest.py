"""The doctests of the package and of the tests know `mg`. All else is in tests/conftest.py."""

from __future__ import annotations

from typing import Any

import pytest

import minigrad


@pytest.fixture(autouse=True)
def _mg(doctest_namespace: dict[str, Any]) -> None:
    doctest_namespace["mg"] = minigrad
