"""How much of the last output's gradient is left k steps before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from minigrad.autograd import grad
from minigrad.backend import is_floating, load_backend
from minigrad.diagnose.plotting import Path, new_figure, save
from minigrad.diagnose.runs import paths, stepwise
from minigrad.nest import leaves, map_nest
from minigrad.ops import sum as sum_of
from minigrad.tape import enable_grad
from minigrad.tensor import Tensor

__all__ = ["GradientFlow", "gradient_flow"]


@dataclass(frozen=True)
class GradientFlow:
    """What `gradient_flow` measured, as NumPy arrays on the host.

    Attributes:
        lags: (K,) integers 1, 2, ..., T.
        norms: (K, B) float64, for each lag and sequence the norm over the whole state.
        parts: the same for each floating tensor of the state by its place, such as `state[1]`.
    """

    lags: Any
    norms: Any
    parts: dict[str, Any]

    def plot(self, path: Path) -> None:
        """Draw the norms over the lag, their mean over sequences and their range. Needs matplotlib."""
        figure, ((axes,),) = new_figure()
        for name, norms in self.parts.items():
            (line,) = axes.plot(self.lags, norms.mean(axis=1), label=name)
            axes.fill_between(self.lags, norms.min(axis=1), norms.max(axis=1), color=line.get_color(), alpha=0.2)
        if (self.norms > 0).any():
            axes.set_yscale("log")
        axes.set(
            xlabel="lag k in steps", ylabel="norm of the gradient", title="gradient of the last step, k steps back"
        )
        axes.grid(alpha=0.3)
        axes.legend()
        save(figure, path)


def gradient_flow(
    model: Any, x: Any, state: Any = None, loss: Callable[[Tensor], Tensor] | None = None
) -> GradientFlow:
    """The norm of the gradient of the last step's loss with respect to the state k steps before.

        y_t, s_t = step(x_t, s_{t-1})                         (t = 1, ..., T)
        norm(k) = |d L(y_T) / d s_{T-k}|                      (k = 1, ..., T)

    s_{T-1} is what the last step is given, s_0 the initial state. The gradients are exact: one backward walk gives all.
    Where the curve falls by a factor per step, nothing is learned beyond some lag; where it rises training is unstable.
    In float32 what is below 1e-45 is 0; use a float64 model to see further.

    Args:
        model: a cell, a recurrent layer, or a module that runs forward in time, `model(x, state) -> (ys, state)`.
        x: inputs (T, B, ...), or (B, T, ...) if the model has batch_first; T at least 1.
        state: before the first step; by default the model's own.
        loss: from the outputs of the last step, (B, ...), to one element; by default their sum. Sequences are told
            apart only by a loss that is a sum over them.

    Returns:
        The norms by lag and sequence, as `GradientFlow`. Integers in the state have none.

    Raises:
        ValueError: x or the state does not fit, the loss is not one element, or the model runs backward in time.
        TypeError: the model is no module.

    >>> from minigrad.diagnose import gradient_flow
    >>> class Scalar(mg.Cell):                                # h_t = 0.5 h_{t-1} + x_t
    ...     def init_state(self, batch_size):
    ...         return mg.zeros((batch_size, 1))
    ...     def step(self, x, h):
    ...         h = 0.5 * h + x
    ...         return h, h
    >>> gradient_flow(Scalar(), mg.ones((4, 1, 1))).norms[:, 0]
    array([0.5   , 0.25  , 0.125 , 0.0625])

    Source: Pascanu et al. (2013), section 2.1; Hochreiter et al. (2001), "Gradient flow in recurrent nets".
    """
    step, x, state = stepwise(model, x, state)
    first = state
    names = [name for name, leaf in zip(paths(first, "state"), leaves(first), strict=True) if _flows(leaf)]
    if not names:
        raise ValueError(f"the state of {type(model).__name__} holds no floating-point tensor, so no gradient flows")
    shifts: list[Tensor] = []
    with enable_grad():
        for t in range(x.shape[0]):
            state = map_nest(lambda _, leaf: _shifted(leaf, shifts), first, state)
            y, state = step(x[t], state)
        total = sum_of(y) if loss is None else loss(y)
    if not isinstance(total, Tensor) or total.size != 1:
        shape = total.shape if isinstance(total, Tensor) else type(total).__name__
        raise ValueError(f"loss must return a tensor of one element; it returned {shape}")
    found = grad(total, shifts) if total.requires_grad else shifts  # zeros too
    squares = [_squares(gradient.numpy().astype("float64")) for gradient in found]
    latest_first = {name: host.stack(squares[number :: len(names)][::-1]) for number, name in enumerate(names)}
    whole = sum(latest_first.values()) ** 0.5
    return GradientFlow(host.arange(1, x.shape[0] + 1), whole, {name: part**0.5 for name, part in latest_first.items()})


def _squares(gradient: Any) -> Any:
    """The sum of squares for each sequence."""
    return (gradient**2).sum(axis=tuple(range(1, gradient.ndim)))


host: Any = load_backend("numpy").xp


def _flows(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and is_floating(leaf.dtype)


def _shifted(leaf: Any, shifts: list[Tensor]) -> Any:
    """A tensor of the state plus 0, noted in `shifts`: its gradient is that of the state at this step alone."""
    if not _flows(leaf):
        return leaf
    if not leaf.ndim:
        raise ValueError("tensors of the state have the batch first; this one has no axis")
    shifts.append(Tensor(leaf.backend.xp.zeros_like(leaf.data), True))
    return leaf + shifts[-1]
