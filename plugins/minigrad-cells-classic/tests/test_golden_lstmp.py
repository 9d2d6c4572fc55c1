"""`LSTMPCell` against PyTorch's LSTM with proj_size (tests/golden/make_lstmp.py), values and gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from minigrad_cells_classic import LSTMPCell

import minigrad as mg

DATA = np.load(Path(__file__).parent / "golden" / "lstmp.npz")


def section(name: str) -> dict[str, Any]:
    return {key.removeprefix(f"{name}/"): DATA[key] for key in DATA.files if key.startswith(f"{name}/")}


@pytest.mark.parametrize("engine", ["plan", "tape"])
def test_values_and_gradients_are_those_of_pytorch(engine: str) -> None:
    mg.set_default_dtype("float64")
    given, expected = section("in"), section("out")
    cell = LSTMPCell(4, 5, proj_size=2)
    cell.load_state_dict(section("weight"))
    leaves = {name: mg.tensor(given[name].squeeze(0) if name != "x" else given[name], True) for name in "xhc"}
    ys, (h, c) = mg.Recurrent(cell, engine=engine)(leaves["x"], (leaves["h"], leaves["c"]))
    found = {"y": ys, "h": h, "c": c}
    for name, value in found.items():
        np.testing.assert_allclose(value.numpy(), expected[name].reshape(value.shape), rtol=1e-10, err_msg=name)
    upstream = {name: mg.tensor(given[f"upstream_{name}"].reshape(value.shape)) for name, value in found.items()}
    total = mg.concat([(value * upstream[name]).reshape(-1) for name, value in found.items()]).sum()
    total.backward()
    gradients = section("grad")
    for name, leaf in (leaves | dict(cell.named_parameters())).items():
        wanted = gradients.pop(name).reshape(leaf.shape)
        np.testing.assert_allclose(leaf.grad.numpy(), wanted, rtol=1e-10, atol=1e-13, err_msg=name)
    assert not gradients
