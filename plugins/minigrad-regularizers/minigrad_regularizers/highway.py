"""The highway connection: a gate that chooses between the cell's output and its input."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import minigrad as mg
from minigrad_regularizers.residual import check_shapes, check_sizes
from minigrad_regularizers.wrapper import Wrapper


class Highway(Wrapper):
    """y_t = g * cell(x_t, s_{t-1}) + (1 - g) * x_t with the gate g = sigmoid(W x_t + b), and the cell's own state.

    Args:
        cell: any `mg.Cell` that says its `input_size`, and whose outputs have the shape of its inputs.
        bias: where b begins: negative, so that at first most of x is carried past the cell.

    Attributes:
        gate: the `mg.Linear` of W and b, in the dtype and on the backend of the cell's parameters.

    Raises:
        ValueError: the cell has no `input_size`; or its outputs have not the size of its inputs: at once where the cell
            says it, otherwise at the first step.

    >>> from minigrad_regularizers import Highway
    >>> layer = mg.Recurrent(Highway(mg.LSTMCell(5, 5), bias=-3.0))
    >>> ys, (h, c) = layer(mg.ones((7, 2, 5)))
    >>> ys.shape
    (7, 2, 5)

    Source: Srivastava, Greff and Schmidhuber, Highway Networks (2015), equation 3; the negative bias: section 2.2.
    """

    def __init__(self, cell: mg.Cell, bias: float = -2.0) -> None:
        super().__init__(cell)
        size = getattr(cell, "input_size", None)
        if size is None:
            raise ValueError(
                f"Highway needs the input_size of its cell for the gate, and {type(cell).__name__} has none: set it in "
                "the cell"
            )
        check_sizes(self)
        with ExitStack() as place:
            parameter = next(cell.parameters(), None)
            if parameter is not None:
                place.enter_context(mg.use_backend(parameter.backend))
                place.enter_context(mg.default_dtype(parameter.dtype))
            self.gate = mg.Linear(size, size)
            self.gate.bias = mg.Parameter(mg.full(size, bias))

    def step(self, x: mg.Tensor, state: Any) -> tuple[mg.Tensor, Any]:
        y, state = self.cell.step(x, state)
        check_shapes(self, x, y)
        gate = mg.sigmoid(self.gate(x))
        return gate * y + (1 - gate) * x, state
