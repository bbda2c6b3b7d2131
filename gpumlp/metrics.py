"""Metrics, each a function of a sample's targets and predictions, of which a model gives the mean, and a class.

A new one is a function and a class below; a user's own is a function of `gpumlp.ops`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from gpumlp import config, formulas, ops
from gpumlp.attributes import once, refuse_overrides
from gpumlp.losses import Loss, mean_absolute_error, mean_squared_error
from gpumlp.naming import flag, is_function, look_up, resolve
from gpumlp.objectives import Described, objective

ACCURACY = ("accuracy", "acc")  # which one, the loss and the shapes say


class Metric(Described):
    """An average over samples.

    Parameters
    ----------
    name : str, optional
        In the history; the class's own when None.
    dtype : {"float32", "float64"}, optional
        Without effect: a metric is computed in the model's type.
    weighted : bool
        Whether the sample weights count; ``compile`` says so.
    """

    known: ClassVar[dict[str, Any]] = dict.fromkeys(ACCURACY)
    own_arguments: ClassVar = {"name": None, "dtype": None, "weighted": False}
    keyword_only: ClassVar = ("weighted",)
    constants_last: ClassVar = True
    dtype: str | None
    weighted: bool

    def _looked_at(self, arguments: dict[str, Any]) -> dict[str, Any]:
        config.float_type(arguments["dtype"])
        name = arguments["name"]
        if not isinstance(name, (str, type(None))):
            raise ValueError(f"name must be a string; got {name!r}.")
        named = name or self.default_name or type(self).__name__
        return arguments | {"name": named, "weighted": flag("weighted", arguments["weighted"])}

    @once
    def formula(self) -> formulas.Formula:
        """What kernels are made of."""
        return formulas.metric(self.rule, self.constants, self.sparse or self.rows)


class _Function(Metric):
    """A metric that is a user's function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(name=getattr(function, "__name__", type(function).__name__))
        self.__dict__["function"] = function

    @property
    def own(self) -> bool:
        return True


class MeanSquaredError(Metric, function=mean_squared_error, aliases=("mse",)):
    """`mean_squared_error`, as a class."""


class MeanAbsoluteError(Metric, function=mean_absolute_error, aliases=("mae",)):
    """`mean_absolute_error`, as a class."""


@objective()
def binary_accuracy(y_true: Any, y_pred: Any, threshold: Any = 0.5) -> Any:
    """The share of outputs on the target's side of ``threshold``."""
    return ops.mean(ops.equal(y_pred > threshold, y_true), -1)


class BinaryAccuracy(Metric, function=binary_accuracy):
    """`binary_accuracy`, as a class."""


@objective()
def categorical_accuracy(y_true: Any, y_pred: Any) -> Any:
    """Whether the largest output is the target's class, t one-hot."""
    return ops.equal(ops.argmax(y_pred, -1), ops.argmax(y_true, -1))


class CategoricalAccuracy(Metric, function=categorical_accuracy):
    """`categorical_accuracy`, as a class."""


@objective(sparse=True)
def sparse_categorical_accuracy(y_true: Any, y_pred: Any) -> Any:
    """Whether the largest output is the target's class, t a class number."""
    return ops.equal(ops.argmax(y_pred, -1, keepdims=True), y_true)


class SparseCategoricalAccuracy(Metric, function=sparse_categorical_accuracy):
    """`sparse_categorical_accuracy`, as a class."""


KNOWN = Metric.known


def get(
    identifier: object,
    *,
    loss: Loss | None = None,
    target_width: int | None = None,
    output_width: int | None = None,
    weighted: bool = False,
) -> Any:
    """Return the metric for a name, a class, an instance, a config dict or a user's function; None for None.

    Its name in the history is the string given. "accuracy" means binary accuracy for one output, sparse categorical
    accuracy for labels, categorical otherwise: with a model's loss and widths, else it is a ValueError.
    """
    if identifier is None:
        return None
    if not isinstance(identifier, str):
        metric: Metric
        if is_function(identifier, Metric):
            kind = getattr(identifier, "kind", {}).get(Metric)
            metric = _Function(identifier) if kind is None else kind()
        else:
            metric = resolve("metric", identifier, KNOWN, Metric)
        refuse_overrides(type(metric), ("update_state", "result", "reset_state", *(() if metric.own else ("call",))))
        metric = metric.changed(weighted=weighted)
        if metric.own:
            formulas.traceable(lambda rows: metric.changed(rows=rows).formula)
        return metric
    found = look_up("metric", identifier, KNOWN)
    if found is None:
        if loss is None:
            raise ValueError(f"What {identifier!r} means depends on a model; name one of {', '.join(_ACCURACIES)}.")
        found = _ACCURACIES[
            "binary_accuracy" if output_width == 1
            else "sparse_categorical_accuracy" if loss.sparse or target_width == 1
            else "categorical_accuracy"
        ]  # fmt: skip
    return found(identifier, weighted=weighted)


_ACCURACIES = {name: kind for name, kind in KNOWN.items() if kind is not None and "_accuracy" in name}
