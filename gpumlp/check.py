"""Whether kernels compute what they must: cases, their truth in float64 NumPy, and how far float32 may be from it.

A case passes where every element's error is within its bound, c (K + 2) u (|A| |B|) for a sum of K products (u = 2^-24,
Higham 2002, section 3.1) and a few roundings of what is added up elsewhere, or at most twice the error of float32 NumPy
on the same inputs; NaN and Inf must stand where the truth has them. Inputs are fresh and zero-mean; outputs are
poisoned with NaN first, so that an element which is never written shows.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from gpumlp import activations, losses, metrics, optimizers
from gpumlp.backends.contract import Backend
from gpumlp.backends.numpy_backend import NumpyBackend
from gpumlp.backends.runtime import Array, DType
from gpumlp.errors import DeviceMemoryError, KernelError, Uncompiled
from gpumlp.regularizers import L1L2

U = 2.0**-24
SIZES = (1, 3, 17, 20, 31, 33, 255, 256, 257, 1000)
# every size once in each place, against a size of another kind; an empty batch; the article's layer
SHAPES = tuple(zip(SIZES, SIZES[3:] + SIZES[:3], SIZES[7:] + SIZES[:7], strict=True))
SHAPES = (*SHAPES, (0, 5, 7), (1, 1, 1), (20, 256, 256))
LARGE_SHAPES = ((1024, 1024, 1024), (2000, 3, 9), (8192, 64, 64), (128, 784, 512), (20, 4096, 1000))
SMALL_SHAPES = ((1, 1, 1), (3, 17, 5), (20, 33, 17), (33, 20, 64), (0, 5, 7))

SINGLE, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
Floats = npt.NDArray[np.float32]
Arrays = dict[str, Array]  # by name; what there is not is not there
Outputs = Mapping[str, Array | float]


class Poisoned(Protocol):
    """What makes arrays on a backend, full of NaN."""

    def __call__(self, *shape: int) -> Array: ...


@dataclass(frozen=True)
class Case:
    """One operation on one shape.

    ``run(backend, inputs, poisoned)`` returns the outputs by name; ``bound(inputs, truth)``, in float64, how far each
    may be off. An output without a bound must be exact.
    """

    operation: str
    shape: str
    inputs: Callable[[np.random.Generator], Arrays]
    run: Callable[[Backend, Arrays, Poisoned], Outputs]
    bound: Callable[[Arrays, Arrays], Outputs]


@dataclass(frozen=True)
class Result:
    """How a case went: the largest error in units of its bound, and where; NaN for one that was skipped, and why."""

    case: Case
    implementation: str
    error: float
    worst: str

    @property
    def passed(self) -> bool:
        """Whether every element is within its bound."""
        return self.error <= 1.0

    @property
    def skipped(self) -> bool:
        """Whether nothing was computed."""
        return math.isnan(self.error)


def outputs(case: Case, backend: Backend, inputs: Arrays, dtype: DType = SINGLE) -> Arrays:
    """Run ``case`` on ``backend`` in ``dtype``; return the outputs as NumPy arrays."""

    def put(value: Array) -> Array:
        array = value.astype(dtype) if value.dtype.kind == "f" else value.copy()
        return backend.to_device(array)

    def poisoned(*shape: int) -> Array:
        return backend.to_device(np.full(shape, np.nan, dtype))

    given = {name: put(value) for name, value in inputs.items()}
    found = case.run(backend, given, poisoned)
    return {k: np.asarray(v) if isinstance(v, float) else backend.to_host(v) for k, v in found.items()}


def hold(case: Case, backend: Backend, implementation: str, seed: int = 0, own_reference: bool = False) -> Result:
    """Run ``case`` on ``backend`` and compare; with ``own_reference`` the bound alone counts, not NumPy's own error.

    A kernel that faults, or a device that is full, is a case that failed. One whose formula did not come with the
    package is skipped where llvmlite, which would compile it, is not installed.
    """
    try:
        return _held(case, backend, implementation, seed, own_reference)
    except (KernelError, DeviceMemoryError) as error:
        return Result(case, implementation, math.inf, str(error).splitlines()[0])
    except Uncompiled as error:
        return Result(case, implementation, math.nan, str(error))


def _held(case: Case, backend: Backend, implementation: str, seed: int, own_reference: bool) -> Result:
    inputs = case.inputs(np.random.default_rng([seed, *case.shape.encode(), *case.operation.encode()]))
    wide = {k: v.astype(np.float64) if v.dtype == np.float32 else v for k, v in inputs.items()}
    with np.errstate(all="ignore"):
        truth = outputs(case, NumpyBackend(), inputs, DOUBLE)
        plain = None if own_reference else outputs(case, NumpyBackend(), inputs)
        got = outputs(case, backend, inputs)
        bounds = case.bound(wide, truth)
        error, worst = 0.0, ""
        for name, value in got.items():
            allowed = np.broadcast_to(np.asarray(bounds.get(name, 0.0)), truth[name].shape)
            if plain is not None:
                allowed = np.fmax(allowed, 2.0 * np.abs(plain[name] - truth[name]))
            share = _shares(value, truth[name], allowed)
            if share.size and (not worst or share.max() > error):
                at = np.unravel_index(int(share.argmax()), share.shape)
                error, place = float(share.max()), ", ".join(map(str, at))
                worst = f"{name}[{place}] = {value[at]:.6g}, truth {truth[name][at]:.6g}"
    return Result(case, implementation, error, worst)


def _shares(got: Array, truth: Array, allowed: Array) -> Array:
    """Return each element's error in units of its bound; infinite where NaN or Inf are not as in the truth."""
    error = np.abs(got - truth)
    same = (got == truth) | (np.isnan(got) & np.isnan(truth))
    share = np.where(same, 0.0, error / np.maximum(allowed, 1e-300))
    both = np.isfinite(got) & np.isfinite(truth)
    return np.where(same | (both & ~np.isnan(share)), share, np.inf)


def normal(rng: np.random.Generator, *shape: int) -> Floats:
    """Return zero-mean float32 values."""
    return rng.standard_normal(shape).astype(np.float32)


# ---- dense layers ----------------------------------------------------------------------------------------------------


def steepness(activation: activations.Activation, y: Array) -> Array | float:
    """Return what no slope near the values y is above: selu's 1.76 is the largest of those that have one."""
    return np.maximum(1.8, np.abs(y)) if activation.name == "exponential" else 1.8


def dense_cases(shape: tuple[int, int, int], activation: activations.Activation, bias: bool = True) -> Iterator[Case]:
    """Yield the way forward and the way back of a dense layer, batch x inputs x outputs."""
    b, i, o = shape
    name = "x".join(map(str, shape)) + f" {activation.name}" + ("" if bias else ", no bias")

    def forward_inputs(rng: np.random.Generator) -> Arrays:
        found: Arrays = {"x": normal(rng, b, i), "w": normal(rng, i, o)}
        return found | {"b": normal(rng, o)} if bias else found

    def forward(backend: Backend, a: Arrays, poisoned: Poisoned) -> Outputs:
        y, z = poisoned(b, o), poisoned(b, o) if activation.retains_input else None
        backend.dense_forward(a["x"], a["w"], a.get("b"), activation, y, z)
        return {"y": y} if z is None else {"y": y, "z": z}

    def forward_bound(a: Arrays, truth: Arrays) -> Outputs:
        products = np.abs(a["x"]) @ np.abs(a["w"]) + (np.abs(a["b"]) if bias else 0.0)
        z = 2 * (i + 2) * U * products
        if activation.name == "softmax":
            return {"y": truth["y"] * (2 * z.max(axis=1, keepdims=True, initial=0) + 2 * (o + 16) * U)}
        if activation.rowwise:
            return {"z": z, "y": 2 * z.max(axis=1, keepdims=True, initial=0) + 2 * (o + 16) * U * (1 + products)}
        return {"z": z, "y": steepness(activation, truth["y"]) * z + 8 * U * (np.abs(truth["y"]) + products)}

    def backward_inputs(rng: np.random.Generator) -> Arrays:
        z = normal(rng, b, o)
        found = {"dy": normal(rng, b, o), "x": normal(rng, b, i), "w": normal(rng, i, o), "y": activation(z)}
        return found | {"z": z} if activation.retains_input else found

    def backward(backend: Backend, a: Arrays, poisoned: Poisoned) -> Outputs:
        dx, dw, db = poisoned(b, i), poisoned(i, o), poisoned(o) if bias else None
        backend.dense_backward(a["dy"], a["x"], a["w"], a["y"], a.get("z"), activation, dx, dw, db)
        found = {"dx": dx, "dw": dw, "db": db}
        return {k: v for k, v in found.items() if v is not None}

    def backward_bound(a: Arrays, truth: Arrays) -> Outputs:
        dz = 1.2 * steepness(activation, a["y"]) * np.abs(a["dy"])
        if activation.name == "softmax":
            dz = (np.abs(a["dy"]) + np.abs(a["dy"] * a["y"]).sum(axis=1, keepdims=True)) * a["y"] * (o + 1)
        elif activation.rowwise:
            dz = (np.abs(a["dy"]) + np.abs(a["dy"]).sum(axis=1, keepdims=True)) * (o + 1)
        down, right = 2 * (b + 8) * U, 2 * (o + 8) * U
        return {"dx": right * dz @ np.abs(a["w"].T), "dw": down * np.abs(a["x"].T) @ dz, "db": down * dz.sum(axis=0)}

    yield Case("dense_forward", name, forward_inputs, forward, forward_bound)
    yield Case("dense_backward", name, backward_inputs, backward, backward_bound)


# ---- elementwise, row-wise, gathers ----------------------------------------------------------------------------------


def activation_cases(shape: tuple[int, int], activation: activations.Activation) -> Iterator[Case]:
    """Yield an activation as a layer of its own, forward and back."""
    b, f = shape

    def inputs(rng: np.random.Generator) -> Arrays:
        z = 3 * normal(rng, b, f)
        if z.size > 2:
            z.reshape(-1)[1:3] = np.nan, 0.0
        return {"z": z, "y": activation(z), "dy": normal(rng, b, f)}

    def forward(backend: Backend, a: Arrays, poisoned: Poisoned) -> Outputs:
        y = poisoned(b, f)
        backend.activation_forward(activation, a["z"], y)
        return {"y": y}

    def backward(backend: Backend, a: Arrays, poisoned: Poisoned) -> Outputs:
        backend.activation_backward(activation, a["dy"], a["y"], a["z"])
        return {"dy": a["dy"]}

    def forward_bound(a: Arrays, truth: Arrays) -> Outputs:
        if activation.name == "softmax":
            return {"y": (2 * (f + 16) + 8 * np.abs(a["z"])) * U * truth["y"]}
        return {"y": 16 * U * (np.abs(truth["y"]) + np.minimum(np.abs(a["z"]), 1.0))}

    def backward_bound(a: Arrays, truth: Arrays) -> Outputs:
        if activation.name == "softmax":
            sums = np.abs(a["dy"] * a["y"]).sum(axis=1, keepdims=True)
            return {"dy": 2 * (f + 8) * U * (np.abs(a["dy"]) + sums) * a["y"]}
        if activation.rowwise:
            sums = np.abs(a["dy"]).sum(axis=1, keepdims=True)
            return {"dy": 2 * (f + 8) * U * (np.abs(a["dy"]) + sums)}
        steep = steepness(activation, a["y"])
        return {"dy": 9 * U * steep * np.abs(a["dy"]) * (1 + np.nan_to_num(np.abs(a["z"])))}

    name = f"{b}x{f} {activation.name}"
    yield Case("activation", name, inputs, forward, forward_bound)
    yield Case("activation back", name, inputs, backward, backward_bound)


def plain_cases(shape: tuple[int, int]) -> Iterator[Case]:
    """Yield what moves or scales: take, affine, dropout and its way back."""
    b, f = shape
    name = f"{b}x{f}"

    def inputs(rng: np.random.Generator) -> Arrays:
        return {"x": normal(rng, max(b, 1) + 7, f), "rows": rng.integers(0, max(b, 1) + 7, b)}

    def take(backend: Backend, a: Arrays, poisoned: Poisoned) -> Outputs:
        out = poisoned(b, f)
        backend.take(a["x"], a["rows"].astype(np.int64, copy=False), out)
        return {"out": out}

    def affine(backend: Backend, a: Arrays, poisoned: Poisoned) -> Outputs:
        y = poisoned(b, f)
        backend.affine(a["x"][:b], 0.3, -1.7, y)
        return {"y": y}

    def dropout(backend: Backend, a: Arrays, poisoned: Poisoned) -> Outputs:
        y = poisoned(b, f)
        # the mask is float32 in every arithmetic, so that it is the same numbers
        mask = backend.to_device(np.full((b, f), np.nan, np.float32))
        backend.dropout(a["x"][:b], mask, y, 0.3, (1 << 63) + 12345, 2, 41)
        back = poisoned(b, f)
        backend.activation_forward(activations.linear, a["x"][:b], back)
        backend.multiply(back, mask)
        return {"mask": mask, "y": y, "back": back}

    def near(a: Arrays, truth: Arrays) -> Outputs:
        return {k: 4 * U * (np.abs(v) + 2.0) for k, v in truth.items() if k != "mask"}

    yield Case("take", name, inputs, take, lambda a, t: {})
    yield Case("affine", name, inputs, affine, near)
    yield Case("dropout", name, inputs, dropout, near)


def batch_norm_cases(shape: tuple[int, int], weights: bool = True) -> Iterator[Case]:
    """Yield batch normalization of b x f, forward and back, by the batch's statistics and by fixed ones."""
    b, f = shape
    momentum, epsilon, some = 0.7, 1e-3, 2 * (b + 16) * U

    def inputs(rng: np.random.Generator) -> Arrays:
        x = 2 * normal(rng, b, f) + normal(rng, f)
        wide = x.astype(np.float64)
        inverse = 1 / np.sqrt(wide.var(axis=0) + epsilon)
        found = {"x": x, "dy": normal(rng, b, f)}
        if weights:
            found |= {"gamma": normal(rng, f), "beta": normal(rng, f)}
        kept = np.stack([wide.mean(axis=0), inverse]).astype(np.float32)
        return {**found, "mean": normal(rng, f), "variance": normal(rng, f) ** 2, "kept": kept}

    def forward(backend: Backend, a: Arrays, poisoned: Poisoned) -> Outputs:
        y, kept, averages = poisoned(b, f), poisoned(2, f), (a["mean"], a["variance"])
        backend.batch_norm(a["x"], a.get("gamma"), a.get("beta"), averages, momentum, epsilon, kept, y)
        return {"y": y, "kept": kept, "mean": a["mean"], "variance": a["variance"]}

    def backward(backend: Backend, a: Arrays, poisoned: Poisoned) -> Outputs:
        found = {"dx": poisoned(b, f)}
        if weights:
            found |= {"dgamma": poisoned(f), "dbeta": poisoned(f)}
        dgamma, dbeta = found.get("dgamma"), found.get("dbeta")
        backend.batch_norm_backward(a["dy"], a["x"], a.get("gamma"), a["kept"], found["dx"], dgamma, dbeta)
        return found

    def fixed(backend: Backend, a: Arrays, poisoned: Poisoned) -> Outputs:
        y, dx = poisoned(b, f), poisoned(b, f)
        backend.fixed_norm(a["x"], a.get("gamma"), a.get("beta"), (a["mean"], a["variance"]), epsilon, y)
        backend.fixed_norm_backward(a["dy"], a.get("gamma"), a["variance"], epsilon, dx)
        return {"y": y, "dx": dx}

    def forward_bound(a: Arrays, truth: Arrays) -> Outputs:
        gamma, beta = (np.abs(a[name]) if weights else float(name == "gamma") for name in ("gamma", "beta"))
        mean, inverse = truth["kept"]
        off = np.abs(a["x"] - mean)
        of_mean = 8 * U * np.abs(a["x"]).mean(axis=0) + some * off.mean(axis=0)
        y = gamma * inverse * (of_mean + some * off) + 8 * U * (np.abs(truth["y"]) + beta)
        return {
            "y": y, "kept": np.stack([of_mean, some * inverse]), "mean": of_mean + 8 * U * np.abs(a["mean"]),
            "variance": some * (off**2).mean(axis=0) + 8 * U * a["variance"],
        }  # fmt: skip

    def backward_bound(a: Arrays, truth: Arrays) -> Outputs:
        (mean, inverse), gamma, dy = a["kept"], np.abs(a["gamma"]) if weights else 1.0, np.abs(a["dy"])
        normal = np.abs(a["x"] - mean) * inverse + 4 * np.abs(mean) * inverse * U
        sums = dy.mean(axis=0) + normal * (dy * normal).mean(axis=0)
        dgamma = some * (dy * (normal + np.abs(mean) * inverse * U)).sum(axis=0)
        return {"dx": 2 * some * inverse * gamma * (dy + sums), "dgamma": dgamma, "dbeta": some * dy.sum(axis=0)}

    def fixed_bound(a: Arrays, truth: Arrays) -> Outputs:
        gamma, beta = (np.abs(a[name]) if weights else float(name == "gamma") for name in ("gamma", "beta"))
        size = (np.abs(a["x"]) + np.abs(a["mean"])) / np.sqrt(a["variance"] + epsilon)
        return {"y": 16 * U * (gamma * size + beta), "dx": 16 * U * np.abs(truth["dx"])}

    name = f"{b}x{f}" + ("" if weights else ", no weights")
    yield Case("batch_norm", name, inputs, forward, forward_bound)
    yield Case("batch_norm back", name, inputs, backward, backward_bound)
    yield Case("fixed_norm", name, inputs, fixed, fixed_bound)


# ---- losses, metrics, penalties, updates -----------------------------------------------------------------------------

LOSSES: tuple[tuple[losses.Loss, str], ...] = (
    (losses.MeanSquaredError(), "real"),
    (losses.MeanAbsoluteError(), "real"),
    (losses.Huber(0.5), "real"),
    (losses.BinaryCrossentropy(label_smoothing=0.1), "probabilities"),
    (losses.BinaryCrossentropy(from_logits=True), "logits"),
    (losses.CategoricalCrossentropy(), "probabilities"),
    (losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2), "logits"),
    (losses.SparseCategoricalCrossentropy(), "probabilities"),
    (losses.SparseCategoricalCrossentropy(from_logits=True), "logits"),
    (losses.CosineSimilarity(), "real"),
    (losses.KLDivergence(), "probabilities"),
    (losses.CategoricalHinge(), "logits"),
    (losses.BinaryFocalCrossentropy(from_logits=True, gamma=1.5), "logits"),
    (losses.CategoricalFocalCrossentropy(), "probabilities"),
)
METRICS: tuple[metrics.Metric, ...] = (
    *map(
        metrics.for_model,
        ("mean_squared_error", "mean_absolute_error", "binary_accuracy", "categorical_accuracy",
         "sparse_categorical_accuracy"),
    ),
    metrics.TopKCategoricalAccuracy(2, "largest two"),
    metrics.TruePositives([0.2, 0.7], "true positives"),
    metrics.Precision([0.0, 0.5, 1.0], name="precision"),
)  # fmt: skip


def _targets(rng: np.random.Generator, b: int, o: int, sparse: bool, kind: str) -> Floats:
    if sparse:
        return rng.integers(0, o, (b, 1)).astype(np.float32)
    if kind == "real":
        return normal(rng, b, o)
    return np.eye(o, dtype=np.float32)[rng.integers(0, o, b)]


def loss_case(shape: tuple[int, int], loss: losses.Loss, kind: str, weighted: bool, nan: bool = False) -> Case:
    """Return a loss and its gradient; with ``nan`` one prediction is none."""
    b, o = shape

    def inputs(rng: np.random.Generator) -> Arrays:
        p = normal(rng, b, o)
        if kind == "probabilities":
            p = (1 / (1 + np.exp(-p.astype(np.float64)))).astype(np.float32)
        if nan:
            p[b // 2, o // 2] = np.nan
        weights = {"weights": np.abs(normal(rng, b))} if weighted else {}
        t = _targets(rng, b, o, loss.sparse, kind)
        if weighted and kind != "real" and not loss.sparse:
            t = np.abs(normal(rng, b, o))  # targets that do not sum to one
        return {"p": p, "t": t, **weights}

    def run(backend: Backend, a: Arrays, poisoned: Poisoned) -> Outputs:
        dp = poisoned(b, o)
        value = backend.loss(loss, a["t"], a["p"], a.get("weights"), dp)
        return {"loss": float(value), "dp": dp}

    def bound(a: Arrays, truth: Arrays) -> Outputs:
        weight = a["weights"][:, None] if weighted else 1.0
        dp = np.fmax.reduce(np.abs(truth["dp"]), axis=1, keepdims=True, initial=0.0) + weight / b  # past NaN
        return {"loss": 2 * (b + o + 16) * U * (abs(truth["loss"]) + 1), "dp": 2 * (o + 16) * U * dp}

    logits = " logits" if loss.get_config().get("from_logits") else ""
    more = (", weighted" if weighted else "") + (", NaN" if nan else "")
    return Case("loss", f"{b}x{o} {loss.name}{logits}{more}", inputs, run, bound)


def metric_case(shape: tuple[int, int], metric: metrics.Metric, weighted: bool) -> Case:
    """Return a metric's sums and divisor."""
    b, o = shape
    metric = metric.changed(weighted=weighted)
    real = "squared" in metric.name or "absolute" in metric.name

    def inputs(rng: np.random.Generator) -> Arrays:
        p = normal(rng, b, o)
        if not real and o > 2:
            p[::3] = np.round(p[::3])  # ties: the first place of the largest wins
            p[1::5, 1:] = np.nan
        weights = {"weights": np.abs(normal(rng, b))} if weighted else {}
        return {"p": p, "t": _targets(rng, b, o, metric.sparse, "real" if real else "class"), **weights}

    def run(backend: Backend, a: Arrays, poisoned: Poisoned) -> Outputs:
        sums, count = backend.metric(metric, a["t"], a["p"], a.get("weights"))
        return {**{f"sum {i}": each for i, each in enumerate(sums)}, "count": count}

    def bound(a: Arrays, truth: Arrays) -> Outputs:
        return {k: 2 * (b + o + 8) * U * (abs(v) + 1) for k, v in truth.items()}

    return Case("metric", f"{b}x{o} {metric.name}{', weighted' if weighted else ''}", inputs, run, bound)


def penalty_case(count: int, regularizer: L1L2) -> Case:
    """Return a weight penalty and what it adds to the gradient."""

    def inputs(rng: np.random.Generator) -> Arrays:
        w = normal(rng, count)
        w[::7] = 0.0
        return {"w": w, "dw": normal(rng, count)}

    def run(backend: Backend, a: Arrays, poisoned: Poisoned) -> Outputs:
        return {"penalty": float(backend.penalty(regularizer, a["w"], a["dw"])), "dw": a["dw"]}

    def bound(a: Arrays, truth: Arrays) -> Outputs:
        return {
            "penalty": 2 * (count + 8) * U * abs(truth["penalty"]),
            "dw": 8 * U * (np.abs(a["dw"]) + np.abs(a["w"])),
        }

    return Case("penalty", f"{count} l1={regularizer.l1:g} l2={regularizer.l2:g}", inputs, run, bound)


PENALTIES = (L1L2(0.01, 0.02), L1L2(l1=0.1), L1L2(l2=0.1))
OPTIMIZERS = {
    "adam": optimizers.Adam(0.01),
    "adamw": optimizers.AdamW(0.01, weight_decay=0.1),
    "sgd": optimizers.SGD(0.01, weight_decay=0.1),
    "sgd momentum": optimizers.SGD(0.01, momentum=0.9),
    "sgd nesterov": optimizers.SGD(0.01, momentum=0.9, nesterov=True),
    "rmsprop": optimizers.RMSprop(0.01),
    "rmsprop centered": optimizers.RMSprop(0.01, momentum=0.5, centered=True),
}


def update_case(count: int, name: str, offset: int = 0) -> Case:
    """Return three steps of an optimizer; ``offset`` elements into the arrays, where they are not aligned."""
    optimizer = OPTIMIZERS[name]

    def inputs(rng: np.random.Generator) -> Arrays:
        slots = {slot: np.zeros(count + offset, np.float32) for slot in optimizer.slots}
        return {"w": normal(rng, count + offset), **{f"g{t}": normal(rng, count + offset) for t in (1, 2, 3)}, **slots}

    def run(backend: Backend, a: Arrays, poisoned: Poisoned) -> Outputs:
        part = slice(offset, None)
        slots = {slot: a[slot][part] for slot in optimizer.slots}
        for t in (1, 2, 3):
            optimizer.update(backend, a["w"][part], a[f"g{t}"][part], slots, t)
        return {"w": a["w"], **{slot: a[slot] for slot in optimizer.slots}}

    def bound(a: Arrays, truth: Arrays) -> Outputs:
        scale = sum(np.abs(a[f"g{t}"]) for t in (1, 2, 3))
        return {k: 32 * U * (np.abs(v) + (0.1 if k == "w" else scale + scale**2)) for k, v in truth.items()}

    return Case(f"update {name}", f"{count}{f' from {offset}' if offset else ''}", inputs, run, bound)


# ---- all of them -----------------------------------------------------------------------------------------------------


def dense_sweep(shapes: Iterable[tuple[int, int, int]]) -> Iterator[Case]:
    """Yield dense layers of all shapes with relu, and of two, one in whole vectors, with everything else."""
    for shape in shapes:
        yield from dense_cases(shape, activations.relu)
    for activation in every_activation():
        for shape in ((20, 33, 17), (20, 36, 16)):
            yield from dense_cases(shape, activation)
    yield from dense_cases((20, 33, 17), activations.tanh, bias=False)


def every_activation() -> list[activations.Activation]:
    """Return each activation, and each form of gelu."""
    return [*dict.fromkeys(activations.KNOWN.values()), activations.gelu.given(approximate=True)]


def other_cases(small: bool) -> Iterator[Case]:
    """Yield every operation but the dense ones."""
    for activation in every_activation():
        yield from activation_cases((20, 33), activation)
    for shape in ((1, 1), (33, 257), (0, 3)) if small else ((1, 1), (33, 257), (1000, 31), (0, 3)):
        yield from plain_cases(shape)
    for shape in ((1, 3), (33, 17)) if small else ((1, 1), (3, 17), (20, 31), (33, 255), (257, 33), (1000, 256)):
        yield from batch_norm_cases(shape, weights=shape[0] != 33)
    yield from activation_cases((257, 10) if small else (1000, 1000), activations.softmax)
    for loss, kind in LOSSES:
        for shape in ((20, 1), (33, 10)) if small else ((20, 1), (33, 10), (257, 33)):
            yield loss_case(shape, loss, kind, weighted=shape[0] != 20)
        yield loss_case((7, 5), loss, kind, weighted=False, nan=True)
    for metric in METRICS:
        yield metric_case((33, 10), metric, weighted=True)
        yield metric_case((20, 3), metric, weighted=False)
    for count in (1, 257) if small else (1, 257, 100_000):
        for penalty in PENALTIES:
            yield penalty_case(count, penalty)
    for name in OPTIMIZERS:
        for count, offset in ((1, 0), (257, 0), (64, 1)) if small else ((1, 0), (257, 0), (64, 1), (395_521, 0)):
            yield update_case(count, name, offset)


LINE = "{:<23} {:<42} {:<12} {:>6}  {:<4}  {}"
SUMMARY = "{:<23} {:<12} {:>5}  {:>6}  {:<4}  {}"


def table(results: Iterable[Result]) -> Iterator[str]:
    """Yield the lines of a table, as the results come; the last line counts."""
    yield LINE.format("operation", "shape", "kernels", "error", "", "worst element")
    of_all: list[Result] = []
    for r in results:
        of_all.append(r)
        yield _line(r)
    yield from _end(of_all)


def _line(r: Result) -> str:
    error, word, worst = ("", "SKIP", "") if r.skipped else (f"{r.error:.3f}", "PASS" if r.passed else "FAIL", r.worst)
    return LINE.format(r.case.operation, r.case.shape, r.implementation, error, word, worst).rstrip()


def _end(results: Sequence[Result]) -> Iterator[str]:
    passed, skipped = sum(r.passed for r in results), [r for r in results if r.skipped]
    failed = len(results) - passed - len(skipped)
    yield f"{passed} passed, {failed} failed (error: the largest, in units of its bound)"
    if skipped:
        yield f"{len(skipped)} skipped, the last one for this: {skipped[-1].worst}"


def summary(results: Iterable[Result]) -> Iterator[str]:
    """Yield a line for each operation of each implementation, and those of `table` for cases that failed."""
    yield SUMMARY.format("operation", "kernels", "cases", "error", "", "worst case")
    of_all: list[Result] = []
    for name, group in itertools.groupby(results, lambda r: r.implementation):
        found: dict[str, list[Result]] = {}
        for r in group:
            found.setdefault(r.case.operation, []).append(r)
            if not (r.passed or r.skipped):
                yield _line(r)
        for operation, each in found.items():
            computed = [r for r in each if not r.skipped]
            worst = max(computed, key=lambda r: r.error, default=each[0])
            said = ("", "SKIP") if not computed else (f"{worst.error:.3f}", "PASS" if worst.passed else "FAIL")
            yield SUMMARY.format(operation, name, len(each), *said, worst.case.shape).rstrip()
        of_all += itertools.chain(*found.values())
    yield from _end(of_all)
