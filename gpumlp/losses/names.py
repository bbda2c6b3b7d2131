"""Which loss is meant: by a name, a class, an object, a function or a config dict, alone and in a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gpumlp import formulas
from gpumlp.attributes import refuse_overrides
from gpumlp.literals import LossLike
from gpumlp.losses.loss import Loss, _Function
from gpumlp.losses.overlaps import Circle, circle
from gpumlp.naming import own, resolve
from gpumlp.objectives import Values
from gpumlp.saving import read_by, serialize_keras_object

KNOWN = Loss.known


def get(identifier: LossLike) -> Loss | Callable[..., Values] | None:
    """Return the loss, or the function, that is meant.

    As in Keras the name of a class means an object of it, which gives one number of a batch, and "mse" or
    "mean_squared_error" the function, which gives one of each sample.

    Parameters
    ----------
    identifier : str, Loss, type, callable, dict or None
        A name in any case, an object or a class, a function, or a config dict.

    Returns
    -------
    Loss, callable or None
        None for None.

    Raises
    ------
    ValueError
        For an unknown name.
    TypeError
        For anything else.

    Examples
    --------
    >>> from gpumlp import losses
    >>> losses.get("Huber")
    Huber(delta=1.0)
    >>> losses.get("mse") is losses.mean_squared_error
    True
    """
    found = _found(identifier)
    of_function = isinstance(identifier, Mapping) and identifier.get("class_name") == "function"
    named: object = identifier["config"] if of_function else identifier  # type: ignore[index]
    if not isinstance(named, str) or own(named) is not None or named == type(found).__name__:
        return found
    return circle if isinstance(found, Circle) else getattr(found, "function", None)


def _found(identifier: object) -> Loss | Callable[..., Values] | None:
    return None if identifier is None else resolve("loss", identifier, KNOWN, Loss, callables=True)


def described(identifier: object) -> Loss | None:
    """Return the Loss that `get` means, a function as one too: of (y_true, y_pred), by `gpumlp.ops`; None for None."""
    found = _found(identifier)
    if found is None or isinstance(found, Loss):
        return found
    kind: type[Loss] | None = getattr(found, "kind", {}).get(Loss, Circle if found is circle else None)
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
    loss = described(identifier)
    if loss is None:
        raise TypeError("A model is trained on a loss; got None.")
    refuse_overrides(type(loss), ("__call__", *(() if loss.own else ("call",))))
    if why := loss.beyond_models():
        raise NotImplementedError(why)
    if not loss.own:
        return loss if loss.name == loss.default_name else loss.changed(name=loss.default_name)
    formulas.traceable(lambda rows: loss.changed(rows=rows).formula)
    return loss


def serialize(loss: Loss | Callable[..., Values]) -> dict[str, object]:
    """Return a loss as `get` takes it.

    Parameters
    ----------
    loss : Loss or callable
        An object, or a function of the package or one that is registered.

    Returns
    -------
    dict
        With the keys "module", "class_name", "config" and "registered_name".

    Raises
    ------
    TypeError
        For a function without a name.

    Examples
    --------
    >>> from gpumlp import losses
    >>> config = losses.serialize(losses.Huber(delta=2.0))
    >>> config["class_name"], config["config"]
    ('Huber', {'delta': 2.0, 'reduction': 'sum_over_batch_size', 'name': 'huber'})
    """
    found: dict[str, object] = serialize_keras_object(loss.function if isinstance(loss, _Function) else loss)
    return found


_read = read_by("keras.losses", get)


def deserialize(
    config: LossLike, custom_objects: Mapping[str, object] | None = None
) -> Loss | Callable[..., Values] | None:
    """Return the loss that a config dict, or a name, describes.

    Parameters
    ----------
    config : dict, str, or what else `get` takes
        As `serialize` has made it.
    custom_objects : Mapping, optional
        Classes and functions of a user's own by name.

    Returns
    -------
    Loss, callable or None
        See `get`.

    Raises
    ------
    ValueError
        For an unknown name, and for arguments that a class does not take.
    TypeError
        For anything else.

    Examples
    --------
    >>> from gpumlp import losses
    >>> losses.deserialize(losses.serialize(losses.Huber(delta=2.0)))
    Huber(delta=2.0)
    """
    found: Loss | Callable[..., Values] | None = _read(config, custom_objects)
    return found
