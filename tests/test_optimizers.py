"""One table for all optimizers: PyTorch's paths, pure updates, saving in the middle, groups, and bad input."""

from __future__ import annotations

import copy
import inspect
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad.optimizers import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop, minigrad_optimizers

with np.load(Path(__file__).parent / "golden" / "optimizers.npz") as _file:
    GOLDEN = {name: _file[name] for name in _file.files}
CASES = json.loads(str(GOLDEN["cases"]))
BY_NAME = {"sgd": SGD, "rmsprop": RMSprop, "adagrad": Adagrad, "adam": Adam, "adamw": AdamW}
FULL = [
    (SGD, {"lr": 0.1}),
    (SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    (SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}),
    (RMSprop, {"lr": 0.1}),
    (RMSprop, {"lr": 0.1, "momentum": 0.5, "centered": True, "weight_decay": 0.1}),
    (Adagrad, {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.1}),
    (Adam, {"lr": 0.1}),
    (Adam, {"lr": 0.1, "weight_decay": 0.1, "amsgrad": True}),
    (AdamW, {"lr": 0.1, "weight_decay": 0.1, "amsgrad": True}),
]
table = pytest.mark.parametrize(("algorithm", "options"), FULL)
each = pytest.mark.parametrize("algorithm", BY_NAME.values())


def parameters(dtype="float32"):
    """Parameters of three shapes, 0-d among them."""
    generator = np.random.default_rng(0)
    return [mg.Parameter(generator.standard_normal(shape).astype(dtype)) for shape in ((3, 2), (4,), ())]


def descend(optimizer, params, steps):
    """Steps on a function that is not quadratic."""
    for _ in range(steps):
        optimizer.zero_grad()
        loss = mg.sum(mg.stack([mg.log(mg.square(p - 0.5) + 1).sum() for p in params]))
        loss.backward()
        optimizer.step()
    return loss.item()


def values(params):
    return [p.numpy().copy() for p in params]


def assert_same(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype


# --- what an update computes


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_fifty_steps_are_pytorchs(name, dtype):
    count = 0
    for number, case in enumerate(CASES):
        start = GOLDEN[f"{number}/start"]
        if case["name"] != name or start.dtype != dtype:
            continue
        weights = mg.Parameter(start)
        optimizer = mg.optimizer(
            name, [weights], **{k: tuple(v) if k == "betas" else v for k, v in case["options"].items()}
        )
        path = []
        for step, gradient in enumerate(GOLDEN[f"{number}/gradients"]):
            weights.grad = mg.tensor(gradient)
            optimizer.step()
            if step % 10 == 9:
                path.append(weights.numpy().copy())
        assert weights.dtype == dtype
        tolerance = 1e-12 if dtype == "float64" else 2e-5
        np.testing.assert_allclose(path, GOLDEN[f"{number}/path"], rtol=0, atol=tolerance, err_msg=str(case))
        assert np.abs(path[-1] - start).max() > 0.03
        count += 1
    assert count >= 5


@table
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_update_is_pure(backend, algorithm, options, dtype):
    """Its arguments stay as they are, what it returns is new, and the same arguments give the same result."""
    generator = np.random.default_rng(1)
    defaults = {
        n: p.default for n, p in inspect.signature(algorithm.update).parameters.items() if p.kind is p.KEYWORD_ONLY
    }
    hyperparameters = {**defaults, **options}
    array, state = backend.asarray(generator.standard_normal(5).astype(dtype)), {}
    for _ in range(3):
        gradient = backend.asarray(generator.standard_normal(5).astype(dtype))
        given = [array, gradient, *(value for value in state.values() if hasattr(value, "shape"))]
        before = [backend.to_host(value).copy() for value in given]
        keys = dict(state)
        new, new_state = algorithm.update(array, gradient, state, **hyperparameters)
        again, again_state = algorithm.update(array, gradient, state, **hyperparameters)
        assert_same([backend.to_host(value) for value in given], before)
        assert state.keys() == keys.keys()
        assert all(state[key] is value for key, value in keys.items())
        assert_same([backend.to_host(new)], [backend.to_host(again)])
        assert np.abs(backend.to_host(new) - before[0]).min() > 0
        results = [new, *(value for value in new_state.values() if hasattr(value, "shape"))]
        assert all(result is not value for result in results for value in given)
        assert all(result.dtype == dtype for result in results)
        assert new_state.keys() == again_state.keys() <= {*algorithm.required_state, *algorithm.optional_state}
        assert new_state.keys() >= set(algorithm.required_state)
        array, state = new, new_state


@table
def test_it_descends(algorithm, options):
    params = parameters()
    optimizer = algorithm(params, **{**options, "weight_decay": 0.0} if "weight_decay" in options else options)
    first = descend(optimizer, params, 1)
    assert descend(optimizer, params, 60) < 0.5 * first


@each
def test_a_learning_rate_of_zero_changes_nothing(algorithm):
    params = parameters()
    before = values(params)
    descend(algorithm(params, lr=0.0), params, 3)
    assert_same(values(params), before)


@table
def test_a_step_rebinds_the_data_and_the_tape_knows(algorithm, options):
    weight = mg.Parameter([1.0, 2.0])
    array, before = weight.data, weight.numpy().copy()
    loss = (weight * weight).sum()
    weight.grad = mg.ones(2)
    algorithm([weight], **options).step()
    assert weight.data is not array
    np.testing.assert_array_equal(mg.Tensor(array).numpy(), before)
    with pytest.raises(mg.StaleParameterError):
        loss.backward()


@table
def test_numpy_numbers_do_not_widen(algorithm, options):
    params = parameters()
    optimizer = algorithm(params, **options)
    optimizer.groups[0]["lr"] = np.float64(0.1)
    kinds = [type(p.data) for p in params]
    descend(optimizer, params, 2)
    assert {str(p.dtype) for p in params} == {"float32"}
    assert [type(p.data) for p in params] == kinds
    assert isinstance(optimizer.state_dict()["groups"][0]["lr"], float)


@table
def test_a_gradient_of_another_dtype_is_cast(algorithm, options):
    weight, other = mg.Parameter([1.0, 2.0]), mg.Parameter([1.0, 2.0])
    weight.grad, other.grad = mg.tensor([0.5, -1.0], dtype="float64"), mg.tensor([0.5, -1.0])
    optimizer = algorithm([weight, other], **options)
    optimizer.step()
    assert_same([weight.numpy()], [other.numpy()])
    saved = optimizer.state_dict()["state"][0].values()
    assert all(value.dtype == "float32" for value in saved if isinstance(value, np.ndarray))


def test_a_centred_variance_rounded_below_zero_is_zero(backend):
    gradient = backend.asarray(np.random.default_rng(2).uniform(0.5, 2, 500).astype("float32"))
    weight, state, below = gradient, {}, 0
    for _ in range(60):
        weight, state = RMSprop.update(weight, gradient, state, alpha=0.5, eps=1.0, centered=True)
        variance = state["square_average"] - state["gradient_average"] * state["gradient_average"]
        below += int((variance < 0).sum())
    assert below > 0
    assert np.isfinite(backend.to_host(weight)).all()


# --- missing gradients, groups


@each
def test_a_parameter_without_gradient_is_left_alone(algorithm):
    used, unused = mg.Parameter([1.0]), mg.Parameter([1.0])
    array = unused.data
    optimizer = algorithm([used, unused], lr=0.1, weight_decay=0.5)
    used.grad = mg.ones(1)
    optimizer.step()
    assert unused.data is array
    assert unused not in optimizer.state
    assert used.numpy()[0] < 1
    optimizer.zero_grad()
    assert used.grad is None


@each
def test_groups_have_their_own_hyperparameters(algorithm):
    a, b, c = (mg.Parameter([1.0, -2.0]) for _ in range(3))
    optimizer = algorithm([{"params": [a], "lr": 0.5}, {"params": [("b", b)]}], lr=0.25)
    alone = algorithm([c], lr=0.5)
    for parameter in (a, b, c):
        parameter.grad = mg.tensor([1.0, 3.0])
    optimizer.step()
    alone.step()
    assert_same([a.numpy()], [c.numpy()])
    assert (a.numpy() != b.numpy()).all()
    assert [group["lr"] for group in optimizer.groups] == [0.5, 0.25]
    optimizer.groups[1]["lr"] = 0.0
    before = values([a, b])
    optimizer.step()
    assert (a.numpy() != before[0]).all()
    if algorithm is not AdamW:
        np.testing.assert_array_equal(b.numpy(), before[1])


def test_a_shared_weight_is_updated_once():
    model = mg.Sequential(mg.Linear(2, 2, bias=False), mg.Linear(2, 2, bias=False))
    first, second = (module for _, module in model.named_modules() if isinstance(module, mg.Linear))
    second.weight = first.weight
    optimizer = SGD(model.named_parameters(), lr=1.0)
    before = first.weight.numpy().copy()
    first.weight.grad = mg.ones((2, 2))
    optimizer.step()
    np.testing.assert_array_equal(first.weight.numpy(), before - 1)
    assert len(optimizer.groups[0]["params"]) == 1


# --- saving and loading


def through_files(state_dict):
    """What a checkpoint does: arrays to a file of arrays, all else to JSON."""
    arrays = {
        f"{position}/{name}": value
        for position, state in enumerate(state_dict["state"])
        for name, value in state.items()
        if isinstance(value, np.ndarray)
    }
    rest = {
        **state_dict,
        "state": [{n: v for n, v in state.items() if not isinstance(v, np.ndarray)} for state in state_dict["state"]],
    }
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    buffer.seek(0)
    loaded = json.loads(json.dumps(rest))
    with np.load(buffer, allow_pickle=False) as file:
        for key in file.files:
            position, name = key.split("/")
            loaded["state"][int(position)][name] = file[key]
    return loaded


@table
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("before", [0, 1, 5])
def test_a_saved_optimizer_goes_on_bit_for_bit(algorithm, options, dtype, before):
    params = parameters(dtype)
    optimizer = algorithm(params, **options)
    if before:
        descend(optimizer, params, before)
    optimizer.groups[0]["lr"] = 0.07
    saved, weights = through_files(optimizer.state_dict()), values(params)
    assert all(isinstance(v, np.ndarray | int | float) for state in saved["state"] for v in state.values())
    others = [mg.Parameter(value) for value in weights]
    other = algorithm(others, **{**options, "lr": 0.5})
    other.load_state_dict(saved)
    descend(optimizer, params, 5)
    descend(other, others, 5)
    assert_same(values(others), values(params))
    assert other.groups[0]["lr"] == 0.07
    assert {type(value) for value in other.groups[0].values()} == {
        type(value) for value in optimizer.groups[0].values()
    }


def test_a_state_dict_is_a_copy():
    params = parameters()
    optimizer = Adam(params)
    descend(optimizer, params, 2)
    saved = optimizer.state_dict()
    kept = copy.deepcopy(saved)
    other = Adam(parameters())
    other.load_state_dict(saved)
    for state in saved["state"]:
        state["mean"][...] = 7
    for left, right in zip(optimizer.state_dict()["state"], kept["state"], strict=True):
        np.testing.assert_array_equal(left["mean"], right["mean"])
    for left, right in zip(other.state_dict()["state"], kept["state"], strict=True):
        np.testing.assert_array_equal(left["mean"], right["mean"])


def _fewer(saved):
    saved["state"].pop()
    saved["shapes"].pop()
    saved["groups"][0]["params"].pop()


MISFITS = {
    "a key is gone": (lambda s: s.pop("shapes"), ["missing: shapes"]),
    "another algorithm": (lambda s: s.update(algorithm="AdamW"), ["it is of the algorithm AdamW"]),
    "another number of groups": (lambda s: s["groups"].append(s["groups"][0]), ["it has 2 groups; this one has 1"]),
    "fewer parameters": (
        _fewer,
        ["shapes of 2 parameters; this one has 3", "state of 2 parameters", r"here they are \[0, 1, 2\]"],
    ),
    "another shape": (lambda s: s["shapes"].__setitem__(1, [9]), [r"bias has shape \(9,\); here it is \(4,\)"]),
    "state of another shape": (
        lambda s: s["state"][1].update(mean=np.zeros(9, "float32")),
        [r"state of bias: mean has shape \(9,\)"],
    ),
    "state of integers": (
        lambda s: s["state"][1].update(mean=np.zeros(4, "int64")),
        ["state of bias: mean is int64"],
    ),
    "state that is text": (lambda s: s["state"][1].update(step="x"), ["state of bias: step is 'x'"]),
    "state missing and unknown": (
        lambda s: (s["state"][0].pop("mean"), s["state"][0].update(momentum_buffer=1)),
        ["state of weight: missing: mean", "state of weight: unexpected: momentum_buffer"],
    ),
    "hyperparameters missing and unknown": (
        lambda s: (s["groups"][0].pop("eps"), s["groups"][0].update(alpha=0.5)),
        [r"groups\[0\]: missing: eps", r"groups\[0\]: unexpected: alpha"],
    ),
    "a hyperparameter out of range": (lambda s: s["groups"][0].update(lr=-1), [r"groups\[0\]: lr is -1"]),
}


@pytest.mark.parametrize("case", MISFITS)
def test_a_state_dict_that_does_not_fit_changes_nothing(case):
    spoil, messages = MISFITS[case]
    source = parameters()
    optimizer = Adam(source, lr=0.01)
    descend(optimizer, source, 2)
    saved = optimizer.state_dict()
    spoil(saved)
    params = parameters()
    target = Adam(zip(("weight", "bias", "scale"), params, strict=True), lr=0.02)
    descend(target, params, 1)
    before = target.state_dict()
    with pytest.raises(mg.StateDictError, match="nothing was loaded") as caught:
        target.load_state_dict(saved)
    for message in messages:
        caught.match(message)
    after = target.state_dict()
    assert json.dumps(after["groups"]) == json.dumps(before["groups"])
    for left, right in zip(after["state"], before["state"], strict=True):
        assert left["step"] == right["step"] == 1
        assert_same([left["mean"], left["square"]], [right["mean"], right["square"]])


# --- input that does not fit


def _one():
    return [mg.Parameter([1.0])]


def _twice():
    parameter = mg.Parameter([1.0])
    return [{"params": [parameter]}, {"params": [("again", parameter)]}]


BAD = {
    "no parameters": (lambda: SGD([]), ValueError, r"model.parameters\(\) is empty"),
    "an empty group": (lambda: SGD([{"params": []}]), ValueError, "is empty"),
    "twice": (lambda: SGD(_twice()), ValueError, r"again of shape \(1,\) is there twice"),
    "no parameter": (lambda: SGD([3]), TypeError, r"model.parameters\(\); got 3, which is no tensor"),
    "a constant": (lambda: SGD([mg.ones(2)]), TypeError, "got a constant tensor"),
    "a result": (lambda: SGD([mg.Parameter([1.0]) * 2]), TypeError, "a computed tensor"),
    "a module": (lambda: SGD(mg.Linear(1, 1)), TypeError, "got Linear"),
    "a state dict": (lambda: SGD(mg.Linear(1, 1).state_dict()), TypeError, "got dict"),
    "a group without params": (lambda: SGD([{"params": _one()}, {"lr": 1.0}]), TypeError, "group 1 .* 'params'"),
    "unknown": (lambda: SGD(_one(), betas=(0, 0)), TypeError, "SGD has no betas; it has: lr, momentum, dampening"),
    "unknown in a group": (lambda: Adam([{"params": _one(), "rate": 1}]), TypeError, "Adam has no rate; it has: lr"),
    "negative lr": (lambda: SGD(_one(), lr=-0.1), ValueError, "lr is -0.1; it must be a number >= 0"),
    "NaN": (lambda: SGD(_one(), lr=math.nan), ValueError, "lr is nan"),
    "text": (lambda: SGD(_one(), lr="0.1"), ValueError, "lr is '0.1'; it must be a number"),
    "a group's lr": (lambda: SGD([{"params": _one(), "lr": -1}]), ValueError, "lr is -1"),
    "momentum": (lambda: SGD(_one(), momentum=-1), ValueError, "momentum is -1"),
    "weight decay": (lambda: AdamW(_one(), weight_decay=-1), ValueError, "weight_decay is -1"),
    "eps": (lambda: Adam(_one(), eps=-1), ValueError, "eps is -1"),
    "alpha": (lambda: RMSprop(_one(), alpha=1), ValueError, r"alpha is 1; it must be a number in \[0, 1\)"),
    "lr_decay": (lambda: Adagrad(_one(), lr_decay=-1), ValueError, "lr_decay is -1"),
    "accumulator": (lambda: Adagrad(_one(), initial_accumulator_value=-1), ValueError, "initial_accumulator_value"),
    "betas": (lambda: Adam(_one(), betas=(0.9, 1.0)), ValueError, r"betas is \(0.9, 1.0\); .* 2 numbers in \[0, 1\)"),
    "an array of lr": (lambda: SGD(_one(), lr=np.ones(2)), ValueError, "lr is array"),
    "an array of betas": (lambda: Adam(_one(), betas=np.ones(2)), ValueError, "betas is array"),
    "True for lr": (lambda: SGD(_one(), lr=True), ValueError, "lr is True; it must be a number"),
    "text for a flag": (lambda: Adam(_one(), amsgrad="no"), ValueError, "amsgrad is 'no'; it must be True or False"),
    "three betas": (lambda: Adam(_one(), betas=(0.9, 0.9, 0.9)), ValueError, r"betas is \(0.9, 0.9, 0.9\)"),
    "text among betas": (lambda: Adam(_one(), betas=(0.9, "a")), ValueError, r"betas is \(0.9, 'a'\)"),
    "one beta": (lambda: Adam(_one(), betas=0.9), ValueError, "betas is 0.9; it must be 2 numbers"),
    "nesterov": (lambda: SGD(_one(), nesterov=True), ValueError, "nesterov needs momentum > 0"),
    "dampened nesterov": (
        lambda: SGD(_one(), nesterov=True, momentum=0.9, dampening=0.1),
        ValueError,
        "dampening 0",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call()


def test_a_gradient_of_another_shape_is_refused():
    weight = mg.Parameter([1.0, 2.0])
    weight.grad = mg.ones(())
    with pytest.raises(ValueError, match=r"the gradient of w has shape \(\), not \(2,\)"):
        SGD([("w", weight)]).step()
    np.testing.assert_array_equal(weight.numpy(), [1, 2])


# --- as plugins, and one's own


@pytest.mark.host_only("nothing is computed")
def test_the_hook_offers_all():
    assert dict(minigrad_optimizers()) == BY_NAME
    assert str(inspect.signature(Adagrad)).startswith("(params, *, lr")


def test_an_optimizer_of_ones_own_is_one_function():
    class SignDescent(Optimizer):
        @staticmethod
        def update(parameter, gradient, state, *, lr, scale=1.0):
            return parameter - lr * scale * mg.sign(gradient), {"count": state.get("count", 0) + 1}

    weight = mg.Parameter([1.0, 1.0])
    with pytest.raises(TypeError, match="SignDescent needs lr"):
        SignDescent([weight])
    optimizer = SignDescent([weight], lr=0.5)
    weight.grad = mg.tensor([3.0, -0.1])
    optimizer.step()
    np.testing.assert_array_equal(weight.numpy(), [0.5, 1.5])
    saved = optimizer.state_dict()
    assert saved["state"] == [{"count": 1}]
    other = SignDescent([weight], lr=0.1)
    other.load_state_dict(saved)
    assert other.state_dict() == saved
    saved["groups"][0]["scale"] = "big"  # what the class does not limit is its own affair
    other.load_state_dict(saved)


def test_limits_bind_only_who_declares_them():
    class Lion(Optimizer):
        limits = {"gamma": (1, 2)}  # noqa: RUF012

        @staticmethod
        def update(parameter, gradient, state, *, lr=0.1, alpha=1.5, betas=(0.9, 0.99, 2.0), momentum=-1.0, gamma=1):
            return parameter, state

    assert Lion(_one()).groups[0]["betas"] == (0.9, 0.99, 2.0)
    for name, value in (("lr", -1), ("gamma", 2)):
        with pytest.raises(ValueError, match=f"{name} is {value}"):
            Lion(_one(), **{name: value})
    assert AdamW.limits.keys() == {"lr", "weight_decay", "betas", "eps"}


def test_the_limits_of_a_tuple_bind_each_of_its_numbers():
    class Three(Optimizer):
        limits = {"rates": (0, 2)}  # noqa: RUF012

        @staticmethod
        def update(parameter, gradient, state, *, rates=(0.1, 0.2, 0.3)):
            return parameter, state

    assert Three(_one(), rates=[1, 0.5, np.float32(1.5)]).groups[0]["rates"] == [1, 0.5, np.float32(1.5)]
    for rates in ((1, 1), (1, 1, 2), (1, 1, "1"), 1.0):
        with pytest.raises(ValueError, match=r"rates is .*; it must be 3 numbers in \[0, 2\)"):
            Three(_one(), rates=rates)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"lr": -1}, ValueError, "lr is -1"),
        ({"lr": math.nan}, ValueError, "lr is nan"),
        ({"nesterov": True}, ValueError, "nesterov needs momentum"),
        ({"rate": 1}, TypeError, "SGD has no rate"),
    ],
)
def test_a_step_refuses_changed_hyperparameters_and_updates_nothing(change, error, message):
    first, second = _one() + _one()
    first.grad, second.grad = mg.ones(1), mg.ones(1)
    optimizer = SGD([{"params": [first]}, {"params": [second]}])
    optimizer.groups[1].update(change)
    with pytest.raises(error, match=message):
        optimizer.step()
    assert first.item() == second.item() == 1
    assert isinstance(optimizer.groups[0]["params"], tuple)


def test_a_frozen_parameter_is_taken_and_left_alone():
    frozen, free = _one() + _one()
    frozen.requires_grad = False
    optimizer = SGD([frozen, free], lr=1.0)
    (frozen * free).sum().backward()
    optimizer.step()
    assert (frozen.item(), free.item()) == (1, 0)


def test_a_gradient_that_is_no_tensor_is_refused():
    weight = mg.Parameter([1.0])
    weight.grad = np.ones(1)
    with pytest.raises(TypeError, match="the gradient of w is no tensor but ndarray"):
        SGD([("w", weight)]).step()
