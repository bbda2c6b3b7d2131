"""Optimizers: hyperparameters with Keras's names and defaults, and the rule of an update as a formula."""

from __future__ import annotations

from typing import Any

from gpumlp.attributes import refuse_overrides
from gpumlp.naming import resolve
from gpumlp.optimizers import schedules
from gpumlp.optimizers.base import Optimizer, Updates
from gpumlp.optimizers.by_array import Adafactor, Lamb, Muon
from gpumlp.optimizers.elementwise import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Ftrl,
    Lion,
    Nadam,
    RMSprop,
    ScheduleFreeAdamW,
)
from gpumlp.saving import read_by, serialize_keras_object

__all__ = [
    "SGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "Ftrl", "Lamb", "Lion", "Muon", "Nadam",
    "Optimizer", "RMSprop", "ScheduleFreeAdamW", "Updates", "deserialize", "get", "schedules", "serialize",
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


def get(identifier: object) -> Optimizer | None:
    """Return the optimizer for a name, a class, an instance or a config dict; None for None.

    ValueError or TypeError for anything else.
    """
    if identifier is None:
        return None
    found: Optimizer = resolve("optimizer", identifier, KNOWN, Optimizer)
    refuse_overrides(type(found), NOT_CALLED, "Write update_rule, a formula: see gpumlp.optimizers.Optimizer.")
    return found


def serialize(optimizer: Optimizer) -> Any:
    """Return the config dict of an optimizer; see `gpumlp.saving`."""
    return serialize_keras_object(optimizer)


deserialize = read_by("keras.optimizers", get)
