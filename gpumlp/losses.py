"""Losses: value and gradient, written once over an array namespace ``xp``.

A loss of predictions p[B, O] and targets t[B, O] (labels of shape (B, 1) for the sparse one) is a value per sample
(a mean over the O outputs, except for the categorical ones); the batch's loss is sum(value * sample_weight) / B, as in
Keras's ``sum_over_batch_size``: the divisor is B, not the sum of the weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gpumlp.naming import look_up

Array = Any
Scratch = Callable[..., Any]
EPSILON = 1e-7  # Keras's fuzz factor: probabilities are clipped to [EPSILON, 1 - EPSILON] before the logarithm


@dataclass(frozen=True)
class Loss:
    """A loss with its constants."""

    name: ClassVar[str] = ""
    sparse: ClassVar[bool] = False  # targets are class numbers of shape (B, 1)

    def per_sample(self, xp: Any, t: Array, p: Array, dp: Array, values: Array, scratch: Scratch) -> None:
        """Write the loss of each sample into ``values[B]`` and its gradient by ``p`` into ``dp[B, O]``."""
        raise NotImplementedError

    def batch(self, xp: Any, t: Array, p: Array, weights: Array | None, dp: Array, scratch: Scratch) -> float:
        """Return the loss of the batch and write its gradient by ``p`` into ``dp``."""
        rows = p.shape[0]
        values = scratch(0, (rows,), p.dtype)
        self.per_sample(xp, t, p, dp, values, scratch)
        if weights is not None:
            xp.multiply(values, weights, out=values)
            xp.multiply(dp, weights[:, None], out=dp)
        xp.multiply(dp, 1.0 / rows, out=dp)
        return float(xp.sum(values)) / rows

    def __call__(self, y_true: object, y_pred: object, sample_weight: object = None) -> float:
        """Return the loss of arrays, as Keras's objects do."""
        p = np.atleast_2d(np.asarray(y_pred, dtype=np.result_type(np.asarray(y_pred), np.float32)))
        t = np.asarray(y_true, dtype=p.dtype).reshape((p.shape[0], -1))
        w = None if sample_weight is None else np.asarray(sample_weight, dtype=p.dtype).reshape(-1)
        return self.batch(np, t, p, w, np.empty_like(p), lambda i, shape, dtype: np.empty(shape, dtype))

    def get_config(self) -> dict[str, Any]:
        """Return the constants by their Keras names."""
        return dataclasses.asdict(self)


def _mean_of_rows(xp: Any, a: Array, values: Array) -> None:
    xp.sum(a, axis=1, out=values)
    xp.multiply(values, 1.0 / a.shape[1], out=values)


@dataclass(frozen=True)
class MeanSquaredError(Loss):
    """mean_o (p - t)^2."""

    name = "mean_squared_error"

    def per_sample(self, xp: Any, t: Array, p: Array, dp: Array, values: Array, scratch: Scratch) -> None:
        square = scratch(1, p.shape, p.dtype)
        xp.subtract(p, t, out=dp)
        xp.multiply(dp, dp, out=square)
        _mean_of_rows(xp, square, values)
        xp.multiply(dp, 2.0 / p.shape[1], out=dp)


@dataclass(frozen=True)
class MeanAbsoluteError(Loss):
    """mean_o |p - t|, with gradient 0 where p = t."""

    name = "mean_absolute_error"

    def per_sample(self, xp: Any, t: Array, p: Array, dp: Array, values: Array, scratch: Scratch) -> None:
        error = scratch(1, p.shape, p.dtype)
        xp.subtract(p, t, out=error)
        xp.sign(error, out=dp)
        xp.absolute(error, out=error)
        _mean_of_rows(xp, error, values)
        xp.multiply(dp, 1.0 / p.shape[1], out=dp)


@dataclass(frozen=True)
class Huber(Loss):
    """mean_o of e^2 / 2 for |e| <= delta, delta |e| - delta^2 / 2 beyond (Huber 1964)."""

    name = "huber"
    delta: float = 1.0

    def __post_init__(self) -> None:
        if not self.delta > 0:
            raise ValueError(f"delta must be > 0; got {self.delta!r}.")

    def per_sample(self, xp: Any, t: Array, p: Array, dp: Array, values: Array, scratch: Scratch) -> None:
        error = scratch(1, p.shape, p.dtype)
        xp.subtract(p, t, out=error)
        xp.clip(error, -self.delta, self.delta, out=dp)  # the gradient c; the value is c (e - c / 2) in both ranges
        work = scratch(2, p.shape, p.dtype)
        xp.multiply(dp, -0.5, out=work)
        xp.add(work, error, out=work)
        xp.multiply(work, dp, out=work)
        _mean_of_rows(xp, work, values)
        xp.multiply(dp, 1.0 / p.shape[1], out=dp)


def _log_softmax(xp: Any, z: Array, out: Array, softmax: Array, row: Array) -> None:
    xp.max(z, axis=1, keepdims=True, out=row)
    xp.subtract(z, row, out=out)
    xp.exp(out, out=softmax)
    xp.sum(softmax, axis=1, keepdims=True, out=row)
    xp.divide(softmax, row, out=softmax)
    xp.log(row, out=row)
    xp.subtract(out, row, out=out)


@dataclass(frozen=True)
class CategoricalCrossentropy(Loss):
    """-sum_o t log p, with p first divided by its row's sum and clipped to [1e-7, 1 - 1e-7].

    With ``from_logits``, p are logits and log softmax(p) takes the place of log p. ``label_smoothing`` s replaces t by
    t (1 - s) + s / O. Where the clip is active the gradient is zero.
    """

    name = "categorical_crossentropy"
    from_logits: bool = False
    label_smoothing: float = 0.0

    def targets(self, xp: Any, t: Array, p: Array, scratch: Scratch) -> Array:
        if not self.label_smoothing:
            return t
        smooth = scratch(4, p.shape, p.dtype)
        xp.multiply(t, 1.0 - self.label_smoothing, out=smooth)
        xp.add(smooth, self.label_smoothing / p.shape[1], out=smooth)
        return smooth

    def per_sample(self, xp: Any, t: Array, p: Array, dp: Array, values: Array, scratch: Scratch) -> None:
        t = self.targets(xp, t, p, scratch)
        log, work = scratch(1, p.shape, p.dtype), scratch(2, p.shape, p.dtype)
        row = scratch(3, (p.shape[0], 1), p.dtype)
        if self.from_logits:  # dz = softmax * sum(t) - t
            _log_softmax(xp, p, log, dp, row)
            xp.sum(t, axis=1, keepdims=True, out=row)
            xp.multiply(dp, row, out=dp)
            xp.subtract(dp, t, out=dp)
        else:  # q = p / sum(p): dq = -t / q inside the clip, dp = (dq - sum(dq q)) / sum(p)
            q, inside = scratch(5, p.shape, p.dtype), scratch(6, p.shape, p.dtype)
            xp.sum(p, axis=1, keepdims=True, out=row)
            xp.divide(p, row, out=q)
            xp.clip(q, EPSILON, 1.0 - EPSILON, out=work)
            xp.log(work, out=log)
            xp.equal(work, q, out=inside)
            xp.divide(t, work, out=dp)
            xp.multiply(dp, inside, out=dp)
            xp.negative(dp, out=dp)
            xp.multiply(dp, q, out=work)
            total = scratch(7, (p.shape[0], 1), p.dtype)
            xp.sum(work, axis=1, keepdims=True, out=total)
            xp.subtract(dp, total, out=dp)
            xp.divide(dp, row, out=dp)
        xp.multiply(t, log, out=work)
        xp.sum(work, axis=1, out=values)
        xp.negative(values, out=values)


@dataclass(frozen=True)
class SparseCategoricalCrossentropy(CategoricalCrossentropy):
    """Categorical cross-entropy of class numbers: t holds integers in [0, O), shape (B, 1)."""

    name = "sparse_categorical_crossentropy"
    sparse = True
    label_smoothing: float = dataclasses.field(default=0.0, init=False)

    def targets(self, xp: Any, t: Array, p: Array, scratch: Scratch) -> Array:
        one_hot = scratch(4, p.shape, p.dtype)
        classes = scratch(8, (p.shape[1],), p.dtype)
        classes[...] = xp.arange(p.shape[1])
        xp.equal(t, classes, out=one_hot)
        return one_hot


@dataclass(frozen=True)
class BinaryCrossentropy(Loss):
    """mean_o of -(t log p + (1 - t) log(1 - p)), p clipped to [1e-7, 1 - 1e-7]; p are logits with ``from_logits``.

    ``label_smoothing`` s replaces t by t (1 - s) + s / 2. Where the clip is active the gradient is zero.
    """

    name = "binary_crossentropy"
    from_logits: bool = False
    label_smoothing: float = 0.0

    def per_sample(self, xp: Any, t: Array, p: Array, dp: Array, values: Array, scratch: Scratch) -> None:
        a, b = scratch(1, p.shape, p.dtype), scratch(2, p.shape, p.dtype)
        if self.label_smoothing:
            smooth = scratch(3, p.shape, p.dtype)
            xp.multiply(t, 1.0 - self.label_smoothing, out=smooth)
            xp.add(smooth, 0.5 * self.label_smoothing, out=smooth)
            t = smooth
        if self.from_logits:  # max(z, 0) - z t + log(1 + exp(-|z|)), gradient sigmoid(z) - t
            xp.absolute(p, out=a)
            xp.negative(a, out=a)
            xp.exp(a, out=a)
            xp.log1p(a, out=a)
            xp.maximum(p, 0.0, out=b)
            xp.add(a, b, out=a)
            xp.subtract(p, a, out=dp)  # p - softplus(p) = log sigmoid(p)
            xp.multiply(p, t, out=b)
            xp.exp(dp, out=dp)
            xp.subtract(dp, t, out=dp)
            xp.subtract(a, b, out=a)
        else:
            inside, q = scratch(4, p.shape, p.dtype), scratch(5, p.shape, p.dtype)
            xp.clip(p, EPSILON, 1.0 - EPSILON, out=q)
            xp.equal(p, q, out=inside)
            xp.subtract(1.0, q, out=b)
            xp.multiply(q, b, out=a)
            xp.subtract(q, t, out=dp)  # (q - t) / (q (1 - q))
            xp.divide(dp, a, out=dp)
            xp.multiply(dp, inside, out=dp)
            xp.log(b, out=b)
            xp.log(q, out=q)
            xp.subtract(q, b, out=q)
            xp.multiply(q, t, out=a)
            xp.add(a, b, out=a)
            xp.negative(a, out=a)
        _mean_of_rows(xp, a, values)
        xp.multiply(dp, 1.0 / p.shape[1], out=dp)


_CLASSES: tuple[type[Loss], ...] = (
    MeanSquaredError,
    MeanAbsoluteError,
    Huber,
    BinaryCrossentropy,
    CategoricalCrossentropy,
    SparseCategoricalCrossentropy,
)
KNOWN: dict[str, type[Loss]] = {
    **{c.name: c for c in _CLASSES},
    **{c.__name__: c for c in _CLASSES},
    "mse": MeanSquaredError,
    "mae": MeanAbsoluteError,
    "bce": BinaryCrossentropy,
}


def get(identifier: object) -> Loss:
    """Return the loss for a name, a class or an instance.

    Raises
    ------
    ValueError
        For an unknown name.
    TypeError
        For anything else, a Python function included: the package could not differentiate it.
    """
    if isinstance(identifier, Loss):
        return identifier
    if isinstance(identifier, type) and issubclass(identifier, Loss):
        return identifier()
    if isinstance(identifier, str):
        return look_up("loss", identifier, KNOWN)()
    raise TypeError(f"loss must be a name such as 'mse' or one of gpumlp.losses; got {identifier!r}.")
