"""What ``compile`` takes, in whatever form Keras takes it for models of several outputs: here there is one."""

from __future__ import annotations

import numbers
from collections.abc import Iterator, Mapping

from gpumlp import losses, metrics
from gpumlp.losses import Loss

Asked = list[tuple[object, bool]]  # metrics, and whether each is weighted


def only_loss(given: object) -> Loss | None:
    """Return the loss that is meant by a loss, or by a list or dict of one; None for None.

    ValueError for lists and dicts of none or several; what else raises, `losses.for_models` says.
    """
    found = list(given.values()) if isinstance(given, Mapping) and "class_name" not in given else given
    if not isinstance(found, (list, tuple)):
        return None if given is None else losses.for_models(given)
    if len(found) != 1:
        raise ValueError(f"A model has one output, and takes one loss; got {given!r}.")
    return only_loss(found[0])


def check_loss_weights(given: object) -> None:
    """Raise ValueError unless it is None, or 1, or a list or dict of one 1."""
    found = list(given.values()) if isinstance(given, Mapping) else given
    found = found[0] if isinstance(found, (list, tuple)) and len(found) == 1 else found
    if found is not None and not (isinstance(found, numbers.Real) and found == 1):
        raise ValueError(
            f"loss_weights must be 1: a model has one output, whose loss has the weight 1; got {given!r}. For another "
            "weight scale the loss itself: a function of y_true and y_pred that returns 0.5 * "
            "losses.mean_squared_error(y_true, y_pred). (Metrics are given as compile(optimizer, loss, metrics=...).)"
        )


def asked(plain: object, weighted: object, loss: Loss | None) -> Asked:
    """Return the metrics that are meant by ``metrics`` and ``weighted_metrics``, each one, or lists or dicts of such.

    ValueError or TypeError, of `metrics.get`, where one is no metric.
    """
    found = [(metric, False) for metric in _flat(plain)] + [(metric, True) for metric in _flat(weighted)]
    for metric, by_weight in found:
        if loss is not None or not isinstance(metric, str):
            metrics.for_model(metric, loss, 1, 1, by_weight)
    return found


def _flat(given: object) -> Iterator[object]:
    if isinstance(given, Mapping) and "class_name" not in given:
        given = [given[name] for name in sorted(given)]  # in the order of the names, as Keras has it
    if isinstance(given, (list, tuple)):
        for each in given:
            if each is None:
                raise ValueError(f"Expected a metric, such as 'mae'; got None in {given!r}.")
            yield from _flat(each)
    elif given is not None:
        yield given
