"""What is recorded, and how a tape reads."""

from __future__ import annotations

import re
import threading
from typing import Any

import numpy as np
import pytest

import minigrad as mg


def nodes_of(tape: mg.Tape) -> list[str]:
    return [node.op for node in tape.nodes]


def test_nodes_in_order_with_rising_indices() -> None:
    x = mg.ones((2, 3), requires_grad=True)
    with mg.Tape() as tape:
        y = mg.tanh(x * 2.0)
        z = mg.concat([y, x]).sum(axis=0)
    assert nodes_of(tape) == ["multiply", "tanh", "concat", "sum"]
    assert len(tape) == 4
    indices = [node.index for node in tape.nodes]
    assert indices == sorted(set(indices))
    multiply, tanh, concat, total = tape.nodes
    assert multiply.inputs == [x, 2.0]
    assert tanh.inputs[0] is multiply
    assert concat.inputs[0] is tanh
    assert concat.inputs[1] is x
    assert total is z.node
    assert total.attrs == {"axis": 0, "keepdims": False}
    assert [node.shape for node in tape.nodes] == [(2, 3), (2, 3), (4, 3), (3,)]
    assert repr(tanh) == f"<Node {tanh.index} tanh (2, 3)>"


def test_a_tape_also_notes_what_needs_no_gradient() -> None:
    with mg.Tape() as tape:
        mask = mg.ones(2) > 0.0
        drawn = mg.normal(shape=(2,))
        y = mask * drawn
    assert nodes_of(tape) == ["greater", "normal", "multiply"]
    assert not y.requires_grad
    with pytest.raises(RuntimeError, match="needs no gradient"):
        y.sum().backward()


def test_gradients_are_the_same_under_a_tape() -> None:
    def slope() -> Any:
        x = mg.tensor([1.0, -2.0, 3.0], requires_grad=True)
        index = mg.argmax(x) - 1
        y = mg.where(x > 0, x * x, mg.ones(3) * 2.0) * x[index] + mg.sign(x) * x
        return mg.grad(y.sum(), x)[0].numpy()

    plain = slope()
    with mg.Tape():
        taped = slope()
    np.testing.assert_array_equal(taped, plain)
    assert plain.tolist() == [-3.0, 11.0, -11.0]


def test_plain_backward_is_not_on_the_tape_and_a_recorded_one_is() -> None:
    x = mg.tensor(2.0, requires_grad=True)
    with mg.Tape() as tape:
        mg.grad(x * x, x)
        assert nodes_of(tape) == ["multiply"]
        mg.grad(mg.exp(x), x, create_graph=True)
    assert nodes_of(tape) == ["multiply", "exp", "multiply"]


def test_printed() -> None:
    w = mg.Parameter(mg.ones((3, 2)))
    w.name = "cell.weight"
    x = mg.ones((2, 3))
    with mg.Tape() as tape:
        h = x @ w
        h[mg.tensor([[0], [1]])] + mg.ones(2)
    lines = str(tape).splitlines()
    assert [line.split() for line in lines] == [
        ["node", "op", "inputs", "shape", "attributes"],
        ["%0", "matmul", "constant(2,", "3),", "cell.weight(3,", "2)", "(2,", "2)"],
        ["%1", "getitem", "%0", "(2,", "1,", "2)", "index=array(2,", "1)"],
        ["%2", "add", "%1,", "constant(2)", "(2,", "1,", "2)"],
    ]
    assert lines[0].index("shape") == lines[2].index("(2, 1, 2)")


def test_inputs_from_outside_the_tape_are_named_by_their_operation() -> None:
    h = mg.exp(mg.ones(2, requires_grad=True))
    with mg.Tape() as tape:
        mg.negative(h)
    assert str(tape).splitlines()[1].split() == ["%0", "negative", "exp(2)", "(2)"]


def test_as_dot() -> None:
    x = mg.ones(2, requires_grad=True)
    with mg.Tape() as tape:
        y = mg.tanh(x * 2.0)
        y + x
    dot = tape.to_dot()
    assert dot.startswith("digraph tape {")
    assert dot.endswith("}")
    assert re.findall(r"(\w+) \[shape=box, label=\"(.*?)\"\]", dot) == [
        ("n0", r"multiply\n(2)"),
        ("n1", r"tanh\n(2)"),
        ("n2", r"add\n(2)"),
    ]
    assert re.findall(r"(\w+) \[shape=ellipse, label=\"(.*?)\"\]", dot) == [("leaf0", "leaf(2)"), ("leaf1", "2.0")]
    edges = [("leaf0", "n0"), ("leaf1", "n0"), ("n0", "n1"), ("n1", "n2"), ("leaf0", "n2")]
    assert re.findall(r"(\w+) -> (\w+)", dot) == edges


def test_no_grad_and_enable_grad() -> None:
    x = mg.ones(2, requires_grad=True)
    with mg.no_grad():
        constant = x * 2
        with mg.enable_grad():
            recorded = x * 2
        assert not (x * 2).requires_grad
    assert not constant.requires_grad
    assert constant.node is None
    assert recorded.requires_grad
    assert (x * 2).requires_grad


def test_no_grad_ends_with_an_error() -> None:
    x = mg.ones(2, requires_grad=True)
    with pytest.raises(ValueError, match="reshape"), mg.no_grad():
        x.reshape(3)
    assert (x * 2).requires_grad


def test_no_grad_inside_a_tape_and_tapes_inside_one_another() -> None:
    x = mg.ones(2, requires_grad=True)
    with mg.Tape() as outer:
        with mg.no_grad():
            x + 1
        with mg.Tape() as inner:
            mg.exp(x)
            with mg.enable_grad():
                mg.sin(x)
        mg.tanh(x)
    assert nodes_of(inner) == ["exp", "sin"]
    assert nodes_of(outer) == ["add", "tanh"]
    mg.cos(x)
    assert nodes_of(outer) == ["add", "tanh"]


def test_an_empty_tape_is_true() -> None:
    with mg.Tape() as tape:
        assert tape
        assert len(tape) == 0
    assert str(tape).split() == ["node", "op", "inputs", "shape", "attributes"]


@pytest.mark.host_only("threads, not arrays")
def test_what_one_thread_records_is_its_own() -> None:
    x = mg.ones(2, requires_grad=True)
    found: list[bool] = []
    with mg.no_grad(), mg.Tape() as tape:
        thread = threading.Thread(target=lambda: found.append((x * 2).requires_grad))
        thread.start()
        thread.join()
    assert found == [True]
    assert len(tape) == 0


def test_a_tape_notes_what_needs_no_gradient_and_gives_it_none() -> None:
    x, p = mg.tensor([2.0, 3.0]), mg.tensor([1.0, 1.0], requires_grad=True)
    with mg.Tape() as tape:
        c = x * x
        with mg.no_grad():
            quiet = p * 2.0
    assert nodes_of(tape) == ["multiply", "multiply"]
    assert not c.requires_grad
    assert not quiet.requires_grad
    for _ in range(2):  # the constant's history is not walked, so it is not used up
        (p * c).sum().backward()
    np.testing.assert_array_equal(p.grad.numpy(), [8, 18])
    with mg.Tape() as tape:
        mg.tanh(c)
        total = (p * 1.0).sum()
        total.backward()
        (p * 1.0).sum().backward()
    assert nodes_of(tape) == ["tanh", "multiply", "sum", "multiply", "sum"]  # no trace of adding to p.grad
