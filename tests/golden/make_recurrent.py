"""Write recurrent_*.npz: what PyTorch's recurrent and other layers compute, values and gradients.

    python tests/golden/make_recurrent.py        (needs PyTorch; the tests do not)

Keys are `case/section/name`; sections are `in` (x, state, upstream), `weight` (PyTorch's state dict), `out` and `grad`.
A case is named by its layer, dtype and options; `cases` lists them as JSON.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

T, B, X, H = 6, 3, 4, 5  # steps, batch, size of x, size of h
LENGTHS = [4, 6, 1]
LAYERS = {
    "rnn": lambda **options: nn.RNN(X, H, nonlinearity="tanh", **options),
    "rnn_relu": lambda **options: nn.RNN(X, H, nonlinearity="relu", **options),
    "lstm": lambda **options: nn.LSTM(X, H, **options),
    "gru": lambda **options: nn.GRU(X, H, **options),
}
CELLS = {
    "rnn": lambda: nn.RNNCell(X, H),
    "rnn_relu": lambda: nn.RNNCell(X, H, nonlinearity="relu"),
    "lstm": lambda: nn.LSTMCell(X, H),
    "gru": lambda: nn.GRUCell(X, H),
}
PLAIN = {
    "linear": (lambda: nn.Linear(X, H), lambda: torch.randn(T, B, X)),
    "layernorm": (lambda: nn.LayerNorm(X), lambda: torch.randn(T, B, X) * 3 + 1),
    "embedding": (lambda: nn.Embedding(7, X), lambda: torch.tensor([[0, 6, 3], [3, 3, 1]])),
}

arrays: dict[str, np.ndarray] = {}
cases: list[dict[str, Any]] = []


def keep(case: str, section: str, named: dict[str, torch.Tensor]) -> None:
    for name, value in named.items():
        arrays[f"{case}/{section}/{name}"] = value.detach().numpy()


def finish(case: str, module: nn.Module, inputs: dict[str, torch.Tensor], outputs: dict[str, torch.Tensor]) -> None:
    """Store a case with the gradients of a loss that weighs every element of every output at random."""
    upstream = {name: torch.randn_like(value) for name, value in outputs.items()}
    sum((outputs[name] * upstream[name]).sum() for name in outputs).backward()
    keep(case, "in", inputs | {f"upstream_{name}": value for name, value in upstream.items()})
    keep(case, "weight", module.state_dict())
    keep(case, "out", outputs)
    gradients = {name: value.grad for name, value in inputs.items() if value.requires_grad}
    keep(case, "grad", gradients | {f"weight_{name}": p.grad for name, p in module.named_parameters()})


def named_states(states: torch.Tensor | tuple[torch.Tensor, ...]) -> dict[str, torch.Tensor]:
    return dict(zip("hc", states if isinstance(states, tuple) else (states,), strict=False))


def recurrent(name: str, dtype: str, layers: int, bidirectional: bool, ragged: bool) -> None:
    case = f"{name}-{dtype}-{layers}-{'bi' if bidirectional else 'uni'}-{'ragged' if ragged else 'full'}"
    cases.append({"case": case, "kind": "recurrent", "family": name.split("_")[0], "name": name, "dtype": dtype,
                  "layers": layers, "bidirectional": bidirectional,
                  "lengths": LENGTHS if ragged else None})  # fmt: skip
    module = LAYERS[name](num_layers=layers, bidirectional=bidirectional)
    x = torch.randn(T, B, X, requires_grad=True)
    count = 2 if name == "lstm" else 1
    shape = (layers * (2 if bidirectional else 1), B, H)
    state = [(torch.randn(shape) * 0.5).requires_grad_() for _ in range(count)]
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor(LENGTHS), enforce_sorted=False) if ragged else x
    ys, last = module(packed, tuple(state) if count == 2 else state[0])
    if ragged:
        ys, _ = nn.utils.rnn.pad_packed_sequence(ys, total_length=T)
    finish(case, module, {"x": x, **named_states(tuple(state))}, {"ys": ys, **named_states(last)})


def step(name: str, dtype: str) -> None:
    case = f"{name}cell-{dtype}"
    cases.append({"case": case, "kind": "cell", "family": name.split("_")[0], "name": name, "dtype": dtype})
    module = CELLS[name]()
    x = torch.randn(B, X, requires_grad=True)
    state = [torch.randn(B, H, requires_grad=True) for _ in range(2 if name == "lstm" else 1)]
    after = module(x, tuple(state) if name == "lstm" else state[0])
    finish(case, module, {"x": x, **named_states(tuple(state))}, named_states(after))


def plain(name: str, dtype: str) -> None:
    case = f"{name}-{dtype}"
    cases.append({"case": case, "kind": "plain", "family": "plain", "name": name, "dtype": dtype})
    make, draw = PLAIN[name]
    module, x = make(), draw()
    if name == "layernorm":
        nn.init.normal_(module.weight)
        nn.init.normal_(module.bias)
    if x.is_floating_point():
        x.requires_grad_()
    finish(case, module, {"x": x}, {"y": module(x)})


for dtype, depths in {"float32": (2,), "float64": (1, 2, 3)}.items():
    torch.manual_seed(7)
    torch.set_default_dtype(getattr(torch, dtype))
    for options in itertools.product(LAYERS, depths, (False, True), (False, True)):
        recurrent(options[0], dtype, *options[1:])
    for cell_name in CELLS:
        step(cell_name, dtype)
    for layer_name in PLAIN:
        plain(layer_name, dtype)

for family in ("rnn", "lstm", "gru", "plain"):
    mine = [case for case in cases if case["family"] == family]
    names = {case["case"] for case in mine}
    chosen = {key: value for key, value in arrays.items() if key.split("/")[0] in names}
    chosen["cases"] = np.array(json.dumps(mine))
    chosen["torch"] = np.array(torch.__version__)
    path = Path(__file__).with_name(f"recurrent_{family}.npz")
    np.savez_compressed(path, **chosen)
    print(f"{path.name}: {len(mine)} cases, {path.stat().st_size} bytes")
