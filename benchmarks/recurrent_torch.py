"""The cells in PyTorch: its own layers, and cells as a user writes them, eager or compiled."""

from __future__ import annotations

from typing import Any

import torch
from recurrent_cells import Inputs, Runner
from torch import Tensor, nn

LAYERS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
USERS_NAMES = {
    "weight_ih": "input.weight",
    "bias_ih": "input.bias",
    "weight_hh": "state.weight",
    "bias_hh": "state.bias",
}
"""Of the built-in cells' parameters in the classes below; the others are called as in minigrad."""
NOTES = {
    "torch-eager": "a Python loop over the cell",
    "torch-compile": "a Python loop over torch.compile(cell)",
    "torch-compile-loop": "torch.compile of the Python loop over the cell, which it unrolls",
}


class RNN(nn.Module):
    """The simple recurrent network, by a user."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.input = nn.Linear(input_size, hidden_size)
        self.state = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(self.input(x) + self.state(h))
        return h, h


class LSTM(nn.Module):
    """The LSTM, by a user."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.input = nn.Linear(input_size, 4 * hidden_size)
        self.state = nn.Linear(hidden_size, 4 * hidden_size)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        h, c = state
        i, f, g, o = (self.input(x) + self.state(h)).chunk(4, dim=-1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return h, (h, c)


class GRU(nn.Module):
    """The GRU with its reset after the product, by a user."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.input = nn.Linear(input_size, 3 * hidden_size)
        self.state = nn.Linear(hidden_size, 3 * hidden_size)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        reset_x, update_x, new_x = self.input(x).chunk(3, dim=-1)
        reset_h, update_h, new_h = self.state(h).chunk(3, dim=-1)
        r = torch.sigmoid(reset_x + reset_h)
        z = torch.sigmoid(update_x + update_h)
        n = torch.tanh(new_x + r * new_h)
        h = n + z * (h - n)
        return h, h


class MGU(nn.Module):
    """The minimal gated unit."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.input = nn.Linear(input_size, 2 * hidden_size)
        self.forget = nn.Linear(hidden_size, hidden_size, bias=False)
        self.candidate = nn.Linear(hidden_size, hidden_size, bias=False)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        forget_x, candidate_x = self.input(x).chunk(2, dim=-1)
        f = torch.sigmoid(forget_x + self.forget(h))
        n = torch.tanh(candidate_x + self.candidate(f * h))
        h = h + f * (n - h)
        return h, h


class LayerNormLSTM(nn.Module):
    """The LSTM with layer normalisation."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.input = nn.Linear(input_size, 4 * hidden_size, bias=False)
        self.state = nn.Linear(hidden_size, 4 * hidden_size, bias=False)
        self.norm_input = nn.LayerNorm(4 * hidden_size)
        self.norm_state = nn.LayerNorm(4 * hidden_size)
        self.norm_cell = nn.LayerNorm(hidden_size)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        h, c = state
        i, f, g, o = (self.norm_input(self.input(x)) + self.norm_state(self.state(h))).chunk(4, dim=-1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(self.norm_cell(c))
        return h, (h, c)


CELLS = {"rnn": RNN, "lstm": LSTM, "gru": GRU, "mgu": MGU, "lnlstm": LayerNormLSTM}


class Loop(nn.Module):
    """A cell step by step over x (T, B, I), from a state of zeros."""

    def __init__(self, cell: nn.Module, hidden_size: int, pair: bool) -> None:
        super().__init__()
        self.cell, self.hidden_size, self.pair = cell, hidden_size, pair

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        zeros = x.new_zeros(x.shape[1], self.hidden_size)
        state: Any = (zeros, zeros) if self.pair else zeros
        ys = []
        for x_t in x.unbind(0):
            y, state = self.cell(x_t, state)
            ys.append(y)
        return torch.stack(ys), state


def torch_runner(peer: str, cell: str, inputs: Inputs, device: str = "cpu") -> Runner:
    """PyTorch: its own layer (`torch-nn`), or a user's cell in one of the ways of `NOTES`."""
    size = inputs.size
    if peer == "torch-nn":
        layer = module = LAYERS[cell](size.inputs, size.hidden)
        names = {name: f"{name}_l0" for name in inputs.weights}
        note = f"torch.nn.{type(layer).__name__}"
    else:
        module = CELLS[cell](size.inputs, size.hidden)
        names = {name: USERS_NAMES.get(name, name) for name in inputs.weights}
        step = torch.compile(module) if peer == "torch-compile" else module
        layer = Loop(step, size.hidden, pair=cell in ("lstm", "lnlstm"))
        if peer == "torch-compile-loop":
            layer = torch.compile(layer)
        note = NOTES[peer]
    module.to(device).load_state_dict(
        {names[name]: torch.from_numpy(weight) for name, weight in inputs.weights.items()}
    )
    parameters = dict(module.named_parameters())
    parameters = {name: parameters[theirs] for name, theirs in names.items()}
    x, dy = torch.from_numpy(inputs.x).to(device), torch.from_numpy(inputs.dy).to(device)

    def train() -> tuple[Any, dict[str, Any]]:
        for parameter in parameters.values():
            parameter.grad = None
        ys, _ = layer(x)
        ys.backward(dy)
        return ys, {name: parameter.grad for name, parameter in parameters.items()}

    def forward() -> Any:
        with torch.no_grad():
            return layer(x)[0]

    return Runner(
        train, forward, lambda value: value.detach().cpu().numpy(), f"PyTorch {torch.__version__}", lambda: note
    )
