"""The ways to take one step at a time in each library, with nothing recorded; `streaming.py` times them.

A way is a function of a cell's name and the case's inputs that gives a step: from x (B, I) and a state to y (B, H) and
the new state. To time another way, add it to a library's `ways`; one that keeps its state to itself takes and gives
whatever it likes in its place.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np
from recurrent_cells import CELLS, Inputs

Step = Callable[[Any, Any], tuple[Any, Any]]


class Library(NamedTuple):
    """A library with the case's cell in it.

    Attributes:
        ways: steps by name.
        start: the state before the first step.
        to_library: makes an array the library's.
        to_numpy: and back.
        recording_nothing: the context in which steps are taken.
        version: of the library.
    """

    ways: dict[str, Step]
    start: Any
    to_library: Callable[[np.ndarray], Any]
    to_numpy: Callable[[Any], np.ndarray]
    recording_nothing: Callable[[], AbstractContextManager[Any]]
    version: str


def minigrad_ways(cell_name: str, inputs: Inputs) -> Library:
    """The built-in cell, by itself and in a layer."""
    import minigrad as mg

    cell = CELLS[cell_name](inputs.size.inputs, inputs.size.hidden)
    cell.load_state_dict(inputs.weights)
    layer = mg.Recurrent(cell)

    def sequence_of_one(x: mg.Tensor, state: Any) -> tuple[mg.Tensor, Any]:
        ys, state = layer(x[None], state)
        return ys[0], state

    stateful = mg.Stateful(layer.eval(), inputs.size.batch)
    ways: dict[str, Step] = {
        "Stateful(layer)(x)": lambda x, state: (stateful(x), state),
        "layer.cell.step(x, state)": cell.step,
        "cell(x, state)": cell,
        "layer(x[None], state)": sequence_of_one,
    }
    start = cell.init_state(inputs.size.batch)
    return Library(ways, start, mg.tensor, lambda y: y.numpy(), mg.no_grad, f"NumPy {np.__version__}")


def torch_ways(cell_name: str, inputs: Inputs) -> Library:
    """PyTorch's cell, and its layer on sequences of one step."""
    import torch
    from timing import threads
    from torch import nn

    torch.set_num_threads(threads())
    kinds = {"rnn": (nn.RNNCell, nn.RNN), "lstm": (nn.LSTMCell, nn.LSTM), "gru": (nn.GRUCell, nn.GRU)}
    size = inputs.size
    cell, layer = (kind(size.inputs, size.hidden) for kind in kinds[cell_name])
    weights = {name: torch.from_numpy(weight) for name, weight in inputs.weights.items()}
    cell.load_state_dict(weights)
    layer.load_state_dict({f"{name}_l0": weight for name, weight in weights.items()})
    is_lstm = cell_name == "lstm"

    def cell_step(x: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        state = cell(x, state)
        return (state[0] if is_lstm else state), state

    def sequence_of_one(x: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        ys, state = layer(x[None], state)
        return ys[0], state

    ways: dict[str, Step] = {
        f"nn.{type(cell).__name__}": cell_step,
        f"nn.{type(layer).__name__}, T = 1": sequence_of_one,
    }
    version = f"PyTorch {torch.__version__}"
    return Library(ways, None, torch.from_numpy, lambda y: y.numpy(), torch.no_grad, version)
