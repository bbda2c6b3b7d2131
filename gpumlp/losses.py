"""Losses, each a function of a sample's targets and predictions, and a class with Keras's arguments.

A loss is a value per sample (a mean over the outputs, except for the categorical ones); the batch's loss is
sum(value * sample_weight) / B, as in Keras's ``sum_over_batch_size``: the divisor is B, not the sum of the weights.
Functions and classes take arrays of any shape, too, and go over their last axis. A new one is a function and a class
below; a user's own is a function of `gpumlp.ops`, or a class with a method ``call``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from gpumlp import config, formulas, ops
from gpumlp.attributes import once, refuse_overrides
from gpumlp.expressions import Node
from gpumlp.naming import OWN, is_function, resolve
from gpumlp.objectives import Described, common_shape, objective, same_rank, values, within

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
        found = values(self.rule, self.constants, y_true, y_pred, self.dtype)
        with np.errstate(all="ignore"):
            return _reduced(found, sample_weight, self.reduction)

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


def _reduced(values: np.ndarray, sample_weight: object, reduction: str | None) -> Any:
    """Return the values times their weights, reduced; a number or an empty vector as it is, as in Keras."""
    divisor: Any = None
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
@objective()
def mean_squared_error(y_true: Any, y_pred: Any) -> Any:
    """mean_o (p - t)^2."""
    return ops.mean(ops.square(y_pred - y_true), -1)


class MeanSquaredError(Loss, function=mean_squared_error, aliases=("mse",)):
    """`mean_squared_error`, as a class."""


@objective()
def mean_absolute_error(y_true: Any, y_pred: Any) -> Any:
    """mean_o |p - t|, with gradient 0 where p = t."""
    return ops.mean(ops.absolute(y_pred - y_true), -1)


class MeanAbsoluteError(Loss, function=mean_absolute_error, aliases=("mae",)):
    """`mean_absolute_error`, as a class."""


@objective(delta=within(0.0, above=True))
def huber(y_true: Any, y_pred: Any, delta: Any = 1.0) -> Any:
    """mean_o of e^2 / 2 for |e| <= delta, delta |e| - delta^2 / 2 beyond (Huber 1964)."""
    error = y_pred - y_true
    size = ops.absolute(error)
    return ops.mean(ops.where(size < delta, 0.5 * ops.square(error), delta * (size - 0.5 * delta)), -1)


class Huber(Loss, function=huber):
    """`huber`, as a class."""


# ---- cross-entropies -------------------------------------------------------------------------------------------------
def _finite(z: Any) -> Any:
    """z, its infinities as the largest numbers: no difference is NaN, and no product with a target of 0."""
    most = z.table.leaf("most", 0)
    return ops.bounded(z, -most, most)


def _width(p: Any) -> Any:
    """How many outputs there are."""
    return p.table.leaf("width", 0)


@objective(broadcasts=False, label_smoothing=within(0.0, 1.0))
def binary_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: Any = 0.0, axis: int = -1
) -> Any:
    """mean_o of -(t log p + (1 - t) log(1 - p)), p clipped to [1e-7, 1 - 1e-7]; p are logits with ``from_logits``.

    ``label_smoothing`` s replaces t by t (1 - s) + s / 2. Where the clip is active the gradient is zero.
    """
    t = y_true * (1.0 - label_smoothing) + 0.5 * label_smoothing
    if from_logits:
        z = _finite(y_pred)
        return ops.mean(ops.softplus(z) - z * t, -1)
    q = ops.clip(y_pred, EPSILON, 1.0 - EPSILON)
    return -ops.mean(t * ops.log(q) + (1.0 - t) * ops.log(1.0 - q), -1)


class BinaryCrossentropy(Loss, function=binary_crossentropy, aliases=("bce",)):
    """`binary_crossentropy`, as a class."""


@objective(broadcasts=False, label_smoothing=within(0.0, 1.0))
def categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: Any = 0.0, axis: int = -1
) -> Any:
    """-sum_o t log p, with p first divided by its row's sum and clipped to [1e-7, 1 - 1e-7].

    With ``from_logits``, p are logits and log softmax(p) takes the place of log p. ``label_smoothing`` s replaces t by
    t (1 - s) + s / O. Where the clip is active the gradient is zero.
    """
    t = y_true * (1.0 - label_smoothing) + label_smoothing / _width(y_pred)
    if from_logits:
        return -ops.sum(t * _finite(ops.log_softmax(y_pred)), -1)
    q = y_pred / ops.sum(y_pred, -1, keepdims=True)
    return -ops.sum(t * ops.log(ops.clip(q, EPSILON, 1.0 - EPSILON)), -1)


class CategoricalCrossentropy(Loss, function=categorical_crossentropy):
    """`categorical_crossentropy`, as a class."""


@objective(sparse=True, broadcasts=False)
def sparse_categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, ignore_class: int | None = None, axis: int = -1
) -> Any:
    """Categorical cross-entropy of class numbers: t holds integers in [0, O), one a sample."""
    return categorical_crossentropy(ops.one_hot(y_true), y_pred, from_logits)


class SparseCategoricalCrossentropy(
    Loss, function=sparse_categorical_crossentropy,
    order=("from_logits", "ignore_class", "reduction", "axis", "name", "dtype"),
):  # fmt: skip
    """`sparse_categorical_crossentropy`, as a class."""


# ---- names -----------------------------------------------------------------------------------------------------------
KNOWN = Loss.known


def get(identifier: object) -> Loss:
    """Return the loss that a model can be trained on.

    ``identifier`` is a name, a class, an instance, a config dict, or a user's own function of (y_true, y_pred), written
    with `gpumlp.ops`, or an instance of a class of Loss with such a method ``call``. One of the package's has the name
    that the kernels know it by, whatever it was called.

    Raises
    ------
    ValueError
        For an unknown name.
    TypeError
        For anything else, and for a function that is not made of gpumlp.ops.
    NotImplementedError
        For a reduction other than the mean over the batch.
    """
    loss: Any
    if is_function(identifier, Loss):
        kind = getattr(identifier, "kind", {}).get(Loss)
        loss = _Function(identifier) if kind is None else kind()
    else:
        loss = resolve("loss", identifier, KNOWN, Loss, OWN)
    refuse_overrides(type(loss), ("__call__", *(() if loss.own else ("call",))))
    if loss.reduction not in (MEAN, "mean"):
        raise NotImplementedError(
            f"A model is trained on the mean over the batch; {loss.name} has reduction={loss.reduction!r}. "
            f"Leave it at {MEAN!r} in compile; called on arrays, a loss has all of Keras's."
        )
    if not loss.own:
        return loss if loss.name == loss.default_name else loss.changed(name=loss.default_name)
    formulas.traceable(lambda rows: loss.changed(rows=rows).formula)
    return loss
