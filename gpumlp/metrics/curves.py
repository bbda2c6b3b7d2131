"""Metrics of what happens as the threshold moves: one share where another is large enough, and areas below curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from gpumlp import config
from gpumlp.literals import FloatLike
from gpumlp.losses.loss import EPSILON
from gpumlp.metrics.confusion import Confusion, _evenly, fractions
from gpumlp.metrics.means import whole
from gpumlp.metrics.metric import Array, Result, ratio
from gpumlp.naming import flag, number


# ---- one share where another is large enough -------------------------------------------------------------------------
def sensitivity(tp: Array, fn: Array, **_: Array) -> Array:
    """The share of what should be positive that is: recall."""
    return ratio(tp, tp + fn)


def specificity(tn: Array, fp: Array, **_: Array) -> Array:
    """The share of what should be negative that is."""
    return ratio(tn, tn + fp)


def precision(tp: Array, fp: Array, **_: Array) -> Array:
    """The share of what is positive that should be."""
    return ratio(tp, tp + fp)


class _Best(Confusion):
    """The largest of one share, over thresholds at which another one is ``value`` at least; 0 where there are none."""

    _direction = "up"
    largest: ClassVar[Callable[..., Array]]
    held: ClassVar[Callable[..., Array]]

    def _begin(
        self, what: str, value: float, num_thresholds: int, class_id: int | None, name: str | None, dtype: FloatLike
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

    def measure(self, **found: Array) -> Result:
        kind = type(self)
        allowed = kind.held(**found) >= self.value
        return np.max(np.where(allowed, kind.largest(**found), 0.0), initial=0.0)


def _many(num_thresholds: object, low: int) -> int:
    try:
        return whole("num_thresholds", num_thresholds, low)
    except ValueError as error:
        raise ValueError(f"Argument `num_thresholds` must be an integer > {low - 1}: {error}") from None


class SensitivityAtSpecificity(_Best):
    """The largest sensitivity at thresholds where the specificity is large enough; 0 where it is at none.

    Parameters
    ----------
    specificity : float
        In [0, 1]: how large the specificity must be.
    num_thresholds : int, default 200
        How many, evenly from 0 to 1.
    class_id : int, optional
        The one output that counts; all by default.
    name : str, optional
        What it is called in the history; by default the class's name in snake case, and a number.
    dtype : {"float32", "float64"}, optional
        Of the results; by default the default type.

    Raises
    ------
    ValueError
        If ``specificity`` is not in [0, 1], a count not whole, or ``dtype`` none of these.

    Notes
    -----
    Sensitivity is tp / (tp + fn), and specificity tn / (tn + fp).

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metric = metrics.SensitivityAtSpecificity(0.5)
    >>> metric.update_state([0, 0, 1, 1], [0.0, 0.5, 0.25, 0.875])
    >>> round(float(metric.result()), 4)
    1.0
    """

    largest, held = staticmethod(sensitivity), staticmethod(specificity)

    def __init__(
        self, specificity: float, num_thresholds: int = 200, class_id: int | None = None, name: str | None = None,
        dtype: FloatLike = None,
    ) -> None:  # fmt: skip
        self._begin("specificity", specificity, num_thresholds, class_id, name, dtype)


class SpecificityAtSensitivity(_Best):
    """The largest specificity at thresholds where the sensitivity is large enough; 0 where it is at none.

    Parameters
    ----------
    sensitivity : float
        In [0, 1]: how large the sensitivity must be.
    num_thresholds : int, default 200
        How many, evenly from 0 to 1.
    class_id : int, optional
        The one output that counts; all by default.
    name : str, optional
        What it is called in the history; by default the class's name in snake case, and a number.
    dtype : {"float32", "float64"}, optional
        Of the results; by default the default type.

    Raises
    ------
    ValueError
        If ``sensitivity`` is not in [0, 1], a count not whole, or ``dtype`` none of these.

    Notes
    -----
    Specificity is tn / (tn + fp), and sensitivity tp / (tp + fn).

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metric = metrics.SpecificityAtSensitivity(0.5)
    >>> metric.update_state([0, 0, 1, 1], [0.0, 0.5, 0.25, 0.875])
    >>> round(float(metric.result()), 4)
    1.0
    """

    largest, held = staticmethod(specificity), staticmethod(sensitivity)

    def __init__(
        self, sensitivity: float, num_thresholds: int = 200, class_id: int | None = None, name: str | None = None,
        dtype: FloatLike = None,
    ) -> None:  # fmt: skip
        self._begin("sensitivity", sensitivity, num_thresholds, class_id, name, dtype)


class PrecisionAtRecall(_Best):
    """The largest precision at thresholds where the recall is large enough; 0 where it is at none.

    Parameters
    ----------
    recall : float
        In [0, 1]: how large the recall must be.
    num_thresholds : int, default 200
        How many, evenly from 0 to 1.
    class_id : int, optional
        The one output that counts; all by default.
    name : str, optional
        What it is called in the history; by default the class's name in snake case, and a number.
    dtype : {"float32", "float64"}, optional
        Of the results; by default the default type.

    Raises
    ------
    ValueError
        If ``recall`` is not in [0, 1], a count not whole, or ``dtype`` none of these.

    Notes
    -----
    Precision is tp / (tp + fp), and recall tp / (tp + fn).

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metric = metrics.PrecisionAtRecall(0.5)
    >>> metric.update_state([0, 0, 1, 1], [0.0, 0.5, 0.25, 0.875])
    >>> round(float(metric.result()), 4)
    1.0
    """

    largest, held = staticmethod(precision), staticmethod(sensitivity)

    def __init__(
        self, recall: float, num_thresholds: int = 200, class_id: int | None = None, name: str | None = None,
        dtype: FloatLike = None,
    ) -> None:  # fmt: skip
        self._begin("recall", recall, num_thresholds, class_id, name, dtype)


class RecallAtPrecision(_Best):
    """The largest recall at thresholds where the precision is large enough; 0 where it is at none.

    Parameters
    ----------
    precision : float
        In [0, 1]: how large the precision must be.
    num_thresholds : int, default 200
        How many, evenly from 0 to 1.
    class_id : int, optional
        The one output that counts; all by default.
    name : str, optional
        What it is called in the history; by default the class's name in snake case, and a number.
    dtype : {"float32", "float64"}, optional
        Of the results; by default the default type.

    Raises
    ------
    ValueError
        If ``precision`` is not in [0, 1], a count not whole, or ``dtype`` none of these.

    Notes
    -----
    Recall is tp / (tp + fn), and precision tp / (tp + fp).

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metric = metrics.RecallAtPrecision(0.5)
    >>> metric.update_state([0, 0, 1, 1], [0.0, 0.5, 0.25, 0.875])
    >>> round(float(metric.result()), 4)
    1.0
    """

    largest, held = staticmethod(sensitivity), staticmethod(precision)

    def __init__(
        self, precision: float, num_thresholds: int = 200, class_id: int | None = None, name: str | None = None,
        dtype: FloatLike = None,
    ) -> None:  # fmt: skip
        self._begin("precision", precision, num_thresholds, class_id, name, dtype)


# ---- areas -----------------------------------------------------------------------------------------------------------
Curve: TypeAlias = Literal["ROC", "PR", "PRGAIN"]
Summation: TypeAlias = Literal["interpolation", "majoring", "minoring"]


def _one_of(name: str, value: object, known: tuple[str, ...], what: str) -> str:
    value = getattr(value, "value", value)  # of Keras's enumerations
    found = [k for k in known if isinstance(value, str) and value.lower() == k.lower()]
    if not found:
        raise ValueError(f'Invalid {what} value: "{value}". {name} must be one of {", ".join(map(repr, known))}.')
    return found[0]


class AUC(Confusion):
    """The area under a curve through the points that the thresholds give.

    Parameters
    ----------
    num_thresholds : int, default 200
        How many, evenly from 0 to 1, the first and the last just beyond, so that all and no outputs are above them.
    curve : {"ROC", "PR", "PRGAIN"}, default "ROC"
        Recall over the false positives' share, precision over recall, or the gains of both.
    summation_method : {"interpolation", "majoring", "minoring"}, default "interpolation"
        What stands between two points: a line (for PR one of counts), the larger, or the smaller.
    name : str, optional
        What it is called in the history; by default the class's name in snake case, and a number.
    dtype : {"float32", "float64"}, optional
        Of the results; by default the default type.
    thresholds : sequence of float, optional
        In place of ``num_thresholds``; the two beyond are added.
    multi_label : bool, default False
        Whether each output has an area of its own, of which the mean is taken.
    num_labels : int, optional
        How many outputs, with ``multi_label``.
    label_weights : array_like, optional
        How much each output counts; by default alike.
    from_logits : bool, default False
        Whether a sigmoid comes first.

    Raises
    ------
    ValueError
        If a threshold is not in [0, 1], or one of the words is none of these.

    Notes
    -----
    The area below ROC is the probability that a positive output is above a negative one (Hanley & McNeil 1982), to
    within the spaces between thresholds. Between points of PR the counts are on lines (Davis & Goadrich 2006); gains
    are Flach & Kull's (2015).

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metric = metrics.AUC()
    >>> metric.update_state([0, 0, 1, 1], [0.0, 0.5, 0.25, 0.875])
    >>> round(float(metric.result()), 4)
    0.75
    >>> metric = metrics.AUC(curve="PR")
    >>> metric.update_state([0, 0, 1, 1], [0.0, 0.5, 0.25, 0.875])
    >>> round(float(metric.result()), 4)
    0.7973
    """

    _direction = "up"

    def __init__(
        self, num_thresholds: int = 200, curve: Curve = "ROC", summation_method: Summation = "interpolation",
        name: str | None = None, dtype: FloatLike = None, thresholds: Sequence[float] | None = None,
        multi_label: bool = False, num_labels: int | None = None,
        label_weights: npt.ArrayLike | None = None, from_logits: bool = False,
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
        self.curve = _one_of("curve", curve, get_args(Curve), "AUC curve")
        self.summation_method = _one_of(
            "summation_method", summation_method, get_args(Summation), "AUC summation method"
        )
        self.multi_label, self.from_logits = flag("multi_label", multi_label), flag("from_logits", from_logits)
        self.num_labels = None if num_labels is None else whole("num_labels", num_labels)
        if label_weights is not None:
            self.label_weights = config.floats("label_weights", label_weights, "float64")
        self._count_at([-EPSILON, *inner, 1.0 + EPSILON], even, padded=True)

    def measure(self, **found: Array) -> Result:
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

    def get_config(self) -> dict[str, object]:
        """Return the constructor's arguments by name, as JSON can hold them.

        Returns
        -------
        dict
            The thresholds as they were given.
        """
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
