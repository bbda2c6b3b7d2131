"""Utilities with Keras's names."""

from __future__ import annotations

import random as python_random

import numpy as np

from gpumlp import random


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
    """Return one-hot rows: integer labels of shape (n,) or (n, 1) become (n, num_classes), float32."""
    labels = np.asarray(x)
    if not np.issubdtype(labels.dtype, np.integer):
        labels = labels.astype(np.int64)
    if labels.ndim > 1 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    classes = int(labels.max()) + 1 if num_classes is None else num_classes
    if labels.size and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(f"labels must lie in [0, {classes}); got {labels.min()} to {labels.max()}.")
    return np.eye(classes, dtype=np.float32)[labels]
