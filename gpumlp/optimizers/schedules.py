"""Learning-rate schedules: the step size as a function of the steps done so far."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from gpumlp.naming import flag, number, resolve
from gpumlp.saving import Configured, read_by, serialize_keras_object

Numbers = Sequence[float]


class LearningRateSchedule(Configured):
    """Base of schedules; an optimizer takes one in place of a learning rate.

    One of a user's own has a method ``__call__(self, step)``.
    """

    def __call__(self, step: int) -> float:
        """Return the learning rate of the step that follows ``step`` steps."""
        raise NotImplementedError(f"{type(self).__name__} must have a method __call__(self, step).")


class _Known(LearningRateSchedule):
    """One of Keras's: a formula of one step, which a curve is drawn by, too."""

    def __call__(self, step: Any) -> Any:
        """Return the learning rate of the step that follows ``step`` steps; of an array of steps, one of rates."""
        if isinstance(step, (int, float)) or not np.ndim(step):
            return self.at(float(step))
        return np.array([self.at(float(one)) for one in np.ravel(step)]).reshape(np.shape(step))

    def at(self, step: float) -> float:
        """Return the learning rate of the step that follows ``step`` steps."""
        raise NotImplementedError


def _rates(*names: str) -> dict[str, Any]:
    return {name: functools.partial(number, name, low=0.0) for name in names}


class _Decay(_Known):
    """What begins at a rate, and is done or repeated after some steps."""

    checks: ClassVar = {
        **_rates("initial_learning_rate", "end_learning_rate", "decay_rate", "power", "alpha", "m_mul"),
        **{name: functools.partial(flag, name) for name in ("staircase", "cycle")},
        **{name: functools.partial(number, name, low=0.0, above=True) for name in ("decay_steps", "first_decay_steps")},
        "warmup_steps": functools.partial(number, "warmup_steps", low=0.0),
        "warmup_target": lambda value: None if value is None else number("warmup_target", value, 0.0),
        "t_mul": functools.partial(number, "t_mul", low=1.0),  # below 1 all periods together would come to an end
    }


class _Stepped(_Decay):
    """What goes on for ever; with ``staircase`` only whole ``decay_steps`` count."""

    def __init__(
        self, initial_learning_rate: float, decay_steps: float, decay_rate: float, staircase: bool, name: str
    ) -> None:
        self.initial_learning_rate, self.decay_steps, self.decay_rate = initial_learning_rate, decay_steps, decay_rate
        self.staircase, self.name = staircase, name

    def periods(self, step: float) -> float:
        """Return how many times ``decay_steps`` there were."""
        found = step / self.decay_steps
        return math.floor(found) if self.staircase else found


class ExponentialDecay(_Stepped):
    """initial_learning_rate * decay_rate^(step / decay_steps); with ``staircase``, of whole decay_steps only."""

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        decay_rate: float,
        staircase: bool = False,
        name: str = "ExponentialDecay",
    ) -> None:
        super().__init__(initial_learning_rate, decay_steps, decay_rate, staircase, name)

    def at(self, step: float) -> float:
        return self.initial_learning_rate * self.decay_rate ** self.periods(step)


class InverseTimeDecay(_Stepped):
    """initial_learning_rate / (1 + decay_rate * step / decay_steps); with ``staircase``, of whole decay_steps only."""

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        decay_rate: float,
        staircase: bool = False,
        name: str = "InverseTimeDecay",
    ) -> None:
        super().__init__(initial_learning_rate, decay_steps, decay_rate, staircase, name)

    def at(self, step: float) -> float:
        return self.initial_learning_rate / (1.0 + self.decay_rate * self.periods(step))


class PiecewiseConstantDecay(_Known):
    """values[0] up to and with step boundaries[0], values[1] up to boundaries[1] ..., the last one afterwards."""

    def __init__(self, boundaries: Numbers, values: Numbers, name: str = "PiecewiseConstant") -> None:
        if len(boundaries) != len(values) - 1:
            raise ValueError(
                f"There must be one value more than boundaries; got boundaries={boundaries!r} and values={values!r}."
            )
        self.boundaries = [number("each of boundaries", b) for b in boundaries]
        self.values = [number("each of values", v, 0.0) for v in values]
        self.name = name
        if self.boundaries != sorted(set(self.boundaries)):
            raise ValueError(f"boundaries must increase; got {boundaries!r}.")

    def at(self, step: float) -> float:
        return self.values[sum(step > boundary for boundary in self.boundaries)]


class PolynomialDecay(_Decay):
    """From initial_learning_rate to end_learning_rate in ``decay_steps``, by (1 - step / decay_steps)^power.

    With ``cycle`` the steps it takes become twice, three times ... as many whenever it is at its end.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
        name: str = "PolynomialDecay",
    ) -> None:
        self.initial_learning_rate, self.decay_steps = initial_learning_rate, decay_steps
        self.end_learning_rate, self.power, self.cycle, self.name = end_learning_rate, power, cycle, name

    def at(self, step: float) -> float:
        done = step / self.decay_steps
        done = done / max(1, math.ceil(done)) if self.cycle else min(done, 1.0)
        end = self.end_learning_rate
        return (self.initial_learning_rate - end) * (1.0 - done) ** self.power + end


def _half_wave(done: float, alpha: float) -> float:
    """Half a cosine, from 1 where nothing is done to ``alpha`` where all is."""
    return (1.0 - alpha) * 0.5 * (1.0 + math.cos(math.pi * done)) + alpha


class CosineDecay(_Decay):
    """Half a cosine in ``decay_steps``, from the initial rate to ``alpha`` times it, where it stays (SGDR, 2016).

    With a ``warmup_target`` it begins there, after ``warmup_steps`` in a line from initial_learning_rate.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        alpha: float = 0.0,
        name: str = "CosineDecay",
        warmup_target: float | None = None,
        warmup_steps: float = 0,
    ) -> None:
        self.initial_learning_rate, self.decay_steps, self.alpha = initial_learning_rate, decay_steps, alpha
        self.name, self.warmup_target, self.warmup_steps = name, warmup_target, warmup_steps

    def at(self, step: float) -> float:
        first, top, left = self.initial_learning_rate, self.initial_learning_rate, step
        if self.warmup_target is not None:
            if left < self.warmup_steps:
                return first + (self.warmup_target - first) * left / self.warmup_steps
            top, left = self.warmup_target, left - self.warmup_steps
        return top * _half_wave(min(left / self.decay_steps, 1.0), self.alpha)


class CosineDecayRestarts(_Decay):
    """Half cosines, one after the other: each ``t_mul`` times as long and ``m_mul`` times as high as the one before."""

    def __init__(
        self,
        initial_learning_rate: float,
        first_decay_steps: float,
        t_mul: float = 2.0,
        m_mul: float = 1.0,
        alpha: float = 0.0,
        name: str = "SGDRDecay",
    ) -> None:
        self.initial_learning_rate, self.first_decay_steps = initial_learning_rate, first_decay_steps
        self.t_mul, self.m_mul, self.alpha, self.name = t_mul, m_mul, alpha, name

    def at(self, step: float) -> float:
        done, longer = step / self.first_decay_steps, self.t_mul - 1.0
        # the restarts so far; a quotient of logarithms may come out below the whole number that it is at a restart
        restarts = math.floor(done if not longer else math.log1p(done * longer) / math.log(self.t_mul) + 1e-9)
        before = float(restarts) if not longer else (self.t_mul**restarts - 1.0) / longer
        height = self.m_mul**restarts
        wave = height * _half_wave((done - before) / self.t_mul**restarts, 0.0)
        return self.initial_learning_rate * ((1.0 - self.alpha) * wave + self.alpha)


KNOWN: dict[str, type[LearningRateSchedule]] = {
    kind.__name__: kind
    for kind in (
        ExponentialDecay, PiecewiseConstantDecay, PolynomialDecay, InverseTimeDecay, CosineDecay, CosineDecayRestarts
    )
}  # fmt: skip


def _get(identifier: Any) -> LearningRateSchedule:
    found: LearningRateSchedule = resolve("learning-rate schedule", identifier, KNOWN, LearningRateSchedule)
    return found


def serialize(learning_rate_schedule: Any) -> Any:
    """Return the config dict of a schedule; see `gpumlp.saving`."""
    return serialize_keras_object(learning_rate_schedule)


deserialize = read_by("keras.optimizers.schedules", _get)
