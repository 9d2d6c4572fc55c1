"""Runs a program by kernels and products: the same interface as the executor of array calls.

Before and after the loop each product and each kernel is called once, for all steps of a span. The loop itself is
called step by step the first time; from the second time on it is a graph, captured once, that is launched with one
call. Nothing in it waits for the device, or copies to or from the host.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np

from minigrad.backend import Backend, random_state, set_random_state, use_backend
from minigrad.errors import DeviceMismatchError
from minigrad.plan.cuda.beside import Ready, latest, on
from minigrad.plan.cuda.device import Device, Lane, device_of
from minigrad.plan.cuda.layout import Kernel, Product, is_later
from minigrad.plan.cuda.memory import ADVICE, Memory
from minigrad.plan.cuda.sections import Section
from minigrad.plan.cuda.source import module, write
from minigrad.plan.cuda.storage import Converter, chosen, schedule_of
from minigrad.plan.executor import Executor, draw, evaluate, memory_of, owned
from minigrad.plan.native.places import Place
from minigrad.plan.program import Program

MOST_ELEMENTS = 1 << 30
"""How many elements a kernel computes at once. It counts them with 31 bits, and a thread adds all of them once more."""

MEMORIES = 4
"""How many runs' memory, with the graphs that were captured in it, is kept for the next ones: for other numbers of
steps, or where a layer runs several times before its backward."""

Function = TypeVar("Function", bound=Callable[..., Any])


def advised(function: Function) -> Function:
    """Let a run that has too little memory for anything say what takes less."""

    @wraps(function)
    def call(*args: Any) -> Any:
        try:
            return function(*args)
        except MemoryError as error:
            if ADVICE in str(error):
                raise
            raise MemoryError(f"{str(error).rstrip('.')}. {ADVICE}") from error

    return cast(Function, call)


@dataclass
class Run:
    """One run forward, with all that its backward needs: see `plan.executor.Run`.

    Attributes:
        stream: that it ran on; ready: the gradients that have come to it.
    """

    steps: int
    x: Any
    alive: Any
    known: dict[int, Any]
    memory: Memory
    stream: Any
    ready: Ready
    checkpoints: list[tuple[list[Any], Any]] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    states: list[Any] = field(default_factory=list)


class CudaExecutor:
    """A program as compiled kernels, ready to run.

    Args:
        program: what to compute.
        backend: CuPy's.
        checkpoint_every: keep the state at each so many steps, and compute what is between anew for the backward.

    Raises:
        NotExpressibleError: the program cannot be written in CUDA; says why.
    """

    def __init__(self, program: Program, backend: Backend, checkpoint_every: int | None) -> None:
        self.backend, self.checkpoint_every = backend, checkpoint_every
        self.schedule = schedule_of(program, chosen(backend))
        self.program = program = self.schedule.program
        self.kernels = write(self.schedule)
        self.source = module(self.schedule, self.kernels)
        self.device: Device = device_of(backend)
        conversions = ("narrow", "widen") if self.schedule.storage else ()
        self._functions = self.device.compiled(self.source, (*self.kernels, *conversions))
        self.converter: Any = Converter(backend.xp, self._functions) if conversions else None
        self.draws = bool(self.schedule.draws)
        constants = [v for v in program.step.graph.values if v.op == "constant"]
        self.constants = {v.index: backend.asarray(v.attrs["array"]) for v in constants}
        if constants:
            backend.xp.cuda.get_current_stream().synchronize()  # any stream may read them
        self.in_loop = self._used([self.schedule.sections["forward"][1], self.schedule.sections["backward"][1]])
        self.spare: list[Memory] = []

    def _used(self, sections: list[Section]) -> set[int]:
        """The numbers of the arrays that sections read or write."""
        found = set()
        for section in sections:
            found |= section.multiplied
            for item in section.work:
                if isinstance(item, Kernel):
                    found |= {array.number for array in self.kernels[item.name].arrays}
        return found

    @property
    def listing(self) -> str:
        """The work in order, and the kernels, for people."""
        kept = f"  x, matrices and what the backward needs are kept in {self.schedule.storage}, all else is in float32"
        lines = [kept] if self.schedule.storage else []
        for section in (*self.schedule.sections["forward"], *self.schedule.sections["backward"]):
            for item in section.work:
                when = "at each step" if section.in_loop else "for all steps at once"
                if isinstance(item, Product):
                    added = "+= " if item.adds else "= "
                    swapped = ".T" if item.transposed else ""
                    name = self.schedule.name
                    operand, out = name(item.operand.place.array), name(item.place.array)
                    what = f"{out} {added}{operand} @ {name(item.matrix)}{swapped} (cuBLAS)"
                else:
                    what = f"kernel {item.name}"
                lines.append(f"  {section.name}, {when}: {what}")
        return "\n".join([*lines, *(kernel.text for kernel in self.kernels.values())])

    # --- forward

    @advised
    def forward(self, x: Any, alive: Any, states: list[Any], leaves: list[Any]) -> Run:
        """Run over x (T, B, ...); see `plan.executor.Executor.forward`."""
        step, schedule, xp = self.program.step, self.schedule, self.backend.xp
        steps: int = x.shape[0]
        self._check_places(x, states, leaves)
        known = self.constants | {v.index: array for (v, _), array in zip(step.leaves, leaves, strict=True)}
        evaluate(self.program.bins["constant"], known, self.backend)
        memory = self._memory(steps)
        flags = None if alive is None else alive.astype(schedule.real)
        run = Run(steps, x, flags, known, memory, xp.cuda.get_current_stream(), Ready(xp))
        if schedule.flag is not None:
            memory.arrays[schedule.flag.number].fill(0)
        for array in schedule.arrays:
            if array.kind in ("constant", "matrix"):
                memory.put(array, known[array.value.index])
        run.outputs = [xp.empty((steps, *output.shape), dtype=output.dtype) for output in step.outputs]
        carries = [schedule.places[carry.index] for carry in step.carries]
        current = states
        for number, (first, last) in enumerate(memory.spans):
            if len(memory.spans) > 1:
                run.checkpoints.append(([s.copy() for s in current], random_state() if self.draws else None))
            self._forward_span(run, number, carries, current)
            for output, place in zip(run.outputs, schedule.outputs, strict=True):
                rows = memory.arrays[place.array.number][int(is_later(place)) :]
                xp.copyto(output[first:last], rows[: last - first], casting="unsafe")
            current = [memory.arrays[carry.array.number][last - first] for carry in carries]
        run.states = [state.astype(carry.dtype) for state, carry in zip(current, step.carries, strict=True)]
        self._check_indices(memory, x, alive, states, leaves)
        return run

    def _check_indices(self, memory: Memory, *given: Any) -> None:
        """Raise if an index was out of range: with the next number that is read, so that nothing waits for it here."""
        if self.schedule.flag is None:
            return
        flag = memory.arrays[self.schedule.flag.number]

        def error() -> Exception:
            drawn = random_state()
            try:
                Executor(self.program, self.backend, self.checkpoint_every).forward(*given)  # says which
                self.backend.to_host(flag)  # and what it has asked is answered
            except IndexError as found:
                return found
            finally:
                set_random_state(drawn)
            return IndexError("an index is out of range")

        self.backend.require((flag == 0).all(), error)

    def _check_places(self, x: Any, states: list[Any], leaves: list[Any]) -> None:
        """Raise unless all that is given is on the current device."""
        step, place = self.program.step, self.backend.place
        here = f"CUDA device {self.backend.xp.cuda.Device().id}"
        if all(place(array) == here for array in (x, *states, *leaves)):
            return
        names = [value.attrs["name"] for value in (*step.carries, *(leaf for leaf, _ in step.leaves))]
        places = dict(zip(["x", *names], map(place, (x, *states, *leaves)), strict=True))
        found = ", ".join(f"{name} on {where}" for name, where in places.items() if where != here)
        raise DeviceMismatchError(
            f"{here} is the current one, but there is {found}. Make all of them on one device and run them there: "
            "inside `with cupy.cuda.Device(n):`, with arrays copied to it"
        )

    def _forward_span(self, run: Run, number: int, carries: list[Place], states: list[Any]) -> None:
        memory, schedule, step = run.memory, self.schedule, self.program.step
        first, last = memory.spans[number]
        self._give(memory, step.x, run.x[first:last])
        if step.alive is not None:
            self._give(memory, step.alive, run.alive[first:last])
        self._draw(memory, last - first)
        for carry, place, state in zip(step.carries, carries, states, strict=True):
            self.backend.xp.copyto(memory.arrays[place.array.number][0], state)
            if (copy := schedule.copies.get(carry.index)) is not None:
                self.converter.narrow(state, memory.arrays[copy.array.number][0])
        memory.span = number
        self._sections(memory, schedule.sections["forward"], last - first, backwards=False)

    def _give(self, memory: Memory, value: Any, rows: Any) -> None:
        memory.put(self.schedule.places[value.index].array, rows, rows.shape[0])

    def _draw(self, memory: Memory, steps: int) -> None:
        """Random numbers for so many steps, in the order in which a loop draws them, moved to the device at once."""
        draws = self.schedule.draws
        drawn = [np.empty((steps, *value.shape), value.dtype) for value in draws]
        with use_backend("numpy"):
            for t in range(steps) if draws else ():
                for value, rows in zip(draws, drawn, strict=True):
                    draw(value, rows[t, ...], np)
        for value, rows in zip(draws, drawn, strict=True):
            self._give(memory, value, self.backend.asarray(rows))

    # --- backward

    def beside(self, run: Run, results: list[Any]) -> tuple[Ready | None, list[Any]]:
        """A run has been recorded, with these results: see `beside.Latest`."""
        return latest.beside(run, results)

    @advised
    def backward(
        self, run: Run, cotangents: list[Any], state_cotangents: list[Any]
    ) -> tuple[Any, list[Any], list[Any]]:
        """Pull cotangents back through a run, on its stream; see `plan.executor.Executor.backward`."""
        events = run.ready.events(g for g in (*cotangents, *state_cotangents) if g is not None)
        with on(self.backend.xp, run.stream, events):
            return self._pulled_back(run, cotangents, state_cotangents)

    def _pulled_back(
        self, run: Run, cotangents: list[Any], state_cotangents: list[Any]
    ) -> tuple[Any, list[Any], list[Any]]:
        schedule, step, memory, xp = self.schedule, self.program.step, run.memory, self.backend.xp
        known = dict(run.known)
        given = None if schedule.x_grad is None else schedule.x_grad.array
        x_grad = None if given is None else xp.empty((run.steps, *step.x.shape), dtype=schedule.real)
        for total in schedule.sums:
            memory.arrays[total.array.number] = xp.empty(total.base.shape, dtype=schedule.real)
        seeds = [None if seed is None else schedule.places[seed.index].array for seed in step.carried]
        current = list(state_cotangents)
        carries = [schedule.places[carry.index] for carry in step.carries]
        for number in reversed(range(len(memory.spans))):
            if number != memory.span:
                self._again(run, number, carries)
            first, last = memory.spans[number]
            for value, g in zip(step.cotangents, cotangents, strict=True):
                if value is not None:
                    rows = xp.zeros((last - first, *value.shape), dtype=schedule.real) if g is None else g[first:last]
                    self._give(memory, value, rows)
            for seed, g in zip(seeds, current, strict=True):
                if seed is not None:
                    end = memory.arrays[seed.number][last - first]
                    end.fill(0) if g is None else xp.copyto(end, g)
            part = None if x_grad is None else x_grad[first:last]
            if given is not None and not memory.is_fixed(given):
                memory.arrays[given.number] = part
            self._sections(memory, schedule.sections["backward"], last - first, backwards=True)
            if given is not None and memory.is_fixed(given):
                xp.copyto(part, memory.arrays[given.number][: last - first])
            lane = self.device.ready()
            for total in schedule.sums:
                more = number < len(memory.spans) - 1
                if total.base.how == "table":
                    memory.scatter(self.backend, total, last - first, more)
                else:
                    memory.add_up(lane.blas, total, last - first, more)
            current = [None if seed is None else memory.arrays[seed.number][0].copy() for seed in seeds]
        for total in schedule.sums:
            known[total.base.value.index] = total.base.finished(memory.arrays.pop(total.array.number))
        for value, of, later in schedule.later:
            evaluate(later, known, self.backend)
            known[value.index] = known[of.index]
        evaluate(self.program.bins["final"], known, self.backend)
        taken = {memory_of(array) for array in run.known.values()}
        finals = [None if final is None else owned(known[final.index], taken) for final in self.program.finals]
        return x_grad, current, finals

    def _again(self, run: Run, number: int, carries: list[Place]) -> None:
        """Compute a span anew from its checkpoint, with the same random numbers."""
        states, drawn = run.checkpoints[number]
        now = random_state() if self.draws else None
        try:
            if now is not None:
                set_random_state(drawn)
            self._forward_span(run, number, carries, states)
        finally:
            if now is not None:
                set_random_state(now)

    # --- sections

    def _sections(self, memory: Memory, sections: list[Section], steps: int, backwards: bool) -> None:
        """Before the loop, the loop, after the loop."""
        before, loop, after = sections
        rows = steps * self.schedule.batch
        self._once(self.device.ready(), memory, before, 0, rows)
        if loop.work:
            self._loop(memory, loop, steps, backwards)
        self._once(self.device.ready(), memory, after, 0, rows)

    def _loop(self, memory: Memory, loop: Section, steps: int, backwards: bool) -> None:
        def through(lane: Lane) -> None:
            for t in reversed(range(steps)) if backwards else range(steps):
                self._once(lane, memory, loop, t * self.schedule.batch, self.schedule.batch)

        lane, key = self.device.ready(), (loop.name, steps)
        graphs = memory.graphs.setdefault(lane, {})
        if key not in graphs:  # the first time also loads what libraries load when it is needed: a capture must not
            through(lane)
            graphs[key] = None
            return
        if graphs[key] is None:
            graphs[key] = self.device.capture(through)
        graphs[key].launch()

    def _once(self, lane: Lane, memory: Memory, section: Section, first: int, rows: int) -> None:
        """All of a section for so many rows, from one on."""
        for item in section.work:
            if isinstance(item, Product):
                memory.multiply(lane.blas, item, first, rows)
                continue
            written, function = self.kernels[item.name], self._functions[item.name]
            arrays = [memory.arrays[array.number] for array in written.arrays]
            most = rows if section.in_loop else max(MOST_ELEMENTS // written.size, 1)
            for start in range(first, first + rows, most):
                count = min(most, first + rows - start)
                blocks, threads = written.blocks(count)
                function((blocks,), (threads,), (*arrays, start, count))

    # --- memory

    def _memory(self, steps: int) -> Memory:
        stream = self.backend.xp.cuda.get_current_stream().ptr
        for memory in reversed(self.spare[:]):
            if (memory.steps, memory.stream) == (steps, stream):
                try:
                    self.spare.remove(memory)
                except ValueError:
                    continue  # another thread was quicker
                return memory
        needed = self.schedule, self.in_loop, self.backend.xp, steps, min(self.checkpoint_every or steps, steps)
        try:
            return Memory(*needed, self.converter)
        except MemoryError:
            self.spare.clear()
            return Memory(*needed, self.converter)

    def release(self, run: Run) -> None:
        """Give the memory of a run back."""
        self.spare.append(run.memory)
        del self.spare[:-MEMORIES]
