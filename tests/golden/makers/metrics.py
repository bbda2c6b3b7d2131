"""Metrics: results over three batches."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from makers.recording import Case, drawn, write

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
