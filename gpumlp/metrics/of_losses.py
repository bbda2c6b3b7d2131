"""Losses as metrics, each by its function: the mean over all samples that were taken in."""

from __future__ import annotations

from gpumlp import losses
from gpumlp.literals import FloatLike
from gpumlp.metrics.metric import Sums
from gpumlp.signatures import constructor


class MeanSquaredError(Sums, function=losses.mean_squared_error, aliases=("mse",)):
    """The mean over samples of squared errors.

    Parameters
    ----------
    name : str or None, default "mean_squared_error"
        What it is called in the history; None means the same.
    dtype : {"float32", "float64"}, optional
        Of the arithmetic on arrays; by default the default type. In a model the model's counts.

    Raises
    ------
    ValueError
        If ``dtype`` is none of these, or the name no string.

    See Also
    --------
    gpumlp.losses.mean_squared_error : The formula, and its source.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metric = metrics.MeanSquaredError()
    >>> metric.update_state([[0.0, 1.0], [2.0, 0.0]], [[0.5, 1.0], [1.0, 0.0]])
    >>> round(float(metric.result()), 4)
    0.3125
    """

    _direction = "down"

    @constructor
    def __init__(self, name: str | None = "mean_squared_error", dtype: FloatLike = None) -> None: ...


class MeanAbsoluteError(Sums, function=losses.mean_absolute_error, aliases=("mae",)):
    """The mean over samples of absolute errors.

    Parameters
    ----------
    name : str or None, default "mean_absolute_error"
        What it is called in the history; None means the same.
    dtype : {"float32", "float64"}, optional
        Of the arithmetic on arrays; by default the default type. In a model the model's counts.

    Raises
    ------
    ValueError
        If ``dtype`` is none of these, or the name no string.

    See Also
    --------
    gpumlp.losses.mean_absolute_error : The formula, and its source.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metric = metrics.MeanAbsoluteError()
    >>> metric.update_state([[0.0, 1.0], [2.0, 0.0]], [[0.5, 1.0], [1.0, 0.0]])
    >>> round(float(metric.result()), 4)
    0.375
    """

    _direction = "down"

    @constructor
    def __init__(self, name: str | None = "mean_absolute_error", dtype: FloatLike = None) -> None: ...


class MeanAbsolutePercentageError(Sums, function=losses.mean_absolute_percentage_error, aliases=("mape",)):
    """The mean over samples of absolute errors in per cent of the targets.

    Parameters
    ----------
    name : str or None, default "mean_absolute_percentage_error"
        What it is called in the history; None means the same.
    dtype : {"float32", "float64"}, optional
        Of the arithmetic on arrays; by default the default type. In a model the model's counts.

    Raises
    ------
    ValueError
        If ``dtype`` is none of these, or the name no string.

    See Also
    --------
    gpumlp.losses.mean_absolute_percentage_error : The formula, and its source.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metric = metrics.MeanAbsolutePercentageError()
    >>> metric.update_state([[2.0, 4.0], [1.0, 5.0]], [[1.0, 4.0], [1.0, 4.0]])
    >>> round(float(metric.result()), 4)
    17.5
    """

    _direction = "down"

    @constructor
    def __init__(self, name: str | None = "mean_absolute_percentage_error", dtype: FloatLike = None) -> None: ...


class MeanSquaredLogarithmicError(Sums, function=losses.mean_squared_logarithmic_error, aliases=("msle",)):
    """The mean over samples of squared differences of logarithms.

    Parameters
    ----------
    name : str or None, default "mean_squared_logarithmic_error"
        What it is called in the history; None means the same.
    dtype : {"float32", "float64"}, optional
        Of the arithmetic on arrays; by default the default type. In a model the model's counts.

    Raises
    ------
    ValueError
        If ``dtype`` is none of these, or the name no string.

    See Also
    --------
    gpumlp.losses.mean_squared_logarithmic_error : The formula, and its source.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metric = metrics.MeanSquaredLogarithmicError()
    >>> metric.update_state([[0.0, 10.0]], [[0.0, 20.0]])
    >>> round(float(metric.result()), 4)
    0.2091
    """

    _direction = "down"

    @constructor
    def __init__(self, name: str | None = "mean_squared_logarithmic_error", dtype: FloatLike = None) -> None: ...


class LogCoshError(Sums, function=losses.log_cosh, name="logcosh", aliases=("log_cosh_error",)):
    """The mean over samples of the logarithms of errors' hyperbolic cosines.

    Parameters
    ----------
    name : str or None, default "logcosh"
        What it is called in the history; None means the same.
    dtype : {"float32", "float64"}, optional
        Of the arithmetic on arrays; by default the default type. In a model the model's counts.

    Raises
    ------
    ValueError
        If ``dtype`` is none of these, or the name no string.

    See Also
    --------
    gpumlp.losses.log_cosh : The formula, and its source.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metric = metrics.LogCoshError()
    >>> metric.update_state([[0.0, 1.0], [2.0, 0.0]], [[0.5, 1.0], [1.0, 0.0]])
    >>> round(float(metric.result()), 4)
    0.1385
    """

    _direction = "down"

    @constructor
    def __init__(self, name: str | None = "logcosh", dtype: FloatLike = None) -> None: ...


class Hinge(Sums, function=losses.hinge):
    """The mean over samples of the distances to a margin.

    Parameters
    ----------
    name : str or None, default "hinge"
        What it is called in the history; None means the same.
    dtype : {"float32", "float64"}, optional
        Of the arithmetic on arrays; by default the default type. In a model the model's counts.

    Raises
    ------
    ValueError
        If ``dtype`` is none of these, or the name no string.

    See Also
    --------
    gpumlp.losses.hinge : The formula, and its source.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metric = metrics.Hinge()
    >>> metric.update_state([[-1.0, 1.0]], [[-2.0, 0.5]])
    >>> round(float(metric.result()), 4)
    0.25
    """

    _direction = "down"

    @constructor
    def __init__(self, name: str | None = "hinge", dtype: FloatLike = None) -> None: ...


class SquaredHinge(Sums, function=losses.squared_hinge):
    """The mean over samples of the squared distances to a margin.

    Parameters
    ----------
    name : str or None, default "squared_hinge"
        What it is called in the history; None means the same.
    dtype : {"float32", "float64"}, optional
        Of the arithmetic on arrays; by default the default type. In a model the model's counts.

    Raises
    ------
    ValueError
        If ``dtype`` is none of these, or the name no string.

    See Also
    --------
    gpumlp.losses.squared_hinge : The formula, and its source.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metric = metrics.SquaredHinge()
    >>> metric.update_state([[-1.0, 1.0]], [[-2.0, 0.5]])
    >>> round(float(metric.result()), 4)
    0.125
    """

    _direction = "down"

    @constructor
    def __init__(self, name: str | None = "squared_hinge", dtype: FloatLike = None) -> None: ...


class CategoricalHinge(Sums, function=losses.categorical_hinge):
    """The mean over samples of the distances of the target's class to a margin.

    Parameters
    ----------
    name : str or None, default "categorical_hinge"
        What it is called in the history; None means the same.
    dtype : {"float32", "float64"}, optional
        Of the arithmetic on arrays; by default the default type. In a model the model's counts.

    Raises
    ------
    ValueError
        If ``dtype`` is none of these, or the name no string.

    See Also
    --------
    gpumlp.losses.categorical_hinge : The formula, and its source.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metric = metrics.CategoricalHinge()
    >>> metric.update_state([[0.0, 1.0, 0.0]], [[0.5, 1.0, 0.25]])
    >>> round(float(metric.result()), 4)
    0.5
    """

    _direction = "down"

    @constructor
    def __init__(self, name: str | None = "categorical_hinge", dtype: FloatLike = None) -> None: ...


class KLDivergence(Sums, function=losses.kl_divergence):
    """The mean over samples of the divergence of predicted from target distributions, in nats.

    Parameters
    ----------
    name : str or None, default "kl_divergence"
        What it is called in the history; None means the same.
    dtype : {"float32", "float64"}, optional
        Of the arithmetic on arrays; by default the default type. In a model the model's counts.

    Raises
    ------
    ValueError
        If ``dtype`` is none of these, or the name no string.

    See Also
    --------
    gpumlp.losses.kl_divergence : The formula, and its source.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metric = metrics.KLDivergence()
    >>> metric.update_state([[0.5, 0.5]], [[0.25, 0.75]])
    >>> round(float(metric.result()), 4)
    0.1438
    """

    _direction = "down"

    @constructor
    def __init__(self, name: str | None = "kl_divergence", dtype: FloatLike = None) -> None: ...


class Poisson(Sums, function=losses.poisson):
    """The mean over samples of the negative log-likelihood of counts.

    Parameters
    ----------
    name : str or None, default "poisson"
        What it is called in the history; None means the same.
    dtype : {"float32", "float64"}, optional
        Of the arithmetic on arrays; by default the default type. In a model the model's counts.

    Raises
    ------
    ValueError
        If ``dtype`` is none of these, or the name no string.

    See Also
    --------
    gpumlp.losses.poisson : The formula, and its source.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metric = metrics.Poisson()
    >>> metric.update_state([[1.0, 3.0]], [[1.0, 2.0]])
    >>> round(float(metric.result()), 4)
    0.4603
    """

    _direction = "down"

    @constructor
    def __init__(self, name: str | None = "poisson", dtype: FloatLike = None) -> None: ...


class BinaryCrossentropy(Sums, function=losses.binary_crossentropy, aliases=("bce",)):
    """The mean over samples of the cross-entropy of outputs that are each true or false, in nats.

    Parameters
    ----------
    name : str or None, default "binary_crossentropy"
        What it is called in the history; None means the same.
    dtype : {"float32", "float64"}, optional
        Of the arithmetic on arrays; by default the default type. In a model the model's counts.
    from_logits : bool, default False
        Whether predictions are logits, and no probabilities yet.
    label_smoothing : float, default 0.0
        In [0, 1]: how far targets go towards one half.

    Raises
    ------
    ValueError
        If a constant is out of its range, or ``dtype`` is none of these, or the name no string.

    See Also
    --------
    gpumlp.losses.binary_crossentropy : The formula, and its source.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metric = metrics.BinaryCrossentropy()
    >>> metric.update_state([[0.0], [1.0]], [[0.25], [0.5]])
    >>> round(float(metric.result()), 4)
    0.4904
    """

    _direction = "down"

    @constructor
    def __init__(
        self, name: str | None = "binary_crossentropy", dtype: FloatLike = None, from_logits: bool = False,
        label_smoothing: float = 0.0,
    ) -> None: ...  # fmt: skip


class CategoricalCrossentropy(Sums, function=losses.categorical_crossentropy):
    """The mean over samples of the cross-entropy of distributions over classes, in nats.

    Parameters
    ----------
    name : str or None, default "categorical_crossentropy"
        What it is called in the history; None means the same.
    dtype : {"float32", "float64"}, optional
        Of the arithmetic on arrays; by default the default type. In a model the model's counts.
    from_logits : bool, default False
        Whether predictions are logits, and no probabilities yet.
    label_smoothing : float, default 0.0
        In [0, 1]: how far targets go towards one over the number of classes.
    axis : int, default -1
        The axis of arrays that has a sample's outputs. In a model -1, or it is computed on the host.

    Raises
    ------
    ValueError
        If a constant is out of its range, or ``dtype`` is none of these, or the name no string.

    See Also
    --------
    gpumlp.losses.categorical_crossentropy : The formula, and its source.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metric = metrics.CategoricalCrossentropy()
    >>> metric.update_state([[0.0, 1.0, 0.0]], [[0.25, 0.5, 0.25]])
    >>> round(float(metric.result()), 4)
    0.6931
    """

    _direction = "down"

    @constructor
    def __init__(
        self, name: str | None = "categorical_crossentropy", dtype: FloatLike = None, from_logits: bool = False,
        label_smoothing: float = 0.0, axis: int = -1,
    ) -> None: ...  # fmt: skip


class SparseCategoricalCrossentropy(Sums, function=losses.sparse_categorical_crossentropy):
    """The mean over samples of the cross-entropy of class numbers, in nats.

    Parameters
    ----------
    name : str or None, default "sparse_categorical_crossentropy"
        What it is called in the history; None means the same.
    dtype : {"float32", "float64"}, optional
        Of the arithmetic on arrays; by default the default type. In a model the model's counts.
    from_logits : bool, default False
        Whether predictions are logits, and no probabilities yet.
    ignore_class : int, optional
        A class whose samples do not count.
    axis : int, default -1
        The axis of arrays that has a sample's outputs. In a model -1, or it is computed on the host.

    Raises
    ------
    ValueError
        If a constant is out of its range, or ``dtype`` is none of these, or the name no string.

    See Also
    --------
    gpumlp.losses.sparse_categorical_crossentropy : The formula, and its source.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metric = metrics.SparseCategoricalCrossentropy()
    >>> metric.update_state([1, 0], [[0.25, 0.5, 0.25], [0.5, 0.25, 0.25]])
    >>> round(float(metric.result()), 4)
    0.6931
    """

    _direction = "down"

    @constructor
    def __init__(
        self, name: str | None = "sparse_categorical_crossentropy", dtype: FloatLike = None,
        from_logits: bool = False, ignore_class: int | None = None, axis: int = -1,
    ) -> None: ...  # fmt: skip
