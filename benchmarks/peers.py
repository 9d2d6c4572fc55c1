"""What is measured beside each other: the names of minigrad's engines, of other libraries, and of the cells."""

from __future__ import annotations

from processes import is_installed

PEERS = {
    "plan": "minigrad plan, C",
    "plan-numpy": "minigrad plan, NumPy",
    "tape": "minigrad tape",
    "torch-nn": "torch nn layer",
    "torch-eager": "torch eager",
    "torch-compile": "torch compile",
    "torch-compile-loop": "torch compile, loop",
    "jax": "jax scan",
}
OURS = ("plan", "plan-numpy", "tape")
NAMES = {"rnn": "RNN (tanh)", "lstm": "LSTM", "gru": "GRU", "mgu": "MGU (custom)", "lnlstm": "layer-norm LSTM (custom)"}
BUILT_IN = ("rnn", "lstm", "gru")
"""The cells that PyTorch has as layers of its own."""
COLOURS = {
    "plan": "#1b5e20",
    "plan-numpy": "#5aa469",
    "tape": "0.6",
    "torch-nn": "#c44e00",
    "torch-eager": "#f5a742",
    "torch-compile": "#8b5fbf",
    "torch-compile-loop": "#c9a6e4",
    "jax": "#2a7f9e",
}


def applicable(peers: list[str], cell: str) -> list[str]:
    """The peers that have the cell."""
    return [peer for peer in peers if peer != "torch-nn" or cell in BUILT_IN]


def installed(peers: list[str]) -> list[str]:
    """The peers that can be measured here, minigrad's plan among them; says which library is missing."""
    modules = {peer: peer.split("-")[0] for peer in peers if peer not in OURS}
    there = {module: is_installed(module) for module in dict.fromkeys(modules.values())}
    return [peer for peer in PEERS if peer == "plan" or (peer in peers and there.get(modules.get(peer, ""), True))]
