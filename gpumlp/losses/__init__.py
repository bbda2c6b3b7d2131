"""Losses, each a function of a sample's targets and predictions, and a class with Keras's arguments.

A loss is a value per sample (a mean over the outputs, except for the categorical ones); the batch's loss is
sum(value * sample_weight) / B, as in Keras's ``sum_over_batch_size``: the divisor is B, not the sum of the weights.
Functions and classes take arrays of any shape, too, and go over their last axis. A new one is a function and a class
below; a user's own is a function of `gpumlp.ops`, or a class with a method ``call``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpumlp import formulas
from gpumlp.attributes import refuse_overrides
from gpumlp.losses.hinge import (
    CategoricalHinge,
    Hinge,
    SquaredHinge,
    categorical_hinge,
    hinge,
    squared_hinge,
)
from gpumlp.losses.loss import Loss, _Function
from gpumlp.losses.overlaps import (
    Circle,
    Dice,
    Tversky,
    circle,
    dice,
    tversky,
)
from gpumlp.losses.probabilistic import (
    BinaryCrossentropy,
    BinaryFocalCrossentropy,
    CategoricalCrossentropy,
    CategoricalFocalCrossentropy,
    CategoricalGeneralizedCrossEntropy,
    KLDivergence,
    Poisson,
    SparseCategoricalCrossentropy,
    binary_crossentropy,
    binary_focal_crossentropy,
    categorical_crossentropy,
    categorical_focal_crossentropy,
    categorical_generalized_cross_entropy,
    kl_divergence,
    poisson,
    sparse_categorical_crossentropy,
)
from gpumlp.losses.regression import (
    CosineSimilarity,
    Huber,
    LogCosh,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    cosine_similarity,
    huber,
    log_cosh,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    mean_squared_logarithmic_error,
)
from gpumlp.naming import is_function, own, resolve
from gpumlp.saving import read_by, serialize_keras_object

__all__ = [
    "BinaryCrossentropy",
    "BinaryFocalCrossentropy",
    "CategoricalCrossentropy",
    "CategoricalFocalCrossentropy",
    "CategoricalGeneralizedCrossEntropy",
    "CategoricalHinge",
    "Circle",
    "CosineSimilarity",
    "Dice",
    "Hinge",
    "Huber",
    "KLDivergence",
    "LogCosh",
    "Loss",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Poisson",
    "SparseCategoricalCrossentropy",
    "SquaredHinge",
    "Tversky",
    "binary_crossentropy",
    "binary_focal_crossentropy",
    "categorical_crossentropy",
    "categorical_focal_crossentropy",
    "categorical_generalized_cross_entropy",
    "categorical_hinge",
    "circle",
    "cosine_similarity",
    "deserialize",
    "dice",
    "get",
    "hinge",
    "huber",
    "kl_divergence",
    "log_cosh",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_logarithmic_error",
    "poisson",
    "serialize",
    "sparse_categorical_crossentropy",
    "squared_hinge",
    "tversky",
]

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
