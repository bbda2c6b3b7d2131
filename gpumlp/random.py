"""The package's random numbers: one seeded stream for initial weights, batch order, dropout keys, and own arrays.

A model that is one of several has a stream of its own, which is the current one while its numbers are drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from gpumlp.config import float_type
from gpumlp.literals import FloatName
from gpumlp.naming import automatic, listing

__all__ = [
    "SeedGenerator", "categorical", "normal", "randint", "seed", "shuffle", "truncated_normal", "uniform",
]  # fmt: skip
__dir__ = listing(__name__)

AT_ONCE = 8  # numbers of 32 bits that Philox4x64 gives for each value of its counter
Size: TypeAlias = int | Sequence[int]
Seed: TypeAlias = "int | SeedGenerator | None"


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

    def state(self) -> dict[str, object]:
        """Return where it is, as JSON can hold it."""
        return dict(self.generator().bit_generator.state)

    def go_on_from(self, state: Mapping[str, object]) -> None:
        """Go on from what `state` has returned; ValueError, and no change, for anything else."""
        self._generator = generator_in(dict(state))


def generator_in(state: Mapping[str, object] | None) -> np.random.Generator | None:
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
    """Have gpumlp's random numbers start again: those of initial weights, the order of samples, dropout.

    Python's and NumPy's are left alone; `utils.set_random_seed` seeds all three.

    Parameters
    ----------
    value : int
        From 0 on.

    Examples
    --------
    >>> from gpumlp import random
    >>> random.seed(7)
    >>> a = random.normal((2, 3))
    >>> random.seed(7)
    >>> (a == random.normal((2, 3))).all()
    np.True_
    """
    current().seed(value)


class Counted:
    """Random numbers that are a function of a key, a layer and a step alone: Philox4x64-10 (Salmon et al. 2011)."""

    _philox: np.random.Philox | None = None

    def at(self, key: int, layer: int, step: int, first: int = 0) -> np.random.Generator:
        """Return what draws them, from number ``first`` of float32 on: uniform ones, each of which takes 32 bits.

        Philox's key is (key, layer), its counter (., step, 0, 0).
        """
        if self._philox is None:
            self._philox = np.random.Philox(key=0)
        state = self._philox.state
        state["state"]["key"][:] = key, layer
        state["state"]["counter"][:] = first // AT_ONCE, step, 0, 0
        state["buffer_pos"], state["has_uint32"] = 4, 0
        self._philox.state = state
        found = np.random.Generator(self._philox)
        found.random(first % AT_ONCE, np.float32)
        return found


class SeedGenerator:
    """Another seed at each call of `next`; what takes a ``seed`` takes a SeedGenerator, too.

    Parameters
    ----------
    seed : int, optional
        Where the seeds begin, the same ones each time; anywhere when None.
    name : str, optional
        Made of the class's when None.

    Raises
    ------
    ValueError
        For a seed that is no whole number from 0 on.

    Examples
    --------
    >>> from gpumlp import random
    >>> seeds = random.SeedGenerator(7)
    >>> seeds.next(), seeds.next()
    (array([7, 0], dtype=uint64), array([7, 1], dtype=uint64))
    """

    def __init__(self, seed: int | None = None, name: str | None = None) -> None:
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0):
            raise ValueError(f"seed must be a whole number >= 0, or None; got {seed!r}.")
        self.seed = None if seed is None else int(seed)
        self.name = automatic(type(self)) if name is None else name
        self._state = np.array([key() if seed is None else seed, 0], np.uint64)

    def next(self, ordered: bool = True) -> np.ndarray:
        """Return the next seed; none comes twice.

        Parameters
        ----------
        ordered : bool
            As in Keras; they always are.

        Returns
        -------
        array of 2 whole numbers
        """
        found = self._state.copy()
        self._state[1] += 1
        return found

    def get_config(self) -> dict[str, object]:
        """Return what the constructor takes.

        Returns
        -------
        dict
            ``seed`` and ``name``.
        """
        return {"seed": self.seed, "name": self.name}

    @classmethod
    def from_config(cls, config: Mapping[str, object]) -> SeedGenerator:
        """Return a new one, at its beginning.

        Parameters
        ----------
        config : dict
            As `get_config` returns it.

        Returns
        -------
        SeedGenerator
        """
        return cls(**config)  # type: ignore[arg-type]


def generator(own_seed: object = None) -> np.random.Generator:
    """Return a fresh generator for ``own_seed``, or the current stream's for None.

    A seed is a whole number, or whatever has a method ``next`` that returns one or several: each generator has another.
    """
    if own_seed is None:
        return current().generator()
    words = own_seed.next() if hasattr(own_seed, "next") else own_seed
    given = np.asarray(words)
    return np.random.default_rng([int(word) for word in given.ravel()] if given.ndim else int(given))


def key() -> int:
    """Draw 63 random bits, the key of a counter-based stream."""
    return int(generator().integers(0, 2**63 - 1))


def truncated(source: np.random.Generator, shape: Size) -> np.ndarray:
    """Return normal random numbers; those beyond two standard deviations are drawn again."""
    values = source.standard_normal(shape)
    while (far := np.abs(values) > 2.0).any():
        values[far] = source.standard_normal(int(far.sum()))
    return values


# ---- Keras's functions: arrays of numbers drawn by ``seed``, or from the current stream when that is None -----------


def normal(
    shape: Size, mean: float = 0.0, stddev: float = 1.0, dtype: FloatName | None = None, seed: Seed = None
) -> np.ndarray:
    """Return numbers of a normal distribution.

    Parameters
    ----------
    shape : int or sequence of int
    mean, stddev : float
        Of the distribution.
    dtype : {"float32", "float64"}, optional
        ``config.floatx()`` when None.
    seed : int or SeedGenerator, optional
        What they are drawn by; gpumlp's random numbers go on when None.

    Returns
    -------
    array of ``shape``

    Examples
    --------
    >>> from gpumlp import random
    >>> random.normal((2, 3), mean=5.0, seed=0).shape
    (2, 3)
    """
    return generator(seed).normal(mean, stddev, shape).astype(float_type(dtype))


def truncated_normal(
    shape: Size, mean: float = 0.0, stddev: float = 1.0, dtype: FloatName | None = None, seed: Seed = None
) -> np.ndarray:
    """Return numbers of a normal distribution, those further than two ``stddev`` from ``mean`` drawn again.

    Parameters
    ----------
    shape : int or sequence of int
    mean, stddev : float
        Of the distribution before it is cut off.
    dtype : {"float32", "float64"}, optional
        ``config.floatx()`` when None.
    seed : int or SeedGenerator, optional
        What they are drawn by; gpumlp's random numbers go on when None.

    Returns
    -------
    array of ``shape``

    Examples
    --------
    >>> from gpumlp import random
    >>> float(abs(random.truncated_normal(1000, seed=0)).max()) <= 2.0
    True
    """
    return (mean + stddev * truncated(generator(seed), shape)).astype(float_type(dtype))


def uniform(
    shape: Size, minval: float = 0.0, maxval: float = 1.0, dtype: FloatName | None = None, seed: Seed = None
) -> np.ndarray:
    """Return numbers drawn uniformly from [minval, maxval).

    Parameters
    ----------
    shape : int or sequence of int
    minval, maxval : float
        Between what they lie.
    dtype : {"float32", "float64"}, optional
        ``config.floatx()`` when None.
    seed : int or SeedGenerator, optional
        What they are drawn by; gpumlp's random numbers go on when None.

    Returns
    -------
    array of ``shape``

    Examples
    --------
    >>> from gpumlp import random
    >>> x = random.uniform((100, 2), -1.0, 1.0, seed=0)
    >>> bool((abs(x) <= 1.0).all())
    True
    """
    return generator(seed).uniform(minval, maxval, shape).astype(float_type(dtype))


def randint(shape: Size, minval: int, maxval: int, dtype: DTypeLike = "int32", seed: Seed = None) -> np.ndarray:
    """Return whole numbers drawn uniformly from [minval, maxval).

    Parameters
    ----------
    shape : int or sequence of int
    minval, maxval : int
        The least, and one more than the largest.
    dtype : dtype
        Any of NumPy's whole numbers.
    seed : int or SeedGenerator, optional
        What they are drawn by; gpumlp's random numbers go on when None.

    Returns
    -------
    array of ``shape``

    Examples
    --------
    >>> from gpumlp import random
    >>> sorted(set(random.randint(100, 0, 3, seed=0).tolist()))
    [0, 1, 2]
    """
    return generator(seed).integers(minval, maxval, shape, np.dtype(dtype))


def categorical(logits: ArrayLike, num_samples: int, dtype: DTypeLike = "int32", seed: Seed = None) -> np.ndarray:
    """Return class numbers drawn by the logarithms of their odds.

    Parameters
    ----------
    logits : array [rows, classes]
        A class comes as often as the softmax of its row says.
    num_samples : int
        How many for each row.
    dtype : dtype
        Any of NumPy's whole numbers.
    seed : int or SeedGenerator, optional
        What they are drawn by; gpumlp's random numbers go on when None.

    Returns
    -------
    array [rows, num_samples]

    Examples
    --------
    >>> from gpumlp import random
    >>> random.categorical([[0.0, 100.0, 0.0]], 4, seed=0)
    array([[1, 1, 1, 1]], dtype=int32)
    """
    given = np.asarray(logits, np.float64)[:, None, :]
    return np.argmax(given + generator(seed).gumbel(size=(len(given), num_samples, given.shape[-1])), -1).astype(dtype)


def shuffle(x: ArrayLike, axis: int = 0, seed: Seed = None) -> np.ndarray:
    """Return an array with the order along an axis drawn anew.

    Parameters
    ----------
    x : array
        It stays as it is.
    axis : int
        Along which axis: rows change places when 0.
    seed : int or SeedGenerator, optional
        What the order is drawn by; gpumlp's random numbers go on when None.

    Returns
    -------
    array of the shape of ``x``

    Examples
    --------
    >>> from gpumlp import random
    >>> sorted(random.shuffle([3, 1, 2], seed=0).tolist())
    [1, 2, 3]
    """
    return generator(seed).permutation(np.asarray(x), axis)
