"""What the wrappers share: a cell in a cell, with the same sizes."""

from __future__ import annotations

from typing import Any

import minigrad as mg


class Wrapper(mg.Cell):
    """A cell made of another, which is its attribute `cell`. What the inner one says of its sizes it says, too."""

    def __init__(self, cell: mg.Cell) -> None:
        if not isinstance(cell, mg.Cell):
            kind = f"the class {cell.__name__} itself" if isinstance(cell, type) else type(cell).__name__
            raise TypeError(f"{type(self).__name__} wraps a cell, not {kind}; put mg.Recurrent around the wrapped cell")
        self.cell = cell
        for size in ("input_size", "hidden_size", "output_size"):
            if getattr(cell, size, None) is not None:
                setattr(self, size, getattr(cell, size))

    def init_state(self, batch_size: int) -> Any:
        return self.cell.init_state(batch_size)
