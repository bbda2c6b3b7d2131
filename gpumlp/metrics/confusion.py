"""Metrics of how many outputs lie above a threshold, by whether they should: counts, precision, recall, areas.

With few thresholds the counts are formulas, and Programs' kernels add them up; with many the host sorts a batch's
outputs into the spaces between the thresholds. Positive is what is above a threshold, t what is not 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from gpumlp import config, formulas, ops
from gpumlp.attributes import once
from gpumlp.metrics.means import EPSILON, whole
from gpumlp.metrics.metric import Array, Summed, ratio
from gpumlp.naming import flag, number
from gpumlp.objectives import common_shape, same_rank

FEW = 16  # thresholds, at most, whose counts are a formula
NO_TOP = -1e10  # what stands for outputs that are not among the largest: below every threshold
COUNTS = {"tp": "true_positives", "fp": "false_positives", "tn": "true_negatives", "fn": "false_negatives"}


def fractions(name: str, given: Any) -> tuple[float, ...]:
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
    y_true: Any, y_pred: Any, thresholds: tuple[float, ...], which: tuple[str, ...], even: bool, padded: bool,
    class_id: int | None, from_logits: bool,
) -> tuple[Any, ...]:  # fmt: skip
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
    found: list[Any] = []
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
    thresholds: Any
    init_thresholds: Any  # as they were given
    top_k: int | None = None
    class_id: int | None = None
    from_logits = multi_label = False
    label_weights: Any = None
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

    def __getstate__(self) -> dict[str, Any]:
        """Return what it is made of, without what is found out from that."""
        return {k: v for k, v in self.__dict__.items() if k not in ("formula", "overridden")}

    @property
    def why(self) -> str:
        """See `Metric.why`."""
        many = len(self.thresholds)
        return f"{self.name} counts at {many} thresholds" if many > FEW else super().why

    def sums(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> list[Array]:
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

    def _weights(self, sample_weight: Any, shape: tuple[int, ...]) -> Array:
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

    def of(self, *sums: Any) -> Any:
        """See `Summed.of`."""
        if len(sums) != len(self.which):  # numbers of a formula, with the weights' sum
            sums = tuple(np.reshape(sums[:-1], (len(self.which), -1)))
        return self.measure(**dict(zip(self.which, sums, strict=True)))

    def measure(self, **found: Array) -> Any:
        """Return the metric, of the counts by name."""
        raise NotImplementedError

    def _one_or_all(self, values: Array) -> Any:
        return values[0] if len(self.thresholds) == 1 else values


def _top(p: Array, k: int) -> Array:
    """Return p, with what is not among the ``k`` largest of its row out of the way; the first of equal ones is."""
    kept = np.zeros(p.shape, bool)
    np.put_along_axis(kept, np.argsort(-p, axis=-1, kind="stable")[..., :k], True, axis=-1)
    return np.where(kept, p, NO_TOP)


# ---- counts ----------------------------------------------------------------------------------------------------------
class _Count(Confusion):
    def __init__(self, thresholds: Any = None, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(dtype, name)
        self.init_thresholds = thresholds
        at = fractions("thresholds", 0.5 if thresholds is None else thresholds)
        self._count_at(at, _evenly(at))

    def measure(self, **found: Array) -> Any:
        (values,) = found.values()
        return self._one_or_all(values)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments by their Keras names."""
        return super().get_config() | {"thresholds": self.init_thresholds}


class TruePositives(_Count):
    """How many outputs are above the thresholds, and should be, weighted; by default above 0.5."""

    which = ("tp",)


class TrueNegatives(_Count):
    """How many outputs are not above the thresholds, nor should be."""

    which = ("tn",)


class FalsePositives(_Count):
    """How many outputs are above the thresholds, and should not be."""

    which = ("fp",)


class FalseNegatives(_Count):
    """How many outputs are not above the thresholds, and should be."""

    which = ("fn",)


class _Share(Confusion):
    _direction = "up"

    def __init__(
        self, thresholds: Any = None, top_k: int | None = None, class_id: int | None = None, name: str | None = None,
        dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__(dtype, name)
        self.init_thresholds = thresholds
        self.top_k = None if top_k is None else whole("top_k", top_k)
        self.class_id = None if class_id is None else whole("class_id", class_id, 0)
        at = (0.5 if top_k is None else NO_TOP,) if thresholds is None else fractions("thresholds", thresholds)
        self._count_at(at, _evenly(at))

    def measure(self, **found: Array) -> Any:
        true, false = found.values()
        return self._one_or_all(ratio(true, true + false))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments by their Keras names."""
        return super().get_config() | {"thresholds": self.init_thresholds}


class Precision(_Share):
    """The share of what is above the thresholds that should be, tp / (tp + fp).

    With ``top_k`` of the largest outputs of each sample alone, with ``class_id`` of one output.
    """

    _direction = "up"
    which = ("tp", "fp")


class Recall(_Share):
    """The share of what should be above the thresholds that is, tp / (tp + fn); arguments as of `Precision`."""

    which = ("tp", "fn")


# ---- one share where another is large enough -------------------------------------------------------------------------
def sensitivity(tp: Array, fn: Array, **_: Array) -> Any:
    """The share of what should be positive that is: recall."""
    return ratio(tp, tp + fn)


def specificity(tn: Array, fp: Array, **_: Array) -> Any:
    """The share of what should be negative that is."""
    return ratio(tn, tn + fp)


def precision(tp: Array, fp: Array, **_: Array) -> Any:
    """The share of what is positive that should be."""
    return ratio(tp, tp + fp)


class _Best(Confusion):
    """The largest of one share, over thresholds at which another one is ``value`` at least; 0 where there are none."""

    _direction = "up"
    largest: ClassVar[Callable[..., Any]]
    held: ClassVar[Callable[..., Any]]

    def _begin(
        self, what: str, value: Any, num_thresholds: int, class_id: int | None, name: str | None, dtype: Any
    ) -> None:
        Confusion.__init__(self, dtype, name)
        try:
            value = number(what, value, 0.0, 1.0)
        except ValueError as error:
            raise ValueError(f"Argument `{what}` must be in the range [0, 1]: {error}") from None
        n = _many(num_thresholds, 1)
        setattr(self, what, value)
        self.value, self.num_thresholds = value, n
        self.class_id = None if class_id is None else whole("class_id", class_id, 0)
        self._count_at([0.5] if n == 1 else [i / (n - 1) for i in range(n)], n > 1)

    def measure(self, **found: Array) -> Any:
        kind = type(self)
        allowed = kind.held(**found) >= self.value
        return np.max(np.where(allowed, kind.largest(**found), 0.0), initial=0.0)


def _many(num_thresholds: Any, low: int) -> int:
    try:
        return whole("num_thresholds", num_thresholds, low)
    except ValueError as error:
        raise ValueError(f"Argument `num_thresholds` must be an integer > {low - 1}: {error}") from None


class SensitivityAtSpecificity(_Best):
    """The largest sensitivity at thresholds where the specificity is large enough."""

    largest, held = staticmethod(sensitivity), staticmethod(specificity)

    def __init__(
        self, specificity: float, num_thresholds: int = 200, class_id: int | None = None, name: str | None = None,
        dtype: Any = None,
    ) -> None:  # fmt: skip
        self._begin("specificity", specificity, num_thresholds, class_id, name, dtype)


class SpecificityAtSensitivity(_Best):
    """The largest specificity at thresholds where the sensitivity is large enough."""

    largest, held = staticmethod(specificity), staticmethod(sensitivity)

    def __init__(
        self, sensitivity: float, num_thresholds: int = 200, class_id: int | None = None, name: str | None = None,
        dtype: Any = None,
    ) -> None:  # fmt: skip
        self._begin("sensitivity", sensitivity, num_thresholds, class_id, name, dtype)


class PrecisionAtRecall(_Best):
    """The largest precision at thresholds where the recall is large enough."""

    largest, held = staticmethod(precision), staticmethod(sensitivity)

    def __init__(
        self, recall: float, num_thresholds: int = 200, class_id: int | None = None, name: str | None = None,
        dtype: Any = None,
    ) -> None:  # fmt: skip
        self._begin("recall", recall, num_thresholds, class_id, name, dtype)


class RecallAtPrecision(_Best):
    """The largest recall at thresholds where the precision is large enough."""

    largest, held = staticmethod(sensitivity), staticmethod(precision)

    def __init__(
        self, precision: float, num_thresholds: int = 200, class_id: int | None = None, name: str | None = None,
        dtype: Any = None,
    ) -> None:  # fmt: skip
        self._begin("precision", precision, num_thresholds, class_id, name, dtype)


# ---- areas -----------------------------------------------------------------------------------------------------------
CURVES, SUMMATIONS = ("ROC", "PR", "PRGAIN"), ("interpolation", "majoring", "minoring")


def _one_of(name: str, value: Any, known: tuple[str, ...], what: str) -> str:
    found = [k for k in known if isinstance(value, str) and value.lower() == k.lower()]
    if not found:
        raise ValueError(f'Invalid {what} value: "{value}". {name} must be one of {", ".join(map(repr, known))}.')
    return found[0]


class AUC(Confusion):
    """The area under a curve through the points that the thresholds give.

    Parameters
    ----------
    num_thresholds : int
        Evenly from 0 to 1, the first and the last just beyond, so that all and no outputs are above them.
    curve : {"ROC", "PR", "PRGAIN"}
        Recall over false positives' share; precision over recall (Davis and Goadrich 2006); the gains of both (Flach
        and Kull 2015).
    summation_method : {"interpolation", "majoring", "minoring"}
        What stands between two points: a line (for PR one of counts), the larger, or the smaller.
    thresholds : list of float, optional
        In place of ``num_thresholds``; the two beyond are added.
    multi_label : bool
        Whether each output has an area of its own, of which the mean is taken, weighted by ``label_weights``.
    num_labels : int, optional
        How many outputs, with ``multi_label``.
    label_weights : list of float, optional
        One an output.
    from_logits : bool
        Whether a sigmoid comes first.
    """

    _direction = "up"

    def __init__(
        self, num_thresholds: int = 200, curve: str = "ROC", summation_method: str = "interpolation",
        name: str | None = None, dtype: Any = None, thresholds: Sequence[float] | None = None,
        multi_label: bool = False, num_labels: int | None = None, label_weights: Any = None, from_logits: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(dtype, name)
        if num_labels and not multi_label:
            raise ValueError("`num_labels` is needed only when `multi_label` is True.")
        if thresholds is None:
            n, inner = _many(num_thresholds, 2), []
            inner, even = [i / (n - 1) for i in range(1, n - 1)], True
        else:
            inner = sorted(fractions("thresholds", list(thresholds)))
            n, even = len(inner) + 2, _evenly([0.0, *inner, 1.0])
        self.num_thresholds, self.init_thresholds = n, None if thresholds is None else inner
        curve, summation_method = (getattr(v, "value", v) for v in (curve, summation_method))  # Keras's enumerations
        self.curve = _one_of("curve", curve, CURVES, "AUC curve")
        self.summation_method = _one_of("summation_method", summation_method, SUMMATIONS, "AUC summation method")
        self.multi_label, self.from_logits = flag("multi_label", multi_label), flag("from_logits", from_logits)
        self.num_labels = None if num_labels is None else whole("num_labels", num_labels)
        if label_weights is not None:
            self.label_weights = config.floats("label_weights", label_weights, "float64")
        self._count_at([-EPSILON, *inner, 1.0 + EPSILON], even, padded=True)

    def measure(self, **found: Array) -> Any:
        if self.curve == "PR" and self.summation_method == "interpolation":
            parts = _pr_parts(**found)
        else:
            x, y = _points(self.curve, **found)
            heights = {
                "interpolation": (y[:-1] + y[1:]) / 2.0,
                "minoring": np.minimum(y[:-1], y[1:]),
                "majoring": np.maximum(y[:-1], y[1:]),
            }[self.summation_method]
            parts = (x[:-1] - x[1:]) * heights
        area = parts.sum(axis=0)
        if not self.multi_label:
            return area
        if self.label_weights is None:
            return area.mean()
        return ratio((area * self.label_weights).sum(), self.label_weights.sum())

    def get_config(self) -> dict[str, Any]:
        """Return the arguments by their Keras names."""
        found = super().get_config()
        del found["thresholds"]
        weights = None if self.label_weights is None else self.label_weights.tolist()
        more = {} if self.init_thresholds is None else {"thresholds": self.init_thresholds}
        return found | {"label_weights": weights} | more


def _points(curve: str, tp: Array, fp: Array, tn: Array, fn: Array) -> tuple[Array, Array]:
    """Return where a curve goes, by threshold."""
    if curve == "ROC":
        return ratio(fp, fp + tn), ratio(tp, tp + fn)
    if curve == "PR":
        return ratio(tp, tp + fn), ratio(tp, tp + fp)
    scale = ratio(tp + fn, tn + fp)
    recall = np.where(tp == 0.0, 0.0, 1.0 - scale * ratio(fn, tp))
    return np.maximum(recall, 0.0), np.where(tp == 0.0, 1.0, 1.0 - scale * ratio(fp, tp))


def _pr_parts(tp: Array, fp: Array, tn: Array, fn: Array) -> Array:
    """Return the area between thresholds of precision over recall, between which the counts are on lines.

    The integral of (slope P + intercept) / P over P = tp + fp, which is slope (dtp + intercept log(P_a / P_b)).
    """
    p = tp + fp
    rise, run = tp[:-1] - tp[1:], p[:-1] - p[1:]
    slope = ratio(rise, np.maximum(run, 0.0))
    intercept = tp[1:] - slope * p[1:]
    both = (p[:-1] > 0) & (p[1:] > 0)
    grown = np.where(both, ratio(p[:-1], np.maximum(p[1:], 0.0)), 1.0)
    return ratio(slope * (rise + intercept * np.log(grown)), np.maximum(tp[1:] + fn[1:], 0.0))
