"""What `recurrent.py` measures: the cells as minigrad has them, the sizes, and the inputs that every library gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import minigrad as mg


class Size(NamedTuple):
    """A case's sizes; written as T,B,I,H."""

    steps: int
    batch: int
    inputs: int
    hidden: int

    def __str__(self) -> str:
        return ",".join(map(str, self))

    @classmethod
    def parse(cls, text: str) -> Size:
        """The size written as T,B,I,H."""
        numbers = [int(part) for part in text.split(",")]
        if len(numbers) != 4 or min(numbers) < 1:
            raise ValueError(f"a size is T,B,I,H, four numbers of at least 1; not {text!r}")
        return cls(*numbers)


SIZES = (
    Size(25, 1, 65, 100),
    Size(35, 20, 200, 200),
    Size(50, 64, 128, 256),
    Size(200, 32, 64, 64),
    Size(35, 20, 650, 650),
    Size(100, 64, 512, 512),
)


class MGUCell(mg.Cell):
    """The minimal gated unit (Zhou et al. 2016), with the input products of both gates as one.

    f = sigmoid(W_f x + b_f + U_f h)
    n = tanh(W_n x + b_n + U_n (f * h))
    h' = h + f * (n - h)
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        self.hidden_size = hidden_size
        self.input = mg.Linear(input_size, 2 * hidden_size)
        self.forget = mg.Linear(hidden_size, hidden_size, bias=False)
        self.candidate = mg.Linear(hidden_size, hidden_size, bias=False)

    def init_state(self, batch_size: int) -> mg.Tensor:
        return mg.zeros((batch_size, self.hidden_size))

    def step(self, x: mg.Tensor, h: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
        forget_x, candidate_x = mg.split(self.input(x), 2, axis=-1)
        f = mg.sigmoid(forget_x + self.forget(h))
        n = mg.tanh(candidate_x + self.candidate(f * h))
        h = h + f * (n - h)
        return h, h


class LayerNormLSTMCell(mg.Cell):
    """An LSTM with layer normalisation (Ba et al. 2016, equations 20 to 22); LN's own biases stand for the paper's b.

    i, f, g, o = LN(W x) + LN(U h)
    c' = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h' = sigmoid(o) * tanh(LN(c'))
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        self.hidden_size = hidden_size
        self.input = mg.Linear(input_size, 4 * hidden_size, bias=False)
        self.state = mg.Linear(hidden_size, 4 * hidden_size, bias=False)
        self.norm_input = mg.LayerNorm(4 * hidden_size)
        self.norm_state = mg.LayerNorm(4 * hidden_size)
        self.norm_cell = mg.LayerNorm(hidden_size)

    def init_state(self, batch_size: int) -> tuple[mg.Tensor, mg.Tensor]:
        return mg.zeros((batch_size, self.hidden_size)), mg.zeros((batch_size, self.hidden_size))

    def step(self, x: mg.Tensor, state: Any) -> tuple[mg.Tensor, Any]:
        h, c = state
        i, f, g, o = mg.split(self.norm_input(self.input(x)) + self.norm_state(self.state(h)), 4, axis=-1)
        c = mg.sigmoid(f) * c + mg.sigmoid(i) * mg.tanh(g)
        h = mg.sigmoid(o) * mg.tanh(self.norm_cell(c))
        return h, (h, c)


CELLS: dict[str, Callable[[int, int], mg.Cell]] = {
    "rnn": mg.RNNCell,
    "lstm": mg.LSTMCell,
    "gru": mg.GRUCell,
    "mgu": MGUCell,
    "lnlstm": LayerNormLSTMCell,
}


@dataclass
class Inputs:
    """What every library is given.

    Attributes:
        x: (T, B, I).
        dy: (T, B, H), the gradient of what follows with respect to the outputs.
        weights: by minigrad's names; matrices are (out, in).
    """

    x: np.ndarray
    dy: np.ndarray
    weights: dict[str, np.ndarray]

    @property
    def size(self) -> Size:
        return Size(*self.x.shape, self.dy.shape[-1])


class Runner(NamedTuple):
    """A cell in a library, with weights and data in place.

    Attributes:
        train: one forward and backward; gives the outputs and the gradients by minigrad's names, all finished, unless
            its maker was told not to wait.
        forward: the outputs alone, with nothing recorded.
        to_numpy: makes an array of an output or a gradient.
        version: of the library.
        note: how it runs; asked after the first call.
        layer: minigrad's.
    """

    train: Callable[[], tuple[Any, dict[str, Any]]]
    forward: Callable[[], Any]
    to_numpy: Callable[[Any], np.ndarray]
    version: str
    note: Callable[[], str]
    layer: Any = None


def make_inputs(cell: str, size: Size) -> Inputs:
    """Random data, and weights as minigrad draws them, except those of layer normalisation.

    No gain is 1 and no bias 0, so that the comparison of results sees both. And gains are small: with gains around 1
    the normalised LSTM is chaotic, and over 200 steps rounding errors grow until no two libraries agree.
    """
    mg.seed(0)
    random = np.random.default_rng(0)
    weights = CELLS[cell](size.inputs, size.hidden).state_dict()
    for name, weight in weights.items():
        if name.startswith("norm"):
            weights[name] = (0.2 * weight + random.normal(0.0, 0.05, weight.shape)).astype("float32")
    x = random.standard_normal((size.steps, size.batch, size.inputs), dtype="float32")
    dy = random.standard_normal((size.steps, size.batch, size.hidden), dtype="float32")
    return Inputs(x, dy, weights)


def minigrad_runner(engine: str, cell: str, inputs: Inputs) -> Runner:
    """minigrad with one of its engines, on the current backend."""
    made = CELLS[cell](inputs.size.inputs, inputs.size.hidden)
    made.load_state_dict(inputs.weights)
    layer = mg.Recurrent(made, engine=engine)
    x, dy = mg.tensor(inputs.x), mg.tensor(inputs.dy)
    parameters = dict(made.named_parameters())

    def train() -> tuple[Any, dict[str, Any]]:
        layer.zero_grad()
        ys, _ = layer(x)
        ys.backward(dy)
        return ys, {name: parameter.grad for name, parameter in parameters.items()}

    def forward() -> Any:
        with mg.no_grad():
            return layer(x)[0]

    return Runner(train, forward, lambda value: value.numpy(), f"NumPy {np.__version__}", layer.explain, layer)


def save_case(path: Path, cell: str, size: Size) -> None:
    """Write the inputs of a case and what the tape makes of them, to which every library is held."""
    inputs = make_inputs(cell, size)
    runner = minigrad_runner("tape", cell, inputs)
    ys, gradients = runner.train()
    arrays = {"x": inputs.x, "dy": inputs.dy, "outputs": runner.to_numpy(ys)}
    arrays |= {f"weight {name}": weight for name, weight in inputs.weights.items()}
    arrays |= {f"gradient {name}": runner.to_numpy(gradient) for name, gradient in gradients.items()}
    np.savez(path, **arrays)


def load_inputs(path: Path) -> Inputs:
    """The inputs that `save_case` wrote."""
    with np.load(path) as case:
        return Inputs(case["x"], case["dy"], {_name(key): case[key] for key in case.files if key.startswith("weight ")})


def differences(path: Path, runner: Runner) -> dict[str, float]:
    """How far the runner's outputs and gradients are from those in the file: largest difference over largest value."""
    ys, gradients = runner.train()
    with np.load(path) as case:
        expected = {_name(key): case[key] for key in case.files if key.startswith("gradient ")}
        expected["outputs"] = case["outputs"]
    found = {name: runner.to_numpy(value) for name, value in gradients.items()}
    found["outputs"] = runner.to_numpy(ys)
    forward = runner.to_numpy(runner.forward())
    if found.keys() != expected.keys():
        raise ValueError(f"gradients of {sorted(found)} where minigrad has {sorted(expected)}")
    distances = {name: distance(found[name], expected[name]) for name in expected}
    distances["outputs of forward alone"] = distance(forward, expected["outputs"])
    return distances


def distance(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference over the largest expected value."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        raise ValueError(f"{found.dtype} {found.shape} where minigrad has {expected.dtype} {expected.shape}")
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def _name(key: str) -> str:
    return key.split(" ", 1)[1]
