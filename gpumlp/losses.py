"""Losses, each a function of a sample's targets and predictions, and a class with Keras's arguments.

A loss is a value per sample (a mean over the outputs, except for the categorical ones); the batch's loss is
sum(value * sample_weight) / B, as in Keras's ``sum_over_batch_size``: the divisor is B, not the sum of the weights.
Functions and classes take arrays of any shape, too, and go over their last axis. A new one is a function and a class
below; a user's own is a function of `gpumlp.ops`, or a class with a method ``call``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from gpumlp import config, formulas, ops
from gpumlp.attributes import once, refuse_overrides
from gpumlp.expressions import Node
from gpumlp.naming import flag, is_function, number, own, resolve
from gpumlp.objectives import Described, an_axis, common_shape, objective, same_rank, some_axes, values, within
from gpumlp.saving import read_by, serialize_keras_object

EPSILON = 1e-7  # Keras's fuzz factor: probabilities are clipped to [EPSILON, 1 - EPSILON] before the logarithm
MEAN = "sum_over_batch_size"
REDUCTIONS = (MEAN, "mean", "sum", "mean_with_sample_weight", "none", None)


class Loss(Described, order=("name", "reduction", "dtype")):
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

    known: ClassVar[dict[str, Any]] = {}
    own_arguments: ClassVar = {"reduction": MEAN, "name": None, "dtype": None}
    reduction: str | None
    dtype: str | None

    def _looked_at(self, arguments: dict[str, Any]) -> dict[str, Any]:
        reduction = arguments["reduction"]
        if not any(reduction is r or (isinstance(reduction, str) and reduction == r) for r in REDUCTIONS):
            expected = ", ".join(map(repr, REDUCTIONS))
            raise ValueError(f"Invalid value for argument `reduction`: expected {expected}; got {reduction!r}.")
        arguments["name"] = type(self).__name__ if arguments["name"] is None else arguments["name"]
        if not isinstance(arguments["name"], str):
            raise ValueError(f"name must be a string; got {arguments['name']!r}.")
        if arguments["dtype"] is not None:
            config.float_type(arguments["dtype"])
        return arguments

    def __call__(self, y_true: object, y_pred: object, sample_weight: object = None) -> Any:
        """Return the loss of arrays of any shape, each a list or a number too, as Keras's objects do.

        Of a formula's symbols it is the value of each sample. The last axis has a sample's outputs, so there is a value
        for each place of the others; these are multiplied by ``sample_weight`` and reduced. Where two arrays differ by
        one axis, a last axis of size 1 comes or goes.

        Returns
        -------
        A NumPy number, or an array with reduction None.

        Raises
        ------
        ValueError, TypeError
            If the shapes do not go together, or the values are no numbers.
        """
        if isinstance(y_true, Node) or isinstance(y_pred, Node):  # part of a formula of a user's own
            return self.rule(y_true, y_pred, **self.constants)
        with np.errstate(all="ignore"):
            found = self.of_samples(y_true, y_pred)
            return _reduced(found, sample_weight, self.reduction, self.counts(y_true, found))

    def of_samples(self, y_true: object, y_pred: object) -> np.ndarray:
        """Return the values of arrays, as yet without weights; a user's own formula has them in any shape."""
        if not self.own:
            return values(self.rule, self.constants, y_true, y_pred, self.dtype)
        p = config.floats("y_pred", y_pred, self.dtype)
        t, p = same_rank(config.floats("y_true", y_true, p.dtype), p)
        if t.ndim != p.ndim:
            raise ValueError(f"{self.name}: the shapes do not go together: y_true {t.shape}, y_pred {p.shape}.")
        return np.asarray(self.rule(t, p), p.dtype)

    def counts(self, y_true: object, found: np.ndarray) -> np.ndarray | None:
        """Return which of the values a mean is taken of; None: of all."""
        return None

    def beyond_models(self) -> str:
        """Return why no model is trained on it, and what to do; nothing where one is."""
        if self.reduction not in (MEAN, "mean"):
            return (
                f"A model is trained on the mean over the batch; {self.name} has reduction={self.reduction!r}. Leave "
                f"it at {MEAN!r} in compile; called on arrays, a loss has all of Keras's."
            )
        if (axis := getattr(self, "axis", -1)) not in (-1, 1):
            return (
                f"A model is trained on a value for each sample, over its outputs; {self.name} has axis={axis!r}, "
                "which arrays may have. Give axis=-1."
            )
        return ""

    @once
    def formula(self) -> formulas.Formula:
        """What kernels are made of."""
        return formulas.loss(self.rule, self.constants, self.sparse or self.rows)


class _Function(Loss):
    """A loss that is a user's function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(name=getattr(function, "__name__", type(function).__name__))
        self.__dict__["function"] = function

    @property
    def own(self) -> bool:
        return True


def _reduced(values: np.ndarray, sample_weight: object, reduction: str | None, counts: np.ndarray | None = None) -> Any:
    """Return the values times their weights, reduced; a number or an empty vector as it is, as in Keras."""
    divisor: Any = None
    if counts is not None:
        own = counts.astype(values.dtype)
        if reduction in (MEAN, "mean"):
            own *= values.dtype.type(counts.size / max(counts.sum(), 1))
        if sample_weight is not None:
            given, own = same_rank(config.floats("sample_weight", sample_weight, values.dtype), own)
            own = own * given
        sample_weight = own
    if sample_weight is not None:
        weights = config.floats("sample_weight", sample_weight, values.dtype)
        values, weights = same_rank(values, weights)
        common_shape("sample_weight must have one weight per value", values=values, sample_weight=weights)
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


# ---- regression ------------------------------------------------------------------------------------------------------
@objective(elementwise=True)
def mean_squared_error(y_true: Any, y_pred: Any) -> Any:
    """mean_o (p - t)^2."""
    return ops.mean(ops.square(y_pred - y_true), -1)


class MeanSquaredError(Loss, function=mean_squared_error, aliases=("mse",)):
    """`mean_squared_error`, as a class."""


@objective(elementwise=True)
def mean_absolute_error(y_true: Any, y_pred: Any) -> Any:
    """mean_o |p - t|, with gradient 0 where p = t."""
    return ops.mean(ops.absolute(y_pred - y_true), -1)


class MeanAbsoluteError(Loss, function=mean_absolute_error, aliases=("mae",)):
    """`mean_absolute_error`, as a class."""


@objective(delta=within(0.0, above=True), elementwise=True)
def huber(y_true: Any, y_pred: Any, delta: Any = 1.0) -> Any:
    """mean_o of e^2 / 2 for |e| <= delta, delta |e| - delta^2 / 2 beyond (Huber 1964)."""
    error = y_pred - y_true
    size = ops.absolute(error)
    return ops.mean(ops.where(size < delta, 0.5 * ops.square(error), delta * (size - 0.5 * delta)), -1)


class Huber(Loss, function=huber):
    """`huber`, as a class."""


@objective(elementwise=True)
def mean_absolute_percentage_error(y_true: Any, y_pred: Any) -> Any:
    """100 mean_o |p - t| / max(|t|, 1e-7)."""
    return 100.0 * ops.mean(ops.absolute((y_true - y_pred) / ops.maximum(ops.absolute(y_true), EPSILON)), -1)


class MeanAbsolutePercentageError(Loss, function=mean_absolute_percentage_error, aliases=("mape",)):
    """`mean_absolute_percentage_error`, as a class."""


@objective(elementwise=True)
def mean_squared_logarithmic_error(y_true: Any, y_pred: Any) -> Any:
    """mean_o (log(1 + p) - log(1 + t))^2, p and t at least 1e-7."""
    p, t = (ops.log1p(ops.maximum(ops.finite(v), EPSILON)) for v in (y_pred, y_true))
    return ops.mean(ops.square(p - t), -1)


class MeanSquaredLogarithmicError(Loss, function=mean_squared_logarithmic_error, aliases=("msle",)):
    """`mean_squared_logarithmic_error`, as a class."""


@objective(elementwise=True)
def log_cosh(y_true: Any, y_pred: Any) -> Any:
    """mean_o log(cosh(p - t))."""
    size = ops.absolute(y_pred - y_true)
    return ops.mean(size + ops.softplus(-2.0 * size) - math.log(2.0), -1)


class LogCosh(Loss, function=log_cosh, aliases=("logcosh",)):
    """`log_cosh`, as a class."""


def _unit(x: Any) -> Any:
    """x / max(|x|, 1e-7) of each row: by way of x / max_o |x_o|, whose squares neither overflow nor vanish."""
    x = ops.finite(x)
    largest = ops.maximum(ops.stop_gradient(ops.max(ops.absolute(x), -1, keepdims=True)), EPSILON)
    x = x / largest
    squares = ops.sum(ops.square(x), -1, keepdims=True)
    return x / ops.sqrt(ops.maximum(squares, ops.square(EPSILON / largest)))


@objective(axis=an_axis)
def cosine_similarity(y_true: Any, y_pred: Any, axis: int = -1) -> Any:
    """-sum_o t p, t and p first made of length 1: -1 for the same direction."""
    return -ops.sum(_unit(y_true) * _unit(y_pred), -1)


class CosineSimilarity(Loss, function=cosine_similarity):
    """`cosine_similarity`, as a class."""


# ---- hinges ----------------------------------------------------------------------------------------------------------
def _margin(y_true: Any, y_pred: Any) -> Any:
    """max(1 - t p, 0); a target of 0 is -1, so that targets may be 0 and 1 as well."""
    return ops.maximum(1.0 - ops.where(ops.equal(y_true, 0.0), -1.0, y_true) * y_pred, 0.0)


@objective(elementwise=True)
def hinge(y_true: Any, y_pred: Any) -> Any:
    """mean_o max(1 - t p, 0), t -1 and 1, or 0 and 1."""
    return ops.mean(_margin(y_true, y_pred), -1)


class Hinge(Loss, function=hinge):
    """`hinge`, as a class."""


@objective(elementwise=True)
def squared_hinge(y_true: Any, y_pred: Any) -> Any:
    """mean_o max(1 - t p, 0)^2, t -1 and 1, or 0 and 1."""
    return ops.mean(ops.square(_margin(y_true, y_pred)), -1)


class SquaredHinge(Loss, function=squared_hinge):
    """`squared_hinge`, as a class."""


@objective()
def categorical_hinge(y_true: Any, y_pred: Any) -> Any:
    """max(1 + max_o (1 - t) p - sum_o t p, 0), t one-hot."""
    p = ops.finite(y_pred)
    return ops.maximum(ops.max((1.0 - y_true) * p, -1) - ops.sum(y_true * p, -1) + 1.0, 0.0)


class CategoricalHinge(Loss, function=categorical_hinge):
    """`categorical_hinge`, as a class."""


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


# ---- of overlaps and pairs -------------------------------------------------------------------------------------------
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


# ---- names -----------------------------------------------------------------------------------------------------------
KNOWN = Loss.known


def get(identifier: object) -> Any:
    """Return the loss, or the function, meant by a name, a class, an instance, a config dict, or a function.

    As in Keras the name of a class means an object of it, which gives one number of a batch, and "mse" or
    "mean_squared_error" the function, which gives one of each sample. None for None.

    Raises
    ------
    ValueError
        For an unknown name.
    TypeError
        For anything else.
    """
    found: Any = None if identifier is None else resolve("loss", identifier, KNOWN, Loss, callables=True)
    of_function = isinstance(identifier, Mapping) and identifier.get("class_name") == "function"
    named: Any = identifier["config"] if of_function else identifier  # type: ignore[index]
    if not isinstance(named, str) or own(named) is not None or named == type(found).__name__:
        return found
    return circle if isinstance(found, Circle) else found.function


def described(identifier: object) -> Any:
    """Return the Loss that `get` means, a function as one too: of (y_true, y_pred), by `gpumlp.ops`; None for None."""
    found: Any = None if identifier is None else resolve("loss", identifier, KNOWN, Loss, callables=True)
    if not is_function(found, Loss):
        return found
    kind = getattr(found, "kind", {}).get(Loss, Circle if found is circle else None)
    return _Function(found) if kind is None else kind()


def for_models(identifier: object) -> Loss:
    """Return the loss that a model is trained on: `described`, and one of the package's by the name that it has there.

    Raises
    ------
    TypeError
        For a function that is not made of gpumlp.ops.
    NotImplementedError
        For what is no mean over the batch of a value of each sample.
    """
    loss: Loss = described(identifier)
    refuse_overrides(type(loss), ("__call__", *(() if loss.own else ("call",))))
    if why := loss.beyond_models():
        raise NotImplementedError(why)
    if not loss.own:
        return loss if loss.name == loss.default_name else loss.changed(name=loss.default_name)
    formulas.traceable(lambda rows: loss.changed(rows=rows).formula)
    return loss


def serialize(loss: Any) -> Any:
    """Return a loss as `get` takes it: a dict, or for a function of a user's own what it is registered by."""
    return serialize_keras_object(loss.function if isinstance(loss, _Function) else loss)


deserialize = read_by("keras.losses", get)
