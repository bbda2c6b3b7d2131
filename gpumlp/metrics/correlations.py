"""Errors and correlations: how near predictions are to targets, in one number."""

from __future__ import annotations

import numpy as np

from gpumlp import losses, ops
from gpumlp.literals import FloatLike
from gpumlp.losses.loss import EPSILON
from gpumlp.metrics.metric import Array, Result, Sums
from gpumlp.objectives import Values, an_axis, objective
from gpumlp.signatures import constructor


@objective(elementwise=True)
def root_mean_squared_error(y_true: Values, y_pred: Values) -> Values:
    """mean_o (p - t)^2, of whose mean over samples the root is taken."""
    return ops.mean(ops.square(y_pred - y_true), -1)


class RootMeanSquaredError(Sums, function=root_mean_squared_error):
    """The root of the mean of squared errors, in units of the targets.

    Parameters
    ----------
    name : str or None, default "root_mean_squared_error"
        What it is called in the history; None means the same.
    dtype : {"float32", "float64"}, optional
        Of the arithmetic on arrays; by default the default type. In a model the model's counts.

    Raises
    ------
    ValueError
        If ``dtype`` is none of these, or the name no string.

    Notes
    -----
    sqrt(mean (p - t)^2), the mean over all samples and outputs.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metric = metrics.RootMeanSquaredError()
    >>> metric.update_state(
    ...     [[1.0, 2.0, 4.0], [0.0, 1.0, 0.0]], [[1.0, 2.0, 3.0], [0.0, 2.0, 1.0]]
    ... )
    >>> round(float(metric.result()), 4)
    0.7071
    """

    _direction = "down"

    @constructor
    def __init__(self, name: str | None = "root_mean_squared_error", dtype: FloatLike = None) -> None: ...

    def of(self, *sums: Array) -> Result:
        """See `Summed.of`."""
        return np.sqrt(super().of(*sums))


@objective(axis=an_axis)
def cosine_similarity(y_true: Values, y_pred: Values, axis: int = -1) -> Values:
    """sum_o t p, t and p first made of length 1: the negative of the loss of that name."""
    return -losses.cosine_similarity(y_true, y_pred)


class CosineSimilarity(Sums, function=cosine_similarity):
    """The mean over samples of the cosine of the angle between targets and predictions.

    Parameters
    ----------
    name : str or None, default "cosine_similarity"
        What it is called in the history; None means the same.
    dtype : {"float32", "float64"}, optional
        Of the arithmetic on arrays; by default the default type. In a model the model's counts.
    axis : int, default -1
        The axis of arrays that has a sample's outputs. In a model -1, or it is computed on the host.

    Raises
    ------
    ValueError
        If a constant is out of its range, or ``dtype`` is none of these, or the name no string.

    Notes
    -----
    sum_o t p, with t and p first divided by max(length, 1e-7): 1 for one direction, where the loss of that name is -1.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metric = metrics.CosineSimilarity()
    >>> metric.update_state(
    ...     [[1.0, 2.0, 4.0], [0.0, 1.0, 0.0]], [[1.0, 2.0, 3.0], [0.0, 2.0, 1.0]]
    ... )
    >>> round(float(metric.result()), 4)
    0.9429
    """

    _direction = "up"

    @constructor
    def __init__(self, name: str | None = "cosine_similarity", dtype: FloatLike = None, axis: int = -1) -> None: ...


def _off_mean(x: Values) -> Values:
    return x - ops.mean(x, -1, keepdims=True)


def _largest(x: Values) -> Values:
    return ops.max(ops.absolute(x), -1, keepdims=True)


@objective(axis=an_axis)
def pearson_correlation(y_true: Values, y_pred: Values, axis: int = -1) -> Values:
    """Correlation of targets and predictions over each sample's outputs.

    Parameters
    ----------
    y_true : array_like, shape (..., outputs)
        Targets.
    y_pred : array_like, shape (..., outputs)
        Predictions.
    axis : int, default -1
        The axis of arrays that has a sample's outputs. In a model -1, or it is computed on the host.

    Returns
    -------
    numpy.ndarray
        A number for each sample; in a formula of symbols its symbol.

    Raises
    ------
    ValueError
        If the shapes do not go together, or a constant is out of its range.
    TypeError
        If the values are no numbers.

    See Also
    --------
    PearsonCorrelation : The metric as a class, as ``compile`` takes it.

    Notes
    -----
    The covariance over the product of the standard deviations, in [-1, 1] (Pearson 1895); NaN of a single output, or of
    equal ones.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metrics.pearson_correlation(
    ...     [[1.0, 2.0, 4.0], [0.0, 1.0, 0.0]], [[1.0, 2.0, 3.0], [0.0, 2.0, 1.0]]
    ... ).round(4)
    array([0.982, 0.866], dtype=float32)
    """

    def standard(x: Values) -> Values:
        off = _off_mean(x)
        off = off / _largest(off)  # whose squares neither overflow nor vanish
        return off / ops.sqrt(ops.mean(ops.square(off), -1, keepdims=True))

    return ops.mean(standard(y_true) * standard(y_pred), -1)


class PearsonCorrelation(Sums, function=pearson_correlation):
    """The mean over samples of the correlation of targets and predictions.

    Parameters
    ----------
    name : str or None, default "pearson_correlation"
        What it is called in the history; None means the same.
    dtype : {"float32", "float64"}, optional
        Of the arithmetic on arrays; by default the default type. In a model the model's counts.
    axis : int, default -1
        The axis of arrays that has a sample's outputs. In a model -1, or it is computed on the host.

    Raises
    ------
    ValueError
        If a constant is out of its range, or ``dtype`` is none of these, or the name no string.

    See Also
    --------
    pearson_correlation : The formula.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metric = metrics.PearsonCorrelation()
    >>> metric.update_state(
    ...     [[1.0, 2.0, 4.0], [0.0, 1.0, 0.0]], [[1.0, 2.0, 3.0], [0.0, 2.0, 1.0]]
    ... )
    >>> round(float(metric.result()), 4)
    0.924
    """

    _direction = "up"

    @constructor
    def __init__(self, name: str | None = "pearson_correlation", dtype: FloatLike = None, axis: int = -1) -> None: ...


@objective(axis=an_axis)
def concordance_correlation(y_true: Values, y_pred: Values, axis: int = -1) -> Values:
    """How near targets and predictions are to the line of equal ones, for each sample.

    Parameters
    ----------
    y_true : array_like, shape (..., outputs)
        Targets.
    y_pred : array_like, shape (..., outputs)
        Predictions.
    axis : int, default -1
        The axis of arrays that has a sample's outputs. In a model -1, or it is computed on the host.

    Returns
    -------
    numpy.ndarray
        A number for each sample; in a formula of symbols its symbol.

    Raises
    ------
    ValueError
        If the shapes do not go together, or a constant is out of its range.
    TypeError
        If the values are no numbers.

    See Also
    --------
    ConcordanceCorrelation : The metric as a class, as ``compile`` takes it.

    Notes
    -----
    2 mean_o (t - m) (p - m) / (var t + var p + (mean t - m)^2 + 1e-7), m the mean of p: 1 where they are equal, and
    less than the correlation where means or spreads differ (Lin 1989, as Keras has it).

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metrics.concordance_correlation(
    ...     [[1.0, 2.0, 4.0], [0.0, 1.0, 0.0]], [[1.0, 2.0, 3.0], [0.0, 2.0, 1.0]]
    ... )
    array([0.85714275, 0.5       ], dtype=float32)
    """
    # The sum over p - m is 0, so that it is the covariance whatever is taken from t; rounding is Keras's. Numbers above
    # 1 are first divided by the largest, so that no square overflows.
    scale = ops.maximum(ops.maximum(_largest(y_true), _largest(y_pred)), 1.0)
    t, p = y_true / scale, y_pred / scale
    mean_t, mean_p = ops.mean(t, -1, keepdims=True), ops.mean(p, -1, keepdims=True)
    spread = ops.var(t, -1, keepdims=True) + ops.var(p, -1, keepdims=True)
    norm = spread + ops.square(mean_t - mean_p) + EPSILON / scale / scale
    return ops.mean(2.0 * (t - mean_p) * (p - mean_p) / norm, -1)


class ConcordanceCorrelation(Sums, function=concordance_correlation):
    """The mean over samples of the concordance of targets and predictions.

    Parameters
    ----------
    name : str or None, default "concordance_correlation"
        What it is called in the history; None means the same.
    dtype : {"float32", "float64"}, optional
        Of the arithmetic on arrays; by default the default type. In a model the model's counts.
    axis : int, default -1
        The axis of arrays that has a sample's outputs. In a model -1, or it is computed on the host.

    Raises
    ------
    ValueError
        If a constant is out of its range, or ``dtype`` is none of these, or the name no string.

    See Also
    --------
    concordance_correlation : The formula.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metric = metrics.ConcordanceCorrelation()
    >>> metric.update_state(
    ...     [[1.0, 2.0, 4.0], [0.0, 1.0, 0.0]], [[1.0, 2.0, 3.0], [0.0, 2.0, 1.0]]
    ... )
    >>> round(float(metric.result()), 4)
    0.6786
    """

    _direction = "up"

    @constructor
    def __init__(
        self, name: str | None = "concordance_correlation", dtype: FloatLike = None, axis: int = -1,
    ) -> None: ...  # fmt: skip
