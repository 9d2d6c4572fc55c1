"""Runs a recurrent layer's cell by its plan: as one operation on the tape, with the derived program as its gradient."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from itertools import count, islice
from threading import Lock
from typing import Any

from minigrad.autograd import pull_back
from minigrad.backend import get_default_dtype, random_state, set_random_state
from minigrad.contract import Cell
from minigrad.errors import PlanError
from minigrad.nest import leaves, map_nest
from minigrad.plan.abstract import Abstract
from minigrad.plan.executor import Executor, Run
from minigrad.plan.explain import describe
from minigrad.plan.program import Program, build
from minigrad.plan.shadow import fingerprint, snapshot
from minigrad.plan.trace import Request, trace
from minigrad.primitive import Primitive
from minigrad.tape import Node, recorder, tick
from minigrad.tensor import Tensor

CACHE_SIZE = 16
"""How many plans a layer keeps, for different batch sizes, dtypes, modes..."""

MEMORY_SIZE = 2
"""How many of these, the latest, keep the memory of a run for the next one."""


@dataclass
class Plan:
    """A compiled cell: its executor, or the reason why it has none.

    Attributes:
        cell: a copy of the cell as it was, with the same tensors.
        held: keeps alive what the key of the plan knows by identity.
    """

    cell: Any
    program: Program | None
    executor: Executor | None
    reason: str
    held: list[Any]

    def forget(self) -> None:
        """Let go of the memory that is kept for the next run."""
        if self.executor is not None:
            self.executor.spare.clear()

    @property
    def sources(self) -> list[Tensor | int]:
        """Where the leaves come from."""
        assert self.program is not None
        return [source for _, source in self.program.step.leaves]


class Plans:
    """The plans of one layer, the latest used last. A copy of a layer starts without any."""

    def __init__(self) -> None:
        self.known: OrderedDict[Any, Plan] = OrderedDict()
        self.latest: Plan | None = None
        self._lock = Lock()

    def __deepcopy__(self, memo: Any) -> Plans:
        return Plans()

    def __reduce__(self) -> Any:
        return Plans, ()

    def explain(self) -> str:
        """The latest plan in words, or why there is none."""
        if self.latest is None:
            return "engine plan. The step is traced and compiled at the first call; ask again after it."
        if self.latest.program is None:
            return f"engine tape, because the step cannot be compiled. {self.latest.reason}"
        return f"engine plan. The latest run was of this program:\n{describe(self.latest.program)}"

    def get(self, key: Any, make: Callable[[], Plan]) -> Plan:
        """The plan known by this key, made now if there is none."""
        with self._lock:
            plan = self.known.pop(key, None)
            if plan is None:
                plan = make()
            self.known[key] = self.latest = plan
            while len(self.known) > CACHE_SIZE:
                self.known.popitem(last=False)
            for old in islice(reversed(self.known.values()), MEMORY_SIZE, MEMORY_SIZE + 1):
                old.forget()
            return plan


def run_cell(
    plans: Plans,
    cell: Cell,
    x: Tensor,
    state: Any,
    alive: Any,
    return_states: bool,
    checkpoint_every: int | None,
    by_tape: Callable[..., Any],
) -> tuple[Any, str]:
    """Run a cell over x (T, B, ...) by its plan.

    Args:
        plans: where to look for a plan and to keep it.
        cell, x, state, alive, return_states, by_tape: see `recurrent.run_tape`, which is `by_tape`.
        checkpoint_every: see `Recurrent`.

    Returns:
        What `by_tape` would, and an empty string; or None, if the tape is to run, and the reason if it is the cell's.
    """
    initial = list(leaves(state))
    if recorder.tape is not None or not all([*x.shape, *(n for leaf in initial for n in leaf.shape)]):
        return None, ""  # somebody wants to see each operation, or there is nothing to compute
    try:
        key, held = fingerprint(cell)
    except PlanError as error:
        plans.latest = Plan(cell, None, None, str(error), [])
        return None, str(error)
    grad = recorder.grad and any(tensor.requires_grad for tensor in (x, *initial, *held) if isinstance(tensor, Tensor))

    key = (
        key,
        (x.shape[1:], x.dtype, x.backend.name, grad, x.requires_grad, alive is not None, return_states),
        tuple((leaf.shape, leaf.dtype, leaf.requires_grad) for leaf in initial),
        (get_default_dtype(), checkpoint_every, repr(map_nest(lambda leaf: 0, state))),
    )

    def compiled() -> Plan:
        def blank(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
            return Tensor(Abstract(shape, tensor.dtype), grad and tensor.requires_grad)

        first, before = blank(x, x.shape[1:]), map_nest(lambda leaf: blank(leaf, leaf.shape), state)
        request = Request(first, before, grad, alive is not None, return_states)
        return _compile(cell, request, x.backend, checkpoint_every, held)

    plan = plans.get(key, compiled)
    if plan.executor is None:
        return None, plan.reason
    assert plan.program is not None
    step = plan.program.step
    sources = [initial[s] if isinstance(s, int) else s for s in plan.sources]
    tensors = [x, *(initial[i] for i in step.changing), *sources]
    before = random_state() if plan.executor.draws and grad else None
    carries = [initial[i].data for i in step.changing]
    run = plan.executor.forward(x.data, alive, carries, [source.data for source in sources])
    ends = list(initial)
    for position, end in zip(step.changing, run.states, strict=True):
        ends[position] = Tensor(end)
    outputs = [Tensor(output) for output in run.outputs]
    if grad:
        replay = _Replay(by_tape, plan.cell, x, state, alive, return_states, before)
        _record(plan.executor, run, tensors, outputs, ends, replay)
    else:
        plan.executor.release(run)
    restored = iter(ends)
    last = map_nest(lambda leaf: next(restored), state)
    following = iter(outputs[1:])
    states = map_nest(lambda leaf: next(following), state) if return_states else None
    return (outputs[0], last, states), ""


def _compile(cell: Cell, request: Request, backend: Any, checkpoint_every: int | None, held: list[Any]) -> Plan:
    name, kept = type(cell).__name__, snapshot(cell)
    try:
        program = build(trace(cell, request))
        return Plan(kept, program, Executor(program, backend, checkpoint_every), "", held)
    except PlanError as error:
        text = str(error)
        return Plan(kept, None, None, text if name in text else f"{name}.step cannot be traced: {text}", held)
    except Exception as error:  # whatever an array without values does not bear
        return Plan(kept, None, None, f"{name}.step cannot be traced: {type(error).__name__}: {error}", held)


# --- on the tape


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


@dataclass
class _Replay:
    """How to run the same again on the tape, for gradients of gradients."""

    by_tape: Callable[..., Any]
    cell: Cell
    x: Tensor
    state: Any
    alive: Any
    return_states: bool
    drawn: Any

    def pull_back(self, tensors: list[Tensor], g: _Cotangents) -> list[Any]:
        """The gradients of `tensors`, recorded."""
        now = random_state() if self.drawn is not None else None
        try:
            if now is not None:
                set_random_state(self.drawn)
            ys, last, states = self.by_tape(self.cell, self.x, self.state, self.alive, self.return_states)
        finally:
            if now is not None:
                set_random_state(now)
        results = [ys, *(leaves(states) if self.return_states else ()), *leaves(last)]
        pairs = [(results[n], part) for n, part in g.parts.items() if results[n].requires_grad]
        found = pull_back(
            [result for result, _ in pairs],
            [part if isinstance(part, Tensor) else Tensor(part) for _, part in pairs],
            targets=[tensor.node or tensor for tensor in tensors if tensor.requires_grad],
            create_graph=True,
        )
        return [found.get(tensor.node or tensor) for tensor in tensors]


class _Backward:
    """A run's gradients, computed once for each cotangent that comes."""

    def __init__(self, executor: Executor, run: Run, tensors: list[Tensor], replay: _Replay) -> None:
        self.executor, self.run, self.tensors, self.replay = executor, run, tensors, replay
        self._for: Any = None
        self._found: list[Any] = []

    def __call__(self, index: int, g: _Cotangents) -> Any:
        if self._for is not g:
            self._for, self._found = g, self._gradients(g)
        found, tensor = self._found[index], self.tensors[index]
        return tensor.backend.xp.zeros(tensor.shape, dtype=tensor.dtype) if found is None else found

    def _gradients(self, g: _Cotangents) -> list[Any]:
        if any(isinstance(part, Tensor) for part in g.parts.values()):
            return [
                Tensor(t.backend.xp.zeros_like(t.data)) if f is None else f
                for t, f in zip(self.tensors, self.replay.pull_back(self.tensors, g), strict=True)
            ]
        step = self.executor.program.step
        outputs = len(step.outputs)
        x_grad, carries, finals = self.executor.backward(
            self.run, [g.parts.get(n) for n in range(outputs)], [g.parts.get(outputs + i) for i in step.changing]
        )
        found = [x_grad, *carries, *finals]
        for number, (_, source) in enumerate(step.leaves):
            if isinstance(source, int) and outputs + source in g.parts:  # an unchanged state passes its cotangent on
                at = 1 + len(step.changing) + number
                end = g.parts[outputs + source]
                found[at] = end.copy() if found[at] is None else found[at] + end
        return found

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


def _record(
    executor: Executor, run: Run, tensors: list[Tensor], outputs: list[Tensor], ends: list[Any], replay: _Replay
) -> None:
    """Put a run on the tape: one node for it, and one for each of its results."""
    step = executor.program.step
    outputs_count = len(outputs)
    inputs: list[Any] = [t.node or t for t in tensors]
    reached = [step.x_grad, *step.carried, *step.leaf_grads]
    for number, (tensor, grad) in enumerate(zip(tensors, reached, strict=True)):
        leaf, source = step.leaves[number - len(tensors)] if number > len(step.carried) else (None, None)
        if not tensor.requires_grad or (grad is None and not isinstance(source, int)):
            inputs[number] = None
        elif leaf is not None and tensor.node is None and leaf.index not in step.guarded:
            inputs[number] = Node(tick(), _UNREAD, [tensor], {}, (), tensor.shape)
    node = Node(tick(), _RUN, inputs, {}, (_Backward(executor, run, tensors, replay),), _Cotangents.shape)
    results = [(n, out) for n, out in enumerate(outputs) if step.cotangents[n] is not None]
    results += [(outputs_count + p, ends[p]) for p, need in zip(step.changing, step.ends_need, strict=True) if need]
    for number, tensor in results:
        tensor.node = Node(tick(), _result(number), [node], {}, (), tensor.shape)
        tensor.requires_grad = True
