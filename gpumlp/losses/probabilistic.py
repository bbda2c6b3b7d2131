"""Losses of probabilities: of distributions, counts, and outputs that are each true or false."""

from __future__ import annotations

from gpumlp import ops
from gpumlp.expressions import Node
from gpumlp.literals import FloatLike, Reduction
from gpumlp.losses.loss import EPSILON, MEAN, Loss
from gpumlp.naming import number
from gpumlp.objectives import Values, an_axis, objective, within
from gpumlp.signatures import constructor


@objective()
def kl_divergence(y_true: Values, y_pred: Values) -> Values:
    """Kullback-Leibler divergence of predicted from target distributions, in nats.

    Parameters
    ----------
    y_true : array_like, shape (..., classes)
        Target probabilities of classes, such as one-hot ones.
    y_pred : array_like, shape (..., classes)
        Predicted probabilities of classes.

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
    KLDivergence : The loss as a class, as ``compile`` takes it.

    Notes
    -----
    The value of a sample is sum_o t log(t / p), with t and p first clipped to [1e-7, 1] (Kullback & Leibler 1951).

    Examples
    --------
    >>> from gpumlp import losses
    >>> losses.kl_divergence([[0.5, 0.5], [0.0, 1.0]], [[0.5, 0.5], [0.25, 0.75]]).round(4)
    array([0.    , 0.2877], dtype=float32)
    """
    t, p = (ops.clip(v, EPSILON, 1.0) for v in (y_true, y_pred))
    return ops.sum(t * ops.log(t / p), -1)


class KLDivergence(Loss, function=kl_divergence, aliases=("kld", "kullback_leibler_divergence")):
    """The Kullback-Leibler divergence of predicted from target distributions, as `compile` takes it.

    Parameters
    ----------
    reduction : str or None, default "sum_over_batch_size"
        What becomes of the values of arrays, or of a batch's: "sum_over_batch_size" or "mean", "sum",
        "mean_with_sample_weight" (divided by the weights' sum); of arrays also "none" or None, all of them.
    name : str or None, default "kl_divergence"
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
    kl_divergence : The formula, and a value for each sample.

    Examples
    --------
    >>> from gpumlp import losses
    >>> loss = losses.KLDivergence()
    >>> round(float(loss([[0.5, 0.5], [0.0, 1.0]], [[0.5, 0.5], [0.25, 0.75]])), 4)
    0.1438
    """

    @constructor
    def __init__(
        self, reduction: Reduction = MEAN, name: str | None = "kl_divergence", dtype: FloatLike = None,
    ) -> None: ...  # fmt: skip


@objective(elementwise=True)
def poisson(y_true: Values, y_pred: Values) -> Values:
    """Negative log-likelihood of counts whose expectations are predicted.

    Parameters
    ----------
    y_true : array_like, shape (..., outputs)
        Counts.
    y_pred : array_like, shape (..., outputs)
        Their expectations, above 0; an exponential as the last activation gives such.

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
    Poisson : The loss as a class, as ``compile`` takes it.

    Notes
    -----
    The value of a sample is mean_o (p - t log(p + 1e-7)), of the Poisson distribution without log(t!), which p is not
    in.

    Examples
    --------
    >>> from gpumlp import losses
    >>> losses.poisson([[1.0, 3.0]], [[1.0, 2.0]]).round(4)
    array([0.4603], dtype=float32)
    """
    return ops.mean(y_pred - y_true * ops.log(ops.finite(y_pred) + EPSILON), -1)


class Poisson(Loss, function=poisson):
    """The negative log-likelihood of counts, as `compile` takes it.

    Parameters
    ----------
    reduction : str or None, default "sum_over_batch_size"
        What becomes of the values of arrays, or of a batch's: "sum_over_batch_size" or "mean", "sum",
        "mean_with_sample_weight" (divided by the weights' sum); of arrays also "none" or None, all of them.
    name : str or None, default "poisson"
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
    poisson : The formula, and a value for each sample.

    Examples
    --------
    >>> from gpumlp import losses
    >>> loss = losses.Poisson()
    >>> round(float(loss([[1.0, 3.0]], [[1.0, 2.0]])), 4)
    0.4603
    """

    @constructor
    def __init__(self, reduction: Reduction = MEAN, name: str | None = "poisson", dtype: FloatLike = None) -> None: ...


# ---- cross-entropies -------------------------------------------------------------------------------------------------
def smoothed(y_true: Values, label_smoothing: float, classes: float | Node) -> Values:
    """t (1 - s) + s / classes."""
    return y_true * (1.0 - label_smoothing) + label_smoothing / classes


def exponent(name: str, value: object) -> float:
    """A check for what is an exponent: small whole numbers are products, so each has a formula of its own."""
    found = number(name, value, 0.0)
    return int(found) if found in (2.0, 3.0, 4.0) else found


def _binary(t: Values, p: Values) -> Values:
    """-(t log p + (1 - t) log(1 - p)), p clipped."""
    q = ops.clip(p, EPSILON, 1.0 - EPSILON)
    return -(t * ops.log(q) + (1.0 - t) * ops.log(1.0 - q))


SMOOTHING = within(0.0, 1.0)


@objective(broadcasts=False, elementwise=True, label_smoothing=SMOOTHING, axis=an_axis)
def binary_crossentropy(
    y_true: Values, y_pred: Values, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Values:
    """Cross-entropy of outputs that are each true or false, in nats.

    Parameters
    ----------
    y_true : array_like, shape (..., outputs)
        Targets of 0 and 1, or probabilities.
    y_pred : array_like, shape (..., outputs)
        Predicted probabilities; with ``from_logits`` logits.
    from_logits : bool, default False
        Whether predictions are logits, and no probabilities yet.
    label_smoothing : float, default 0.0
        In [0, 1]: how far targets go towards one half.
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
    BinaryCrossentropy : The loss as a class, as ``compile`` takes it.

    Notes
    -----
    The value of a sample is the mean over its outputs of -(t log p + (1 - t) log(1 - p)), with p clipped to [1e-7, 1 -
    1e-7], where the gradient is zero beyond (Cox 1958). Of logits z it is softplus(z) - z t, which needs no clip and
    keeps the gradient far out. ``label_smoothing`` s makes t (1 - s) + s / 2 of t.

    Examples
    --------
    >>> from gpumlp import losses
    >>> losses.binary_crossentropy(
    ...     [[0.0, 1.0], [1.0, 1.0]], [[0.25, 0.5], [0.5, 0.75]]
    ... ).round(4)
    array([0.4904, 0.4904], dtype=float32)
    >>> losses.binary_crossentropy(
    ...     [[0.0, 1.0], [1.0, 1.0]], [[0.25, 0.5], [0.5, 0.75]], from_logits=True
    ... ).round(4)
    array([0.65  , 0.4305], dtype=float32)
    """
    t = smoothed(y_true, label_smoothing, 2.0)
    if from_logits:
        z = ops.finite(y_pred)
        return ops.mean(ops.softplus(z) - z * t, -1)
    return ops.mean(_binary(t, y_pred), -1)


class BinaryCrossentropy(Loss, function=binary_crossentropy, aliases=("bce",)):
    """The cross-entropy of outputs that are each true or false, as `compile` takes it.

    Parameters
    ----------
    from_logits : bool, default False
        Whether predictions are logits, and no probabilities yet.
    label_smoothing : float, default 0.0
        In [0, 1]: how far targets go towards one half.
    axis : int, default -1
        The axis of arrays that has a sample's outputs. A model takes -1.
    reduction : str or None, default "sum_over_batch_size"
        What becomes of the values of arrays, or of a batch's: "sum_over_batch_size" or "mean", "sum",
        "mean_with_sample_weight" (divided by the weights' sum); of arrays also "none" or None, all of them.
    name : str or None, default "binary_crossentropy"
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
    binary_crossentropy : The formula, and a value for each sample.

    Examples
    --------
    >>> from gpumlp import losses
    >>> loss = losses.BinaryCrossentropy(from_logits=True)
    >>> round(float(loss([[0.0, 1.0], [1.0, 1.0]], [[0.25, 0.5], [0.5, 0.75]])), 4)
    0.5402
    """

    @constructor
    def __init__(
        self, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1, reduction: Reduction = MEAN,
        name: str | None = "binary_crossentropy", dtype: FloatLike = None,
    ) -> None: ...  # fmt: skip


@objective(
    broadcasts=False, elementwise=True, label_smoothing=SMOOTHING, axis=an_axis, alpha=within(0.0), gamma=exponent
)
def binary_focal_crossentropy(
    y_true: Values, y_pred: Values, apply_class_balancing: bool = False, alpha: float = 0.25, gamma: float = 2.0,
    from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1,
) -> Values:  # fmt: skip
    """Binary cross-entropy in which outputs that are predicted well count less.

    Parameters
    ----------
    y_true : array_like, shape (..., outputs)
        Targets of 0 and 1, or probabilities.
    y_pred : array_like, shape (..., outputs)
        Predicted probabilities; with ``from_logits`` logits.
    apply_class_balancing : bool, default False
        Whether targets of 1 are weighted by ``alpha``, and those of 0 by 1 - ``alpha``.
    alpha : float, default 0.25
        The weight of targets of 1, with ``apply_class_balancing``.
    gamma : float, default 2.0
        How much less what is predicted well counts; 0 or more, and at 0 all count alike.
    from_logits : bool, default False
        Whether predictions are logits, and no probabilities yet.
    label_smoothing : float, default 0.0
        In [0, 1]: how far targets go towards one half.
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
    BinaryFocalCrossentropy : The loss as a class, as ``compile`` takes it.

    Notes
    -----
    The value of a sample is the mean over its outputs of the binary cross-entropy times (1 - q)^gamma, q = t p + (1 -
    t) (1 - p) (Lin et al. 2017, Focal Loss for Dense Object Detection). Logits become probabilities first; for clip and
    smoothing see `binary_crossentropy`.

    Examples
    --------
    >>> from gpumlp import losses
    >>> losses.binary_focal_crossentropy(
    ...     [[0.0, 1.0], [1.0, 1.0]], [[0.25, 0.5], [0.5, 0.75]]
    ... ).round(4)
    array([0.0956, 0.0956], dtype=float32)
    >>> losses.binary_focal_crossentropy(
    ...     [[0.0, 1.0], [1.0, 1.0]], [[0.25, 0.5], [0.5, 0.75]], gamma=1.0
    ... ).round(4)
    array([0.2092, 0.2092], dtype=float32)
    """
    t = smoothed(y_true, label_smoothing, 2.0)
    p = ops.sigmoid(y_pred) if from_logits else y_pred
    wrong = t * (1.0 - p) + (1.0 - t) * p  # 1 - q, as no difference
    value = ops.power(wrong, gamma) * _binary(t, p)
    if apply_class_balancing:
        value = (t * alpha + (1.0 - t) * (1.0 - alpha)) * value
    return ops.mean(value, -1)


class BinaryFocalCrossentropy(Loss, function=binary_focal_crossentropy):
    """The binary cross-entropy in which outputs that are predicted well count less, as `compile` takes it.

    Parameters
    ----------
    apply_class_balancing : bool, default False
        Whether targets of 1 are weighted by ``alpha``, and those of 0 by 1 - ``alpha``.
    alpha : float, default 0.25
        The weight of targets of 1, with ``apply_class_balancing``.
    gamma : float, default 2.0
        How much less what is predicted well counts; 0 or more, and at 0 all count alike.
    from_logits : bool, default False
        Whether predictions are logits, and no probabilities yet.
    label_smoothing : float, default 0.0
        In [0, 1]: how far targets go towards one half.
    axis : int, default -1
        The axis of arrays that has a sample's outputs. A model takes -1.
    reduction : str or None, default "sum_over_batch_size"
        What becomes of the values of arrays, or of a batch's: "sum_over_batch_size" or "mean", "sum",
        "mean_with_sample_weight" (divided by the weights' sum); of arrays also "none" or None, all of them.
    name : str or None, default "binary_focal_crossentropy"
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
    binary_focal_crossentropy : The formula, and a value for each sample.

    Examples
    --------
    >>> from gpumlp import losses
    >>> loss = losses.BinaryFocalCrossentropy(gamma=1.0)
    >>> round(float(loss([[0.0, 1.0], [1.0, 1.0]], [[0.25, 0.5], [0.5, 0.75]])), 4)
    0.2092
    """

    @constructor
    def __init__(
        self, apply_class_balancing: bool = False, alpha: float = 0.25, gamma: float = 2.0, from_logits: bool = False,
        label_smoothing: float = 0.0, axis: int = -1, reduction: Reduction = MEAN,
        name: str | None = "binary_focal_crossentropy", dtype: FloatLike = None,
    ) -> None: ...  # fmt: skip
