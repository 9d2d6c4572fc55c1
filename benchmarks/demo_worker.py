"""The process in which `demo.py` has one library train the demo's model; not meant to be started by hand.

demo_worker.py data FILE HIDDEN    write the text as numbers, and the weights to start from
demo_worker.py PEER FILE           answer with how it runs; then each number of windows on stdin with their losses,
                                   and the median of the characters a second
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from demo_data import Data, load_data, save_data
from timing import Say, serve, threads


def train_minigrad(data: Data, engine: str, notes: list[str]) -> Iterator[tuple[int, float]]:
    """The demo itself; after each window gives (characters, loss in nats per character)."""
    from threadpoolctl import threadpool_limits

    import minigrad as mg
    from minigrad.demo import Settings, Training, read_text

    training = Training(read_text(None), Settings(hidden_size=data.weights["output.weight"].shape[1]))
    for _, module in training.model.named_modules():
        if isinstance(module, mg.Recurrent):
            module.engine = engine
    notes.append(training.model.layers.explain())
    batch = training.train_data[0].shape[1]
    with threadpool_limits(1, user_api="blas"):  # as the demo itself does
        while True:
            for steps, loss in training.epoch():
                yield steps * batch, loss


def task(arguments: list[str], say: Say) -> None:
    """What the command line asks for."""
    peer, file, *rest = arguments
    if peer == "data":
        save_data(Path(file), int(rest[0]))
        say({})
        return
    data = load_data(Path(file))
    notes: list[str] = []
    if peer == "torch-nn":
        import torch
        from demo_torch import train

        torch.set_num_threads(threads())
        windows = train(data)
        say({"version": f"PyTorch {torch.__version__}"})
    else:
        import numpy as np

        windows = train_minigrad(data, "tape" if peer == "tape" else "plan", notes)
        say({"version": f"NumPy {np.__version__}"})
    for line in sys.stdin:
        losses, speeds, begin = [], [], time.perf_counter()
        for characters, loss in islice(windows, int(line)):
            now = time.perf_counter()
            speeds.append(characters / (now - begin))
            losses.append(loss)
            begin = now
        say({"losses": losses, "speed": statistics.median(speeds), "notes": notes})


if __name__ == "__main__":
    serve(task)
