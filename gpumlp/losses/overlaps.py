"""Losses of how much targets and predictions overlap, and of pairs of samples."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from gpumlp import config, ops
from gpumlp.losses.loss import EPSILON, MEAN, Loss
from gpumlp.naming import flag, number
from gpumlp.objectives import objective, some_axes, within


@objective(axis=some_axes)
def dice(y_true: Any, y_pred: Any, axis: Any = None) -> Any:
    """1 - 2 sum t p / (sum t + sum p + 1e-7), by default over the whole array."""
    both = ops.sum(y_true, -1) + ops.sum(y_pred, -1)
    return 1.0 - 2.0 * ops.sum(y_true * y_pred, -1) / (both + EPSILON)


class Dice(Loss, function=dice, order=("reduction", "name", "axis", "dtype")):
    """`dice`, as a class."""


@objective(axis=some_axes, alpha=within(0.0), beta=within(0.0))
def tversky(y_true: Any, y_pred: Any, alpha: Any = 0.5, beta: Any = 0.5, axis: Any = None) -> Any:
    """1 - s / (s + alpha sum t (1 - p) + beta sum (1 - t) p + 1e-7), s = sum t p, by default over the whole array."""
    shared = ops.sum(y_true * y_pred, -1)
    more = alpha * ops.sum((1.0 - y_pred) * y_true, -1) + beta * ops.sum(y_pred * (1.0 - y_true), -1)
    return 1.0 - shared / (shared + more + EPSILON)


class Tversky(Loss, function=tversky, order=("alpha", "beta", "reduction", "name", "axis", "dtype")):
    """`tversky`, as a class."""


def circle(
    y_true: Any, y_pred: Any, ref_labels: Any = None, ref_embeddings: Any = None, remove_diagonal: bool = True,
    gamma: float = 80.0, margin: float = 0.4,
) -> np.ndarray:  # fmt: skip
    """Return the circle loss of arrays (Sun et al. 2020), a value for each of the embeddings p[B, D] of labels t[B].

    It compares embeddings of length 1 with each other, or with ``ref_embeddings`` of ``ref_labels``; with
    ``remove_diagonal`` none with itself.
    """
    p = config.floats("y_pred", y_pred)
    others = p if ref_embeddings is None else config.floats("ref_embeddings", ref_embeddings, p.dtype)
    labels = np.asarray(y_true).reshape(-1, 1)
    same = labels == (labels if ref_labels is None else np.asarray(ref_labels)).reshape(1, -1)
    distance = np.maximum(1.0 - p @ others.T, 0.0)

    def summed(which: np.ndarray, values: np.ndarray) -> np.ndarray:
        found: np.ndarray = ops.logsumexp(ops.finite(np.where(which, gamma * values, -np.inf)), 1)
        return np.where(which.any(axis=1), found, -np.inf)

    near = summed(
        same & ~((np.eye(*same.shape) > 0.0) & bool(remove_diagonal)), (margin + distance) * (distance - margin)
    )
    far = summed(~same, np.maximum(1.0 + margin - distance, 0.0) * (1.0 - margin - distance))
    return np.asarray(ops.softplus(near + far), p.dtype)


class Circle(Loss):
    """`circle`, as a class; means are taken of what is above 0."""

    own_arguments: ClassVar = {
        "gamma": 80.0, "margin": 0.4, "remove_diagonal": True, "reduction": MEAN, "name": "circle", "dtype": None
    }  # fmt: skip
    own = False
    gamma: float
    margin: float
    remove_diagonal: bool

    def _looked_at(self, arguments: dict[str, Any]) -> dict[str, Any]:
        found = {k: number(k, arguments[k]) for k in ("gamma", "margin")}
        found["remove_diagonal"] = flag("remove_diagonal", arguments["remove_diagonal"])
        return super()._looked_at(arguments) | found

    def of_samples(self, y_true: object, y_pred: object) -> np.ndarray:
        """See `Loss`."""
        p = config.floats("y_pred", y_pred, self.dtype)
        return circle(y_true, p, None, None, self.remove_diagonal, self.gamma, self.margin)

    def counts(self, y_true: object, found: np.ndarray) -> np.ndarray | None:
        """See `Loss`."""
        return found > 0

    def beyond_models(self) -> str:
        """See `Loss`."""
        return f"{self.name} compares the samples of a batch with each other, and a model's loss is one of each sample."


Loss.known["circle"] = Circle
