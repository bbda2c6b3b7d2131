"""Formulas to hold a target's kernels against: those that gpumlp has, and such as a user might write; in float64."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from gpumlp import activations, formulas, losses, metrics, ops, optimizers, regularizers
from gpumlp.expressions import Node, order
from gpumlp.lowering import lowered

MOST = float(np.finfo(np.float32).max)
ROWS, WIDTH = 11, 5


# ---- formulas as a user writes them ----------------------------------------------------------------------------------
def mish(z):
    return z * ops.tanh(ops.softplus(z))


def celu(z, alpha):
    return ops.where(z < 0.0, alpha * ops.expm1(z / alpha), z)


def log_softmax(z):
    return ops.log_softmax(z)


def centred(z):
    """Of columns and of the largest, so that what is read is not what a lane writes."""
    return z - z[:, 0:1] * ops.max(z - 5.0, -1, keepdims=True)


def cosine(t, p):
    def unit(v):
        return v / ops.norm(v, axis=-1, keepdims=True)

    return -ops.sum(unit(t) * unit(p), -1)


def poisson(t, p):
    return ops.mean(p - t * ops.log(p + 1e-7), -1)


def focal(t, p, gamma, alpha):
    q = ops.clip(p, 1e-7, 1.0 - 1e-7)
    right = t * q + (1.0 - t) * (1.0 - q)
    return -ops.mean(alpha * ops.power(1.0 - right, gamma) * ops.log(right), -1)


def gaussian(t, p):
    mean, variance = p[:, 0:1], p[:, 1:2]
    return ops.squeeze(0.5 * (ops.log(variance) + ops.square(t - mean) / variance), -1)


def closure(power):
    def error(t, p):
        return ops.sum(ops.absolute(t - p) ** power, -1) + ops.where((p[:, 1] > 0.5) & ~(p[:, 2] < 0.2), 1.0, p[:, 0])

    return error


def precision(t, p):
    chosen = p > 0.5
    return ops.sum(chosen * t, -1), ops.sum(chosen, -1), ops.equal(ops.argmax(-p * p, -1), ops.argmax(t, -1))


def amsgrad(w, g, m, v, top, rate, decay, keep_1, keep_2, epsilon):
    m, v = m + (g - m) * keep_1, v + (g * g - v) * keep_2
    top = ops.maximum(top, v)
    return {"w": decay * w - rate * m / (ops.sqrt(top) + epsilon), "m": m, "v": v, "top": top}


def nadam(w, g, m, v, rate, decay, now, coming, keep_1, keep_2, epsilon):
    m_new, v = m + (g - m) * keep_1, v + (g * g - v) * keep_2
    return {"w": decay * w - rate * (now * g + coming * m) / (ops.sqrt(v) + epsilon), "m": m_new, "v": v}


def swapped(w, g, a, b, rate):
    """What is overwritten is read by what comes later."""
    return {"w": w - rate * g, "a": b + w, "b": a - w}


def distance(w, scale):
    """A penalty that is no sum over weights."""
    return scale * ops.log1p(ops.norm(w))


POSITIVE = (
    "p", "v", "d", "u", "top", "accumulator", "rate", "decay", "now", "coming", "l2", "of_m", "of_g", "of_v", "weight",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A formula, its ``numbers``, and how a function of it is asked for.

    ``arrays`` are those of a row function, none: an element function.
    """

    name: str
    formula: formulas.Formula
    numbers: Mapping[str, float]
    arguments: tuple[str, ...] = ()
    arrays: tuple[str, ...] = ()
    into: Mapping[str, str] = field(default_factory=dict)
    adds: bool = False

    @property
    def constants(self) -> tuple[float, ...]:
        return tuple(self.numbers[n] for n in self.formula.numbers)

    def inputs(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Return float32 leaves by name: [ROWS, WIDTH], or [ROWS, 1] for what there is one of a row."""
        found: dict[str, np.ndarray] = {}
        for name, leaf in self.formula.leaves.items():
            if name in (*formulas.GIVEN, *self.formula.numbers):
                continue
            shape = (ROWS, 1 if leaf.per == 1 and name != "factor" else WIDTH)
            values = rng.standard_normal(shape)
            if name == "t":
                values = rng.integers(0, 3, shape) if leaf.per == 1 else np.eye(WIDTH)[rng.integers(0, WIDTH, ROWS)]
            if name in POSITIVE:
                values = 0.01 + 0.98 / (1.0 + np.exp(-values))
            if name == "mean":  # less than the root of v
                values *= 0.02
            found[name] = np.full(shape, 0.75, np.float32) if name == "factor" else values.astype(np.float32)
        return found

    def truth(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Return the roots in float64, in the formula's order."""
        leaves = {name: value.astype(np.float64) for name, value in inputs.items()}
        if "factor" in leaves:
            leaves["factor"] = leaves["factor"][:, :1]
        given = {"index": np.arange(WIDTH)[None], "width": float(WIDTH), "most": MOST}
        return evaluate(self.formula.roots, {**leaves, **given, **self.numbers}, (ROWS, WIDTH))


def evaluate(roots: Any, leaves: Mapping[str, Any], shape: tuple[int, int]) -> list[np.ndarray]:
    """Return the roots of a formula in float64, operation by operation."""
    known: dict[Node, Any] = {}
    roots = lowered(roots, ("sigmoid", "softplus", "pow"))
    with np.errstate(all="ignore"):
        for n in order(roots):
            args = [known[a] for a in n.args]
            known[n] = leaves[n.value] if n.op == "leaf" else n.value if n.op == "constant" else NUMPY[n.op](*args)
    return [np.broadcast_to(known[r], (shape[0], shape[1] if r.per == 2 else 1)).astype(np.float64) for r in roots]


def _place(a: Any) -> Any:
    return np.argmax(a, axis=1)[:, None].astype(np.float64)


NUMPY: dict[str, Any] = {
    **{n: getattr(np, n) for n in "exp expm1 log log1p sqrt sin cos tanh sign floor maximum minimum".split()},
    "erf": ops.erf, "abs": np.absolute, "sigmoid": ops.sigmoid, "softplus": ops.softplus, "pow": np.power,
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "neg": np.negative,
    "lt": lambda a, b: np.less(a, b) * 1.0, "le": lambda a, b: np.less_equal(a, b) * 1.0,
    "eq": lambda a, b: np.equal(a, b) * 1.0, "where": lambda c, a, b: np.where(np.not_equal(c, 0), a, b),
    "step": lambda a: np.maximum(np.sign(a), 0.0), "column": lambda a, i: a[:, int(i) : int(i) + 1],
    "sum": lambda a: np.sum(a, axis=1, keepdims=True), "largest": lambda a: np.max(a, axis=1, keepdims=True),
    "argmax": _place,
}  # fmt: skip


# What formulas are written in beside C's functions, by how many arguments, and numbers to try it with.
NAMES: dict[str, tuple[int, Any]] = {
    **{name: (1, NUMPY[name]) for name in ("sign", "step", "sigmoid", "softplus")},
    **{name: (2, NUMPY[name]) for name in ("maximum", "minimum")},
    "clip": (3, lambda v, low, high: np.where(v < low, low, np.where(v > high, high, v))),
}
NUMBERS = tuple(
    np.array([-np.inf, -1e30, -100.0, -1.5, -1e-30, 0.0, 1e-30, 0.7, 30.0, 1e30, np.inf, np.nan], np.float32)
)


def _activation(name: str, found: formulas.ActivationFormula, numbers: Mapping[str, float]) -> Iterator[Case]:
    if found.rowwise:
        yield Case(name, found.forward, numbers, arrays=("y", "z"), into={"y": "y"})
        yield Case(f"{name} back", found.back, numbers, arrays=("dz", "dy", "y", "z"), into={"dz": "dz"})
    else:
        yield Case(name, found.forward, numbers, ("z",))
        yield Case(f"{name} back", found.back, numbers, ("dy", "y", "z"))


def activation_cases() -> Iterator[Case]:
    for of in dict.fromkeys(activations.KNOWN.values()):
        yield from _activation(of.name, of.formula, of.numbers)
    for name, of in (
        ("gelu_tanh", activations.gelu.given(approximate=True)), ("celu_alpha", activations.celu.given(alpha=0.7)),
        ("relu_line", activations.relu.given(negative_slope=0.1, max_value=1.5, threshold=0.2)),
        ("relu_max", activations.relu.given(max_value=1.5)), ("centred", activations.get(centred)),
    ):  # fmt: skip
        yield from _activation(name, of.formula, of.numbers)


def loss_cases() -> Iterator[Case]:
    def case(name: str, formula: formulas.Formula, numbers: Mapping[str, float]) -> Case:
        return Case(name, formula, numbers, ("factor",), ("dp", "t", "p"), {"dp": "dp"})

    for of in (
        losses.MeanSquaredError(), losses.MeanAbsoluteError(), losses.Huber(0.6), losses.BinaryCrossentropy(),
        losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1), losses.CategoricalCrossentropy(),
        losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1), losses.SparseCategoricalCrossentropy(),
        losses.SparseCategoricalCrossentropy(from_logits=True), losses.CosineSimilarity(), losses.KLDivergence(),
        losses.LogCosh(), losses.CategoricalHinge(), losses.CategoricalFocalCrossentropy(gamma=1.7),
        losses.BinaryFocalCrossentropy(True, from_logits=True), losses.Tversky(0.3, 0.7, axis=-1),
    ):  # fmt: skip
        yield case(f"{of.name} {of.constants}", of.formula, of.numbers)
    for function, constants, sparse in (
        (cosine, {}, False), (poisson, {}, False), (focal, {"gamma": 1.7, "alpha": 0.25}, False),
        (gaussian, {}, True), (closure(3), {}, False),
    ):  # fmt: skip
        yield case(function.__name__, formulas.loss(function, constants, sparse), constants)


def metric_cases() -> Iterator[Case]:
    means = (kind() for kind in dict.fromkeys(metrics.KNOWN.values()) if kind is not None and kind.default_name)
    several = metrics.Precision([0.2, 0.6]), metrics.Recall([0.0, 0.5, 1.0], class_id=1), metrics.AUC(4)
    for metric in (*means, *several, metrics.SparseTopKCategoricalAccuracy(2, from_sorted_ids=True)):
        yield Case(f"metric {metric!r} {metric.series}", metric.formula, metric.numbers, arrays=("t", "p"))
    yield Case("metric precision", formulas.metric(precision, {}, False), {}, arrays=("t", "p"))


def update_cases() -> Iterator[Case]:
    for name, of in (
        ("sgd", optimizers.SGD()), ("sgd momentum", optimizers.SGD(momentum=0.9)),
        ("sgd nesterov", optimizers.SGD(momentum=0.9, nesterov=True)), ("adam", optimizers.Adam()),
        ("rmsprop", optimizers.RMSprop()), ("rmsprop centred", optimizers.RMSprop(momentum=0.9, centered=True)),
        ("adam amsgrad", optimizers.Adam(amsgrad=True)), ("nadam, warmed up", optimizers.Nadam()),
        ("adamax", optimizers.Adamax()), ("adagrad", optimizers.Adagrad()), ("adadelta", optimizers.Adadelta()),
        ("ftrl", optimizers.Ftrl()), ("ftrl by a power", optimizers.Ftrl(0.1, -0.7, 0.1, 0.2, 0.3, 0.4)),
        ("lion", optimizers.Lion()), ("schedule-free", optimizers.ScheduleFreeAdamW()),
        ("every stage", optimizers.SGD(clipvalue=0.3, use_ema=True, gradient_accumulation_steps=3)),
    ):  # fmt: skip
        yield Case(name, of.formula, of.numbers, ("w", "g", *of.slots, *of.scalar_names))
    adam = {"keep_1": 0.1, "keep_2": 0.001, "epsilon": 1e-7}
    for function, slots, scalars, constants in (
        (amsgrad, ("m", "v", "top"), ("rate", "decay"), adam),
        (nadam, ("m", "v"), ("rate", "decay", "now", "coming"), adam),
        (swapped, ("a", "b"), ("rate",), {}),
    ):
        formula = formulas.update(function, slots, scalars, constants)
        yield Case(function.__name__, formula, constants, ("w", "g", *slots, *scalars))


def penalty_cases() -> Iterator[Case]:
    l1_l2 = {"l1": 0.01, "l2": 0.02}
    for formula, numbers in (
        (regularizers.L1L2(**l1_l2).formula, l1_l2), (formulas.penalty(distance, {"scale": 0.3}), {"scale": 0.3}),
    ):  # fmt: skip
        yield Case(f"penalty {len(numbers)}", formula, numbers, arrays=("dw", "w"), into={"dw": "dw"}, adds=True)


def all_cases() -> list[Case]:
    return [*activation_cases(), *loss_cases(), *metric_cases(), *update_cases(), *penalty_cases()]


def by_operation(case: Case, inputs: Mapping[str, np.ndarray], on: Any) -> list[Any]:
    """Return a formula's roots as a backend on a GPU computes them, by the operation that such a formula is for.

    What an optimizer takes from step to step is the same for all elements: those of ``inputs`` are made so.
    """
    of, there = SimpleNamespace(formula=case.formula, numbers=case.numbers), {}
    scalars = case.arguments[2 + len(case.formula.names[1:]) :] if "w" in case.arguments else ()
    for name, values in inputs.items():
        if name in scalars:
            values[...] = values.flat[0]
        there[name] = on.to_device(values)
    if case.arrays == ("dp", "t", "p"):
        values, dp = on.empty(ROWS, np.float32), on.empty((ROWS, WIDTH), np.float32)
        weight = 0.75 * ROWS  # so that the factor is 0.75
        on.loss_into(values, of, there["t"], there["p"], on.to_device(np.full(ROWS, weight, np.float32)), dp)
        return [values[:, None] / weight, dp]
    if case.arrays == ("t", "p"):
        values = on.empty(ROWS * len(case.formula.names), np.float32)
        on.metric_into(values, None, of, there["t"], there["p"], None)
        return list(values.reshape(-1, ROWS, 1))
    if case.arrays == ("dw", "w"):
        parts, dw = on.zeros((ROWS, 4), np.float32), on.zeros((ROWS, WIDTH), np.float32)
        for r in range(ROWS):
            on.penalty_into(parts[r], of, there["w"][r], dw[r])
        return [parts.sum(axis=1, keepdims=True), dw]
    if scalars:
        slots = {name: there[name].reshape(-1) for name in case.formula.names[1:]}
        of.slots, of.scalar_names = tuple(slots), scalars
        step = tuple(float(inputs[name].flat[0]) for name in scalars)
        on.update(of, there["w"].reshape(-1), there["g"].reshape(-1), slots, 1, step)
        return [there[name] for name in case.formula.names]
    of.formula = SimpleNamespace(forward=case.formula, back=case.formula, rowwise=bool(case.arrays))
    if case.formula.names == ("dz",):
        on.activation_backward(of, there["dy"], there.get("y", there["dy"]), there.get("z"))
        return [there["dy"]]
    y = on.empty((ROWS, WIDTH), np.float32)
    on.activation_forward(of, there["z"], y)
    return [y]
