"""The demo's model and training in PyTorch, as its users write them: Embedding, LSTM, Linear, Adam, clipping."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from demo_data import Data
from torch import nn


class CharacterModel(nn.Module):
    """Scores the next character after each of a sequence."""

    def __init__(self, characters: int, embedding_dim: int, hidden_size: int, num_layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, embedding_dim)
        self.layers = nn.LSTM(embedding_dim, hidden_size, num_layers)
        self.output = nn.Linear(hidden_size, characters)

    def forward(self, x: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        ys, state = self.layers(self.embedding(x), state)
        return self.output(ys), state


def make_model(weights: dict[str, Any]) -> CharacterModel:
    """The model with minigrad's weights; layer n's are called `layers.layers.n.cell.weight_ih` and so on there."""
    renamed = {}
    for name, weight in weights.items():
        parts = name.split(".")
        theirs = f"layers.{parts[-1]}_l{parts[2]}" if parts[0] == "layers" else name
        renamed[theirs] = torch.from_numpy(weight)
    characters, embedding_dim = renamed["embedding.weight"].shape
    num_layers = sum(name.startswith("layers.weight_hh") for name in renamed)
    model = CharacterModel(characters, embedding_dim, renamed["output.weight"].shape[1], num_layers)
    model.load_state_dict(renamed)
    return model


def train(data: Data) -> Iterator[tuple[int, float]]:
    """Train without end; after each window gives (characters, loss in nats per character)."""
    model, loss = make_model(data.weights), nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=data.learning_rate)
    xs, ys = torch.from_numpy(data.xs).long(), torch.from_numpy(data.ys).long()
    while True:
        state = None
        for start in range(0, len(xs), data.window):
            x, y = xs[start : start + data.window], ys[start : start + data.window]
            scores, state = model(x, state)
            value = loss(scores.flatten(0, 1), y.flatten())
            optimizer.zero_grad()
            value.backward()
            nn.utils.clip_grad_norm_(model.parameters(), data.max_norm)
            number = value.item()
            optimizer.step()
            state = tuple(leaf.detach() for leaf in state)
            yield x.numel(), number
