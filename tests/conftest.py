"""Every test runs once per backend: on NumPy, on the strict stand-in for a GPU, and on CuPy where there is one.

Those that are marked both_executors run on NumPy once more, with the plan's programs compiled to C.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

import minigrad as mg
from minigrad.backend import load_backend, register_backend
from minigrad.plan.native import toolchain
from minigrad.testing.strict import StrictBackend

os.environ["COLUMNS"] = "200"  # tables are as wide in a worker as in a terminal
os.environ.setdefault("MINIGRAD_NATIVE", "0")  # hundreds of cells would be compiled; tests that are for it turn it on
register_backend("strict", StrictBackend)
settings.register_profile("minigrad", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("minigrad")

collect_ignore_glob = ["golden/*"]  # what made the golden numbers needs PyTorch

BACKENDS = ["numpy", "strict"]
WHY_NO_GPU = ""
try:
    load_backend("cupy")
    BACKENDS.append("cupy")
except mg.BackendUnavailableError as _error:
    WHY_NO_GPU = str(_error)


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # the one process that starts the others, which share its folder
        config.add_cleanup(_share_compiled_code())
    config.addinivalue_line("markers", "host_only(reason): the backend makes no difference; runs once, on numpy")
    config.addinivalue_line("markers", "both_engines: layers that choose an engine run compiled, and on the tape")
    config.addinivalue_line("markers", "both_executors: programs of the plan run as array calls, and compiled to C")
    config.addinivalue_line("markers", "one_executor(reason): not in C, in a module that is marked both_executors")
    config.addinivalue_line("markers", "one_engine(reason): not twice, in a module that is marked both_engines")


def _share_compiled_code() -> Callable[[], None]:
    """Keep what is compiled in a folder of this run alone; gives what deletes it."""
    folder = tempfile.TemporaryDirectory(prefix="minigrad-tests-")
    os.environ["MINIGRAD_CACHE"] = folder.name
    return folder.cleanup


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames:
        host_only = next(metafunc.definition.iter_markers("host_only"), None)
        if host_only is not None and not (host_only.args or host_only.kwargs):
            raise pytest.UsageError(f"{metafunc.definition.nodeid}: host_only needs a reason")
        ways = ["numpy"] if host_only else BACKENDS
        metafunc.parametrize("backend", [*ways, *_compiled(metafunc.definition)], indirect=True)
    marks = {mark.name: mark for mark in metafunc.definition.iter_markers()}
    if "one_engine" in marks and not (marks["one_engine"].args and "both_engines" in marks):
        raise pytest.UsageError(f"{metafunc.definition.nodeid}: one_engine needs a reason, and both_engines around it")
    if "both_engines" in marks and "one_engine" not in marks:
        metafunc.parametrize("engine", ["plan", "tape"], indirect=True)


def _compiled(test: pytest.Item) -> list[str]:
    """The way that a test goes in C, if it is to."""
    marks = {mark.name: mark for mark in test.iter_markers()}
    if "one_executor" in marks and not (marks["one_executor"].args and "both_executors" in marks):
        raise pytest.UsageError(f"{test.nodeid}: one_executor needs a reason, and both_executors around it")
    return ["native"] if "both_executors" in marks and "one_executor" not in marks else []


@pytest.fixture(autouse=True)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The backend that this run of the test is for, current and freshly seeded; "native" is NumPy, with compiled C."""
    name = getattr(request, "param", "numpy")
    if name == "native":
        monkeypatch.setenv("MINIGRAD_NATIVE", "1")
        without = toolchain.unavailable()
        if without is not None:
            pytest.skip(without.reason)
        slower = ["-O1" if flag == "-O3" else flag for flag in toolchain.FLAGS]
        monkeypatch.setattr(toolchain, "FLAGS", slower)  # compiled in half the time; -O3 has tests of its own
        monkeypatch.setenv("MINIGRAD_CACHE", os.path.join(os.environ["MINIGRAD_CACHE"], "O1"))
        name = "numpy"
    mg.set_backend(name)
    mg.set_default_dtype("float32")
    mg.seed(0)
    yield mg.get_backend()
    mg.set_backend("numpy")
    mg.set_default_dtype("float32")


@pytest.fixture
def compiles(request: pytest.FixtureRequest) -> bool:
    """Whether programs of the plan are compiled to C in this run of the test."""
    way = request.node.callspec.params["backend"]
    return way == "native" or (way == "numpy" and os.environ["MINIGRAD_NATIVE"] != "0")


@pytest.fixture(autouse=True)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What `engine="auto"` means in this run of the test: "auto" itself, or one engine if it is marked both_engines."""
    chosen: str = getattr(request, "param", "auto")
    if chosen == "tape":  # the module of that name, which the function `mg.recurrent` hides
        monkeypatch.setattr(import_module("minigrad.recurrent"), "run_plan", lambda *a, **k: None, raising=False)
    return chosen


@pytest.fixture
def unwritten_is_nan(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory of the plan that nothing has been written to is NaN, so that no result depends on it unnoticed."""
    empty = backend.xp.empty

    def filled(shape: Any, dtype: Any = float, **options: Any) -> Any:
        array = empty(shape, dtype, **options)
        if sys._getframe(1).f_globals["__name__"].startswith("minigrad.plan") and array.dtype.kind == "f":
            array.fill(np.nan)
        return array

    monkeypatch.setattr(backend.xp, "empty", filled)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The stand-in for a GPU on which the CUDA executor runs, as the current backend."""
    import fake_cuda  # not before a test wants it

    return fake_cuda.install(monkeypatch)


@pytest.fixture
def cuda(fake: Any) -> Any:
    """The stand-in's `cupy.cuda`."""
    return fake.xp.cuda


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say once how many tests would have run on a GPU, and why they did not."""
    reports = [report for name in ("passed", "failed", "error") for report in terminalreporter.stats.get(name, [])]
    stand_ins = {r.nodeid for r in reports if "[strict" in r.nodeid or "-strict" in r.nodeid}
    if WHY_NO_GPU and stand_ins:
        terminalreporter.section("GPU tests")
        terminalreporter.line(f"{len(stand_ins)} tests ran on the stand-in but not on a GPU: {WHY_NO_GPU}")
