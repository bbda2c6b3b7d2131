"""Losses of numbers: errors, and the angle between targets and predictions."""

from __future__ import annotations

import math
from typing import Any

from gpumlp import ops
from gpumlp.losses.loss import EPSILON, Loss
from gpumlp.objectives import an_axis, objective, within


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
