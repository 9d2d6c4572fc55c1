"""Write lstmp.npz: what PyTorch's LSTM with proj_size computes, values and gradients, in float64.

    python tests/golden/make_lstmp.py        (needs PyTorch; the tests do not)

Keys are `section/name`; sections are `in` (x, h, c, and the upstream gradients), `weight` (PyTorch's state dict of one
layer, without the suffix `_l0`), `out` and `grad`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

T, B, X, H, P = 6, 3, 4, 5, 2  # steps, batch, sizes of x, c and h

torch.manual_seed(20)
torch.set_default_dtype(torch.float64)
layer = nn.LSTM(X, H, proj_size=P)
given = {"x": torch.randn(T, B, X), "h": torch.randn(1, B, P), "c": torch.randn(1, B, H)}
for value in given.values():
    value.requires_grad_()
ys, (h, c) = layer(given["x"], (given["h"], given["c"]))
results = {"y": ys, "h": h, "c": c}
upstream = {name: torch.randn_like(value) for name, value in results.items()}
sum((results[name] * upstream[name]).sum() for name in results).backward()

arrays = {f"in/{name}": value for name, value in given.items()}
arrays |= {f"in/upstream_{name}": value for name, value in upstream.items()}
arrays |= {f"weight/{name.removesuffix('_l0')}": value for name, value in layer.state_dict().items()}
arrays |= {f"out/{name}": value for name, value in results.items()}
arrays |= {f"grad/{name}": value.grad for name, value in given.items()}
arrays |= {f"grad/{name.removesuffix('_l0')}": value.grad for name, value in layer.named_parameters()}
np.savez_compressed(
    Path(__file__).parent / "lstmp.npz", **{name: value.detach().numpy() for name, value in arrays.items()}
)
