"""Weight normalisation of any cell."""

from __future__ import annotations

from typing import Any

import minigrad as mg

__all__ = ["WeightNorm"]


class WeightNorm(mg.Cell):
    """Any cell with each matrix W as a direction and a length per row (Salimans and Kingma 2016, equation 2).

        w = g * v / ||v||                                     (for each row of each matrix parameter)

    A matrix is a parameter of two axes or more, and all axes but the first make a row, as in PyTorch. The cell computes
    at first what it computed before: v is its own weight, and g the norm of that. A plan computes w once per sequence.

    Args:
        cell: any cell. Its matrices are used as v from now on.

    Attributes:
        cell: the cell; its own matrix parameters are v.
        g: the lengths, by the dotted name of the parameter: (rows, 1), with as many axes as v.

    So the state dict has the cell's names after `cell.`, and besides `g.weight_ih` and so on.

    Raises:
        TypeError: what is given is not a cell.
        ValueError: a row of a matrix is all zeros, and so has no direction.

    >>> import minigrad as mg
    >>> cell = WeightNorm(mg.GRUCell(3, 5))
    >>> y, h = cell(mg.ones((2, 3)))
    >>> list(cell.state_dict())
    ['cell.weight_ih', 'cell.weight_hh', 'cell.bias_ih', 'cell.bias_hh', 'g.weight_ih', 'g.weight_hh']
    """

    def __init__(self, cell: mg.Cell) -> None:
        if not isinstance(cell, mg.Cell):
            raise TypeError(f"weight_norm takes a cell, not {cell!r}; layers of it are made around: mg.Recurrent(...)")
        self.cell = cell
        self.v = {name: parameter for name, parameter in cell.named_parameters() if parameter.ndim > 1}
        self.g = {name: mg.Parameter(norm(v)) for name, v in self.v.items()}
        for name, g in self.g.items():
            if not g.numpy().all():
                raise ValueError(f"a row of {name} is all zeros and has no direction: give it other initial values")
        for name in ("input_size", "hidden_size", "output_size"):
            if hasattr(cell, name):
                setattr(self, name, getattr(cell, name))

    def init_state(self, batch_size: int) -> Any:
        return self.cell.init_state(batch_size)

    def step(self, x: mg.Tensor, state: Any) -> tuple[mg.Tensor, Any]:
        weights = {name: self.g[name] / norm(v) * v for name, v in self.v.items()}
        with self.cell.substitute(weights):
            return self.cell.step(x, state)


def norm(v: mg.Tensor) -> mg.Tensor:
    """The Euclidean norm of each row, as an axis of length 1 for each that it sums over."""
    return mg.sqrt(mg.sum(mg.square(v), axis=tuple(range(1, v.ndim)), keepdims=True))
