"""Cells for the compiled engine that go through the operations: every family, and every way to name an axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cells_zoo import H, I

import minigrad as mg


def matrix(rows: int, columns: int) -> mg.Parameter:
    return mg.Parameter(mg.normal(shape=(rows, columns), std=0.5))


class Small(mg.Cell):
    """H units with a matrix for x and one for the state."""

    def __init__(self) -> None:
        self.w, self.u = matrix(I, H), matrix(H, H)

    def init_state(self, batch_size: int) -> Any:
        return mg.zeros((batch_size, H))

    def into(self, x: mg.Tensor, h: mg.Tensor) -> mg.Tensor:
        """What a simple recurrent network has before its tanh."""
        return x @ self.w + h @ self.u


# --- weights


class Tied(Small):
    """One matrix used twice, also transposed, for x and for the output."""

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h = mg.tanh(self.into(x, state) + mg.square(state) @ self.u.T + mg.matrix_transpose(self.w).T[0] * 0.1)
        return h @ self.w.T + x, h


class WeightNorm(Small):
    """Weights computed in the step from a direction and a length: arithmetic of parameters alone."""

    def __init__(self) -> None:
        super().__init__()
        self.g = mg.Parameter(mg.ones(H) * 0.8)

    def step(self, x: mg.Tensor, state: Any) -> Any:
        u = self.g * self.u / mg.sqrt(mg.sum(self.u * self.u, axis=0, keepdims=True) + 1e-3)
        h = mg.tanh(x @ self.w + state @ u)
        return h @ (u @ u.T), h


class Pieces(Small):
    """Products with slices of one matrix, and its rows joined anew."""

    def step(self, x: mg.Tensor, state: Any) -> Any:
        u = mg.concat([self.u[1:], self.u[:1]])
        h = mg.tanh(x @ self.w + state @ u + mg.linear(state[:, :2], self.u[:, 1:]) + mg.linear(x, self.w.T, u[0]))
        return h, h


class Hyper(Small):
    """The state makes a matrix per sequence, and x goes through it."""

    def __init__(self) -> None:
        super().__init__()
        self.make = mg.Linear(H, I * H)

    def step(self, x: mg.Tensor, state: Any) -> Any:
        weights = mg.reshape(self.make(state), (x.shape[0], I, H))
        h = mg.tanh(mg.squeeze(mg.expand_dims(x, 1) @ weights, 1) + state @ self.u)
        return h, h


class Heads(Small):
    """Heads: reshape, exchange axes, products of rank 4 and back."""

    def __init__(self) -> None:
        self.w, self.u = matrix(I, 4), matrix(4, 4)
        self.mix = mg.Parameter(mg.normal(shape=(2, 2, 2)))

    def init_state(self, batch_size: int) -> Any:
        return mg.zeros((batch_size, 3, 4))

    def step(self, x: mg.Tensor, state: Any) -> Any:
        b = x.shape[0]
        heads = mg.permute_dims(state.reshape(b, 3, 2, 2), (0, 2, 1, 3)) @ self.mix  # (b, head, 3, 2)
        scores = mg.softmax(heads @ mg.matrix_transpose(heads), axis=-1)
        back = mg.permute_dims(scores @ heads, (0, 2, 1, 3)).reshape(b, 3, 4)
        new = mg.tanh(back @ self.u + mg.expand_dims(x @ self.w, 1) + 0.5 * state)
        return new.mean(axis=1), new


class Contraction(Small):
    """`tensordot` over one axis and over two."""

    def step(self, x: mg.Tensor, state: Any) -> Any:
        outer = mg.expand_dims(x, 2) * mg.expand_dims(state, 1)  # (B, I, H)
        h = mg.tanh(self.into(x, state) + mg.expand_dims(mg.tensordot(outer, self.w), -1))
        return mg.tensordot(h, self.u, axes=((1,), (1,))), h


# --- axes: what is computed for all steps at once has one more in front


class AcrossBatch(Small):
    """x and the state are compared with the mean over the batch, along axes counted from either end."""

    def step(self, x: mg.Tensor, state: Any) -> Any:
        x = x - x.mean(0) + mg.softmax(x, axis=0) + mg.logsumexp(x, axis=-2) + x.sum() * 0.1
        h = mg.tanh(x @ self.w + (state - state.mean(axis=0, keepdims=True)) @ self.u)
        return mg.flip(h, 0) + mg.max(x, axis=(0, 1)), h


class Lifted(Small):
    """x meets parameters of a higher rank, in front of its own axes."""

    def __init__(self) -> None:
        super().__init__()
        self.each, self.column = mg.Parameter(mg.normal(shape=(4, 1, I))), mg.Parameter(mg.normal(shape=(4, 1, 1)))

    def step(self, x: mg.Tensor, state: Any) -> Any:
        x = (x * self.each + self.column).sum(axis=0) + (x @ (self.each * mg.ones((1, I, 1), dtype=x.dtype)))[1] * 0.1
        h = mg.tanh(x @ self.w + (state + self.column)[2] @ self.u)
        return mg.maximum(x[None], self.column)[0], h


class Turned(Small):
    """x transposed, reversed, taken apart, and flattened before it is used."""

    def step(self, x: mg.Tensor, state: Any) -> Any:
        rows = mg.permute_dims(x, (1, 0))
        first, second = rows  # one by one
        again = mg.stack([second, first], axis=1) + mg.flip(x) * 0.2 + mg.reshape(x.reshape(-1), x.shape) * 0.1
        again = again + mg.stack([x, x * x])[1] + mg.concat([x, again], axis=0)[: x.shape[0]] + x[::-1]
        h = mg.tanh(again @ self.w + mg.reshape(mg.permute_dims(state, (1, 0)).T, state.shape) @ self.u)
        return mg.pad(h, [(0, 0), (1, 2)], value=0.5), h


class Gram(Small):
    """A product over the batch: x.T @ x, and of the state too."""

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h = mg.tanh(x @ (x.T @ x) @ self.w * 0.3 + state @ (state.T @ state) * 0.1 + state @ self.u)
        return h, h


# --- slices


class Overlapping(Small):
    """Slices that share elements, of x, of the state, and of a result."""

    def step(self, x: mg.Tensor, state: Any) -> Any:
        z = self.into(x, state)
        z = mg.tanh(mg.concat([z[:, :2] * z[:, 1:], state[:, -2:-1] + z[:, 0:1]], axis=-1))
        return z[..., 1:] + z[:, :-1] + x[:, 1:], z + state[:, 1][:, None] * 0.2


class Gaps(Small):
    """Slices with steps, backwards, and single columns; some elements are never read."""

    def step(self, x: mg.Tensor, state: Any) -> Any:
        z = self.into(x, state)
        even, odd = z[:, ::2], z[:, 1::2]
        h = mg.tanh(mg.concat([odd, even], axis=-1) + state[:, ::-1] + x[:, 1, None])
        return h[:, 0:3:2], h


class Gathers(Small):
    """Selected by integers: fixed ones, repeated ones, and ones computed from values."""

    def step(self, x: mg.Tensor, state: Any) -> Any:
        z = mg.tanh(self.into(x, state))
        best = mg.argmax(z, axis=-1, keepdims=True)
        top = mg.take_along_axis(z, best, axis=-1)
        h = z[:, [0, 0, 2]] + mg.take(z, mg.tensor([2, 1, 1]), axis=1) * 0.3 + top
        hot = mg.one_hot(mg.argmax(state, axis=1), H, dtype=x.dtype)
        return h * hot + mg.take(self.u, mg.argmax(x, axis=-1), axis=0), 0.5 * h


class Parted(Small):
    """Split, stacked, squeezed and broadcast."""

    def step(self, x: mg.Tensor, state: Any) -> Any:
        a, b = mg.split(self.into(x, state), [1], axis=1)
        both = mg.stack([mg.broadcast_to(a, b.shape), b, b * a], axis=-1)  # (B, 2, 3)
        left, right = mg.split(both, 2, axis=1)
        return mg.squeeze(left, 1) + 1.0, mg.tanh(mg.squeeze(right, axis=1))


# --- elementwise


class Smooth(Small):
    """exp, expm1, log, log1p, sqrt, powers, quotients, sin and cos."""

    def step(self, x: mg.Tensor, state: Any) -> Any:
        z = mg.tanh(self.into(x, state))
        positive = mg.exp(z) + mg.square(x[:, :1]) + 0.5
        a = mg.expm1(0.3 * z) + mg.log(positive) - mg.log1p(z * z) + mg.sqrt(1.0 + state * state)
        b = positive**0.7 + 1.3**z + positive**z / (2.0 + mg.cos(state)) - z**3 + (1 + z * z) ** self.u[0]
        return a * b, mg.sin(a - b)


class Kinks(Small):
    """abs, sign, maximum, minimum, clip, relu and leaky relu, some of them at their kinks."""

    def step(self, x: mg.Tensor, state: Any) -> Any:
        z = self.into(x, state)
        h = mg.maximum(z, state) - mg.minimum(z, 0.2) + mg.abs(z) * mg.sign(state) + mg.maximum(state, state) * 0.5
        h = mg.clip(h, -0.8, 0.9) + mg.relu(z) * 0.1 + mg.leaky_relu(x @ self.w, 0.2) * 0.1 + mg.clip(z, max=0.3)
        return mg.minimum(h, h), 0.5 * h


class Curves(Small):
    """softplus, elu, gelu, sigmoid and log-softmax."""

    def step(self, x: mg.Tensor, state: Any) -> Any:
        z = self.into(x, state)
        h = mg.softplus(z) - mg.elu(state, alpha=0.5) + mg.gelu(x @ self.w) * mg.sigmoid(z)
        return mg.log_softmax(h), mg.softmax(h, axis=-1) - 0.3


class Switch(Small):
    """Elementwise branching: comparisons and logic select, of values and of x."""

    def step(self, x: mg.Tensor, state: Any) -> Any:
        z = self.into(x, state)
        up = (z > 0) & ~(state >= 0.3) | (x[:, :1] < -0.5)
        far = mg.logical_or(mg.not_equal(mg.sign(z), mg.sign(state)), mg.isfinite(state) & (z <= -0.2))
        h = mg.where(up, mg.tanh(z), mg.where(far, 0.5 * state, mg.sin(z)))
        share = mg.equal(h, h).astype(h.dtype).mean(axis=-1, keepdims=True)
        return mg.where(up.astype(x.dtype) > 0.5, h, 0.0) * share, h


class Reductions(Small):
    """mean, sum, max, min, var, logsumexp over one axis, several, or all, with and without keeping them."""

    def init_state(self, batch_size: int) -> Any:
        return mg.zeros((batch_size, 2, H))

    def step(self, x: mg.Tensor, state: Any) -> Any:
        z = state + mg.expand_dims(x @ self.w, 1) * mg.arange(1, 3).astype(x.dtype).reshape(2, 1)
        spread = mg.var(z, axis=(1, 2), keepdims=True) + mg.var(state, axis=-1, keepdims=True, correction=1)
        top = z.max(axis=-1) - mg.min(z, axis=2) + mg.logsumexp(z, axis=-1)  # (B, 2)
        y = mg.concat([top, z.mean(axis=(-1, 1)).reshape(-1, 1), z.sum(axis=1)], axis=-1)
        return y, mg.tanh(
            z @ self.u / (1.0 + spread) + mg.expand_dims(top, -1) - z.sum(axis=(1, 2), keepdims=True) * 0.1
        )


class Normed(Small):
    """Normalised inside: a layer norm, and one written out."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.scale = mg.LayerNorm(H), mg.Parameter(mg.tensor(1.2))

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h = mg.tanh(self.norm(x @ self.w) + self.norm(state @ self.u))
        centred = h - h.mean(axis=-1, keepdims=True)
        return centred / mg.sqrt((centred * centred).mean(axis=-1, keepdims=True) + 0.1) * self.scale, h


class Chances(Small):
    """The state is a probability: softmax over its features."""

    def init_state(self, batch_size: int) -> Any:
        return mg.full((batch_size, H), 1 / H)

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h = mg.softmax(self.into(x, state) + mg.log(mg.square(state) + 0.1))
        return -(h * mg.log(h)).sum(axis=-1, keepdims=True), h


# --- from elsewhere


@mg.primitive
def scaled_cube(xp: Any, x: Any, w: Any, /, power: int = 3) -> Any:
    """A stranger's operation: w * x ** power."""
    return w * x**power


mg.defvjp(
    scaled_cube,
    lambda g, x, w, power: g * w * power * x ** (power - 1),
    lambda g, x, w, power: g * x**power,
)


@mg.primitive
def rounded(xp: Any, x: Any, /) -> Any:
    """A stranger's operation whose gradient is not its derivative."""
    return xp.round(x * 4) / 4


mg.defvjp(rounded, lambda g, y, x_shape: g * (1 - y * y))


class Foreign(Small):
    """Primitives that no part of this package has heard of."""

    def step(self, x: mg.Tensor, state: Any) -> Any:
        h = rounded(mg.tanh(self.into(x, state))) + scaled_cube(state, self.u[0], power=2) * 0.1
        return scaled_cube(h, 0.5) + scaled_cube(x, 1.0).sum(axis=-1, keepdims=True), h


CELLS: dict[str, Callable[[], mg.Cell]] = {
    cell.__name__: cell
    for cell in (
        *(Tied, WeightNorm, Pieces, Hyper, Heads, Contraction, AcrossBatch, Lifted, Turned, Gram, Overlapping, Gaps),
        *(Gathers, Parted, Smooth, Kinks, Curves, Switch, Reductions, Normed, Chances, Foreign),
    )
}
