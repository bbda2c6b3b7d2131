"""The package's random numbers: one seeded stream for initial weights, batch order, dropout keys, and own arrays.

A model that is one of several has a stream of its own, which is the current one while its numbers are drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from gpumlp.config import float_type
from gpumlp.naming import automatic


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

    def state(self) -> dict[str, Any]:
        """Return where it is, as JSON can hold it."""
        return dict(self.generator().bit_generator.state)

    def go_on_from(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` has returned; ValueError, and no change, for anything else."""
        self._generator = generator_in(dict(state))


def generator_in(state: Any) -> np.random.Generator | None:
    """Return the generator of a bit generator's state, None for None; ValueError where it is no state."""
    if state is None:
        return None
    generator = np.random.default_rng(0)
    try:
        generator.bit_generator.state = state
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise ValueError(f"The state of random numbers is none: {error}.") from None
    return generator


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


class Counted:
    """Random numbers that are a function of a key, a layer and a step alone: Philox4x64-10 (Salmon et al. 2011)."""

    _philox: Any = None

    def at(self, key: int, layer: int, step: int) -> np.random.Generator:
        """Return what draws them, from the first one on: Philox's key is (key, layer), its counter (., step, 0, 0)."""
        if self._philox is None:
            self._philox = np.random.Philox(key=0)
        state = self._philox.state
        state["state"]["key"][:] = key, layer
        state["state"]["counter"][:] = 0, step, 0, 0
        state["buffer_pos"], state["has_uint32"] = 4, 0
        self._philox.state = state
        return np.random.Generator(self._philox)


class SeedGenerator:
    """Another seed at each call of `next`, the same ones from the same ``seed``; begun anywhere when that is None."""

    def __init__(self, seed: int | None = None, name: str | None = None) -> None:
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0):
            raise ValueError(f"seed must be a whole number >= 0, or None; got {seed!r}.")
        self.seed = None if seed is None else int(seed)
        self.name = automatic(type(self)) if name is None else name
        self._state = np.array([key() if seed is None else seed, 0], np.uint64)

    def next(self, ordered: bool = True) -> np.ndarray:
        """Return the next seed, two whole numbers; no seed comes twice, whether they are to be ``ordered`` or not."""
        found = self._state.copy()
        self._state[1] += 1
        return found

    def get_config(self) -> dict[str, Any]:
        """Return what the constructor takes."""
        return {"seed": self.seed, "name": self.name}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> SeedGenerator:
        """Return a new one, at its beginning."""
        return cls(**config)


def generator(own_seed: Any = None) -> np.random.Generator:
    """Return a fresh generator for ``own_seed``, or the current stream's for None.

    A seed is a whole number, or whatever has a method ``next`` that returns one or several: each generator has another.
    """
    if own_seed is None:
        return current().generator()
    words = own_seed.next() if hasattr(own_seed, "next") else own_seed
    return np.random.default_rng([int(word) for word in np.ravel(words)] if np.ndim(words) else int(words))


def key() -> int:
    """Draw 63 random bits, the key of a counter-based stream."""
    return int(generator().integers(0, 2**63 - 1))


def truncated(source: np.random.Generator, shape: Any) -> np.ndarray:
    """Return normal random numbers; those beyond two standard deviations are drawn again."""
    values = source.standard_normal(shape)
    while (far := np.abs(values) > 2.0).any():
        values[far] = source.standard_normal(int(far.sum()))
    return values


# ---- Keras's functions: arrays of numbers drawn by ``seed``, or from the current stream when that is None -----------


def normal(shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: object = None, seed: Any = None) -> np.ndarray:
    """Return numbers of a normal distribution; ``dtype`` None is ``config.floatx()``, here and below."""
    return generator(seed).normal(mean, stddev, shape).astype(float_type(dtype))


def truncated_normal(
    shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: object = None, seed: Any = None
) -> np.ndarray:
    """Return numbers of a normal distribution, within two ``stddev`` of ``mean``."""
    return (mean + stddev * truncated(generator(seed), shape)).astype(float_type(dtype))


def uniform(shape: Any, minval: float = 0.0, maxval: float = 1.0, dtype: object = None, seed: Any = None) -> np.ndarray:
    """Return numbers drawn uniformly from ``minval`` to ``maxval``."""
    return generator(seed).uniform(minval, maxval, shape).astype(float_type(dtype))


def randint(shape: Any, minval: int, maxval: int, dtype: Any = "int32", seed: Any = None) -> np.ndarray:
    """Return whole numbers drawn uniformly from [minval, maxval)."""
    return generator(seed).integers(minval, maxval, shape, dtype)


def categorical(logits: Any, num_samples: int, dtype: Any = "int32", seed: Any = None) -> np.ndarray:
    """Return ``num_samples`` class numbers for each row of ``logits`` [rows, classes]: [rows, num_samples]."""
    given = np.asarray(logits, np.float64)[:, None, :]
    return np.argmax(given + generator(seed).gumbel(size=(len(given), num_samples, given.shape[-1])), -1).astype(dtype)


def shuffle(x: Any, axis: int = 0, seed: Any = None) -> np.ndarray:
    """Return ``x`` with the order along ``axis`` drawn anew."""
    return generator(seed).permutation(np.asarray(x), axis)
