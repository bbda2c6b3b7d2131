"""Losses of numbers: errors, and the angle between targets and predictions."""

from __future__ import annotations

import math

from gpumlp import ops
from gpumlp.literals import FloatLike, Reduction
from gpumlp.losses.loss import EPSILON, MEAN, Loss
from gpumlp.objectives import Values, an_axis, objective, within
from gpumlp.signatures import constructor


@objective(elementwise=True)
def mean_squared_error(y_true: Values, y_pred: Values) -> Values:
    """Mean of the squared errors of each sample.

    Parameters
    ----------
    y_true : array_like, shape (..., outputs)
        Targets.
    y_pred : array_like, shape (..., outputs)
        Predictions.

    Returns
    -------
    numpy.ndarray
        The loss of each sample; in a formula of symbols its symbol.

    Raises
    ------
    ValueError
        If the shapes do not go together.
    TypeError
        If the values are no numbers.

    See Also
    --------
    MeanSquaredError : The loss as a class, as ``compile`` takes it.

    Notes
    -----
    The value of a sample is mean_o (p - t)^2, t its targets and p its predictions. Of normal errors it is the negative
    log-likelihood, but for constants (Gauss 1809).

    Examples
    --------
    >>> from gpumlp import losses
    >>> losses.mean_squared_error([[0.0, 1.0], [2.0, 0.0]], [[0.5, 1.0], [1.0, 0.0]])
    array([0.125, 0.5  ], dtype=float32)
    """
    return ops.mean(ops.square(y_pred - y_true), -1)


class MeanSquaredError(Loss, function=mean_squared_error, aliases=("mse",)):
    """The mean of squared errors, as `compile` takes it.

    Parameters
    ----------
    reduction : str or None, default "sum_over_batch_size"
        What becomes of the values of arrays, or of a batch's: "sum_over_batch_size" or "mean", "sum",
        "mean_with_sample_weight" (divided by the weights' sum); of arrays also "none" or None, all of them.
    name : str or None, default "mean_squared_error"
        What it is called in messages and configs; None means the class's name.
    dtype : {"float32", "float64"}, optional
        Of the arithmetic on arrays: by default float64 stays, and all else is computed in the default type. In a model
        the model's counts.

    Raises
    ------
    ValueError
        If ``reduction`` or ``dtype`` is none of these.

    See Also
    --------
    mean_squared_error : The formula, and a value for each sample.

    Examples
    --------
    >>> from gpumlp import losses
    >>> loss = losses.MeanSquaredError()
    >>> round(float(loss([[0.0, 1.0], [2.0, 0.0]], [[0.5, 1.0], [1.0, 0.0]])), 4)
    0.3125
    """

    @constructor
    def __init__(
        self, reduction: Reduction = MEAN, name: str | None = "mean_squared_error", dtype: FloatLike = None,
    ) -> None: ...  # fmt: skip


@objective(elementwise=True)
def mean_absolute_error(y_true: Values, y_pred: Values) -> Values:
    """Mean of the absolute errors of each sample.

    Parameters
    ----------
    y_true : array_like, shape (..., outputs)
        Targets.
    y_pred : array_like, shape (..., outputs)
        Predictions.

    Returns
    -------
    numpy.ndarray
        The loss of each sample; in a formula of symbols its symbol.

    Raises
    ------
    ValueError
        If the shapes do not go together.
    TypeError
        If the values are no numbers.

    See Also
    --------
    MeanAbsoluteError : The loss as a class, as ``compile`` takes it.

    Notes
    -----
    The value of a sample is mean_o abs(p - t). Its gradient is 0 where p = t.

    Examples
    --------
    >>> from gpumlp import losses
    >>> losses.mean_absolute_error([[0.0, 1.0], [2.0, 0.0]], [[0.5, 1.0], [1.0, 0.0]])
    array([0.25, 0.5 ], dtype=float32)
    """
    return ops.mean(ops.absolute(y_pred - y_true), -1)


class MeanAbsoluteError(Loss, function=mean_absolute_error, aliases=("mae",)):
    """The mean of absolute errors, as `compile` takes it.

    Parameters
    ----------
    reduction : str or None, default "sum_over_batch_size"
        What becomes of the values of arrays, or of a batch's: "sum_over_batch_size" or "mean", "sum",
        "mean_with_sample_weight" (divided by the weights' sum); of arrays also "none" or None, all of them.
    name : str or None, default "mean_absolute_error"
        What it is called in messages and configs; None means the class's name.
    dtype : {"float32", "float64"}, optional
        Of the arithmetic on arrays: by default float64 stays, and all else is computed in the default type. In a model
        the model's counts.

    Raises
    ------
    ValueError
        If ``reduction`` or ``dtype`` is none of these.

    See Also
    --------
    mean_absolute_error : The formula, and a value for each sample.

    Examples
    --------
    >>> from gpumlp import losses
    >>> loss = losses.MeanAbsoluteError()
    >>> round(float(loss([[0.0, 1.0], [2.0, 0.0]], [[0.5, 1.0], [1.0, 0.0]])), 4)
    0.375
    """

    @constructor
    def __init__(
        self, reduction: Reduction = MEAN, name: str | None = "mean_absolute_error", dtype: FloatLike = None,
    ) -> None: ...  # fmt: skip


@objective(delta=within(0.0, above=True), elementwise=True)
def huber(y_true: Values, y_pred: Values, delta: float = 1.0) -> Values:
    """Squared errors that grow in a line beyond ``delta``, which outliers pull less at.

    Parameters
    ----------
    y_true : array_like, shape (..., outputs)
        Targets.
    y_pred : array_like, shape (..., outputs)
        Predictions.
    delta : float, default 1.0
        The size of an error, in units of the targets, where the parabola ends; above 0.

    Returns
    -------
    numpy.ndarray
        The loss of each sample; in a formula of symbols its symbol.

    Raises
    ------
    ValueError
        If the shapes do not go together, or a constant is out of its range.
    TypeError
        If the values are no numbers.

    See Also
    --------
    Huber : The loss as a class, as ``compile`` takes it.

    Notes
    -----
    The value of a sample is the mean over its outputs of e^2 / 2 where abs(e) <= delta, and of delta abs(e) - delta^2 /
    2 beyond, e = p - t (Huber 1964, Robust Estimation of a Location Parameter).

    Examples
    --------
    >>> from gpumlp import losses
    >>> losses.huber([[0.0, 1.0], [2.0, 0.0]], [[0.5, 1.0], [5.0, 0.0]])
    array([0.0625, 1.25  ], dtype=float32)
    >>> losses.huber([[0.0, 1.0], [2.0, 0.0]], [[0.5, 1.0], [5.0, 0.0]], delta=2.0)
    array([0.0625, 2.    ], dtype=float32)
    """
    error = y_pred - y_true
    size = ops.absolute(error)
    return ops.mean(ops.where(size < delta, 0.5 * ops.square(error), delta * (size - 0.5 * delta)), -1)


class Huber(Loss, function=huber):
    """The mean of squared errors that grow in a line from some size on, as `compile` takes it.

    Parameters
    ----------
    delta : float, default 1.0
        The size of an error, in units of the targets, where the parabola ends; above 0.
    reduction : str or None, default "sum_over_batch_size"
        What becomes of the values of arrays, or of a batch's: "sum_over_batch_size" or "mean", "sum",
        "mean_with_sample_weight" (divided by the weights' sum); of arrays also "none" or None, all of them.
    name : str or None, default "huber"
        What it is called in messages and configs; None means the class's name.
    dtype : {"float32", "float64"}, optional
        Of the arithmetic on arrays: by default float64 stays, and all else is computed in the default type. In a model
        the model's counts.

    Raises
    ------
    ValueError
        If a constant is out of its range, or ``reduction`` or ``dtype`` is none of these.

    See Also
    --------
    huber : The formula, and a value for each sample.

    Examples
    --------
    >>> from gpumlp import losses
    >>> loss = losses.Huber(delta=2.0)
    >>> round(float(loss([[0.0, 1.0], [2.0, 0.0]], [[0.5, 1.0], [5.0, 0.0]])), 4)
    1.0312
    """

    @constructor
    def __init__(
        self, delta: float = 1.0, reduction: Reduction = MEAN, name: str | None = "huber", dtype: FloatLike = None,
    ) -> None: ...  # fmt: skip


@objective(elementwise=True)
def mean_absolute_percentage_error(y_true: Values, y_pred: Values) -> Values:
    """Mean of the absolute errors of each sample, in per cent of the targets.

    Parameters
    ----------
    y_true : array_like, shape (..., outputs)
        Targets.
    y_pred : array_like, shape (..., outputs)
        Predictions.

    Returns
    -------
    numpy.ndarray
        The loss of each sample; in a formula of symbols its symbol.

    Raises
    ------
    ValueError
        If the shapes do not go together.
    TypeError
        If the values are no numbers.

    See Also
    --------
    MeanAbsolutePercentageError : The loss as a class, as ``compile`` takes it.

    Notes
    -----
    The value of a sample is 100 mean_o abs(p - t) / max(abs(t), 1e-7).

    Examples
    --------
    >>> from gpumlp import losses
    >>> losses.mean_absolute_percentage_error(
    ...     [[2.0, 4.0], [1.0, 5.0]], [[1.0, 4.0], [1.0, 4.0]]
    ... )
    array([25., 10.], dtype=float32)
    """
    return 100.0 * ops.mean(ops.absolute((y_true - y_pred) / ops.maximum(ops.absolute(y_true), EPSILON)), -1)


class MeanAbsolutePercentageError(Loss, function=mean_absolute_percentage_error, aliases=("mape",)):
    """The mean of absolute errors in per cent of the targets, as `compile` takes it.

    Parameters
    ----------
    reduction : str or None, default "sum_over_batch_size"
        What becomes of the values of arrays, or of a batch's: "sum_over_batch_size" or "mean", "sum",
        "mean_with_sample_weight" (divided by the weights' sum); of arrays also "none" or None, all of them.
    name : str or None, default "mean_absolute_percentage_error"
        What it is called in messages and configs; None means the class's name.
    dtype : {"float32", "float64"}, optional
        Of the arithmetic on arrays: by default float64 stays, and all else is computed in the default type. In a model
        the model's counts.

    Raises
    ------
    ValueError
        If ``reduction`` or ``dtype`` is none of these.

    See Also
    --------
    mean_absolute_percentage_error : The formula, and a value for each sample.

    Examples
    --------
    >>> from gpumlp import losses
    >>> loss = losses.MeanAbsolutePercentageError()
    >>> round(float(loss([[2.0, 4.0], [1.0, 5.0]], [[1.0, 4.0], [1.0, 4.0]])), 4)
    17.5
    """

    @constructor
    def __init__(
        self, reduction: Reduction = MEAN, name: str | None = "mean_absolute_percentage_error",
        dtype: FloatLike = None,
    ) -> None: ...  # fmt: skip


@objective(elementwise=True)
def mean_squared_logarithmic_error(y_true: Values, y_pred: Values) -> Values:
    """Mean of the squared differences of logarithms: relative errors of numbers from 0 on.

    Parameters
    ----------
    y_true : array_like, shape (..., outputs)
        Targets.
    y_pred : array_like, shape (..., outputs)
        Predictions.

    Returns
    -------
    numpy.ndarray
        The loss of each sample; in a formula of symbols its symbol.

    Raises
    ------
    ValueError
        If the shapes do not go together.
    TypeError
        If the values are no numbers.

    See Also
    --------
    MeanSquaredLogarithmicError : The loss as a class, as ``compile`` takes it.

    Notes
    -----
    The value of a sample is mean_o (log(1 + p) - log(1 + t))^2, with p and t at least 1e-7.

    Examples
    --------
    >>> from gpumlp import losses
    >>> losses.mean_squared_logarithmic_error(
    ...     [[0.0, 10.0], [100.0, 1.0]], [[0.0, 20.0], [90.0, 1.0]]
    ... ).round(4)
    array([0.2091, 0.0054], dtype=float32)
    """
    p, t = (ops.log1p(ops.maximum(ops.finite(v), EPSILON)) for v in (y_pred, y_true))
    return ops.mean(ops.square(p - t), -1)


class MeanSquaredLogarithmicError(Loss, function=mean_squared_logarithmic_error, aliases=("msle",)):
    """The mean of squared differences of logarithms, as `compile` takes it.

    Parameters
    ----------
    reduction : str or None, default "sum_over_batch_size"
        What becomes of the values of arrays, or of a batch's: "sum_over_batch_size" or "mean", "sum",
        "mean_with_sample_weight" (divided by the weights' sum); of arrays also "none" or None, all of them.
    name : str or None, default "mean_squared_logarithmic_error"
        What it is called in messages and configs; None means the class's name.
    dtype : {"float32", "float64"}, optional
        Of the arithmetic on arrays: by default float64 stays, and all else is computed in the default type. In a model
        the model's counts.

    Raises
    ------
    ValueError
        If ``reduction`` or ``dtype`` is none of these.

    See Also
    --------
    mean_squared_logarithmic_error : The formula, and a value for each sample.

    Examples
    --------
    >>> from gpumlp import losses
    >>> loss = losses.MeanSquaredLogarithmicError()
    >>> round(float(loss([[0.0, 10.0], [100.0, 1.0]], [[0.0, 20.0], [90.0, 1.0]])), 4)
    0.1072
    """

    @constructor
    def __init__(
        self, reduction: Reduction = MEAN, name: str | None = "mean_squared_logarithmic_error",
        dtype: FloatLike = None,
    ) -> None: ...  # fmt: skip


@objective(elementwise=True)
def log_cosh(y_true: Values, y_pred: Values) -> Values:
    """Squared errors where they are small, and absolute ones where they are large, without a kink.

    Parameters
    ----------
    y_true : array_like, shape (..., outputs)
        Targets.
    y_pred : array_like, shape (..., outputs)
        Predictions.

    Returns
    -------
    numpy.ndarray
        The loss of each sample; in a formula of symbols its symbol.

    Raises
    ------
    ValueError
        If the shapes do not go together.
    TypeError
        If the values are no numbers.

    See Also
    --------
    LogCosh : The loss as a class, as ``compile`` takes it.

    Notes
    -----
    The value of a sample is mean_o log(cosh(p - t)): about e^2 / 2 near 0, and abs(e) - log 2 far out. It is computed
    as abs(e) + softplus(-2 abs(e)) - log 2, which does not overflow.

    Examples
    --------
    >>> from gpumlp import losses
    >>> losses.log_cosh([[0.0, 1.0], [2.0, 0.0]], [[0.5, 1.0], [9.0, 0.0]]).round(4)
    array([0.0601, 3.1534], dtype=float32)
    """
    size = ops.absolute(y_pred - y_true)
    return ops.mean(size + ops.softplus(-2.0 * size) - math.log(2.0), -1)


class LogCosh(Loss, function=log_cosh, aliases=("logcosh",)):
    """The mean of the logarithms of errors' hyperbolic cosines, as `compile` takes it.

    Parameters
    ----------
    reduction : str or None, default "sum_over_batch_size"
        What becomes of the values of arrays, or of a batch's: "sum_over_batch_size" or "mean", "sum",
        "mean_with_sample_weight" (divided by the weights' sum); of arrays also "none" or None, all of them.
    name : str or None, default "log_cosh"
        What it is called in messages and configs; None means the class's name.
    dtype : {"float32", "float64"}, optional
        Of the arithmetic on arrays: by default float64 stays, and all else is computed in the default type. In a model
        the model's counts.

    Raises
    ------
    ValueError
        If ``reduction`` or ``dtype`` is none of these.

    See Also
    --------
    log_cosh : The formula, and a value for each sample.

    Examples
    --------
    >>> from gpumlp import losses
    >>> loss = losses.LogCosh()
    >>> round(float(loss([[0.0, 1.0], [2.0, 0.0]], [[0.5, 1.0], [9.0, 0.0]])), 4)
    1.6067
    """

    @constructor
    def __init__(self, reduction: Reduction = MEAN, name: str | None = "log_cosh", dtype: FloatLike = None) -> None: ...


def _unit(x: Values) -> Values:
    """x / max(|x|, 1e-7) of each row: by way of x / max_o |x_o|, whose squares neither overflow nor vanish."""
    x = ops.finite(x)
    largest = ops.maximum(ops.stop_gradient(ops.max(ops.absolute(x), -1, keepdims=True)), EPSILON)
    x = x / largest
    squares = ops.sum(ops.square(x), -1, keepdims=True)
    return x / ops.sqrt(ops.maximum(squares, ops.square(EPSILON / largest)))


@objective(axis=an_axis)
def cosine_similarity(y_true: Values, y_pred: Values, axis: int = -1) -> Values:
    """Negative cosine of the angle between targets and predictions: -1 for one direction.

    Parameters
    ----------
    y_true : array_like, shape (..., outputs)
        Targets.
    y_pred : array_like, shape (..., outputs)
        Predictions.
    axis : int, default -1
        The axis of arrays that has a sample's outputs. A model takes -1.

    Returns
    -------
    numpy.ndarray
        The loss of each sample; in a formula of symbols its symbol.

    Raises
    ------
    ValueError
        If the shapes do not go together, or a constant is out of its range.
    TypeError
        If the values are no numbers.

    See Also
    --------
    CosineSimilarity : The loss as a class, as ``compile`` takes it.

    Notes
    -----
    The value of a sample is -sum_o t p, with t and p first divided by max(length, 1e-7).

    Examples
    --------
    >>> from gpumlp import losses
    >>> losses.cosine_similarity([[1.0, 0.0], [1.0, 1.0]], [[2.0, 0.0], [-1.0, 1.0]])
    array([-1., -0.], dtype=float32)
    """
    return -ops.sum(_unit(y_true) * _unit(y_pred), -1)


class CosineSimilarity(Loss, function=cosine_similarity):
    """The negative cosine of the angle between targets and predictions, as `compile` takes it.

    Parameters
    ----------
    axis : int, default -1
        The axis of arrays that has a sample's outputs. A model takes -1.
    reduction : str or None, default "sum_over_batch_size"
        What becomes of the values of arrays, or of a batch's: "sum_over_batch_size" or "mean", "sum",
        "mean_with_sample_weight" (divided by the weights' sum); of arrays also "none" or None, all of them.
    name : str or None, default "cosine_similarity"
        What it is called in messages and configs; None means the class's name.
    dtype : {"float32", "float64"}, optional
        Of the arithmetic on arrays: by default float64 stays, and all else is computed in the default type. In a model
        the model's counts.

    Raises
    ------
    ValueError
        If a constant is out of its range, or ``reduction`` or ``dtype`` is none of these.

    See Also
    --------
    cosine_similarity : The formula, and a value for each sample.

    Examples
    --------
    >>> from gpumlp import losses
    >>> loss = losses.CosineSimilarity()
    >>> round(float(loss([[1.0, 0.0], [1.0, 1.0]], [[2.0, 0.0], [-1.0, 1.0]])), 4)
    -0.5
    """

    @constructor
    def __init__(
        self, axis: int = -1, reduction: Reduction = MEAN, name: str | None = "cosine_similarity",
        dtype: FloatLike = None,
    ) -> None: ...  # fmt: skip
