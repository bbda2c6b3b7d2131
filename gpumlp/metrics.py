"""Metrics: a value per sample, averaged; written once over an array namespace ``xp``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from gpumlp.losses import Loss
from gpumlp.naming import look_up

Array = Any


@dataclass(frozen=True)
class Metric:
    """An average over samples. ``weighted`` ones use the sample weights."""

    name: str = ""
    weighted: bool = False
    default_name: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.default_name)

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


class BinaryAccuracy(Metric):
    """The share of outputs on the target's side of 0.5."""

    default_name = "binary_accuracy"

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


_CLASSES: tuple[type[Metric], ...] = (
    MeanSquaredError,
    MeanAbsoluteError,
    BinaryAccuracy,
    CategoricalAccuracy,
    SparseCategoricalAccuracy,
)
_SHORT = {"mse": MeanSquaredError, "mae": MeanAbsoluteError}
KNOWN: dict[str, type[Metric] | None] = {
    **{c.default_name: c for c in _CLASSES},
    **{c.__name__: c for c in _CLASSES},
    **_SHORT,
    **dict.fromkeys(("accuracy", "acc"), Metric),
}


def get(identifier: object, loss: Loss, target_width: int, output_width: int, weighted: bool = False) -> Metric:
    """Return the metric for a name or an object; its name in the history is the string given.

    "accuracy" means binary accuracy for one output, sparse categorical accuracy for labels, categorical otherwise.
    """
    if isinstance(identifier, Metric):
        return type(identifier)(identifier.name, weighted)
    if isinstance(identifier, type) and issubclass(identifier, Metric):
        return identifier("", weighted)
    if not isinstance(identifier, str):
        raise TypeError(f"a metric must be a name such as 'accuracy' or one of gpumlp.metrics; got {identifier!r}.")
    found = look_up("metric", identifier, KNOWN)
    if found is Metric:
        if output_width == 1:
            found = BinaryAccuracy
        else:
            found = SparseCategoricalAccuracy if loss.sparse or target_width == 1 else CategoricalAccuracy
    return found(identifier, weighted)
