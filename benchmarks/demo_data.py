"""The demo's text, windows and starting weights, for every library that trains on them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np


class Data(NamedTuple):
    """What `demo.py` trains on.

    Attributes:
        xs: characters (T, B).
        ys: those that follow them.
        window: steps between two updates.
        learning_rate: Adam's.
        max_norm: of all gradients together.
        weights: of the model at the start, by minigrad's names.
    """

    xs: np.ndarray
    ys: np.ndarray
    window: int
    learning_rate: float
    max_norm: float
    weights: dict[str, np.ndarray]


def save_data(path: Path, hidden_size: int) -> None:
    """Write what minigrad's own demo starts from, with layers of such a size."""
    from minigrad.demo import Settings, Training, read_text

    settings = Settings(hidden_size=hidden_size)
    training = Training(read_text(None), settings)
    xs, ys = (streams.numpy() for streams in training.train_data)
    weights = {f"weight {name}": weight for name, weight in training.model.state_dict().items()}
    numbers = {name: getattr(settings, name) for name in ("window", "learning_rate", "max_norm")}
    np.savez(path, xs=xs, ys=ys, **numbers, **weights)


def load_data(path: Path) -> Data:
    """What `save_data` wrote."""
    with np.load(path) as file:
        weights = {name.split(" ", 1)[1]: file[name] for name in file.files if name.startswith("weight ")}
        numbers = int(file["window"]), float(file["learning_rate"]), float(file["max_norm"])
        return Data(file["xs"], file["ys"], *numbers, weights)
