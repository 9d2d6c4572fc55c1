"""Mini-batches of sequences of different lengths: similar lengths together, every example once an epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from numbers import Integral
from typing import Any

import numpy as np

from minigrad.backend import generator
from minigrad.layers import check_size
from minigrad.tensor import Tensor
from minigrad.train.padding import Column

__all__ = ["Batch", "Batches"]

POOL = 50
"""How many batches are made of one pool of shuffled examples, within which they are sorted by length."""


@dataclass
class Batch:
    """Some examples, padded. It unpacks into its fields: `x, y = batch`.

    Attributes:
        fields: for each field a tensor: (T, B, ...) with zeros past each sequence's end; (B,) for plain numbers, and
            (B, ...) for a fixed field.
        lengths: for each field the lengths of its B sequences, or None if it holds none.
        indices: which examples these are.
    """

    fields: tuple[Tensor, ...]
    lengths: tuple[list[int] | None, ...]
    indices: list[int]

    @property
    def size(self) -> int:
        """How many examples there are."""
        return len(self.indices)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)

    def __getitem__(self, field: int) -> Tensor:
        return self.fields[field]


class Batches:
    """Examples in mini-batches, each example exactly once an epoch, none dropped.

    With `bucket`, the examples are shuffled, cut into pools of 50 batches, and sorted by length within each pool; so a
    batch holds examples of similar lengths, and little of it is padding. The order of an epoch depends on the seed and
    the epoch's number alone, so that any position in it can be found again.

    Args:
        examples: tuples of fields. A field is a number, or a sequence (T_i, ...) as an array, a tensor or a list; an
            array with one axis is a sequence of T_i numbers, unless its field is fixed. The lengths of the fields may
            differ.
        batch_size: examples per batch; the last has what is left.
        shuffle: draw a new order for each epoch.
        bucket: put similar lengths together.
        seed: of the order, an integer of 0 or more; by default drawn from the generator that `mg.seed` seeds when it is
            first needed.
        fixed: the numbers, from 0, of fields that hold no sequences but arrays of one shape, such as a vector of
            features beside a text: they are stacked to (B, ...), without padding or lengths.

    Raises:
        ValueError, TypeError: there are no examples, or they are not built alike.

    >>> from minigrad.train import Batches
    >>> data = Batches([([1, 2, 3], 0), ([4], 1), ([5, 6, 7], 1)], batch_size=2, shuffle=False)
    >>> for batch in data.batches(epoch=0):
    ...     x, y = batch
    ...     print(x.numpy().tolist(), batch.lengths[0], y.numpy().tolist())
    [[4, 1], [0, 2], [0, 3]] [1, 3] [1, 0]
    [[5], [6], [7]] [3] [1]
    >>> round(data.padding(epoch=0), 3)
    0.222
    >>> data = Batches([([1, 2, 3], [0.5, 0.1]), ([4], [0.2, 0.7])], batch_size=2, fixed=[1])
    >>> x, features = next(data.batches())
    >>> x.shape, features.shape
    ((3, 2), (2, 2))
    """

    def __init__(
        self,
        examples: Sequence[tuple[Any, ...]],
        batch_size: int,
        shuffle: bool = True,
        bucket: bool = True,
        seed: int | None = None,
        fixed: Sequence[int] = (),
    ) -> None:
        check_size(batch_size=batch_size)
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; got {batch_size}")
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, Integral) or seed < 0):
            raise ValueError(f"seed is an integer of 0 or more, or None to draw one; got {seed!r}")
        examples = list(examples)
        if not examples:
            raise ValueError("there are no examples")
        for number, example in enumerate(examples):
            if not isinstance(example, tuple) or len(example) != len(examples[0]) or not example:
                raise TypeError(
                    f"each example is a tuple of the same fields, such as (sequence, label); examples[{number}] is "
                    f"a {type(example).__name__}" + (f" of {len(example)}" if isinstance(example, tuple) else "")
                )
        fields = range(len(examples[0]))
        if not isinstance(fixed, Sequence) or any(field not in fields for field in fixed):
            raise ValueError(f"fixed lists numbers of fields, of which there are {len(fields)}, from 0; got {fixed!r}")
        self.columns = [
            Column(str(field), [example[field] for example in examples], field in fixed) for field in fields
        ]
        self.examples, self.batch_size = len(examples), int(batch_size)
        self.shuffle, self.bucket = shuffle, bucket
        self._seed = 0 if not shuffle else None if seed is None else int(seed)
        lengths = [column.lengths for column in self.columns if column.lengths is not None]
        self._lengths = np.array(lengths, "int64").reshape(len(lengths), self.examples)
        self._rank = np.unique(self._lengths, axis=1, return_inverse=True)[1].ravel() if lengths else None
        self._digest = ""

    def __len__(self) -> int:
        """Batches per epoch."""
        return -(-self.examples // self.batch_size)

    @property
    def seed(self) -> int:
        """The seed of the order."""
        if self._seed is None:
            self._seed = int(generator().integers(2**62))
        return self._seed

    def order(self, epoch: int | None) -> list[list[int]]:
        """The indices of the examples in each batch of an epoch (the first is epoch 0); with None unshuffled."""
        shuffle = self.shuffle and epoch is not None
        draw = np.random.default_rng([self.seed, epoch or 0] if shuffle else 0)
        indices = draw.permutation(self.examples) if shuffle else np.arange(self.examples)
        if self.bucket and self._rank is not None:
            pools = np.split(indices, range(POOL * self.batch_size, self.examples, POOL * self.batch_size))
            indices = np.concatenate([pool[np.argsort(self._rank[pool], kind="stable")] for pool in pools])
        batches = np.split(indices, range(self.batch_size, self.examples, self.batch_size))
        places = draw.permutation(len(batches)) if shuffle and self.bucket else range(len(batches))
        return [batches[place].tolist() for place in places]

    def batches(self, epoch: int | None = None, start: int = 0, state: Any = None) -> Iterator[Batch]:
        """The batches of an epoch, from number `start`; without an epoch unshuffled. `state` means nothing here."""
        for indices in self.order(epoch)[start:]:
            lengths = [None if c.lengths is None else [c.lengths[i] for i in indices] for c in self.columns]
            yield Batch(tuple(column.pad(indices) for column in self.columns), tuple(lengths), indices)

    def padding(self, epoch: int | None = None) -> float:
        """The fraction of all steps in an epoch that are padding."""
        padded = sum(int(self._lengths[:, i].max(axis=1).sum()) * len(i) for i in self.order(epoch))
        return 1 - int(self._lengths.sum()) / padded if padded else 0.0

    # --- in and out

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs: the seed, and a fingerprint of the rest."""
        self._digest = self._digest or sha256("".join(c.digest() for c in self.columns).encode()).hexdigest()
        return {
            "kind": type(self).__name__,
            "examples": self.examples,
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "bucket": self.bucket,
            "sha256": self._digest,
            "seed": self.seed,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the seed.

        Raises:
            ValueError: it was taken of other data; nothing is changed.
        """
        check_same_data(self.state_dict(), state, but="seed")
        self._seed = state["seed"]


def check_same_data(here: Mapping[str, Any], saved: Mapping[str, Any], but: str = "") -> None:
    """Raise unless two state dicts of data agree."""
    differ = [f"{k} was {saved.get(k)}, and is {here.get(k)}" for k in here if k != but and saved.get(k) != here[k]]
    if differ or (but and but not in saved):
        raise ValueError(f"the training data is not what the run began with: {'; '.join(differ) or f'no {but}'}")
