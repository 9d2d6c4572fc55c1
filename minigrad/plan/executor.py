"""Runs a program on arrays of any backend: the flat code, chunk by chunk, over memory that is laid out once."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from math import inf, nan, prod
from typing import Any

from minigrad.backend import Backend, random_state, set_random_state, use_backend
from minigrad.plan.flat import Code, Slot
from minigrad.plan.graph import Level, Value
from minigrad.plan.layout import Extent, Layout, Track, is_feature_major, is_view
from minigrad.plan.program import Program
from minigrad.plan.trace import is_random

CHUNK_BYTES = 2 << 20
"""How much memory the values of one chunk may take: about what fits the cache."""


@dataclass
class Run:
    """One run forward, with all that its backward needs.

    Attributes:
        outputs: of the step, for all steps (T, B, ...); states: what each carry is at the end (B, ...).
    """

    steps: int
    given: dict[str, Any]
    known: dict[int, Any]
    workspace: Workspace
    arrays: dict[int, Any]
    outputs: list[Any] = field(default_factory=list)
    states: list[Any] = field(default_factory=list)
    checkpoints: list[tuple[list[Any], Any]] = field(default_factory=list)


class Executor:
    """A program with its layout and code, ready to run.

    Args:
        program: what to compute.
        backend: where.
        checkpoint_every: keep the carries at each so many steps, and compute what is between anew for the backward.
    """

    def __init__(self, program: Program, backend: Backend, checkpoint_every: int | None) -> None:
        self.program, self.backend, self.checkpoint_every = program, backend, checkpoint_every
        self.layout = Layout(program)
        self.code = Code(self.layout)
        xp = backend.xp
        names: dict[str, Any] = {name: getattr(xp, name) for name in self.code.functions}
        for (number, dtype), name in self.code.numbers.items():
            names[name] = xp.asarray(number, dtype=dtype)
        for name, forward in self.code.forwards.items():
            names[name] = partial(forward.func, **on(backend, forward.keywords))
        names |= {"xp": xp, "inf": inf, "nan": nan}
        exec(compile("\n".join(self.code.source.values()), "<plan>", "exec"), names)
        self.functions = {phase: names[phase] for phase in self.code.source}
        self.draws = any(is_random(v.op) for v in program.bins["input"] if not isinstance(v.op, str))
        self.values = program.step.graph.values
        self.constants = {v.index: backend.asarray(v.attrs["array"]) for v in self.values if v.op == "constant"}
        self._spare: list[Workspace] = []

    # --- forward

    def forward(self, x: Any, alive: Any, states: list[Any], leaves: list[Any]) -> Run:
        """Run over x (T, B, ...).

        Args:
            x, alive: for every step; alive may be None.
            states: what the carries start from.
            leaves: the arrays of the program's leaves.
        """
        step, steps = self.program.step, x.shape[0]
        known = self.constants | {v.index: array for (v, _), array in zip(step.leaves, leaves, strict=True)}
        evaluate(self.program.bins["constant"], known, self.backend)
        workspace = self._workspace(steps)
        arrays = workspace.fresh({"forward"})
        if self.layout.direct is not None:
            arrays[-1] = x
        run = Run(steps, {"x": x, "alive": alive}, known, workspace, arrays)
        for track, state in zip(self.layout.tracks["forward"], states, strict=True):
            self.backend.xp.copyto(workspace.at(track, 0, arrays), state)
        for number in range(len(workspace.spans)):
            if number:
                self._carry_over(run, "forward", workspace.spans[number - 1][-1], workspace.spans[number][0])
            if len(workspace.spans) > 1:
                run.checkpoints.append((self._carries(run, number), random_state() if self.draws else None))
            self._forward_span(run, number)
        run.states = [
            workspace.at(track, steps, arrays, workspace.spans[-1][-1]).copy()
            for track in self.layout.tracks["forward"]
        ]
        run.outputs = [self._over_time(output, run) for output in step.outputs]
        return run

    def _forward_span(self, run: Run, number: int) -> None:
        workspace, step = run.workspace, self.program.step
        workspace.span = number
        arguments = workspace.arguments("forward", run.arrays, run.known)
        chunks = workspace.spans[number]
        with use_backend(self.backend):
            for position, c in enumerate(chunks):
                if position:
                    self._carry_over(run, "forward", chunks[position - 1], c)
                for value, array in ((step.x, run.given["x"]), (step.alive, run.given["alive"])):
                    if value is not None:
                        workspace.feed(value, c, array, run.arrays)
                self.functions["forward"](c, range(*workspace.chunks[c]), position == 0, *arguments)

    def _carries(self, run: Run, number: int) -> list[Any]:
        """Copies of the carries before a span."""
        c = run.workspace.spans[number][0]
        first = run.workspace.chunks[c][0]
        return [run.workspace.at(t, first, run.arrays, c).copy() for t in self.layout.tracks["forward"]]

    def _carry_over(self, run: Run, phase: str, done: int, to: int) -> None:
        """Take the carries along from one chunk to the next, where these do not lie side by side."""
        workspace = run.workspace
        boundary = workspace.chunks[done][1 if phase == "forward" else 0]
        for track in self.layout.tracks[phase]:
            here = workspace.position(track, boundary, done)
            there = workspace.position(track, boundary, to)
            if here != there:
                base = workspace.array(track.source, run.arrays)
                self.backend.xp.copyto(part_of(base, there), part_of(base, here))

    def _over_time(self, value: Value, run: Run) -> Any:
        """A value at all steps, (T, ...)."""
        xp = self.backend.xp
        if value.level is Level.CONSTANT:
            return xp.broadcast_to(run.known[value.index], (run.steps, *value.shape)).copy()
        return run.workspace.over_time(value, len(value.shape), False, None, run.arrays)

    # --- backward

    def backward(
        self, run: Run, cotangents: list[Any], state_cotangents: list[Any]
    ) -> tuple[Any, list[Any], list[Any]]:
        """Pull cotangents back through a run.

        Args:
            run: what `forward` returned.
            cotangents: of each output, (T, B, ...), or None.
            state_cotangents: of each carry at the end, or None.

        Returns:
            Gradients of x, of the carries at the start, and of the leaves; None where there is none.
        """
        step, workspace, xp = self.program.step, run.workspace, self.backend.xp
        arrays = dict(run.arrays)
        arrays.update(workspace.fresh({"backward"}))
        known = dict(run.known)
        for total in self.program.bins["total"]:
            known[total.index] = xp.empty(total.shape, total.dtype)
        run = replace(run, arrays=arrays, known=known)
        tracks = self.layout.tracks["backward"]
        seeds = [seed for seed, grad in zip(step.carried, step.carry_grads, strict=True) if seed and grad]
        given = {seed.index: g for seed, g in zip(step.carried, state_cotangents, strict=True) if seed}
        last = workspace.spans[-1][-1]
        for track, seed in zip(tracks, seeds, strict=True):
            slot = workspace.at(track, run.steps, arrays, last)
            slot.fill(0) if given[seed.index] is None else xp.copyto(slot, given[seed.index])
        before = None
        for number in reversed(range(len(workspace.spans))):
            if number != workspace.span:
                self._again(run, number)
            arguments = workspace.arguments("backward", arrays, known)
            for c in reversed(workspace.spans[number]):
                if before is not None:
                    self._carry_over(run, "backward", before, c)
                for value, array in zip(step.cotangents, cotangents, strict=True):
                    if value is not None:
                        workspace.feed(value, c, array, arrays)
                self.functions["backward"](c, range(*workspace.chunks[c])[::-1], before is None, *arguments)
                before = c
        x_grad = None if step.x_grad is None else self._over_time(step.x_grad, run)
        ends = {t.source.index: workspace.at(t, 0, arrays, 0).copy() for t in tracks}
        evaluate(self.program.bins["final"], known, self.backend)
        finals = [None if final is None else known[final.index] for final in self.program.finals]
        return x_grad, [None if seed is None else ends.get(seed.index) for seed in step.carried], finals

    def _again(self, run: Run, number: int) -> None:
        """Compute a span anew from its checkpoint, with the same random numbers."""
        carries, drawn = run.checkpoints[number]
        c = run.workspace.spans[number][0]
        for track, carry in zip(self.layout.tracks["forward"], carries, strict=True):
            self.backend.xp.copyto(run.workspace.at(track, run.workspace.chunks[c][0], run.arrays, c), carry)
        now = random_state() if self.draws else None
        try:
            if now is not None:
                set_random_state(drawn)
            self._forward_span(run, number)
        finally:
            if now is not None:
                set_random_state(now)

    # --- memory

    def _workspace(self, steps: int) -> Workspace:
        """Memory for a run of so many steps: that of an earlier run if nobody needs it any more."""
        try:
            workspace = self._spare.pop()
        except IndexError:
            return Workspace(self, steps)
        return workspace if workspace.steps == steps else Workspace(self, steps)

    def release(self, run: Run) -> None:
        """Give the memory of a run back."""
        self._spare[:] = [run.workspace]


class Workspace:
    """The memory of one run and the views of it that the code takes."""

    def __init__(self, executor: Executor, steps: int) -> None:
        self.executor, self.layout, self.steps = executor, executor.layout, steps
        self.xp = executor.backend.xp
        buffers = self.layout.buffers
        span = min(executor.checkpoint_every or steps, steps)
        per_step = sum(prod(b.shape) * b.dtype.itemsize for b in buffers if b.extent is Extent.CHUNK)
        length = max(1, min(span, CHUNK_BYTES // max(per_step, 1)))
        self.chunks: list[tuple[int, int]] = []
        self.spans: list[list[int]] = []
        self.span_starts: list[int] = []
        for start in range(0, steps, span):
            stop = min(start + span, steps)
            ranges = [(a, min(a + length, stop)) for a in range(start, stop, length)]
            self.spans.append(list(range(len(self.chunks), len(self.chunks) + len(ranges))))
            self.chunks += ranges
            self.span_starts += [start] * len(ranges)
        self.lengths = {Extent.CHUNK: length, Extent.SPAN: span, Extent.RUN: steps}
        self.memory = [None if b.extent is Extent.RUN else self._allocate(b) for b in buffers]
        self._fixed: dict[str, list[Any]] = {}
        self.span = 0  # the one whose values are there

    def _allocate(self, buffer: Any) -> Any:
        make = self.xp.zeros if buffer.zeroed else self.xp.empty
        if buffer.extent is Extent.STEP:
            return make(buffer.shape, buffer.dtype)
        return make((self.lengths[buffer.extent] + buffer.slots_more, *buffer.shape), buffer.dtype)

    def fresh(self, phases: set[str]) -> dict[int, Any]:
        """New memory for what a run gives to its caller."""
        return {
            number: self._allocate(self.layout.buffers[number])
            for number in self.layout.given_out
            if self.layout.given_out[number] in phases
        }

    def array(self, owner: Value, arrays: dict[int, Any]) -> Any:
        """The memory of an owner."""
        if owner is self.layout.direct:
            return arrays[-1]
        number = self.layout.buffer_of[owner.index]
        memory = self.memory[number]
        return arrays[number] if memory is None else memory

    # --- where a carry is

    def position(self, track: Track, boundary: int, c: int) -> int:
        """Where in its memory a carry is between steps boundary-1 and boundary, seen from chunk `c`."""
        extent = self.layout.extent_of(track.source)
        if extent is Extent.STEP:
            return 0
        return boundary - self._start(extent, c)

    def _start(self, extent: Extent, c: int) -> int:
        return {Extent.CHUNK: self.chunks[c][0], Extent.SPAN: self.span_starts[c], Extent.RUN: 0}[extent]

    def at(self, track: Track, boundary: int, arrays: dict[int, Any], c: int = 0) -> Any:
        """A carry between two steps, batch first."""
        array = self.array(track.source, arrays)
        if self.layout.extent_of(track.source) is not Extent.STEP:
            array = part_of(array, self.position(track, boundary, c))
        return array.swapaxes(-1, -2) if is_feature_major(track.source) else array

    # --- views

    def _natural(self, value: Value, arrays: dict[int, Any], after: bool = False) -> Any:
        """A value at the first step of its memory, batch first."""
        if value.index in self.layout.pieces:
            whole, place = self.layout.pieces[value.index]
            return part_of(self._natural(whole, arrays), place)
        if is_view(value):
            operand = self._natural(value.values[0], arrays)
            if value.name == "getitem":
                return part_of(operand, value.attrs["index"])
            return value.op.forward(self.xp, operand, **value.attrs)  # type: ignore[union-attr]
        array = self.array(self.layout.owner(value), arrays)
        if self.layout.extent_of(value) is not Extent.STEP:
            array = part_of(array, self.layout.offset(value, after))
        return array if value is self.layout.direct or not is_feature_major(value) else array.swapaxes(-1, -2)

    def _view(self, slot: Slot, arrays: dict[int, Any]) -> Any:
        value = self.executor.values[slot.value]
        view = self._natural(value, arrays, slot.place == "after")
        if slot.place not in (None, "after"):
            view = part_of(view, tuple(slice(*p) if isinstance(p, tuple) else p for p in slot.place))
        return shaped(view, slot.rank, slot.swapped)

    def over_time(self, value: Value, rank: int, swapped: bool, place: Any, arrays: dict[int, Any]) -> Any:
        """A value at all the steps that its memory holds."""
        view = self._view(Slot(value.index, rank, swapped, place, "run"), arrays)
        owner = self.layout.owner(value)
        count = self.lengths[self.layout.extent_of(value)]
        stride = self.array(owner, arrays).strides[0]
        return self.xp.lib.stride_tricks.as_strided(view, (count, *view.shape), (stride, *view.strides))

    def _slot(self, slot: Slot, arrays: dict[int, Any]) -> Any:
        value = self.executor.values[slot.value]
        extent = self.layout.extent_of(value)
        if extent is Extent.STEP:
            return self._view(slot, arrays)
        batched = self.over_time(value, slot.rank, slot.swapped, slot.place, arrays)
        starts = [self._start(extent, c) for c in range(len(self.chunks))]
        if slot.per == "chunk":
            return [batched[a - start : b - start] for (a, b), start in zip(self.chunks, starts, strict=True)]
        each = [part_of(batched, n) for n in range(len(batched))] if batched.ndim == 1 else list(batched)
        if extent is Extent.RUN:
            return each
        return [each[t - start] for (a, b), start in zip(self.chunks, starts, strict=True) for t in range(a, b)]

    def arguments(self, phase: str, arrays: dict[int, Any], known: dict[int, Any]) -> list[Any]:
        """What the code of a phase takes."""
        slots = self.executor.code.slots[phase]
        if phase not in self._fixed:
            self._fixed[phase] = [self._slot(slot, arrays) if self._is_fixed(slot) else None for slot in slots]
        arguments = list(self._fixed[phase])
        for number, slot in enumerate(slots):
            if arguments[number] is None:
                value = self.executor.values[slot.value]
                constant = value.level is Level.CONSTANT
                arguments[number] = (
                    shaped(known[slot.value], slot.rank, slot.swapped) if constant else self._slot(slot, arrays)
                )
        return arguments

    def _is_fixed(self, slot: Slot) -> bool:
        value = self.executor.values[slot.value]
        if value.level is Level.CONSTANT or value is self.layout.direct:
            return False
        return self.layout.extent_of(value) is not Extent.RUN

    def feed(self, value: Value, c: int, array: Any, arrays: dict[int, Any]) -> None:
        """Put what is given for the steps of a chunk where the code reads it; zeros if there is nothing."""
        if value is self.layout.direct or value.index not in self.layout.extents:
            return
        start, (a, b) = self._start(self.layout.extent_of(value), c), self.chunks[c]
        into = self.over_time(value, len(value.shape), False, None, arrays)[a - start : b - start]
        into.fill(0) if array is None else self.xp.copyto(into, array[a:b])


def part_of(array: Any, index: Any) -> Any:
    """A view of a part, also where it is a single element."""
    index = index if isinstance(index, tuple) else (index,)
    return array[index if Ellipsis in index else (*index, ...)]


def shaped(view: Any, rank: int, swapped: bool) -> Any:
    """With axes of size 1 in front up to a rank, and the last two axes exchanged."""
    if view.ndim < rank:
        view = view.reshape((1,) * (rank - view.ndim) + view.shape)
    return view.swapaxes(-1, -2) if swapped else view


def evaluate(values: list[Value], known: dict[int, Any], backend: Backend) -> None:
    """Compute values that are the same for all steps."""
    xp = backend.xp
    for value in values:
        arrays = [known[v.index] if isinstance(v, Value) else v for v in value.inputs]
        if value.name == "assemble":
            whole = xp.zeros(value.shape, dtype=value.dtype)
            for array, place in zip(arrays, value.attrs["places"], strict=True):
                whole[place] = array
            known[value.index] = whole
        else:
            y = value.op.forward(xp, *arrays, **on(backend, value.attrs))  # type: ignore[union-attr]
            known[value.index] = y if y.dtype == value.dtype else y.astype(value.dtype)


def on(backend: Backend, attribute: Any) -> Any:
    """An operation's attributes with the arrays among them (integers to index with) on a backend."""
    if isinstance(attribute, dict):
        return {name: on(backend, part) for name, part in attribute.items()}
    if type(attribute) in (tuple, list):
        return type(attribute)(on(backend, part) for part in attribute)
    return backend.asarray(attribute) if getattr(attribute, "shape", ()) else attribute
