"""What a step reads from classes, functions and containers: a change is noticed, or the cell is not compiled."""

from __future__ import annotations

import enum
import functools
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from plan_runs import agree

import minigrad as mg
from minigrad.plan.classes import look_at

X = np.random.default_rng(0).normal(size=(4, 2, 3))

pytestmark = [
    pytest.mark.host_only("it is what a cell holds that is looked at, on the host"),
    pytest.mark.both_executors,
]


@pytest.fixture(autouse=True)
def _float64(backend: Any) -> None:
    mg.set_default_dtype("float64")


class Base(mg.Cell):
    def init_state(self, batch_size: int) -> mg.Tensor:
        return mg.zeros((batch_size, 3))

    def scale_of(self) -> Any:
        """What x is multiplied with."""
        raise NotImplementedError

    def step(self, x: mg.Tensor, state: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
        h = state + x * self.scale_of()
        return h, h


class Reading(Base):
    """Has an attribute, and a function that says how to read a scale from it."""

    def __init__(self, held: Any, read: Callable[[Any], Any] = lambda held: 1.0) -> None:
        self.held, self.read = held, read

    def scale_of(self) -> Any:
        return self.read(self.held)


def outputs(cell: mg.Cell, engine: str = "tape") -> Any:
    return mg.Recurrent(cell, engine=engine)(X)[0].numpy().copy()


class Weights(NamedTuple):
    scale: mg.Tensor


class Mode(enum.Enum):
    FAST = {"scale": 2.0}  # noqa: RUF012  # that is the point


Case = tuple[mg.Cell, Callable[[], None]]


def on_a_class(before: Any, change: Callable[[Any], None], read: Callable[[Any], Any] = lambda held: held) -> Case:
    class Cell(Base):
        held = before

        def scale_of(self) -> Any:
            return read(self.held)

    return Cell(), lambda: change(Cell)


def replace(value: Any) -> Callable[[Any], None]:
    return lambda owner: setattr(owner, "held", value)


def a_tensor_on_a_class() -> Case:
    return on_a_class(mg.tensor(2.0), replace(mg.tensor(5.0)))


def an_array_on_a_class() -> Case:
    return on_a_class(np.full(3, 2.0), lambda cell: cell.held.fill(5.0))


def a_namespace_on_a_class() -> Case:
    def change(cell: Any) -> None:
        cell.held.scale = 5.0

    return on_a_class(types.SimpleNamespace(scale=2.0), change, lambda held: held.scale)


def a_function_on_a_class() -> Case:
    return on_a_class(staticmethod(lambda: 2.0), replace(staticmethod(lambda: 5.0)), lambda held: held())


def a_step() -> Case:
    cell, change = on_a_class(2.0, lambda cell: setattr(cell, "step", lambda self, x, h: (h + 5.0 * x, h)))
    return cell, change


def the_code_of_a_step() -> Case:
    """What reloading a module in a notebook does."""

    def other(self: Any, x: mg.Tensor, state: mg.Tensor) -> Any:
        return state + 5.0 * x, state

    class Cell(Base):
        def step(self, x: mg.Tensor, state: mg.Tensor) -> Any:
            return state + 2.0 * x, state

    return Cell(), lambda: setattr(Cell.step, "__code__", other.__code__)


def a_variable_enclosed_by_a_method() -> Case:
    scale = 2.0

    class Cell(Base):
        def scale_of(self) -> Any:
            return scale

    def change() -> None:
        nonlocal scale
        scale = 5.0

    return Cell(), change


def a_list_enclosed_by_a_property() -> Case:
    scales = [2.0]

    class Cell(Base):
        @property
        def scale(self) -> float:
            return scales[0]

        def scale_of(self) -> Any:
            return self.scale

    return Cell(), lambda: scales.__setitem__(0, 5.0)


def other_bases() -> Case:
    class One(Base):
        held = 2.0

    class Other(Base):
        held = 5.0

    class Cell(One):
        def scale_of(self) -> Any:
            return self.held

    return Cell(), lambda: setattr(Cell, "__bases__", (Other,))


def an_attribute_that_is_a_class() -> Case:
    class Config:
        scale = 2.0

    return Reading(Config, lambda config: config.scale), lambda: setattr(Config, "scale", 5.0)


def a_method_of_a_dict() -> Case:
    held = {"scale": 2.0}
    return Reading(held.get, lambda get: get("scale")), lambda: held.update(scale=5.0)


def an_enum_with_a_mutable_value() -> Case:
    Mode.FAST.value["scale"] = 2.0
    return Reading(Mode.FAST, lambda mode: mode.value["scale"]), lambda: Mode.FAST.value.update(scale=5.0)


def an_attribute_of_a_function() -> Case:
    def scale() -> float:
        return float(scale.held)  # type: ignore[attr-defined]

    scale.held = 2.0  # type: ignore[attr-defined]
    return Reading(scale, lambda scale: scale()), lambda: setattr(scale, "held", 5.0)


def what_an_array_of_objects_holds() -> Case:
    array = np.empty(1, dtype=object)
    array[0] = [2.0]
    return Reading(array, lambda array: array[0][0]), lambda: array[0].__setitem__(0, 5.0)


def a_slice() -> Case:
    cell = Reading(slice(0, 1), lambda held: np.array([2.0, 3.0, 4.0])[held])
    return cell, lambda: setattr(cell, "held", slice(1, 2))


def the_order_of_a_set() -> Case:
    """8 and 0 share a place in the table, where the first to come is first."""
    cell = Reading({0, 8}, lambda held: 1.0 + next(iter(held)))
    return cell, lambda: setattr(cell, "held", {8, 0})


def tensor_in(make: Callable[[mg.Tensor], Any], read: Callable[[Any], Any]) -> Callable[[], Case]:
    def case() -> Case:
        tensor = mg.tensor(np.full(3, 2.0))
        return Reading(make(tensor), read), lambda: setattr(tensor, "data", np.full(3, 5.0))

    return case


def enclosing(tensor: mg.Tensor) -> Callable[[], mg.Tensor]:
    return lambda: tensor


def frozen() -> mg.Linear:
    layer = mg.Linear(3, 3)
    for parameter in layer.parameters():
        parameter.requires_grad = False
    return layer


def a_method_of_a_frozen_module() -> Case:
    layer = frozen()
    cell = Reading(layer.forward, lambda forward: forward(mg.ones(3)))
    return cell, lambda: layer.load_state_dict({"weight": np.full((3, 3), 5.0), "bias": np.ones(3)})


def a_frozen_parameter_in_a_named_tuple() -> Case:
    parameter = mg.Parameter(np.full(3, 2.0))
    parameter.requires_grad = False
    cell = Reading(Weights(parameter), lambda held: held.scale)
    return cell, lambda: cell.load_state_dict({"held.0": np.full(3, 5.0)})


CASES: dict[str, Callable[[], Case]] = {
    "a number on a class": lambda: on_a_class(np.float64(2.0), replace(np.float64(5.0))),
    **{
        make.__name__.replace("_", " "): make
        for make in (
            a_tensor_on_a_class,
            an_array_on_a_class,
            a_namespace_on_a_class,
            a_function_on_a_class,
            a_step,
            the_code_of_a_step,
            a_variable_enclosed_by_a_method,
            a_list_enclosed_by_a_property,
            other_bases,
            an_attribute_that_is_a_class,
            a_method_of_a_dict,
            an_enum_with_a_mutable_value,
            an_attribute_of_a_function,
            what_an_array_of_objects_holds,
            a_slice,
            the_order_of_a_set,
            a_method_of_a_frozen_module,
            a_frozen_parameter_in_a_named_tuple,
        )
    },
    "a tensor in a named tuple": tensor_in(Weights, lambda held: held.scale),
    "a tensor in a partial": tensor_in(lambda t: functools.partial(mg.multiply, t), lambda held: held(1.0)),
    "a tensor in a set": tensor_in(lambda t: {t}, lambda held: next(iter(held))),
    "a tensor in a closure": tensor_in(enclosing, lambda held: held()),
    "a tensor in a namespace": tensor_in(lambda t: types.SimpleNamespace(t=t), lambda held: held.t),
}
ON_THE_TAPE = {"a tensor on a class", "a tensor in a set"}


@pytest.mark.parametrize("name", CASES)
def test_a_change_is_noticed(name: str) -> None:
    cell, change = CASES[name]()
    layer = mg.Recurrent(cell)
    before = layer(X)[0].numpy().copy()
    agree(before, outputs(cell))
    change()
    after = outputs(cell)
    assert np.abs(after - before).max() > 1e-3
    agree(layer(X)[0].numpy(), after)
    assert ("engine plan" in layer.explain()) == (name not in ON_THE_TAPE)


def test_a_class_that_is_as_it_was_has_its_plan_again() -> None:
    class Cell(Base):
        held = 2.0

        def scale_of(self) -> float:
            return self.held

    layer = mg.Recurrent(Cell())
    for value in (2.0, 5.0, 2.0, 5.0):
        Cell.held = value
        layer(X)
    assert len(layer._plans.known) == 2


def test_classes_made_anew_do_not_pile_up() -> None:
    from minigrad.plan import classes

    for _ in range(2 * classes.LOOKS):
        look_at(type("Made", (Base,), {}))
    assert len(classes._looks) <= classes.LOOKS


def test_a_trainable_parameter_in_a_named_tuple_is_compiled() -> None:
    found = []
    for engine in ("plan", "tape"):
        cell = Reading(Weights(mg.Parameter(np.full(3, 2.0))), lambda held: held.scale)
        mg.square(mg.Recurrent(cell, engine=engine)(X)[0]).sum().backward()
        found.append(cell.held.scale.grad.numpy())
    agree(*found)


def test_a_reason_names_the_tensor_that_is_out_of_reach() -> None:
    layer = mg.Recurrent(a_tensor_on_a_class()[0], engine="plan")
    with pytest.raises(mg.PlanError, match=r"Cell holds a tensor of shape \(\) that is on a class"):
        layer(X)
