"""What losses are: values of samples, by a formula, their weights, and what becomes of a batch of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from gpumlp import config, formulas
from gpumlp.attributes import once
from gpumlp.expressions import Node
from gpumlp.objectives import Described, common_shape, same_rank, values

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
