"""Modules: what is in them, weights in and out, modes, moves, clones."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import minigrad as mg


class Block(mg.Module):
    """Parameters as attributes, in lists, tuples and dicts; a constant; a module that appears twice."""

    def __init__(self, size: int = 2) -> None:
        self.scale = mg.Parameter(mg.ones(size))
        self.parts = [mg.Linear(size, size), {"deep": (mg.Parameter(mg.zeros(3)), mg.Dropout(0.5))}]
        self.again = self.parts[0]
        self.table = mg.tensor([1.0, 2.0])
        self.codes = mg.tensor([1, 2])
        self.note = "text"
        self.nothing = None

    def forward(self, x: Any) -> Any:
        return self.again(x * self.scale * self.table)


NAMES = ["scale", "parts.0.weight", "parts.0.bias", "parts.1.deep.0"]

# --- what is in it


def test_parameters_are_found_once_in_the_order_of_assignment() -> None:
    block = Block()
    assert [name for name, _ in block.named_parameters()] == NAMES
    assert [id(p) for p in block.parameters()] == [id(p) for _, p in block.named_parameters()]
    assert dict(block.named_parameters())["parts.0.weight"] is block.again.weight


def test_modules_are_found_once() -> None:
    block = Block()
    found = dict(block.named_modules())
    assert list(found) == ["", "parts.0", "parts.1.deep.1"]
    assert found[""] is block
    assert found["parts.0"] is block.again


def test_a_parameter_is_named_after_its_first_place() -> None:
    block = Block()
    assert block.scale.name == "Block.scale"
    assert block.again.weight.name == "Linear.weight"
    assert block.parts[1]["deep"][0].name == "Block.parts.1.deep.0"


def test_an_attribute_may_be_taken_away_and_replaced() -> None:
    block = Block()
    del block.parts
    block.scale = None
    assert [name for name, _ in block.named_parameters()] == ["again.weight", "again.bias"]


def test_modules_that_contain_each_other_are_walked_once() -> None:
    a, b = Block(), Block()
    a.other, b.other = b, a
    assert len(list(a.parameters())) == 8


def test_a_module_without_a_forward_says_so() -> None:
    class Silent(mg.Module):
        pass

    with pytest.raises(NotImplementedError, match=r"Silent must define forward"):
        Silent()(1)


def test_the_repr_shows_parts_and_shapes() -> None:
    text = repr(Block())
    for part in ("Block(", "(scale): (2,)", "(parts.0): Linear(", "(weight): (2, 2)", "(parts.1.deep.0): (3,)"):
        assert part in text
    assert repr(mg.Dropout()) == "Dropout()"


# --- weights in and out


def test_the_state_dict_is_a_copy_on_the_host() -> None:
    block = Block()
    state = block.state_dict()
    assert list(state) == NAMES
    assert {type(value) for value in state.values()} == {np.ndarray}
    state["scale"][...] = 7.0
    np.testing.assert_array_equal(block.scale.numpy(), [1, 1])


@pytest.mark.parametrize("form", ["arrays", "tensors", "lists", "float64"])
def test_what_is_saved_can_be_loaded(form: str) -> None:
    saved, block = Block(), Block()
    saved.scale.data = saved.scale.data * 3
    convert = {
        "arrays": lambda value: value,
        "tensors": mg.tensor,
        "lists": lambda value: value.tolist(),
        "float64": lambda value: value.astype("float64"),
    }[form]
    block.load_state_dict({name: convert(value) for name, value in saved.state_dict().items()})
    for name, value in saved.state_dict().items():
        np.testing.assert_array_equal(block.state_dict()[name], value)
        assert block.state_dict()[name].dtype == "float32"
    x = mg.normal(shape=(4, 2))
    np.testing.assert_array_equal(block(x).numpy(), saved(x).numpy())


def test_lists_are_loaded_in_the_precision_of_the_module() -> None:
    layer = mg.Linear(1, 1).to(dtype="float64")
    layer.load_state_dict({"weight": [[0.1]], "bias": [0.2]})
    assert (layer.weight.item(), layer.bias.item()) == (0.1, 0.2)


def test_loading_copies() -> None:
    layer, values = mg.Linear(1, 1), {"weight": np.ones((1, 1), "float32"), "bias": np.zeros(1, "float32")}
    layer.load_state_dict(values)
    values["weight"][...] = 9
    assert layer.weight.item() == 1


def test_one_error_lists_all_that_does_not_fit_and_nothing_is_changed() -> None:
    block = Block()
    block.scale.data = block.scale.data * 5
    before = block.state_dict()
    wrong = {
        "scale": np.zeros(2),
        "parts.0.weight": np.zeros((2, 3)),
        "parts.1.deep.0": np.array(["a", "b", "c"]),
        "surplus": np.zeros(1),
        "more": np.zeros(1),
    }
    with pytest.raises(mg.StateDictError) as caught:
        block.load_state_dict({name: value for name, value in wrong.items() if name != "parts.1.deep.0"})
    assert str(caught.value).split("\n") == [
        "the state dict does not fit Block; nothing was loaded:",
        "  missing: parts.0.bias (2,)",
        "  missing: parts.1.deep.0 (3,)",
        "  unexpected: surplus",
        "  unexpected: more",
        "  misshaped: parts.0.weight is (2, 3), the module's is (2, 2)",
    ]
    with pytest.raises(ValueError, match=r"cannot make an array"):
        block.load_state_dict(wrong)
    with pytest.raises(mg.StateDictError, match=r"not numbers: scale is complex128"):
        block.load_state_dict(before | {"scale": np.zeros(2, complex)})
    for name, value in before.items():
        np.testing.assert_array_equal(block.state_dict()[name], value)


def test_without_strict_only_what_is_known_is_loaded() -> None:
    block = Block()
    bias = block.again.bias.numpy().copy()
    block.load_state_dict({"scale": [2.0, 3.0], "surplus": [0.0]}, strict=False)
    np.testing.assert_array_equal(block.scale.numpy(), [2, 3])
    np.testing.assert_array_equal(block.again.bias.numpy(), bias)
    with pytest.raises(mg.StateDictError, match=r"misshaped: scale is \(1,\), the module's is \(2,\)"):
        block.load_state_dict({"scale": [2.0]}, strict=False)


def test_weights_loaded_between_forward_and_backward_are_noticed() -> None:
    layer = mg.Linear(2, 2)
    loss = layer(mg.ones((1, 2), requires_grad=True)).sum()
    layer.load_state_dict(layer.state_dict())
    with pytest.raises(mg.StaleParameterError, match=r"Linear\.weight has been updated"):
        loss.backward()


# --- modes and gradients


def test_train_and_eval_reach_everything() -> None:
    block = Block()
    dropout = block.parts[1]["deep"][1]
    assert block.eval() is block
    assert (block.training, block.again.training, dropout.training) == (False, False, False)
    x = mg.ones(100)
    assert dropout(x) is x
    block.train()
    assert (block.training, block.again.training, dropout.training) == (True, True, True)
    assert 0 < (dropout(x).numpy() == 0).sum() < 100
    assert block.train(False).again.training is False
    assert Block().training is True


def test_zero_grad_forgets_all_gradients() -> None:
    block = Block()
    block(mg.ones((1, 2))).sum().backward()
    assert [p.grad is None for p in block.parameters()] == [False, False, False, True]
    block.zero_grad()
    assert [p.grad for p in block.parameters()] == [None] * 4


def test_gradients_of_shared_parameters_add_up() -> None:
    layer = mg.Linear(2, 2, bias=False)
    twice = mg.Sequential(layer, layer)
    assert len(list(twice.parameters())) == 1
    x = mg.normal(shape=(3, 2))
    twice(x).sum().backward()
    w, ones = layer.weight.numpy(), np.ones((3, 2))
    hidden = x.numpy() @ w.T
    np.testing.assert_allclose(layer.weight.grad.numpy(), ones.T @ hidden + (ones @ w).T @ x.numpy(), rtol=1e-5)


# --- moves


def test_to_changes_the_dtype_of_what_is_floating() -> None:
    block = Block()
    block(mg.ones((1, 2))).sum().backward()
    block.scale.data = block.scale.data * 3  # a version of its own
    assert block.to(dtype="float64") is block
    assert {value.dtype.name for value in block.state_dict().values()} == {"float64"}
    assert (block.table.dtype, block.codes.dtype) == ("float64", "int64")
    assert [p.grad for p in block.parameters()] == [None] * 4
    np.testing.assert_array_equal(block.scale.numpy(), [3, 3])
    assert block(mg.ones((1, 2), dtype="float64")).dtype == "float64"
    parameters = list(block.parameters())
    assert [id(p) for p in block.to(dtype="float32").parameters()] == [id(p) for p in parameters]


@pytest.mark.parametrize("dtype", ["int64", "bool", "float16"])
def test_parameters_stay_floating(dtype: str) -> None:
    with pytest.raises(ValueError, match=rf"the dtype of parameters is 'float32' or 'float64', not '{dtype}'"):
        Block().to(dtype=dtype)
    with pytest.raises(ValueError, match=r"unknown backend 'float64'; there are: 'numpy'"):
        Block().to("float64")


def test_to_moves_parameters_and_constants_to_a_backend(backend: Any) -> None:
    block = Block()
    values = block.state_dict()
    for place in ("strict", "numpy", backend.name):
        block.to(place)
        tensors = [*block.parameters(), block.table, block.codes]
        assert {tensor.backend.name for tensor in tensors} == {place}
        with mg.use_backend(place):
            y = block(mg.ones((1, 2)))
            y.sum().backward()
        assert y.backend.name == place
        assert block.scale.grad.backend.name == place
        for name, value in values.items():
            np.testing.assert_array_equal(block.state_dict()[name], value)


# --- copies


def test_a_clone_has_the_same_options_and_fresh_weights() -> None:
    layer = mg.Sequential(mg.Linear(3, 4, bias=False), mg.tanh, mg.Dropout(p=0.25))
    clone = layer.clone()
    assert clone[0].bias is None
    assert clone[1] is mg.tanh
    assert clone[2].p == 0.25
    assert {id(p) for p in clone.parameters()}.isdisjoint({id(p) for p in layer.parameters()})
    assert np.abs(clone[0].weight.numpy() - layer[0].weight.numpy()).min() > 0


def test_a_clone_shares_what_its_model_shares() -> None:
    cell = mg.GRUCell(2, 2)
    stack = mg.Stack(mg.Recurrent(cell), mg.Bidirectional(cell, cell, merge="sum"), mg.Recurrent(mg.GRUCell(2, 2)))
    clone = stack.clone()
    assert list(clone.state_dict()) == list(stack.state_dict())
    first, both, last = clone.layers
    assert first.cell is both.forward_layer.cell
    assert first.cell is both.backward_layer.cell
    assert first.cell is not last.cell
    assert first.cell is not cell


def test_a_clone_takes_modules_from_lists_and_dicts_among_its_arguments() -> None:
    class Many(mg.Module):
        def __init__(self, parts: Any, by_name: Any) -> None:
            self.parts, self.by_name = parts, by_name

    one, two = mg.Linear(1, 2), mg.Linear(2, 3)
    clone = Many([one], by_name={"two": (two, one)}).clone()
    assert clone.parts[0] is clone.by_name["two"][1]
    assert clone.parts[0] is not one
    assert clone.by_name["two"][0].weight.shape == (3, 2)


def test_a_clone_has_the_dtype_and_backend_of_its_model() -> None:
    clone = mg.Linear(2, 2).to("numpy", "float64").clone()
    assert clone.weight.dtype == "float64"
    assert clone.weight.backend.name == "numpy"


def test_a_pickle_of_a_process_with_a_later_clock_is_not_stale() -> None:
    layer = mg.Linear(2, 2)
    layer.weight.version = 10**12
    other = pickle.loads(pickle.dumps(layer))
    x = mg.ones((1, 2), requires_grad=True)
    other(x).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy()[0], other.weight.numpy().sum(0))
    loss = other(x).sum()
    other.weight.data = other.weight.data
    with pytest.raises(mg.StaleParameterError):
        loss.backward()


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_a_copy_computes_the_same_and_is_apart(duplicate: Any) -> None:
    model = mg.LSTM(2, 3, num_layers=2, bidirectional=True)
    other = duplicate(model)
    x = mg.normal(shape=(4, 2, 2))
    np.testing.assert_array_equal(other(x)[0].numpy(), model(x)[0].numpy())
    other(x)[0].sum().backward()
    assert all(p.grad is not None for p in other.parameters())
    assert all(p.grad is None for p in model.parameters())


def test_a_parameter_is_not_replaced_by_a_plain_tensor_unnoticed() -> None:
    layer = mg.Linear(2, 2)
    with pytest.raises(TypeError, match=r"Linear\.weight is a parameter.*assign weight\.data, or a new mg\.Parameter"):
        layer.weight = layer.weight - 0.1  # type: ignore[assignment]
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]
    layer.weight = mg.Parameter([[1.0, 2.0], [3.0, 4.0]])
    layer.bias = None
    assert [name for name, _ in layer.named_parameters()] == ["weight"]


def test_two_parameters_of_one_name_are_told() -> None:
    block = mg.Module()
    block.parts = {"a.b": mg.Parameter([1.0]), "a": {"b": mg.Parameter([2.0])}}
    with pytest.raises(ValueError, match=r"two parameters of Module are called 'parts\.a\.b'; rename a key"):
        block.state_dict()


def test_containers_may_refer_to_themselves() -> None:
    block = mg.Module()
    block.parts = [mg.Parameter([1.0])]
    block.parts.append(block.parts)
    assert [name for name, _ in block.named_parameters()] == ["parts.0"]


def test_values_that_are_no_numbers_are_listed_with_the_rest() -> None:
    layer = mg.Linear(2, 1)
    before = layer.state_dict()
    with pytest.raises(mg.StateDictError, match=r"(?s)not numbers: weight: .*missing: bias"):
        layer.load_state_dict({"weight": None})
    assert all((layer.state_dict()[name] == value).all() for name, value in before.items())


def test_a_clone_keeps_the_mode_and_refuses_iterators() -> None:
    class Several(mg.Module):
        def __init__(self, modules: object) -> None:
            self.parts = list(modules)  # type: ignore[call-overload]

    assert mg.Dropout(0.5).eval().clone().training is False
    assert len(Several([mg.Linear(1, 1)]).clone().parts) == 1
    with pytest.raises(TypeError, match=r"made with an iterator.*cannot be cloned.*pass a list"):
        Several(mg.Linear(1, 1) for _ in range(2)).clone()


def test_the_first_parameter_is_the_first_of_all() -> None:
    class Parent(mg.Module):
        def __init__(self, *parts: Any) -> None:
            self.size = 3
            self.first, self.second = parts

    circle = Parent(None, None)
    circle.first = Parent(circle, mg.Linear(2, 2))
    empty = Parent(mg.Module(), mg.tensor([1.0]))
    modules = [
        mg.Linear(2, 3),
        mg.LSTM(2, 3, num_layers=2),
        mg.Bidirectional(mg.GRUCell(2, 3)),
        Parent(mg.tensor([1.0]), mg.Linear(2, 3)),
        Parent(empty, [mg.Linear(2, 3)]),
        Parent({"a": (mg.Linear(2, 3),)}, mg.Linear(2, 3)),
        circle,
    ]
    for module in modules:
        assert module.first_parameter() is next(module.parameters())
    assert empty.first_parameter() is None


def test_settings_nest_and_go_back() -> None:
    off = mg.no_grad()
    x = mg.ones(2, requires_grad=True)
    with off:
        with off:
            assert not (x * 2).requires_grad
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad

    @mg.no_grad()
    def double(x: mg.Tensor) -> mg.Tensor:
        return x * 2

    assert not double(x).requires_grad
    with pytest.raises(ZeroDivisionError), mg.default_dtype("float64"):
        raise ZeroDivisionError
    assert str(mg.zeros(1).dtype) == "float32"
