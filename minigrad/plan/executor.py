"""Runs a program on arrays of any backend: the flat code, chunk by chunk, over memory that is laid out once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf, nan
from typing import Any

from minigrad.backend import Backend, random_state, set_random_state, use_backend
from minigrad.plan.flat import Code
from minigrad.plan.graph import Level, Value, is_draw
from minigrad.plan.layout import Layout
from minigrad.plan.program import Program
from minigrad.plan.workspace import Workspace, side_by_side, whole
from minigrad.primitive import Primitive
from minigrad.primitive import _explained as explained


@dataclass
class Run:
    """One run forward, with all that its backward needs.

    Attributes:
        steps: how many.
        x, alive: for every step; alive may be None.
        known: values that are the same for all steps, by index.
        arrays: what the caller gets, by number of the buffer; and x, as -1, if the code reads it where it is.
        workspace: where everything else is.
        checkpoints: for each span the carries before it and the state of the random generator.
        outputs: of the step, for all steps (T, B, ...); states: what each carry is at the end (B, ...).
    """

    steps: int
    x: Any
    alive: Any
    known: dict[int, Any]
    arrays: dict[int, Any]
    workspace: Workspace
    checkpoints: list[tuple[list[Any], Any]] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    states: list[Any] = field(default_factory=list)


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
        for (_, dtype), (name, number) in self.code.numbers.items():
            names[name] = xp.asarray(number, dtype=dtype)
        for (size, number, dtype), name in self.code.rows.items():
            names[name] = xp.full((1, size), number, dtype=dtype)
        for name, (op, attrs) in self.code.forwards.items():
            names[name] = _forward(op, _attributes_on(backend, attrs))
        names |= {"xp": xp, "side_by_side": side_by_side, "inf": inf, "nan": nan}
        exec(compile("\n".join(self.code.source.values()), "<plan>", "exec"), names)
        self.functions = {phase: names[phase] for phase in self.code.source}
        self.draws = any(map(is_draw, program.bins["input"]))
        constants = [v for v in program.step.graph.values if v.op == "constant"]
        self.constants = {v.index: backend.asarray(v.attrs["array"]) for v in constants}
        self.spare: list[Workspace] = []

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
        arrays = workspace.fresh("forward")
        if self.layout.direct is not None:
            arrays[-1] = x
        run = Run(steps, x, alive, known, arrays, workspace)
        self._put_carries(run, 0, states)
        before: int | None = None
        for number, chunks in enumerate(workspace.spans):
            if before is not None:
                workspace.carry_over("forward", before, chunks[0], arrays)
            if len(workspace.spans) > 1:
                run.checkpoints.append((self._carries(run, chunks[0]), random_state() if self.draws else None))
            self._forward_span(run, number)
            before = chunks[-1]
        assert before is not None
        run.states = [workspace.at(track, steps, arrays, before).copy() for track in self.layout.tracks["forward"]]
        run.outputs = [self._over_time(output, run, arrays) for output in step.outputs]
        return run

    def _forward_span(self, run: Run, number: int) -> None:
        workspace, step = run.workspace, self.program.step
        workspace.span = number
        arguments = workspace.arguments("forward", run.arrays, run.known)
        chunks = workspace.spans[number]
        with use_backend(self.backend):
            for position, c in enumerate(chunks):
                if position:
                    workspace.carry_over("forward", chunks[position - 1], c, run.arrays)
                workspace.feed(step.x, c, run.x, run.arrays)
                if step.alive is not None:
                    workspace.feed(step.alive, c, run.alive, run.arrays)
                self.functions["forward"](c, range(*workspace.chunks[c]), position == 0, arguments)

    def _carries(self, run: Run, c: int) -> list[Any]:
        """Copies of the carries before a chunk."""
        workspace, start = run.workspace, run.workspace.chunks[c][0]
        return [workspace.at(track, start, run.arrays, c).copy() for track in self.layout.tracks["forward"]]

    def _put_carries(self, run: Run, c: int, carries: list[Any]) -> None:
        workspace, start = run.workspace, run.workspace.chunks[c][0]
        for track, carry in zip(self.layout.tracks["forward"], carries, strict=True):
            self.backend.xp.copyto(workspace.at(track, start, run.arrays, c), carry)

    def _over_time(self, value: Value, run: Run, arrays: dict[int, Any]) -> Any:
        """A value at all steps, (T, ...)."""
        if value.level is Level.CONSTANT:
            array = self.backend.xp.broadcast_to(run.known[value.index], (run.steps, *value.shape))
        else:
            array = run.workspace.over_time(whole(value), arrays)
        return _writable(array)

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
        arrays = run.arrays | workspace.fresh("backward")
        totals = {total.index: xp.empty(total.shape, total.dtype) for total in self.program.bins["total"]}
        known = run.known | totals
        given = {seed.index: g for seed, g in zip(step.carried, state_cotangents, strict=True) if seed}
        tracks, last = self.layout.tracks["backward"], workspace.spans[-1][-1]
        for track in tracks:
            end, g = workspace.at(track, run.steps, arrays, last), given[track.source.index]
            end.fill(0) if g is None else xp.copyto(end, g)
        before = None
        for number in reversed(range(len(workspace.spans))):
            if number != workspace.span:
                self._again(run, number)
            arguments = workspace.arguments("backward", arrays, known)
            for c in reversed(workspace.spans[number]):
                if before is not None:
                    workspace.carry_over("backward", before, c, arrays)
                for value, array in zip(step.cotangents, cotangents, strict=True):
                    if value is not None:
                        workspace.feed(value, c, array, arrays)
                self.functions["backward"](c, range(*workspace.chunks[c])[::-1], before is None, arguments)
                before = c
        x_grad = None if step.x_grad is None else self._over_time(step.x_grad, run, arrays)
        starts = {track.source.index: workspace.at(track, 0, arrays, 0).copy() for track in tracks}
        evaluate(self.program.bins["final"], known, self.backend)
        taken = {memory_of(array) for array in run.known.values()}
        finals = [None if final is None else owned(known[final.index], taken) for final in self.program.finals]
        return x_grad, [None if seed is None else starts.get(seed.index) for seed in step.carried], finals

    def _again(self, run: Run, number: int) -> None:
        """Compute a span anew from its checkpoint, with the same random numbers."""
        carries, drawn = run.checkpoints[number]
        self._put_carries(run, run.workspace.spans[number][0], carries)
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
            workspace = self.spare.pop()
        except IndexError:
            workspace = None
        if workspace is None or workspace.steps != steps:
            workspace = Workspace(self.layout, self.code, self.backend, steps, self.checkpoint_every)
        return workspace

    def release(self, run: Run) -> None:
        """Give the memory of a run back."""
        self.spare[:] = [run.workspace]


def memory_of(array: Any) -> int:
    """Which memory an array is, or is a view of."""
    return id(array if array.base is None else array.base)


def owned(array: Any, taken: set[int]) -> Any:
    """An array whose memory nobody else has: a copy if it is taken; if not, it is from now on."""
    if memory_of(array) in taken:
        return array.copy()
    taken.add(memory_of(array))
    return _writable(array)


def _writable(array: Any) -> Any:
    """An array each element of which can be changed alone: a copy, if it is one that broadcasting has made."""
    if getattr(array.flags, "writeable", True) and 0 not in array.strides:
        return array
    return array.copy()  # which at most copies an axis of one element in vain


def draw(value: Value, into: Any, xp: Any) -> None:
    """Put new random numbers of an operation that draws them into an array."""
    op = value.op
    assert isinstance(op, Primitive)
    into[...] = op.forward(xp, *[into] * bool(op.inputs), **value.attrs)


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
            op, attrs = value.op, _attributes_on(backend, value.attrs)
            assert isinstance(op, Primitive)
            try:
                y = op.forward(xp, *arrays, **attrs)
            except (TypeError, ValueError, IndexError) as error:
                raise explained(op, arrays, error) from error
            known[value.index] = y if y.dtype == value.dtype else y.astype(value.dtype)


def _forward(op: Primitive, attrs: dict[str, Any]) -> Callable[..., Any]:
    """An operation's own forward, whose errors are told as on the tape."""

    def forward(xp: Any, *arrays: Any) -> Any:
        try:
            return op.forward(xp, *arrays, **attrs)
        except (TypeError, ValueError, IndexError) as error:
            raise explained(op, list(arrays), error) from error

    return forward


def _attributes_on(backend: Backend, attribute: Any) -> Any:
    """An operation's attributes with the arrays among them (integers to index with) on a backend."""
    if isinstance(attribute, dict):
        return {name: _attributes_on(backend, part) for name, part in attribute.items()}
    if type(attribute) in (tuple, list):
        return type(attribute)(_attributes_on(backend, part) for part in attribute)
    return backend.asarray(attribute) if getattr(attribute, "shape", ()) else attribute
