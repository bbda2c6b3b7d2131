"""Learning-rate schedules: the step size as a function of the steps done so far."""

from __future__ import annotations

import math

from gpumlp.naming import flag, number


class LearningRateSchedule:
    """Base of schedules; an optimizer takes one in place of a learning rate."""

    def __call__(self, step: int) -> float:
        """Return the learning rate of the step that follows ``step`` steps."""
        raise NotImplementedError


class ExponentialDecay(LearningRateSchedule):
    """initial_learning_rate * decay_rate^(step / decay_steps); with ``staircase``, of whole decay_steps only."""

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        decay_rate: float,
        staircase: bool = False,
        name: str = "ExponentialDecay",
    ) -> None:
        number("decay_steps", decay_steps, 0.0, above=True)
        self.initial_learning_rate = number("initial_learning_rate", initial_learning_rate, 0.0)
        self.decay_rate = number("decay_rate", decay_rate, 0.0)
        self.decay_steps, self.staircase, self.name = decay_steps, flag("staircase", staircase), name

    def __call__(self, step: int) -> float:
        power = step / self.decay_steps
        return self.initial_learning_rate * self.decay_rate ** (math.floor(power) if self.staircase else power)
