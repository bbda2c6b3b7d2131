"""Losses: values of samples, reductions, gradients."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
from makers.recording import EPSILON, INF, NAN, Case, drawn, kinks, places, write

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
