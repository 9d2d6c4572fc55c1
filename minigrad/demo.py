"""The demo: a character-level language model, a stack of recurrent layers trained on real text by truncated BPTT.

data      text -> integers -> B parallel streams (T, B), the last tenth of the text held out
model     characters -> vectors (embedding) -> recurrent layers -> one score per character (linear)
training  mg.tbptt over the streams, gradients clipped, Adam
output    bits per character on held-out text, samples, a curve, a checkpoint that training can go on from
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import minigrad as mg
from minigrad.backend import random_state, set_random_state
from minigrad.checkpoint import load_checkpoint, save_checkpoint
from minigrad.nest import leaves, map_nest

__all__ = ["CharacterModel", "Progress", "Settings", "Training", "plot_curve", "read_text", "sample"]

PROGRAM = "minigrad demo"
LEAST = 200
"""The fewest characters that are worth training on."""


class CharacterModel(mg.Module):
    """Scores the next character after each of a sequence.

    Args:
        characters: how many different ones there are.
        cell: name of a registered cell.
        hidden_size: size of each recurrent layer.
        num_layers: how many of them.
        embedding_dim: size of a character's vector.
    """

    def __init__(self, characters: int, cell: str, hidden_size: int, num_layers: int, embedding_dim: int = 64) -> None:
        self.embedding = mg.Embedding(characters, embedding_dim)
        self.layers = mg.recurrent(cell, embedding_dim, hidden_size, num_layers)
        self.output = mg.Linear(self.layers.output_size, characters)

    def forward(self, x: Any, state: Any = None) -> tuple[mg.Tensor, Any]:
        """From characters (T, B) to scores (T, B, characters), and the state."""
        ys, state = self.layers(self.embedding(x), state)
        return self.output(ys), state


@dataclass(frozen=True)
class Settings:
    """What a run is made of; a checkpoint holds it."""

    cell: str = "lstm"
    hidden_size: int = 192
    num_layers: int = 2
    batch_size: int = 32
    window: int = 50
    learning_rate: float = 4e-3
    max_norm: float = 1.0
    seed: int = 0


def read_text(path: Path | None) -> str:
    """A UTF-8 text file, or by default the manual in CPython's own `pydoc_data/topics.py`.

    Raises:
        ValueError: the file is missing, too short, or not UTF-8.
    """
    if path is None:
        spec = importlib.util.find_spec("pydoc_data.topics")
        if spec is None:
            raise ValueError("this Python has no pydoc_data.topics; give a text of your own with --text FILE")
        topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
        return "\n".join(topics.values())
    if not path.exists():
        raise ValueError(f"there is no file {path}")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; --text takes a file")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}. "
            "Convert it, such as with iconv -f ITS_ENCODING -t UTF-8"
        ) from error
    if len(text) < LEAST:
        raise ValueError(f"{path} holds {len(text)} characters; training needs at least {LEAST}")
    return text


@dataclass
class Progress:
    """How far training has come; a checkpoint holds it.

    Attributes:
        epoch: epochs finished.
        position: steps done in the epoch under way.
        total: sum over these steps of the loss in nats per character.
        recent: losses of the windows since the last point of the curve.
        curve: points (characters read, training bits per character), one per stretch of windows.
        training: mean training bits per character of each epoch.
        held_out: bits per character on held-out text after each epoch.
    """

    epoch: int = 0
    position: int = 0
    total: float = 0.0
    recent: list[float] = field(default_factory=list)
    curve: list[list[float]] = field(default_factory=list)
    training: list[float] = field(default_factory=list)
    held_out: list[float] = field(default_factory=list)


class Training:
    """A run: the text, the model, the optimizer, and how far it has come.

    Args:
        text: what to learn.
        settings: what the run is made of.
    """

    STRETCH = 20
    """Windows averaged for one point of the curve."""

    def __init__(self, text: str, settings: Settings) -> None:
        mg.seed(settings.seed)
        self.settings = settings
        self.fingerprint = sha256(text.encode()).hexdigest()
        self.characters = sorted(set(text))
        codes = {character: code for code, character in enumerate(self.characters)}
        data = [codes[character] for character in text]
        cut = len(data) * 9 // 10
        self.train_data = _streams(data[:cut], settings.batch_size, settings.window)
        self.held_out_data = _streams(data[cut:], settings.batch_size, settings.window)
        self.model = CharacterModel(len(self.characters), settings.cell, settings.hidden_size, settings.num_layers)
        self.optimizer = mg.optimizer("adam", self.model.parameters(), lr=settings.learning_rate)
        self.loss = mg.loss("cross_entropy")
        self.progress = Progress()
        self.state: Any = None

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        return self.train_data[0].shape[0]

    def epoch(self) -> Iterator[tuple[int, float]]:
        """Train to the end of the epoch under way; after each window gives (steps, loss in nats per character)."""
        xs, ys = self.train_data
        progress, start = self.progress, self.progress.position
        batch = xs.shape[1]
        windows = mg.tbptt(self.model, xs[start:], ys[start:], self.loss, self.state, k1=self.settings.window)
        for window in windows:
            mg.clip_grad_norm(self.model.parameters(), self.settings.max_norm)
            value = window.loss.item()
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"the loss is {value} in epoch {progress.epoch + 1}, step {progress.position}; "
                    "a smaller --learning-rate may help"
                )
            self.optimizer.step()
            self.state = window.state
            progress.position += window.steps
            progress.total += value * window.steps
            progress.recent.append(value)
            if len(progress.recent) == self.STRETCH:
                read = (progress.epoch * self.steps + progress.position) * batch
                progress.curve.append([read, sum(progress.recent) / self.STRETCH / math.log(2)])
                progress.recent = []
            yield window.steps, value
        progress.training.append(progress.total / self.steps / math.log(2))
        progress.held_out.append(self.evaluate())
        progress.epoch, progress.position, progress.total, self.state = progress.epoch + 1, 0, 0.0, None

    def evaluate(self) -> float:
        """Bits per character on the held-out text."""
        xs, ys = self.held_out_data
        total, state = 0.0, None
        self.model.eval()
        with mg.no_grad():
            for start in range(0, xs.shape[0], self.settings.window):
                scores, state = self.model(xs[start : start + self.settings.window], state)
                total += self.loss(scores, ys[start : start + self.settings.window]).item() * scores.shape[0]
        self.model.train()
        return total / xs.shape[0] / math.log(2)

    # --- checkpoints

    def save(self, path: Path) -> None:
        """Everything that training needs to go on bit for bit, in one file."""
        contents = {
            "program": PROGRAM,
            "settings": asdict(self.settings),
            "characters": self.characters,
            "text": self.fingerprint,
            "progress": asdict(self.progress),
            "model": self.model,
            "optimizer": self.optimizer,
            "state": [] if self.state is None else [leaf.numpy() for leaf in leaves(self.state)],
            "random_state": random_state(),
        }
        save_checkpoint(path, contents, plugins=[self.loss])

    @classmethod
    def resume(cls, path: Path, text: str) -> Training:
        """The run that `save` wrote, ready to go on.

        Raises:
            CheckpointError: the file is missing, damaged, or not the demo's, or the plugin with its cell is missing.
            ValueError: the text is not the one it was trained on.
        """
        contents = load_checkpoint(path)
        if contents.get("program") != PROGRAM:
            raise mg.CheckpointError(f"{path} is a checkpoint of another program than {PROGRAM!r}")
        try:
            settings, progress = Settings(**contents["settings"]), Progress(**contents["progress"])
            fingerprint, carried = contents["text"], iter(contents["state"])
            model, optimizer, state = contents["model"], contents["optimizer"], contents["random_state"]
        except (KeyError, TypeError) as error:
            raise mg.CheckpointError(f"{path} was written by another version of {PROGRAM!r}: {error}") from error
        training = cls(text, settings)
        if training.fingerprint != fingerprint:
            raise ValueError(f"the text is not the one that {path} was trained on; give the same --text")
        training.model.load_state_dict(model)
        training.optimizer.load_state_dict(optimizer)
        training.progress = progress
        if progress.position:
            start = training.model.layers.init_state(training.train_data[0].shape[1])
            training.state = map_nest(lambda leaf: mg.tensor(next(carried)), start)
        set_random_state(state)
        return training


def _streams(data: list[int], batch_size: int, window: int) -> tuple[mg.Tensor, mg.Tensor]:
    """Characters as inputs (T, B) and the ones that follow them as targets (T, B): B equal stretches of the text.

    A short text gets fewer streams, so that each is at least 20 windows long; up to B characters at the end are left.
    """
    batch = max(1, min(batch_size, (len(data) - 1) // (20 * window)))
    steps = (len(data) - 1) // batch
    values = mg.tensor(data[: steps * batch + 1])
    xs, ys = values[: steps * batch], values[1:]
    return xs.reshape(batch, steps).T, ys.reshape(batch, steps).T


def sample(training: Training, temperatures: list[float], length: int, prompt: str = "\n") -> list[str]:
    """Text drawn from the model after a prompt, one character after the other, for each temperature.

    The next character is drawn from softmax(scores / temperature): below 1 likelier ones gain, above 1 they lose.
    """
    model, characters = training.model, training.characters
    codes = [characters.index(character) for character in prompt if character in characters] or [0]
    texts: list[list[str]] = [[] for _ in temperatures]
    scale = mg.tensor([[1 / temperature] for temperature in temperatures])
    x, state = mg.tensor([[code] * len(temperatures) for code in codes]), None
    model.eval()
    with mg.no_grad():
        for _ in range(length):
            scores, state = model(x, state)
            uniform = mg.uniform(shape=scores.shape[1:], low=1e-12, high=1.0)
            drawn = mg.argmax(scores[-1] * scale - mg.log(-mg.log(uniform)), axis=-1)  # the Gumbel-max trick
            for text, code in zip(texts, drawn.numpy().tolist(), strict=True):
                text.append(characters[code])
            x = mg.expand_dims(drawn, 0)
    model.train()
    return ["".join(text) for text in texts]


def plot_curve(progress: Progress, steps: int, batch: int, path: Path) -> None:
    """Draw bits per character over characters read, in training and on held-out text. Needs matplotlib."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    axes.plot(*zip(*progress.curve, strict=True), color="tab:blue", linewidth=1.2, label="training")
    ends = [(epoch + 1) * steps * batch for epoch in range(len(progress.held_out))]
    axes.plot(ends, progress.held_out, "o-", color="tab:orange", label="held out")
    for end, value in zip(ends, progress.held_out, strict=True):
        axes.annotate(f"{value:.2f}", (end, value), textcoords="offset points", xytext=(0, 8), ha="center")
    axes.set(xlabel="characters read", ylabel="bits per character", title="minigrad demo")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)
