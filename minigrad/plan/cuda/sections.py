"""A section of a program, computed step by step or for all steps at once: which products and kernels, in which order.

What is to be in memory is asked for. What is computed element by element is computed right in the kernel that needs it
and never stored, unless somebody else needs it too: a later product or reduction, the backward, the next step, a sum,
or the caller.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

from minigrad.plan.cuda.layout import Columns, Kernel, Place, Product, Reduction, Stage, Store
from minigrad.plan.cuda.rows import (
    PRODUCTS,
    REDUCTIONS,
    NotExpressibleError,
    check,
    cuts,
    is_moved,
    moved,
    slices_read,
    width,
)
from minigrad.plan.graph import Level, Value, needed
from minigrad.plan.operations import ADD


class Section:
    """Some values of a program.

    Args:
        schedule: makes arrays, and knows what is there before.
        name: of the section, and of its kernels.
        values: what may be computed here, in order.
        in_loop: whether step by step.

    Attributes:
        places: where values are read; those that are not there are computed where they are needed.
        work: what to do, in order, once it is finished.
    """

    def __init__(self, schedule: Any, name: str, values: list[Value], in_loop: bool) -> None:
        self.schedule, self.name, self.in_loop = schedule, name, in_loop
        self.mine = {value.index for value in values} - schedule.known.keys()
        self.places: dict[int, Place] = dict(schedule.known)
        self.work: list[Product | Kernel] = []
        self._uses = Counter(operand.index for value in values for operand in value.values)
        self._read = slices_read(values)
        self._wanted: list[tuple[Value, Place]] = []
        self._operations: dict[int, Product | Reduction | None] = {}
        self._stage_of: dict[int, int] = {}
        self._sums: set[int] = set()
        self._added: list[tuple[Value, Place, bool]] = []

    # --- what is to be in memory

    def want(self, value: Value, place: Place) -> None:
        """Put a value into this place. The first place of a value is where others read it."""
        if value.index in self.mine and not is_moved(value):
            if self._add_up(value, place):
                return
            self.places.setdefault(value.index, place)
        self._wanted.append((value, place))

    def keep(self, value: Value) -> None:
        """Have a value in memory for all steps; of a slice, what it is a slice of."""
        while is_moved(value) and value.name != "assemble":
            value = value.values[0]
        if value.level is not Level.CONSTANT and value.index in self.mine and value.index not in self.places:
            place = Place(self.schedule.array("saved", value))
            self.want(value, place)
            self.places.setdefault(value.index, place)

    def columns(self, value: Value) -> Columns:
        """Where a value's rows lie side by side in memory: as columns of another, or in memory made for them."""
        at, start, size = value, 0, width(value)
        while at.index not in self.places:
            part = moved(at, start, size) if is_moved(at) and len(cuts(at, {}, self._is_there)) == 2 else None
            if part is None or width(part[0]) < size or part[0].level is Level.CONSTANT:
                if is_moved(value):
                    self.mine.add(value.index)  # it is put together here now
                elif value.index not in self.mine:
                    raise NotExpressibleError(f"{value.name} of shape {value.shape} is needed where it is not kept")
                place = Place(self.schedule.array("scratch" if self.in_loop else "saved", value))
                self.want(value, place)
                self.places.setdefault(value.index, place)
                return Columns(place, 0, size)
            at, start = part
        return Columns(self.places[at.index], start, size)

    def _add_up(self, value: Value, place: Place) -> bool:
        """Let products add their results to what else a sum consists of, right in its place; False if they cannot."""
        terms = _terms(value, self.mine, self._uses) if value.name == "add" and value.index not in self.places else []
        products = [t for t in terms if t.name in PRODUCTS and self._uses[t.index] == 1 and t.index in self.mine]
        products = sorted((p for p in products if p.index not in self.places), key=self._when)
        rest = [term for term in terms if term not in products]
        if not products:
            return False
        latest = max((self.stage(term) for term in rest), default=-1)
        if self.stage(products[0]) <= latest or any(term.shape != value.shape for term in rest):
            return False
        if rest:
            total = rest[0]
            for term in rest[1:]:
                total = self.schedule.step.graph.apply(ADD, total, term)
            self.mine |= {v.index for v in needed([total]) if not v.is_source} - self.schedule.known.keys()
            self._wanted.append((total, place))
        self.places[value.index] = place
        self._sums.add(value.index)
        self._stage_of[value.index] = max(map(self.stage, products))
        self._added += [(product, place, bool(rest or number)) for number, product in enumerate(products)]
        return True

    def _when(self, value: Value) -> tuple[int, int]:
        return self.stage(value), value.index

    # --- the order

    def finish(self) -> None:
        """Find the work: ask what computing the wanted needs in memory, until nothing new turns up."""
        done = 0
        while self._added or done < len(self._wanted):
            if self._added:
                self._operate(*self._added.pop(0))
            else:
                self._ask(self._wanted[done][0])
                done += 1
        last = max([self.stage(value) for value, _ in self._wanted], default=-1)
        operations = [operation for operation in self._operations.values() if operation is not None]
        last = max([last, *(self.stage(operation.value) for operation in operations)])
        stages = [Stage() for _ in range(last + 1)]
        products: list[list[Product]] = [[] for _ in stages]
        for operation in sorted(operations, key=lambda operation: self._when(operation.value)):
            number = self.stage(operation.value)
            if isinstance(operation, Product):
                products[number].append(operation)
            else:
                stages[number].reductions.append(operation)
        for value, place in self._wanted:
            if value.index in self._operations and self.places[value.index] == place:
                continue
            stores = stages[self.stage(value)].stores
            for start, stop in pairwise(cuts(value, self._read, self._is_there)):
                stores.setdefault(stop - start, []).append(Store(value, start, place))
        self._arrange(stages, products)

    def _arrange(self, stages: list[Stage], products: list[list[Product]]) -> None:
        """Put stages with no product between them into one kernel."""
        kernel: Kernel | None = None
        for number, (stage, multiplied) in enumerate(zip(stages, products, strict=True)):
            if multiplied:
                self.work += multiplied
                kernel = None
            if stage.reductions or stage.stores:
                if kernel is None:
                    count = sum(isinstance(item, Kernel) for item in self.work)
                    kernel = Kernel(f"{self.name}_{count}" if count else self.name, [], [])
                    self.work.append(kernel)
                kernel.numbers.append(number)
                kernel.stages.append(stage)

    def _is_there(self, value: Value) -> bool:
        """Whether a value is in memory before the section."""
        return value.index not in self.mine

    def stage(self, value: Value) -> int:
        """How many times products and reductions must be waited for before a value can be computed."""
        if value.index not in self.mine or value.level is Level.CONSTANT:
            return 0
        if value.index not in self._stage_of:
            operands = [v for v in value.values if v.level is not Level.CONSTANT]
            stage = max((self.stage(v) for v in operands), default=0)
            if value.name in REDUCTIONS or (value.name in PRODUCTS and not self._given(operands[0])):
                stage += 1
            self._stage_of[value.index] = stage
        return self._stage_of[value.index]

    def is_ready(self, value: Value, stage: int) -> bool:
        """Whether a value that has a place is there when the loops of a stage run."""
        early = value.index not in self.mine or self.stage(value) < stage
        return early or value.name in PRODUCTS or value.name in REDUCTIONS or value.index in self._sums

    def _given(self, value: Value) -> bool:
        """Whether the rows of a value are in memory before the section."""
        while is_moved(value) and (value.index in self.mine or value.index not in self.places):
            if value.name in ("assemble", "broadcast_to"):
                return False  # its rows are put together first
            value = value.values[0]
        return value.index not in self.mine

    def _ask(self, wanted: Value) -> None:
        """See to it that what a value is computed from is in memory, or can be computed in the same loop."""
        stage, stack, seen = self.stage(wanted), [wanted], set()
        while stack:
            at = stack.pop()
            if at.index in seen or at.level is Level.CONSTANT:
                continue
            seen.add(at.index)
            if not at.is_source:
                check(at, self.schedule.batch, self.schedule.real)
            if at.index not in self.mine:
                if at.index not in self.places:
                    if not is_moved(at):
                        raise NotExpressibleError(f"{at.name} of shape {at.shape} is needed where it is not kept")
                    stack += at.values
            elif at.index in self._sums:
                continue
            elif at.name in PRODUCTS or at.name in REDUCTIONS:
                self._operate(at, None)
            elif at is wanted or self.stage(at) == stage or is_moved(at):
                stack += at.values
            elif at.index not in self.places:
                self.want(at, Place(self.schedule.array("scratch" if self.in_loop else "saved", at)))

    def _operate(self, value: Value, place: Place | None, adds: bool = False) -> None:
        if value.index in self._operations:
            return
        self._operations[value.index] = None
        check(value, self.schedule.batch, self.schedule.real)
        operand = next(v for v in value.values if v.level is not Level.CONSTANT)
        place = place or self.places.get(value.index)
        if place is None:
            kind = "scratch" if self.in_loop else "saved"
            place = self.places[value.index] = Place(self.schedule.array(kind, value))
        rows = self.columns(operand)
        if value.name in PRODUCTS:
            matrix = self.schedule.matrix(value.values[1])
            self._operations[value.index] = Product(value, place, rows, matrix, value.name == "linear", adds)
        else:
            self._operations[value.index] = Reduction(value, place, rows)

    @property
    def arrays(self) -> set[int]:
        """The numbers of all arrays that products read or write; see `source` for those of kernels."""
        found = set()
        for item in self.work:
            if isinstance(item, Product):
                found |= {item.place.array.number, item.operand.place.array.number, item.matrix.number}
        return found


def _terms(value: Value, mine: set[int], uses: Counter[int]) -> list[Value]:
    """What a sum consists of, where nothing else reads the sums that it is made of."""
    terms: list[Value] = []
    stack = [value]
    while stack:
        at = stack.pop()
        inner = at is value or (at.name == "add" and at.index in mine and uses[at.index] == 1)
        if inner and all(isinstance(v, Value) and v.dtype == at.dtype and v.shape == at.shape for v in at.inputs):
            stack += at.inputs
        else:
            terms.append(at)
    return terms
