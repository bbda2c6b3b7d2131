"""The package's random numbers: one seeded source for initial weights, batch order and dropout keys."""

from __future__ import annotations

import numpy as np

_source: np.random.Generator | None = None  # made when first asked for: numpy.random takes 12 ms to import


def seed(value: int) -> None:
    """Start the package's source again from ``value``."""
    global _source
    _source = np.random.default_rng(value)


def generator(own_seed: int | None = None) -> np.random.Generator:
    """Return a fresh generator for ``own_seed``, or the package's source for None."""
    global _source
    if own_seed is not None:
        return np.random.default_rng(own_seed)
    if _source is None:
        _source = np.random.default_rng()
    return _source


def key() -> int:
    """Draw 63 random bits, the key of a counter-based stream."""
    return int(generator().integers(0, 2**63 - 1))
