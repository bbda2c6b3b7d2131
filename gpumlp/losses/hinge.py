"""Hinge losses, of margins between classes."""

from __future__ import annotations

from gpumlp import ops
from gpumlp.literals import FloatLike, Reduction
from gpumlp.losses.loss import MEAN, Loss
from gpumlp.objectives import Values, objective
from gpumlp.signatures import constructor


def _margin(y_true: Values, y_pred: Values) -> Values:
    """max(1 - t p, 0); a target of 0 is -1, so that targets may be 0 and 1 as well."""
    return ops.maximum(1.0 - ops.where(ops.equal(y_true, 0.0), -1.0, y_true) * y_pred, 0.0)


@objective(elementwise=True)
def hinge(y_true: Values, y_pred: Values) -> Values:
    """Mean of how far predictions are from their target's side, by a margin of 1.

    Parameters
    ----------
    y_true : array_like, shape (..., outputs)
        Targets of -1 and 1, or of 0 and 1.
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
    Hinge : The loss as a class, as ``compile`` takes it.

    Notes
    -----
    The value of a sample is mean_o max(1 - t p, 0), where a target of 0 counts as -1 (Cortes & Vapnik 1995,
    Support-Vector Networks).

    Examples
    --------
    >>> from gpumlp import losses
    >>> losses.hinge([[-1.0, 1.0], [1.0, 1.0]], [[-2.0, 0.5], [2.0, -1.0]])
    array([0.25, 1.  ], dtype=float32)
    """
    return ops.mean(_margin(y_true, y_pred), -1)


class Hinge(Loss, function=hinge):
    """The mean of the distances to a margin, as `compile` takes it.

    Parameters
    ----------
    reduction : str or None, default "sum_over_batch_size"
        What becomes of the values of arrays, or of a batch's: "sum_over_batch_size" or "mean", "sum",
        "mean_with_sample_weight" (divided by the weights' sum); of arrays also "none" or None, all of them.
    name : str or None, default "hinge"
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
    hinge : The formula, and a value for each sample.

    Examples
    --------
    >>> from gpumlp import losses
    >>> loss = losses.Hinge()
    >>> round(float(loss([[-1.0, 1.0], [1.0, 1.0]], [[-2.0, 0.5], [2.0, -1.0]])), 4)
    0.625
    """

    @constructor
    def __init__(self, reduction: Reduction = MEAN, name: str | None = "hinge", dtype: FloatLike = None) -> None: ...


@objective(elementwise=True)
def squared_hinge(y_true: Values, y_pred: Values) -> Values:
    """Mean of the squares of how far predictions are from their target's side.

    Parameters
    ----------
    y_true : array_like, shape (..., outputs)
        Targets of -1 and 1, or of 0 and 1.
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
    SquaredHinge : The loss as a class, as ``compile`` takes it.

    Notes
    -----
    The value of a sample is mean_o max(1 - t p, 0)^2, where a target of 0 counts as -1.

    Examples
    --------
    >>> from gpumlp import losses
    >>> losses.squared_hinge([[-1.0, 1.0], [1.0, 1.0]], [[-2.0, 0.5], [2.0, -1.0]])
    array([0.125, 2.   ], dtype=float32)
    """
    return ops.mean(ops.square(_margin(y_true, y_pred)), -1)


class SquaredHinge(Loss, function=squared_hinge):
    """The mean of the squared distances to a margin, as `compile` takes it.

    Parameters
    ----------
    reduction : str or None, default "sum_over_batch_size"
        What becomes of the values of arrays, or of a batch's: "sum_over_batch_size" or "mean", "sum",
        "mean_with_sample_weight" (divided by the weights' sum); of arrays also "none" or None, all of them.
    name : str or None, default "squared_hinge"
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
    squared_hinge : The formula, and a value for each sample.

    Examples
    --------
    >>> from gpumlp import losses
    >>> loss = losses.SquaredHinge()
    >>> round(float(loss([[-1.0, 1.0], [1.0, 1.0]], [[-2.0, 0.5], [2.0, -1.0]])), 4)
    1.0625
    """

    @constructor
    def __init__(
        self, reduction: Reduction = MEAN, name: str | None = "squared_hinge", dtype: FloatLike = None,
    ) -> None: ...  # fmt: skip


@objective()
def categorical_hinge(y_true: Values, y_pred: Values) -> Values:
    """How far the target's class is from being above the best other one, by a margin of 1.

    Parameters
    ----------
    y_true : array_like, shape (..., classes)
        Targets, one-hot.
    y_pred : array_like, shape (..., classes)
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
    CategoricalHinge : The loss as a class, as ``compile`` takes it.

    Notes
    -----
    The value of a sample is max(1 + max_o (1 - t) p - sum_o t p, 0), t one-hot (Crammer & Singer 2001).

    Examples
    --------
    >>> from gpumlp import losses
    >>> losses.categorical_hinge([[0.0, 1.0, 0.0]], [[0.5, 1.0, 0.25]])
    array([0.5], dtype=float32)
    """
    p = ops.finite(y_pred)
    return ops.maximum(ops.max((1.0 - y_true) * p, -1) - ops.sum(y_true * p, -1) + 1.0, 0.0)


class CategoricalHinge(Loss, function=categorical_hinge):
    """The distance of the target's class to a margin above the others, as `compile` takes it.

    Parameters
    ----------
    reduction : str or None, default "sum_over_batch_size"
        What becomes of the values of arrays, or of a batch's: "sum_over_batch_size" or "mean", "sum",
        "mean_with_sample_weight" (divided by the weights' sum); of arrays also "none" or None, all of them.
    name : str or None, default "categorical_hinge"
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
    categorical_hinge : The formula, and a value for each sample.

    Examples
    --------
    >>> from gpumlp import losses
    >>> loss = losses.CategoricalHinge()
    >>> round(float(loss([[0.0, 1.0, 0.0]], [[0.5, 1.0, 0.25]])), 4)
    0.5
    """

    @constructor
    def __init__(
        self, reduction: Reduction = MEAN, name: str | None = "categorical_hinge", dtype: FloatLike = None,
    ) -> None: ...  # fmt: skip
