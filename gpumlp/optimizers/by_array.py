"""Optimizers that go over weight arrays one by one, as they need sums or products of an array."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from gpumlp import ops
from gpumlp.naming import number
from gpumlp.optimizers import stages
from gpumlp.optimizers.base import LearningRate, Optimizer, constructor
from gpumlp.optimizers.checks import flags, fractions, numbers, or_none, within
from gpumlp.optimizers.checks import whole as whole_number
from gpumlp.optimizers.elementwise import New, Number, _Moments, adam, correction
from gpumlp.optimizers.stages import Array, Rule, Variable


def lamb(
    w: Number, g: Number, m: Number, v: Number, rate: Number, of_m: Number, of_v: Number, keep_1: Number,
    keep_2: Number, epsilon: Number,
) -> New:  # fmt: skip
    """Adam's step made as long as w is, times the rate; of_m and of_v are the bias corrections."""
    m = m + (g - m) * keep_1
    v = v + (g * g - v) * keep_2
    change = of_m * m / (ops.sqrt(of_v * v) + epsilon)
    size, length = ops.norm(w), ops.norm(change)
    ratio = ops.where(size > 0.0, ops.where(length > 0.0, size / length, 1.0), 1.0)
    return {"w": w - ratio * rate * change, "m": m, "v": v}


class Lamb(_Moments):
    """Adam whose step is as long as the weights are, for large batches (You et al. 2019)."""

    @constructor
    def __init__(
        self, learning_rate: LearningRate = 0.001, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-7
    ) -> None: ...

    def update_rule(self) -> Rule:
        return lamb

    def rates(self, rate: float, update: int) -> dict[str, float]:
        of_m, of_v = (1.0 / correction(beta, update) for beta in (self.beta_1, self.beta_2))
        return {"rate": rate, "of_m": of_m, "of_v": of_v}


def _root_mean_square(xp: Any, a: Array) -> float:
    return math.sqrt(stages.square_sum(xp, a) / a.size)


class Adafactor(Optimizer):
    """Adam's step without momentum, whose mean squares have the means of rows and columns alone (Shazeer & Stern 2018).

    The rate is learning_rate, 1 / sqrt(t) at most, times the weights' root mean square, epsilon_2 at least; a step's
    root mean square is clip_threshold at most. That bound makes ``relative_step`` the same either way, as in Keras.

    The state v of a kernel is r c / mean(r), of the moving averages r and c of the means of rows and columns of g^2.
    Their own means are the same, so r and c are the means of v's rows and columns: nothing else is kept.
    """

    checks: ClassVar = {
        **Optimizer.checks, "beta_2_decay": within("beta_2_decay", -math.inf, 0.0), **numbers("epsilon_1", "epsilon_2"),
        "clip_threshold": lambda value: number("clip_threshold", value, 0.0, above=True), **flags("relative_step"),
    }  # fmt: skip
    own_way = "Adafactor has means of rows and columns"

    @constructor
    def __init__(
        self, learning_rate: LearningRate = 0.001, beta_2_decay: float = -0.8, epsilon_1: float = 1e-30,
        epsilon_2: float = 1e-3, clip_threshold: float = 1.0, relative_step: bool = True,
    ) -> None: ...  # fmt: skip

    def state(self) -> Mapping[str, float | None]:
        return {"v": 0.0}

    def rates(self, rate: float, update: int) -> dict[str, float]:
        return {"rate": min(rate, 1.0 / math.sqrt(update)), "share": update**self.beta_2_decay}

    def update_one(self, on: Any, v: Variable, numbers: Mapping[str, float]) -> None:
        """See `Optimizer.update_one`."""
        xp, g, square, take, decay = on.xp, v.g, v.slots["v"], numbers["share"], numbers["decay"]
        new = xp.square(g) + self.epsilon_1
        if g.ndim < 2:
            square += (new - square) * take
        else:
            rows, columns = (
                square.mean(axis, keepdims=True) * (1.0 - take) + new.mean(axis, keepdims=True) * take
                for axis in (-1, -2)
            )
            xp.multiply(rows / rows.mean(-2, keepdims=True), columns, out=square)
        g /= xp.sqrt(square)
        size = np.maximum(self.epsilon_2, abs(decay) * _root_mean_square(xp, v.w))
        length = np.maximum(1.0, _root_mean_square(xp, g) / self.clip_threshold)
        g *= float(numbers["rate"] * size / length)
        stages.run(on, stages.decayed(stages.step_along), {"w": v.w, "g": g}, {"decay": decay}, {})


class Muon(Optimizer):
    """Steps whose singular values are all about 1, of matrices; of all else Adam's (Jordan et al. 2024).

    A matrix's momentum goes through ``ns_steps`` of Newton and Schulz's iteration, whose coefficients are muon_a, _b,
    _c; its step is multiplied by rms_rate sqrt(the larger of its sizes), or not at all where that is None (Liu et al.
    2025). Matrices in whose path ("dense/kernel") one of the regular expressions ``exclude_layers`` is found have
    Adam's step. That has a decay of its own, and ``adam_lr_ratio`` times the learning rate.
    """

    checks: ClassVar = {
        **Optimizer.checks, **fractions("adam_beta_1", "adam_beta_2"), "momentum": within("momentum", 0.0, 1.0),
        **numbers("epsilon", "adam_lr_ratio"), **flags("nesterov", "exclude_embeddings"),
        **{name: or_none(within(name, 0.0)) for name in ("adam_weight_decay", "rms_rate")},
        **numbers("muon_a", "muon_b", "muon_c", low=-math.inf), "ns_steps": whole_number("ns_steps", 0),
        "exclude_layers": lambda value: list(value or ()),
    }  # fmt: skip
    own_way = "Muon has products of matrices"
    decay_names = ("decay", "adam_decay")

    @constructor
    def __init__(
        self, learning_rate: LearningRate = 0.001, adam_beta_1: float = 0.9, adam_beta_2: float = 0.999,
        adam_weight_decay: float | None = 0.004, epsilon: float = 1e-7, weight_decay: float | None = 0.004, *,
        exclude_layers: Sequence[str] | None = None, exclude_embeddings: bool = True, muon_a: float = 3.4445,
        muon_b: float = -4.7750, muon_c: float = 2.0315, adam_lr_ratio: float = 1.0, momentum: float = 0.95,
        ns_steps: int = 5, nesterov: bool = True, rms_rate: float | None = 0.2,
    ) -> None: ...  # fmt: skip

    def state(self) -> Mapping[str, float | None]:
        return {"m": 0.0, "v": 0.0}

    def rates(self, rate: float, update: int) -> dict[str, float]:
        corrected = math.sqrt(correction(self.adam_beta_2, update)) / correction(self.adam_beta_1, update)
        return {
            "rate": rate, "adam_rate": rate * self.adam_lr_ratio * corrected,
            "adam_decay": 1.0 - (self.adam_weight_decay or 0.0) * rate,
        }  # fmt: skip

    def is_adams(self, v: Variable) -> bool:
        """Whether an array has Adam's step."""
        if v.w.ndim != 2 or (self.exclude_embeddings and "embedding" in v.path.lower()):
            return True
        return any(re.search(keyword, v.path) for keyword in self.exclude_layers)

    def update_one(self, on: Any, v: Variable, numbers: Mapping[str, float]) -> None:
        """See `Optimizer.update_one`."""
        w, g, m = v.w, v.g, v.slots["m"]
        if self.is_adams(v):
            keeps = {"keep_1": 1.0 - self.adam_beta_1, "keep_2": 1.0 - self.adam_beta_2, "epsilon": self.epsilon}
            scalars = {"rate": numbers["adam_rate"], "decay": numbers["adam_decay"]}
            stages.run(on, stages.decayed(adam), {"w": w, "g": g, "m": m, "v": v.slots["v"]}, scalars, keeps)
            return
        m *= self.momentum
        m += g
        step = self._evened(on.xp, g + self.momentum * m if self.nesterov else m)
        larger = 1.0 if self.rms_rate is None else math.sqrt(max(w.shape)) * self.rms_rate
        on.xp.multiply(step, numbers["rate"] * larger, out=g)
        stages.run(on, stages.decayed(stages.step_along), {"w": w, "g": g}, {"decay": numbers["decay"]}, {})

    def _evened(self, xp: Any, x: Array) -> Array:
        """Return x with its singular values about 1."""
        if x.shape[0] > x.shape[1]:
            return self._evened(xp, x.T).T
        x = x / (math.sqrt(stages.square_sum(xp, x)) + 1e-7)
        for _ in range(self.ns_steps):
            square = x @ x.T
            x = self.muon_a * x + (self.muon_b * square + self.muon_c * square @ square) @ x
        return x
