"""The package: registered names, the plan, sizes, and the README."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import minigrad_cells_normalized as package
import pytest

import minigrad as mg

NAMES = {
    "layer_norm_lstm": package.LayerNormLSTMCell,
    "layer_norm_gru": package.LayerNormGRUCell,
    "irnn": package.IRNNCell,
    "indrnn": package.IndRNNCell,
}
README = Path(__file__).parents[1] / "README.md"


@pytest.mark.parametrize("name", NAMES)
def test_cells_are_registered_and_run_through_the_plan(name: str) -> None:
    cell = mg.cell(name, 3, 4)
    assert type(cell) is NAMES[name]
    layer = mg.recurrent(name, 3, 4, num_layers=2, bidirectional=True, engine="plan")
    ys, _ = layer(mg.ones((5, 2, 3)), lengths=[5, 2])
    assert ys.shape == (5, 2, 8)
    for line in layer.explain().splitlines():
        if f"Recurrent({type(cell).__name__})" in line:
            assert line.endswith(": engine plan.")


def test_the_wrapper_is_registered() -> None:
    cell = mg.wrapper("weight_norm", mg.cell("indrnn", 3, 4))
    assert type(cell) is package.WeightNorm
    assert type(cell.cell) is package.IndRNNCell


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [-1, 2.5, "4", True, None])
def test_sizes_that_are_none_are_refused_by_name(name: str, size: Any) -> None:
    message = "is a number of elements, an integer of 0 or more; got "
    with pytest.raises(ValueError, match=f"^input_size {message}{size!r}"):
        mg.cell(name, size, 4)
    with pytest.raises(ValueError, match=f"^hidden_size {message}{size!r}"):
        mg.cell(name, 3, size)


def test_another_nonlinearity_is_refused() -> None:
    with pytest.raises(ValueError, match="nonlinearity is 'relu' or 'tanh', not 'sigmoid'"):
        package.IndRNNCell(3, 4, nonlinearity="sigmoid")


def test_the_readme_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    assert blocks
    exec("\n".join(blocks), {})
