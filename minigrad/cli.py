"""The `minigrad` command."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from math import log
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from threadpoolctl import threadpool_limits

import minigrad as mg
from minigrad import demo as character_model

app = typer.Typer(
    help="Recurrent networks on a small tape-based autograd.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
)
console = Console()


def fail(message: str) -> NoReturn:
    """End the program with a message instead of a traceback."""
    Console(stderr=True).print(f"[bold red]Error:[/] {message}", highlight=False, soft_wrap=True)
    raise typer.Exit(1)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"minigrad {version('minigrad')}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Recurrent networks on a small tape-based autograd."""


@app.command()
def demo(
    text: Annotated[Path | None, typer.Option(help="A UTF-8 text of your own; by default Python's manual.")] = None,
    cell: Annotated[str, typer.Option(help="Any registered cell; see `minigrad plugins`.")] = "lstm",
    backend: Annotated[str | None, typer.Option(help="numpy or cupy; by default MINIGRAD_BACKEND, or numpy.")] = None,
    seed: Annotated[int, typer.Option(help="Two runs with one seed are the same.")] = 0,
    epochs: Annotated[int, typer.Option(min=1, help="How often to read the text in all.")] = 3,
    hidden_size: Annotated[int, typer.Option(min=1, help="Size of each layer.")] = 192,
    num_layers: Annotated[int, typer.Option(min=1, help="How many layers.")] = 2,
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
    checkpoint = out / "model.safetensors"
    try:
        if backend is not None:
            mg.set_backend(backend)
        mg.get_backend()
        words = character_model.read_text(text)
        if resume:
            training = character_model.Training.resume(checkpoint, words)
        else:
            settings = character_model.Settings(cell=cell, hidden_size=hidden_size, num_layers=num_layers, seed=seed)
            training = character_model.Training(words, settings)
        out.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError, mg.MinigradError) as error:
        fail(str(error))
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
    try:
        with threadpool_limits(1, user_api="blas"):  # products this small are faster on one thread
            _train(training, epochs, checkpoint)
    except FloatingPointError as error:
        fail(f"{error}. {_kept(checkpoint)}")
    except KeyboardInterrupt:
        fail(f"stopped. {_kept(checkpoint)}")
    _show_samples(training, length, out / "samples.txt")
    _draw(training, out / "curve.png")
    console.print(f"checkpoint: {checkpoint}")


SAVE_EVERY = 30.0
"""Seconds of training between two checkpoints; one more is written after each epoch."""


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
    with Progress(*columns, console=console, transient=True) as bars:
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
                if now - saved > SAVE_EVERY:
                    training.save(checkpoint)
                    saved = now
            training.save(checkpoint)
            bars.remove_task(bar)
            elapsed = time.perf_counter() - begun
            bars.console.print(
                f"epoch {name}: training {progress.curve[-1][1]:.3f}, held out [bold]{progress.held_out[-1]:.3f}[/] "
                f"bits/char, {(steps - first) * batch / elapsed:,.0f} chars/s",
                highlight=False,
            )


def _kept(checkpoint: Path) -> str:
    if not checkpoint.is_file():
        return "Nothing has been saved yet"
    return f"The last good checkpoint is {checkpoint}; go on from it with --resume"


def _show_samples(training: character_model.Training, length: int, path: Path) -> None:
    temperatures = [0.5, 0.8, 1.0]
    samples = character_model.sample(training, temperatures, length, prefix="\nThe ")
    parts = []
    for temperature, text in zip(temperatures, samples, strict=True):
        parts.append(f"--- temperature {temperature}\nThe {text}\n")
        console.rule(f"temperature {temperature}", align="left")
        console.print(f"The {text}", markup=False, highlight=False, soft_wrap=True)
    console.rule()
    path.write_text("\n".join(parts), encoding="utf-8")
    console.print(f"samples: {path}")


def _draw(training: character_model.Training, path: Path) -> None:
    steps, batch = training.train_data[0].shape
    try:
        character_model.plot_curve(training.progress, steps, batch, path)
        console.print(f"curve: {path}")
    except ImportError:
        console.print("curve: not drawn, matplotlib is not installed (pip install 'minigrad\\[plot]')")


@app.command()
def plugins(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """List what the installed plugins offer, and which of them failed.

    **Examples**

    `minigrad plugins`

    `minigrad plugins --json`
    """
    found = mg.plugins()
    if as_json:
        typer.echo(json.dumps([asdict(info) for info in found], indent=2))
        return
    table = Table("kind", "name", "distribution", "version", "status")
    for info in found:
        style = None if info.status == "ok" else "red"
        table.add_row(info.kind, info.name, info.distribution, info.version, info.status, style=style)
    console.print(table)


if __name__ == "__main__":
    app()
