"""Losses of classes that exclude each other: cross-entropies of distributions and of class numbers."""

from __future__ import annotations

import numpy as np

from gpumlp import ops
from gpumlp.expressions import Node, count
from gpumlp.literals import FloatLike, Reduction
from gpumlp.losses.loss import EPSILON, MEAN, Loss
from gpumlp.losses.probabilistic import SMOOTHING, exponent, smoothed
from gpumlp.objectives import Values, an_axis, objective, within
from gpumlp.signatures import constructor


def _width(p: Values) -> Node | float:
    """How many outputs there are, of a formula."""
    assert isinstance(p, Node)
    return count(p)


def _shares(p: Values) -> Values:
    """p divided by its row's sum, and clipped."""
    return ops.clip(p / ops.sum(p, -1, keepdims=True), EPSILON, 1.0 - EPSILON)


@objective(broadcasts=False, label_smoothing=SMOOTHING, axis=an_axis)
def categorical_crossentropy(
    y_true: Values, y_pred: Values, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Values:
    """Cross-entropy of predicted and target distributions over classes, in nats.

    Parameters
    ----------
    y_true : array_like, shape (..., classes)
        Target probabilities of classes, such as one-hot ones.
    y_pred : array_like, shape (..., classes)
        Predicted probabilities of classes; with ``from_logits`` logits.
    from_logits : bool, default False
        Whether predictions are logits, and no probabilities yet.
    label_smoothing : float, default 0.0
        In [0, 1]: how far targets go towards one over the number of classes.
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
    CategoricalCrossentropy : The loss as a class, as ``compile`` takes it.

    Notes
    -----
    The value of a sample is -sum_o t log p, with p first divided by its sum and clipped to [1e-7, 1 - 1e-7], where the
    gradient is zero beyond. Of logits, log softmax takes the place of log p. ``label_smoothing`` s makes t (1 - s) + s
    / classes of t (Szegedy et al. 2016).

    Examples
    --------
    >>> from gpumlp import losses
    >>> losses.categorical_crossentropy([[0.0, 1.0, 0.0]], [[0.25, 0.5, 0.25]]).round(4)
    array([0.6931], dtype=float32)
    >>> losses.categorical_crossentropy(
    ...     [[0.0, 1.0, 0.0]], [[0.25, 0.5, 0.25]], label_smoothing=0.1
    ... ).round(4)
    array([0.7394], dtype=float32)
    """
    t = smoothed(y_true, label_smoothing, _width(y_pred))
    if from_logits:
        return -ops.sum(t * ops.finite(ops.log_softmax(y_pred)), -1)
    return -ops.sum(t * ops.log(_shares(y_pred)), -1)


class CategoricalCrossentropy(Loss, function=categorical_crossentropy):
    """The cross-entropy of predicted and target distributions over classes, as `compile` takes it.

    Parameters
    ----------
    from_logits : bool, default False
        Whether predictions are logits, and no probabilities yet.
    label_smoothing : float, default 0.0
        In [0, 1]: how far targets go towards one over the number of classes.
    axis : int, default -1
        The axis of arrays that has a sample's outputs. A model takes -1.
    reduction : str or None, default "sum_over_batch_size"
        What becomes of the values of arrays, or of a batch's: "sum_over_batch_size" or "mean", "sum",
        "mean_with_sample_weight" (divided by the weights' sum); of arrays also "none" or None, all of them.
    name : str or None, default "categorical_crossentropy"
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
    categorical_crossentropy : The formula, and a value for each sample.

    Examples
    --------
    >>> from gpumlp import losses
    >>> loss = losses.CategoricalCrossentropy(label_smoothing=0.1)
    >>> round(float(loss([[0.0, 1.0, 0.0]], [[0.25, 0.5, 0.25]])), 4)
    0.7394
    """

    @constructor
    def __init__(
        self, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1, reduction: Reduction = MEAN,
        name: str | None = "categorical_crossentropy", dtype: FloatLike = None,
    ) -> None: ...  # fmt: skip


@objective(broadcasts=False, label_smoothing=SMOOTHING, axis=an_axis, alpha=within(0.0), gamma=exponent)
def categorical_focal_crossentropy(
    y_true: Values, y_pred: Values, alpha: float = 0.25, gamma: float = 2.0, from_logits: bool = False,
    label_smoothing: float = 0.0, axis: int = -1,
) -> Values:  # fmt: skip
    """Categorical cross-entropy in which classes that are predicted well count less.

    Parameters
    ----------
    y_true : array_like, shape (..., classes)
        Target probabilities of classes, such as one-hot ones.
    y_pred : array_like, shape (..., classes)
        Predicted probabilities of classes; with ``from_logits`` logits.
    alpha : float, default 0.25
        What all is multiplied by; 0 or more.
    gamma : float, default 2.0
        How much less what is predicted well counts; 0 or more, and at 0 all count alike.
    from_logits : bool, default False
        Whether predictions are logits, and no probabilities yet.
    label_smoothing : float, default 0.0
        In [0, 1]: how far targets go towards one over the number of classes.
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
    CategoricalFocalCrossentropy : The loss as a class, as ``compile`` takes it.

    Notes
    -----
    The value of a sample is -sum_o alpha (1 - p)^gamma t log p, p and t as for `categorical_crossentropy` (Lin et al.
    2017, Focal Loss for Dense Object Detection). Logits become a softmax first.

    Examples
    --------
    >>> from gpumlp import losses
    >>> losses.categorical_focal_crossentropy([[0.0, 1.0, 0.0]], [[0.25, 0.5, 0.25]]).round(
    ...     4
    ... )
    array([0.0433], dtype=float32)
    >>> losses.categorical_focal_crossentropy(
    ...     [[0.0, 1.0, 0.0]], [[0.25, 0.5, 0.25]], gamma=1.0
    ... ).round(4)
    array([0.0866], dtype=float32)
    """
    t = smoothed(y_true, label_smoothing, _width(y_pred))
    q = _shares(ops.softmax(y_pred) if from_logits else y_pred)
    return -ops.sum(alpha * ops.power(1.0 - q, gamma) * (t * ops.log(q)), -1)


class CategoricalFocalCrossentropy(Loss, function=categorical_focal_crossentropy):
    """The categorical cross-entropy in which classes that are predicted well count less, as `compile` takes it.

    Parameters
    ----------
    alpha : float, default 0.25
        What all is multiplied by; 0 or more.
    gamma : float, default 2.0
        How much less what is predicted well counts; 0 or more, and at 0 all count alike.
    from_logits : bool, default False
        Whether predictions are logits, and no probabilities yet.
    label_smoothing : float, default 0.0
        In [0, 1]: how far targets go towards one over the number of classes.
    axis : int, default -1
        The axis of arrays that has a sample's outputs. A model takes -1.
    reduction : str or None, default "sum_over_batch_size"
        What becomes of the values of arrays, or of a batch's: "sum_over_batch_size" or "mean", "sum",
        "mean_with_sample_weight" (divided by the weights' sum); of arrays also "none" or None, all of them.
    name : str or None, default "categorical_focal_crossentropy"
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
    categorical_focal_crossentropy : The formula, and a value for each sample.

    Examples
    --------
    >>> from gpumlp import losses
    >>> loss = losses.CategoricalFocalCrossentropy(gamma=1.0)
    >>> round(float(loss([[0.0, 1.0, 0.0]], [[0.25, 0.5, 0.25]])), 4)
    0.0866
    """

    @constructor
    def __init__(
        self, alpha: float = 0.25, gamma: float = 2.0, from_logits: bool = False, label_smoothing: float = 0.0,
        axis: int = -1, reduction: Reduction = MEAN, name: str | None = "categorical_focal_crossentropy",
        dtype: FloatLike = None,
    ) -> None: ...  # fmt: skip


def _class_or_none(name: str, value: object) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, np.integer))):
        raise ValueError(f"{name} must be a class number, or None; got {value!r}.")
    return None if value is None else int(value)


@objective(sparse=True, broadcasts=False, ignore_class=_class_or_none, axis=an_axis)
def sparse_categorical_crossentropy(
    y_true: Values, y_pred: Values, from_logits: bool = False, ignore_class: int | None = None, axis: int = -1
) -> Values:
    """Categorical cross-entropy of targets that are class numbers, in nats.

    Parameters
    ----------
    y_true : array_like, shape (...) or (..., 1)
        Class numbers, from 0.
    y_pred : array_like, shape (..., classes)
        Predicted probabilities of classes; with ``from_logits`` logits.
    from_logits : bool, default False
        Whether predictions are logits, and no probabilities yet.
    ignore_class : int, optional
        A class whose samples do not count; not for a model, whose mean is over all samples.
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
    SparseCategoricalCrossentropy : The loss as a class, as ``compile`` takes it.

    Notes
    -----
    The value of a sample is -log p_t, t its class: `categorical_crossentropy` of the one-hot t, with the same clip. Of
    samples of ``ignore_class`` it is 0.

    Examples
    --------
    >>> from gpumlp import losses
    >>> losses.sparse_categorical_crossentropy(
    ...     [1, 0], [[0.25, 0.5, 0.25], [0.5, 0.25, 0.25]]
    ... ).round(4)
    array([0.6931, 0.6931], dtype=float32)
    """
    if ignore_class is None:
        return categorical_crossentropy(ops.one_hot(y_true), y_pred, from_logits)
    ignored = ops.equal(y_true, ignore_class)
    value = categorical_crossentropy(ops.one_hot(ops.where(ignored, 0.0, y_true)), y_pred, from_logits)
    return ops.where(ignored, 0.0, ops.expand_dims(value, -1))


class SparseCategoricalCrossentropy(Loss, function=sparse_categorical_crossentropy):
    """The categorical cross-entropy of targets that are class numbers, as `compile` takes it.

    Parameters
    ----------
    from_logits : bool, default False
        Whether predictions are logits, and no probabilities yet.
    ignore_class : int, optional
        A class whose samples do not count; not for a model, whose mean is over all samples.
    reduction : str or None, default "sum_over_batch_size"
        What becomes of the values of arrays, or of a batch's: "sum_over_batch_size" or "mean", "sum",
        "mean_with_sample_weight" (divided by the weights' sum); of arrays also "none" or None, all of them.
    axis : int, default -1
        The axis of arrays that has a sample's outputs. A model takes -1.
    name : str or None, default "sparse_categorical_crossentropy"
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
    sparse_categorical_crossentropy : The formula, and a value for each sample.

    Examples
    --------
    >>> from gpumlp import losses
    >>> loss = losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> round(float(loss([1, 0], [[0.25, 0.5, 0.25], [0.5, 0.25, 0.25]])), 4)
    0.9391
    """

    @constructor
    def __init__(
        self, from_logits: bool = False, ignore_class: int | None = None, reduction: Reduction = MEAN, axis: int = -1,
        name: str | None = "sparse_categorical_crossentropy", dtype: FloatLike = None,
    ) -> None: ...  # fmt: skip

    ignore_class: int | None

    def counts(self, y_true: object, found: np.ndarray) -> np.ndarray | None:
        """See `Loss`."""
        return None if self.ignore_class is None else np.asarray(y_true).reshape(found.shape) != self.ignore_class

    def beyond_models(self) -> str:
        """See `Loss`."""
        if self.ignore_class is not None:
            return (
                f"A batch's loss is divided by its samples, those of ignore_class={self.ignore_class} too, so no model "
                "is trained with it. Give these samples class 0 and sample_weight 0, or leave them out."
            )
        return super().beyond_models()


@objective(sparse=True, broadcasts=False, q=within(0.0, 1.0, above=True))
def categorical_generalized_cross_entropy(y_true: Values, y_pred: Values, q: float = 0.5) -> Values:
    """Cross-entropy that wrong labels pull less at, of class numbers.

    Parameters
    ----------
    y_true : array_like, shape (...) or (..., 1)
        Class numbers, from 0.
    y_pred : array_like, shape (..., classes)
        Predicted probabilities of classes.
    q : float, default 0.5
        In (0, 1]: the more, the less wrong labels pull.

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
    CategoricalGeneralizedCrossEntropy : The loss as a class, as ``compile`` takes it.

    Notes
    -----
    The value of a sample is (1 - p_t^q) / q, p_t the probability of its class: near q = 0 cross-entropy, at q = 1 half
    of the sum of absolute errors (Zhang & Sabuncu 2018).

    Examples
    --------
    >>> from gpumlp import losses
    >>> losses.categorical_generalized_cross_entropy(
    ...     [1, 0], [[0.25, 0.5, 0.25], [0.25, 0.25, 0.5]]
    ... ).round(4)
    array([0.5858, 1.    ], dtype=float32)
    >>> losses.categorical_generalized_cross_entropy(
    ...     [1, 0], [[0.25, 0.5, 0.25], [0.25, 0.25, 0.5]], q=1.0
    ... ).round(4)
    array([0.5 , 0.75], dtype=float32)
    """
    return (1.0 - ops.power(ops.sum(y_pred * ops.one_hot(y_true), -1), q)) / q


class CategoricalGeneralizedCrossEntropy(Loss, function=categorical_generalized_cross_entropy):
    """A cross-entropy of class numbers that wrong labels pull less at, as `compile` takes it.

    Parameters
    ----------
    q : float, default 0.5
        In (0, 1]: the more, the less wrong labels pull.
    reduction : str or None, default "sum_over_batch_size"
        What becomes of the values of arrays, or of a batch's: "sum_over_batch_size" or "mean", "sum",
        "mean_with_sample_weight" (divided by the weights' sum); of arrays also "none" or None, all of them.
    name : str or None, default "categorical_generalized_cross_entropy"
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
    categorical_generalized_cross_entropy : The formula, and a value for each sample.

    Examples
    --------
    >>> from gpumlp import losses
    >>> loss = losses.CategoricalGeneralizedCrossEntropy(q=1.0)
    >>> round(float(loss([1, 0], [[0.25, 0.5, 0.25], [0.25, 0.25, 0.5]])), 4)
    0.625
    """

    @constructor
    def __init__(
        self, q: float = 0.5, reduction: Reduction = MEAN, name: str | None = "categorical_generalized_cross_entropy",
        dtype: FloatLike = None,
    ) -> None: ...  # fmt: skip
