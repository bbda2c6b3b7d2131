"""Optimizers: hyperparameters with Keras's names and defaults, and the rule of an update as a formula."""

from __future__ import annotations

from collections.abc import Mapping

from gpumlp.attributes import refuse_overrides
from gpumlp.literals import OptimizerName
from gpumlp.naming import listing, resolve
from gpumlp.optimizers import schedules
from gpumlp.optimizers.base import Optimizer
from gpumlp.optimizers.by_array import Adafactor, Muon
from gpumlp.optimizers.elementwise import SGD, Adadelta, Adagrad, Ftrl, Lion, RMSprop
from gpumlp.optimizers.layout import Updates as Updates
from gpumlp.optimizers.moments import Adam, Adamax, AdamW, Lamb, Nadam, ScheduleFreeAdamW
from gpumlp.saving import read_by, serialize_keras_object

__all__ = [
    "SGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "Ftrl", "Lamb", "Lion", "Muon", "Nadam",
    "Optimizer", "RMSprop", "ScheduleFreeAdamW", "deserialize", "get", "schedules", "serialize",
]  # fmt: skip
KNOWN: dict[str, type[Optimizer]] = {
    kind.__name__.lower(): kind
    for kind in (
        SGD, RMSprop, Adam, AdamW, Nadam, Adamax, Adagrad, Adadelta, Ftrl, Lion, Lamb, Adafactor, Muon,
        ScheduleFreeAdamW,
    )
}  # fmt: skip
NOT_CALLED = (
    "update",
    "scalars",
    "slots",
    "formula",
    "update_each",
    "build",
    "update_step",
    "apply",
    "apply_gradients",
)


def get(identifier: OptimizerName | object) -> Optimizer | None:
    """Return the optimizer that is meant.

    Parameters
    ----------
    identifier : str, Optimizer, type, dict or None
        A name in any case, an object or a class, or a config dict.

    Returns
    -------
    Optimizer or None
        None for None; of a name or a class a new one.

    Raises
    ------
    ValueError
        For an unknown name, and for arguments that a class does not take.
    TypeError
        For anything else, and for a class that overrides what kernels would not call.

    Examples
    --------
    >>> from gpumlp import optimizers
    >>> optimizers.get("adam")
    Adam(learning_rate=0.001)
    """
    if identifier is None:
        return None
    found: Optimizer = resolve("optimizer", identifier, KNOWN, Optimizer)
    refuse_overrides(type(found), NOT_CALLED, "Write update_rule, a formula: see gpumlp.optimizers.Optimizer.")
    return found


def serialize(optimizer: Optimizer) -> dict[str, object]:
    """Return the config dict of an optimizer; its state is not in it.

    Parameters
    ----------
    optimizer : Optimizer
        Of the package, or of a class of a user's own.

    Returns
    -------
    dict
        With the keys "module", "class_name", "config" and "registered_name".

    Examples
    --------
    >>> from gpumlp import optimizers
    >>> config = optimizers.serialize(optimizers.SGD(momentum=0.9))
    >>> config["class_name"], config["config"]["momentum"]
    ('SGD', 0.9)
    """
    found: dict[str, object] = serialize_keras_object(optimizer)
    return found


_read = read_by("keras.optimizers", get)


def deserialize(
    config: Mapping[str, object] | OptimizerName | str, custom_objects: Mapping[str, object] | None = None
) -> Optimizer:
    """Return the optimizer that a config dict, or a name, describes.

    Parameters
    ----------
    config : dict, str, or what else `get` takes
        As `serialize` has made it.
    custom_objects : Mapping, optional
        Classes and functions of a user's own by name.

    Returns
    -------
    Optimizer
        A new one, without state.

    Raises
    ------
    ValueError
        For an unknown name, and for arguments that a class does not take.
    TypeError
        For anything else.

    Examples
    --------
    >>> from gpumlp import optimizers
    >>> optimizers.deserialize(optimizers.serialize(optimizers.SGD(momentum=0.9)))
    SGD(learning_rate=0.01, momentum=0.9)
    """
    found: Optimizer = _read(config, custom_objects)
    return found


__dir__ = listing(__name__)
