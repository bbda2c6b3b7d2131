"""Layers that change training alone: Dropout."""

from __future__ import annotations

from typing import Any, ClassVar

from gpumlp import random
from gpumlp.layers.base import Layer, whole_number
from gpumlp.naming import neutral, number


def _rate(value: object) -> float:
    rate = number("rate", value, 0.0, 1.0)
    if rate == 1.0:
        raise ValueError("rate must lie in [0, 1); got 1: nothing would be left.")
    return rate


class Dropout(Layer):
    """In training, zero each element with probability ``rate`` and divide the others by 1 - rate."""

    checks: ClassVar = {**Layer.checks, "rate": _rate}
    unread: ClassVar = {**Layer.unread, "p": "Use rate."}

    def __init__(self, rate: float, noise_shape: object = None, seed: int | None = None, **kwargs: Any) -> None:
        neutral("Dropout", noise_shape=(noise_shape, None))
        self.rate = rate
        if seed is not None and whole_number("seed", seed, 0) >= 1 << 64:
            raise ValueError(f"seed must be a whole number below 2**64; got {seed!r}.")
        self.key = random.key() if seed is None else int(seed)
        self._seed = seed
        super().__init__(**kwargs)

    @property
    def seed(self) -> int | None:
        """What `key` was made of; None for one at random."""
        return self._seed

    @property
    def noise_shape(self) -> None:
        """Each element is dropped by itself."""
        return None
