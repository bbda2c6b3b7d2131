"""Losses: value and gradient, written once over an array namespace ``xp``.

A loss of predictions p[B, O] and targets t[B, O] (labels of shape (B, 1) for the sparse one) is a value per sample
(a mean over the O outputs, except for the categorical ones); the batch's loss is sum(value * sample_weight) / B, as in
Keras's ``sum_over_batch_size``: the divisor is B, not the sum of the weights.

The fields of a loss are its arguments, in Keras's order. Called on arrays of any shape, it goes over their last axis.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gpumlp import config, formulas, ops
from gpumlp.activations import bound
from gpumlp.attributes import refuse_overrides
from gpumlp.naming import OWN, flag, neutral, number, resolve, settle

Array = Any
Scratch = Callable[..., Any]
EPSILON = 1e-7  # Keras's fuzz factor: probabilities are clipped to [EPSILON, 1 - EPSILON] before the logarithm
MEAN = "sum_over_batch_size"
REDUCTIONS = (MEAN, "mean", "sum", "mean_with_sample_weight", "none", None)


# ---- the formulas, each once: of a sample's targets t and predictions p, with the loss's constants -------------------
def _squared_error(t: Any, p: Any) -> Any:
    return ops.mean(ops.square(p - t), -1)


def _absolute_error(t: Any, p: Any) -> Any:
    return ops.mean(ops.absolute(p - t), -1)


def _huber(t: Any, p: Any, delta: Any) -> Any:
    error = p - t
    size = ops.absolute(error)
    return ops.mean(ops.where(size < delta, 0.5 * ops.square(error), delta * (size - 0.5 * delta)), -1)


def _binary(t: Any, p: Any, from_logits: bool, label_smoothing: Any) -> Any:
    t = t * (1.0 - label_smoothing) + 0.5 * label_smoothing
    if from_logits:
        p = _finite(p)
        return ops.mean(ops.softplus(p) - p * t, -1)
    q = ops.clip(p, EPSILON, 1.0 - EPSILON)
    return -ops.mean(t * ops.log(q) + (1.0 - t) * ops.log(1.0 - q), -1)


def _categorical(t: Any, p: Any, from_logits: bool, label_smoothing: Any = 0.0) -> Any:
    t = t * (1.0 - label_smoothing) + label_smoothing / _width(p)
    if from_logits:
        return -ops.sum(t * _finite(ops.log_softmax(p)), -1)
    q = p / ops.sum(p, -1, keepdims=True)
    return -ops.sum(t * ops.log(ops.clip(q, EPSILON, 1.0 - EPSILON)), -1)


def _sparse_categorical(t: Any, p: Any, from_logits: bool) -> Any:
    return _categorical(ops.one_hot(t), p, from_logits)


def _finite(z: Any) -> Any:
    """z, its infinities as the largest numbers: no difference is NaN, and no product with a target of 0."""
    most = z.table.leaf("most", 0)
    return ops.bounded(z, -most, most)


def _width(p: Any) -> Any:
    """How many outputs there are."""
    return p.table.leaf("width", 0)


class Loss:
    """A loss with its constants.

    Parameters
    ----------
    reduction : str or None
        Of the values of the samples, where the loss is called on arrays: one of `REDUCTIONS`. A model takes their mean.
    name : str
    dtype : {"float32", "float64"}, optional
        Of the arithmetic where the loss is called on arrays; with None float64 stays, anything else becomes the default
        type. In a model that of the model counts.
    """

    name: str
    reduction: str | None
    dtype: str | None
    sparse: ClassVar[bool] = False  # targets are class numbers of shape (B, 1)
    broadcasts: ClassVar[bool] = True  # called on arrays, as Keras's regression losses do and its others do not

    def __post_init__(self) -> None:
        if not any(
            self.reduction is r or (isinstance(self.reduction, str) and self.reduction == r) for r in REDUCTIONS
        ):
            expected = ", ".join(map(repr, REDUCTIONS))
            raise ValueError(f"Invalid value for argument `reduction`: expected {expected}; got {self.reduction!r}.")
        if not isinstance(self.name, str):
            raise ValueError(f"name must be a string; got {self.name!r}.")
        if self.dtype is not None:
            config.float_type(self.dtype)

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

    def __call__(self, y_true: object, y_pred: object, sample_weight: object = None) -> Any:
        """Return the loss of arrays of any shape, each a list or a number too, as Keras's objects do.

        The last axis has a sample's outputs, so there is a value for each place of the others; these are multiplied
        by ``sample_weight`` and reduced. Where two arrays differ by one axis, a last axis of size 1 comes or goes.

        Returns
        -------
        A NumPy number, or an array with reduction None.

        Raises
        ------
        ValueError, TypeError
            If the shapes do not go together, or the values are no numbers.
        """
        p = config.floats("y_pred", y_pred, self.dtype)
        t, p = _same_rank(config.floats("y_true", y_true, p.dtype), p)
        if p.ndim == 0 and t.ndim == 0:
            raise ValueError(f"{self.name} goes over the last axis: y_true and y_pred must have one; got two numbers.")
        t, p = self._paired(t, p)
        if p.shape[-1] == 0:
            raise ValueError(f"{self.name} is a mean over outputs; y_pred of shape {p.shape} has none.")
        values, rows = np.empty(p.shape[:-1], p.dtype), math.prod(p.shape[:-1])
        flat = p.reshape(rows, p.shape[-1])
        with np.errstate(all="ignore"):  # what overflows is infinite
            self.per_sample(
                np, t.reshape(rows, t.shape[-1]), flat, np.empty_like(flat), values.reshape(rows), _new_array
            )
            return _reduced(values, sample_weight, self.reduction)

    def _paired(self, t: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return both in the same shape; ValueError where they do not go together."""
        if not self.broadcasts:
            if t.shape != p.shape:
                raise ValueError(f"{self.name}: y_true and y_pred must have the same shape; got {t.shape}, {p.shape}.")
            return t, p
        shape = _common_shape(self.name, y_true=t, y_pred=p)
        return np.broadcast_to(t, shape), np.broadcast_to(p, shape)

    @property
    def constants(self) -> dict[str, Any]:
        """What the loss's formula takes beside targets and predictions."""
        return {name: getattr(self, name) for name in FORMULAS[type(self).name][1]}

    @property
    def formula(self) -> formulas.Formula:
        """What kernels are made of."""
        return formulas.loss(FORMULAS[type(self).name][0], self.constants, self.sparse)

    @property
    def numbers(self) -> dict[str, float]:
        """The numbers that kernels are given."""
        return formulas.numbers_of(self.constants)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments by their Keras names."""
        fields: Any = dataclasses.fields(self)  # type: ignore[arg-type]  # of the subclasses, which are dataclasses
        return {f.name: getattr(self, f.name) for f in fields if f.name != "dtype"}


def _new_array(index: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    return np.empty(shape, dtype)


def _same_rank(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both of the same rank where one has a last axis of size 1 too many: (n, 1) to (n,), else taken away."""
    if a.ndim == b.ndim + 1 and a.shape[-1] == 1:
        return (a, b[:, None]) if b.ndim == 1 else (a[..., 0], b)
    if b.ndim == a.ndim + 1 and b.shape[-1] == 1:
        return (a[:, None], b) if a.ndim == 1 else (a, b[..., 0])
    return a, b


def _common_shape(name: str, **arrays: np.ndarray) -> tuple[int, ...]:
    shapes = {key: a.shape for key, a in arrays.items()}
    try:
        return np.broadcast_shapes(*shapes.values())
    except ValueError:
        listed = ", ".join(f"{key} {shape}" for key, shape in shapes.items())
        raise ValueError(f"{name}: the shapes do not go together: {listed}.") from None


def _reduced(values: np.ndarray, sample_weight: object, reduction: str | None) -> Any:
    """Return the values times their weights, reduced; a number or an empty vector as it is, as in Keras."""
    divisor: Any = None
    if sample_weight is not None:
        weights = config.floats("sample_weight", sample_weight, values.dtype)
        values, weights = _same_rank(values, weights)
        _common_shape("sample_weight must have one weight per value", values=values, sample_weight=weights)
        values = values * weights
        divisor = weights.sum()
    if reduction in (None, "none") or values.shape in ((), (0,)):
        return values[()]
    total = values.sum()
    if reduction == "sum":
        return total
    if reduction != "mean_with_sample_weight" or divisor is None:
        divisor = values.dtype.type(values.size)
    return total / divisor if divisor else np.zeros_like(total)


def _mean_of_rows(xp: Any, a: Array, values: Array) -> None:
    xp.sum(a, axis=1, out=values)
    xp.multiply(values, 1.0 / a.shape[1], out=values)


@dataclass(frozen=True)
class MeanSquaredError(Loss):
    """mean_o (p - t)^2."""

    reduction: str | None = MEAN
    name: str = "mean_squared_error"
    dtype: str | None = None

    def per_sample(self, xp: Any, t: Array, p: Array, dp: Array, values: Array, scratch: Scratch) -> None:
        square = scratch(1, p.shape, p.dtype)
        xp.subtract(p, t, out=dp)
        xp.multiply(dp, dp, out=square)
        _mean_of_rows(xp, square, values)
        xp.multiply(dp, 2.0 / p.shape[1], out=dp)


@dataclass(frozen=True)
class MeanAbsoluteError(Loss):
    """mean_o |p - t|, with gradient 0 where p = t."""

    reduction: str | None = MEAN
    name: str = "mean_absolute_error"
    dtype: str | None = None

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

    delta: float = 1.0
    reduction: str | None = MEAN
    name: str = "huber"
    dtype: str | None = None

    def __post_init__(self) -> None:
        settle(self, delta=number("delta", self.delta, 0.0, above=True))
        super().__post_init__()

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


class Crossentropy(Loss):
    """What the cross-entropies share: their arguments, looked at."""

    from_logits: bool
    label_smoothing: float
    axis: int
    broadcasts = False

    def __post_init__(self) -> None:
        neutral(type(self).__name__, axis=(self.axis, -1))
        smoothing = number("label_smoothing", self.label_smoothing, 0.0, 1.0)
        settle(self, from_logits=flag("from_logits", self.from_logits), label_smoothing=smoothing)
        super().__post_init__()


def _log_softmax(xp: Any, z: Array, out: Array, softmax: Array, row: Array) -> None:
    bound(xp, z, out)
    xp.max(out, axis=1, keepdims=True, out=row)
    xp.subtract(out, row, out=out)
    xp.exp(out, out=softmax)
    xp.sum(softmax, axis=1, keepdims=True, out=row)
    xp.divide(softmax, row, out=softmax)
    xp.log(row, out=row)
    xp.subtract(out, row, out=out)
    bound(xp, out, out)


class _Categorical(Crossentropy):
    """-sum_o t log p of targets that `targets` makes [B, O]."""

    def targets(self, xp: Any, t: Array, p: Array, scratch: Scratch) -> Array:
        raise NotImplementedError

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
class CategoricalCrossentropy(_Categorical):
    """-sum_o t log p, with p first divided by its row's sum and clipped to [1e-7, 1 - 1e-7].

    With ``from_logits``, p are logits and log softmax(p) takes the place of log p. ``label_smoothing`` s replaces t by
    t (1 - s) + s / O. Where the clip is active the gradient is zero.
    """

    from_logits: bool = False
    label_smoothing: float = 0.0
    axis: int = -1
    reduction: str | None = MEAN
    name: str = "categorical_crossentropy"
    dtype: str | None = None

    def targets(self, xp: Any, t: Array, p: Array, scratch: Scratch) -> Array:
        if not self.label_smoothing:
            return t
        smooth = scratch(4, p.shape, p.dtype)
        xp.multiply(t, 1.0 - self.label_smoothing, out=smooth)
        xp.add(smooth, self.label_smoothing / p.shape[1], out=smooth)
        return smooth


@dataclass(frozen=True)
class SparseCategoricalCrossentropy(_Categorical):
    """Categorical cross-entropy of class numbers: t holds integers in [0, O), shape (B, 1)."""

    sparse = True
    label_smoothing = 0.0
    from_logits: bool = False
    ignore_class: int | None = None
    reduction: str | None = MEAN
    axis: int = -1
    name: str = "sparse_categorical_crossentropy"
    dtype: str | None = None

    def __post_init__(self) -> None:
        neutral(type(self).__name__, ignore_class=(self.ignore_class, None))
        super().__post_init__()

    def _paired(self, t: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        labels = t[..., 0] if t.ndim == p.ndim and t.shape[-1] == 1 else t
        if p.ndim == 0 or labels.shape != p.shape[:-1]:
            raise ValueError(
                f"{self.name}: y_true and y_pred must have the same shape up to y_pred's last axis, the classes; "
                f"got {t.shape}, {p.shape}."
            )
        good = (labels >= 0) & (labels < p.shape[-1]) & (labels == np.floor(labels))
        if not good.all():
            raise ValueError(
                f"{self.name}: y_true must hold class numbers 0 to {p.shape[-1] - 1}; got {labels[~good].flat[0]:g}."
            )
        return labels[..., None], p

    def targets(self, xp: Any, t: Array, p: Array, scratch: Scratch) -> Array:
        one_hot = scratch(4, p.shape, p.dtype)
        classes = scratch(8, (p.shape[1],), p.dtype)
        classes[...] = xp.arange(p.shape[1])
        xp.equal(t, classes, out=one_hot)
        return one_hot


@dataclass(frozen=True)
class BinaryCrossentropy(Crossentropy):
    """mean_o of -(t log p + (1 - t) log(1 - p)), p clipped to [1e-7, 1 - 1e-7]; p are logits with ``from_logits``.

    ``label_smoothing`` s replaces t by t (1 - s) + s / 2. Where the clip is active the gradient is zero.
    """

    from_logits: bool = False
    label_smoothing: float = 0.0
    axis: int = -1
    reduction: str | None = MEAN
    name: str = "binary_crossentropy"
    dtype: str | None = None

    def per_sample(self, xp: Any, t: Array, p: Array, dp: Array, values: Array, scratch: Scratch) -> None:
        a, b = scratch(1, p.shape, p.dtype), scratch(2, p.shape, p.dtype)
        if self.label_smoothing:
            smooth = scratch(3, p.shape, p.dtype)
            xp.multiply(t, 1.0 - self.label_smoothing, out=smooth)
            xp.add(smooth, 0.5 * self.label_smoothing, out=smooth)
            t = smooth
        if self.from_logits:  # max(z, 0) - z t + log(1 + exp(-|z|)), gradient sigmoid(z) - t
            z = scratch(4, p.shape, p.dtype)
            bound(xp, p, z)
            xp.absolute(z, out=a)
            xp.negative(a, out=a)
            xp.exp(a, out=a)
            xp.log1p(a, out=a)
            xp.maximum(z, 0.0, out=b)
            xp.add(a, b, out=a)
            xp.subtract(z, a, out=dp)  # z - softplus(z) = log sigmoid(z)
            xp.multiply(z, t, out=b)
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


# By the loss's name: its formula, and the names of its constants.
FORMULAS: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "mean_squared_error": (_squared_error, ()), "mean_absolute_error": (_absolute_error, ()),
    "huber": (_huber, ("delta",)), "binary_crossentropy": (_binary, ("from_logits", "label_smoothing")),
    "categorical_crossentropy": (_categorical, ("from_logits", "label_smoothing")),
    "sparse_categorical_crossentropy": (_sparse_categorical, ("from_logits",)),
}  # fmt: skip
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
    "mse": MeanSquaredError,
    "mae": MeanAbsoluteError,
    "bce": BinaryCrossentropy,
}


def get(identifier: object) -> Loss:
    """Return the loss that a model can be trained on, for a name, a class, an instance or a config dict.

    It has the name that the kernels know it by, whatever it was called.

    Raises
    ------
    ValueError
        For an unknown name.
    TypeError
        For anything else, a Python function included: the package could not differentiate it.
    NotImplementedError
        For a reduction other than the mean over the batch.
    """
    loss: Any = resolve("loss", identifier, KNOWN, Loss, OWN)
    refuse_overrides(type(loss), ("per_sample", "batch", "targets", "call", "__call__"))
    if loss.reduction not in (MEAN, "mean"):
        raise NotImplementedError(
            f"A model is trained on the mean over the batch; {loss.name} has reduction={loss.reduction!r}. "
            f"Leave it at {MEAN!r} in compile; called on arrays, a loss has all of Keras's."
        )
    return loss if loss.name == type(loss).name else dataclasses.replace(loss, name=type(loss).name)
