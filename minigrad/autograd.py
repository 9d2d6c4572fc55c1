"""The backward walk: visit the tape's nodes in falling order of their index, and pull cotangents back.

One walk serves everything: `Tensor.backward`, `grad`, double backward (its rules then run on tensors, and record),
and truncated backpropagation. It is iterative, so that a chain of any length fits, and it drops each cotangent and
each saved value as soon as it has used it.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from typing import Any

from minigrad.backend import backend_of
from minigrad.errors import FreedGraphError, StaleParameterError
from minigrad.tape import Node, enable_grad, no_grad, recorder
from minigrad.tensor import Tensor, as_tensor
from minigrad.within import Within

__all__ = ["backward", "grad"]


def backward(output: Tensor, grad: Any = None, *, create_graph: bool = False, retain_graph: bool = False) -> None:
    """What `Tensor.backward` does."""
    cotangents = pull_back([output], [_cotangent(output, grad)], create_graph=create_graph, retain_graph=retain_graph)
    accumulate_grads(cotangents)


def accumulate_grads(cotangents: dict[Any, Any]) -> None:
    """Add each leaf's cotangent to its `.grad`."""
    for leaf, cotangent in cotangents.items():
        if leaf.grad is not None:
            recorded = isinstance(cotangent, Tensor)
            cotangent = (leaf.grad if recorded else leaf.grad.data) + cotangent
        leaf.grad = _as_tensor(cotangent)


def grad(
    output: Tensor,
    inputs: Tensor | Sequence[Tensor],
    grad_output: Any = None,
    create_graph: bool = False,
    retain_graph: bool = False,
) -> tuple[Tensor, ...]:
    """The gradients of `output` with respect to each of `inputs`; no `.grad` is touched.

    Args:
        output: one element, or any shape with `grad_output` of that shape.
        inputs: tensors that need a gradient: leaves, or results on the way. Only what lies between is computed.
        grad_output: the gradient of what follows with respect to `output`.
        create_graph: record the walk, so that the gradients can be differentiated again.
        retain_graph: keep what the tape has saved for another walk.

    Returns:
        A tensor per input; zeros for one that `output` does not depend on.

    >>> x = mg.tensor(3.0, requires_grad=True)
    >>> (slope,) = mg.grad(x**3, x, create_graph=True)
    >>> (curvature,) = mg.grad(slope, x)
    >>> slope.item(), curvature.item()
    (27.0, 18.0)
    """
    wanted = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    for position, tensor in enumerate(wanted):
        if not isinstance(tensor, Tensor) or not tensor.requires_grad:
            raise ValueError(f"inputs[{position}] needs no gradient; make it with requires_grad=True")
    sources = [tensor.node or tensor for tensor in wanted]
    cotangents = pull_back(
        [output],
        [_cotangent(output, grad_output)],
        targets=sources,
        create_graph=create_graph,
        retain_graph=retain_graph,
    )
    gradients = []
    for tensor, source in zip(wanted, sources, strict=True):
        value = cotangents.get(source)
        if value is None:
            value = tensor.backend.xp.zeros_like(tensor.data)
        gradients.append(_as_tensor(value))
    return tuple(gradients)


def _as_tensor(cotangent: Any) -> Tensor:
    """A cotangent as a tensor; NumPy's 0-d results are scalars, a tensor holds an array."""
    if isinstance(cotangent, Tensor):
        return cotangent
    return Tensor(cotangent if cotangent.shape else backend_of(cotangent).xp.asarray(cotangent))


def _cotangent(output: Tensor, grad: Any) -> Tensor:
    if not output.requires_grad:
        raise RuntimeError(
            "this tensor needs no gradient: nothing it was computed from has requires_grad=True, "
            "or it was computed under no_grad() or detached"
        )
    if grad is None:
        if output.size != 1:
            raise RuntimeError(
                f"backward of a tensor of shape {output.shape} needs the gradient of what follows: "
                "pass grad (or grad_output) of that shape, or reduce the tensor with .sum() or .mean()"
            )
        return Tensor(output.backend.xp.ones_like(output.data))
    cotangent = as_tensor(grad, like=output)
    if cotangent.shape != output.shape:
        raise ValueError(f"grad has shape {cotangent.shape}; it must have the output's, {output.shape}")
    return cotangent if cotangent.dtype == output.dtype else cotangent.astype(output.dtype)


def pull_back(
    outputs: Sequence[Tensor],
    cotangents: Sequence[Tensor],
    *,
    targets: Sequence[Node | Tensor] | None = None,
    create_graph: bool = False,
    retain_graph: bool = False,
    allow_stale: bool = False,
) -> dict[Any, Any]:
    """The walk: pull the outputs' cotangents back to the leaves, or to `targets`.

    Args:
        outputs: tensors to start from; those that need no gradient are passed over.
        cotangents: one per output, of its shape.
        targets: stop at these nodes and leaves, and visit only what leads to them.
        create_graph: run the rules on tensors and record them.
        retain_graph: do not free what nodes have saved.
        allow_stale: go on through values of parameters that have been updated since.

    Returns:
        For each leaf (or target) that was reached its cotangent: an array, or a tensor if `create_graph`.
    """
    wanted = frozenset(targets or ())
    with enable_grad() if create_graph else no_grad(), Within(recorder, "targets", wanted):
        return _walk(outputs, cotangents, None if targets is None else wanted, create_graph, retain_graph, allow_stale)


def _walk(
    outputs: Sequence[Tensor],
    seeds: Sequence[Tensor],
    targets: frozenset[Any] | None,
    create_graph: bool,
    retain_graph: bool,
    allow_stale: bool,
) -> dict[Any, Any]:
    cotangents: dict[Any, Any] = {}  # what has arrived at each node and leaf
    owned: set[Any] = set()  # those whose cotangent this walk has allocated, and may add to in place
    for output, seed in zip(outputs, seeds, strict=True):
        if output.requires_grad:
            source: Any = output.node or output
            value = seed if create_graph else seed.data
            cotangents[source] = cotangents[source] + value if source in cotangents else value
    queue = [(-source.index, source) for source in cotangents if type(source) is Node]  # the newest node comes first
    heapify(queue)
    reached, below = (None, set()) if targets is None else _leading_to(targets, [node for _, node in queue])

    results: dict[Any, Any] = {}
    while queue:
        node = heappop(queue)[1]
        g = cotangents.pop(node)
        if targets is not None:
            if node in targets:
                results[node] = g
            if node not in below:
                continue
        primitive, saved, attrs = node.primitive, node.saved, node.attrs
        if saved is None:
            raise FreedGraphError(
                f"{node.op}: an earlier backward has freed this part of the graph. Compute it anew, or pass "
                "retain_graph=True (or create_graph=True) to the earlier call"
            )
        if create_graph:
            saved = primitive.saved_as_tensors(node)
        accumulate = None if create_graph else primitive.accumulate
        guarded = primitive.keeps_inputs and not allow_stale
        for source, rule in zip(node.inputs, primitive.rules):  # noqa: B905  # rules may be an endless iterable
            if rule is None:
                continue
            if type(source) is Node:
                shape = source.shape
                if guarded and source.primitive.view:
                    _check_view(source, node)
            elif isinstance(source, Tensor) and source.requires_grad:
                shape = source.data.shape
                if guarded and source.version > node.index:
                    raise stale_error(source, node.op)
            else:
                continue
            if reached is not None and source not in reached:
                continue
            fresh = not create_graph and (primitive.gives == "new" or (primitive.gives == "g" and node in owned))
            if accumulate is None:
                part = rule(g, *saved, **attrs) if attrs else rule(g, *saved)
                if part is None:
                    continue
                if part.shape != shape:
                    part = unbroadcast(part, shape)
            else:
                fresh = source not in owned
                part = backend_of(g).xp.zeros(shape, dtype=g.dtype) if fresh else cotangents[source]
                if not shape and not fresh:  # a sum of 0-d arrays is a scalar, which nothing can be added to in place
                    part = cotangents[source] = backend_of(g).xp.asarray(part)
                accumulate(part, g, *saved, **attrs)
                if not fresh:
                    continue
            known = cotangents.get(source)
            if known is None:
                cotangents[source] = part
                if fresh:
                    owned.add(source)
                if type(source) is Node:
                    heappush(queue, (-source.index, source))
            elif source in owned:
                known += part
                cotangents[source] = known
            else:
                cotangents[source] = known + part
                if not create_graph:
                    owned.add(source)
        if not (retain_graph or create_graph):
            node.saved = None
    return results | _leaves(cotangents, owned, create_graph, targets)


def _leaves(
    cotangents: dict[Any, Any], owned: set[Any], create_graph: bool, targets: frozenset[Any] | None
) -> dict[Any, Any]:
    """What has arrived at the leaves, in the leaf's dtype and in memory of its own."""
    results = {}
    for leaf, cotangent in cotangents.items():
        if targets is not None and leaf not in targets:
            continue
        dtype = leaf.dtype
        if dtype.kind != "f":
            raise TypeError(f"a leaf of {dtype} has requires_grad=True; only floating-point values have a gradient")
        if cotangent.dtype != dtype:
            cotangent = cotangent.astype(dtype)
        elif not create_graph and leaf not in owned:
            cotangent = cotangent.copy()
        results[leaf] = cotangent
    return results


def _leading_to(targets: frozenset[Any], roots: list[Node]) -> tuple[set[Any], set[Any]]:
    """The nodes through which a gradient can go from `roots` to `targets`, with the targets and without the last ones.

    The second set lacks targets that no other target is behind: the walk ends there, and leaves them unfreed.
    """
    seen: dict[int, Node] = {}
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node.index not in seen:
            seen[node.index] = node
            stack.extend(source for source in node.inputs if type(source) is Node)
    reached, below = set(targets), set()
    for index in sorted(seen):
        if any(source in reached for source in seen[index].inputs if isinstance(source, Node | Tensor)):
            reached.add(seen[index])
            below.add(seen[index])
    return reached, below


def unbroadcast(g: Any, shape: tuple[int, ...]) -> Any:
    """Sum a cotangent over the axes that broadcasting had added or stretched, back to `shape`."""
    extra = len(g.shape) - len(shape)
    if extra > 0:
        g = g.sum(axis=tuple(range(extra)))
    if g.shape != shape:
        g = g.sum(axis=tuple(axis for axis, size in enumerate(shape) if size == 1), keepdims=True)
        if g.shape != shape:
            raise ValueError(f"a gradient rule gave shape {g.shape} for an input of shape {shape}")
    return g


def _check_view(view: Node, node: Node) -> None:
    """Raise if `view` shows a parameter that has been updated since."""
    source: Any = view
    while type(source) is Node and source.primitive.view:
        view, source = source, source.inputs[0]
    if isinstance(source, Tensor) and source.version > view.index:
        raise stale_error(source, node.op)


def stale_error(parameter: Tensor, operation: str) -> StaleParameterError:
    """What to raise where an operation's gradient needs a value that a parameter no longer has."""
    return StaleParameterError(
        f"{getattr(parameter, 'name', 'a parameter')} has been updated since {operation} recorded its value, so this "
        "gradient would mix old and new weights. Run the forward again after the update, or, in truncated "
        "backpropagation, use stale='recompute' or stale='keep'"
    )
