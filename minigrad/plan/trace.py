"""One step of a cell as a graph: the forward traced under a tape, the backward derived from it by the tape's rules."""

from __future__ import annotations

import pickle
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from minigrad.autograd import pull_back
from minigrad.backend import random_state, set_random_state, use_backend
from minigrad.contract import Cell, checked_step
from minigrad.errors import PlanError
from minigrad.lengths import hold, silence
from minigrad.lookup import Looking
from minigrad.nest import leaves, map_nest
from minigrad.plan.abstract import Abstract
from minigrad.plan.fuse import distribute, fuse
from minigrad.plan.graph import Graph, Value, is_opaque, is_random
from minigrad.plan.needs import Reach, needs_by_step
from minigrad.plan.shadow import Shadow
from minigrad.plan.simplify import simplify
from minigrad.tape import Node, Tape, enable_grad, no_grad, recorder
from minigrad.tensor import Tensor


@dataclass(frozen=True)
class Request:
    """What a plan is for, beside the cell.

    Attributes:
        x: one step's input (B, ...), a tensor without values that needs a gradient or not.
        state: the state before the first step, likewise.
        grad: whether there will be a backward.
        masked: whether sequences end at different steps.
        return_states: whether the state after every step is an output.
    """

    x: Tensor
    state: Any
    grad: bool
    masked: bool
    return_states: bool


@dataclass
class Step:
    """One step: forward, and backward if there is one. See `Value` for the words.

    Of the backward there are only Nones before it is derived, or if it is not asked for.

    Attributes:
        graph: where all these values are.
        x, alive: given for each step; `alive` (B,) is true where a sequence has not ended, None if none ends early.
        carries, results: the floating or integer tensors of the state that change, before and after the step.
        changing: for each of these its place among the state's tensors; the others are leaves.
        leaves: what is given once per run (not `nest.leaves`): a value with the cell's tensor that it is, or with the
            place of an unchanged tensor in the state.
        outputs: y, and after it the state's tensors with `return_states`.
        cotangents: for each output the gradient with respect to it, given for each step; None where none flows.
        carried: for each carry the gradient with respect to it after a step, which the step after it has computed.
        ends_need: for each carry whether the state after the last step needs a gradient.
        needs: for 1, 2, ... steps, and last for all more, which outputs need one, and which tensors of the last state.
        guarded: indices of the leaves that must not be updated before the backward: the tape would keep their values.
        x_grad: one step's gradient with respect to x; None where none flows.
        carry_grads: one step's gradient with respect to each carry before it.
        leaf_grads: what one step adds to the gradient with respect to each leaf.
    """

    graph: Graph
    x: Value
    alive: Value | None
    carries: list[Value]
    results: list[Value]
    changing: list[int]
    leaves: list[tuple[Value, Tensor | int]]
    outputs: list[Value]
    cotangents: list[Value | None]
    carried: list[Value | None]
    ends_need: list[bool]
    needs: list[tuple[list[bool], list[bool]]]
    guarded: set[int]
    x_grad: Value | None
    carry_grads: list[Value | None]
    leaf_grads: list[Value | None]


class Trace(Tape):
    """A tape that also remembers the dtype of each result, and whether it needs a gradient if an input does."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: dict[Node, Any] = {}
        self.recorded: dict[Node, bool] = {}

    def note(self, node: Node, y: Any) -> None:
        super().note(node, y)
        self.dtypes[node] = y.dtype
        self.recorded[node] = recorder.grad and bool(node.primitive.rules)


def trace(cell: Cell, request: Request) -> Step:
    """The step of a cell, or `PlanError` with the reason why it cannot be had."""
    for _ in range(2):
        try:
            return _traced(cell, request)
        except _DrawnError:  # or another thread has drawn just now
            pass
    return _traced(cell, request)


def _traced(cell: Cell, request: Request) -> Step:
    with use_backend("numpy"), np.errstate(all="ignore"), _no_draws(cell):
        graph = Graph(simplify)
        first = _Tracing(cell, request, [leaf.requires_grad for leaf in leaves(request.state)])
        step, needing = first.imported(graph), first.needing
        # A tensor of the state that needs no gradient before the first step may need one after it, because of a
        # parameter, and so before the second. Trace until the same need one before and after; at least twice, since a
        # step that gives another program the second time depends on something that no program sees.
        while True:
            again = _Tracing(cell, request, needing)
            repeated = again.imported(graph)
            found = [(traced.outputs, traced.results, traced.changing) for traced in (step, repeated)]
            if found[0] != found[1]:
                raise PlanError(
                    f"{type(cell).__name__}.step computes something else each time it is called with the same "
                    "arguments. Random numbers come from mg.dropout_mask, mg.normal and mg.uniform; what counts "
                    "steps belongs in the state"
                )
            if again.needing == needing:
                break
            needing = again.needing
        again.rewrite(repeated)
        if request.grad:
            again.differentiate(repeated)
        return repeated


class _DrawnError(PlanError):
    """A generator that is not ours has moved on."""


@contextmanager
def _no_draws(cell: Cell) -> Iterator[None]:
    """Leave all generators as they are found; those that are not ours must not be needed."""
    ours, python_s, numpy_s = random_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        set_random_state(ours)
        drawn = []
        if random.getstate() != python_s:
            random.setstate(python_s)
            drawn.append("Python's random")
        if pickle.dumps(np.random.get_state()) != pickle.dumps(numpy_s):  # noqa: NPY002
            np.random.set_state(numpy_s)  # noqa: NPY002
            drawn.append("np.random")
    if drawn:
        raise _DrawnError(
            f"{type(cell).__name__}.step draws with {' and '.join(drawn)}, which a program does not. Random numbers "
            "come from mg.dropout_mask, mg.normal and mg.uniform"
        )


class _Tracing:
    """One step, traced on arrays without values: its forward, and the backward derived from that.

    Call `imported`, then `rewrite` and `differentiate` with the step that it has made, which they complete.

    Args:
        cell, request: what to trace, and for what.
        needing: for each tensor of the state whether it needs a gradient before the step. The attribute of this name
            says the same of the state after it, or before it: what comes to need one at some step.
    """

    def __init__(self, cell: Cell, request: Request, needing: list[bool]) -> None:
        self.cell, self.request = cell, request
        shadow = Shadow(cell)
        self.originals, self.copies = shadow.originals, shadow.tensors
        self.x = request.x
        self.alive = Tensor(Abstract(request.x.shape[:1], np.dtype(bool))) if request.masked else None
        flags = iter(needing)
        self.state = map_nest(lambda leaf: Tensor(leaf.data, next(flags)), request.state)
        self.tape = Trace()
        with enable_grad() if request.grad else no_grad(), self.tape:
            y, new = checked_step(shadow.module, self.x, self.state)
            if self.alive is not None:
                new, y = hold(self.alive, new, self.state), silence(self.alive, y)
        if changed := shadow.changes():
            raise PlanError(
                f"{type(cell).__name__}.step assigns {', '.join(changed)}, which the next step could read: "
                "what changes from step to step belongs in the state"
            )
        in_order = map_nest(lambda old, new: new, self.state, new)  # a dict may come back in another
        self.old, self.new = list(leaves(self.state)), list(leaves(in_order))
        self.outputs = [y, *self.new] if request.return_states else [y]
        self.needing = [a.requires_grad or b.requires_grad for a, b in zip(self.old, self.new, strict=True)]

    def imported(self, graph: Graph) -> Step:
        """The forward as values of a graph."""
        self.reader = _Reader(graph, self.cell, self.tape)
        changing = [i for i, (a, b) in enumerate(zip(self.old, self.new, strict=True)) if a is not b]
        given: list[tuple[Value, Tensor | int]] = []
        for position, leaf in enumerate(self.old):
            name = f"state[{position}]"
            if position in changing:
                value = graph.source("carry", leaf.shape, leaf.dtype, changing.index(position), name=name)
            else:
                value = graph.source("leaf", leaf.shape, leaf.dtype, len(given), name=name)
                given.append((value, position))
            self.reader.value_of[id(leaf)] = value
        x = self.reader.value_of[id(self.x)] = graph.source("x", self.x.shape, self.x.dtype, 0)
        alive = None
        if self.alive is not None:
            alive = self.reader.value_of[id(self.alive)] = graph.source("alive", self.alive.shape, self.alive.dtype, 0)
        names = {id(p): name for name, p in self.cell.named_parameters()}
        self.targets: list[Tensor] = [copy for copy in self.copies if copy.requires_grad]
        for copy in self.copies:
            original = self.originals[id(copy)]
            name = names.get(id(original), f"tensor {len(given)} of the cell")
            value = graph.source("leaf", copy.shape, copy.dtype, len(given), name=name)
            self.reader.value_of[id(copy)] = value
            given.append((value, original))
            if isinstance(self.cell, Looking) and original is self.cell.table:
                graph.table = value
        self.reader.read(self.tape.nodes)
        reach = Reach(self.tape.recorded, self.old)
        first = [leaf.requires_grad for leaf in leaves(self.request.state)]
        return Step(
            graph=graph,
            x=x,
            alive=alive,
            carries=[self.reader.value(self.old[i]) for i in changing],
            results=[self.reader.value(self.new[i]) for i in changing],
            changing=changing,
            leaves=given,
            outputs=[self.reader.value(output) for output in self.outputs],
            cotangents=[None] * len(self.outputs),
            carried=[None] * len(changing),
            ends_need=[self.new[i].requires_grad for i in changing],
            needs=needs_by_step(first, list(map(reach.of, self.outputs)), list(map(reach.of, self.new))),
            guarded={self.reader.value_of[leaf].index for leaf in self._kept() if leaf in self.reader.value_of},
            x_grad=None,
            carry_grads=[None] * len(changing),
            leaf_grads=[None] * len(given),
        )

    def _kept(self) -> Iterator[int]:
        """The tensors that rules of the tape keep, by identity; a view of a tensor stands for it."""
        for node in self.tape.nodes:
            for source in node.inputs if node.primitive.keeps_inputs else ():
                while isinstance(source, Node) and source.primitive.view:
                    source = source.inputs[0]
                yield id(source)

    def rewrite(self, step: Step) -> None:
        """Make the forward cheaper, before the backward is derived from it."""
        new = fuse(step.graph, step.outputs + step.results)
        self.reader.value_of = {key: new.get(value.index, value) for key, value in self.reader.value_of.items()}
        step.outputs = [new[output.index] for output in step.outputs]
        step.results = [new[result.index] for result in step.results]

    def differentiate(self, step: Step) -> None:
        """Derive the backward: the tape's own walk, recorded, with cotangents that have no values either."""
        reader, graph, seeds = self.reader, step.graph, []
        for number, output in enumerate(self.outputs):
            if output.requires_grad:
                seeds.append((output, Tensor(Abstract(output.shape, output.dtype), True)))
                cotangent = graph.source("cotangent", output.shape, output.dtype, number)
                step.cotangents[number] = reader.value_of[id(seeds[-1][1])] = cotangent
        for number, position in enumerate(step.changing):
            new = self.new[position]
            if self.needing[position]:
                name = f"state[{position}]"
                step.carried[number] = graph.source("carried", new.shape, new.dtype, number, name=name)
            if new.requires_grad:
                seeds.append((new, Tensor(Abstract(new.shape, new.dtype), True)))
                reader.value_of[id(seeds[-1][1])] = step.carried[number]  # type: ignore[assignment]  # there is one
        wanted = [leaf for leaf in (self.x, *self.old, *self.targets) if leaf.requires_grad]
        start = len(self.tape.nodes)
        with self.tape:
            found = pull_back(
                [output for output, _ in seeds], [seed for _, seed in seeds], targets=wanted, create_graph=True
            )
        reader.read(self.tape.nodes[start:])
        by_index = {reader.value_of[id(leaf)].index: reader.value(cotangent) for leaf, cotangent in found.items()}
        step.x_grad = by_index.get(step.x.index)
        step.carry_grads = [by_index.get(carry.index) for carry in step.carries]
        step.leaf_grads = [by_index.get(leaf.index) for leaf, _ in step.leaves]
        for number, carry in enumerate(step.carries):
            if step.carried[number] is not None and step.carry_grads[number] is None:
                step.carry_grads[number] = graph.constant(np.zeros(carry.shape, carry.dtype))
        grads = [step.x_grad, *step.carry_grads, *step.leaf_grads]
        new = distribute(graph, [*step.outputs, *step.results, *filter(None, grads)])
        grads = [None if grad is None else new[grad.index] for grad in grads]
        step.x_grad, step.carry_grads = grads[0], grads[1 : len(step.carries) + 1]
        step.leaf_grads = grads[len(step.carries) + 1 :]


class _Reader:
    """Turns nodes of a tape into values of a graph."""

    def __init__(self, graph: Graph, cell: Cell, tape: Trace) -> None:
        self.graph, self.cell, self.tape = graph, cell, tape
        self.value_of: dict[int, Value] = {}  # by identity of the tensor, or of the node that made it
        self.draws = 0

    def read(self, nodes: list[Node]) -> None:
        """Add these nodes, which are in order."""
        for node in nodes:
            inputs = tuple(self._operand(source, node) for source in node.inputs)
            for value in node.attrs.values():
                self._check_attribute(value, node)
            occurrence, attrs, op = None, node.attrs, node.primitive
            if is_opaque(op):
                occurrence = self.draws = self.draws + 1
            if is_random(op):
                inputs = ()
            dtype = self.tape.dtypes[node]
            self.value_of[id(node)] = self.graph.add(op, inputs, attrs, node.shape, dtype, occurrence)

    def value(self, tensor: Tensor) -> Value:
        """The value of a tensor that came out of the trace."""
        source = self._operand(tensor, None)
        assert isinstance(source, Value)
        return source

    def _operand(self, source: Any, node: Node | None) -> Any:
        if isinstance(source, Node):
            return self.value_of[id(source)]
        if isinstance(source, Tensor):
            if source.node is not None and id(source.node) in self.value_of:
                return self.value_of[id(source.node)]
            if id(source) in self.value_of:
                return self.value_of[id(source)]
            if source.requires_grad:
                raise PlanError(
                    f"{type(self.cell).__name__}.step uses a tensor of shape {source.shape} that needs a gradient and "
                    "is no attribute of the cell: assign it to one"
                )
            if not isinstance(source.data, Abstract):
                return self.graph.constant(source.numpy())
            source = source.data
        if isinstance(source, Abstract):
            where = f" (in {node.op})" if node is not None else ""
            raise PlanError(
                f"{type(self.cell).__name__}.step uses the array of a tensor (.data, or a copy of it){where}, which "
                "leaves no trace: compute with the tensor itself, and use mg.detach to stop its gradient"
            )
        if hasattr(source, "dtype"):  # no tensor: one element is a number, whose dtype does not count
            return self.graph.constant(np.array(source)) if source.shape else source.item()
        return source

    def _check_attribute(self, value: Any, node: Node) -> None:
        if isinstance(value, Abstract):
            raise PlanError(
                f"{type(self.cell).__name__}.step indexes with integers that are computed in it (in {node.op}): "
                "use mg.take or mg.take_along_axis"
            )
        if isinstance(value, tuple | list):
            for part in value:
                self._check_attribute(part, node)
