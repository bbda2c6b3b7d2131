"""Optimizers whose rule is a formula: a function of a weight, its gradient, its state and some numbers."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from gpumlp import ops
from gpumlp.formulas import is_zero
from gpumlp.naming import number
from gpumlp.optimizers.base import LearningRate, Optimizer, constructor, flags, fractions, numbers, of_many, within
from gpumlp.optimizers.stages import Rule

Number = Any
New = dict[str, Any]


# ---- rules -----------------------------------------------------------------------------------------------------------
def sgd(w: Number, g: Number, rate: Number) -> New:
    """w - rate g."""
    return {"w": w - rate * g}


def sgd_momentum(w: Number, g: Number, momentum: Number, rate: Number, factor: Number, nesterov: bool) -> New:
    """w goes by its momentum, of which ``factor`` remains; nesterov: by what that will be if g stays the same."""
    change = -(rate * g)
    momentum = factor * momentum + change
    return {"w": w + (factor * momentum + change if nesterov else momentum), "momentum": momentum}


def adam(
    w: Number, g: Number, m: Number, v: Number, rate: Number, keep_1: Number, keep_2: Number, epsilon: Number,
    top: Number = None,
) -> New:  # fmt: skip
    """w - rate m / (sqrt(v) + epsilon), where the rate has the bias corrections; ``top``: by the largest v so far."""
    m = m + (g - m) * keep_1
    v = v + (g * g - v) * keep_2
    found = {"m": m, "v": v}
    if top is not None:
        found["top"] = v = ops.maximum(top, v)
    return found | {"w": w - rate * m / (ops.sqrt(v) + epsilon)}


def nadam(
    w: Number, g: Number, m: Number, v: Number, of_m: Number, of_g: Number, of_v: Number, keep_1: Number,
    keep_2: Number, epsilon: Number,
) -> New:  # fmt: skip
    """Adam by the moment that comes next: of_m, of_g and of_v have the rate and the bias corrections."""
    m = m + (g - m) * keep_1
    v = v + (g * g - v) * keep_2
    return {"w": w - (of_m * m + of_g * g) / (ops.sqrt(of_v * v) + epsilon), "m": m, "v": v}


def adamax(
    w: Number, g: Number, m: Number, u: Number, rate: Number, keep_1: Number, beta_2: Number, epsilon: Number
) -> New:
    """w - rate m / (u + epsilon), where the rate has m's bias correction."""
    m = m + (g - m) * keep_1
    u = ops.maximum(beta_2 * u, ops.absolute(g))
    return {"w": w - rate * m / (u + epsilon), "m": m, "u": u}


def rmsprop(
    w: Number, g: Number, v: Number, rate: Number, keep: Number, factor: Number, epsilon: Number,
    momentum: Number = None, mean: Number = None,
) -> New:  # fmt: skip
    """w - rate g / sqrt(v + epsilon); ``mean``: by the variance; ``momentum``: of which ``factor`` remains."""
    v = v + (g * g - v) * keep
    found, square = {"v": v}, v
    if mean is not None:
        found["mean"] = mean = mean + (g - mean) * keep
        square = v - mean * mean
    change = rate * (g / ops.sqrt(square + epsilon))
    if momentum is not None:
        found["momentum"] = change = factor * momentum + change
    return found | {"w": w - change}


def adagrad(w: Number, g: Number, accumulator: Number, rate: Number, epsilon: Number) -> New:
    """w - rate g / sqrt(accumulator + epsilon)."""
    accumulator = accumulator + g * g
    return {"w": w - rate * (g / ops.sqrt(accumulator + epsilon)), "accumulator": accumulator}


def adadelta(w: Number, g: Number, v: Number, d: Number, rate: Number, keep: Number, epsilon: Number) -> New:
    """w - rate sqrt(d + epsilon) / sqrt(v + epsilon) g; v and d: mean squares of g and of what it becomes."""
    v = v + (g * g - v) * keep
    change = ops.sqrt(d + epsilon) * g / ops.sqrt(v + epsilon)
    return {"w": w - rate * change, "v": v, "d": d + (change * change - d) * keep}


def ftrl(
    w: Number, g: Number, accumulator: Number, linear: Number, rate: Number, l2: Number, l1: Number, shrinkage: Number,
    exponent: Number,
) -> New:  # fmt: skip
    """The w that is best for all gradients so far, taken as planes, beside l1 |w| + l2 w^2: 0 where |linear| <= l1."""
    more = accumulator + g * g
    after, before = ops.power(more, exponent), ops.power(accumulator, exponent)
    shrunk = g if is_zero(shrinkage) else g + 2.0 * shrinkage * w
    linear = linear + shrunk - (after - before) / rate * w
    clipped = 0.0 if is_zero(l1) else ops.clip(linear, -l1, l1)
    best = (clipped - linear) / (after / rate + 2.0 * l2)
    return {"w": ops.where(ops.absolute(linear) <= l1, 0.0, best), "accumulator": more, "linear": linear}


def ftrl_by_root(**given: Number) -> New:
    """`ftrl` with a square root, which is quicker than a power that is given as a number."""
    return ftrl(**given, exponent=0.5)


def lion(w: Number, g: Number, m: Number, rate: Number, keep_1: Number, keep_2: Number) -> New:
    """w - rate sign(m beta_1 + g (1 - beta_1)); m forgets more slowly than that."""
    return {"w": w - rate * ops.sign(m + (g - m) * keep_1), "m": m + (g - m) * keep_2}


def schedule_free_adam(
    w: Number, g: Number, z: Number, v: Number, rate: Number, of_v: Number, weight: Number, beta_1: Number,
    keep_2: Number, epsilon: Number,
) -> New:  # fmt: skip
    """z goes by Adam's step without momentum, x is the mean of all z, and w is (1 - beta_1) z + beta_1 x."""
    x = (w - (1.0 - beta_1) * z) / beta_1
    v = v + (g * g - v) * keep_2
    z = z - rate * g / (ops.sqrt(of_v * v) + epsilon)
    x = x + (z - x) * weight
    return {"w": (1.0 - beta_1) * z + beta_1 * x, "z": z, "v": v}


def correction(beta: float, update: int | range) -> Any:
    """Return 1 - beta^update: what a moving average that began at 0 has taken in."""
    if isinstance(update, range):  # by the same powers: NumPy's differ in the last bit
        return 1.0 - np.array([beta**one for one in update])
    return 1.0 - beta**update


# ---- optimizers ------------------------------------------------------------------------------------------------------
_POSITIVE = {"beta_1": functools.partial(number, "beta_1", low=0.0, high=1.0, above=True)}


class SGD(Optimizer):
    """w -= lr g; with momentum: u = momentum u - lr g, w += u (nesterov: w += momentum u - lr g)."""

    checks: ClassVar = {**Optimizer.checks, "momentum": within("momentum", 0.0, 1.0), **flags("nesterov")}

    @constructor
    def __init__(self, learning_rate: LearningRate = 0.01, momentum: float = 0.0, nesterov: bool = False) -> None: ...

    def state(self) -> Mapping[str, float | None]:
        return {"momentum": 0.0} if self.momentum else {}

    def update_rule(self) -> Rule:
        return sgd_momentum if self.momentum else sgd

    def rule_constants(self) -> dict[str, Any]:
        return {"factor": self.momentum, "nesterov": self.nesterov} if self.momentum else {}


class _Moments(Optimizer):
    """What has moving averages of the gradient, m, and of its square, v, which forget by beta_1 and beta_2."""

    checks: ClassVar = {**Optimizer.checks, **numbers("epsilon"), **fractions("beta_1", "beta_2")}
    unread: ClassVar = {**Optimizer.unread, "eps": "Use epsilon."}
    flushed = ("m",)

    def state(self) -> Mapping[str, float | None]:
        return {"m": 0.0, "v": 0.0}

    def rule_constants(self) -> dict[str, Any]:
        return {"keep_1": 1.0 - self.beta_1, "keep_2": 1.0 - self.beta_2, "epsilon": self.epsilon}


class Adam(_Moments):
    """Kingma & Ba 2014 in the "epsilon hat" form that Keras uses (the end of the paper's section 2).

    ``amsgrad``: by the largest v so far (Reddi et al. 2018).
    """

    checks: ClassVar = {**_Moments.checks, **flags("amsgrad")}

    @constructor
    def __init__(
        self, learning_rate: LearningRate = 0.001, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-7,
        amsgrad: bool = False,
    ) -> None: ...  # fmt: skip

    def state(self) -> Mapping[str, float | None]:
        return {"m": 0.0, "v": 0.0} | ({"top": 0.0} if self.amsgrad else {})

    def update_rule(self) -> Rule:
        return adam

    @of_many
    def rates(self, rate: float, update: Any) -> dict[str, Any]:
        of_m, of_v = correction(self.beta_1, update), correction(self.beta_2, update)
        return {"rate": rate * (math.sqrt(of_v) if isinstance(of_v, float) else np.sqrt(of_v)) / of_m}


def _some_decay(value: Any) -> float:
    if value is None:
        raise ValueError("weight_decay must be a number; got None. Adam is the optimizer without one.")
    return within("weight_decay", 0.0)(value)


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2017): w -= lr * weight_decay * w before the step."""

    checks: ClassVar = {**Adam.checks, "weight_decay": _some_decay}

    @constructor
    def __init__(
        self, learning_rate: LearningRate = 0.001, weight_decay: float = 0.004, beta_1: float = 0.9,
        beta_2: float = 0.999, epsilon: float = 1e-7, amsgrad: bool = False,
    ) -> None: ...  # fmt: skip


@functools.lru_cache(maxsize=16)
def _products(beta_1: float, count: int) -> np.ndarray:
    """Return the products of the first 1, 2, ... ``count`` of Nadam's betas."""
    return np.cumprod([_beta(beta_1, t) for t in range(1, count + 1)])


def _beta(beta_1: float, update: int) -> float:
    """Return the beta_1 of an update, which warms up."""
    return beta_1 * (1.0 - 0.5 * 0.96**update)


class Nadam(_Moments):
    """Adam with Nesterov's momentum, whose beta_1 warms up by beta_1 (1 - 0.96^t / 2) (Dozat 2016)."""

    @constructor
    def __init__(
        self, learning_rate: LearningRate = 0.001, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-7
    ) -> None: ...

    def update_rule(self) -> Rule:
        return nadam

    def product(self, update: int) -> float:
        """Return the product of the beta_1 of all updates up to this one, 1 before the first."""
        return 1.0 if update < 1 else float(_products(self.beta_1, 2 << update.bit_length())[update - 1])

    def rates(self, rate: float, update: int) -> dict[str, float]:
        product, coming = self.product(update), self.product(update + 1)
        now, later = _beta(self.beta_1, update), _beta(self.beta_1, update + 1)
        of_m, of_g = rate * later / (1.0 - coming), rate * (1.0 - now) / (1.0 - product)
        return {"of_m": of_m, "of_g": of_g, "of_v": 1.0 / correction(self.beta_2, update)}


class Adamax(_Moments):
    """Adam by the largest of the gradients, of which beta_2 remains (Kingma & Ba 2014, section 7.1)."""

    @constructor
    def __init__(
        self, learning_rate: LearningRate = 0.001, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-7
    ) -> None: ...

    def state(self) -> Mapping[str, float | None]:
        return {"m": 0.0, "u": 0.0}

    def update_rule(self) -> Rule:
        return adamax

    def rule_constants(self) -> dict[str, Any]:
        return {"keep_1": 1.0 - self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}

    @of_many
    def rates(self, rate: float, update: Any) -> dict[str, Any]:
        return {"rate": rate / correction(self.beta_1, update)}


class RMSprop(Optimizer):
    """v = rho v + (1 - rho) g^2; w -= lr g / sqrt(v + epsilon), with optional momentum and centring (Hinton 2012)."""

    checks: ClassVar = {
        **Optimizer.checks, **fractions("rho"), "momentum": within("momentum", 0.0, 1.0), **numbers("epsilon"),
        **flags("centered"),
    }  # fmt: skip

    @constructor
    def __init__(
        self, learning_rate: LearningRate = 0.001, rho: float = 0.9, momentum: float = 0.0, epsilon: float = 1e-7,
        centered: bool = False,
    ) -> None: ...  # fmt: skip

    def state(self) -> Mapping[str, float | None]:
        return {"v": 0.0} | ({"momentum": 0.0} if self.momentum else {}) | ({"mean": 0.0} if self.centered else {})

    def update_rule(self) -> Rule:
        return rmsprop

    def rule_constants(self) -> dict[str, Any]:
        return {"keep": 1.0 - self.rho, "factor": self.momentum, "epsilon": self.epsilon}


class Adagrad(Optimizer):
    """w -= lr g / sqrt(accumulator + epsilon), of the sum of all squares of g so far (Duchi et al. 2011)."""

    checks: ClassVar = {**Optimizer.checks, **numbers("initial_accumulator_value", "epsilon")}

    @constructor
    def __init__(
        self, learning_rate: LearningRate = 0.001, initial_accumulator_value: float = 0.1, epsilon: float = 1e-7
    ) -> None: ...

    def state(self) -> Mapping[str, float | None]:
        return {"accumulator": self.initial_accumulator_value}

    def update_rule(self) -> Rule:
        return adagrad

    def rule_constants(self) -> dict[str, Any]:
        return {"epsilon": self.epsilon}


class Adadelta(Optimizer):
    """Steps as large as earlier ones, by the root mean squares of steps and gradients (Zeiler 2012)."""

    checks: ClassVar = {**Optimizer.checks, **fractions("rho"), **numbers("epsilon")}

    @constructor
    def __init__(self, learning_rate: LearningRate = 0.001, rho: float = 0.95, epsilon: float = 1e-7) -> None: ...

    def state(self) -> Mapping[str, float | None]:
        return {"v": 0.0, "d": 0.0}

    def update_rule(self) -> Rule:
        return adadelta

    def rule_constants(self) -> dict[str, Any]:
        return {"keep": 1.0 - self.rho, "epsilon": self.epsilon}


class Ftrl(Optimizer):
    """Follow the regularized leader, for sparse weights (McMahan et al. 2013).

    The rate of a weight is learning_rate * accumulator^learning_rate_power, accumulator: the sum of g^2 so far.
    """

    checks: ClassVar = {
        **Optimizer.checks, "learning_rate_power": within("learning_rate_power", -math.inf, 0.0),
        **numbers("initial_accumulator_value", "l1_regularization_strength", "l2_regularization_strength",
                  "l2_shrinkage_regularization_strength", "beta"),
    }  # fmt: skip

    @constructor
    def __init__(
        self, learning_rate: LearningRate = 0.001, learning_rate_power: float = -0.5,
        initial_accumulator_value: float = 0.1, l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0, l2_shrinkage_regularization_strength: float = 0.0, beta: float = 0.0,
    ) -> None: ...  # fmt: skip

    def state(self) -> Mapping[str, float | None]:
        return {"accumulator": self.initial_accumulator_value, "linear": 0.0}

    def update_rule(self) -> Rule:
        return ftrl_by_root if self.learning_rate_power == -0.5 else ftrl

    def rule_constants(self) -> dict[str, Any]:
        found = {"l1": self.l1_regularization_strength, "shrinkage": self.l2_shrinkage_regularization_strength}
        return found if self.learning_rate_power == -0.5 else found | {"exponent": -self.learning_rate_power}

    def rates(self, rate: float, update: int) -> dict[str, float]:
        more = self.beta / (2.0 * rate) if rate else math.inf if self.beta else 0.0
        return {"rate": rate, "l2": self.l2_regularization_strength + more}


class Lion(Optimizer):
    """Steps of one size, by the sign of a moving average (Chen et al. 2023)."""

    checks: ClassVar = {**Optimizer.checks, **fractions("beta_2"), **_POSITIVE}

    @constructor
    def __init__(self, learning_rate: LearningRate = 0.001, beta_1: float = 0.9, beta_2: float = 0.99) -> None: ...

    def state(self) -> Mapping[str, float | None]:
        return {"m": 0.0}

    def update_rule(self) -> Rule:
        return lion

    def rule_constants(self) -> dict[str, Any]:
        return {"keep_1": 1.0 - self.beta_1, "keep_2": 1.0 - self.beta_2}


class ScheduleFreeAdamW(Optimizer):
    """Adam that averages its weights in place of a schedule, with a warm-up (Defazio et al. 2024)."""

    checks: ClassVar = {
        **Optimizer.checks, **fractions("beta_2"),
        **_POSITIVE,
        **numbers("epsilon", "warmup_steps"),
    }  # fmt: skip

    @constructor
    def __init__(
        self, learning_rate: LearningRate = 0.0025, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-8,
        warmup_steps: int = 0,
    ) -> None: ...  # fmt: skip

    def state(self) -> Mapping[str, float | None]:
        return {"z": None, "v": 0.0}

    def update_rule(self) -> Rule:
        return schedule_free_adam

    def rule_constants(self) -> dict[str, Any]:
        return {"beta_1": self.beta_1, "keep_2": 1.0 - self.beta_2, "epsilon": self.epsilon}

    def rates(self, rate: float, update: int) -> dict[str, float]:
        warm = min(update / self.warmup_steps, 1.0) if self.warmup_steps else 1.0
        return {"rate": rate * warm, "of_v": 1.0 / correction(self.beta_2, update), "weight": 1.0 / update}
