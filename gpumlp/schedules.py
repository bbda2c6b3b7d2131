"""Learning-rate schedules: the step size as a function of the steps done so far."""

from __future__ import annotations

import math


class LearningRateSchedule:
    """Base of schedules; an optimizer takes one in place of a learning rate."""

    def __call__(self, step: int) -> float:
        """Return the learning rate of the step that follows ``step`` steps."""
        raise NotImplementedError


class ExponentialDecay(LearningRateSchedule):
    """initial_learning_rate * decay_rate^(step / decay_steps); with ``staircase``, of whole decay_steps only."""

    def __init__(
        self, initial_learning_rate: float, decay_steps: int, decay_rate: float, staircase: bool = False
    ) -> None:
        if not decay_steps > 0:
            raise ValueError(f"decay_steps must be > 0; got {decay_steps!r}.")
        self.initial_learning_rate, self.decay_rate = float(initial_learning_rate), float(decay_rate)
        self.decay_steps, self.staircase = decay_steps, bool(staircase)

    def __call__(self, step: int) -> float:
        power = step / self.decay_steps
        return self.initial_learning_rate * self.decay_rate ** (math.floor(power) if self.staircase else power)
