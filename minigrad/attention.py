"""Attention: a query's weighted mean over the steps of a sequence, with the weights of a scoring function."""

from __future__ import annotations

from math import isfinite, sqrt
from numbers import Real
from typing import Any

from minigrad import init
from minigrad.backend import is_floating
from minigrad.layers import check_size, converting
from minigrad.lengths import Mask, silence
from minigrad.module import Module
from minigrad.ops import expand_dims, linear, matmul, matrix_transpose, permute_dims, softmax, squeeze, tanh, where
from minigrad.tensor import Parameter, Tensor, as_tensor

__all__ = ["AdditiveAttention", "Attention", "DotAttention"]


class Attention(Module):
    """Base class of attention over the S steps of a sequence: subclass it, and write `score`.

        e_s = score(query, keys_s)
        a_s = exp(e_s) / sum_r exp(e_r)                       (over the steps r that count; 0 for others)
        context = sum_s a_s values_s

    A cell attends to a memory that it carries in its state, with the batch first as everywhere in a state; or to a
    tensor among its attributes. The plan runs both, and computes once per sequence what depends on the memory alone.
    For a memory in an attribute it compiles anew when that is another tensor; for one in the state it does not.

    >>> from minigrad.attention import AdditiveAttention
    >>> class Decoder(mg.Cell):
    ...     def __init__(self, input_size, hidden_size, key_size, steps):
    ...         self.attention = AdditiveAttention(hidden_size, key_size, hidden_size)
    ...         self.inner = mg.GRUCell(input_size + key_size, hidden_size)
    ...         self.key_size, self.steps = key_size, steps
    ...     def init_state(self, batch_size):
    ...         keys = mg.zeros((batch_size, self.steps, self.key_size))
    ...         return self.inner.init_state(batch_size), keys, mg.ones((batch_size, self.steps), dtype="bool")
    ...     def step(self, x, state):
    ...         h, keys, mask = state
    ...         context, _ = self.attention(h, mg.permute_dims(keys, (1, 0, 2)), mask=mask.T)
    ...         y, h = self.inner.step(mg.concat([x, context], axis=-1), h)
    ...         return y, (h, keys, mask)
    >>> keys, lengths = mg.normal(shape=(7, 2, 4)), mg.tensor([7, 5])            # what an encoder gave
    >>> mask = mg.expand_dims(lengths, -1) > mg.arange(7)                        # (B, S)
    >>> decoder = mg.Recurrent(Decoder(3, 6, 4, steps=7), engine="plan")
    >>> ys, _ = decoder(mg.ones((5, 2, 3)), (mg.zeros((2, 6)), mg.permute_dims(keys, (1, 0, 2)), mask))
    >>> ys.shape
    (5, 2, 6)

    Source: Bahdanau et al. (2015), section 3.1; Luong et al. (2015), section 3.
    """

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        """The scores (B, S) of a query (B, Q) against keys (B, S, K): here the batch is first."""
        raise NotImplementedError(f"{type(self).__name__} must define score(self, query, keys) -> scores (B, S)")

    def forward(
        self, query: Any, keys: Any, values: Any = None, lengths: Any = None, mask: Any = None
    ) -> tuple[Tensor, Tensor]:
        """Attend.

        Args:
            query: (B, Q).
            keys: (S, B, K); S may be 0.
            values: (S, B, V); by default the keys.
            lengths: (B,) integers in 0..S: how many steps of each sequence count. In a cell's step that the plan is
                to run, a list of integers, or rather a mask.
            mask: (S, B) booleans, true where a step counts; instead of lengths.

        Returns:
            (context, weights), of shapes (B, V) and (S, B). Weights of steps that do not count are exactly 0, whatever
            keys and values hold there; the others sum to 1. Where no step counts, weights and context are 0.

        Raises:
            ValueError: a shape, a length or the mask does not fit, or both lengths and mask are given.
            TypeError: a dtype does not fit.
        """
        query, keys, values = self._tensors(query, keys, values)
        mask = self._mask(lengths, mask, keys)
        if mask is not None:  # so that not even a NaN there comes through
            shared = values is keys
            keys = silence(mask, keys)
            values = keys if shared else silence(mask, values)
        keys, values = permute_dims(keys, (1, 0, 2)), permute_dims(values, (1, 0, 2))
        weights = _softmax(self.score(query, keys), None if mask is None else mask.T)
        context = squeeze(matmul(expand_dims(weights, 1), values), 1)
        return context, matrix_transpose(weights)

    def _tensors(self, query: Any, keys: Any, values: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Query, keys and values as tensors that fit each other and the parameters, or an error."""
        name = type(self).__name__
        parameter = self.first_parameter()
        query = as_tensor(query, like=parameter)
        keys = as_tensor(keys, like=query)
        values = keys if values is None else as_tensor(values, like=query)
        if query.ndim != 2:
            raise ValueError(f"{name} takes query of shape (B, Q); this is {query.shape}")
        for argument, x, shape in (("keys", keys, "(S, B, K)"), ("values", values, "(S, B, V)")):
            if x.ndim != 3 or x.shape[1] != query.shape[0]:
                raise ValueError(
                    f"{name} takes {argument} of shape {shape}, time first, with the B of query, {query.shape[0]}; "
                    f"this is {x.shape}"
                )
        if keys.shape[0] != values.shape[0]:
            raise ValueError(f"{name} takes a key and a value per step; keys are {keys.shape}, values {values.shape}")
        dtype = query.dtype if parameter is None else parameter.dtype
        for argument, x in (("query", query), ("keys", keys), ("values", values)):
            if not is_floating(x.dtype):
                raise TypeError(f"{name} takes floating-point {argument}; this is {x.dtype}: x.astype('float32')")
            if x.dtype != dtype:
                like = "query" if parameter is None else "the parameters"
                raise TypeError(f"{name} takes {argument} in the dtype of {like}, {dtype}: {converting(x, dtype)}")
        return query, keys, values

    def _mask(self, lengths: Any, mask: Any, keys: Tensor) -> Tensor | None:
        """(S, B) booleans; None if every step counts."""
        steps, batch = keys.shape[:2]
        if lengths is not None:
            if mask is not None:
                raise ValueError(f"{type(self).__name__} takes lengths or mask, not both")
            flags = Mask(lengths, steps, batch, keys).flags
            return None if flags is None else Tensor(flags)
        if mask is None:
            return None
        given = mask if isinstance(mask, Tensor) else Tensor(keys.backend.asarray(as_tensor(mask).numpy()))
        if given.shape != (steps, batch):
            raise ValueError(
                f"mask has shape {given.shape}; it must be (S, B), time first as the keys are: {(steps, batch)}"
            )
        if given.dtype.kind != "b":
            raise TypeError(
                f"mask holds booleans, true where a step counts; this is {given.dtype}: mask.astype('bool')"
            )
        return given


class DotAttention(Attention):
    """Attention with the score query . key / sqrt(Q), the scaled dot product, or another multiple of query . key.

    Args:
        scale: what multiplies the dot product; by default 1 / sqrt(Q), with which scores of random vectors keep a
            variance of 1 whatever their size. 1.0 gives the plain dot product of Luong et al.

    Shapes are those of `forward`: query (B, Q), keys (S, B, Q), values (S, B, V) to context (B, V), weights (S, B).

    Raises:
        ValueError: scale is no finite number, or query and keys differ in size.

    >>> from minigrad.attention import DotAttention
    >>> keys = mg.tensor([[[1.0, 0.0]], [[0.0, 1.0]], [[9.0, 9.0]]])             # 3 steps, 1 sequence
    >>> context, weights = DotAttention(scale=1.0)(mg.tensor([[2.0, 2.0]]), keys, lengths=[2])
    >>> weights.T, context
    (tensor([[0.5, 0.5, 0. ]], dtype=float32), tensor([[0.5, 0.5]], dtype=float32))

    Source: Luong et al. (2015), section 3.1, "dot"; Vaswani et al. (2017), section 3.2.1, equation 1.
    """

    def __init__(self, scale: float | None = None) -> None:
        if scale is not None and (isinstance(scale, bool) or not isinstance(scale, Real) or not isfinite(scale)):
            raise ValueError(f"scale is a finite number, or None for 1 / sqrt(Q); got {scale!r}")
        self.scale = None if scale is None else float(scale)

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        size = query.shape[-1]
        if keys.shape[-1] != size:
            raise ValueError(
                f"DotAttention takes query and keys of one size; they have {size} and {keys.shape[-1]}. "
                "AdditiveAttention takes different ones, or an mg.Linear makes them equal"
            )
        scale = 1 / sqrt(max(size, 1)) if self.scale is None else self.scale
        return squeeze(matmul(keys, expand_dims(query * scale, -1)), -1)


class AdditiveAttention(Attention):
    """Attention with the score v . tanh(W query + U key), a small network; query and keys may differ in size.

    Args:
        query_size: Q, of query (B, Q).
        key_size: K, of keys (S, B, K).
        size: of the hidden layer, A.

    Attributes:
        weight_query: W (A, Q); weight_key: U (A, K); weight_score: v (A,). All drawn from U(-k, k) with
            k = 1 / sqrt(n), n being the size of their last axis.

    Shapes are those of `forward`: query (B, Q), keys (S, B, K), values (S, B, V) to context (B, V), weights (S, B).

    Raises:
        ValueError: a size is no integer of at least 0, or does not fit query or keys.

    >>> from minigrad.attention import AdditiveAttention
    >>> context, weights = AdditiveAttention(3, 4, 8)(mg.ones((2, 3)), mg.ones((5, 2, 4)), lengths=[5, 2])
    >>> context.shape, weights.shape, bool((weights[2:, 1] == 0).numpy().all())
    ((2, 4), (5, 2), True)

    Source: Bahdanau et al. (2015), section 3.1 and appendix A.1.2.
    """

    def __init__(self, query_size: int, key_size: int, size: int) -> None:
        check_size(query_size=query_size, key_size=key_size, size=size)
        self.weight_query = Parameter(_weight(size, query_size))
        self.weight_key = Parameter(_weight(size, key_size))
        self.weight_score = Parameter(_weight(size))

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        for name, x, weight in (("query", query, self.weight_query), ("key", keys, self.weight_key)):
            if x.shape[-1] != weight.shape[1]:
                raise ValueError(f"AdditiveAttention has {name}_size {weight.shape[1]}; this {name} has {x.shape[-1]}")
        hidden = tanh(expand_dims(linear(query, self.weight_query), 1) + linear(keys, self.weight_key))
        return matmul(hidden, self.weight_score)


def _weight(*shape: int) -> Tensor:
    return init.symmetric_uniform(shape, 1 / sqrt(max(shape[-1], 1)))


def _softmax(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax over the last axis among the elements of a mask; 0 elsewhere, and where there are none."""
    if not scores.shape[-1]:
        return scores
    if mask is None:
        return softmax(scores, axis=-1)
    lowest = float(scores.backend.xp.finfo(scores.dtype).min) / 2  # finite, so that a row of these gives no NaN
    return where(mask, softmax(where(mask, scores, lowest), axis=-1), 0.0)
