"""What a tape is made of: nodes, what is being recorded, and a view of it for people.

The tape is a Wengert list (Griewank and Walther, Evaluating Derivatives, 2008, section 2.2): each operation on a
tensor that needs a gradient leaves a `Node` with a rising index. Nodes point at the nodes of their inputs and
nothing points back, so a result that goes out of scope frees its part of the tape by itself.
"""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, Any

from minigrad.within import Within

if TYPE_CHECKING:
    from minigrad.primitive import Primitive

tick = itertools.count(1).__next__
"""The tape's clock. Nodes and parameter updates take their index from it, so that either can be older."""


class Node:
    """One recorded operation.

    Attributes:
        index: its place on the tape; greater than the index of each of its inputs.
        primitive: the operation, with its rules.
        inputs: for each argument the node that made it, the leaf tensor itself, or a constant.
        attrs: the operation's keyword arguments, complete.
        saved: what the rules need (None once a backward walk has freed it).
        shape: shape of the result.
    """

    __slots__ = ("__weakref__", "attrs", "index", "inputs", "primitive", "saved", "shape")

    def __init__(
        self,
        index: int,
        primitive: Primitive,
        inputs: list[Any],
        attrs: dict[str, Any],
        saved: tuple[Any, ...] | None,
        shape: tuple[int, ...],
    ) -> None:
        self.index = index
        self.primitive = primitive
        self.inputs = inputs
        self.attrs = attrs
        self.saved = saved
        self.shape = shape

    @property
    def op(self) -> str:
        """The operation's name."""
        return self.primitive.name

    def __repr__(self) -> str:
        return f"<Node {self.index} {self.op} {self.shape}>"


class _Recorder(threading.local):
    """What this thread records: what needs a gradient, if `grad`; and everything, on `tape` if there is one.

    While it walks back over what was recorded, `targets` are the nodes and leaves whose gradients are asked for, if the
    walk is not for those of all leaves.
    """

    grad: bool = True
    tape: Tape | None = None
    targets: frozenset[Any] = frozenset()


recorder = _Recorder()


def no_grad() -> Within:
    """Record nothing inside the block: results need no gradient and keep no history.

    >>> x = mg.ones(2, requires_grad=True)
    >>> with mg.no_grad():
    ...     y = x * 2
    >>> y.requires_grad
    False
    """
    return Within(recorder, "grad", False)


def enable_grad() -> Within:
    """Record again inside a `no_grad` block."""
    return Within(recorder, "grad", True)


class Tape:
    """Keeps every operation recorded in a `with` block in order, to be printed, drawn or compiled.

    Unlike ordinary recording it also notes operations that need no gradient, and those under `no_grad`.

    >>> x = mg.tensor([1.0, 2.0], requires_grad=True)
    >>> with mg.Tape() as tape:
    ...     y = mg.tanh(x * 2.0).sum()
    >>> [node.op for node in tape.nodes]
    ['multiply', 'tanh', 'sum']
    >>> print(tape)
    node  op        inputs        shape  attributes
    %0    multiply  leaf(2), 2.0  (2)
    %1    tanh      %0            (2)
    %2    sum       %1            ()     axis=None, keepdims=False
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._outer: list[Tape | None] = []

    def __enter__(self) -> Tape:
        self._outer.append(recorder.tape)
        recorder.tape = self
        return self

    def __exit__(self, *exception: Any) -> None:
        recorder.tape = self._outer.pop()

    def note(self, node: Node, y: Any) -> None:
        """Keep a node whose result is the array `y`."""
        self.nodes.append(node)

    def __len__(self) -> int:
        return len(self.nodes)

    def __bool__(self) -> bool:
        return True

    def __str__(self) -> str:
        names = self._names()
        rows = [("node", "op", "inputs", "shape", "attributes")]
        for node in self.nodes:
            inputs = ", ".join(_label(value, names) for value in node.inputs)
            attrs = ", ".join(f"{key}={_value(value)}" for key, value in node.attrs.items())
            rows.append((names[node], node.op, inputs, _shape(node.shape), attrs))
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = ("  ".join([*map(str.ljust, row, widths), row[4]]).rstrip() for row in rows)
        return "\n".join(lines)

    def to_dot(self) -> str:
        """The tape as a graph in Graphviz's DOT language: boxes are operations, ellipses are leaves and constants."""
        names = self._names()
        lines = ["digraph tape {", "  rankdir=TB;", '  node [fontname="Helvetica"];']
        leaves: dict[int, str] = {}
        for node in self.nodes:
            me = f"n{names[node][1:]}"
            lines.append(f'  {me} [shape=box, label="{node.op}\\n{_shape(node.shape)}"];')
            for value in node.inputs:
                source = _origin(value)
                if source in names:
                    lines.append(f"  n{names[source][1:]} -> {me};")
                    continue
                if id(value) not in leaves:
                    leaves[id(value)] = f"leaf{len(leaves)}"
                    label = _label(value, names).replace('"', "'")
                    lines.append(f'  {leaves[id(value)]} [shape=ellipse, label="{label}"];')
                lines.append(f"  {leaves[id(value)]} -> {me};")
        return "\n".join([*lines, "}"])

    def _names(self) -> dict[Any, str]:
        return {node: f"%{number}" for number, node in enumerate(self.nodes)}


def _origin(value: Any) -> Any:
    """The node that made an input; None for a leaf, or a constant from outside."""
    return value if isinstance(value, Node) else getattr(value, "node", None)


def _label(value: Any, names: dict[Any, str]) -> str:
    """How an input is called: by its node, by its parameter's name, or by its value."""
    node = _origin(value)
    if node is not None:
        return names.get(node, f"{node.op}{_shape(node.shape)}")
    if hasattr(value, "requires_grad"):
        kind = getattr(value, "name", "leaf") if value.requires_grad else "constant"
        return f"{kind}{_shape(value.shape)}"
    return f"constant{_shape(value.shape)}" if hasattr(value, "shape") else str(value)


def _value(value: Any) -> str:
    """An attribute on one line: an array by its shape."""
    if isinstance(value, tuple) and any(getattr(part, "shape", ()) for part in value):
        return "(" + ", ".join(map(_value, value)) + ")"
    return f"array{_shape(value.shape)}" if getattr(value, "shape", ()) else str(value)


def _shape(shape: tuple[int, ...]) -> str:
    return "(" + ", ".join(map(str, shape)) + ")"
