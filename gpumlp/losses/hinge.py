"""Hinge losses, of margins between classes."""

from __future__ import annotations

from typing import Any

from gpumlp import ops
from gpumlp.losses.loss import Loss
from gpumlp.objectives import objective


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
