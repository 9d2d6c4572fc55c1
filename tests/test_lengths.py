"""The last outputs of sequences of different lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.testing import check_gradients


def by_hand(ys: Any, lengths: Any) -> Any:
    """`ys[length - 1]` of each sequence, as a loop says it."""
    return np.stack([ys[n - 1, b] if n else np.zeros_like(ys[0, b]) for b, n in enumerate(lengths)])


@pytest.mark.parametrize("lengths", [[5, 2, 1], [0, 5, 3], [0, 0, 0], [5, 5, 5]])
@pytest.mark.parametrize("shape", [(), (4,), (2, 3)])
@pytest.mark.parametrize("batch_first", [False, True])
def test_each_sequence_gives_its_own_last_step(lengths: list[int], shape: Any, batch_first: bool) -> None:
    ys = np.random.default_rng(0).normal(size=(5, 3, *shape))
    given = mg.tensor(ys.swapaxes(0, 1).copy() if batch_first else ys)
    for kind in (lengths, tuple(lengths), np.array(lengths), mg.tensor(lengths)):
        last = mg.last_outputs(given, kind, batch_first=batch_first)
        assert last.dtype == given.dtype
        np.testing.assert_array_equal(last.numpy(), by_hand(ys, lengths))


def test_without_lengths_all_end_at_the_end_and_there_may_be_nothing() -> None:
    ys = mg.normal(shape=(4, 3, 2))
    np.testing.assert_array_equal(mg.last_outputs(ys).numpy(), ys.numpy()[-1])
    np.testing.assert_array_equal(mg.last_outputs(ys, batch_first=True).numpy(), ys.numpy()[:, -1])
    np.testing.assert_array_equal(mg.last_outputs(ys[:0], [0, 0, 0]).numpy(), np.zeros((3, 2), "float32"))
    assert mg.last_outputs(ys[:, :0], []).shape == (0, 2)


@pytest.mark.host_only("float64")
@pytest.mark.parametrize("lengths", [[4, 2, 1], [0, 4, 3]])
def test_gradients_reach_the_last_steps_alone(lengths: list[int]) -> None:
    ys = mg.tensor(np.random.default_rng(0).normal(size=(4, 3, 2)), requires_grad=True)
    for result in check_gradients(lambda ys: mg.last_outputs(ys, lengths), ys):
        assert result.status == "passed", result
    mg.last_outputs(ys, lengths).sum().backward()
    expected = np.zeros((4, 3, 2))
    for b, n in enumerate(lengths):
        expected[n - 1 : n, b] = 1
    np.testing.assert_array_equal(ys.grad.numpy(), expected)


def test_padding_is_not_looked_at() -> None:
    ys = np.ones((3, 2, 1), "float32")
    ys[1:, 0] = np.nan
    ys[:, 1] = np.inf
    np.testing.assert_array_equal(mg.last_outputs(mg.tensor(ys), [1, 0]).numpy(), [[1.0], [0.0]])


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_of_a_layer_it_is_the_last_state(cell: str) -> None:
    ys, state = mg.recurrent(cell, 2, 3)(mg.normal(shape=(5, 4, 2)), lengths=[5, 1, 3, 0])
    h = state[0] if isinstance(state, tuple) else state
    np.testing.assert_array_equal(mg.last_outputs(ys, [5, 1, 3, 0]).numpy(), h.numpy())


@pytest.mark.host_only("messages")
def test_what_does_not_fit_is_named() -> None:
    ys = mg.ones((4, 3, 2))
    for wrong, message in (
        (lambda: mg.last_outputs(ys, [4, 4]), "lengths must have 3 entries"),
        (lambda: mg.last_outputs(ys, [4, 5, 1]), r"lengths\[1\] is 5; it must be in 0\.\.4"),
        (lambda: mg.last_outputs(ys, [1, -1, 1]), r"lengths\[1\] is -1"),
        (lambda: mg.last_outputs(ys, [1.0, 1.0, 1.0]), "lengths must be integers"),
        (lambda: mg.last_outputs(mg.ones(3)), r"takes outputs of shape \(T, B, \.\.\.\); these are \(3,\)"),
        (lambda: mg.last_outputs(mg.ones(3), batch_first=True), r"takes outputs of shape \(B, T, \.\.\.\)"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            wrong()
