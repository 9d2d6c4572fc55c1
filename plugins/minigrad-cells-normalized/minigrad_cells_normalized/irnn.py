"""The simple recurrent network that starts as the identity."""

from __future__ import annotations

import minigrad as mg

__all__ = ["IRNNCell"]


class IRNNCell(mg.RNNCell):
    """A simple recurrent network of rectified linear units that starts with the identity (Le et al. 2015).

        h' = relu(W_ih x + b_ih + W_hh h + b_hh)              (the output)

    Args:
        input_size: I, the size of x (B, I).
        hidden_size: H, the size of the state h (B, H).
        scale: W_hh is the identity times this at first; less than 1 forgets, for tasks without long dependencies.
        input_std: standard deviation of the normal numbers that W_ih is drawn from.

    Attributes:
        weight_ih: (H, I); weight_hh: (H, H); bias_ih, bias_hh: (H,), zeros at first.

    Raises:
        ValueError: a size is no integer of 0 or more.

    >>> import minigrad as mg
    >>> ys, h = mg.Recurrent(IRNNCell(1, 2, input_std=0))(mg.ones((9, 1, 1)), mg.tensor([[3.0, 4.0]]))
    >>> h
    tensor([[3., 4.]], dtype=float32, requires_grad=True)
    """

    def __init__(self, input_size: int, hidden_size: int, scale: float = 1.0, input_std: float = 0.001) -> None:
        super().__init__(input_size, hidden_size, nonlinearity="relu")
        self.weight_ih = mg.Parameter(mg.normal(shape=(hidden_size, input_size), std=input_std))
        self.weight_hh = mg.Parameter(mg.one_hot(mg.arange(hidden_size), hidden_size) * scale)
        self.bias_ih, self.bias_hh = mg.Parameter(mg.zeros(hidden_size)), mg.Parameter(mg.zeros(hidden_size))
