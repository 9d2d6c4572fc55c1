"""Batches by length: every example once an epoch, lengths and padding right, the same order again by seed and place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.train import Batches

host_only = pytest.mark.host_only("indices are drawn on the host")


def sequences(lengths: list[int]) -> list[Any]:
    """Examples (x, y, number): x of `length` rows that tell whose they are and when, y of another length."""
    return [
        (np.array([[i, t] for t in range(n)], "float32").reshape(n, 2), [100 * i + t for t in range(n // 2)], i)
        for i, n in enumerate(lengths)
    ]


@host_only
@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=40),
    batch_size=st.integers(1, 12),
    shuffle=st.booleans(),
    bucket=st.booleans(),
    epoch=st.integers(0, 3),
    pool=st.integers(1, 3),
)
def test_every_example_comes_once_with_its_values(
    lengths: list[int], batch_size: int, shuffle: bool, bucket: bool, epoch: int, pool: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("minigrad.train.batches.POOL", pool)
        data = Batches(sequences(lengths), batch_size, shuffle, bucket, seed=1)
        batches = list(data.batches(epoch))
        fraction = data.padding(epoch)
    assert len(batches) == len(data) == -(-len(lengths) // batch_size)
    assert sorted(batch.size for batch in batches)[1:] == [batch_size] * (len(batches) - 1)
    assert sorted(i for batch in batches for i in batch.indices) == list(range(len(lengths)))
    all_steps = real_steps = 0
    for batch in batches:
        x, y, number = batch
        assert number.numpy().tolist() == batch.indices
        assert batch.lengths == ([lengths[i] for i in batch.indices], [lengths[i] // 2 for i in batch.indices], None)
        assert x.shape == (max(batch.lengths[0]), batch.size, 2)
        assert y.shape == (max(batch.lengths[1]), batch.size)
        expected_x, expected_y = np.zeros(x.shape), np.zeros(y.shape)
        for b, i in enumerate(batch.indices):
            for t in range(lengths[i]):
                expected_x[t, b] = [i, t]
            for t in range(lengths[i] // 2):
                expected_y[t, b] = 100 * i + t
        np.testing.assert_array_equal(x.numpy(), expected_x)
        np.testing.assert_array_equal(y.numpy(), expected_y)
        all_steps += x.shape[0] * batch.size + y.shape[0] * batch.size
        real_steps += sum(batch.lengths[0]) + sum(batch.lengths[1])
    assert fraction == pytest.approx(1 - real_steps / all_steps if all_steps else 0)


@host_only
@pytest.mark.parametrize("bucket", [True, False])
def test_the_order_follows_from_seed_and_epoch_alone(bucket: bool) -> None:
    examples = sequences([n % 7 for n in range(50)])
    data = Batches(examples, 4, bucket=bucket, seed=3)
    orders = [data.order(epoch) for epoch in range(3)]
    assert orders[0] != orders[1] != orders[2]
    assert Batches(examples, 4, bucket=bucket, seed=3).order(2) == orders[2]
    assert Batches(examples, 4, bucket=bucket, seed=4).order(2) != orders[2]
    assert [batch.indices for batch in data.batches(1, start=5)] == orders[1][5:]
    mg.seed(8)
    first, second = (Batches(examples, 4, bucket=bucket) for _ in range(2))
    assert first.order(0) != second.order(0)
    mg.seed(8)
    assert Batches(examples, 4, bucket=bucket).order(0) == first.order(0)
    assert first.order(None) == second.order(None)


@host_only
def test_buckets_hold_little_padding_and_are_not_the_same_each_epoch() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 2000).tolist()
    examples = [([0.0] * n,) for n in lengths]
    bucketed, plain = Batches(examples, 16, seed=0), Batches(examples, 16, bucket=False, seed=0)
    assert plain.padding(0) > 0.4
    assert bucketed.padding(0) < 0.06
    companions = [{i: set(batch) for batch in bucketed.order(epoch) for i in batch} for epoch in range(2)]
    shared = [len(companions[0][i] & companions[1][i]) - 1 for i in range(2000)]
    assert np.mean(shared) < 5  # of 15
    means = [np.mean([lengths[i] for i in batch]) for batch in bucketed.order(0)]
    assert abs(np.corrcoef(means, range(len(means)))[0, 1]) < 0.3  # long and short ones take turns


def test_fields_keep_their_dtypes_on_the_current_backend(backend: Any) -> None:
    x64, empty = np.arange(3.0), np.zeros((0,))
    examples = [
        (x64, [1, 2], [True], mg.tensor([[1.0]]), 1.5, 2),
        (empty, [], [False, True], [], 2, 3),
        (x64, [0.5], [], mg.tensor([[2.0]]), 2, 3),
    ]
    (batch,) = Batches(examples, 3, shuffle=False, bucket=False).batches()
    assert [field.dtype.name for field in batch] == ["float64", "float32", "bool", "float32", "float32", "int64"]
    assert [field.shape for field in batch] == [(3, 3), (2, 3), (2, 3), (1, 3, 1), (3,), (3,)]
    assert all(field.backend is backend for field in batch)
    assert batch[1].numpy().tolist() == [[1, 0, 0.5], [2, 0, 0]]
    assert batch[2].numpy().tolist() == [[True, False, False], [False, True, False]]


@host_only
def test_examples_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ValueError, match="there are no examples"):
        Batches([], 2)
    for batch_size in (0, -1, 2.0, True):
        with pytest.raises(ValueError, match="batch_size"):
            Batches([(1,)], batch_size)
    with pytest.raises(TypeError, match=r"examples\[1\] is a list"):
        Batches([(1,), [1]], 2)
    with pytest.raises(TypeError, match=r"examples\[1\] is a tuple of 2"):
        Batches([(1,), (1, 2)], 2)
    with pytest.raises(ValueError, match=r"examples\[1\]\[0\] has shape \(2,\), and others \(1, 2\)"):
        Batches([([[1, 2]],), ([1, 2],)], 2)
    with pytest.raises(ValueError, match=r"examples\[1\]\[0\] has shape \(\), and others \(1,\)"):
        Batches([([1],), (1,)], 2)
    with pytest.raises(ValueError, match=r"examples\[0\]\[1\]: cannot make an array of \[\[1\], \[2, 3\]\]"):
        Batches([(1, [[1], [2, 3]])], 2)


def test_fixed_fields_are_stacked_without_lengths(backend: Any) -> None:
    draw = np.random.default_rng(0)
    made = [(draw.normal(size=n), draw.normal(size=3), draw.normal(size=(2, 2)), n) for n in (4, 0, 2, 2, 7)]
    data = Batches(made, 2, fixed=(1, 2))
    seen = set()
    for batch in data.batches(0):
        texts, vectors, matrices, labels = batch
        assert texts.backend is vectors.backend is backend
        assert batch.lengths == ([len(made[i][0]) for i in batch.indices], None, None, None)
        np.testing.assert_array_equal(vectors.numpy(), [made[i][1] for i in batch.indices])
        np.testing.assert_array_equal(matrices.numpy(), [made[i][2] for i in batch.indices])
        np.testing.assert_array_equal(labels.numpy(), [made[i][3] for i in batch.indices])
        seen |= set(batch.indices)
    assert seen == set(range(5))
    plain = Batches([(text, n) for text, _, _, n in made], 2, seed=data.seed)
    assert data.order(0) == plain.order(0)  # they say nothing of lengths
    assert data.padding(0) == plain.padding(0)
    with pytest.raises(ValueError, match="sha256 was"):
        Batches([(*example[:2], example[2][:1], example[3]) for example in made], 2, fixed=(1, 2)).load_state_dict(
            data.state_dict()
        )


@pytest.mark.host_only("messages")
def test_fixed_fields_that_are_not_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"examples\[1\]\[0\] has shape \(3,\), and others \(2,\): a fixed field holds"
    ):
        Batches([([1, 2], 0), ([1, 2, 3], 0)], 2, fixed=[0])
    with pytest.raises(
        ValueError, match=r"examples\[1\]\[0\] has shape \(0,\), and others \(2,\): a fixed field holds"
    ):
        Batches([([1, 2], 0), ([], 0)], 2, fixed=[0])
    for wrong in ([2], [-1], ["x"], 1):
        with pytest.raises(ValueError, match="fixed lists numbers of fields, of which there are 2, from 0; got"):
            Batches([([1, 2], 0)], 2, fixed=wrong)  # type: ignore[arg-type]
