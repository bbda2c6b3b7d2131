"""Losses of how much targets and predictions overlap, and of pairs of samples."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gpumlp import config, ops
from gpumlp.literals import FloatLike, Reduction
from gpumlp.losses.loss import EPSILON, MEAN, Loss
from gpumlp.naming import flag, number
from gpumlp.objectives import Axes, Values, objective, some_axes, within
from gpumlp.signatures import constructor


@objective(axis=some_axes)
def dice(y_true: Values, y_pred: Values, axis: Axes = None) -> Values:
    """One minus twice what targets and predictions share, over the sum of both.

    Parameters
    ----------
    y_true : array_like
        Targets in [0, 1].
    y_pred : array_like
        Predictions in [0, 1], of the targets' shape.
    axis : int, sequence of int or None, default None
        The axes of arrays that are summed over; None means all. A model takes -1.

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
    Dice : The loss as a class, as ``compile`` takes it.

    Notes
    -----
    The value is 1 - 2 sum t p / (sum t + sum p + 1e-7), one number of whole arrays by default (Dice 1945).

    Examples
    --------
    >>> from gpumlp import losses
    >>> losses.dice([[0.0, 1.0], [1.0, 1.0]], [[0.0, 1.0], [0.5, 1.0]]).round(4)
    np.float32(0.0909)
    >>> losses.dice([[0.0, 1.0], [1.0, 1.0]], [[0.0, 1.0], [0.5, 1.0]], axis=-1).round(4)
    array([0.    , 0.1429], dtype=float32)
    """
    both = ops.sum(y_true, -1) + ops.sum(y_pred, -1)
    return 1.0 - 2.0 * ops.sum(y_true * y_pred, -1) / (both + EPSILON)


class Dice(Loss, function=dice):
    """One minus the share of targets and predictions that both have, as `compile` takes it.

    Parameters
    ----------
    reduction : str or None, default "sum_over_batch_size"
        What becomes of the values of arrays, or of a batch's: "sum_over_batch_size" or "mean", "sum",
        "mean_with_sample_weight" (divided by the weights' sum); of arrays also "none" or None, all of them.
    name : str or None, default "dice"
        What it is called in messages and configs; None means the class's name.
    axis : int, sequence of int or None, default None
        The axes of arrays that are summed over; None means all. A model takes -1.
    dtype : {"float32", "float64"}, optional
        Of the arithmetic on arrays: by default float64 stays, and all else is computed in the default type. In a model
        the model's counts.

    Raises
    ------
    ValueError
        If a constant is out of its range, or ``reduction`` or ``dtype`` is none of these.

    See Also
    --------
    dice : The formula, and a value for each sample.

    Examples
    --------
    >>> from gpumlp import losses
    >>> loss = losses.Dice(axis=-1)
    >>> round(float(loss([[0.0, 1.0], [1.0, 1.0]], [[0.0, 1.0], [0.5, 1.0]])), 4)
    0.0714
    """

    @constructor
    def __init__(
        self, reduction: Reduction = MEAN, name: str | None = "dice", axis: Axes = None, dtype: FloatLike = None,
    ) -> None: ...  # fmt: skip


@objective(axis=some_axes, alpha=within(0.0), beta=within(0.0))
def tversky(y_true: Values, y_pred: Values, alpha: float = 0.5, beta: float = 0.5, axis: Axes = None) -> Values:
    """Dice loss in which what is missed and what is too much weigh differently.

    Parameters
    ----------
    y_true : array_like
        Targets in [0, 1].
    y_pred : array_like
        Predictions in [0, 1], of the targets' shape.
    alpha : float, default 0.5
        The weight of what is missed, 0 or more.
    beta : float, default 0.5
        The weight of what is too much, 0 or more.
    axis : int, sequence of int or None, default None
        The axes of arrays that are summed over; None means all. A model takes -1.

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
    Tversky : The loss as a class, as ``compile`` takes it.

    Notes
    -----
    The value is 1 - s / (s + alpha sum t (1 - p) + beta sum (1 - t) p + 1e-7), s = sum t p, one number of whole arrays
    by default (Tversky 1977; Salehi et al. 2017). With both at 0.5 it is `dice`.

    Examples
    --------
    >>> from gpumlp import losses
    >>> losses.tversky([[0.0, 1.0], [1.0, 1.0]], [[0.0, 1.0], [0.5, 1.0]]).round(4)
    np.float32(0.0909)
    >>> losses.tversky(
    ...     [[0.0, 1.0], [1.0, 1.0]], [[0.0, 1.0], [0.5, 1.0]], alpha=0.3, beta=0.7
    ... ).round(4)
    np.float32(0.0566)
    """
    shared = ops.sum(y_true * y_pred, -1)
    more = alpha * ops.sum((1.0 - y_pred) * y_true, -1) + beta * ops.sum(y_pred * (1.0 - y_true), -1)
    return 1.0 - shared / (shared + more + EPSILON)


class Tversky(Loss, function=tversky):
    """The Dice loss in which what is missed and what is too much weigh differently, as `compile` takes it.

    Parameters
    ----------
    alpha : float, default 0.5
        The weight of what is missed, 0 or more.
    beta : float, default 0.5
        The weight of what is too much, 0 or more.
    reduction : str or None, default "sum_over_batch_size"
        What becomes of the values of arrays, or of a batch's: "sum_over_batch_size" or "mean", "sum",
        "mean_with_sample_weight" (divided by the weights' sum); of arrays also "none" or None, all of them.
    name : str or None, default "tversky"
        What it is called in messages and configs; None means the class's name.
    axis : int, sequence of int or None, default None
        The axes of arrays that are summed over; None means all. A model takes -1.
    dtype : {"float32", "float64"}, optional
        Of the arithmetic on arrays: by default float64 stays, and all else is computed in the default type. In a model
        the model's counts.

    Raises
    ------
    ValueError
        If a constant is out of its range, or ``reduction`` or ``dtype`` is none of these.

    See Also
    --------
    tversky : The formula, and a value for each sample.

    Examples
    --------
    >>> from gpumlp import losses
    >>> loss = losses.Tversky(alpha=0.3, beta=0.7)
    >>> round(float(loss([[0.0, 1.0], [1.0, 1.0]], [[0.0, 1.0], [0.5, 1.0]])), 4)
    0.0566
    """

    @constructor
    def __init__(
        self, alpha: float = 0.5, beta: float = 0.5, reduction: Reduction = MEAN, name: str | None = "tversky",
        axis: Axes = None, dtype: FloatLike = None,
    ) -> None: ...  # fmt: skip


def circle(
    y_true: npt.ArrayLike, y_pred: npt.ArrayLike, ref_labels: npt.ArrayLike | None = None,
    ref_embeddings: npt.ArrayLike | None = None, remove_diagonal: bool = True, gamma: float = 80.0,
    margin: float = 0.4,
) -> np.ndarray:  # fmt: skip
    """How far embeddings of one label are apart, and those of different ones near each other, for each of them.

    Parameters
    ----------
    y_true : array_like, shape (samples,) or (samples, 1)
        Labels.
    y_pred : array_like, shape (samples, features)
        Embeddings of length 1.
    ref_labels : array_like, optional
        The labels of ``ref_embeddings``.
    ref_embeddings : array_like, shape (others, features), optional
        What embeddings are compared with; by default with each other.
    remove_diagonal : bool, default True
        Whether none is compared with the one at its own place.
    gamma : float, default 80.0
        What the exponents are multiplied by.
    margin : float, default 0.4
        How far apart, in 1 - cosine, embeddings of one label may be, and within how much of 1 others.

    Returns
    -------
    numpy.ndarray, shape (samples,)
        The loss of each sample.

    Raises
    ------
    TypeError
        If the values are no numbers.

    See Also
    --------
    Circle : The loss as a class.

    Notes
    -----
    With d = max(1 - cosine, 0) the value is softplus(log sum exp(gamma (d + m) (d - m)) over those of the label, plus
    log sum exp(gamma max(1 + m - d, 0) (1 - m - d)) over the others), m the margin (Sun et al. 2020, Circle Loss).

    Examples
    --------
    >>> from gpumlp import losses
    >>> losses.circle([0, 0, 1], [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]], gamma=4.0).round(4)
    array([0.2824, 0.8659, 0.    ], dtype=float32)
    """
    p = config.floats("y_pred", y_pred)
    others = p if ref_embeddings is None else config.floats("ref_embeddings", ref_embeddings, p.dtype)
    labels = np.asarray(y_true).reshape(-1, 1)
    same = labels == (labels if ref_labels is None else np.asarray(ref_labels)).reshape(1, -1)
    distance = np.maximum(1.0 - p @ others.T, 0.0)

    def summed(which: np.ndarray, values: np.ndarray) -> np.ndarray:
        found: np.ndarray = ops.logsumexp(ops.finite(np.where(which, gamma * values, -np.inf)), 1)
        return np.where(which.any(axis=1), found, -np.inf)

    near = summed(
        same & ~((np.eye(*same.shape) > 0.0) & bool(remove_diagonal)), (margin + distance) * (distance - margin)
    )
    far = summed(~same, np.maximum(1.0 + margin - distance, 0.0) * (1.0 - margin - distance))
    return np.asarray(ops.softplus(near + far), p.dtype)


class Circle(Loss):
    """The circle loss of embeddings, for arrays: it compares samples, so no model trains on it.

    Parameters
    ----------
    gamma : float, default 80.0
        What the exponents are multiplied by.
    margin : float, default 0.4
        How far apart, in 1 - cosine, embeddings of one label may be, and within how much of 1 others.
    remove_diagonal : bool, default True
        Whether no embedding is compared with itself.
    reduction : str or None, default "sum_over_batch_size"
        What becomes of the values of arrays: "sum_over_batch_size" or "mean", "sum", "mean_with_sample_weight" (divided
        by the weights' sum), "none" or None. Means are taken of what is above 0.
    name : str or None, default "circle"
        What it is called in messages and configs; None means the class's name.
    dtype : {"float32", "float64"}, optional
        Of the arithmetic: by default float64 stays, and all else is computed in the default type.

    Raises
    ------
    ValueError
        If a constant is no number, or ``reduction`` or ``dtype`` is none of these.

    See Also
    --------
    circle : The formula, and a value for each sample.

    Examples
    --------
    >>> from gpumlp import losses
    >>> loss = losses.Circle(gamma=4.0)
    >>> round(float(loss([0, 0, 1], [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])), 4)
    0.5741
    """

    own = False
    gamma: float
    margin: float
    remove_diagonal: bool

    @constructor
    def __init__(
        self, gamma: float = 80.0, margin: float = 0.4, remove_diagonal: bool = True, reduction: Reduction = MEAN,
        name: str | None = "circle", dtype: FloatLike = None,
    ) -> None: ...  # fmt: skip

    def _looked_at(self, arguments: dict[str, object]) -> dict[str, object]:
        found: dict[str, object] = {k: number(k, arguments[k]) for k in ("gamma", "margin")}
        found["remove_diagonal"] = flag("remove_diagonal", arguments["remove_diagonal"])
        return super()._looked_at(arguments) | found

    def of_samples(self, y_true: object, y_pred: object) -> np.ndarray:
        """See `Loss`."""
        p = config.floats("y_pred", y_pred, self.dtype)
        return circle(np.asarray(y_true), p, None, None, self.remove_diagonal, self.gamma, self.margin)

    def counts(self, y_true: object, found: np.ndarray) -> np.ndarray | None:
        """See `Loss`."""
        return found > 0

    def beyond_models(self) -> str:
        """See `Loss`."""
        return f"{self.name} compares the samples of a batch with each other, and a model's loss is one of each sample."


Loss.known["circle"] = Circle
