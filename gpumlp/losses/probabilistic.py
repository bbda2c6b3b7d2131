"""Losses of probabilities: divergences, likelihoods, cross-entropies."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpumlp import ops
from gpumlp.losses.loss import EPSILON, Loss
from gpumlp.naming import number
from gpumlp.objectives import an_axis, objective, within


# ---- of distributions ------------------------------------------------------------------------------------------------
@objective()
def kl_divergence(y_true: Any, y_pred: Any) -> Any:
    """sum_o t log(t / p), t and p first clipped to [1e-7, 1]."""
    t, p = (ops.clip(v, EPSILON, 1.0) for v in (y_true, y_pred))
    return ops.sum(t * ops.log(t / p), -1)


class KLDivergence(Loss, function=kl_divergence, aliases=("kld", "kullback_leibler_divergence")):
    """`kl_divergence`, as a class."""


@objective(elementwise=True)
def poisson(y_true: Any, y_pred: Any) -> Any:
    """mean_o (p - t log(p + 1e-7)): the negative log-likelihood of counts t, without what p is not in."""
    return ops.mean(y_pred - y_true * ops.log(ops.finite(y_pred) + EPSILON), -1)


class Poisson(Loss, function=poisson):
    """`poisson`, as a class."""


# ---- cross-entropies -------------------------------------------------------------------------------------------------
def _width(p: Any) -> Any:
    """How many outputs there are."""
    return p.table.leaf("width", 0)


def _smoothed(y_true: Any, label_smoothing: Any, classes: Any) -> Any:
    """t (1 - s) + s / classes."""
    return y_true * (1.0 - label_smoothing) + label_smoothing / classes


def _exponent(name: str, value: Any) -> Any:
    """A check for what is an exponent: small whole numbers are products, so each has a formula of its own."""
    found = number(name, value, 0.0)
    return int(found) if found in (2.0, 3.0, 4.0) else found


def _binary(t: Any, p: Any) -> Any:
    """-(t log p + (1 - t) log(1 - p)), p clipped."""
    q = ops.clip(p, EPSILON, 1.0 - EPSILON)
    return -(t * ops.log(q) + (1.0 - t) * ops.log(1.0 - q))


def _shares(p: Any) -> Any:
    """p divided by its row's sum, and clipped."""
    return ops.clip(p / ops.sum(p, -1, keepdims=True), EPSILON, 1.0 - EPSILON)


SMOOTHING: Any = {"label_smoothing": within(0.0, 1.0), "axis": an_axis}
FOCAL: Any = {**SMOOTHING, "alpha": within(0.0), "gamma": _exponent}


@objective(broadcasts=False, elementwise=True, **SMOOTHING)
def binary_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: Any = 0.0, axis: int = -1
) -> Any:
    """mean_o of -(t log p + (1 - t) log(1 - p)), p clipped to [1e-7, 1 - 1e-7]; p are logits with ``from_logits``.

    ``label_smoothing`` s replaces t by t (1 - s) + s / 2. Where the clip is active the gradient is zero.
    """
    t = _smoothed(y_true, label_smoothing, 2.0)
    if from_logits:
        z = ops.finite(y_pred)
        return ops.mean(ops.softplus(z) - z * t, -1)
    return ops.mean(_binary(t, y_pred), -1)


class BinaryCrossentropy(Loss, function=binary_crossentropy, aliases=("bce",)):
    """`binary_crossentropy`, as a class."""


@objective(broadcasts=False, elementwise=True, **FOCAL)
def binary_focal_crossentropy(
    y_true: Any, y_pred: Any, apply_class_balancing: bool = False, alpha: Any = 0.25, gamma: Any = 2.0,
    from_logits: bool = False, label_smoothing: Any = 0.0, axis: int = -1,
) -> Any:  # fmt: skip
    """mean_o of the binary cross-entropy times (1 - q)^gamma, q = t p + (1 - t)(1 - p) (Lin et al. 2017).

    With ``apply_class_balancing`` also times alpha for t = 1, 1 - alpha for t = 0. Logits become probabilities first.
    """
    t = _smoothed(y_true, label_smoothing, 2.0)
    p = ops.sigmoid(y_pred) if from_logits else y_pred
    wrong = t * (1.0 - p) + (1.0 - t) * p  # 1 - q, as no difference
    value = ops.power(wrong, gamma) * _binary(t, p)
    if apply_class_balancing:
        value = (t * alpha + (1.0 - t) * (1.0 - alpha)) * value
    return ops.mean(value, -1)


class BinaryFocalCrossentropy(Loss, function=binary_focal_crossentropy):
    """`binary_focal_crossentropy`, as a class."""


@objective(broadcasts=False, **SMOOTHING)
def categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: Any = 0.0, axis: int = -1
) -> Any:
    """-sum_o t log p, with p first divided by its row's sum and clipped to [1e-7, 1 - 1e-7].

    With ``from_logits``, p are logits and log softmax(p) takes the place of log p. ``label_smoothing`` s replaces t by
    t (1 - s) + s / O. Where the clip is active the gradient is zero.
    """
    t = _smoothed(y_true, label_smoothing, _width(y_pred))
    if from_logits:
        return -ops.sum(t * ops.finite(ops.log_softmax(y_pred)), -1)
    return -ops.sum(t * ops.log(_shares(y_pred)), -1)


class CategoricalCrossentropy(Loss, function=categorical_crossentropy):
    """`categorical_crossentropy`, as a class."""


@objective(broadcasts=False, **FOCAL)
def categorical_focal_crossentropy(
    y_true: Any, y_pred: Any, alpha: Any = 0.25, gamma: Any = 2.0, from_logits: bool = False,
    label_smoothing: Any = 0.0, axis: int = -1,
) -> Any:  # fmt: skip
    """-sum_o alpha (1 - p)^gamma t log p, p and t as for `categorical_crossentropy`; logits become a softmax first."""
    t = _smoothed(y_true, label_smoothing, _width(y_pred))
    q = _shares(ops.softmax(y_pred) if from_logits else y_pred)
    return -ops.sum(alpha * ops.power(1.0 - q, gamma) * (t * ops.log(q)), -1)


class CategoricalFocalCrossentropy(Loss, function=categorical_focal_crossentropy):
    """`categorical_focal_crossentropy`, as a class."""


def _class_or_none(name: str, value: Any) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, np.integer))):
        raise ValueError(f"{name} must be a class number, or None; got {value!r}.")
    return None if value is None else int(value)


@objective(sparse=True, broadcasts=False, ignore_class=_class_or_none, axis=an_axis)
def sparse_categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, ignore_class: Any = None, axis: int = -1
) -> Any:
    """Categorical cross-entropy of class numbers: t holds integers in [0, O), one a sample; 0 for ``ignore_class``."""
    if ignore_class is None:
        return categorical_crossentropy(ops.one_hot(y_true), y_pred, from_logits)
    ignored = ops.equal(y_true, ignore_class)
    value = categorical_crossentropy(ops.one_hot(ops.where(ignored, 0.0, y_true)), y_pred, from_logits)
    return ops.where(ignored, 0.0, ops.expand_dims(value, -1))


class SparseCategoricalCrossentropy(
    Loss, function=sparse_categorical_crossentropy,
    order=("from_logits", "ignore_class", "reduction", "axis", "name", "dtype"),
):  # fmt: skip
    """`sparse_categorical_crossentropy`, as a class; means are taken of what is not of ``ignore_class``."""

    ignore_class: int | None

    def counts(self, y_true: object, found: np.ndarray) -> np.ndarray | None:
        """See `Loss`."""
        return None if self.ignore_class is None else np.asarray(y_true).reshape(found.shape) != self.ignore_class

    def beyond_models(self) -> str:
        """See `Loss`."""
        if self.ignore_class is not None:
            return (
                f"A batch's loss is divided by its samples, those of ignore_class={self.ignore_class} too, so no model "
                "is trained with it. Give these samples class 0 and sample_weight 0, or leave them out."
            )
        return super().beyond_models()


@objective(sparse=True, broadcasts=False, q=within(0.0, 1.0, above=True))
def categorical_generalized_cross_entropy(y_true: Any, y_pred: Any, q: Any = 0.5) -> Any:
    """(1 - p_t^q) / q, p_t the probability of the target's class number (Zhang & Sabuncu 2018)."""
    return (1.0 - ops.power(ops.sum(y_pred * ops.one_hot(y_true), -1), q)) / q


class CategoricalGeneralizedCrossEntropy(Loss, function=categorical_generalized_cross_entropy):
    """`categorical_generalized_cross_entropy`, as a class."""
