"""The residual connection: a cell that learns what to add to its input."""

from __future__ import annotations

from typing import Any

import minigrad as mg
from minigrad_regularizers.wrapper import Wrapper


class Residual(Wrapper):
    """y_t = x_t + cell(x_t, s_{t-1}), with the state as the cell has it.

    Args:
        cell: any `mg.Cell` whose outputs have the shape of its inputs.

    Raises:
        ValueError: they have not; at once where the cell says its sizes, otherwise at the first step.

    >>> from minigrad_regularizers import Residual
    >>> layer = mg.Stack(*(mg.Recurrent(Residual(mg.GRUCell(5, 5))) for _ in range(8)))
    >>> ys, state = layer(mg.ones((7, 2, 5)))
    >>> ys.shape
    (7, 2, 5)

    Source: He et al., Deep Residual Learning for Image Recognition (2016), equation 1; between recurrent layers: Wu et
    al., Google's Neural Machine Translation System (2016), section 3.1.
    """

    def __init__(self, cell: mg.Cell) -> None:
        super().__init__(cell)
        check_sizes(self)

    def step(self, x: mg.Tensor, state: Any) -> tuple[mg.Tensor, Any]:
        y, state = self.cell.step(x, state)
        check_shapes(self, x, y)
        return x + y, state


def check_sizes(wrapper: Wrapper) -> None:
    """Raise if the cell says that its outputs have another size than its inputs."""
    inputs = getattr(wrapper, "input_size", None)
    outputs = getattr(wrapper, "output_size", getattr(wrapper, "hidden_size", None))
    if inputs is not None and outputs is not None and inputs != outputs:
        cell = type(wrapper.cell).__name__
        raise ValueError(
            f"{type(wrapper).__name__} adds x to the output of its cell, so their sizes must agree; this {cell} takes "
            f"{inputs} features and gives {outputs}. Make it with equal sizes, or put a mg.Linear before it"
        )


def check_shapes(wrapper: Wrapper, x: mg.Tensor, y: mg.Tensor) -> None:
    """Raise unless the cell's output has the shape of its input: they would be broadcast."""
    if x.shape != y.shape:
        raise ValueError(
            f"{type(wrapper).__name__} adds x to the output of its cell, so their shapes must agree; x is {x.shape}, "
            f"the output of {type(wrapper.cell).__name__} is {y.shape}"
        )
