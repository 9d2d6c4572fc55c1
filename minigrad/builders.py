"""Layers of a cell by its name: `recurrent`, and `RNN`, `LSTM`, `GRU`, which are that with the name filled in."""

from __future__ import annotations

from functools import partial
from typing import Any

from minigrad.layers import check_probability, check_size
from minigrad.recurrent import Bidirectional, Recurrent, RecurrentLayer, Stack

__all__ = ["GRU", "LSTM", "RNN", "recurrent"]


def recurrent(
    name: str,
    input_size: int,
    hidden_size: int,
    num_layers: int = 1,
    bidirectional: bool = False,
    dropout: float = 0.0,
    batch_first: bool = False,
    engine: str = "auto",
    learn_initial_state: bool = False,
    checkpoint_every: int | None = None,
    **cell_options: Any,
) -> RecurrentLayer:
    """Layers of any registered cell.

    Args:
        name: of the cell: `"rnn"`, `"lstm"`, `"gru"`, or one that a plugin offers.
        input_size: size of the last axis of x.
        hidden_size: of every layer.
        num_layers: more than one makes a `Stack`.
        bidirectional: whether each layer is `Bidirectional` (and so doubles the input size of the next).
        dropout: between layers, in training.
        batch_first: x and outputs are (B, T, ...).
        engine, learn_initial_state, checkpoint_every: as for `Recurrent`, for every layer.
        cell_options: passed on to the cell.

    Returns:
        A `Recurrent` or `Bidirectional`, or a `Stack` of them if there are several layers; `output_size` says how large
        its outputs are.

    >>> ys, state = mg.recurrent("gru", 3, 5, num_layers=2, bidirectional=True)(mg.ones((7, 2, 3)))
    >>> ys.shape
    (7, 2, 10)
    """
    from minigrad.registry import cell

    check_size(num_layers=num_layers)
    if num_layers < 1:
        raise ValueError(f"num_layers must be at least 1; got {num_layers}")
    check_probability(dropout=dropout)
    layer = Bidirectional if bidirectional else Recurrent
    wrap = partial(
        layer,
        batch_first=batch_first,
        engine=engine,
        learn_initial_state=learn_initial_state,
        checkpoint_every=checkpoint_every,
    )
    layers: list[RecurrentLayer] = []
    for _ in range(num_layers):
        size = layers[-1].output_size if layers else input_size
        made = wrap(cell(name, size, hidden_size, **cell_options))
        for part in (made.forward_layer, made.backward_layer) if isinstance(made, Bidirectional) else (made,):
            part.made_for = size
        layers.append(made)
    return layers[0] if num_layers == 1 else Stack(*layers, dropout=dropout)


def RNN(input_size: int, hidden_size: int, num_layers: int = 1, **options: Any) -> RecurrentLayer:  # noqa: N802  # PyTorch's name
    """`recurrent("rnn", ...)`: layers of `RNNCell`."""
    return recurrent("rnn", input_size, hidden_size, num_layers, **options)


def LSTM(input_size: int, hidden_size: int, num_layers: int = 1, **options: Any) -> RecurrentLayer:  # noqa: N802  # PyTorch's name
    """`recurrent("lstm", ...)`: layers of `LSTMCell`."""
    return recurrent("lstm", input_size, hidden_size, num_layers, **options)


def GRU(input_size: int, hidden_size: int, num_layers: int = 1, **options: Any) -> RecurrentLayer:  # noqa: N802  # PyTorch's name
    """`recurrent("gru", ...)`: layers of `GRUCell`."""
    return recurrent("gru", input_size, hidden_size, num_layers, **options)
