"""One update: the training step, backward, the checks, clipping, the learning rate, the optimizer."""

from __future__ import annotations

import math
from copy import deepcopy
from numbers import Real
from typing import Any

from minigrad.backend import backend_of, random_state
from minigrad.nest import map_nest
from minigrad.ops import astype, reshape, stack
from minigrad.optimizers.clip import scale_grads, sum_of_squares
from minigrad.tape import no_grad
from minigrad.tensor import Tensor
from minigrad.train.history import Progress
from minigrad.train.metrics import Outcome
from minigrad.train.schedules import Schedule
from minigrad.train.trouble import NonFiniteError, find_origin, listed

__all__ = ["Updater", "settled"]


class Updater:
    """Updates a model, batch by batch.

    Attributes:
        rates: the learning rate of each of the optimizer's groups, which the schedule multiplies; None without one.
    """

    def __init__(
        self, model: Any, optimizer: Any, step: Any, clip_norm: float | None, schedule: Schedule | None
    ) -> None:
        self.model, self.optimizer, self.step, self.clip_norm = model, optimizer, step, clip_norm
        self.schedule, self.rates = schedule, None
        self._memory = None if schedule is None else deepcopy(schedule.state_dict())
        if schedule is not None:
            groups = getattr(optimizer, "groups", ())
            if not groups or any("lr" not in group for group in groups):
                raise TypeError(f"a schedule needs an optimizer whose groups have an lr; got {optimizer!r}")
            self.rates = [group["lr"] for group in groups]

    def __call__(self, batch: Any, progress: Progress) -> tuple[Outcome, dict[str, Any]]:
        """Update on one batch.

        Returns:
            What the step has returned, and the record for `Callback.on_step_end`.

        Raises:
            NonFiniteError: the loss or a gradient is NaN or infinite; the weights are as before.
        """
        self._set_rates(progress.step)
        draws = random_state()
        self.optimizer.zero_grad()
        outcome = Outcome.of(self.step(self.model, batch), batch)
        if outcome.loss.requires_grad:
            outcome.loss.backward()
        parameters = list(self.model.parameters())
        if all(parameter.grad is None for parameter in parameters):
            raise ValueError(
                "no parameter of the model has a gradient: the loss that step(model, batch) returned does not depend "
                "on them, was detached, or was computed under no_grad()"
            )
        outcome.value, norm = _read(outcome.loss, sum_of_squares(parameters))
        if not (math.isfinite(outcome.value) and math.isfinite(norm)):
            raise NonFiniteError(self._explained(batch, progress, outcome, norm, draws))
        scale_grads(parameters, norm, math.inf if self.clip_norm is None else self.clip_norm)
        outcome.loss = outcome.loss.detach()  # so that what it was computed from is not kept until the next update
        for parameter in parameters:
            parameter.grad = settled(parameter.grad)
        self.optimizer.step()
        rate = {"lr": self.rate} if self.rate is not None else {}
        return outcome, {**rate, "grad_norm": norm, "size": batch.size, **outcome.values}

    @property
    def rate(self) -> float | None:
        """The learning rate of the optimizer's first group, if it has one."""
        groups = getattr(self.optimizer, "groups", ())
        return groups[0].get("lr") if groups else None

    def _set_rates(self, step: int) -> None:
        if self.schedule is not None:
            factor = self.schedule(step)
            if not (isinstance(factor, Real) and 0 <= factor < math.inf):
                raise ValueError(
                    f"a schedule gives a finite factor of 0 or more; after {step} updates it gave {factor!r}"
                )
            self._set(float(factor))

    def _set(self, factor: float) -> None:
        if self.rates is not None:
            for group, rate in zip(self.optimizer.groups, self.rates, strict=True):
                group["lr"] = rate * factor

    def _explained(self, batch: Any, progress: Progress, outcome: Outcome, norm: float, draws: Any) -> str:
        """What is not finite, and where it comes from."""
        named = list(self.model.named_parameters())
        gradients = listed((name, parameter.grad) for name, parameter in named)
        what = [] if math.isfinite(outcome.value) else [f"the loss is {outcome.value}"]
        what += [f"the gradients are not finite: {gradients}"] if gradients else []
        what = what or [f"the norm of the gradients is {norm}, though each of them is finite"]
        if weights := listed(named):
            origin = f"The weights are not finite already: {weights}. The update before has made them so"
        else:
            origin = find_origin(self.model, self.step, batch, draws)
        return (
            f"step {progress.step + 1} (epoch {progress.epoch + 1}, batch {progress.position + 1}): "
            f"{'; '.join(what)}. {origin}"
        )

    def begin(self) -> None:
        """Let the schedule forget the run before."""
        if self.schedule is not None:
            self.schedule.load_state_dict(deepcopy(self._memory or {}))

    def end(self) -> None:
        """Give the optimizer its own learning rates back, for whatever uses it next."""
        self._set(1.0)

    def settle(self) -> None:
        """Lay the weights out as a checkpoint gives them back; products of other layouts may round otherwise."""
        for parameter in self.model.parameters():
            if not parameter.data.flags.c_contiguous:
                parameter.data = parameter.backend.xp.ascontiguousarray(parameter.data)


def _read(loss: Tensor, squares: Tensor | None) -> tuple[float, float]:
    """The loss and the norm of the gradients as numbers, in one copy: the host waits for the device once."""
    assert squares is not None
    with no_grad():
        value, square = stack([reshape(astype(loss, "float64"), ()), squares]).numpy().tolist()
    return value, math.sqrt(square)


def settled(nest: Any) -> Any:
    """The tensors of a nest in the layout in which they would come back from a checkpoint."""
    if nest is None:
        return None
    return map_nest(
        lambda t: t if t.data.flags.c_contiguous else Tensor(backend_of(t.data).xp.ascontiguousarray(t.data)), nest
    )
