"""A compiled program run one step at a time, with the state left in its memory and the matrices packed once."""

from __future__ import annotations

from operator import is_
from typing import TYPE_CHECKING, Any

import numpy as np

from minigrad.plan.executor import evaluate
from minigrad.plan.native.memory import Memory

if TYPE_CHECKING:
    from minigrad.plan.native.executor import NativeExecutor


class Stepper:
    """Runs the forward of a program step by step.

    Args:
        executor: of a program without gradients, masks, and random numbers.
        leaves: tensors that the program's leaves stand for; they are asked for their arrays at each step.
        states: the carries before the first step.

    Attributes:
        x: where a step's input lies, (B, ...).
    """

    def __init__(self, executor: NativeExecutor, leaves: list[Any], states: list[Any]) -> None:
        self.executor, self.leaves = executor, leaves
        schedule = executor.schedule
        self.memory = Memory(schedule, executor.kernels, steps=1, span=1)
        self._arrays: list[Any] = []
        self._t = 0
        for array in [executor.x, *executor.results]:
            entries = 2 if array.kind == "carry" else 1
            self.memory.put(array, np.empty((entries, *array.value.shape), array.dtype))
            self.memory.periods[array.number] = entries
        self.x = self.memory.arrays[executor.x.number][0]
        result = executor.results[0]
        y = self.memory.arrays[result.number]
        self._ys = y[::-1] if result.kind == "carry" else (y[0], y[0])  # by t % 2; a carry is the one after the step
        self.states = states

    @property
    def states(self) -> list[Any]:
        """The carries now, as copies."""
        carries = zip(self.executor.carries, self.executor.program.step.carries, strict=True)
        return [self.memory.between(array, self._t).astype(carry.dtype) for array, carry in carries]

    @states.setter
    def states(self, states: list[Any]) -> None:
        for array, state in zip(self.executor.carries, states, strict=True):
            np.copyto(self.memory.between(array, self._t), state)

    def step(self, x: Any) -> Any:
        """The output (B, ...) of one step on x (B, ...)."""
        np.copyto(self.x, x)
        arrays = [leaf.data for leaf in self.leaves]
        self.memory.job.pack = 0
        if len(arrays) != len(self._arrays) or not all(map(is_, arrays, self._arrays)):
            self._load(arrays)
        t, self._t = self._t, self._t + 1
        self.executor.library.forward(self.memory.job, self.executor.pool, self.executor.threads(1), t, t + 1, 1)
        return self._ys[t % 2].astype(self.executor.program.step.outputs[0].dtype)

    def _load(self, arrays: list[Any]) -> None:
        """Take the leaves' values as they are now."""
        self._arrays, self.memory.job.pack = arrays, 1
        program, known = self.executor.program, dict(self.executor.constants)
        known |= {value.index: array for (value, _), array in zip(program.step.leaves, arrays, strict=True)}
        evaluate(program.bins["constant"], known, self.executor.backend)
        self.executor.give_constants(self.memory, known)
