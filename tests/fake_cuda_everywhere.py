"""A plugin for pytest: all tests of the strict stand-in run with the CUDA executor, on the device of `fake_cuda.py`.

    PYTHONPATH=tests python -m pytest -p fake_cuda_everywhere -n 0 -k strict

What passes so has been computed by the plan's kernels, compiled for the CPU, as far as it runs layers over time.
"""

from __future__ import annotations

import functools

import pytest


def pytest_collection(session: pytest.Session) -> None:
    """Put the device in the place of the backend "strict", when that is known."""
    import fake_cuda

    import minigrad as mg
    from minigrad import backend as backends

    made = fake_cuda.install(pytest.MonkeyPatch())  # until the process ends
    made.name = "strict"
    # An index that is out of range is an error at once here, where a GPU takes another element and tells it later.
    made.require = functools.partial(backends.Backend.require, made)
    backends._loaded["strict"] = made
    mg.set_backend("numpy")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out, with its reason, what does not hold of compiled code."""
    for item in items:
        if (mark := item.get_closest_marker("one_executor")) is not None:
            item.add_marker(pytest.mark.skip(reason=mark.args[0]))
