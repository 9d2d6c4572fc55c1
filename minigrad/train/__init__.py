"""Training: `Trainer`, data for it, learning-rate schedules, and callbacks.

    trainer = Trainer(model, mg.optimizer("adam", model.parameters()), step, clip_norm=1.0, out="runs/first")
    history = trainer.fit(Batches(examples, 32), Batches(held_out, 32), epochs=20, patience=3)

| file | what it holds |
| --- | --- |
| `padding.py`, `batches.py` | mini-batches of sequences of different lengths |
| `streams.py` | long sequences with carried state, trained by `mg.tbptt` |
| `schedules.py` | learning-rate schedules |
| `metrics.py` | what a training step returns; means over examples |
| `update.py`, `trouble.py` | one update; where a NaN comes from |
| `run.py`, `trainer.py` | epochs until there is a reason to stop; `Trainer` |
| `history.py`, `snapshot.py`, `saves.py` | how far a run has come; all that it needs to go on; its checkpoints |
| `modes.py` | evaluating, the same random numbers again, Ctrl-C, a folder for one run at a time |
| `callbacks.py` | what can be done besides |
| `bar.py`, `logs.py`, `curves.py` | such as a progress bar, JSON Lines, TensorBoard, curves as a PNG |
"""

from minigrad.train.bar import ProgressBar
from minigrad.train.batches import Batch, Batches
from minigrad.train.callbacks import Callback
from minigrad.train.curves import Curves, plot_curves
from minigrad.train.history import History, Progress
from minigrad.train.logs import JsonLines, TensorBoard
from minigrad.train.schedules import Cosine, Plateau, Schedule, StepDecay, WarmUp
from minigrad.train.streams import Streams, Stretch, Truncated
from minigrad.train.trainer import Trainer
from minigrad.train.trouble import NonFiniteError

__all__ = [
    "Batch",
    "Batches",
    "Callback",
    "Cosine",
    "Curves",
    "History",
    "JsonLines",
    "NonFiniteError",
    "Plateau",
    "Progress",
    "ProgressBar",
    "Schedule",
    "StepDecay",
    "Streams",
    "Stretch",
    "TensorBoard",
    "Trainer",
    "Truncated",
    "WarmUp",
    "plot_curves",
]
