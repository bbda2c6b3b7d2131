"""Metrics that average one number a sample: accuracies, errors, correlations, and what losses give.

A new one is a function and a class below; a loss of Keras's is here by its name alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import new_class
from typing import Any

import numpy as np

from gpumlp import config, losses, ops
from gpumlp.expressions import ELEMENT
from gpumlp.metrics.metric import Array, Metric, Summed, Sums, ratio, samplewise
from gpumlp.naming import automatic, look_up, number
from gpumlp.objectives import an_axis, defaults, looked_at, objective
from gpumlp.saving import deserialize_keras_object, serialize_keras_object

EPSILON = losses.loss.EPSILON


# ---- checks ----------------------------------------------------------------------------------------------------------
def whole(name: str, value: Any, low: int = 1) -> int:
    """Return ``value`` as an int; ValueError unless it is one from ``low`` on."""
    found = number(name, value, low)
    if found != int(found):
        raise ValueError(f"{name} must be a whole number >= {low}; got {value!r}.")
    return int(found)


# ---- of numbers alone ------------------------------------------------------------------------------------------------
class Mean(Summed):
    """The mean of the numbers that are given, weighted."""

    def __init__(self, name: str | None = "mean", dtype: Any = None) -> None:
        super().__init__(dtype, name)

    def update_state(self, values: Any, sample_weight: Any = None) -> None:  # type: ignore[override]
        """Take in values of any shape; axes beyond the weights' are averaged."""
        found = config.floats("values", values, self._asked)
        totals, count = samplewise(found[None], sample_weight)
        self.take([totals[0], np.asarray(count)])

    def empty(self) -> list[Array]:
        """See `Summed.empty`."""
        return [np.zeros(()), np.zeros(())]

    @property
    def names(self) -> tuple[str, ...]:
        """See `Summed.names`."""
        return "total", "count"

    def of(self, *sums: Any) -> Any:
        """See `Summed.of`."""
        return ratio(*sums)


class Sum(Summed):
    """The sum of the numbers that are given, times their weights."""

    def __init__(self, name: str | None = "sum", dtype: Any = None) -> None:
        super().__init__(dtype, name)

    def update_state(self, values: Any, sample_weight: Any = None) -> None:  # type: ignore[override]
        """Take in values of any shape."""
        found = config.floats("values", values, self._asked)
        self.take([samplewise(found[None], sample_weight, mean=False)[0][0]])

    def empty(self) -> list[Array]:
        """See `Summed.empty`."""
        return [np.zeros(())]

    @property
    def names(self) -> tuple[str, ...]:
        """See `Summed.names`."""
        return ("total",)

    def of(self, *sums: Any) -> Any:
        """See `Summed.of`."""
        return np.float64(sums[0])


class MeanMetricWrapper(Sums):
    """The mean of a function of targets and predictions over samples.

    Parameters
    ----------
    fn : callable
        A function (y_true, y_pred, ...) of gpumlp.ops, of which kernels are made, or of NumPy, which the host calls
        with each batch; it gives a number for each sample, or several, which are averaged.
    **kwargs
        Its other arguments.
    """

    fn: Callable[..., Any]
    _kwargs: dict[str, Any]

    def __init__(self, fn: Callable[..., Any], name: str | None = None, dtype: Any = None, **kwargs: Any) -> None:
        if not callable(fn):
            raise TypeError(f"fn must be a function of targets and predictions; got {fn!r}.")
        if (checks := getattr(fn, "checks", None)) is not None:
            kwargs = looked_at(fn.__name__, defaults(fn, 2), kwargs, checks)
        own = self._looked_at({"name": name or automatic(type(self)), "dtype": dtype, "weighted": False})
        self.__dict__.update(own, function=fn, fn=fn, _kwargs=kwargs)

    @property
    def constants(self) -> dict[str, Any]:
        """What the function takes beside targets and predictions."""
        return self._kwargs

    @property
    def own(self) -> bool:
        """Whether the function is a user's."""
        return getattr(self.function, "kind", None) is None

    @property
    def _direction(self) -> str:  # type: ignore[override]
        of_loss = isinstance(self.function, losses.Loss) or losses.Loss in getattr(self.function, "kind", {})
        return "down" if of_loss else ""

    def get_config(self) -> dict[str, Any]:
        """Return the arguments by their Keras names."""
        config = Metric.get_config(self)
        return config | {"fn": serialize_keras_object(self.fn)} | serialize_keras_object(self._kwargs)

    def _key(self) -> Any:
        return type(self), self.function, self.name, self.dtype, self.weighted, self.rows, *self._kwargs.items()

    @classmethod
    def from_config(cls, config: Any) -> Any:
        """Return a new metric, as `get_config` has described one."""
        fn = config.get("fn")
        if isinstance(fn, str):  # as Keras 2 has it
            known = look_up("metric", fn, {**losses.KNOWN, **Sums.known})
            return cls(**{**config, "fn": getattr(known, "function", known)})
        return cls(**{**config, "fn": deserialize_keras_object(fn)} if isinstance(fn, dict) else config)


MeanMetricWrapper.__signature__ = inspect.Signature(
    list(inspect.signature(MeanMetricWrapper.__init__).parameters.values())[1:]
)


# ---- accuracies ------------------------------------------------------------------------------------------------------
@objective(elementwise=True, places=True)
def accuracy(y_true: Any, y_pred: Any) -> Any:
    """The share of outputs that are the target; of arrays whether each is."""
    return ops.mean(ops.equal(y_true, y_pred), -1)


class Accuracy(Sums, function=accuracy):
    """`accuracy`, as a class."""

    _direction = "up"


@objective(elementwise=True, places=True)
def binary_accuracy(y_true: Any, y_pred: Any, threshold: Any = 0.5) -> Any:
    """The share of outputs on the target's side of ``threshold``; of arrays whether each is."""
    return ops.mean(ops.equal(y_pred > threshold, y_true), -1)


class BinaryAccuracy(Sums, function=binary_accuracy):
    """`binary_accuracy`, as a class."""

    _direction = "up"


@objective()
def categorical_accuracy(y_true: Any, y_pred: Any) -> Any:
    """Whether the largest output is the target's class, t one-hot."""
    return ops.equal(ops.argmax(y_pred, -1), ops.argmax(y_true, -1))


class CategoricalAccuracy(Sums, function=categorical_accuracy):
    """`categorical_accuracy`, as a class."""

    _direction = "up"
    exact = True


@objective(sparse=True)
def sparse_categorical_accuracy(y_true: Any, y_pred: Any) -> Any:
    """Whether the largest output is the target's class, t a class number."""
    return ops.equal(ops.argmax(y_pred, -1, keepdims=True), y_true)


class SparseCategoricalAccuracy(Sums, function=sparse_categorical_accuracy):
    """`sparse_categorical_accuracy`, as a class."""

    _direction = "up"
    exact = True


def _in_top(label: Any, y_pred: Any, k: int) -> Any:
    """Whether fewer than ``k`` outputs are above that of the class ``label``; not where that is NaN."""
    own = ops.sum(ops.where(ops.one_hot(label), y_pred, 0.0), -1, keepdims=True)
    return ops.where(ops.isnan(own), 0.0, ops.sum(y_pred > own, -1, keepdims=True) < k)


@objective(k=whole)
def top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> Any:
    """Whether the target's class, t one-hot, has one of the ``k`` largest outputs; equal ones count as the larger."""
    return _in_top(ops.argmax(y_true, -1, keepdims=True), y_pred, k)


class TopKCategoricalAccuracy(Sums, function=top_k_categorical_accuracy, order=("k", "name", "dtype")):
    """`top_k_categorical_accuracy`, as a class."""

    _direction = "up"
    exact = True


@objective(sparse=True, k=whole)
def sparse_top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5, from_sorted_ids: bool = False) -> Any:
    """Whether the target, a class number, has one of the ``k`` largest outputs; equal ones count as the larger.

    ``from_sorted_ids``: outputs are class numbers, the best one first, and the first ``k`` count.
    """
    if not from_sorted_ids:
        return _in_top(y_true, y_pred, k)
    place = y_pred.table.leaf("index", ELEMENT)
    return ops.max(ops.equal(y_true, y_pred) * (place < k), -1)


class SparseTopKCategoricalAccuracy(
    Sums, function=sparse_top_k_categorical_accuracy, order=("k", "name", "dtype", "from_sorted_ids")
):
    """`sparse_top_k_categorical_accuracy`, as a class."""

    _direction = "up"
    exact = True


# ---- errors and correlations -----------------------------------------------------------------------------------------
@objective(elementwise=True)
def root_mean_squared_error(y_true: Any, y_pred: Any) -> Any:
    """mean_o (p - t)^2, of whose mean over samples the root is taken."""
    return ops.mean(ops.square(y_pred - y_true), -1)


class RootMeanSquaredError(Sums, function=root_mean_squared_error):
    """The root of the mean over samples of `root_mean_squared_error`."""

    _direction = "down"

    def of(self, *sums: Any) -> Any:
        """See `Summed.of`."""
        return np.sqrt(super().of(*sums))


@objective(axis=an_axis)
def cosine_similarity(y_true: Any, y_pred: Any, axis: int = -1) -> Any:
    """sum_o t p, t and p first made of length 1: the negative of the loss of that name."""
    return -losses.cosine_similarity(y_true, y_pred)


class CosineSimilarity(Sums, function=cosine_similarity):
    """`cosine_similarity`, as a class."""

    _direction = "up"


def _off_mean(x: Any) -> Any:
    return x - ops.mean(x, -1, keepdims=True)


def _largest(x: Any) -> Any:
    return ops.max(ops.absolute(x), -1, keepdims=True)


@objective(axis=an_axis)
def pearson_correlation(y_true: Any, y_pred: Any, axis: int = -1) -> Any:
    """The correlation of t and p over a sample's outputs; NaN of a single one (Pearson 1895)."""

    def standard(x: Any) -> Any:
        off = _off_mean(x)
        off = off / _largest(off)  # whose squares neither overflow nor vanish
        return off / ops.sqrt(ops.mean(ops.square(off), -1, keepdims=True))

    return ops.mean(standard(y_true) * standard(y_pred), -1)


class PearsonCorrelation(Sums, function=pearson_correlation):
    """`pearson_correlation`, as a class."""

    _direction = "up"


@objective(axis=an_axis)
def concordance_correlation(y_true: Any, y_pred: Any, axis: int = -1) -> Any:
    """2 mean_o (t - m)(p - m) / (var t + var p + (mean t - m)^2 + 1e-7), m the mean of p (Lin 1989, as Keras has it).

    The sum over p - m is 0, so that it is the covariance whatever is taken from t; rounding is Keras's. Numbers above 1
    are first divided by the largest, so that no square overflows.
    """
    scale = ops.maximum(ops.maximum(_largest(y_true), _largest(y_pred)), 1.0)
    t, p = y_true / scale, y_pred / scale
    mean_t, mean_p = ops.mean(t, -1, keepdims=True), ops.mean(p, -1, keepdims=True)
    spread = ops.var(t, -1, keepdims=True) + ops.var(p, -1, keepdims=True)
    norm = spread + ops.square(mean_t - mean_p) + EPSILON / scale / scale
    return ops.mean(2.0 * (t - mean_p) * (p - mean_p) / norm, -1)


class ConcordanceCorrelation(Sums, function=concordance_correlation):
    """`concordance_correlation`, as a class."""

    _direction = "up"


# ---- losses ----------------------------------------------------------------------------------------------------------
# Keras's classes by the names of its losses: another name of the class, the name in the history, aliases, order.
LOGITS = ("name", "dtype", "from_logits", "label_smoothing")
OF_LOSSES: dict[str, dict[str, Any]] = {
    "MeanSquaredError": {"aliases": ("mse",)},
    "MeanAbsoluteError": {"aliases": ("mae",)},
    "MeanAbsolutePercentageError": {"aliases": ("mape",)},
    "MeanSquaredLogarithmicError": {"aliases": ("msle",)},
    "LogCosh": {"class": "LogCoshError", "name": "logcosh", "aliases": ("log_cosh_error",)},
    "Hinge": {},
    "SquaredHinge": {},
    "CategoricalHinge": {},
    "KLDivergence": {"name": "kl_divergence"},
    "Poisson": {},
    "BinaryCrossentropy": {"aliases": ("bce",), "order": LOGITS},
    "CategoricalCrossentropy": {"order": (*LOGITS, "axis")},
    "SparseCategoricalCrossentropy": {"order": ("name", "dtype", "from_logits", "ignore_class", "axis")},
}


def _of_loss(kind: type[losses.Loss], **how: Any) -> type[Sums]:
    """Return a loss's function as a class of metrics."""
    inside = {
        "__doc__": f"`{kind.function.__name__}` of gpumlp.losses, as a metric.",
        "__module__": __name__,
        "_direction": "down",
    }
    name = how.pop("class", kind.__name__)
    return new_class(name, (Sums,), {"function": kind.function, **how}, lambda space: space.update(inside))


FROM_LOSSES = {
    made.__name__: made
    for made in (
        _of_loss(kind, **OF_LOSSES[kind.__name__])
        for kind in dict.fromkeys(losses.KNOWN.values())
        if kind is not None and kind.__name__ in OF_LOSSES
    )
}
globals().update(FROM_LOSSES)  # where pickle looks for them
