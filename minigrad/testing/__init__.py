"""The conformance kit: it proves that a cell, wrapper, loss or optimizer, anybody's, keeps minigrad's contracts.

    from minigrad.testing import check_cell, summary

    results = check_cell(MyCell)
    print(summary(results))

or, for pytest, one test per check:

    from minigrad.testing import CellTests

    class TestMyCell(CellTests):
        factory = MyCell

or, for a cell that is registered, `minigrad check cell my_cell`.
"""

from __future__ import annotations

from minigrad.testing.cells import check_cell
from minigrad.testing.gradients import check_gradients
from minigrad.testing.losses import check_loss
from minigrad.testing.optimizers import check_optimizer
from minigrad.testing.pytest_classes import CellTests, GradientTests, LossTests, OptimizerTests, WrapperTests
from minigrad.testing.results import CheckResult, summary
from minigrad.testing.strict import StrictBackend
from minigrad.testing.wrappers import check_wrapper

__all__ = [
    "CellTests",
    "CheckResult",
    "GradientTests",
    "LossTests",
    "OptimizerTests",
    "StrictBackend",
    "WrapperTests",
    "check_cell",
    "check_gradients",
    "check_loss",
    "check_optimizer",
    "check_wrapper",
    "summary",
]
