"""The program of a whole sequence, made of one step: every value in the bin that says when it is computed.

Nothing here knows how a value is stored or which library computes it; that is the executor's.

| bin | depends on | computed |
| --- | --- | --- |
| constant | parameters alone | once |
| input | x, not the carry | for many steps at once, before the loop |
| recurrent | the carry, and the next carry depends on it | in the loop |
| output | the carry, but the next carry does not need it | for many steps at once, after the loop |
| coefficient | the forward and cotangents of outputs, no carried one | at once, before the backward loop |
| cotangent | the carried cotangent, and the next one depends on it | in the backward loop |
| sink | the carried cotangent, but nothing in the loop needs it | at once, after the backward loop |
| total | a sum over all steps | as steps are done |
| final | totals and constants | once, at the end |
"""

from __future__ import annotations

from dataclasses import dataclass, field

from minigrad.plan.graph import Graph, Level, Value, is_draw, needed
from minigrad.plan.trace import Step

BINS = ("constant", "input", "recurrent", "output", "coefficient", "cotangent", "sink", "total", "final")


@dataclass
class Program:
    """What to compute, in order.

    Attributes:
        step: the step that it was made from, with all that is given.
        bins: the values of each bin (see the table), each list in an order in which they can be computed.
        saved: forward values that the backward needs.
        finals: for each leaf its gradient, a value of the bin `final`; None where there is none.
        loops: for the forward and the backward loop the pairs of carried values (before a step, after it).
    """

    step: Step
    bins: dict[str, list[Value]]
    saved: list[Value]
    finals: list[Value | None]
    loops: dict[str, list[tuple[Value, Value]]]
    _bin_of: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._bin_of = {value.index: name for name, values in self.bins.items() for value in values}

    def bin_of(self, value: Value) -> str:
        """Where a value is computed; the empty string for one that is given."""
        return self._bin_of.get(value.index, "")


def build(step: Step) -> Program:
    """Sort the values of a step into bins."""
    bins: dict[str, list[Value]] = {name: [] for name in BINS}
    forward = needed(step.outputs + step.results)
    recurrent = {value.index for value in needed(step.results)}
    bins["input"] = [v for v in step.graph.values if is_draw(v)]  # also unread ones: they move the generator on
    for value in forward:
        if value.is_source or is_draw(value):
            continue
        if value.level is Level.CONSTANT:
            bins["constant"].append(value)
        elif value.level is Level.TIME:
            bins["input"].append(value)
        else:
            bins["recurrent" if value.index in recurrent else "output"].append(value)

    totals: dict[int, Value] = {}
    finals = [None if grad is None else _total(step.graph, grad, totals) for grad in step.leaf_grads]
    bins["total"] = list(totals.values())
    summed = [operand for total in bins["total"] for operand in operands_of_total(total)]
    carried = [grad for grad, seed in zip(step.carry_grads, step.carried, strict=True) if seed is not None and grad]
    computed = {value.index for name in ("constant", "input", "recurrent", "output") for value in bins[name]}
    looping = {value.index for value in needed(carried)}
    roots = [*carried, *summed, *([step.x_grad] if step.x_grad is not None else [])]
    saved: dict[int, Value] = {}
    for value in needed(roots):
        if value.index in computed or value.is_source:
            continue
        for operand in value.values:
            saved[operand.index] = operand
        if value.level is Level.CONSTANT:
            bins["constant"].append(value)
        elif value.level < Level.CARRIED:
            bins["coefficient"].append(value)
        else:
            bins["cotangent" if value.index in looping else "sink"].append(value)
    saved |= {value.index: value for value in roots}
    kept = [v for v in saved.values() if v.index in computed and v.level is not Level.CONSTANT]

    for value in needed([final for final in finals if final is not None]):
        if not value.is_source and value.index not in {known.index for known in bins["constant"]}:
            bins["final"].append(value)
    loops = {
        "forward": list(zip(step.carries, step.results, strict=True)),
        "backward": [(seed, grad) for seed, grad in zip(step.carried, step.carry_grads, strict=True) if seed and grad],
    }
    return Program(step, bins, kept, finals, loops)


# --- sums over all steps

_LINEAR = frozenset(
    """negative reshape matrix_transpose permute_dims expand_dims squeeze broadcast_to getitem getitem_transpose flip
    sum mean astype assemble""".split()  # noqa: SIM905
)


def _total(graph: Graph, value: Value, totals: dict[int, Value]) -> Value:
    """The sum of a value over all steps. A linear operation is done once, on the sum of its operand."""
    if value.level is Level.CONSTANT:
        return value  # a zero: what depends on no cotangent is no gradient
    name, operands = value.name, value.inputs
    varying = [isinstance(operand, Value) and operand.level is not Level.CONSTANT for operand in operands]
    if is_row_sum(value):
        pass  # one sum over steps and batch
    elif _is_linear(name, varying) and (name in ("sum", "matmul", "linear") or _has_product(value)):
        summed = tuple(_total(graph, o, totals) if v else o for o, v in zip(operands, varying, strict=True))
        return graph.add(value.op, summed, value.attrs, value.shape, value.dtype)
    if value.index not in totals:
        totals[value.index] = graph.source("total", value.shape, value.dtype, value.index, of=value)
    return totals[value.index]


def _is_linear(name: str, varying: list[bool]) -> bool:
    """Whether an operation is linear in its operands that vary from step to step."""
    if sum(varying) > 1:
        return name in ("add", "subtract", "assemble") and all(varying)
    first_alone = name in ("divide", "linear", "take_transpose") and varying[0]
    return name in _LINEAR or name in ("multiply", "matmul") or first_alone


def _has_product(value: Value) -> bool:
    """Whether linear operations lead down to a product of two values that vary, or to rows added to a table."""
    varying = [isinstance(operand, Value) and operand.level is not Level.CONSTANT for operand in value.inputs]
    if value.name in ("matmul", "take_transpose") and all(varying):
        return True
    return _is_linear(value.name, varying) and any(_has_product(operand) for operand in value.values)


def is_row_sum(of: Value) -> bool:
    """Whether a value is the sum of rows over the batch, as the gradient of a bias is."""
    return (
        of.name == "sum" and len(of.values[0].shape) == 2 and of.attrs["axis"] in (0, (0,)) and not of.attrs["keepdims"]
    )


def is_product(total: Value) -> bool:
    """Whether a total is of matrix products, so that one product of all steps' operands gives the sum."""
    of: Value = total.attrs["of"]
    varying = [operand for operand in of.values if operand.level is not Level.CONSTANT]
    return of.name == "matmul" and [len(operand.shape) for operand in varying] == [2, 2]


def is_scatter(total: Value) -> bool:
    """Whether a total is of rows added to a table (the gradient of an embedding)."""
    of: Value = total.attrs["of"]
    if of.name != "take_transpose" or of.attrs["axis"] != 0:
        return False
    g, indices = of.values
    return indices.level is not Level.CONSTANT and len(indices.shape) == 1 and len(g.shape) == 2


def operands_of_total(total: Value) -> list[Value]:
    """What has to be computed for a total."""
    of: Value = total.attrs["of"]
    return of.values if is_product(total) or is_scatter(total) or is_row_sum(of) else [of]
