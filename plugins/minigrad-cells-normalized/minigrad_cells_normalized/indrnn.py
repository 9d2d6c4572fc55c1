"""The independently recurrent network."""

from __future__ import annotations

import minigrad as mg

__all__ = ["IndRNNCell"]


class IndRNNCell(mg.Cell):
    """The independently recurrent network: each unit sees only itself (Li et al. 2018, section 3).

        h' = act(W x + u * h + b)                             (the output)

    Args:
        input_size: I, the size of x (B, I).
        hidden_size: H, the size of the state h (B, H).
        nonlinearity: act, `"relu"` (the paper's) or `"tanh"`.
        recurrent_max: u is drawn from U(0, recurrent_max). The paper takes 2 ** (1 / T) for sequences of T steps, and
            clips u to that after each update, so that no gradient more than doubles over the sequence.

    Attributes:
        weight_ih: (H, I); bias: (H,). Drawn from U(-k, k) with k = 1 / sqrt(H).
        weight_hh: u, (H,).

    Raises:
        ValueError: a size is no integer of 0 or more, or the nonlinearity another.

    >>> import minigrad as mg
    >>> y, h = IndRNNCell(3, 5)(mg.ones((2, 3)))
    >>> h.shape
    (2, 5)
    """

    def __init__(
        self, input_size: int, hidden_size: int, nonlinearity: str = "relu", recurrent_max: float = 1.0
    ) -> None:
        mg.check_size(input_size=input_size, hidden_size=hidden_size)
        if nonlinearity not in ("relu", "tanh"):
            raise ValueError(f"nonlinearity is 'relu' or 'tanh', not {nonlinearity!r}")
        self.input_size, self.hidden_size, self.nonlinearity = input_size, hidden_size, nonlinearity
        self.weight_ih = mg.Parameter(mg.init.recurrent_uniform((hidden_size, input_size), hidden_size))
        self.weight_hh = mg.Parameter(mg.uniform(shape=(hidden_size,), low=0.0, high=recurrent_max))
        self.bias = mg.Parameter(mg.init.recurrent_uniform((hidden_size,), hidden_size))

    def init_state(self, batch_size: int) -> mg.Tensor:
        return mg.zeros((batch_size, self.hidden_size))

    def step(self, x: mg.Tensor, state: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
        act = mg.relu if self.nonlinearity == "relu" else mg.tanh
        h = act(mg.linear(x, self.weight_ih, self.bias) + self.weight_hh * state)
        return h, h
