"""Runs a program by compiled C: the same interface as the executor of array calls, with memory laid out for rows."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from minigrad.backend import Backend, random_state, set_random_state
from minigrad.plan.executor import Executor, draw, evaluate, memory_of, owned
from minigrad.plan.graph import Value, is_draw
from minigrad.plan.native.memory import Job, Memory
from minigrad.plan.native.parts import NotExpressibleError
from minigrad.plan.native.pool import get_num_threads, pool_run_address, pool_source
from minigrad.plan.native.schedule import Schedule
from minigrad.plan.native.source import kernels_source, source
from minigrad.plan.native.stepper import Stepper
from minigrad.plan.native.toolchain import NativeUnavailable, load, load_ahead, unavailable
from minigrad.plan.program import Program

WORK_OF_TWO = 4_000_000
"""Operations from which on a second thread is worth its price: some 40 microseconds' work of one."""


@dataclass
class Run:
    """One run forward, with all that its backward needs: see `plan.executor.Run`."""

    steps: int
    known: dict[int, Any]
    memory: Memory
    checkpoints: list[tuple[list[Any], Any]] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    states: list[Any] = field(default_factory=list)


def _loaded(text: str) -> Any:
    """The compiled library of a source."""
    library = load(text)
    if isinstance(library, NativeUnavailable):
        raise NotExpressibleError(library.reason)
    long, pointer = ctypes.c_long, ctypes.c_void_p
    if hasattr(library, "kernels"):
        library.kernels.restype, library.kernels.argtypes = pointer, []
    elif not hasattr(library, "forward"):
        raise NotExpressibleError("what the compiler has made lacks the functions of its source")
    else:
        library.forward.argtypes = [ctypes.POINTER(Job), pointer, *[long] * 4]
        library.backward.argtypes = [ctypes.POINTER(Job), pointer, *[long] * 5]
        library.forward.restype = library.backward.restype = None
    return library


class NativeExecutor:
    """A program as compiled C, ready to run.

    Args:
        program: what to compute.
        backend: NumPy's.
        checkpoint_every: keep the state at each so many steps, and compute what is between anew for the backward.

    Attributes:
        x, carries, results: the arrays of what is given and of what comes out.

    Raises:
        NotExpressibleError: the program cannot be written in C, or not compiled here; says why.
    """

    def __init__(self, program: Program, backend: Backend, checkpoint_every: int | None) -> None:
        if (why := unavailable()) is not None:
            raise NotExpressibleError(why.reason)
        self.program, self.backend, self.checkpoint_every = program, backend, checkpoint_every
        self.schedule = schedule = Schedule(program)
        self.source = source(schedule)
        for text in (kernels_source(schedule.real), pool_source()):
            load_ahead(text)
        self.library = _loaded(self.source)
        self.kernels = _loaded(kernels_source(schedule.real)).kernels()
        pool = pool_run_address()
        self.pool = None if isinstance(pool, NativeUnavailable) else pool
        step = program.step
        self.draw_values = [v for v in program.bins["input"] if is_draw(v)]
        self.draws = bool(self.draw_values)
        constants = [v for v in step.graph.values if v.op == "constant"]
        self.constants = {v.index: backend.asarray(v.attrs["array"]) for v in constants}
        self.spare: list[Memory] = []
        self._summed = {c.place.array.number for s in schedule.backward.sums for c in (s.left, s.right) if c}
        self.x = schedule.places[step.x.index].array
        self.results = [place.array for place in schedule.outputs]
        given_out = {array.number for array in self.results}
        in_time = {"saved", "chunk", "carry"}
        self._in_time = [a for a in schedule.arrays if a.kind in in_time and a.number not in given_out]
        self.carries = [schedule.places[carry.index].array for carry in step.carries]
        self._seeds = [None if seed is None else schedule.places[seed.index].array for seed in step.carried]
        self._fixed = [a for a in schedule.arrays if a.kind == "constant"]
        self._weights = [(value.values[1].index, value.name == "linear") for value, _ in schedule.packed]
        self._zeros = {v.index: np.zeros(v.shape, schedule.real) for v in step.cotangents if v is not None}
        lent = {"given", "output", "total"}
        self._lent = [a.number for a in schedule.arrays if a.kind in lent or a.number in given_out]

    # --- forward

    def forward(self, x: Any, alive: Any, states: list[Any], leaves: list[Any]) -> Run:
        """Run over x (T, B, ...); see `plan.executor.Executor.forward`."""
        schedule, step, steps = self.schedule, self.program.step, x.shape[0]
        known = self.constants | {v.index: array for (v, _), array in zip(step.leaves, leaves, strict=True)}
        evaluate(self.program.bins["constant"], known, self.backend)
        memory = self._memory(steps)
        run = Run(steps, known, memory)
        self._give(run, step.x, x)
        if step.alive is not None:
            self._give(run, step.alive, alive)
        for value in self.draw_values:
            self._give(run, value, np.empty((steps, *value.shape), value.dtype))
        new: dict[int, Any] = {}
        for array in self.results:
            if array.number not in new:
                more = int(array.kind == "carry")
                new[array.number] = np.empty((steps + more, *array.value.shape), array.dtype)
                memory.put(array, new[array.number])
        self.give_constants(memory, run.known)
        current = states
        if schedule.flag is not None:
            memory.arrays[schedule.flag.number].fill(0)
        for number in range(len(memory.spans)):
            if len(memory.spans) > 1:
                run.checkpoints.append(([np.array(s) for s in current], random_state() if self.draws else None))
            self._forward_span(run, number, current)
            current = [memory.between(array, memory.spans[number][1]) for array in self.carries]
        if schedule.flag is not None and memory.arrays[schedule.flag.number].any():
            Executor(self.program, self.backend, self.checkpoint_every).forward(x, alive, states, leaves)  # says which
            raise IndexError("an index is out of range")
        run.states = [np.array(state, carry.dtype) for state, carry in zip(current, step.carries, strict=True)]
        taken: set[int] = set()
        for array, output in zip(self.results, step.outputs, strict=True):
            whole = new[array.number]
            result = whole[1:] if array.kind == "carry" else whole
            run.outputs.append(result.astype(output.dtype, copy=array.number in taken))
            taken.add(array.number)
        return run

    def _forward_span(self, run: Run, number: int, states: list[Any]) -> None:
        memory, (first, last) = run.memory, run.memory.spans[number]
        self._move(memory, first)
        for array, state in zip(self.carries, states, strict=True):
            np.copyto(memory.between(array, first), state)
        for t in range(first, last) if self.draws else ():
            for value in self.draw_values:
                draw(value, memory.arrays[self.schedule.places[value.index].array.number][t, ...], np)
        memory.span = number
        self.library.forward(memory.job, self.pool, self.threads(last - first), first, last, memory.chunk)

    def _move(self, memory: Memory, first: int) -> None:
        """Let what is kept for a span begin with a step."""
        if memory.first != first:
            memory.first = first
            for array in self._in_time:
                keeps = array.kind != "carry" or self.schedule.keeps
                memory.origins[array.number] = first if keeps else 0

    def _give(self, run: Run, value: Value, array: Any) -> None:
        """Let the code read what is given for each step."""
        place = self.schedule.places[value.index].array
        run.memory.put(place, np.ascontiguousarray(array, place.dtype))

    def give_constants(self, memory: Memory, known: dict[int, Any]) -> None:
        """Let the code read what depends on parameters alone, and the matrices to pack."""
        for array in self._fixed:
            memory.put(array, array.arranged(known[array.value.index]))
        for number, (index, transposed) in enumerate(self._weights):
            memory.put_weight(number, np.asarray(known[index], self.schedule.real), transposed)

    # --- backward

    def backward(
        self, run: Run, cotangents: list[Any], state_cotangents: list[Any]
    ) -> tuple[Any, list[Any], list[Any]]:
        """Pull cotangents back through a run; see `plan.executor.Executor.backward`."""
        schedule, step, memory = self.schedule, self.program.step, run.memory
        real, known = schedule.real, dict(run.known)
        for value, g in zip(step.cotangents, cotangents, strict=True):
            if value is None:
                continue
            array = schedule.places[value.index].array
            if g is not None or array.number in self._summed:
                zeros = np.zeros((run.steps, *value.shape), real) if g is None else g
                self._give(run, value, zeros)
                memory.strides[array.number] = prod(value.shape)
            else:
                memory.put(array, self._zeros[value.index])
                memory.strides[array.number] = 0
        if schedule.x_grad is not None:
            memory.put(schedule.x_grad.array, np.empty((run.steps, *schedule.x_grad.array.value.shape), real))
        for total in schedule.backward.sums:
            memory.put(total.array, np.empty(total.base.shape, real))
        for seed, g in zip(self._seeds, state_cotangents, strict=True):
            if seed is not None:
                np.copyto(memory.between(seed, run.steps), 0 if g is None else g)
        for number in reversed(range(len(memory.spans))):
            if number != memory.span:
                self._again(run, number)
            first, last = memory.spans[number]
            more = int(number < len(memory.spans) - 1)
            self.library.backward(memory.job, self.pool, self.threads(last - first), first, last, memory.chunk, more)
        for total in schedule.backward.sums:
            known[total.base.value.index] = total.base.finished(memory.arrays[total.array.number])
        for value, of, later in schedule.backward.later:
            evaluate(later, known, self.backend)
            known[value.index] = known[of.index]
        starts = [None if array is None else memory.between(array, 0).copy() for array in self._seeds]
        evaluate(self.program.bins["final"], known, self.backend)
        taken = {memory_of(array) for array in run.known.values()}
        finals = [None if f is None else owned(np.asarray(known[f.index]), taken) for f in self.program.finals]
        x_grad = None if schedule.x_grad is None else memory.arrays[schedule.x_grad.array.number]
        return x_grad, starts, finals

    def _again(self, run: Run, number: int) -> None:
        """Compute a span anew from its checkpoint, with the same random numbers."""
        states, drawn = run.checkpoints[number]
        now = random_state() if self.draws else None
        try:
            if now is not None:
                set_random_state(drawn)
            self._forward_span(run, number, states)
        finally:
            if now is not None:
                set_random_state(now)

    # --- threads and memory

    def stepper(self, leaves: list[Any], states: list[Any]) -> Stepper | None:
        """What runs the forward one step at a time; None if something must be done before or after each."""
        return None if self.draws or self.schedule.flag is not None else Stepper(self, leaves, states)

    def threads(self, steps: int) -> int:
        """How many threads are worth it."""
        return get_num_threads() if self.schedule.work * steps > WORK_OF_TWO and self.pool is not None else 1

    def _memory(self, steps: int) -> Memory:
        try:
            memory = self.spare.pop()
        except IndexError:
            memory = None
        if memory is None or memory.steps != steps:
            memory = Memory(self.schedule, self.kernels, steps, min(self.checkpoint_every or steps, steps))
        return memory

    def release(self, run: Run) -> None:
        """Give the memory of a run back; what others own they need not share with it any more."""
        for number in self._lent:
            run.memory.arrays.pop(number, None)
        self.spare[:] = [run.memory]
