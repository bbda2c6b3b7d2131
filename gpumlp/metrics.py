"""Metrics: a value per sample, averaged; written once over an array namespace ``xp``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from gpumlp import config, formulas, ops
from gpumlp.attributes import refuse_overrides
from gpumlp.losses import Loss
from gpumlp.naming import flag, look_up, neutral, number, resolve, settle

Array = Any


# ---- the formulas, each once: of a sample's targets t and predictions p ----------------------------------------------
def _squared_error(t: Any, p: Any) -> Any:
    return ops.mean(ops.square(p - t), -1)


def _absolute_error(t: Any, p: Any) -> Any:
    return ops.mean(ops.absolute(p - t), -1)


def _binary_accuracy(t: Any, p: Any, threshold: float = 0.5) -> Any:
    return ops.mean(ops.equal(p > threshold, t), -1)


def _categorical_accuracy(t: Any, p: Any) -> Any:
    return ops.equal(ops.argmax(p, -1), ops.argmax(t, -1))


def _sparse_categorical_accuracy(t: Any, p: Any) -> Any:
    return ops.equal(ops.argmax(p, -1, keepdims=True), t)


@dataclass(frozen=True)
class Metric:
    """An average over samples.

    Parameters
    ----------
    name : str, optional
        In the history; the class's own when None.
    dtype : {"float32", "float64"}, optional
        Without effect: a metric is computed in the model's type.
    weighted : bool
        Whether the sample weights count; ``compile`` says so.
    """

    name: str = None  # type: ignore[assignment]  # the class's own takes its place
    dtype: str | None = None
    weighted: bool = field(default=False, kw_only=True)
    default_name: ClassVar[str] = ""

    def __post_init__(self) -> None:
        config.float_type(self.dtype)
        if not isinstance(self.name, (str, type(None))):
            raise ValueError(f"name must be a string; got {self.name!r}.")
        settle(self, name=self.name or self.default_name, weighted=flag("weighted", self.weighted))

    @property
    def sparse(self) -> bool:
        """Whether targets are class numbers of shape (B, 1)."""
        return self.default_name.startswith("sparse_")

    @property
    def formula(self) -> formulas.Formula:
        """What kernels are made of."""
        return formulas.metric(FORMULAS[self.default_name], {}, self.sparse)

    @property
    def numbers(self) -> dict[str, float]:
        """The numbers that kernels are given."""
        return {}

    def values(self, xp: Any, t: Array, p: Array, values: Array, scratch: Any) -> None:
        """Write the value of each sample of targets t and predictions p[B, O] into ``values[B]``."""
        raise NotImplementedError

    def update(self, xp: Any, t: Array, p: Array, weights: Array | None, scratch: Any) -> tuple[float, float]:
        """Return the sum over a batch and what to divide it by."""
        values = scratch(0, (p.shape[0],), p.dtype)
        self.values(xp, t, p, values, scratch)
        if not self.weighted or weights is None:
            return float(xp.sum(values)), float(p.shape[0])
        xp.multiply(values, weights, out=values)
        return float(xp.sum(values)), float(xp.sum(weights))


class MeanSquaredError(Metric):
    """mean_o (p - t)^2."""

    default_name = "mean_squared_error"

    def values(self, xp: Any, t: Array, p: Array, values: Array, scratch: Any) -> None:
        error = scratch(1, p.shape, p.dtype)
        xp.subtract(p, t, out=error)
        xp.multiply(error, error, out=error)
        xp.mean(error, axis=1, out=values)


class MeanAbsoluteError(Metric):
    """mean_o |p - t|."""

    default_name = "mean_absolute_error"

    def values(self, xp: Any, t: Array, p: Array, values: Array, scratch: Any) -> None:
        error = scratch(1, p.shape, p.dtype)
        xp.subtract(p, t, out=error)
        xp.absolute(error, out=error)
        xp.mean(error, axis=1, out=values)


@dataclass(frozen=True)
class BinaryAccuracy(Metric):
    """The share of outputs on the target's side of 0.5, the only ``threshold`` there is."""

    default_name = "binary_accuracy"
    threshold: float = 0.5

    def __post_init__(self) -> None:
        neutral(type(self).__name__, threshold=(number("threshold", self.threshold), 0.5))
        super().__post_init__()

    def values(self, xp: Any, t: Array, p: Array, values: Array, scratch: Any) -> None:
        guess = scratch(1, p.shape, p.dtype)
        xp.greater(p, 0.5, out=guess)
        xp.equal(guess, t, out=guess)
        xp.mean(guess, axis=1, out=values)


class CategoricalAccuracy(Metric):
    """Whether the largest output is the target's class, t one-hot."""

    default_name = "categorical_accuracy"

    def values(self, xp: Any, t: Array, p: Array, values: Array, scratch: Any) -> None:
        guess, truth = (scratch(i, (p.shape[0],), xp.dtype("int64")) for i in (1, 2))
        xp.argmax(p, axis=1, out=guess)
        xp.argmax(t, axis=1, out=truth)
        xp.equal(guess, truth, out=values)


class SparseCategoricalAccuracy(Metric):
    """Whether the largest output is the target's class, t a class number."""

    default_name = "sparse_categorical_accuracy"

    def values(self, xp: Any, t: Array, p: Array, values: Array, scratch: Any) -> None:
        guess = scratch(1, (p.shape[0],), xp.dtype("int64"))
        xp.argmax(p, axis=1, out=guess)
        xp.equal(guess, t[:, 0], out=values)


FORMULAS: dict[str, Any] = {
    "mean_squared_error": _squared_error, "mean_absolute_error": _absolute_error,
    "binary_accuracy": _binary_accuracy, "categorical_accuracy": _categorical_accuracy,
    "sparse_categorical_accuracy": _sparse_categorical_accuracy,
}  # fmt: skip
_CLASSES: tuple[type[Metric], ...] = (
    MeanSquaredError,
    MeanAbsoluteError,
    BinaryAccuracy,
    CategoricalAccuracy,
    SparseCategoricalAccuracy,
)
ACCURACY = ("accuracy", "acc")  # which one, the loss and the shapes say
KNOWN: dict[str, type[Metric] | None] = {
    **{c.default_name: c for c in _CLASSES},
    "mse": MeanSquaredError,
    "mae": MeanAbsoluteError,
    **dict.fromkeys(ACCURACY),
}


def get(
    identifier: object,
    *,
    loss: Loss | None = None,
    target_width: int | None = None,
    output_width: int | None = None,
    weighted: bool = False,
) -> Any:
    """Return the metric for a name, a class, an instance or a config dict; None for None.

    Its name in the history is the string given. "accuracy" means binary accuracy for one output, sparse categorical
    accuracy for labels, categorical otherwise: with a model's loss and widths, else it is a ValueError.
    """
    if identifier is None:
        return None
    if not isinstance(identifier, str):
        metric: Metric = resolve("metric", identifier, KNOWN, Metric)
        refuse_overrides(type(metric), ("values", "update", "update_state", "result", "reset_state"))
        return replace(metric, weighted=weighted)
    found = look_up("metric", identifier, KNOWN)
    if found is None:
        if loss is None:
            raise ValueError(f"What {identifier!r} means depends on a model; name one of {', '.join(_ACCURACIES)}.")
        found = _ACCURACIES[
            "binary_accuracy" if output_width == 1
            else "sparse_categorical_accuracy" if loss.sparse or target_width == 1
            else "categorical_accuracy"
        ]  # fmt: skip
    return found(identifier, weighted=weighted)


_ACCURACIES = {name: kind for name, kind in KNOWN.items() if kind is not None and "_accuracy" in name}
