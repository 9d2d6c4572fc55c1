"""Variational masks: the same at every step of a sequence, others in the next, carried over by truncated BPTT."""

from __future__ import annotations

import numpy as np
import pytest
from minigrad_regularizers import VariationalDropout
from odd_cells import SIZE, Echo

import minigrad as mg

ALLOWED = np.array([0, 1 / (1 - 0.5)])


def echo(state_p=0.5):
    return mg.Recurrent(VariationalDropout(Echo(), state_p=state_p, input_p=0.5))


def seen(layer, steps=7, batch=40, state=None):
    ys, last = layer(np.ones((steps, batch, SIZE)), state)
    return np.split(ys.numpy(), 3, axis=-1), last


@pytest.mark.parametrize("engine", ["plan", "tape"])
def test_masks_stay_the_same_over_time_and_differ_between_sequences(engine):
    layer = echo(state_p=(0.5, 0.5))
    layer.engine = engine
    parts, _ = seen(layer)
    for part in parts:
        assert set(np.unique(part)) == set(ALLOWED)
        np.testing.assert_array_equal(part, np.broadcast_to(part[0], part.shape))
        assert len(np.unique(part[0], axis=0)) == 2**SIZE
    assert (parts[0] != parts[1]).any()
    assert (parts[1] != parts[2]).any()


def test_one_rate_is_for_the_first_part_of_the_state():
    (_, first, second), (_, masks) = seen(echo())
    assert set(np.unique(first)) == set(ALLOWED)
    np.testing.assert_array_equal(second, 1)
    assert len(masks) == 2


def test_a_state_carries_its_masks_and_a_new_one_has_others():
    layer = echo()
    (first, *_), state = seen(layer)
    (again, *_), last = seen(layer, state=state)
    np.testing.assert_array_equal(again, first)
    assert [mask.numpy().tolist() for mask in last[1]] == [mask.numpy().tolist() for mask in state[1]]
    (other, *_), _ = seen(layer)
    assert (other[0] != first[0]).any()


def test_out_of_training_masks_are_not_used_and_nothing_is_drawn():
    layer = echo()
    _, state = seen(layer)
    layer.eval()
    for given in (state, None):
        (x, *parts), last = seen(layer, state=given)
        np.testing.assert_array_equal(np.stack([x, *parts]), 1)
    np.testing.assert_array_equal(np.concatenate([mask.numpy() for mask in last[1]]), 1)
    mg.seed(3)
    expected = mg.normal().item()
    mg.seed(3)
    seen(layer)
    assert mg.normal().item() == expected


class Recorder(mg.Module):
    """A layer that notes the masks it starts each stretch with."""

    def __init__(self, layer):
        self.layer, self.masks = layer, []

    def init_state(self, batch_size):
        return self.layer.init_state(batch_size)

    def forward(self, x, state):
        state = self.init_state(x.shape[1]) if state is None else state
        self.masks.append([mask.numpy().copy() for mask in state[1]])
        return self.layer(x, state)


@pytest.mark.parametrize("stale", ["recompute", "keep"])
def test_truncated_backpropagation_carries_the_masks_over(stale):
    model = Recorder(mg.Recurrent(VariationalDropout(mg.LSTMCell(3, 4), state_p=0.5, input_p=0.5)))
    x = np.random.default_rng(0).standard_normal((12, 5, 3))
    optimizer = mg.optimizer("sgd", model.parameters(), lr=0.1)
    state = model.init_state(5)
    windows = mg.tbptt(model, x, np.zeros((12, 5, 4)), mg.loss("mse"), state, k1=3, k2=6, stale=stale)
    assert [optimizer.step() for _ in windows] == [None] * 4
    assert len(model.masks) >= 4
    for masks in model.masks[1:]:
        for mask, first in zip(masks, model.masks[0], strict=True):
            np.testing.assert_array_equal(mask, first)


def test_a_reset_gives_the_sequences_that_start_again_new_masks():
    model = mg.Recurrent(VariationalDropout(mg.LSTMCell(3, 50), state_p=0.5, input_p=0.5))
    reset = np.zeros((4, 2), bool)
    reset[2, 1] = True
    x, targets = np.ones((4, 2, 3)), np.zeros((4, 2, 50))
    states = [w.state for w in mg.tbptt(model, x, targets, mg.loss("mse"), k1=2, reset=reset)]
    before, after = (state[1][1].numpy() for state in states)
    np.testing.assert_array_equal(after[0], before[0])
    assert (after[1] != before[1]).any()
    assert set(np.unique(after)) == {0.0, 2.0}
