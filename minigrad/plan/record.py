"""A run on the tape: one operation, whose gradient is the derived program's, and one for each of its results.

For gradients of gradients the same is run again on the tape, operation by operation.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache, partial
from itertools import count
from typing import Any

from minigrad.autograd import pull_back, stale_error
from minigrad.backend import default_dtype, get_default_dtype, random_state, set_random_state, use_backend
from minigrad.errors import PlanError
from minigrad.lookup import Lookup
from minigrad.nest import leaves, map_nest
from minigrad.plan.executor import Executor, Run
from minigrad.plan.shadow import Shadow
from minigrad.plan.trace import Step
from minigrad.primitive import Primitive
from minigrad.tape import Node, enable_grad, recorder, tick
from minigrad.tensor import Tensor


class Replay:
    """How to run the same again on the tape.

    Args:
        by_tape, x, state, alive, return_states: see `recurrent.run_tape`.
        shadow: the cell as it was.
        step: of the program that ran.
        tensors: all that it was given: x (the vectors, if they were looked up), the carries, the leaves.
        drawn: the state of the random generator before the run, if it draws.
        lookup: how x was made, if the cell that ran has looked it up by itself.
    """

    def __init__(
        self,
        by_tape: Callable[..., Any],
        shadow: Shadow,
        step: Step,
        tensors: list[Tensor],
        state: Any,
        alive: Any,
        return_states: bool,
        drawn: Any,
        lookup: Lookup | None,
    ) -> None:
        self.lookup = lookup
        self.by_tape, self.shadow, self.step, self.tensors = by_tape, shadow, step, tensors
        self.state, self.alive, self.return_states, self.drawn = state, alive, return_states, drawn
        self.arrays = [tensor.data for tensor in tensors]
        self.needs = [tensor.requires_grad for tensor in tensors]
        self.dtype, self.time = get_default_dtype(), tick()

    def pull_back(self, g: _Cotangents) -> list[Any]:
        """The gradients of `tensors`, recorded.

        Raises:
            StaleParameterError: one of them has been updated since the run.
            PlanError: the cell has changed since in a way that its copy has not escaped.
        """
        for tensor, need in zip(self.tensors, self.needs, strict=True):
            if need and tensor.version > self.time:
                raise stale_error(tensor, "recurrent")
        if changed := self.shadow.changes():
            raise PlanError(
                f"{', '.join(changed)} of {type(self.shadow.module).__name__} has changed since the run, whose "
                "gradient is now to be recorded, and nothing has kept it as it was: pull back before such a change, "
                "or run the layer with engine='tape'"
            )
        # Others stand in the place of all tensors, each of them in one place alone, and the gradients are with respect
        # to these: so what lies before the run is left to the walk, even if one tensor was given for several.
        others = [_alias(*each) for each in zip(self.tensors, self.arrays, self.needs, strict=True)]
        with enable_grad():
            ys, last, states = self._run(others)
        results = [ys, *(leaves(states) if self.return_states else ()), *leaves(last)]
        pairs = [(results[n], part) for n, part in g.parts.items() if results[n].requires_grad]
        found = pull_back(
            [result for result, _ in pairs],
            [part if isinstance(part, Tensor) else Tensor(part) for _, part in pairs],
            targets=[other.node for other in others if other.node is not None],
            create_graph=True,
        )
        return [found.get(other.node) for other in others]

    def _run(self, others: list[Tensor]) -> Any:
        """The run with other tensors in the place of `tensors`."""
        x, *rest = others
        carries, given = rest[: len(self.step.changing)], rest[len(self.step.changing) :]
        of_state: dict[Any, Tensor] = dict(zip(self.step.changing, carries, strict=True))
        of_cell: dict[int, Tensor] = {}
        for (_, source), other in zip(self.step.leaves, given, strict=True):
            if isinstance(source, int):
                of_state[source] = other
            else:
                of_cell[id(source)] = other
        places = count()
        state = map_nest(lambda leaf: of_state[next(places)], self.state)
        cell = self.shadow.filled(lambda tensor: of_cell[id(tensor)])
        cell = cell if self.lookup is None else cell.cell
        now = random_state() if self.drawn is not None else None
        try:
            if now is not None:
                set_random_state(self.drawn)
            with use_backend(x.backend), default_dtype(self.dtype):
                return self.by_tape(cell, x, state, self.alive, self.return_states)
        finally:
            if now is not None:
                set_random_state(now)


def _alias(tensor: Tensor, array: Any, need: bool) -> Tensor:
    """Another tensor with this array, made from the given one by an operation that does nothing."""
    made = copy.copy(tensor)
    object.__setattr__(made, "data", array)  # which is no update, if it is a parameter
    made.grad, made.requires_grad = None, need
    made.node = Node(tick(), _ALIAS, [tensor.node or tensor], {}, (), array.shape) if need else None
    return made


class _Cotangents:
    """The cotangents of a run's results, as far as they have come. They add up like arrays."""

    shape: Any = ("cotangents",)

    def __init__(self, parts: dict[int, Any]) -> None:
        self.parts = parts

    def __add__(self, other: _Cotangents) -> _Cotangents:
        parts = dict(self.parts)
        for number, part in other.parts.items():
            parts[number] = parts[number] + part if number in parts else part
        return _Cotangents(parts)


class _Backward:
    """A run's gradients, computed once for each cotangent that comes."""

    def __init__(self, executor: Executor, run: Run, replay: Replay) -> None:
        self.executor, self.run, self.replay = executor, run, replay
        self._for: Any = None
        self._found: list[Any] = []

    def __call__(self, index: int, g: _Cotangents) -> Any:
        if self._for is not g:
            self._for, self._found = g, self._gradients(g)
        found, tensor = self._found[index], self.replay.tensors[index]
        if found is None and index == 0 and self.replay.lookup is not None:
            return None  # it has gone to the table
        return tensor.backend.xp.zeros(tensor.shape, dtype=tensor.dtype) if found is None else found

    def _gradients(self, g: _Cotangents) -> list[Any]:
        recorded = any(isinstance(part, Tensor) for part in g.parts.values())
        lookup = self.replay.lookup
        of_vectors = lookup is not None and lookup.node in recorder.targets
        if recorded or of_vectors:
            found = [
                Tensor(t.backend.xp.zeros_like(t.data)) if f is None else f
                for t, f in zip(self.replay.tensors, self.replay.pull_back(g), strict=True)
            ]
            if lookup is not None and of_vectors:
                lookup.plans.take_vectors = True
            if recorded:
                return found
            return [tensor.data.copy() for tensor in found]  # one array may be that of several
        step = self.executor.program.step
        outputs = len(step.outputs)
        x_grad, carries, finals = self.executor.backward(
            self.run, [g.parts.get(n) for n in range(outputs)], [g.parts.get(outputs + i) for i in step.changing]
        )
        return [x_grad, *carries, *finals]

    def __del__(self) -> None:
        self.executor.release(self.run)


class _Rules:
    """One rule per input: the run's gradient with respect to it."""

    def __iter__(self) -> Any:
        return (partial(self.rule, index) for index in count())

    @staticmethod
    def rule(index: int, g: _Cotangents, backward: _Backward) -> Any:
        return backward(index, g)


@cache
def _result(number: int) -> Primitive:
    """The operation that picks one result of a run."""
    return _primitive("result", (lambda g: _Cotangents({number: g}),), [])


def _primitive(name: str, rules: Any, kept: list[tuple[str, int]]) -> Primitive:
    """An operation that is only ever put on the tape by hand."""
    op = Primitive(lambda xp, x, /: x)
    op.name, op.rules, op.kept = name, rules, kept
    return op


_RUN = _primitive("recurrent", _Rules(), [("backward", 0)])
_RUN.keeps_inputs, _RUN.gives = True, "new"
_UNREAD = _primitive("unread", (lambda g: g,), [])
_UNREAD.gives = "g"
"""A parameter whose value the backward does not read, so that an update in between does no harm."""
_TAKE = _primitive("take", (lambda g: g,), [])
_TAKE.gives, _TAKE.keeps_inputs = "g", True
"""A table in which x is looked up, whose update in between is an error for whoever asks for the table's gradient."""
_READY = _primitive("ready", (lambda g, ready: ready.note(g),), [("ready", 0)])
"""A result of a run on another stream, whose gradient comes by before a later run is pulled back."""
_ALIAS = _primitive("alias", (lambda g: g,), [])
_ALIAS.gives, _ALIAS.view = "g", True


def record(executor: Executor, run: Run, replay: Replay, outputs: list[Tensor], ends: list[Any]) -> None:
    """Put a run on the tape: one node for it, and one for each of its results.

    Args:
        executor, run, replay: what ran, the run, how to run it again.
        outputs: of the run, and `ends`, the state's tensors after it: they get their nodes.
    """
    step, tensors = executor.program.step, iter(replay.tensors)
    x, lookup = next(tensors), replay.lookup
    inputs: list[Any] = [_source(x, step.x_grad) if lookup is None else x.node]
    for seed, tensor in zip(step.carried, tensors, strict=False):
        inputs.append(_source(tensor, seed))
    for (leaf, _), grad, tensor in zip(step.leaves, step.leaf_grads, tensors, strict=True):
        source = _source(tensor, grad)
        if isinstance(source, Tensor) and lookup is not None and tensor is lookup.table:
            source = Node(tick(), _TAKE, [source], {}, (), tensor.shape)
        elif isinstance(source, Tensor) and leaf.index not in step.guarded:
            source = Node(tick(), _UNREAD, [source], {}, (), tensor.shape)
        inputs.append(source)
    node = Node(tick(), _RUN, inputs, {}, (_Backward(executor, run, replay),), _Cotangents.shape)
    outputs_need, ends_need = step.needs[min(run.steps, len(step.needs)) - 1]
    results = [(n, out) for n, out in enumerate(outputs) if outputs_need[n]]
    results += [(len(outputs) + p, ends[p]) for p in step.changing if ends_need[p]]
    for number, tensor in results:
        tensor.node = Node(tick(), _result(number), [node], {}, (), tensor.shape)
        tensor.requires_grad = True
    if hasattr(executor, "beside"):
        ready, others = executor.beside(run, [tensor for _, tensor in results])
        for other in (tensor for tensor in others if tensor.node is not None):
            other.node = Node(tick(), _READY, [other.node], {}, (ready,), other.shape)


def _source(tensor: Tensor, grad: Any) -> Any:
    """Where the tape goes on from an input; None if no gradient flows to it."""
    return (tensor.node or tensor) if tensor.requires_grad and grad is not None else None
