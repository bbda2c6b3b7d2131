"""Write the golden data: what Keras on JAX computes in float64, for tests that replay it without Keras.

    .venv-parity/bin/python tests/golden/make.py [KIND ...]

Each kind becomes a file of JSON with a case a line, read by ``golden.cases``: numbers are written by ``repr``, so that
they come back to the bit, and NaN and the infinities by Python's words for them. The numbers that go in are written
too; nothing is drawn when a test runs. What is there for each kind stands in the function of its name.

Marks are places in the flattened input. ``tie``: the function has a kink there and Keras's slope is that of neither
side (JAX's maximum shares a gradient among those that are equal). ``kink``: the slope is that of one side, or it is 0
by convention. ``accident``: value or slope is NaN though the input is a number, mostly 0 * inf in the derivative of a
``where`` or inf - inf, and no answer that anybody would want; ``accident_values`` has those of a loss's values.
``nan``: the input is NaN, for which Keras has numbers in places. ``edge``: far out, tiny, infinite, NaN, or at a clip.

A slope at a kink is the engine's convention in part: abs has the slope 1 at 0 on JAX, 0 on TensorFlow.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"
os.environ["JAX_ENABLE_X64"] = "1"

import jax
import jax.numpy as jnp
import keras
import numpy as np
from keras.src.backend.common import dtypes
from keras.src.utils.naming import to_snake_case

# On JAX, Keras makes float32 of float64 wherever it looks up a common type (tanh, logaddexp, var), whatever floatx is.
dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"

FOLDER = Path(__file__).parent
INF, NAN, EPSILON = float("inf"), float("nan"), 1e-7
Case = dict[str, Any]


def plain(value: Any) -> Any:
    """Return what JSON can hold: lists, numbers, strings; a Keras object as its class's name and config."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if hasattr(value, "get_config"):
        return {"class_name": type(value).__name__, "config": plain(value.get_config())}
    if callable(value):
        return value.__name__
    array = np.asarray(value)
    if array.dtype not in (np.float64, np.int32, np.int64, np.bool_):
        raise TypeError(f"Computed in {array.dtype}: not exact.")
    return array.tolist()


def write(kind: str, cases: list[Case], inputs: dict[str, Any] | None = None) -> None:
    """Write the cases of a kind, one a line, and before them the arrays that they name."""

    def line(thing: Any) -> str:
        return json.dumps(plain(thing), separators=(",", ":"))

    parts = [f'"keras":{line(keras.__version__)}']
    parts.append('"inputs":{\n' + ",\n".join(f"{line(k)}:{line(v)}" for k, v in (inputs or {}).items()) + "\n}")
    parts.append('"cases":[\n' + ",\n".join(line(c) for c in cases) + "\n]")
    path = FOLDER / f"{kind}.json"
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n")
    print(f"{path.name}: {len(cases)} cases, {path.stat().st_size:,} bytes", flush=True)


def drawn(seed: int, *shape: int, low: float = -2.0, high: float = 2.0) -> np.ndarray:
    """Return numbers of four decimals, so that the file can be read."""
    return np.round(np.random.default_rng(seed).uniform(low, high, shape), 4)


def places(mask: Any) -> list[int]:
    return np.flatnonzero(np.asarray(mask)).tolist()


def kinks(slopes: Callable[[Any], Any], x: np.ndarray, step: float, tolerance: float) -> tuple[list[int], list[int]]:
    """Return where the slopes on both sides of an element of ``x`` differ: taking one of them (or 0), or neither."""
    flat = x.reshape(-1)
    move = np.where(flat == 0, step * 1e-3, np.abs(flat) * step)
    move[~np.isfinite(flat)] = 0.0
    beside = np.concatenate([flat + np.diag(move), flat - np.diag(move)]).reshape(-1, *x.shape)
    found = np.asarray(jax.vmap(slopes)(jnp.asarray(beside))).reshape(2, flat.size, flat.size)
    above, below = np.diagonal(found[0]), np.diagonal(found[1])
    here = np.asarray(slopes(jnp.asarray(x))).reshape(-1)

    def near(a: Any, b: Any) -> Any:
        return np.abs(a - b) <= tolerance * np.maximum(np.maximum(np.abs(a), np.abs(b)), 1e-6)

    with np.errstate(all="ignore"):
        jump = np.isfinite(above + below + here) & ~near(above, below) & (np.abs(flat) < 1e10)
        one = near(here, above) | near(here, below)
    return places(jump & (one | (here == 0))), places(jump & ~one & (here != 0))


# ---- activations -----------------------------------------------------------------------------------------------------

# Ordinary numbers, every kink that one of the functions has, and what lies far out.
LINE = [
    0.0, -0.0, 0.25, -0.25, 0.7, -0.7, 1.7, -1.3, 2.6, -2.2, 4.5, -4.1, 5.5, -7.5, 9.0, -12.0,
    0.5, -0.5, 1.0, -1.0, 1.5, 2.0, -2.0, 3.0, -3.0, 6.0, -6.0,
    1e-8, -1e-8, 1e-300, -1e-300, 30.0, -30.0, 50.0, -50.0, 800.0, -800.0, 1e3, -1e3, 1e30, -1e30, 1e200, -1e200,
    INF, -INF, NAN,
]  # fmt: skip
ELEMENTWISE: dict[str, list[Case]] = {
    "linear": [{}],
    "relu": [
        {}, {"negative_slope": 0.1}, {"max_value": 2.0}, {"max_value": 6.0}, {"threshold": 1.5}, {"threshold": -1.0},
        {"negative_slope": 0.1, "max_value": 2.0}, {"negative_slope": 0.1, "threshold": 1.5},
        {"negative_slope": 0.2, "max_value": 3.0, "threshold": 0.5},
        {"negative_slope": 0.2, "max_value": 3.0, "threshold": -0.5}, {"max_value": 3.0, "threshold": 1.5},
    ],
    "relu6": [{}], "leaky_relu": [{}, {"negative_slope": 0.0}, {"negative_slope": 0.3}], "selu": [{}],
    "elu": [{}, {"alpha": 0.5}], "celu": [{}, {"alpha": 0.5}, {"alpha": 2.0}],
    "gelu": [{}, {"approximate": True}], "silu": [{}], "mish": [{}], "sigmoid": [{}], "hard_sigmoid": [{}],
    "hard_silu": [{}], "tanh": [{}], "hard_tanh": [{}], "tanh_shrink": [{}],
    "soft_shrink": [{}, {"threshold": 1.0}], "hard_shrink": [{}, {"threshold": 1.0}],
    "softplus": [{}], "softsign": [{}], "squareplus": [{}, {"b": 1}, {"b": 0.0}], "log_sigmoid": [{}],
    "exponential": [{}], "sparse_plus": [{}], "sparse_sigmoid": [{}],
    "threshold": [{"threshold": 0.5, "default_value": -2.0}, {"threshold": -1.0, "default_value": 0.0}],
}  # fmt: skip
ROWS = [
    [0.5, -1.2, 2.0, 0.1], [1.0, 1.0, 0.25, 1.0], [0.0, 0.0, 0.0, 0.0], [3.0, -2.0, 0.1, 2.9],
    [1e3, -1e3, 999.0, 0.0], [1e30, 1e30, -1e30, 1.0], [-INF, 0.5, 0.25, 1.0], [INF, 0.5, -1.0, 2.0],
    [INF, INF, 0.0, -INF], [NAN, 0.0, 1.0, 2.0],
]  # fmt: skip
ROWWISE: dict[str, list[Case]] = {
    "softmax": [{}, {"axis": 0}, {"axis": 1}, {"axis": [0, 2]}], "log_softmax": [{}, {"axis": 0}, {"axis": 1}],
    "glu": [{}, {"axis": 0}], "sparsemax": [{}, {"axis": 0}, {"axis": 1}],
}  # fmt: skip


def activations() -> None:
    """y = f(x), and dx: the gradient of sum(c y) by x."""
    line, cube = np.array(LINE), drawn(1, 2, 3, 4)
    inputs = {
        "line": line, "line_c": drawn(2, line.size, low=0.5, high=1.5) * np.where(np.arange(line.size) % 3, 1.0, -1.0),
        "rows": np.array(ROWS), "rows_c": drawn(3, *np.shape(ROWS)), "rows_c_half": drawn(4, len(ROWS), 2),
        "cube": cube, "cube_c": drawn(5, *cube.shape), "cube_c_half": drawn(6, 1, 3, 4),
    }  # fmt: skip
    cases = []
    every = [(n, k, "line", "line_c") for n, all_ in ELEMENTWISE.items() for k in all_]
    for name, configs in ROWWISE.items():
        half = "_half" if name == "glu" else ""
        every += [(name, {}, "rows", "rows_c" + half), (name, {}, "cube", "cube_c" + half * 0) if not half else None]
        every += [(name, k, "cube", "cube_c" + half) for k in configs if k]
    for name, config, x_name, c_name in filter(None, every):
        given = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}
        function, x, c = getattr(keras.activations, name), inputs[x_name], inputs[c_name]

        def slopes(x: Any, f: Any = function, given: Case = given, c: Any = c) -> Any:
            return jax.vjp(lambda x: f(x, **given), x)[1](jnp.asarray(c))[0]

        y, dx = np.asarray(function(jnp.asarray(x), **given)), np.asarray(slopes(jnp.asarray(x)))
        case = {"name": name, "config": config, "inputs": {"x": x_name, "c": c_name}, "expected": {"y": y, "dx": dx}}
        kink, tie = kinks(slopes, x, 1e-13, 1e-6)
        lost = np.isnan(dx)
        if y.shape == x.shape:
            lost = lost | np.isnan(y)
        far = ~np.isfinite(x) | (np.abs(x) >= 30) | ((np.abs(x) < 1e-7) & (x != 0))
        nan = np.isnan(x)
        if x_name == "rows":
            far, nan = (np.broadcast_to(a.any(-1, keepdims=True), x.shape) for a in (far, nan))
        marks = {"kink": kink, "tie": tie, "accident": places(lost & ~nan), "edge": places(far)}
        marks["nan"] = places(np.isnan(x))
        cases.append(case | {"marks": {k: v for k, v in marks.items() if v}})
    write("activations", cases, inputs)


# ---- losses ----------------------------------------------------------------------------------------------------------

REDUCTIONS = ("sum_over_batch_size", "sum", "mean_with_sample_weight", "none")
FOCAL = [{}, {"gamma": 1.0}, {"gamma": 0.0}, {"alpha": 0.6}, {"from_logits": True}, {"label_smoothing": 0.2}]
BINARY: list[Case] = [
    {},
    {"from_logits": True},
    {"label_smoothing": 0.2},
    {"from_logits": True, "label_smoothing": 0.1},
]
BALANCED = {"apply_class_balancing": True}
# By class: configurations, and on which inputs: (targets, predictions) by name.
REGRESSION = [("t_real", "p_real"), ("t_real1", "p_real1"), ("t_real3", "p_real3"), ("t_far", "p_far")]
POSITIVE = [("t_positive", "p_positive"), ("t_positive1", "p_positive1"), ("t_positive_edge", "p_positive_edge")]
BITS = [("t_bits", "p_probability"), ("t_bits1", "p_probability1"), ("t_bits_edge", "p_probability_edge")]
BIT_LOGITS = [("t_bits", "p_real"), ("t_bits1", "p_real1"), ("t_bits_far", "p_far")]
CLASSES = [("t_classes", "p_distribution"), ("t_soft", "p_probability"), ("t_classes_edge", "p_probability_edge")]
CLASS_LOGITS = [("t_classes", "p_real"), ("t_soft", "p_real"), ("t_classes_far", "p_far")]
LABELS = [("t_labels", "p_distribution"), ("t_labels1", "p_probability"), ("t_labels_edge", "p_probability_edge")]
LABEL_LOGITS = [("t_labels", "p_real"), ("t_labels1", "p_real"), ("t_labels_far", "p_far")]
SIGNS = [("t_signs", "p_real"), ("t_bits", "p_real"), ("t_bits1", "p_real1"), ("t_signs_far", "p_far")]
LOSSES: list[tuple[str, list[Case], list[tuple[str, str]]]] = [
    ("MeanSquaredError", [{}], REGRESSION), ("MeanAbsoluteError", [{}], REGRESSION),
    ("MeanAbsolutePercentageError", [{}], REGRESSION), ("MeanSquaredLogarithmicError", [{}], POSITIVE + REGRESSION[:1]),
    ("Huber", [{}, {"delta": 0.3}], REGRESSION), ("LogCosh", [{}], REGRESSION),
    ("CosineSimilarity", [{}], REGRESSION), ("CosineSimilarity", [{"axis": 1}, {"axis": 0}], REGRESSION[2:3]),
    ("BinaryCrossentropy", BINARY[::2], BITS), ("BinaryCrossentropy", BINARY[1::2], BIT_LOGITS),
    ("BinaryFocalCrossentropy", [c for c in FOCAL if not c.get("from_logits")] + [BALANCED], BITS),
    ("BinaryFocalCrossentropy", [BALANCED | {"alpha": 0.6, "gamma": 1.5}], BITS[:1]),
    ("BinaryFocalCrossentropy", [{"from_logits": True}, BALANCED | {"from_logits": True}], BIT_LOGITS),
    ("CategoricalCrossentropy", BINARY[::2], CLASSES), ("CategoricalCrossentropy", BINARY[1::2], CLASS_LOGITS),
    ("CategoricalCrossentropy", [{"axis": 1}, {"axis": 1, "from_logits": True}], [("t_soft3", "p_probability3")]),
    ("CategoricalFocalCrossentropy", [c for c in FOCAL if not c.get("from_logits")], CLASSES),
    ("CategoricalFocalCrossentropy", [{"from_logits": True}], CLASS_LOGITS),
    ("SparseCategoricalCrossentropy", [{}], LABELS), ("SparseCategoricalCrossentropy", BINARY[1:2], LABEL_LOGITS),
    ("SparseCategoricalCrossentropy", [{"ignore_class": 1}, {"ignore_class": 1, "from_logits": True}], LABELS[:2]),
    ("SparseCategoricalCrossentropy", [{"ignore_class": -1}], [("t_labels_ignored", "p_probability")]),
    ("SparseCategoricalCrossentropy", [{}, {"ignore_class": 2}, {"from_logits": True}],
     [("t_labels3", "p_probability3")]),
    ("KLDivergence", [{}], [("t_soft", "p_distribution"), *BITS]), ("Poisson", [{}], POSITIVE),
    ("Hinge", [{}], SIGNS), ("SquaredHinge", [{}], SIGNS),
    ("CategoricalHinge", [{}], [("t_classes", "p_real"), ("t_classes", "p_tied"), ("t_classes_far", "p_far")]),
    ("Dice", [{}, {"axis": 1}], BITS[:2]),
    ("Tversky", [{}, {"alpha": 0.3, "beta": 0.7}, {"axis": 1}], BITS[:2]),
    ("Circle", [{}, {"gamma": 16, "margin": 0.2}, {"remove_diagonal": False}], [("t_same", "p_unit")]),
    ("CategoricalGeneralizedCrossEntropy", [{}, {"q": 0.7}], [("t_labels", "p_distribution")]),
]  # fmt: skip


def loss_inputs() -> dict[str, np.ndarray]:
    edge = [0.0, 1.0, EPSILON, 1.0 - EPSILON, 1e-9, 1.0 - 1e-9, 0.5, 1e-7 / 3, 1.0]
    unit = drawn(30, 6, 3)
    real = drawn(10, 4, 3), drawn(11, 4, 3)
    real[1][0, 1], real[1][2, 2], real[0][3, 0], real[1][3, 1] = real[0][0, 1], real[0][2, 2] + 1.0, 0.0, 0.0
    positive = drawn(12, 4, 3, low=0.0, high=3.0), drawn(13, 4, 3, low=0.05, high=3.0)
    positive[0][1, 1] = 0.0
    weights = drawn(14, 4, 3, low=0.1, high=1.0)
    return {
        "t_real": real[0], "p_real": real[1], "t_real1": drawn(15, 5, 1), "p_real1": drawn(16, 5, 1),
        "t_real3": drawn(17, 2, 3, 4), "p_real3": drawn(18, 2, 3, 4),
        "t_far": [[0.0, 0.0, 1.0], [0.5, -2.0, 1e3], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        "p_far": [[50.0, -50.0, 800.0], [1e3, -1e3, 999.0], [1e30, -1e30, 0.0], [INF, 0.5, -INF], [NAN, 0.5, 1.0]],
        "t_positive": positive[0], "p_positive": positive[1],
        "t_positive1": [[0.0], [1.0], [2.0], [5.0], [0.5]], "p_positive1": drawn(19, 5, 1, low=0.05, high=4.0),
        "t_positive_edge": [[0.0, 1.0, 0.0], [2.0, 1.0, 0.0], [1.0, 0.0, 1.0]],
        "p_positive_edge": [[0.0, 0.0, 1e-9], [EPSILON, 1e3, 1e30], [INF, -0.5, NAN]],
        "t_bits": [[1, 0, 1], [0, 0, 1], [1, 1, 0], [0, 1, 0]], "p_probability": drawn(20, 4, 3, low=0.05, high=0.95),
        "t_bits1": [[1], [0], [0], [1], [1]], "p_probability1": drawn(21, 5, 1, low=0.05, high=0.95),
        "t_bits_edge": [[0, 0, 0], [0, 0, 0], [0, 0, 0], [1, 1, 1], [1, 1, 1], [1, 1, 1], [0.3, 0.7, 1.0]],
        "t_classes_edge": [[0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 0], [0, 0, 1], [0.3, 0.2, 0.5]],
        "t_labels_edge": np.array([1, 0, 2, 1, 1, 2, 0]),
        "p_probability_edge": np.reshape([*edge, *edge, 0.0, NAN, 1.0], (7, 3)),
        "t_bits_far": [[0, 1, 1], [1, 0, 1], [0, 1, 0], [1, 0, 0], [0, 1, 1]],
        "t_classes_far": [[0, 1, 0], [1, 0, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0]],
        "t_labels_far": np.array([1, 0, 2, 0, 1]),
        "t_classes": [[0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0]], "t_labels": np.array([1, 0, 2, 1]),
        "t_labels1": np.array([[1], [0], [2], [1]]), "t_labels_ignored": np.array([1, -1, 2, -1]),
        "t_labels3": np.array([[1, 0, 2], [3, 2, 2]]),
        "t_soft": np.round(weights / weights.sum(1, keepdims=True), 6),
        "p_distribution": (lambda a: a / a.sum(1, keepdims=True))(drawn(22, 4, 3, low=0.05, high=1.0)),
        "t_soft3": drawn(23, 2, 3, 4, low=0.0, high=1.0), "p_probability3": drawn(24, 2, 3, 4, low=0.05, high=0.95),
        "t_signs": [[1, -1, 1], [-1, -1, 1], [1, 1, -1], [1, -1, -1]],
        "t_signs_far": [[1, 1, 1], [-1, 1, 1], [1, -1, -1], [1, 1, -1], [1, 1, 1]],
        "p_tied": [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.0, 2.0, 2.0], [0.5, 1.0, 0.5]],
        "t_same": np.array([0, 1, 0, 2, 1, 2]), "p_unit": unit / np.linalg.norm(unit, axis=1, keepdims=True),
        "w": [0.5, 1.0, 0.0, 2.0], "w1": [0.5, 1.0, 0.0, 2.0, 0.25], "w3": [[0.5, 1.0, 0.0], [2.0, 0.25, 1.5]],
        "w6": [0.5, 1.0, 0.0, 2.0, 0.25, 1.5],
    }  # fmt: skip


def losses() -> None:
    """The value of each sample, reduced in each way without and with weights; dp: the gradient of the values' sum.

    ``dp_weighted`` is that of the weighted loss as a model takes it (sum_over_batch_size). Where values are far out
    there are ``values`` and ``dp`` alone.
    """
    inputs = {
        k: np.asarray(v, None if np.asarray(v).dtype.kind == "i" and k.startswith("t_labels") else np.float64)
        for k, v in loss_inputs().items()
    }
    cases = []
    for name, configs, on in LOSSES:
        for config, (t_name, p_name) in ((c, o) for c in configs for o in on):
            t, p = inputs[t_name], inputs[p_name]
            if name == "CategoricalGeneralizedCrossEntropy" and not config:
                config = {"q": 0.5}
            make, edge = getattr(keras.losses, name), p_name.endswith(("edge", "far"))

            def loss(p: Any, reduction: str, w: Any = None, make: Any = make, config: Case = config, t: Any = t) -> Any:
                return make(**config, reduction=reduction)(t, p, sample_weight=w)

            def slopes(p: Any, loss: Any = loss) -> Any:
                return jax.grad(lambda p: loss(p, "sum"))(p)

            values = np.asarray(loss(p, "none"))
            given, expected = {"t": t_name, "p": p_name}, {"values": values, "dp": slopes(jnp.asarray(p))}
            if not edge:
                w_name = {(4,): "w", (5,): "w1", (2, 3): "w3", (6,): "w6"}.get(values.shape)
                expected["reduced"] = {r: loss(p, r) for r in REDUCTIONS[:-1]}
                if w_name:
                    given["w"] = w_name
                    expected["weighted"] = {r: loss(p, r, inputs[w_name]) for r in REDUCTIONS}
                    expected["dp_weighted"] = jax.grad(
                        lambda p, w=inputs[w_name]: loss(p, REDUCTIONS[0], w)
                    )(jnp.asarray(p))  # fmt: skip
            kink, tie = kinks(slopes, p, 1e-12, 1e-3)
            dp = np.asarray(expected["dp"])
            nan = np.broadcast_to(np.isnan(p).any(-1, keepdims=True), p.shape) if edge else np.isnan(p)
            marks = {"kink": kink, "tie": tie, "accident": places(np.isnan(dp) & ~nan), "nan": places(np.isnan(p))}
            if edge:
                marks["accident_values"] = places(np.isnan(values) & ~np.isnan(p).any(-1))
                marks["edge"] = list(range(p.size))
            case = {"name": name, "config": config, "inputs": given, "expected": expected}
            cases.append(case | {"marks": {k: v for k, v in marks.items() if v}})
    write("losses", cases, inputs)


# ---- metrics ---------------------------------------------------------------------------------------------------------

THRESHOLDS = [0.2, 0.5, 0.8]
EVEN = [0.0, 0.25, 0.5, 0.75, 1.0]
COUNTS: list[Case] = [{}, {"thresholds": 0.3}, {"thresholds": THRESHOLDS}, {"thresholds": EVEN}]
RETRIEVAL: list[Case] = [{"top_k": 2}, {"class_id": 1}, {"top_k": 2, "class_id": 0}, {"top_k": 1}]
CURVES = [{"curve": c, "summation_method": s} for c in ("ROC", "PR", "PRGAIN")
          for s in ("interpolation", "majoring", "minoring")]  # fmt: skip
AVERAGES: list[Case] = [{}, {"average": "micro"}, {"average": "macro"}, {"average": "weighted"},
                        {"threshold": 0.4}, {"threshold": 0.4, "average": "macro"}]  # fmt: skip
MEASURES = ("MeanSquaredError", "RootMeanSquaredError", "MeanAbsoluteError", "LogCoshError", "CosineSimilarity",
            "MeanAbsolutePercentageError", "R2Score", "PearsonCorrelation", "ConcordanceCorrelation")  # fmt: skip
METRICS: list[tuple[str, list[Case], str]] = [
    ("Mean", [{}], "values"), ("Mean", [{}], "values2"), ("Sum", [{}], "values"), ("Sum", [{}], "values2"),
    ("MeanMetricWrapper", [{"fn": "mean_squared_error"}, {"fn": "huber", "delta": 0.5}], "real"),
    ("MeanMetricWrapper", [{"fn": "binary_crossentropy", "label_smoothing": 0.1}], "multilabel"),
    *((name, [{}], "real") for name in MEASURES), *((name, [{}], "real1") for name in MEASURES),
    ("CosineSimilarity", [{"axis": 0}], "real"),
    ("R2Score", [{"class_aggregation": None}, {"class_aggregation": "variance_weighted_average"},
                 {"num_regressors": 2}], "real"),
    ("PearsonCorrelation", [{"axis": 0}], "real"), ("ConcordanceCorrelation", [{"axis": 0}], "real"),
    ("MeanSquaredLogarithmicError", [{}], "positive"), ("Poisson", [{}], "positive"),
    ("KLDivergence", [{}], "onehot"), ("KLDivergence", [{}], "multilabel"),
    ("Hinge", [{}], "multilabel"), ("SquaredHinge", [{}], "multilabel"), ("CategoricalHinge", [{}], "onehot"),
    ("BinaryCrossentropy", [{}, {"label_smoothing": 0.1}], "multilabel"), ("BinaryCrossentropy", [{}], "binary"),
    ("BinaryCrossentropy", [{"from_logits": True}], "logits"),
    ("CategoricalCrossentropy", [{}, {"label_smoothing": 0.1}, {"from_logits": True}], "onehot"),
    ("SparseCategoricalCrossentropy", [{}, {"from_logits": True}], "sparse"),
    ("SparseCategoricalCrossentropy", [{}], "sparse1"),
    ("Accuracy", [{}], "labels"), ("BinaryAccuracy", [{}, {"threshold": 0.3}, {"threshold": 0.0}], "multilabel"),
    ("BinaryAccuracy", [{}], "binary"), ("CategoricalAccuracy", [{}], "onehot"),
    ("SparseCategoricalAccuracy", [{}], "sparse"), ("SparseCategoricalAccuracy", [{}], "sparse1"),
    ("TopKCategoricalAccuracy", [{}, {"k": 1}, {"k": 2}], "onehot"),
    ("SparseTopKCategoricalAccuracy", [{}, {"k": 1}, {"k": 2}, {"k": 2, "from_sorted_ids": False}], "sparse"),
    ("SparseTopKCategoricalAccuracy", [{"k": 2, "from_sorted_ids": True}], "sorted"),
    *((n, COUNTS, on) for n in ("TruePositives", "TrueNegatives", "FalsePositives", "FalseNegatives")
      for on in ("binary", "multilabel")),
    *((n, COUNTS, "binary") for n in ("Precision", "Recall")),
    *((n, COUNTS[:3] + RETRIEVAL, "multilabel") for n in ("Precision", "Recall")),
    *((n, [{a: v, "num_thresholds": k} for v in (0.5, 0.8) for k in (200, 1, 11)], on)
      for n, a in (("SensitivityAtSpecificity", "specificity"), ("SpecificityAtSensitivity", "sensitivity"),
                   ("PrecisionAtRecall", "recall"), ("RecallAtPrecision", "precision")) for on in ("binary",)),
    *((n, [{a: 0.6, "class_id": 1}], "multilabel")
      for n, a in (("SensitivityAtSpecificity", "specificity"), ("SpecificityAtSensitivity", "sensitivity"),
                   ("PrecisionAtRecall", "recall"), ("RecallAtPrecision", "precision"))),
    ("AUC", [{}, *CURVES[1:], {"num_thresholds": 5}, {"thresholds": [0.1, 0.4, 0.7]},
             {"num_thresholds": 2, "curve": "PR"}], "binary"),
    ("AUC", [{}, {"multi_label": True, "num_labels": 3}, {"multi_label": True, "num_labels": 3, "curve": "PR"},
             {"multi_label": True, "label_weights": [0.2, 1.0, 0.5]},
             {"multi_label": True, "thresholds": [0.1, 0.4, 0.7]}, {"label_weights": [0.2, 1.0, 0.5]}], "multilabel"),
    ("AUC", [{"from_logits": True}, {"from_logits": True, "curve": "PR"}], "logits"),
    ("F1Score", AVERAGES, "multilabel"), ("F1Score", AVERAGES[:4], "onehot"),
    ("FBetaScore", [c | {"beta": 2.0} for c in AVERAGES[:4]] + [{"beta": 0.5, "threshold": 0.3}], "multilabel"),
    ("MeanIoU", [{"num_classes": 3}, {"num_classes": 3, "ignore_class": 1}], "labels"),
    ("MeanIoU", [{"num_classes": 3, "sparse_y_true": False, "sparse_y_pred": False}], "onehot"),
    ("IoU", [{"num_classes": 3, "target_class_ids": [0]}, {"num_classes": 3, "target_class_ids": [0, 2]},
             {"num_classes": 3, "target_class_ids": [0, 2], "ignore_class": 2}], "labels"),
    ("IoU", [{"num_classes": 3, "target_class_ids": [1], "sparse_y_pred": False}], "sparse"),
    ("BinaryIoU", [{}, {"target_class_ids": [0], "threshold": 0.3}, {"target_class_ids": [1]}], "binary"),
    ("OneHotIoU", [{"num_classes": 3, "target_class_ids": [0, 2]}], "onehot"),
    ("OneHotMeanIoU", [{"num_classes": 3}], "onehot"),
]  # fmt: skip


def metric_inputs() -> dict[str, Any]:
    """Return three batches of each kind by names such as t_real_0; w weighs a batch's samples."""
    found: dict[str, Any] = {}
    for i in range(3):
        n = (4, 5, 3)[i]
        rng = np.random.default_rng(40 + i)
        truth = rng.integers(0, 3, n)
        probabilities = np.round(rng.uniform(0.02, 0.98, (n, 3)), 2)
        # at thresholds, at the ends, and equal to each other: where > and >=, and the first of equals, matter
        probabilities[0], probabilities[1, 0], probabilities[2, 1:] = [0.5, 0.5, 0.25], 0.0, [1.0, 1.0]
        bits = rng.integers(0, 2, (n, 3)).astype(float)
        binary = np.round(rng.uniform(0.02, 0.98, (n, 1)), 2)
        binary[:2, 0] = 0.5, (0.0, 1.0, 0.3)[i]
        real = drawn(50 + i, n, 3), drawn(60 + i, n, 3)
        batch = {
            "values": drawn(70 + i, n), "values2": drawn(73 + i, n, 2),
            "t_real": real[0], "p_real": real[1], "t_real1": real[0][:, :1], "p_real1": real[1][:, :1],
            "t_positive": np.abs(real[0]), "p_positive": np.abs(real[1]) + 0.1,
            "t_onehot": np.eye(3)[truth], "p_onehot": probabilities,
            "t_multilabel": bits, "p_multilabel": probabilities,
            "t_binary": bits[:, :1], "p_binary": binary, "t_logits": bits[:, :1], "p_logits": 4.0 * real[1][:, :1],
            "t_sparse": truth, "p_sparse": probabilities, "t_sparse1": truth[:, None], "p_sparse1": probabilities,
            "t_labels": truth, "p_labels": np.where(rng.uniform(size=n) < 0.6, truth, rng.integers(0, 3, n)),
            "t_sorted": truth, "p_sorted": np.argsort(-probabilities, axis=1, kind="stable"),
            "w": np.array([0.5, 2.0, 0.0, 1.0, 0.25][:n]) if i != 1 else np.array([1.0, 0.75, 2.0, 0.5, 0.0]),
        }  # fmt: skip
        found |= {f"{k}_{i}": v for k, v in batch.items()}
    return found


def metrics() -> None:
    """The result after each of three updates, then after reset_state: ``plain``, and with sample weights ``weighted``.

    ``error`` in place of a list says what Keras raised; ``rtol`` is there where it computes in float32 in any case.
    """
    inputs, cases = metric_inputs(), []
    for name, configs, on in METRICS:
        for config in configs:
            names = [on] if on.startswith("values") else [f"t_{on}", f"p_{on}"]
            expected: Case = {}
            for weighted in (False, True):
                given = dict(config)
                if "fn" in given:
                    given["fn"] = getattr(keras.losses, given["fn"])
                try:
                    metric, results = getattr(keras.metrics, name)(**given), []
                    for i in range(3):
                        w = {"sample_weight": inputs[f"w_{i}"]} if weighted else {}
                        metric.update_state(*(inputs[f"{k}_{i}"] for k in names), **w)
                        results.append(np.asarray(metric.result()))
                    metric.reset_state()
                    results.append(np.asarray(metric.result()))
                    if any(r.dtype == np.float32 for r in results):
                        expected["rtol"] = 1e-6
                    expected["weighted" if weighted else "plain"] = [r.astype(np.float64) for r in results]
                except Exception as error:
                    key = "weighted_error" if weighted else "error"
                    expected[key] = f"{type(error).__name__}: {str(error).splitlines()[0][:100]}"
            batches = [[f"{k}_{i}" for k in names] for i in range(3)]
            given_names = {"batches": batches, "weights": [f"w_{i}" for i in range(3)]}
            cases.append({"name": name, "config": config, "inputs": given_names, "expected": expected, "marks": {}})
    write("metrics", cases, inputs)


# ---- optimizers ------------------------------------------------------------------------------------------------------

STEPS = 7
DECAY = {"class_name": "ExponentialDecay",
         "config": {"initial_learning_rate": 0.1, "decay_steps": 3, "decay_rate": 0.5}}  # fmt: skip
ALL: list[Case] = [  # what every optimizer takes
    {"weight_decay": 0.04}, {"weight_decay": 0.04, "exclude": ["bias"]}, {"global_clipnorm": 0.5},
    {"use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": 3}, {"learning_rate": DECAY},
    {"gradient_accumulation_steps": 3, "clipnorm": 0.5, "weight_decay": 0.04},
]  # fmt: skip
MORE: list[Case] = [  # each alone, and how they go together; in two optimizers, as it is the same code
    {"clipnorm": 0.5}, {"clipvalue": 0.2}, {"use_ema": True, "ema_momentum": 0.9}, {"gradient_accumulation_steps": 2},
    {"gradient_accumulation_steps": 2, "use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": 2},
    {"gradient_accumulation_steps": 2, "learning_rate": DECAY}, {"loss_scale_factor": 4.0},
    {"weight_decay": 0.04, "learning_rate": DECAY}, {"use_ema": True}, {"clipnorm": 100.0},
]  # fmt: skip
OPTIMIZERS: dict[str, list[Case]] = {
    "SGD": [{"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}, {"nesterov": True}, *MORE],
    "RMSprop": [{"momentum": 0.9}, {"centered": True},
                {"momentum": 0.5, "centered": True, "rho": 0.8, "epsilon": 1e-3}],
    "Adam": [{"amsgrad": True}, {"beta_1": 0.5, "beta_2": 0.8, "epsilon": 1e-3}, *MORE],
    "AdamW": [{"amsgrad": True}], "Nadam": [{"beta_1": 0.5, "beta_2": 0.8, "epsilon": 1e-3}],
    "Adamax": [{"beta_1": 0.5, "beta_2": 0.8, "epsilon": 1e-3}],
    "Adagrad": [{"initial_accumulator_value": 0.0}, {"epsilon": 1e-3}], "Adadelta": [{"rho": 0.8, "epsilon": 1e-3}],
    "Ftrl": [{"l1_regularization_strength": 0.3}, {"l2_regularization_strength": 0.1, "beta": 0.2},
             {"l2_shrinkage_regularization_strength": 0.1}, {"learning_rate_power": -0.7}, {"learning_rate_power": 0.0},
             {"initial_accumulator_value": 0.0}],
    "Lion": [{"beta_1": 0.5, "beta_2": 0.8}], "Lamb": [{"beta_1": 0.5, "beta_2": 0.8, "epsilon": 1e-3}],
    "Adafactor": [{"relative_step": False}, {"beta_2_decay": -0.5, "epsilon_2": 0.1, "clip_threshold": 0.5},
                  {"learning_rate": 2.0}, {"learning_rate": 2.0, "relative_step": False}],
    "Muon": [{"nesterov": False}, {"ns_steps": 3, "momentum": 0.8}, {"rms_rate": None}, {"exclude_layers": ["kernel"]},
             {"adam_lr_ratio": 0.5, "adam_weight_decay": 0.1, "weight_decay": None}],
    "ScheduleFreeAdamW": [{"warmup_steps": 3}],
}  # fmt: skip


def optimizers() -> None:
    """The weights before (``weights``) and after each of seven steps, [steps][variable], from fixed gradients.

    ``slots`` has the optimizer's variables at the end, by name, in Keras's order; a name that comes twice gets _2.
    ``finalized`` has the weights after finalize_variable_values, where there is an average. The config "exclude" is
    what was given to exclude_from_weight_decay as var_names. Without a learning rate in a config it is the default
    in the empty one and 0.05 in the others; the config says so.
    """
    grads = [[drawn(100 + 2 * i, 4, 3), drawn(101 + 2 * i, 3)] for i in range(STEPS)]
    grads[2][0][1], grads[3][1][:] = 0.0, 0.0  # a unit that is dead for one step, a bias of gradient 0
    inputs: Case = {"kernel": drawn(90, 4, 3), "bias": drawn(91, 3)}
    inputs |= {
        f"g{i}_{name}": g for i, pair in enumerate(grads) for name, g in zip(("kernel", "bias"), pair, strict=True)
    }
    cases = []
    for name, special in OPTIMIZERS.items():
        for config in [{}, *({"learning_rate": 0.05} | c for c in special + ALL)]:
            keras.backend.clear_session()
            variables = [keras.Variable(inputs[n], dtype="float64", name=n) for n in ("kernel", "bias")]
            given = {k: v for k, v in config.items() if k != "exclude"}
            if isinstance(rate := given.get("learning_rate"), dict):
                given["learning_rate"] = getattr(keras.optimizers.schedules, rate["class_name"])(**rate["config"])
            optimizer = getattr(keras.optimizers, name)(**given)
            if "exclude" in config:
                optimizer.exclude_from_weight_decay(var_names=config["exclude"])
            steps = []
            for pair in grads:
                optimizer.apply([jnp.asarray(g) for g in pair], variables)
                steps.append([np.array(v) for v in variables])
            slots: Case = {}
            for v in optimizer.variables:
                if v.name not in ("iteration", "learning_rate"):
                    slots[v.name if v.name not in slots else f"{v.name}_2"] = np.array(v)
            expected = {"iterations": int(optimizer.iterations), "steps": steps, "slots": slots}
            if config.get("use_ema"):
                optimizer.finalize_variable_values(variables)
                expected["finalized"] = [np.array(v) for v in variables]
            given_names = {
                "weights": ["kernel", "bias"],
                "grads": [[f"g{i}_kernel", f"g{i}_bias"] for i in range(STEPS)],
            }
            cases.append({"name": name, "config": config, "inputs": given_names, "expected": expected, "marks": {}})
    write("optimizers", cases, inputs)


# ---- normalization ---------------------------------------------------------------------------------------------------

STACKS: list[tuple[str, list[tuple[str, Case]]]] = [  # before a Dense of one unit, on samples of (3, 2)
    ("batch", [("Flatten", {}), ("Dense", {"units": 4, "activation": "tanh"}), ("BatchNormalization", {})]),
    ("batch, no beta", [("BatchNormalization", {"momentum": 0.5, "epsilon": 0.1, "center": False}), ("Flatten", {})]),
    ("batch, axis 1", [("BatchNormalization", {"axis": 1, "scale": False, "momentum": 0.8}), ("Flatten", {})]),
    ("batch, nothing", [("Flatten", {}), ("BatchNormalization", {"center": False, "scale": False})]),
    ("batch, frozen", [("Flatten", {}), ("BatchNormalization", {"trainable": False})]),
    ("batch, penalties", [("Flatten", {}), ("BatchNormalization",
                           {"gamma_regularizer": "l2", "beta_regularizer": "l1", "gamma_constraint": "non_neg"})]),
    ("layer", [("Flatten", {}), ("Dense", {"units": 4, "activation": "tanh"}), ("LayerNormalization", {})]),
    ("layer, no gamma, axes", [("LayerNormalization", {"axis": [1, 2], "scale": False}), ("Flatten", {})]),
    ("layer, no beta, axis 1", [("LayerNormalization", {"axis": 1, "center": False, "epsilon": 0.1}), ("Flatten", {})]),
    ("unit", [("UnitNormalization", {}), ("Flatten", {}), ("Dense", {"units": 3}), ("UnitNormalization", {})]),
    ("adapted", [("Normalization", {}), ("Flatten", {})]),
    ("adapted, axes", [("Normalization", {"axis": [1, 2]}), ("Flatten", {})]),
    ("adapted, one", [("Normalization", {"axis": None, "invert": True}), ("Flatten", {})]),
    ("given", [("Normalization", {"axis": [1, 2], "mean": [0.5, 1.0], "variance": [4.0, 0.25]}), ("Flatten", {})]),
    ("given, inverse", [("Flatten", {}), ("Normalization", {"mean": 0.5, "variance": 0.0, "invert": True})]),
]  # fmt: skip


def normalization() -> None:
    """Predictions and weights after each of three epochs of batches of 4, 4 and 2, by SGD with 0.02, of mse.

    A Normalization that is given nothing is adapted to twice x. ``weights``: all, before the first epoch; what a
    variance is made of is positive.
    """
    keras.config.set_dtype_policy("float64")
    x, y = drawn(300, 10, 3, 2, low=-1.0, high=3.0), drawn(301, 10, 1)
    inputs, cases = {"x": x, "y": y, "sample_weight": drawn(302, 10, low=0.5)}, []
    for k, (name, stack) in enumerate(STACKS):
        keras.backend.clear_session()
        found = [getattr(keras.layers, kind)(**config) for kind, config in stack]
        model = keras.Sequential([keras.Input((3, 2)), *found, keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.02), "mse")
        for i, variable in enumerate(model.variables[: len(model.weights)]):
            inputs[f"w{k}_{i}"] = drawn(310 + 10 * k + i, *variable.shape, low=0.5 if variable.ndim == 1 else -2.0)
            variable.assign(inputs[f"w{k}_{i}"])
        for layer in found:
            if isinstance(layer, keras.layers.Normalization) and layer.input_mean is None:
                layer.adapt(2 * x)
                layer.count.assign(0)
        steps, outputs = [], []
        for _ in range(3):
            how = {"sample_weight": inputs["sample_weight"]} if "Batch" in str(stack) else {}
            model.fit(x, y, batch_size=4, epochs=1, shuffle=False, verbose=0, **how)
            steps.append([np.array(w, "f8") for w in model.get_weights()])
            outputs.append(model.predict(x, verbose=0))
        weights = [f"w{k}_{i}" for i in range(len(model.weights))]
        given = {"x": "x", "y": "y", "stack": stack, "weights": weights, "sample_weight": next(iter(how), None)}
        expected = {"steps": steps, "outputs": outputs}
        cases.append({"name": name, "config": {}, "inputs": given, "expected": expected, "marks": {}})
    write("normalization", cases, inputs)


# ---- initializers, regularizers, constraints -------------------------------------------------------------------------

SHAPES = ((4, 3), (5,), (1, 7), (3, 3, 2, 4))
SCALINGS = [{"scale": s, "mode": m, "distribution": d} for s, m, d in (
    (1.0, "fan_in", "truncated_normal"), (2.0, "fan_out", "untruncated_normal"), (0.5, "fan_avg", "uniform"),
    (0.5, "fan_in", "uniform"), (2.0, "fan_avg", "truncated_normal"))]  # fmt: skip
INITIALIZERS: list[tuple[str, list[Case], Any]] = [
    ("Zeros", [{}], SHAPES), ("Ones", [{}], SHAPES), ("Constant", [{}, {"value": 1.5}], SHAPES[:2]),
    ("Identity", [{}, {"gain": 2.0}], ((3, 3), (4, 3), (2, 5))), ("STFT", [{}], ((4, 1, 6),)),
    *((n, [{}], SHAPES) for n in
      ("GlorotUniform", "GlorotNormal", "HeUniform", "HeNormal", "LecunUniform", "LecunNormal")),
    ("VarianceScaling", [{}, *SCALINGS], SHAPES), ("RandomNormal", [{}, {"mean": 1.0, "stddev": 2.0}], SHAPES[:1]),
    ("RandomUniform", [{}, {"minval": -1.0, "maxval": 3.0}], SHAPES[:1]),
    ("TruncatedNormal", [{}, {"mean": 1.0, "stddev": 2.0}], SHAPES[:1]),
    ("Orthogonal", [{}, {"gain": 2.0}], ((4, 3), (3, 4), (3, 3), (2, 3, 4))),
]  # fmt: skip


def initializers() -> None:
    """``values``, or where they are random what they are drawn from: ``distribution`` and its parameters.

    A truncated normal's stddev is that of the normal before it is cut off at two of them. Of Orthogonal there is
    ``gram``: of the array taken as a matrix with the last axis as columns, the smaller of a' a and a a'.
    """
    from keras.src.initializers import random_initializers

    cases, draws = [], []
    source = random_initializers.random

    class Recorder:
        """Keras's random numbers, with a note of what was asked for."""

        def __getattr__(self, name: str) -> Any:
            def draw(*args: Any, **kwargs: Any) -> Any:
                bound = inspect.signature(getattr(source, name)).bind(*args, **kwargs)
                bound.apply_defaults()
                kept = {k: float(v) for k, v in bound.arguments.items() if k in ("minval", "maxval", "mean", "stddev")}
                draws.append({"distribution": name} | kept)
                return getattr(source, name)(*args, **kwargs)

            return draw if name in ("uniform", "normal", "truncated_normal") else getattr(source, name)

    random_initializers.random = Recorder()
    for name, configs, shapes in INITIALIZERS:
        for config, shape in ((c, s) for c in configs for s in shapes):
            draws.clear()
            values = np.asarray(getattr(keras.initializers, name)(**config)(shape, dtype="float64"))
            expected: Case = draws[0] if draws else {"values": values}
            if name == "Orthogonal":
                flat = values.reshape(-1, shape[-1])
                gram = flat.T @ flat if flat.shape[0] >= flat.shape[1] else flat @ flat.T
                expected = {"gram": np.round(gram, 6) + 0.0}
            cases.append(
                {"name": name, "config": config, "inputs": {"shape": shape}, "expected": expected, "marks": {}}
            )
    random_initializers.random = source
    write("initializers", cases)


def regularizers() -> None:
    """The penalty of w, and dw: its gradient."""
    w = drawn(80, 4, 3)
    w[1, 1] = 0.0
    inputs, cases = {"w": w, "zero": np.zeros((2, 2)), "vector": drawn(81, 5)}, []
    orthogonal = [{}, {"mode": "columns"}, {"factor": 0.5}]
    for name, configs, on in (
        ("L1", [{}, {"l1": 0.3}], ("w", "zero", "vector")), ("L2", [{}, {"l2": 0.3}], ("w", "zero", "vector")),
        ("L1L2", [{}, {"l1": 0.3}, {"l2": 0.2}, {"l1": 0.3, "l2": 0.2}], ("w", "vector")),
        ("OrthogonalRegularizer", orthogonal, ("w",)),
    ):  # fmt: skip
        for config, key in ((c, k) for c in configs for k in on):
            regularizer = getattr(keras.regularizers, name)(**config)

            def penalty(w: Any, regularizer: Any = regularizer) -> Any:
                return jnp.sum(regularizer(w))

            slopes = jax.grad(penalty)
            expected = {"penalty": penalty(jnp.asarray(inputs[key])), "dw": slopes(jnp.asarray(inputs[key]))}
            kink, tie = kinks(slopes, inputs[key], 1e-12, 1e-3)
            marks = {k: v for k, v in (("kink", kink), ("tie", tie)) if v}
            cases.append({"name": name, "config": config, "inputs": {"w": key}, "expected": expected, "marks": marks})
    write("regularizers", cases, inputs)


def constraints() -> None:
    """What a constraint makes of w."""
    w = drawn(82, 4, 3)
    w[:, 2], w[3] = 0.0, -0.0  # a column and a row without length
    inputs, cases = {"w": w, "small": drawn(83, 4, 3, low=-0.2, high=0.2), "cube": drawn(84, 2, 3, 4)}, []
    bounds = {"min_value": 0.5, "max_value": 1.0}
    for name, configs in (
        ("MaxNorm", [{}, {"max_value": 0.7}, {"max_value": 0.7, "axis": 1}]), ("NonNeg", [{}]),
        ("UnitNorm", [{}, {"axis": 1}]),
        ("MinMaxNorm", [{}, bounds, bounds | {"rate": 0.3}, bounds | {"rate": 0.3, "axis": 1}]),
    ):  # fmt: skip
        for config, key in ((c, k) for c in configs for k in inputs):
            value = getattr(keras.constraints, name)(**config)(jnp.asarray(inputs[key]))
            case = {"name": name, "config": config, "inputs": {"w": key}, "expected": {"w": value}, "marks": {}}
            cases.append(case)
    write("constraints", cases, inputs)


# ---- the API ---------------------------------------------------------------------------------------------------------

MODULES = ("activations", "losses", "metrics", "optimizers", "optimizers.schedules", "initializers", "regularizers",
           "constraints")  # fmt: skip
NEEDED: dict[str, Case] = {  # what a class must be given
    "IoU": {"num_classes": 3, "target_class_ids": [0]}, "MeanIoU": {"num_classes": 3},
    "OneHotIoU": {"num_classes": 3, "target_class_ids": [0]}, "OneHotMeanIoU": {"num_classes": 3},
    "SensitivityAtSpecificity": {"specificity": 0.5}, "SpecificityAtSensitivity": {"sensitivity": 0.5},
    "PrecisionAtRecall": {"recall": 0.5}, "RecallAtPrecision": {"precision": 0.5},
    "MeanMetricWrapper": {"fn": keras.losses.mean_squared_error},
    "ExponentialDecay": {"initial_learning_rate": 0.1, "decay_steps": 3, "decay_rate": 0.5},
    "InverseTimeDecay": {"initial_learning_rate": 0.1, "decay_steps": 3, "decay_rate": 0.5},
    "PiecewiseConstantDecay": {"boundaries": [2, 4], "values": [0.1, 0.05, 0.01]},
    "PolynomialDecay": {"initial_learning_rate": 0.1, "decay_steps": 3},
    "CosineDecay": {"initial_learning_rate": 0.1, "decay_steps": 3},
    "CosineDecayRestarts": {"initial_learning_rate": 0.1, "first_decay_steps": 3},
}  # fmt: skip
EXTRA = ("accuracy", "acc", "ce", "crossentropy", "logcosh", "huber_loss", "cosine", "kullback_leibler_divergence",
         "normal", "uniform", "zero", "one", "lamb", "Adam", "SGD", "RMSprop", "adam_w", "l1l2", "L1_L2", "maxnorm",
         "nonneg", "leakyrelu", "LeakyReLU", "glorot", "he", "identity", "eye")  # fmt: skip


def public(module: Any) -> Iterator[tuple[str, Any]]:
    for name in sorted(dir(module)):
        thing = getattr(module, name)
        if not name.startswith("_") and callable(thing) and name not in ("get", "serialize", "deserialize"):
            yield name, thing


def signature(thing: Any) -> list[list[Any]]:
    """Return a list per parameter: name, kind where it is not an ordinary one, and default where there is one."""
    found = inspect.signature(thing.__init__ if inspect.isclass(thing) else thing)
    out = []
    for p in found.parameters.values():
        if p.name != "self":
            kind = "" if p.kind is p.POSITIONAL_OR_KEYWORD else p.kind.name.lower()
            out.append([p.name, kind] + ([] if p.default is p.empty else [plain(p.default)]))
    return out


def api() -> None:
    """Of each public name its signature; of each class the config of a default object; what ``get`` makes of a name.

    An alias's class is None where get refuses the name. Functions are named as functions are.
    """
    cases = []
    for module_name in MODULES:
        module: Any = keras
        for part in module_name.split("."):
            module = getattr(module, part)
        for name, thing in public(module):
            expected: Case = {"signature": signature(thing), "is_class": inspect.isclass(thing), "name": thing.__name__}
            config = NEEDED.get(name, {})
            if inspect.isclass(thing):
                keras.backend.clear_session()
                try:
                    expected["config"] = plain(thing(**config).get_config())
                except Exception as error:
                    expected["config_error"] = type(error).__name__
            given = {"module": module_name}
            cases.append({"name": name, "config": plain(config), "inputs": given, "expected": expected, "marks": {}})
        if hasattr(module, "get"):
            known = sys.modules[f"keras.src.{module_name}"].ALL_OBJECTS_DICT
            names = {n for n, _ in public(module)} | set(known) | set(EXTRA)
            names |= (
                {to_snake_case(n) for n in names} | {n.lower() for n in names} | {n.upper() for n in ("mse", "mae")}
            )
            aliases = {}
            for name in sorted(names):
                try:
                    found = module.get(name)
                    aliases[name] = getattr(found, "__name__", None) or type(found).__name__
                except Exception:  # a class that wants arguments is known, but a name alone does not make one
                    aliases[name] = f"{known[name].__name__} (wants arguments)" if name in known else None
            cases.append({"name": "get", "config": {}, "inputs": {"module": module_name}, "marks": {},
                          "expected": {"aliases": aliases}})  # fmt: skip
    write("api", cases)


KINDS = {
    f.__name__: f
    for f in (activations, losses, metrics, optimizers, normalization, initializers, regularizers, constraints, api)
}


def main() -> int:
    """Write the kinds named on the command line, all without one."""
    keras.config.set_floatx("float64")
    for name in sys.argv[1:] or KINDS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            KINDS[name]()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
