"""Python floats are rounded once, to the dtype that they end up in."""

from __future__ import annotations

import minigrad as mg


def test_floats_go_straight_to_the_dtype_asked_for() -> None:
    assert mg.tensor([0.1], dtype="float64").item() == 0.1
    assert mg.tensor(0.1, dtype="float64").item() == 0.1


def test_floats_go_straight_to_the_dtype_of_the_tensor_they_meet() -> None:
    assert mg.add(mg.zeros(1, dtype="float64"), [0.1]).item() == 0.1
    assert mg.as_tensor([0.1], like=mg.zeros(1, dtype="float64")).item() == 0.1
