"""Utilities with Keras's names."""

from __future__ import annotations

import random as python_random

import numpy as np

from gpumlp import config, random
from gpumlp.saving import CustomObjectScope as CustomObjectScope
from gpumlp.saving import custom_object_scope as custom_object_scope
from gpumlp.saving import deserialize_keras_object as deserialize_keras_object
from gpumlp.saving import get_custom_objects as get_custom_objects
from gpumlp.saving import get_registered_name as get_registered_name
from gpumlp.saving import get_registered_object as get_registered_object
from gpumlp.saving import register_keras_serializable as register_keras_serializable
from gpumlp.saving import serialize_keras_object as serialize_keras_object


def set_random_seed(seed: int) -> None:
    """Seed Python's, NumPy's and gpumlp's generators, so that a script gives the same bits twice.

    Raises
    ------
    ValueError
        If ``seed`` is not an integer in [0, 2**32).
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**32:
        raise ValueError(f"seed must be an integer in [0, 2**32); got {seed!r}.")
    python_random.seed(int(seed))
    np.random.seed(int(seed))
    random.seed(int(seed))


def to_categorical(x: object, num_classes: int | None = None) -> np.ndarray:
    """Return one-hot rows, float32: labels of any shape get an axis of ``num_classes`` more; a last axis of 1 goes.

    ValueError or TypeError where they are no class numbers below ``num_classes`` (the largest label + 1 when None).
    """
    if isinstance(num_classes, bool) or not isinstance(num_classes, (int, np.integer, type(None))):
        raise ValueError(f"num_classes must be a whole number or None; got {num_classes!r}.")
    given = config.floats("x", x, "float64")
    if given.ndim > 1 and given.shape[-1] == 1:
        given = given[..., 0]
    if not given.size and num_classes is None:
        raise ValueError("x has no labels: num_classes must be given.")
    if not np.isfinite(given).all():
        raise ValueError("x must hold class numbers; got NaN or Inf.")
    labels = given.astype(np.int64)  # 1.7 is class 1, as in Keras
    classes = int(labels.max()) + 1 if num_classes is None else int(num_classes)
    if labels.size and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(f"labels must lie in [0, {classes}); got {labels.min()} to {labels.max()}.")
    if classes < 0:
        raise ValueError(f"num_classes must be >= 0; got {num_classes!r}.")
    rows = np.zeros((labels.size, classes), np.float32)
    rows[np.arange(labels.size), labels.reshape(-1)] = 1.0
    return rows.reshape(*labels.shape, classes)
