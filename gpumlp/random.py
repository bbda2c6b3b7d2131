"""The package's random numbers: one seeded stream for initial weights, batch order and dropout keys.

A model that is one of several has a stream of its own, which is the current one while its numbers are drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np


class Stream:
    """Random numbers that go on from where they were; seeded, or else begun anywhere."""

    _generator: np.random.Generator | None = None  # made when first asked for: numpy.random takes 12 ms to import

    def seed(self, value: int) -> None:
        """Start again from ``value``."""
        self._generator = np.random.default_rng(value)

    def generator(self) -> np.random.Generator:
        """Return what draws the next numbers."""
        if self._generator is None:
            self._generator = np.random.default_rng()
        return self._generator


# To each thread its own: others go on drawing from the package's stream while one draws for a member of an ensemble.
_current: ContextVar[Stream] = ContextVar("the current stream", default=Stream())  # noqa: B039


def current() -> Stream:
    """Return the stream that is drawn from: the package's, unless `drawing_from` says another."""
    return _current.get()


@contextmanager
def drawing_from(stream: Stream) -> Iterator[None]:
    """Have ``stream`` be the current one; afterwards that is again what it was before, where it was."""
    before = _current.set(stream)
    try:
        yield
    finally:
        _current.reset(before)


def seed(value: int) -> None:
    """Start the current stream again from ``value``."""
    current().seed(value)


def generator(own_seed: int | None = None) -> np.random.Generator:
    """Return a fresh generator for ``own_seed``, or the current stream's for None."""
    return current().generator() if own_seed is None else np.random.default_rng(own_seed)


def key() -> int:
    """Draw 63 random bits, the key of a counter-based stream."""
    return int(generator().integers(0, 2**63 - 1))
