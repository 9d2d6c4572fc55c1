"""Recurrent layers, cells and plain layers against PyTorch (tests/golden/make_recurrent.py), values and gradients."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad as mg

FILES = {path.stem: np.load(path) for path in sorted(Path(__file__).parent.glob("golden/recurrent_*.npz"))}
CASES = {case["case"]: case | {"file": file} for file, data in FILES.items() for case in json.loads(str(data["cases"]))}
CELLS = {
    "rnn": mg.RNNCell,
    "rnn_relu": lambda *sizes: mg.RNNCell(*sizes, nonlinearity="relu"),
    "lstm": mg.LSTMCell,
    "gru": mg.GRUCell,
}
PLAIN = {
    "linear": lambda: mg.Linear(4, 5),
    "layernorm": lambda: mg.LayerNorm(4),
    "embedding": lambda: mg.Embedding(7, 4),
}
# PyTorch's float32 sums run in another order
TOLERANCE = {"float64": {"rtol": 1e-10, "atol": 1e-12}, "float32": {"rtol": 2e-5, "atol": 1e-5}}


def of_kind(kind: str) -> Any:
    return pytest.mark.parametrize("name", [name for name, case in CASES.items() if case["kind"] == kind])


class Golden:
    """One stored case."""

    def __init__(self, name: str) -> None:
        self.case = CASES[name]
        self.dtype = self.case["dtype"]
        mg.set_default_dtype(self.dtype)

    def section(self, section: str) -> dict[str, Any]:
        prefix = f"{self.case['case']}/{section}/"
        data = FILES[self.case["file"]]
        return {key.removeprefix(prefix): data[key] for key in data.files if key.startswith(prefix)}

    def check(self, found: dict[str, mg.Tensor], section: str) -> None:
        expected = self.section(section)
        assert found.keys() == expected.keys()
        for name, value in found.items():
            assert value.dtype == self.dtype, name
            np.testing.assert_allclose(value.numpy(), expected[name], err_msg=name, **TOLERANCE[self.dtype])

    def check_gradients(self, outputs: dict[str, mg.Tensor], leaves: dict[str, mg.Tensor]) -> None:
        self.check(outputs, "out")
        given = self.section("in")
        weighted = [(value * mg.tensor(given[f"upstream_{name}"])).sum() for name, value in outputs.items()]
        sum(weighted[1:], weighted[0]).backward()
        self.check({name: leaf.grad for name, leaf in leaves.items()}, "grad")


def ours(name: str) -> str:
    """PyTorch's name of a layer's parameter (`weight_ih_l0_reverse`) as ours in a stack of bidirectional layers."""
    kind, side, layer, *reverse = name.split("_")
    direction = "backward" if reverse else "forward"
    return f"layers.{layer.removeprefix('l')}.{direction}_layer.cell.{kind}_{side}"


def named(states: Any) -> dict[str, mg.Tensor]:
    return dict(zip("hc", states if isinstance(states, tuple) else (states,), strict=False))


@pytest.mark.both_engines
@of_kind("recurrent")
def test_layers_are_those_of_pytorch(name: str) -> None:
    golden = Golden(name)
    case, given = golden.case, {key: mg.tensor(value, True) for key, value in golden.section("in").items()}
    cell, bidirectional = CELLS[case["name"]], case["bidirectional"]
    layers = []
    for number in range(case["layers"]):
        size = 4 if number == 0 else 10 if bidirectional else 5
        layers.append(mg.Bidirectional(cell(size, 5)) if bidirectional else mg.Recurrent(cell(size, 5)))
    stack = mg.Stack(*layers)
    rename = ours if bidirectional else lambda name: ours(name).replace("forward_layer.", "")
    stack.load_state_dict({rename(key): value for key, value in golden.section("weight").items()})

    def state_of(row: int) -> Any:
        return (given["h"][row], given["c"][row]) if "c" in given else given["h"][row]

    rows = range(case["layers"])
    state = [(state_of(2 * n), state_of(2 * n + 1)) if bidirectional else state_of(n) for n in rows]
    ys, last = stack(given["x"], state, lengths=case["lengths"])
    flat = [part for entry in last for part in (entry if bidirectional else (entry,))]
    final = {key: mg.stack([named(part)[key] for part in flat]) for key in named(flat[0])}
    parameters = dict(stack.named_parameters())
    leaves = {key: given[key] for key in ("x", *final)}
    leaves |= {f"weight_{key}": parameters[rename(key)] for key in golden.section("weight")}
    golden.check_gradients({"ys": ys, **final}, leaves)


@of_kind("cell")
def test_cells_are_those_of_pytorch_and_load_their_state_dict(name: str) -> None:
    golden = Golden(name)
    given = {key: mg.tensor(value, True) for key, value in golden.section("in").items()}
    cell = CELLS[golden.case["name"]](4, 5)
    cell.load_state_dict(golden.section("weight"))
    y, after = cell(given["x"], (given["h"], given["c"]) if "c" in given else given["h"])
    np.testing.assert_array_equal(y.numpy(), named(after)["h"].numpy())
    leaves = {key: given[key] for key in ("x", *named(after))}
    leaves |= {f"weight_{key}": parameter for key, parameter in cell.named_parameters()}
    golden.check_gradients(named(after), leaves)


@of_kind("plain")
def test_plain_layers_are_those_of_pytorch(name: str) -> None:
    golden = Golden(name)
    floating = golden.case["name"] != "embedding"
    x = mg.tensor(golden.section("in")["x"], requires_grad=floating)
    layer = PLAIN[golden.case["name"]]()
    layer.load_state_dict(golden.section("weight"))
    leaves = {f"weight_{key}": parameter for key, parameter in layer.named_parameters()}
    golden.check_gradients({"y": layer(x)}, leaves | ({"x": x} if floating else {}))
