"""Gathering: the optimizer that changes nothing, and has gradients, which others go by, as its state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from gpumlp import ops
from gpumlp.expressions import Node
from gpumlp.optimizers.base import Optimizer, Rates
from gpumlp.optimizers.stages import Rule

GRADIENT = "gradient"


def _kept(w: Node, g: Node, gradient: Node, share: Node, adds: Node) -> Mapping[str, Node]:
    """Leave w as it is, and keep its gradient, times the share that it has in a larger batch's, or add it where 1."""
    part = share * g
    return {"w": w, GRADIENT: ops.where(adds, gradient + part, part)}


class Gathering(Optimizer):
    """What asks any Program for gradients, by steps that change no weight; the learning rate is the share of these."""

    def __init__(self) -> None:
        super().__init__(1.0, name="gathering")

    def state(self) -> Mapping[str, float | None]:
        return {GRADIENT: 0.0}

    def update_rule(self) -> Rule:
        return _kept

    def rates(self, rate: float, update: int | range) -> Rates:
        return {"share": rate, "adds": 0.0}

    def of_step(self, number: int) -> Self:
        """Return itself, for step ``number`` of training."""
        self.count(number - 1 - self.steps)
        return self
