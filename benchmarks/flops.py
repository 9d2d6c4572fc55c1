"""How many multiply-adds the matrix products of a train step have, counted on the tape of a cell's step."""

from __future__ import annotations

from typing import Any

from recurrent_cells import CELLS, Size

import minigrad as mg


def train_step_flops(cell: str, size: Size) -> int:
    """Floating-point operations of all matrix products of forward and backward, two per multiply-add.

    Each product of the forward has one of its size in the backward per operand that needs a gradient. Weights do; x
    does not, and neither does the state before the first step. For an LSTM that is 2 T B 4H (2I + 3H) without the first
    step's gradient of h. Elementwise operations are not counted.

    >>> train_step_flops("lstm", Size(1, 1, 65, 100)) == 2 * 400 * (2 * 65 + 2 * 100)
    True
    """
    step = CELLS[cell](size.inputs, size.hidden)
    first, later = (_multiply_adds(step, size.inputs, is_first) for is_first in (True, False))
    return 2 * size.batch * (first + (size.steps - 1) * later)


def _multiply_adds(cell: mg.Cell, inputs: int, is_first: bool) -> int:
    """Of one step of one sequence, forward and backward."""
    state = cell.init_state(1)
    leaves = state if isinstance(state, tuple) else (state,)
    for leaf in leaves:
        leaf.requires_grad = not is_first
    with mg.Tape() as tape:
        cell.step(mg.ones((1, inputs)), state)
    known: dict[int, bool] = {}
    total = 0
    for node in tape.nodes:
        needs = [_needs_gradient(operand, known) for operand in node.inputs]
        known[id(node)] = any(needs)
        if node.op in ("linear", "matmul"):  # x W^T + b with W (out, in), and x W with W (in, out)
            total += node.inputs[0].shape[-1] * node.shape[-1] * (1 + sum(needs[:2]))
    return total


def _needs_gradient(operand: Any, known: dict[int, bool]) -> bool:
    return known.get(id(operand), bool(getattr(operand, "requires_grad", False)))
