"""How far a run has come, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["History", "Progress"]


@dataclass
class Progress:
    """How far a run has come; a checkpoint holds it.

    Attributes:
        epoch: epochs finished.
        position: batches done in the epoch under way.
        step: updates done.
        seconds: of training and validation.
        sums: of this epoch's metrics so far, see `Means`.
        records: one per finished epoch, see `Callback.on_epoch_end`.
        monitored: the metric that "best" goes by, such as "min loss"; empty without validation.
        best: its best value on the validation data.
        best_epoch: the epoch that had it.
        waited: epochs since.
    """

    epoch: int = 0
    position: int = 0
    step: int = 0
    seconds: float = 0.0
    sums: dict[str, list[float]] = field(default_factory=dict)
    records: list[dict[str, Any]] = field(default_factory=list)
    monitored: str = ""
    best: float | None = None
    best_epoch: int = 0
    waited: int = 0


@dataclass
class History:
    """What `fit` returns. `history["validation_loss"]` is that column of the records.

    Attributes:
        records: one per epoch, see `Callback.on_epoch_end`.
        stopped: why the run ended: "epochs", "steps", "patience", "interrupted", or what a callback gave as reason.
        best: the best value of the monitored metric on the validation data, or None.
        best_epoch: the epoch that had it, from 1; 0 if there is none.
    """

    records: list[dict[str, Any]]
    stopped: str
    best: float | None = None
    best_epoch: int = 0

    def __getitem__(self, name: str) -> list[Any]:
        if not any(name in record for record in self.records):
            known = ", ".join(dict.fromkeys(key for record in self.records for key in record)) or "none"
            raise KeyError(f"no epoch has {name!r}; there are: {known}")
        return [record.get(name) for record in self.records]
