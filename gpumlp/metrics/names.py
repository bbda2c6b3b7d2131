"""Which metric is meant: by a name, a class, an object, a function or a config dict, alone and in a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gpumlp import losses
from gpumlp.literals import MetricLike
from gpumlp.losses import Loss
from gpumlp.metrics import accuracies, confusion, correlations, curves, means, of_losses, scores
from gpumlp.metrics.confusion import Confusion
from gpumlp.metrics.means import MeanMetricWrapper
from gpumlp.metrics.metric import Metric, Summed, Sums
from gpumlp.naming import is_function, look_up, of_keras, resolve, snake
from gpumlp.saving import read_by, serialize_keras_object

ACCURACY, CROSSENTROPY = ("accuracy", "acc"), ("crossentropy", "ce")  # which one, the loss and the shapes say


def _known() -> dict[str, type[Metric] | None]:
    """Return Keras's classes by their names; what "accuracy" means in a model, and "crossentropy", it says."""
    found: dict[str, type[Metric] | None] = {**dict.fromkeys((*CROSSENTROPY, *ACCURACY))}
    found |= {name: kind for name, kind in Sums.known.items() if issubclass(kind, Sums)}
    for module in (accuracies, correlations, of_losses, means, confusion, curves, scores):
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, Metric) and kind not in (Metric, Summed, Sums, Confusion):
                if not kind.__name__.startswith("_") and kind not in found.values():
                    found[snake(kind)] = kind
    return found


KNOWN = _known()


def get(
    identifier: MetricLike,
    *,
    loss: Loss | None = None,
    target_width: int | None = None,
    output_width: int | None = None,
    weighted: bool = False,
) -> Metric | None:
    """Return the metric that is meant.

    Its name is its class's, in a model, with a ``loss``, the string given. A loss's name, or a loss, means its mean. In
    a model "accuracy" means binary accuracy for one output, sparse categorical accuracy for labels, categorical
    otherwise, and so does "crossentropy"; alone "accuracy" is `Accuracy`.

    Parameters
    ----------
    identifier : str, Metric, Loss, type, callable, dict or None
        A name in any case, an object or a class, a function, or a config dict.
    loss : Loss, optional
        The model's loss.
    target_width : int, optional
        How many numbers a sample's targets are in the model.
    output_width : int, optional
        How many outputs the model has.
    weighted : bool, default False
        Whether the model's sample weights count.

    Returns
    -------
    Metric or None
        None for None.

    Raises
    ------
    ValueError
        For an unknown name, and for one that depends on a model.
    TypeError
        For anything else, and for a class that needs arguments.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metrics.get("mae")
    MeanAbsoluteError()
    """
    if identifier is None:
        return None
    return for_model(identifier, loss, target_width, output_width, weighted)


def for_model(
    identifier: object,
    loss: Loss | None = None,
    target_width: int | None = None,
    output_width: int | None = None,
    weighted: bool = False,
) -> Metric:
    """Return the metric that `get` means, None being none."""
    if isinstance(identifier, str):
        return _by_name(identifier, loss, target_width, output_width, weighted)
    metric: Metric
    if words := of_keras(identifier):
        raise TypeError(words)
    if isinstance(identifier, Loss):
        if not identifier.averages:
            raise NotImplementedError(
                f"A metric is the mean over all samples; the loss {identifier.name} has "
                f"reduction={identifier.reduction!r}. Leave reduction out of it here."
            )
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
        found = for_model(found)
    alone = loss is None
    return found.changed(weighted=weighted) if alone else found.changed(name=name, weighted=weighted)


def _of_shape(what: str) -> dict[str, type[Metric] | None]:
    """Return which metrics one name means, by their own: for one output, for class numbers, for one-hot targets."""
    return {f"{kind}_{what}": KNOWN[f"{kind}_{what}"] for kind in ("binary", "sparse_categorical", "categorical")}


def serialize(metric: Metric) -> dict[str, object]:
    """Return a config dict of the metric.

    Parameters
    ----------
    metric : Metric
        What it has taken in is not in the dict.

    Returns
    -------
    dict
        With the keys "module", "class_name", "config" and "registered_name".

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metrics.serialize(metrics.MeanSquaredError())["config"]
    {'name': 'mean_squared_error', 'dtype': 'float32'}
    """
    found: dict[str, object] = serialize_keras_object(metric)
    return found


_read = read_by("keras.metrics", get)


def deserialize(config: MetricLike, custom_objects: Mapping[str, object] | None = None) -> Metric | None:
    """Return the metric that a config dict, or a name, describes.

    Parameters
    ----------
    config : dict, str, or what else `get` takes
        As `serialize` has made it.
    custom_objects : Mapping, optional
        Classes and functions of a user's own by name.

    Returns
    -------
    Metric or None
        A new one, with nothing taken in.

    Raises
    ------
    ValueError
        For an unknown name, and for arguments that a class does not take.
    TypeError
        For anything else.

    Examples
    --------
    >>> from gpumlp import metrics
    >>> metrics.deserialize(metrics.serialize(metrics.AUC(curve="PR"))).curve
    'PR'
    """
    found: Metric | None = _read(config, custom_objects)
    return found


def of_host(asked: Iterable[Metric]) -> str:
    """Return why the host computes some of these metrics, in words; "" where it computes none."""
    return "; ".join(metric.why for metric in asked if not metric.series)
