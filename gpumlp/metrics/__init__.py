"""Metrics: what is reported of a model's predictions; each is sums over samples and a result of these.

`metric` has what they are, `means` what is averaged, `confusion` what is counted at thresholds, `scores` what weighs
outputs or classes against each other. A user's own is a function of `gpumlp.ops` or of NumPy, or a class of `Metric`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from gpumlp import losses
from gpumlp.losses import Loss
from gpumlp.metrics import confusion, means, scores
from gpumlp.metrics.confusion import (
    AUC,
    Confusion,
    FalseNegatives,
    FalsePositives,
    Precision,
    PrecisionAtRecall,
    Recall,
    RecallAtPrecision,
    SensitivityAtSpecificity,
    SpecificityAtSensitivity,
    TrueNegatives,
    TruePositives,
)
from gpumlp.metrics.means import (
    Accuracy,
    BinaryAccuracy,
    CategoricalAccuracy,
    ConcordanceCorrelation,
    CosineSimilarity,
    Mean,
    MeanMetricWrapper,
    PearsonCorrelation,
    RootMeanSquaredError,
    SparseCategoricalAccuracy,
    SparseTopKCategoricalAccuracy,
    Sum,
    TopKCategoricalAccuracy,
    binary_accuracy,
    categorical_accuracy,
    concordance_correlation,
    pearson_correlation,
    sparse_categorical_accuracy,
    sparse_top_k_categorical_accuracy,
    top_k_categorical_accuracy,
)
from gpumlp.metrics.metric import Metric, Summed, Sums, Variable
from gpumlp.metrics.scores import (
    BinaryIoU,
    F1Score,
    FBetaScore,
    IoU,
    MeanIoU,
    OneHotIoU,
    OneHotMeanIoU,
    R2Score,
)
from gpumlp.naming import is_function, look_up, of_keras, resolve, snake
from gpumlp.saving import read_by, serialize_keras_object

__all__ = [
    "AUC",
    "Accuracy",
    "BinaryAccuracy",
    "BinaryIoU",
    "CategoricalAccuracy",
    "ConcordanceCorrelation",
    "CosineSimilarity",
    "F1Score",
    "FBetaScore",
    "FalseNegatives",
    "FalsePositives",
    "IoU",
    "Mean",
    "MeanIoU",
    "MeanMetricWrapper",
    "Metric",
    "OneHotIoU",
    "OneHotMeanIoU",
    "PearsonCorrelation",
    "Precision",
    "PrecisionAtRecall",
    "R2Score",
    "Recall",
    "RecallAtPrecision",
    "RootMeanSquaredError",
    "SensitivityAtSpecificity",
    "SparseCategoricalAccuracy",
    "SparseTopKCategoricalAccuracy",
    "SpecificityAtSensitivity",
    "Sum",
    "TopKCategoricalAccuracy",
    "TrueNegatives",
    "TruePositives",
    "Variable",
    "binary_accuracy",
    "categorical_accuracy",
    "concordance_correlation",
    "deserialize",
    "get",
    "pearson_correlation",
    "serialize",
    "sparse_categorical_accuracy",
    "sparse_top_k_categorical_accuracy",
    "top_k_categorical_accuracy",
]

ACCURACY, CROSSENTROPY = ("accuracy", "acc"), ("crossentropy", "ce")  # which one, the loss and the shapes say


def _known() -> dict[str, Any]:
    """Return Keras's classes by their names; what "accuracy" means in a model, and "crossentropy", it says."""
    found: dict[str, Any] = {**dict.fromkeys((*CROSSENTROPY, *ACCURACY)), **Sums.known}
    for module in (means, confusion, scores):
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, Metric) and kind not in (Metric, Summed, Sums, Confusion):
                if not kind.__name__.startswith("_") and kind not in found.values():
                    found[snake(kind)] = kind
    return found


KNOWN = _known()


def get(
    identifier: object,
    *,
    loss: Loss | None = None,
    target_width: int | None = None,
    output_width: int | None = None,
    weighted: bool = False,
) -> Any:
    """Return the metric for a name, a class, an instance, a config dict or a user's function; None for None.

    Its name is its class's, in a model, with a ``loss``, the string given. A loss's name, or a loss, means its mean. In
    a model "accuracy" means binary accuracy for one output, sparse categorical accuracy for labels, categorical
    otherwise, and so does "crossentropy"; alone "accuracy" is `Accuracy`.

    Raises
    ------
    ValueError
        For an unknown name, and for one that depends on a model.
    TypeError
        For anything else, and for a class that needs arguments.
    """
    if identifier is None:
        return None
    if isinstance(identifier, str):
        return _by_name(identifier, loss, target_width, output_width, weighted)
    metric: Metric
    if words := of_keras(identifier):
        raise TypeError(words)
    if isinstance(identifier, Loss):
        metric = MeanMetricWrapper(identifier, identifier.name)
    elif is_function(identifier, Metric):
        kind = getattr(identifier, "kind", {}).get(Sums)
        name = getattr(identifier, "__name__", type(identifier).__name__)
        metric = MeanMetricWrapper(identifier, name) if kind is None else kind()
    else:
        metric = resolve("metric", identifier, KNOWN, Metric)
    return metric.changed(weighted=weighted)


def _by_name(name: str, loss: Loss | None, given: int | None, width: int | None, weighted: bool) -> Metric:
    found = look_up("metric", name, {**losses.KNOWN, **KNOWN})
    kinds = {"accuracy": "accuracy", "acc": "accuracy", "crossentropy": "crossentropy", "ce": "crossentropy"}
    if (what := kinds.get(name.lower())) is not None and (found is None or loss is not None):
        if loss is None:
            raise ValueError(f"What {name!r} means depends on a model; name one of {', '.join(_of_shape(what))}.")
        binary, sparse, categorical = _of_shape(what).values()
        found = binary if width == 1 else sparse if loss.sparse or given == 1 else categorical
    if isinstance(found, type) and issubclass(found, Loss):
        return MeanMetricWrapper(found.function or found(), snake(found) if loss is None else name).changed(
            weighted=weighted
        )
    if isinstance(found, type):
        try:
            found = found()
        except TypeError as error:
            raise TypeError(f"The metric {name!r} needs arguments, and a name alone has none: {error}") from None
    elif not isinstance(found, Metric):  # a function that a user has given this name
        found = get(found)
    alone = loss is None
    return found.changed(weighted=weighted) if alone else found.changed(name=name, weighted=weighted)


def _of_shape(what: str) -> dict[str, type[Sums]]:
    """Return which metrics one name means, by their own: for one output, for class numbers, for one-hot targets."""
    return {f"{kind}_{what}": KNOWN[f"{kind}_{what}"] for kind in ("binary", "sparse_categorical", "categorical")}


def serialize(metric: Metric) -> Any:
    """Return a config dict of the metric."""
    return serialize_keras_object(metric)


deserialize = read_by("keras.metrics", get)


globals().update(means.FROM_LOSSES)
globals().update({k.function.__name__: k.function for k in losses.KNOWN.values() if getattr(k, "function", None)})
if TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Return a class, or a function, of a loss."""


def of_host(asked: Iterable[Metric]) -> str:
    """Return why the host computes some of these metrics, in words; "" where it computes none."""
    return "; ".join(metric.why for metric in asked if not metric.series)
