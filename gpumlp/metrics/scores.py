"""Metrics of several outputs or classes that are weighed against each other: on the host, from a batch's outputs."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import numpy as np

from gpumlp import config
from gpumlp.literals import FloatLike
from gpumlp.losses.loss import EPSILON
from gpumlp.metrics.means import whole
from gpumlp.metrics.metric import Array, Result, Summed
from gpumlp.naming import flag, number
from gpumlp.objectives import same_rank


def rows_of(metric: Summed, y_true: object, y_pred: object, sample_weight: object) -> tuple[Array, Array, Array]:
    """Return targets and predictions [n, outputs], and weights [n, 1]."""
    p = config.floats("y_pred", y_pred, "float64")
    t, p = same_rank(config.floats("y_true", y_true, "float64"), p)
    if p.ndim != 2 or t.shape != p.shape:
        raise ValueError(
            f"{type(metric).__name__} expects 2D inputs with shape (batch_size, output_dim); got y_pred {p.shape} and "
            f"y_true {t.shape}."
        )
    w = np.ones(1) if sample_weight is None else config.floats("sample_weight", sample_weight, "float64")
    return t, p, np.broadcast_to(w.reshape(-1, 1) if w.ndim < 2 else w, p.shape)


# ---- F scores --------------------------------------------------------------------------------------------------------
AverageName: TypeAlias = Literal["micro", "macro", "weighted"]
Average: TypeAlias = AverageName | None
AVERAGES = (None, *get_args(AverageName))


class FBetaScore(Summed):
    """Precision and recall of each output in one number, of which recall may count more.

    Parameters
    ----------
    average : {"micro", "macro", "weighted"}, optional
        None: a number for each output; "micro": of the counts of all; else the mean, with "weighted" by how often each
        is true.
    beta : float, default 1.0
        How much more recall counts than precision; above 0.
    threshold : float, optional
        In (0, 1]: above it an output is positive; by default the largest of each row is.
    name : str or None, default "fbeta_score"
        What it is called in the history.
    dtype : {"float32", "float64"}, optional
        Of the results; by default the default type.

    Raises
    ------
    ValueError
        If a constant is out of its range, or ``average`` or ``dtype`` none of these.

    Notes
    -----
    (1 + beta^2) precision recall / (beta^2 precision + recall) (van Rijsbergen 1979); targets are one-hot, or 0 and 1.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metric = metrics.FBetaScore(beta=2.0)
    >>> metric.update_state(
    ...     [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]],
    ...     [[0.75, 0.25], [0.5, 0.625], [0.25, 0.875]],
    ... )
    >>> metric.result().round(4)
    array([0.5556, 0.8333])
    """

    _direction = "up"
    exact = True

    def __init__(
        self, average: Average = None, beta: float = 1.0, threshold: float | None = None,
        name: str | None = "fbeta_score", dtype: FloatLike = None,
    ) -> None:  # fmt: skip
        super().__init__(dtype, name)
        if average not in AVERAGES:
            raise ValueError(f"Invalid `average` argument value: one of {AVERAGES}; got {average!r}.")
        if not isinstance(beta, float) or not beta > 0.0:
            raise ValueError(f"Invalid `beta` argument value. It should be a Python float > 0; got {beta!r}.")
        if threshold is not None and (not isinstance(threshold, float) or not 0.0 < threshold <= 1.0):
            raise ValueError(
                "Invalid `threshold` argument value. It should be a Python float, and verify 0 < threshold <= 1; got "
                f"{threshold!r}."
            )
        self.average, self.beta, self.threshold = average, beta, threshold

    def sums(self, y_true: object, y_pred: object, sample_weight: object = None) -> list[Array]:
        """See `Summed.sums`: true positives, false positives, false negatives, and how often an output is true."""
        t, p, w = rows_of(self, y_true, y_pred, sample_weight)
        if self.threshold is None:
            positive = (p >= p.max(axis=-1, keepdims=True)) & (np.abs(p) > 1e-9)
        else:
            positive = p > self.threshold
        parts = positive * t, positive * (1.0 - t), ~positive * t, t
        axis = None if self.average == "micro" else 0
        return [np.asarray((part * w).sum(axis=axis)) for part in parts]

    @property
    def names(self) -> tuple[str, ...]:
        """See `Summed.names`."""
        return "true_positives", "false_positives", "false_negatives", "intermediate_weights"

    def of(self, *sums: Array) -> Result:
        """See `Summed.of`."""
        tp, fp, fn, weight = sums
        precision, recall = tp / (tp + fp + EPSILON), tp / (tp + fn + EPSILON)
        square = self.beta**2
        score = (1.0 + square) * (precision * recall / (square * precision + recall + EPSILON))
        if self.average == "weighted":
            return (score * (weight / (weight.sum() + EPSILON))).sum()
        return score if self.average is None else score.mean()


class F1Score(FBetaScore):
    """The harmonic mean of precision and recall, of each output.

    Parameters
    ----------
    average : {"micro", "macro", "weighted"}, optional
        None: a number for each output; "micro": of the counts of all; else the mean, with "weighted" by how often each
        is true.
    threshold : float, optional
        In (0, 1]: above it an output is positive; by default the largest of each row is.
    name : str or None, default "f1_score"
        What it is called in the history.
    dtype : {"float32", "float64"}, optional
        Of the results; by default the default type.

    Raises
    ------
    ValueError
        If a constant is out of its range, or ``average`` or ``dtype`` none of these.

    See Also
    --------
    FBetaScore : The same with recall counting more, or less.

    Notes
    -----
    2 precision recall / (precision + recall).

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metric = metrics.F1Score(average="macro")
    >>> metric.update_state(
    ...     [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]],
    ...     [[0.75, 0.25], [0.5, 0.625], [0.25, 0.875]],
    ... )
    >>> round(float(metric.result()), 4)
    0.6667
    """

    def __init__(
        self, average: Average = None, threshold: float | None = None, name: str | None = "f1_score",
        dtype: FloatLike = None,
    ) -> None:  # fmt: skip
        super().__init__(average, 1.0, threshold, name, dtype)


# ---- explained variance ----------------------------------------------------------------------------------------------
AggregationName: TypeAlias = Literal["uniform_average", "variance_weighted_average"]
Aggregation: TypeAlias = AggregationName | None


class R2Score(Summed):
    """The share of the targets' variance that predictions explain: 1 at best, 0 of their mean.

    Parameters
    ----------
    class_aggregation : {"uniform_average", "variance_weighted_average"} or None, default "uniform_average"
        The mean of the outputs' scores, that weighted by their variance, or with None a number for each output.
    num_regressors : int, default 0
        Of how many inputs, by which the score is adjusted; 0: it is not.
    name : str or None, default "r2_score"
        What it is called in the history.
    dtype : {"float32", "float64"}, optional
        Of the results; by default the default type.

    Raises
    ------
    ValueError
        If ``num_regressors`` is no whole number from 0 on, or a word none of these.

    Notes
    -----
    1 - sum (t - p)^2 / sum (t - mean t)^2. Adjusted it is 1 - (1 - R2) (n - 1) / (n - num_regressors - 1), n the number
    of all targets, as in Keras.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metric = metrics.R2Score()
    >>> metric.update_state([[1.0], [2.0], [4.0]], [[1.0], [2.5], [3.5]])
    >>> round(float(metric.result()), 4)
    0.8929
    """

    _direction = "up"
    exact = True

    def __init__(
        self, class_aggregation: Aggregation = "uniform_average", num_regressors: int = 0,
        name: str | None = "r2_score", dtype: FloatLike = None,
    ) -> None:  # fmt: skip
        super().__init__(dtype, name)
        known = (None, *get_args(AggregationName))
        if class_aggregation not in known:
            raise ValueError(
                f"Invalid value for argument `class_aggregation`. Expected one of {known}; got {class_aggregation!r}."
            )
        if not isinstance(num_regressors, int) or num_regressors < 0:
            raise ValueError(
                f"Invalid value for argument `num_regressors`. Expected an int >= 0; got {num_regressors!r}."
            )
        self.class_aggregation, self.num_regressors = class_aggregation, num_regressors

    def sums(self, y_true: object, y_pred: object, sample_weight: object = None) -> list[Array]:
        """See `Summed.sums`: of t, of t^2, of squared errors, of weights, and how many numbers."""
        t, p, w = rows_of(self, y_true, y_pred, sample_weight)
        parts = [(part * w).sum(axis=0) for part in (t, t * t, np.square(t - p), np.ones_like(t))]
        return [*parts, np.asarray(float(t.size))]

    @property
    def names(self) -> tuple[str, ...]:
        """See `Summed.names`."""
        return "sum", "squared_sum", "total_mse", "count", "num_samples"

    def of(self, *sums: Array) -> Result:
        """See `Summed.of`."""
        total, squares, errors, weights, n = sums
        variance = squares - total * (total / weights)
        scores = 1.0 - errors / variance
        scores = np.where(np.isinf(scores), 0.0, scores)
        if self.class_aggregation == "uniform_average":
            scores = scores.mean()
        elif self.class_aggregation is not None:
            scores = (variance * scores).sum() / variance.sum()
        if self.num_regressors and self.num_regressors >= n - 1:
            what = "More independent predictors than datapoints" if self.num_regressors > n - 1 else "Division by zero"
            warnings.warn(f"{what} in adjusted R2 score: it is the plain one.", stacklevel=3)
        elif self.num_regressors:
            scores = 1.0 - (1.0 - scores) * (n - 1.0) / (n - self.num_regressors - 1.0)
        return scores


# ---- intersections over unions ---------------------------------------------------------------------------------------
WeightType: TypeAlias = Literal["int"] | FloatLike | type[np.integer]


class IoU(Summed):
    """The mean intersection over union of some classes.

    Parameters
    ----------
    num_classes : int
        How many classes there are; class numbers are below it.
    target_class_ids : sequence of int
        The classes that are averaged.
    name : str, optional
        What it is called in the history; by default the class's name in snake case, and a number.
    dtype : {"int", "float32", "float64"}, optional
        Of the weights: "int", the default as in Keras, makes a weight of 0.5 none.
    ignore_class : int, optional
        A target that does not count.
    sparse_y_true : bool, default True
        Whether targets are class numbers; else the largest along ``axis`` counts.
    sparse_y_pred : bool, default True
        Whether predictions are class numbers; else the largest along ``axis`` counts.
    axis : int, default -1
        The axis of the classes, where there is one.

    Raises
    ------
    ValueError
        If a class number is out of range, or a count not whole.

    Notes
    -----
    Intersection over union: of each class tp / (tp + fp + fn) (Jaccard 1901), and the mean of those that occur.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metric = metrics.IoU(num_classes=3, target_class_ids=[0, 2])
    >>> metric.update_state([0, 1, 2, 2], [0, 1, 2, 1])
    >>> round(float(metric.result()), 4)
    0.75
    """

    _direction = "up"

    def __init__(
        self, num_classes: int, target_class_ids: Sequence[int], name: str | None = None, dtype: WeightType = None,
        ignore_class: int | None = None, sparse_y_true: bool = True, sparse_y_pred: bool = True, axis: int = -1,
    ) -> None:  # fmt: skip
        super().__init__(dtype or "int", name)  # type: ignore[arg-type]
        count = whole("num_classes", num_classes)
        targets = [whole("target_class_ids", c, 0) for c in target_class_ids]
        if max(targets, default=0) >= count:
            raise ValueError(f"Target class id {max(targets)} is out of range, which is [0, {count}).")
        self.num_classes, self.target_class_ids, self.ignore_class = count, targets, ignore_class
        self.sparse_y_true = flag("sparse_y_true", sparse_y_true)
        self.sparse_y_pred = flag("sparse_y_pred", sparse_y_pred)
        self.axis = int(number("axis", axis))

    @staticmethod
    def _float_type(dtype: object) -> str:
        found = np.dtype("int32" if dtype == "int" else dtype)  # type: ignore[call-overload]
        return found.name if found.kind in "iu" else config.float_type(dtype).name

    exact = True

    def target_width(self, width: int) -> int:
        """See `Metric.target_width`."""
        return (width if self.sparse_y_pred else 1) if self.sparse_y_true else self.num_classes

    def sums(self, y_true: object, y_pred: object, sample_weight: object = None) -> list[Array]:
        """See `Summed.sums`: how often a class [rows] was taken for a class [columns]."""
        t, p = config.floats("y_true", y_true, "float64"), config.floats("y_pred", y_pred, "float64")
        t = (t if self.sparse_y_true else t.argmax(axis=self.axis)).reshape(-1)
        p = (p if self.sparse_y_pred else p.argmax(axis=self.axis)).reshape(-1)
        if t.shape != p.shape:
            raise ValueError(f"{self.name}: y_true has {t.size} class numbers, y_pred {p.size}.")
        kind, w = np.dtype(self.dtype), np.ones(t.shape)
        if sample_weight is not None:
            given = config.floats("sample_weight", sample_weight, "float64").reshape(-1)
            if kind.kind != "f" and (given != np.floor(given)).any():
                warnings.warn(
                    f"{self.name} counts whole weights, and takes .5 for 0, as Keras does; make it with "
                    "dtype='float32' for others.", stacklevel=3,
                )  # fmt: skip
            w = w * given.astype(kind)
        n = self.num_classes
        t, p = np.trunc(t), np.trunc(p)
        there = (t >= 0) & (t < n) & (p >= 0) & (p < n)
        if self.ignore_class is not None:
            there &= t != self.ignore_class
        places = t[there].astype(np.int64) * n + p[there].astype(np.int64)
        return [np.bincount(places, w[there], n * n).reshape(n, n)]

    def empty(self) -> list[Array]:
        """See `Summed.empty`."""
        return [np.zeros((self.num_classes, self.num_classes))]

    @property
    def names(self) -> tuple[str, ...]:
        """See `Summed.names`."""
        return ("total_cm",)

    def of(self, *sums: Array) -> Result:
        """See `Summed.of`: of the classes that occur."""
        (matrix,) = sums
        true = np.diag(matrix)
        union = matrix.sum(axis=0) + matrix.sum(axis=1) - true
        true, union = true[self.target_class_ids], union[self.target_class_ids]
        there = union > 1e-9
        return np.where(there, true / (union + EPSILON), 0.0).sum() / (there.sum() + EPSILON)


class BinaryIoU(IoU):
    """The mean intersection over union of two classes, the second one from a threshold on.

    Parameters
    ----------
    target_class_ids : sequence of int, default (0, 1)
        The classes that are averaged.
    threshold : float, default 0.5
        From where on an output is of class 1.
    name : str, optional
        What it is called in the history; by default the class's name in snake case, and a number.
    dtype : {"int", "float32", "float64"}, optional
        Of the weights: "int", the default as in Keras, makes a weight of 0.5 none.

    Raises
    ------
    ValueError
        If a class number is out of range, or a count not whole.

    See Also
    --------
    IoU : Of any classes.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metric = metrics.BinaryIoU()
    >>> metric.update_state([0, 1, 1, 0], [0.25, 0.75, 0.25, 0.5])
    >>> round(float(metric.result()), 4)
    0.3333
    """

    def __init__(
        self, target_class_ids: Sequence[int] = (0, 1), threshold: float = 0.5, name: str | None = None,
        dtype: WeightType = None,
    ) -> None:  # fmt: skip
        super().__init__(2, target_class_ids, name, dtype)
        self.threshold = number("threshold", threshold)

    def sums(self, y_true: object, y_pred: object, sample_weight: object = None) -> list[Array]:
        """See `IoU.sums`."""
        return super().sums(y_true, config.floats("y_pred", y_pred, "float64") >= self.threshold, sample_weight)


class MeanIoU(IoU):
    """The mean intersection over union of all classes.

    Parameters
    ----------
    num_classes : int
        How many classes there are; class numbers are below it.
    name : str, optional
        What it is called in the history; by default the class's name in snake case, and a number.
    dtype : {"int", "float32", "float64"}, optional
        Of the weights: "int", the default as in Keras, makes a weight of 0.5 none.
    ignore_class : int, optional
        A target that does not count.
    sparse_y_true : bool, default True
        Whether targets are class numbers; else the largest along ``axis`` counts.
    sparse_y_pred : bool, default True
        Whether predictions are class numbers; else the largest along ``axis`` counts.
    axis : int, default -1
        The axis of the classes, where there is one.

    Raises
    ------
    ValueError
        If a class number is out of range, or a count not whole.

    See Also
    --------
    IoU : Of some classes.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metric = metrics.MeanIoU(num_classes=3)
    >>> metric.update_state([0, 1, 2, 2], [0, 1, 2, 1])
    >>> round(float(metric.result()), 4)
    0.6667
    """

    def __init__(
        self, num_classes: int, name: str | None = None, dtype: WeightType = None, ignore_class: int | None = None,
        sparse_y_true: bool = True, sparse_y_pred: bool = True, axis: int = -1,
    ) -> None:  # fmt: skip
        every = range(whole("num_classes", num_classes))
        super().__init__(num_classes, every, name, dtype, ignore_class, sparse_y_true, sparse_y_pred, axis)


class OneHotIoU(IoU):
    """The mean intersection over union of some classes, of one-hot targets.

    Parameters
    ----------
    num_classes : int
        How many classes there are; class numbers are below it.
    target_class_ids : sequence of int
        The classes that are averaged.
    name : str, optional
        What it is called in the history; by default the class's name in snake case, and a number.
    dtype : {"int", "float32", "float64"}, optional
        Of the weights: "int", the default as in Keras, makes a weight of 0.5 none.
    ignore_class : int, optional
        A target that does not count.
    sparse_y_pred : bool, default False
        Whether predictions are class numbers; else the largest along ``axis`` counts.
    axis : int, default -1
        The axis of the classes, where there is one.

    Raises
    ------
    ValueError
        If a class number is out of range, or a count not whole.

    See Also
    --------
    IoU : Of class numbers.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metric = metrics.OneHotIoU(num_classes=3, target_class_ids=[0, 1])
    >>> metric.update_state(
    ...     [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    ...     [[0.5, 0.2, 0.3], [0.2, 0.5, 0.3], [0.2, 0.5, 0.3]],
    ... )
    >>> round(float(metric.result()), 4)
    0.75
    """

    def __init__(
        self, num_classes: int, target_class_ids: Sequence[int], name: str | None = None, dtype: WeightType = None,
        ignore_class: int | None = None, sparse_y_pred: bool = False, axis: int = -1,
    ) -> None:  # fmt: skip
        super().__init__(num_classes, target_class_ids, name, dtype, ignore_class, False, sparse_y_pred, axis)


class OneHotMeanIoU(MeanIoU):
    """The mean intersection over union of all classes, of one-hot targets.

    Parameters
    ----------
    num_classes : int
        How many classes there are; class numbers are below it.
    name : str, optional
        What it is called in the history; by default the class's name in snake case, and a number.
    dtype : {"int", "float32", "float64"}, optional
        Of the weights: "int", the default as in Keras, makes a weight of 0.5 none.
    ignore_class : int, optional
        A target that does not count.
    sparse_y_pred : bool, default False
        Whether predictions are class numbers; else the largest along ``axis`` counts.
    axis : int, default -1
        The axis of the classes, where there is one.

    Raises
    ------
    ValueError
        If a class number is out of range, or a count not whole.

    See Also
    --------
    MeanIoU : Of class numbers.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metric = metrics.OneHotMeanIoU(num_classes=3)
    >>> metric.update_state(
    ...     [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    ...     [[0.5, 0.2, 0.3], [0.2, 0.5, 0.3], [0.2, 0.5, 0.3]],
    ... )
    >>> round(float(metric.result()), 4)
    0.5
    """

    def __init__(
        self, num_classes: int, name: str | None = None, dtype: WeightType = None, ignore_class: int | None = None,
        sparse_y_pred: bool = False, axis: int = -1,
    ) -> None:  # fmt: skip
        super().__init__(num_classes, name, dtype, ignore_class, False, sparse_y_pred, axis)
