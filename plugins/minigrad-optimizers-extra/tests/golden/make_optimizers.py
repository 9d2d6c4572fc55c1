"""Make optimizers.npz with PyTorch (2.13 made the one that is here). The tests need only the file.

python tests/golden/make_optimizers.py
"""

import itertools
import json
from pathlib import Path

import numpy as np
import torch

CASES = {
    "nadam": [
        {},
        {"lr": 0.05, "betas": [0.7, 0.9], "eps": 1e-3},
        {"lr": 0.05, "momentum_decay": 0.1},
        {"lr": 0.05, "momentum_decay": 0.0},
        {"lr": 0.05, "weight_decay": 0.1},
        {"lr": 0.05, "weight_decay": 0.1, "decoupled_weight_decay": True},
    ],
    "radam": [
        {"lr": 0.02},
        {"lr": 0.05, "betas": [0.7, 0.9], "eps": 1e-3},
        {"lr": 0.02, "betas": [0.9, 0.5]},
        {"lr": 0.02, "weight_decay": 0.1},
        {"lr": 0.02, "weight_decay": 0.1, "decoupled_weight_decay": True},
    ],
}
CLASSES = {"nadam": torch.optim.NAdam, "radam": torch.optim.RAdam}


def main():
    """Fifty steps on f(w) = sum(log(cosh(a * (w - c)))) + prod(sin(w)) / 2; its gradients are kept with the weights."""
    cases, arrays, generator = [], {}, np.random.default_rng(1)
    for dtype, (name, choices) in itertools.product(("float64", "float32"), CASES.items()):
        torch.set_default_dtype(getattr(torch, dtype))  # NAdam keeps its product of momenta in this dtype
        for options in choices:
            start = generator.standard_normal((2, 3)).astype(dtype)
            slopes = torch.tensor(generator.uniform(0.2, 3, (2, 3)).astype(dtype))
            centre = torch.tensor(generator.standard_normal((2, 3)).astype(dtype))
            weights = torch.nn.Parameter(torch.tensor(start))
            torch_options = {key: tuple(v) if isinstance(v, list) else v for key, v in options.items()}
            optimizer = CLASSES[name]([weights], **torch_options, foreach=False)
            gradients, path = [], []
            for _ in range(50):
                optimizer.zero_grad()
                loss = torch.log(torch.cosh(slopes * (weights - centre))).sum() + torch.sin(weights).prod() / 2
                loss.backward()
                gradients.append(weights.grad.numpy().copy())
                optimizer.step()
                path.append(weights.detach().numpy().copy())
            key = str(len(cases))
            cases.append({"name": name, "dtype": dtype, "options": options})
            arrays |= {f"{key}/start": start, f"{key}/gradients": np.stack(gradients), f"{key}/path": np.stack(path)}
    np.savez_compressed(Path(__file__).parent / "optimizers.npz", cases=json.dumps(cases), **arrays)


if __name__ == "__main__":
    main()
