"""The rules of updates: formulas of a weight, its gradient, its state and some numbers, by name."""

from __future__ import annotations

from typing import TypeAlias

from gpumlp import ops
from gpumlp.expressions import Node
from gpumlp.formulas import is_zero

Number: TypeAlias = Node | float  # a constant: a symbol, or a number that shapes the formula
New: TypeAlias = dict[str, Node]  # what w and the state become


def sgd(w: Node, g: Node, rate: Node) -> New:
    """w - rate g."""
    return {"w": w - rate * g}


def sgd_momentum(w: Node, g: Node, momentum: Node, rate: Node, factor: Number, nesterov: bool) -> New:
    """w goes by its momentum, of which ``factor`` remains; nesterov: by what that will be if g stays the same."""
    change = -(rate * g)
    momentum = factor * momentum + change
    return {"w": w + (factor * momentum + change if nesterov else momentum), "momentum": momentum}


def adam(
    w: Node, g: Node, m: Node, v: Node, rate: Node, keep_1: Number, keep_2: Number, epsilon: Number,
    top: Node | None = None,
) -> New:  # fmt: skip
    """w - rate m / (sqrt(v) + epsilon), where the rate has the bias corrections; ``top``: by the largest v so far."""
    m = m + (g - m) * keep_1
    v = v + (g * g - v) * keep_2
    found = {"m": m, "v": v}
    if top is not None:
        found["top"] = v = ops.maximum(top, v)
    return found | {"w": w - rate * m / (ops.sqrt(v) + epsilon)}


def nadam(
    w: Node, g: Node, m: Node, v: Node, of_m: Node, of_g: Node, of_v: Node, keep_1: Number,
    keep_2: Number, epsilon: Number,
) -> New:  # fmt: skip
    """Adam by the moment that comes next: of_m, of_g and of_v have the rate and the bias corrections."""
    m = m + (g - m) * keep_1
    v = v + (g * g - v) * keep_2
    return {"w": w - (of_m * m + of_g * g) / (ops.sqrt(of_v * v) + epsilon), "m": m, "v": v}


def adamax(w: Node, g: Node, m: Node, u: Node, rate: Node, keep_1: Number, beta_2: Number, epsilon: Number) -> New:
    """w - rate m / (u + epsilon), where the rate has m's bias correction."""
    m = m + (g - m) * keep_1
    u = ops.maximum(beta_2 * u, ops.absolute(g))
    return {"w": w - rate * m / (u + epsilon), "m": m, "u": u}


def rmsprop(
    w: Node, g: Node, v: Node, rate: Node, keep: Number, factor: Number, epsilon: Number,
    momentum: Node | None = None, mean: Node | None = None,
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


def adagrad(w: Node, g: Node, accumulator: Node, rate: Node, epsilon: Number) -> New:
    """w - rate g / sqrt(accumulator + epsilon)."""
    accumulator = accumulator + g * g
    return {"w": w - rate * (g / ops.sqrt(accumulator + epsilon)), "accumulator": accumulator}


def adadelta(w: Node, g: Node, v: Node, d: Node, rate: Node, keep: Number, epsilon: Number) -> New:
    """w - rate sqrt(d + epsilon) / sqrt(v + epsilon) g; v and d: mean squares of g and of what it becomes."""
    v = v + (g * g - v) * keep
    change = ops.sqrt(d + epsilon) * g / ops.sqrt(v + epsilon)
    return {"w": w - rate * change, "v": v, "d": d + (change * change - d) * keep}


def ftrl(
    w: Node, g: Node, accumulator: Node, linear: Node, rate: Node, l2: Node, l1: Number, shrinkage: Number,
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


def ftrl_by_root(**given: Node) -> New:
    """`ftrl` with a square root, which is quicker than a power that is given as a number."""
    return ftrl(**given, exponent=0.5)


def lion(w: Node, g: Node, m: Node, rate: Node, keep_1: Number, keep_2: Number) -> New:
    """w - rate sign(m beta_1 + g (1 - beta_1)); m forgets more slowly than that."""
    return {"w": w - rate * ops.sign(m + (g - m) * keep_1), "m": m + (g - m) * keep_2}


def schedule_free_adam(
    w: Node, g: Node, z: Node, v: Node, rate: Node, of_v: Node, weight: Node, beta_1: Number,
    keep_2: Number, epsilon: Number,
) -> New:  # fmt: skip
    """z goes by Adam's step without momentum, x is the mean of all z, and w is (1 - beta_1) z + beta_1 x."""
    x = (w - (1.0 - beta_1) * z) / beta_1
    v = v + (g * g - v) * keep_2
    z = z - rate * g / (ops.sqrt(of_v * v) + epsilon)
    x = x + (z - x) * weight
    return {"w": (1.0 - beta_1) * z + beta_1 * x, "z": z, "v": v}


def lamb(
    w: Node, g: Node, m: Node, v: Node, rate: Node, of_m: Node, of_v: Node, keep_1: Number,
    keep_2: Number, epsilon: Number,
) -> New:  # fmt: skip
    """Adam's step made as long as w is, times the rate; of_m and of_v are the bias corrections."""
    m = m + (g - m) * keep_1
    v = v + (g * g - v) * keep_2
    change = of_m * m / (ops.sqrt(of_v * v) + epsilon)
    size, length = ops.norm(w), ops.norm(change)
    ratio = ops.where(size > 0.0, ops.where(length > 0.0, size / length, 1.0), 1.0)
    return {"w": w - ratio * rate * change, "m": m, "v": v}
