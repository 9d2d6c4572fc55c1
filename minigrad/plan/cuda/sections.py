"""A section of a program, computed step by step or for all steps at once: which products and kernels, in which order.

It finds its stages like a phase of the native executor (`native/phase.py`). Two things are its own: products are not
part of a stage's kernel, and where a sum consists of products and what is there before them, they are added to it in
its place.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from minigrad.plan.cuda.layout import Kernel, Product
from minigrad.plan.graph import Value
from minigrad.plan.native.parts import PRODUCTS
from minigrad.plan.native.phase import Phase
from minigrad.plan.native.places import Columns, Place
from minigrad.plan.native.rows import check
from minigrad.plan.operations import ADD


class Section(Phase):
    """Some values of a program.

    Args:
        schedule: makes arrays, and knows what is there before.
        name: of the section, and of its kernels.
        values: what is computed here, in order.
        in_loop: whether step by step.
        uses: by index how many others read a value, here or elsewhere, and whether it is wanted itself.

    Attributes:
        summed: indices of the sums to which products are added in their place.
        work: what to do, in order, once it is finished.
    """

    schedule: Any  # that of `schedule.py`

    def __init__(self, schedule: Any, name: str, values: list[Value], in_loop: bool, uses: Counter[int]) -> None:
        super().__init__(schedule, name, values)
        self.in_loop, self._uses = in_loop, uses
        self.summed: set[int] = set()
        self.work: list[Product | Kernel] = []
        self._added: list[tuple[Value, Place, bool]] = []
        self._products: dict[int, Product] = {}

    def columns(self, value: Value, kind: str, whole: bool = False) -> Columns:
        return super().columns(value, kind if self.in_loop else "saved", whole)

    def factor(self, value: Value, whole: bool = False) -> Columns:
        """The columns of what is multiplied with a matrix, or over sequences with other rows."""
        return self.columns(value, "scratch", whole)

    def is_there(self, value: Value) -> bool:
        """Whether a value is in memory before a step is computed, or added up there by products."""
        return value.index in self.summed or super().is_there(value)

    def stage(self, value: Value) -> int:
        return self._stage_of[value.index] if value.index in self.summed else super().stage(value)

    # --- products that are added up in their place

    def want(self, value: Value, place: Place) -> None:
        if value.name == "add" and value.index not in self.places and self._add_up(value, place):
            return
        super().want(value, place)

    def _add_up(self, value: Value, place: Place) -> bool:
        """Let products add their results to what else a sum consists of; False if they cannot."""
        terms = _terms(value, self)
        products = sorted(filter(self._is_alone, terms), key=self._when)
        rest = [term for term in terms if term not in products]
        latest = max(map(self.stage, rest), default=-1)
        if not products or self.stage(products[0]) <= latest:
            return False
        if rest:
            total = rest[0]
            for term in rest[1:]:
                total = self.schedule.step.graph.apply(ADD, total, term)
            self._wanted.append((total, place))
        self.places[value.index] = place
        self.summed.add(value.index)
        self._stage_of[value.index] = max(map(self.stage, products))
        self._added += [(product, place, bool(rest or number)) for number, product in enumerate(products)]
        return True

    def _is_alone(self, value: Value) -> bool:
        """Whether a value is a product with parameters that nothing else reads."""
        alone = self._uses[value.index] == 1 and value.index not in self.places
        return alone and value.name in PRODUCTS and self.rows.is_packed(value)

    def _when(self, value: Value) -> tuple[int, int]:
        return self.stage(value), value.index

    # --- the order

    def finish(self) -> None:
        """Find the work."""
        self.schedule.in_loop = self.in_loop
        self._multiply_added()
        super().finish()
        products: dict[int, list[Product]] = {}
        for product in sorted(self._products.values(), key=lambda product: self._when(product.value)):
            products.setdefault(self.stage(product.value), []).append(product)
        kernel: Kernel | None = None
        for number in range(max([len(self.stages) - 1, *products], default=-1) + 1):
            if number in products:
                self.work += products[number]
                kernel = None
            stage = self.stages[number] if number < len(self.stages) else None
            if stage is not None and (stage.operations or stage.stores):
                if kernel is None:
                    count = sum(isinstance(item, Kernel) for item in self.work)
                    kernel = Kernel(f"{self.name}_{count}" if count else self.name, {})
                    self.work.append(kernel)
                kernel.stages[number] = stage

    def _ask(self, wanted: Value, stage: int) -> None:
        super()._ask(wanted, stage)
        self._multiply_added()

    def _multiply_added(self) -> None:
        while self._added:
            self._multiply(*self._added.pop(0))

    def _operation(self, value: Value) -> None:
        if self.rows.is_packed(value):
            self._multiply(value, self.places.get(value.index), adds=False)
        else:
            super()._operation(value)

    def _multiply(self, value: Value, place: Place | None, adds: bool) -> None:
        """A product with a matrix of parameters."""
        if value.index in self._operations:
            return
        self._operations[value.index] = None
        check(value, self.rows)
        if place is None:
            place = self.places[value.index] = Place(self.schedule.array("scratch", value))
        operand = self.factor(self.rows.operands(value)[0])
        matrix, transposed = self.schedule.matrix(value.values[1]), value.name == "linear"
        columns = matrix.value.shape[0 if transposed else 1]
        parts = self.rows.width(value) // columns
        self._products[value.index] = Product(value, place, operand, parts, matrix, transposed, adds)

    @property
    def multiplied(self) -> set[int]:
        """The numbers of all arrays that products read or write."""
        found = set()
        for item in self.work:
            if isinstance(item, Product):
                found |= {item.place.array.number, item.operand.place.array.number, item.matrix.number}
        return found


def _terms(value: Value, section: Section) -> list[Value]:
    """What a sum consists of, where nothing else reads the sums that it is made of."""
    terms: list[Value] = []
    stack = [value]
    while stack:
        at = stack.pop()
        inner = at is value or (at.name == "add" and not section.is_there(at) and section._uses[at.index] == 1)
        if inner and all(isinstance(v, Value) and v.dtype == at.dtype and v.shape == at.shape for v in at.inputs):
            stack += at.inputs
        else:
            terms.append(at)
    return terms
