"""The Jordan network."""

from __future__ import annotations

import minigrad as mg

__all__ = ["JordanCell"]


class JordanCell(mg.Cell):
    """A simple recurrent network whose context is its output (Jordan 1986).

        h' = act(W_ih x + W_yh y + b_h)
        y' = act(W_hy h' + b_y)                               (the output, and the state)

    Args:
        input_size: I, the size of x (B, I).
        hidden_size: H, the size of the hidden layer h.
        output_size: O, the size of the output y (B, O), which is the state; by default H.
        nonlinearity: act, `"tanh"` or `"sigmoid"` (Jordan's).

    Attributes:
        weight_ih: (H, I); weight_yh: (H, O); weight_hy: (O, H); bias_h: (H,); bias_y: (O,).
            All drawn from U(-k, k) with k = 1 / sqrt(H).

    Raises:
        ValueError: a size is no integer of 0 or more, or the nonlinearity another.

    >>> import minigrad as mg
    >>> y, state = JordanCell(3, 5, output_size=2)(mg.ones((4, 3)))
    >>> y.shape, state is y
    ((4, 2), True)
    """

    def __init__(
        self, input_size: int, hidden_size: int, output_size: int | None = None, nonlinearity: str = "tanh"
    ) -> None:
        output_size = hidden_size if output_size is None else output_size
        mg.check_size(input_size=input_size, hidden_size=hidden_size, output_size=output_size)
        if nonlinearity not in ("tanh", "sigmoid"):
            raise ValueError(f"nonlinearity is 'tanh' or 'sigmoid', not {nonlinearity!r}")
        self.input_size, self.hidden_size, self.output_size = input_size, hidden_size, output_size
        self.nonlinearity = nonlinearity
        self.weight_ih = mg.Parameter(mg.init.recurrent_uniform((hidden_size, input_size), hidden_size))
        self.weight_yh = mg.Parameter(mg.init.recurrent_uniform((hidden_size, output_size), hidden_size))
        self.weight_hy = mg.Parameter(mg.init.recurrent_uniform((output_size, hidden_size), hidden_size))
        self.bias_h = mg.Parameter(mg.init.recurrent_uniform((hidden_size,), hidden_size))
        self.bias_y = mg.Parameter(mg.init.recurrent_uniform((output_size,), hidden_size))

    def init_state(self, batch_size: int) -> mg.Tensor:
        return mg.zeros((batch_size, self.output_size))

    def step(self, x: mg.Tensor, state: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
        act = mg.tanh if self.nonlinearity == "tanh" else mg.sigmoid
        h = act(mg.linear(x, self.weight_ih, self.bias_h) + mg.linear(state, self.weight_yh))
        y = act(mg.linear(h, self.weight_hy, self.bias_y))
        return y, y
