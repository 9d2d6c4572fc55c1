"""Optimizers saved in the middle of a run go on bit for bit, also through a file; what does not fit is refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from minigrad_optimizers_extra import Lion, Lookahead, NAdam, RAdam, lookahead

import minigrad as mg
from minigrad.optimizers import SGD, Adam

MAKE = {
    "lion": lambda params: Lion(params, lr=0.01, weight_decay=0.1),
    "nadam": lambda params: NAdam(params, lr=0.01, momentum_decay=0.1),
    "radam": lambda params: RAdam(params, lr=0.01),
    "lookahead": lambda params: lookahead(params, lr=0.01, k=4),
    "lookahead-momentum": lambda params: lookahead(params, "sgd", 5, 0.3, lr=0.01, momentum=0.9),
    "lookahead-groups": lambda params: Lookahead(
        Adam([{"params": list(params)[:1]}, {"params": list(params)[1:], "lr": 0.1}]), k=3
    ),
    "lookahead-lookahead": lambda params: Lookahead(lookahead(params, "radam", k=3), k=2),
}


def parameters(dtype):
    generator = np.random.default_rng(0)
    return [mg.Parameter(generator.standard_normal(shape).astype(dtype)) for shape in ((3, 2), (4,), ())]


def descend(optimizer, params, steps):
    for step in range(steps):
        optimizer.zero_grad()
        used = params if step % 3 else params[:2]
        sum(mg.log(mg.square(p - 0.5) + 1).sum() for p in used).backward()
        optimizer.step()


def values(params):
    return [p.numpy().copy() for p in params]


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("before", range(8))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_saved_optimizer_goes_on_bit_for_bit(name, before, dtype, tmp_path):
    params = parameters(dtype)
    optimizer = MAKE[name](params)
    descend(optimizer, params, before)
    optimizer.groups[0]["lr"] = 0.07
    mg.save_checkpoint(tmp_path / "run.safetensors", {"optimizer": optimizer.state_dict()})
    saved, weights = mg.load_checkpoint(tmp_path / "run.safetensors")["optimizer"], values(params)
    others = [mg.Parameter(value) for value in weights]
    other = MAKE[name](others)
    descend(other, others, 1)  # of which nothing may remain
    other.load_state_dict(saved)
    for parameter, value in zip(others, weights, strict=True):
        parameter.data = mg.tensor(value).data
    assert other.groups[0]["lr"] == 0.07
    descend(optimizer, params, 9)
    descend(other, others, 9)
    for found, expected in zip(values(others), values(params), strict=True):
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, expected)


def test_a_state_dict_is_a_copy():
    params = parameters("float32")
    optimizer = lookahead(params, "sgd", k=4, lr=0.1)
    descend(optimizer, params, 2)
    saved = optimizer.state_dict()
    kept = [state["slow"].copy() for state in saved["state"]]
    other = lookahead(parameters("float32"), "sgd", k=4, lr=0.1)
    other.load_state_dict(saved)
    descend(optimizer, params, 1)
    for state, before in zip(saved["state"], kept, strict=True):
        np.testing.assert_array_equal(state["slow"], before)
        state["slow"][...] = 99
    for found in (*optimizer.state_dict()["state"], *other.state_dict()["state"]):
        assert (found["slow"] != 99).all()


MISFITS = {
    "a key is gone": (lambda s: s.pop("state"), "missing: state"),
    "another algorithm": (lambda s: s.update(algorithm="Adam"), "it is of the algorithm Adam"),
    "another optimizer": (lambda s: s["optimizer"].update(algorithm="Adam"), "does not fit this SGD"),
    "fewer parameters": (lambda s: s["state"].pop(), "the state of 2 parameters; this one has 3"),
    "another shape": (
        lambda s: s["state"][1].update(slow=np.zeros(9)),
        r"state\[1\]: slow has shape \(9,\); .* \(4,\)",
    ),
    "no array": (lambda s: s["state"][1].update(slow="x"), r"state\[1\]: slow has shape str"),
    "integers": (lambda s: s["state"][1].update(slow=np.zeros(4, "int64")), r"state\[1\]: slow is int64"),
    "other state": (lambda s: s["state"][1].update(mean=1), r"state\[1\]: it has steps, slow, mean; it must have"),
    "k": (lambda s: s.update(k=0), "k is 0"),
    "alpha": (lambda s: s.update(alpha=2), "alpha is 2"),
    "steps": (lambda s: s["state"][0].update(steps=4), r"state\[0\]: steps is 4; it must be .* less than k, 4"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_a_state_dict_that_does_not_fit_changes_nothing(case):
    spoil, message = MISFITS[case]
    source = parameters("float32")
    optimizer = lookahead(source, "sgd", k=4, lr=0.1, momentum=0.9)
    descend(optimizer, source, 2)
    saved = optimizer.state_dict()
    spoil(saved)
    params = parameters("float32")
    target = lookahead(params, "sgd", k=3, alpha=0.7, lr=0.2)
    descend(target, params, 1)
    before = target.state_dict()
    with pytest.raises(mg.StateDictError, match="nothing was loaded") as caught:
        target.load_state_dict(saved)
    caught.match(message)
    after = target.state_dict()
    assert {key: after[key] for key in ("k", "alpha")} == {"k": 3, "alpha": 0.7}
    assert after["optimizer"]["groups"] == before["optimizer"]["groups"]
    assert any(state for state in before["state"])
    for found, expected in zip(after["state"], before["state"], strict=True):
        assert found.keys() == expected.keys()
        np.testing.assert_array_equal(found.get("slow", 0), expected.get("slow", 0))


def _one():
    return [mg.Parameter([1.0])]


BAD = {
    "parameters": (lambda: Lookahead(_one()), TypeError, r"Lookahead takes an optimizer, with groups, step.*; got \["),
    "a class": (lambda: Lookahead(SGD), TypeError, "got <class"),
    "k 0": (lambda: lookahead(_one(), k=0), ValueError, "k is 0; it must be a number of steps, an integer >= 1"),
    "half a step": (lambda: lookahead(_one(), k=2.5), ValueError, "k is 2.5"),
    "True": (lambda: lookahead(_one(), k=True), ValueError, "k is True"),
    "alpha 0": (lambda: lookahead(_one(), alpha=0), ValueError, r"alpha is 0; it must be a number in \(0, 1\]"),
    "alpha 2": (lambda: lookahead(_one(), alpha=2), ValueError, "alpha is 2"),
    "text": (lambda: lookahead(_one(), alpha="0.5"), ValueError, "alpha is '0.5'"),
    "no parameters": (lambda: lookahead([]), ValueError, r"model.parameters\(\) is empty"),
    "unknown": (lambda: lookahead(_one(), "sgd", betas=(0, 0)), TypeError, "SGD has no betas"),
    "no such optimizer": (lambda: lookahead(_one(), "adan"), mg.UnknownNameError, "did you mean 'adam'"),
    "lr": (lambda: Lion(_one(), lr=-1), ValueError, "lr is -1"),
    "betas of Lion": (lambda: Lion(_one(), betas=(0.9, 1.0)), ValueError, r"betas is \(0.9, 1.0\)"),
    "betas of NAdam": (lambda: NAdam(_one(), betas=0.9), ValueError, "betas is 0.9"),
    "momentum_decay": (lambda: NAdam(_one(), momentum_decay=-1), ValueError, "momentum_decay is -1"),
    "amsgrad": (lambda: NAdam(_one(), amsgrad=True), TypeError, "NAdam has no amsgrad"),
    "a flag": (lambda: RAdam(_one(), decoupled_weight_decay=1), ValueError, "decoupled_weight_decay is 1; .* True"),
    "eps": (lambda: RAdam(_one(), eps=-1), ValueError, "eps is -1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call()


def test_by_name():
    made = {name: mg.optimizer(name, _one(), lr=0.1) for name in ("lion", "nadam", "radam", "lookahead")}
    assert [type(optimizer) for optimizer in made.values()] == [Lion, NAdam, RAdam, Lookahead]
    assert all(optimizer.groups[0]["lr"] == 0.1 for optimizer in made.values())
    assert type(made["lookahead"].optimizer) is Adam
    assert (made["lookahead"].k, made["lookahead"].alpha) == (5, 0.5)


def test_the_readme_runs():
    blocks = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[1] / "README.md").read_text("utf-8"), re.DOTALL)
    assert blocks
    exec("\n".join(blocks), {})
