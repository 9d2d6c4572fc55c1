"""The examples in the docstrings of the package run, and print what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import minigrad as mg

MODULES = sorted(info.name for info in pkgutil.walk_packages(mg.__path__, "minigrad."))
EXAMPLES = [
    example
    for name in ["minigrad", *MODULES]
    for example in doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name), extraglobs={"mg": mg})
    if example.examples
]


@pytest.mark.host_only("docstrings show NumPy's results")
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_docstring_example(example: doctest.DocTest) -> None:
    said: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=said.append)
    assert result.failed == 0, "".join(said)
