"""Accuracies: how often an output, or the class that a sample's outputs say, is the target."""

from __future__ import annotations

from gpumlp import ops
from gpumlp.expressions import ELEMENT, Node
from gpumlp.literals import FloatLike
from gpumlp.metrics.means import whole
from gpumlp.metrics.metric import Sums
from gpumlp.objectives import Values, objective
from gpumlp.signatures import constructor


@objective(elementwise=True, places=True)
def accuracy(y_true: Values, y_pred: Values) -> Values:
    """The share of outputs that are the target; of arrays whether each is."""
    return ops.mean(ops.equal(y_true, y_pred), -1)


class Accuracy(Sums, function=accuracy):
    """The share of outputs that are the target.

    Parameters
    ----------
    name : str or None, default "accuracy"
        What it is called in the history; None means the same.
    dtype : {"float32", "float64"}, optional
        Of the arithmetic on arrays; by default the default type. In a model the model's counts.

    Raises
    ------
    ValueError
        If ``dtype`` is none of these, or the name no string.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metric = metrics.Accuracy()
    >>> metric.update_state([1, 2, 3], [1, 2, 4])
    >>> round(float(metric.result()), 4)
    0.6667
    """

    _direction = "up"

    @constructor
    def __init__(self, name: str | None = "accuracy", dtype: FloatLike = None) -> None: ...


@objective(elementwise=True, places=True)
def binary_accuracy(y_true: Values, y_pred: Values, threshold: float = 0.5) -> Values:
    """Share of outputs on the target's side of ``threshold``; of arrays whether each is.

    Parameters
    ----------
    y_true : array_like, shape (..., outputs)
        Targets of 0 and 1.
    y_pred : array_like, shape (..., outputs)
        Predictions.
    threshold : float, default 0.5
        What is above it is predicted as 1.

    Returns
    -------
    numpy.ndarray
        1 or 0 for each output; in a formula of symbols the symbol of a sample's share.

    Raises
    ------
    ValueError
        If the shapes do not go together, or a constant is out of its range.
    TypeError
        If the values are no numbers.

    See Also
    --------
    BinaryAccuracy : The metric as a class, as ``compile`` takes it.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metrics.binary_accuracy([0, 1, 1], [0.25, 0.75, 0.5])
    array([1., 1., 0.], dtype=float32)
    >>> metrics.binary_accuracy([0, 1, 1], [0.25, 0.75, 0.5], threshold=0.4)
    array([1., 1., 1.], dtype=float32)
    """
    return ops.mean(ops.equal(y_pred > threshold, y_true), -1)


class BinaryAccuracy(Sums, function=binary_accuracy):
    """The share of outputs on the target's side of a threshold.

    Parameters
    ----------
    name : str or None, default "binary_accuracy"
        What it is called in the history; None means the same.
    dtype : {"float32", "float64"}, optional
        Of the arithmetic on arrays; by default the default type. In a model the model's counts.
    threshold : float, default 0.5
        What is above it is predicted as 1.

    Raises
    ------
    ValueError
        If a constant is out of its range, or ``dtype`` is none of these, or the name no string.

    See Also
    --------
    binary_accuracy : The formula.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metric = metrics.BinaryAccuracy()
    >>> metric.update_state([[0], [1], [1]], [[0.25], [0.75], [0.5]])
    >>> round(float(metric.result()), 4)
    0.6667
    """

    _direction = "up"

    @constructor
    def __init__(
        self, name: str | None = "binary_accuracy", dtype: FloatLike = None, threshold: float = 0.5,
    ) -> None: ...  # fmt: skip


@objective()
def categorical_accuracy(y_true: Values, y_pred: Values) -> Values:
    """Whether the largest output is that of the target's class, of one-hot targets.

    Parameters
    ----------
    y_true : array_like, shape (..., classes)
        Targets, one-hot.
    y_pred : array_like, shape (..., classes)
        Predictions: the largest one's class counts.

    Returns
    -------
    numpy.ndarray
        A number for each sample; in a formula of symbols its symbol.

    Raises
    ------
    ValueError
        If the shapes do not go together.
    TypeError
        If the values are no numbers.

    See Also
    --------
    CategoricalAccuracy : The metric as a class, as ``compile`` takes it.

    Notes
    -----
    Of equal outputs the first one counts.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metrics.categorical_accuracy(
    ...     [[0, 1, 0], [1, 0, 0]], [[0.25, 0.5, 0.25], [0.25, 0.5, 0.25]]
    ... )
    array([1., 0.], dtype=float32)
    """
    return ops.equal(ops.argmax(y_pred, -1), ops.argmax(y_true, -1))


class CategoricalAccuracy(Sums, function=categorical_accuracy):
    """The share of samples whose largest output is that of the target's class.

    Parameters
    ----------
    name : str or None, default "categorical_accuracy"
        What it is called in the history; None means the same.
    dtype : {"float32", "float64"}, optional
        Of the arithmetic on arrays; by default the default type. In a model the model's counts.

    Raises
    ------
    ValueError
        If ``dtype`` is none of these, or the name no string.

    See Also
    --------
    categorical_accuracy : The formula.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metric = metrics.CategoricalAccuracy()
    >>> metric.update_state([[0, 1, 0], [1, 0, 0]], [[0.25, 0.5, 0.25], [0.25, 0.5, 0.25]])
    >>> round(float(metric.result()), 4)
    0.5
    """

    _direction = "up"
    exact = True

    @constructor
    def __init__(self, name: str | None = "categorical_accuracy", dtype: FloatLike = None) -> None: ...


@objective(sparse=True)
def sparse_categorical_accuracy(y_true: Values, y_pred: Values) -> Values:
    """Whether the largest output is that of the target's class number.

    Parameters
    ----------
    y_true : array_like, shape (...) or (..., 1)
        Class numbers, from 0.
    y_pred : array_like, shape (..., classes)
        Predictions: the largest one's class counts.

    Returns
    -------
    numpy.ndarray
        A number for each sample; in a formula of symbols its symbol.

    Raises
    ------
    ValueError
        If the shapes do not go together.
    TypeError
        If the values are no numbers.

    See Also
    --------
    SparseCategoricalAccuracy : The metric as a class, as ``compile`` takes it.

    Notes
    -----
    Of equal outputs the first one counts.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metrics.sparse_categorical_accuracy([1, 0], [[0.25, 0.5, 0.25], [0.25, 0.5, 0.25]])
    array([1., 0.], dtype=float32)
    """
    return ops.equal(ops.argmax(y_pred, -1, keepdims=True), y_true)


class SparseCategoricalAccuracy(Sums, function=sparse_categorical_accuracy):
    """The share of samples whose largest output is that of the target's class number.

    Parameters
    ----------
    name : str or None, default "sparse_categorical_accuracy"
        What it is called in the history; None means the same.
    dtype : {"float32", "float64"}, optional
        Of the arithmetic on arrays; by default the default type. In a model the model's counts.

    Raises
    ------
    ValueError
        If ``dtype`` is none of these, or the name no string.

    See Also
    --------
    sparse_categorical_accuracy : The formula.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metric = metrics.SparseCategoricalAccuracy()
    >>> metric.update_state([1, 0], [[0.25, 0.5, 0.25], [0.25, 0.5, 0.25]])
    >>> round(float(metric.result()), 4)
    0.5
    """

    _direction = "up"
    exact = True

    @constructor
    def __init__(self, name: str | None = "sparse_categorical_accuracy", dtype: FloatLike = None) -> None: ...


def _in_top(label: Values, y_pred: Values, k: int) -> Values:
    """Whether fewer than ``k`` outputs are above that of the class ``label``; not where that is NaN."""
    own = ops.sum(ops.where(ops.one_hot(label), y_pred, 0.0), -1, keepdims=True)
    return ops.where(ops.isnan(own), 0.0, ops.sum(y_pred > own, -1, keepdims=True) < k)


@objective(k=whole)
def top_k_categorical_accuracy(y_true: Values, y_pred: Values, k: int = 5) -> Values:
    """Whether the target's class has one of the ``k`` largest outputs, of one-hot targets.

    Parameters
    ----------
    y_true : array_like, shape (..., classes)
        Targets, one-hot.
    y_pred : array_like, shape (..., classes)
        Predictions.
    k : int, default 5
        How many of the largest outputs count, from 1.

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
    TopKCategoricalAccuracy : The metric as a class, as ``compile`` takes it.

    Notes
    -----
    Equal outputs count as the larger; NaN counts as none.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metrics.top_k_categorical_accuracy(
    ...     [[0, 1, 0], [1, 0, 0]], [[0.25, 0.25, 0.5], [0.125, 0.375, 0.5]]
    ... )
    array([1., 1.], dtype=float32)
    >>> metrics.top_k_categorical_accuracy(
    ...     [[0, 1, 0], [1, 0, 0]], [[0.25, 0.25, 0.5], [0.125, 0.375, 0.5]], k=2
    ... )
    array([1., 0.], dtype=float32)
    """
    return _in_top(ops.argmax(y_true, -1, keepdims=True), y_pred, k)


class TopKCategoricalAccuracy(Sums, function=top_k_categorical_accuracy):
    """The share of samples whose class has one of the ``k`` largest outputs.

    Parameters
    ----------
    k : int, default 5
        How many of the largest outputs count, from 1.
    name : str or None, default "top_k_categorical_accuracy"
        What it is called in the history; None means the same.
    dtype : {"float32", "float64"}, optional
        Of the arithmetic on arrays; by default the default type. In a model the model's counts.

    Raises
    ------
    ValueError
        If a constant is out of its range, or ``dtype`` is none of these, or the name no string.

    See Also
    --------
    top_k_categorical_accuracy : The formula.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metric = metrics.TopKCategoricalAccuracy(k=2)
    >>> metric.update_state(
    ...     [[0, 1, 0], [1, 0, 0]], [[0.25, 0.25, 0.5], [0.125, 0.375, 0.5]]
    ... )
    >>> round(float(metric.result()), 4)
    0.5
    """

    _direction = "up"
    exact = True

    @constructor
    def __init__(
        self, k: int = 5, name: str | None = "top_k_categorical_accuracy", dtype: FloatLike = None,
    ) -> None: ...  # fmt: skip


@objective(sparse=True, k=whole)
def sparse_top_k_categorical_accuracy(
    y_true: Values, y_pred: Values, k: int = 5, from_sorted_ids: bool = False
) -> Values:
    """Whether the target's class number has one of the ``k`` largest outputs.

    Parameters
    ----------
    y_true : array_like, shape (...) or (..., 1)
        Class numbers, from 0.
    y_pred : array_like, shape (..., classes)
        Predictions.
    k : int, default 5
        How many of the largest outputs count, from 1.
    from_sorted_ids : bool, default False
        Whether outputs are class numbers, the best one first.

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
    SparseTopKCategoricalAccuracy : The metric as a class, as ``compile`` takes it.

    Notes
    -----
    Equal outputs count as the larger; NaN counts as none.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metrics.sparse_top_k_categorical_accuracy(
    ...     [1, 0], [[0.25, 0.25, 0.5], [0.125, 0.375, 0.5]]
    ... )
    array([1., 1.], dtype=float32)
    >>> metrics.sparse_top_k_categorical_accuracy(
    ...     [1, 0], [[0.25, 0.25, 0.5], [0.125, 0.375, 0.5]], k=2
    ... )
    array([1., 0.], dtype=float32)
    """
    if not from_sorted_ids:
        return _in_top(y_true, y_pred, k)
    assert isinstance(y_pred, Node)
    place = y_pred.table.leaf("index", ELEMENT)
    return ops.max(ops.equal(y_true, y_pred) * (place < k), -1)


class SparseTopKCategoricalAccuracy(Sums, function=sparse_top_k_categorical_accuracy):
    """The share of samples whose class number has one of the ``k`` largest outputs.

    Parameters
    ----------
    k : int, default 5
        How many of the largest outputs count, from 1.
    name : str or None, default "sparse_top_k_categorical_accuracy"
        What it is called in the history; None means the same.
    dtype : {"float32", "float64"}, optional
        Of the arithmetic on arrays; by default the default type. In a model the model's counts.
    from_sorted_ids : bool, default False
        Whether outputs are class numbers, the best one first.

    Raises
    ------
    ValueError
        If a constant is out of its range, or ``dtype`` is none of these, or the name no string.

    See Also
    --------
    sparse_top_k_categorical_accuracy : The formula.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metric = metrics.SparseTopKCategoricalAccuracy(k=2)
    >>> metric.update_state([1, 0], [[0.25, 0.25, 0.5], [0.125, 0.375, 0.5]])
    >>> round(float(metric.result()), 4)
    0.5
    """

    _direction = "up"
    exact = True

    @constructor
    def __init__(
        self, k: int = 5, name: str | None = "sparse_top_k_categorical_accuracy", dtype: FloatLike = None,
        from_sorted_ids: bool = False,
    ) -> None: ...  # fmt: skip
