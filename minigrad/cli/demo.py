"""`minigrad demo`: train a character model, and let it write."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import log
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from threadpoolctl import threadpool_limits

import minigrad as mg
from minigrad import demo as character_model
from minigrad.cli.console import BackendOption, console, fail

DEFAULTS = character_model.Settings()


def demo(
    text: Annotated[Path | None, typer.Option(help="A UTF-8 text of your own; by default Python's manual.")] = None,
    cell: Annotated[
        str | None, typer.Option(help=f"Any registered cell (default {DEFAULTS.cell}); see `minigrad plugins`.")
    ] = None,
    backend: BackendOption = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help=f"Two runs with one seed are the same (default {DEFAULTS.seed}).")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="How often to read the text in all.")] = 3,
    hidden_size: Annotated[
        int | None, typer.Option(min=1, help=f"Size of each layer (default {DEFAULTS.hidden_size}).")
    ] = None,
    num_layers: Annotated[
        int | None, typer.Option(min=1, help=f"How many layers (default {DEFAULTS.num_layers}).")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(min=0.0, help=f"Of Adam (default {DEFAULTS.learning_rate}).")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint, the samples and the curve.")] = Path(
        "runs/demo"
    ),
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out.")] = False,
    length: Annotated[int, typer.Option(min=1, help="Characters per sample.")] = 300,
) -> None:
    """Train a character-level language model on real text, and let it write.

    **Examples**

    `minigrad demo`: two layers of LSTM on Python's manual, about two minutes

    `minigrad demo --cell gru --text book.txt --epochs 10`: another cell, a text of your own

    `minigrad demo --resume --epochs 6`: go on where the last run ended
    """
    options = {
        "cell": cell,
        "seed": seed,
        "hidden_size": hidden_size,
        "num_layers": num_layers,
        "learning_rate": learning_rate,
    }
    checkpoint = out / "model.safetensors"
    try:
        if backend is not None:
            mg.set_backend(backend)
        mg.get_backend()
        words = character_model.read_text(text)
        training = _prepared(words, {name: value for name, value in options.items() if value is not None}, out, resume)
        training.save(checkpoint)
    except (ValueError, TypeError, OSError, mg.MinigradError) as error:
        fail(str(error))
    _describe(training, words, resume, epochs)
    try:
        with threadpool_limits(1, user_api="blas"):  # products this small are faster on one thread
            _train(training, epochs, checkpoint)
        _write_samples(training, words, length, out / "samples.txt")
        _draw(training, out / "curve.png")
    except FloatingPointError as error:
        fail(f"{error}. The last good checkpoint is {checkpoint}; go on from it with --resume")
    except OSError as error:
        fail(f"cannot write into {out}: {error}")
    console.print(f"checkpoint: {checkpoint}")


def _prepared(words: str, options: dict[str, Any], out: Path, resume: bool) -> character_model.Training:
    """A new run, or the one in `out`; a checkpoint that a new run would replace is kept under another name."""
    checkpoint = out / "model.safetensors"
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; --out takes a folder")
    if resume:
        training = character_model.Training.resume(checkpoint, words)
        for name, value in options.items():
            if value != getattr(training.settings, name):
                raise ValueError(
                    f"--{name.replace('_', '-')} {value} is not what {checkpoint} was trained with, "
                    f"{getattr(training.settings, name)}: leave it out, or start anew without --resume"
                )
        return training
    training = character_model.Training(words, replace(DEFAULTS, **options))
    out.mkdir(parents=True, exist_ok=True)
    if checkpoint.exists():
        kept = checkpoint.replace(out / "previous.safetensors")
        console.print(f"the checkpoint of an earlier run is kept as {kept}")
    return training


def _describe(training: character_model.Training, words: str, resume: bool, epochs: int) -> None:
    settings, progress = training.settings, training.progress
    steps, batch = training.train_data[0].shape
    weights = sum(parameter.size for parameter in training.model.parameters())
    console.print(
        f"{len(words):,} characters, {len(training.characters)} different, the last tenth held out\n"
        f"{settings.num_layers} x {settings.cell} of {settings.hidden_size}, {weights:,} weights, on "
        f"{mg.get_backend().name}; {batch} streams, windows of {settings.window}, seed {settings.seed}"
    )
    if resume:
        console.print(f"going on after {progress.epoch} epochs and {progress.position} of {steps} steps")
    if progress.epoch >= epochs:
        console.print(f"all {epochs} epochs are done; --epochs {progress.epoch + 1} or more trains on")


SAVE_EVERY = 30.0
"""Seconds of training between two checkpoints; one more is written after each epoch, and on Ctrl-C."""


def _train(training: character_model.Training, epochs: int, checkpoint: Path) -> None:
    """Train with a progress bar, saving as it goes."""
    steps, batch = training.train_data[0].shape
    columns = (
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%  loss {task.fields[loss]:.3f}  {task.fields[bits]:.3f} bits/char"),
        TextColumn("{task.fields[speed]:,.0f} chars/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars, _interrupts() as interrupted:
        progress = training.progress
        while progress.epoch < epochs:
            name, first = f"{progress.epoch + 1}/{epochs}", progress.position
            bar = bars.add_task("", total=steps, completed=first, epoch=name, loss=0.0, bits=0.0, speed=0.0)
            begun = saved = time.perf_counter()
            average = None
            for done, value in training.epoch():
                average = value if average is None else 0.95 * average + 0.05 * value
                now = time.perf_counter()
                speed = (progress.position - first) * batch / (now - begun)
                bars.update(bar, advance=done, loss=average, bits=average / log(2), speed=speed)
                if interrupted():
                    training.save(checkpoint)
                    fail(f"stopped; {checkpoint} holds all that was done, go on from it with --resume", status=130)
                if now - saved > SAVE_EVERY:
                    training.save(checkpoint)
                    saved = now
            training.save(checkpoint)
            bars.remove_task(bar)
            elapsed = time.perf_counter() - begun
            bars.console.print(
                f"epoch {name}: training {progress.training[-1]:.3f}, held out {progress.held_out[-1]:.3f} bits/char, "
                f"{(steps - first) * batch / elapsed:,.0f} chars/s"
            )


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C has been pressed, to be asked between two windows; pressed twice it ends the program at once."""
    pressed: list[bool] = []

    def note(*_: Any) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(True)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)


def _write_samples(training: character_model.Training, words: str, length: int, path: Path) -> None:
    prompt = "The " if set("The ") <= set(training.characters) else words[:4]
    temperatures = [0.5, 0.8, 1.0]
    samples = [prompt + text for text in character_model.sample(training, temperatures, length, prompt)]
    parts = [f"--- temperature {t}\n{text}\n" for t, text in zip(temperatures, samples, strict=True)]
    path.write_text("\n".join(parts), encoding="utf-8")
    for temperature, text in zip(temperatures, samples, strict=True):
        console.rule(f"temperature {temperature}", align="left")
        console.print(text)
    console.rule()
    console.print(f"samples: {path}")


def _draw(training: character_model.Training, path: Path) -> None:
    steps, batch = training.train_data[0].shape
    try:
        character_model.plot_curve(training.progress, steps, batch, path)
        console.print(f"curve: {path}")
    except ImportError:
        console.print("curve: not drawn, matplotlib is not installed (pip install 'minigrad[plot]')")
