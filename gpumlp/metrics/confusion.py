"""Metrics of how many outputs lie above a threshold, by whether they should: counts, precision, recall, areas.

With few thresholds the counts are formulas, and Programs' kernels add them up; with many the host sorts a batch's
outputs into the spaces between the thresholds. Positive is what is above a threshold, t what is not 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, TypeAlias

import numpy as np

from gpumlp import config, formulas, ops
from gpumlp.attributes import once
from gpumlp.literals import FloatLike
from gpumlp.losses.loss import EPSILON
from gpumlp.metrics.means import whole
from gpumlp.metrics.metric import Array, Result, Summed, ratio
from gpumlp.naming import number
from gpumlp.objectives import Values, common_shape, same_rank

Thresholds: TypeAlias = float | Sequence[float] | None
FEW = 16  # thresholds, at most, whose counts are a formula
NO_TOP = -1e10  # what stands for outputs that are not among the largest: below every threshold
COUNTS = {"tp": "true_positives", "fp": "false_positives", "tn": "true_negatives", "fn": "false_negatives"}


def fractions(name: str, given: object) -> tuple[float, ...]:
    """Return thresholds, a number or several, looked at."""
    several = given if isinstance(given, (list, tuple, np.ndarray)) else [given]
    try:
        return tuple(number(name, v, 0.0, 1.0) for v in several)
    except ValueError as error:
        raise ValueError(f"Threshold values must be in [0, 1]: {error}") from None


def _evenly(thresholds: Sequence[float]) -> bool:
    """Whether thresholds are i / (n - 1), to 1e-7: then Keras compares with i, and takes outputs between 0 and 1."""
    n = len(thresholds)
    return n >= 3 and np.allclose(thresholds, np.arange(n) / (n - 1), atol=EPSILON)


def counts(
    y_true: Values, y_pred: Values, thresholds: tuple[float, ...], which: tuple[str, ...], even: bool, padded: bool,
    class_id: int | None, from_logits: bool,
) -> tuple[Values, ...]:  # fmt: skip
    """Return how many outputs of a sample lie which side of the thresholds, by ``which`` and by threshold.

    ``even``: these are i / (n - 1); ``padded``: the first is below 0.
    """
    p = ops.sigmoid(y_pred) if from_logits else y_pred
    t = ops.not_equal(y_true, 0.0)
    if class_id is not None:
        t, p = t[:, class_id : class_id + 1], p[:, class_id : class_id + 1]
    if even:
        p = -ops.floor(-ops.clip(p, 0.0, 1.0) * float(len(thresholds) - 1))
        thresholds = tuple(float(i) for i in range(len(thresholds)))
        if padded:
            p = ops.maximum(p, 1.0)
    found: list[Values] = []
    for name in which:
        sided = t if name in ("tp", "fn") else 1.0 - t
        for threshold in thresholds:
            above = p > threshold
            found.append(ops.sum(sided * (above if name in ("tp", "fp") else 1.0 - above), -1))
    return tuple(found)


class Confusion(Summed):
    """Base: `which` of the counts are added up, for each of ``thresholds``, and for each label with ``multi_label``."""

    exact = True
    which: ClassVar[tuple[str, ...]] = tuple(COUNTS)
    thresholds: list[float]
    init_thresholds: Thresholds  # as they were given
    top_k: int | None = None
    class_id: int | None = None
    from_logits = multi_label = False
    label_weights: Array | None = None
    num_labels: int | None = None
    _even: bool
    _padded: bool

    def _count_at(self, thresholds: Sequence[float], even: bool, padded: bool = False) -> None:
        """Count at these thresholds."""
        self.thresholds, self._even, self._padded = list(thresholds), even, padded

    @once
    def formula(self) -> formulas.Formula | None:
        """See `Summed.formula`."""
        if len(self.thresholds) > FEW or self.top_k is not None or self.multi_label or self.label_weights is not None:
            return None
        how = {
            "thresholds": tuple(self.thresholds), "which": self.which, "even": self._even, "padded": self._padded,
            "class_id": self.class_id, "from_logits": self.from_logits,
        }  # fmt: skip
        return formulas.metric(counts, how, False)

    def __getstate__(self) -> dict[str, object]:
        """Return what it is made of, without what is found out from that."""
        return {k: v for k, v in self.__dict__.items() if k not in ("formula", "overridden")}

    @property
    def why(self) -> str:
        """See `Metric.why`."""
        many = len(self.thresholds)
        return f"{self.name} counts at {many} thresholds" if many > FEW else super().why

    def sums(self, y_true: object, y_pred: object, sample_weight: object = None) -> list[Array]:
        """See `Summed.sums`: [thresholds], or [thresholds, labels], for each of `which`."""
        p = config.floats("y_pred", y_pred, "float64")
        t, p = same_rank(config.floats("y_true", y_true, "float64"), p)
        shape = p.shape
        if t.shape != shape:
            raise ValueError(f"{self.name}: y_true and y_pred must have the same shape; got {t.shape}, {shape}.")
        t, w = t != 0, self._weights(sample_weight, shape)
        if self.from_logits:
            p = ops.sigmoid(p)
        if self.top_k is not None:
            p = _top(p, self.top_k)
        if self.class_id is not None:
            if p.ndim < 2:
                raise ValueError(f"class_id={self.class_id} needs y_pred of (samples, classes); got {shape}.")
            t, p, w = (a[..., self.class_id, None] for a in (t, p, w))
        if self.multi_label:
            if p.ndim != 2:
                raise ValueError(f"multi_label needs y_pred of rank 2, (samples, labels); got {shape}.")
        else:
            t, p, w = (a.reshape(-1, 1) for a in (t, p, w))
        found = self._binned(t, p, w)
        return [found[name] if self.multi_label else found[name][:, 0] for name in self.which]

    def _weights(self, sample_weight: object, shape: tuple[int, ...]) -> Array:
        """Return a weight for each output."""
        w = np.ones(shape)
        if sample_weight is not None:
            given = config.floats("sample_weight", sample_weight, "float64")
            given = given.reshape(*given.shape, *(1,) * (len(shape) - given.ndim))
            if given.ndim > len(shape) and given.shape[-1] == 1:
                given = given[..., 0]
            common_shape("sample_weight must have one number a sample, or an output", values=w, sample_weight=given)
            w = w * given
        return w if self.label_weights is None or self.multi_label else w * np.asarray(self.label_weights)

    def _binned(self, t: Array, p: Array, w: Array) -> dict[str, Array]:
        """Return all counts [thresholds, labels] of t, p and w [n, labels].

        Outputs go into bins between thresholds in rising order; those above one are in its bin and the later ones.
        """
        order = np.argsort(self.thresholds, kind="stable")
        n, rising = len(order), np.asarray(self.thresholds, np.float64)[order]
        if self._even:
            level = np.ceil(np.clip(p, 0.0, 1.0) * (n - 1))
            level = np.maximum(level, 1.0) if self._padded else level
            place = np.nan_to_num(level).astype(np.int64)  # above how many
        else:
            place = np.searchsorted(rising, p, side="left")
            place[np.isnan(p)] = 0
        found = {}
        for label, names in ((t, ("tp", "fn")), (~t, ("fp", "tn"))):
            bins = np.zeros((n + 1, p.shape[1]))
            for j in range(p.shape[1]):
                bins[:, j] = np.bincount(place[:, j], np.where(label[:, j], w[:, j], 0.0), n + 1)
            above = np.cumsum(bins[::-1], axis=0)[::-1]
            below = np.cumsum(bins, axis=0)
            found[names[0]], found[names[1]] = np.empty((2, n, p.shape[1]))
            found[names[0]][order], found[names[1]][order] = above[1:], below[:-1]
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """See `Summed.names`."""
        return tuple(COUNTS[name] for name in self.which)

    def empty(self) -> list[Array] | None:
        """See `Summed.empty`."""
        labels = (self.num_labels,) if self.multi_label else ()
        return None if labels == (None,) else [np.zeros((len(self.thresholds), *labels)) for _ in self.which]

    def state_of(self, sums: Sequence[Array]) -> list[Array]:
        """See `Summed.state_of`."""
        return list(np.reshape(sums[:-1], (len(self.which), -1)))

    def of(self, *sums: Array) -> Result:
        """See `Summed.of`."""
        counts = sums if len(sums) == len(self.which) else self.state_of(sums)  # the formula has the weights' sum, too
        return self.measure(**dict(zip(self.which, counts, strict=True)))

    def measure(self, **found: Array) -> Result:
        """Return the metric, of the counts by name."""
        raise NotImplementedError

    def _one_or_all(self, values: Array) -> Result:
        return values[0] if len(self.thresholds) == 1 else values


def _top(p: Array, k: int) -> Array:
    """Return p, with what is not among the ``k`` largest of its row out of the way; the first of equal ones is."""
    kept = np.zeros(p.shape, bool)
    np.put_along_axis(kept, np.argsort(-p, axis=-1, kind="stable")[..., :k], True, axis=-1)
    return np.where(kept, p, NO_TOP)


# ---- counts ----------------------------------------------------------------------------------------------------------
class _Count(Confusion):
    def __init__(self, thresholds: Thresholds = None, name: str | None = None, dtype: FloatLike = None) -> None:
        super().__init__(dtype, name)
        self.init_thresholds = thresholds
        at = fractions("thresholds", 0.5 if thresholds is None else thresholds)
        self._count_at(at, _evenly(at))

    def measure(self, **found: Array) -> Result:
        (values,) = found.values()
        return self._one_or_all(values)

    def get_config(self) -> dict[str, object]:
        """Return the constructor's arguments by name, as JSON can hold them.

        Returns
        -------
        dict
            The thresholds as they were given.
        """
        return super().get_config() | {"thresholds": self.init_thresholds}


class TruePositives(_Count):
    """How many outputs are above the thresholds, and should be.

    Each counts by its sample's weight, where there are weights.

    Parameters
    ----------
    thresholds : float or sequence of float, optional
        In [0, 1]; outputs above it are positive. Of several the result has a number each. By default 0.5.
    name : str, optional
        What it is called in the history; by default the class's name in snake case, and a number.
    dtype : {"float32", "float64"}, optional
        Of the results; by default the default type.

    Raises
    ------
    ValueError
        If a threshold is not in [0, 1], a count not whole, or ``dtype`` none of these.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metric = metrics.TruePositives()
    >>> metric.update_state([0, 1, 1, 1], [0.25, 0.75, 0.5, 0.875])
    >>> round(float(metric.result()), 4)
    2.0
    >>> metric = metrics.TruePositives(thresholds=[0.2, 0.6])
    >>> metric.update_state([0, 1, 1, 1], [0.25, 0.75, 0.5, 0.875])
    >>> metric.result()
    array([3., 2.])
    """

    which = ("tp",)


class TrueNegatives(_Count):
    """How many outputs are not above the thresholds, nor should be.

    Each counts by its sample's weight, where there are weights.

    Parameters
    ----------
    thresholds : float or sequence of float, optional
        In [0, 1]; outputs above it are positive. Of several the result has a number each. By default 0.5.
    name : str, optional
        What it is called in the history; by default the class's name in snake case, and a number.
    dtype : {"float32", "float64"}, optional
        Of the results; by default the default type.

    Raises
    ------
    ValueError
        If a threshold is not in [0, 1], a count not whole, or ``dtype`` none of these.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metric = metrics.TrueNegatives()
    >>> metric.update_state([0, 1, 1, 1], [0.25, 0.75, 0.5, 0.875])
    >>> round(float(metric.result()), 4)
    1.0
    >>> metric = metrics.TrueNegatives(thresholds=[0.2, 0.6])
    >>> metric.update_state([0, 1, 1, 1], [0.25, 0.75, 0.5, 0.875])
    >>> metric.result()
    array([0., 1.])
    """

    which = ("tn",)


class FalsePositives(_Count):
    """How many outputs are above the thresholds, and should not be.

    Each counts by its sample's weight, where there are weights.

    Parameters
    ----------
    thresholds : float or sequence of float, optional
        In [0, 1]; outputs above it are positive. Of several the result has a number each. By default 0.5.
    name : str, optional
        What it is called in the history; by default the class's name in snake case, and a number.
    dtype : {"float32", "float64"}, optional
        Of the results; by default the default type.

    Raises
    ------
    ValueError
        If a threshold is not in [0, 1], a count not whole, or ``dtype`` none of these.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metric = metrics.FalsePositives()
    >>> metric.update_state([0, 1, 1, 1], [0.25, 0.75, 0.5, 0.875])
    >>> round(float(metric.result()), 4)
    0.0
    >>> metric = metrics.FalsePositives(thresholds=[0.2, 0.6])
    >>> metric.update_state([0, 1, 1, 1], [0.25, 0.75, 0.5, 0.875])
    >>> metric.result()
    array([1., 0.])
    """

    which = ("fp",)


class FalseNegatives(_Count):
    """How many outputs are not above the thresholds, and should be.

    Each counts by its sample's weight, where there are weights.

    Parameters
    ----------
    thresholds : float or sequence of float, optional
        In [0, 1]; outputs above it are positive. Of several the result has a number each. By default 0.5.
    name : str, optional
        What it is called in the history; by default the class's name in snake case, and a number.
    dtype : {"float32", "float64"}, optional
        Of the results; by default the default type.

    Raises
    ------
    ValueError
        If a threshold is not in [0, 1], a count not whole, or ``dtype`` none of these.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metric = metrics.FalseNegatives()
    >>> metric.update_state([0, 1, 1, 1], [0.25, 0.75, 0.5, 0.875])
    >>> round(float(metric.result()), 4)
    1.0
    >>> metric = metrics.FalseNegatives(thresholds=[0.2, 0.6])
    >>> metric.update_state([0, 1, 1, 1], [0.25, 0.75, 0.5, 0.875])
    >>> metric.result()
    array([0., 1.])
    """

    which = ("fn",)


class _Share(Confusion):
    _direction = "up"

    def __init__(
        self, thresholds: Thresholds = None, top_k: int | None = None, class_id: int | None = None,
        name: str | None = None, dtype: FloatLike = None,
    ) -> None:  # fmt: skip
        super().__init__(dtype, name)
        self.init_thresholds = thresholds
        self.top_k = None if top_k is None else whole("top_k", top_k)
        self.class_id = None if class_id is None else whole("class_id", class_id, 0)
        at = (0.5 if top_k is None else NO_TOP,) if thresholds is None else fractions("thresholds", thresholds)
        self._count_at(at, _evenly(at))

    def measure(self, **found: Array) -> Result:
        true, false = found.values()
        return self._one_or_all(ratio(true, true + false))

    def get_config(self) -> dict[str, object]:
        """Return the constructor's arguments by name, as JSON can hold them.

        Returns
        -------
        dict
            The thresholds as they were given.
        """
        return super().get_config() | {"thresholds": self.init_thresholds}


class Precision(_Share):
    """The share of what is above the thresholds that should be.

    Parameters
    ----------
    thresholds : float or sequence of float, optional
        In [0, 1]; outputs above it are positive. Of several the result has a number each. By default 0.5.
    top_k : int, optional
        How many of each sample's largest outputs may be positive; all such by default, whatever their size.
    class_id : int, optional
        The one output that counts; all by default.
    name : str, optional
        What it is called in the history; by default the class's name in snake case, and a number.
    dtype : {"float32", "float64"}, optional
        Of the results; by default the default type.

    Raises
    ------
    ValueError
        If a threshold is not in [0, 1], a count not whole, or ``dtype`` none of these.

    See Also
    --------
    Recall : The share of what should be above them that is.

    Notes
    -----
    tp / (tp + fp), and 0 where nothing is above.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metric = metrics.Precision(thresholds=0.2)
    >>> metric.update_state([0, 1, 1, 1], [0.25, 0.75, 0.5, 0.875])
    >>> round(float(metric.result()), 4)
    0.75
    """

    _direction = "up"
    which = ("tp", "fp")


class Recall(_Share):
    """The share of what should be above the thresholds that is.

    Parameters
    ----------
    thresholds : float or sequence of float, optional
        In [0, 1]; outputs above it are positive. Of several the result has a number each. By default 0.5.
    top_k : int, optional
        How many of each sample's largest outputs may be positive; all such by default, whatever their size.
    class_id : int, optional
        The one output that counts; all by default.
    name : str, optional
        What it is called in the history; by default the class's name in snake case, and a number.
    dtype : {"float32", "float64"}, optional
        Of the results; by default the default type.

    Raises
    ------
    ValueError
        If a threshold is not in [0, 1], a count not whole, or ``dtype`` none of these.

    See Also
    --------
    Precision : The share of what is above them that should be.

    Notes
    -----
    tp / (tp + fn), and 0 where nothing should be above: sensitivity, the true positive rate.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metric = metrics.Recall(thresholds=0.5)
    >>> metric.update_state([0, 1, 1, 1], [0.25, 0.75, 0.5, 0.875])
    >>> round(float(metric.result()), 4)
    0.6667
    """

    which = ("tp", "fn")
