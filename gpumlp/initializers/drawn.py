"""First values that are random numbers. Fan-in and fan-out of a Dense kernel are its two axes."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, TypeAlias

import numpy as np

from gpumlp import random
from gpumlp.initializers.base import Initializer, Shape
from gpumlp.naming import number, resolve

# standard deviation of a unit normal cut off at two standard deviations
_TRUNCATED_STD = 0.87962566103423978
Seed: TypeAlias = "int | random.SeedGenerator | None"
Mode: TypeAlias = Literal["fan_in", "fan_out", "fan_avg"]
Distribution: TypeAlias = Literal["uniform", "truncated_normal", "untruncated_normal", "normal"]


def _seed(value: object) -> object:
    if isinstance(value, Mapping):  # of a SeedGenerator, in a config
        return resolve("seed", value, {"seed_generator": random.SeedGenerator}, random.SeedGenerator)
    if value is None or hasattr(value, "next"):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
        raise ValueError(f"seed must be a whole number >= 0, None, or a SeedGenerator; got {value!r}.")
    return int(value)


class RandomInitializer(Initializer):
    """Base of random first values: drawn in float64, they are the same for every dtype.

    Parameters
    ----------
    seed : int or SeedGenerator, optional
        A whole number gives the same values at every call, a `gpumlp.random.SeedGenerator` others at each; with None
        they come from the package's stream, which ``utils.set_random_seed`` seeds.

    Raises
    ------
    ValueError
        For another seed.

    Examples
    --------
    >>> from gpumlp import initializers
    >>> one, same = initializers.HeNormal(seed=1), initializers.HeNormal(seed=1)
    >>> isinstance(one, initializers.RandomInitializer)
    True
    >>> bool((one((3, 4)) == same((3, 4))).all())
    True
    """

    seed: Seed

    checks: ClassVar = {"seed": _seed}

    def __init__(self, seed: Seed = None) -> None:
        self.seed = seed


class _Normal(RandomInitializer):
    checks: ClassVar = {
        **RandomInitializer.checks, "mean": functools.partial(number, "mean"),
        "stddev": functools.partial(number, "stddev", low=0.0),
    }  # fmt: skip

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: Seed = None) -> None:
        self.mean, self.stddev = mean, stddev
        super().__init__(seed)


class RandomNormal(_Normal):
    """Numbers of a normal distribution.

    Parameters
    ----------
    mean : float, default 0.0
        The mean.
    stddev : float, default 0.05
        The standard deviation, at least 0.
    seed : int or SeedGenerator, optional
        See `RandomInitializer`.

    Raises
    ------
    ValueError
        For what is no finite number, and for a negative stddev.

    Examples
    --------
    >>> from gpumlp import initializers
    >>> initializers.RandomNormal(stddev=0.0)((1, 2))
    array([[0., 0.]], dtype=float32)
    """

    def values(self, shape: Shape) -> np.ndarray:
        return self.mean + self.stddev * random.generator(self.seed).standard_normal(shape)


class TruncatedNormal(_Normal):
    """Numbers of a normal distribution; what is beyond two standard deviations is drawn again.

    Parameters
    ----------
    mean : float, default 0.0
        The mean, before.
    stddev : float, default 0.05
        The standard deviation, before, at least 0.
    seed : int or SeedGenerator, optional
        See `RandomInitializer`.

    Raises
    ------
    ValueError
        For what is no finite number, and for a negative stddev.

    Examples
    --------
    >>> from gpumlp import initializers
    >>> values = initializers.TruncatedNormal(stddev=0.1, seed=1)((100, 100))
    >>> bool(abs(values).max() <= 0.2)
    True
    """

    def values(self, shape: Shape) -> np.ndarray:
        return self.mean + self.stddev * random.truncated(random.generator(self.seed), shape)


class RandomUniform(RandomInitializer):
    """Numbers uniform in [minval, maxval).

    Parameters
    ----------
    minval : float, default -0.05
        The smallest.
    maxval : float, default 0.05
        What all are below.
    seed : int or SeedGenerator, optional
        See `RandomInitializer`.

    Raises
    ------
    ValueError
        For what is no finite number, and, when it is called, for maxval below minval.

    Examples
    --------
    >>> from gpumlp import initializers
    >>> values = initializers.RandomUniform(1.0, 2.0, seed=1)((100, 100))
    >>> bool((values >= 1.0).all() and (values <= 2.0).all())
    True
    """

    checks: ClassVar = {
        **RandomInitializer.checks, "minval": functools.partial(number, "minval"),
        "maxval": functools.partial(number, "maxval"),
    }  # fmt: skip

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: Seed = None) -> None:
        self.minval, self.maxval = minval, maxval
        super().__init__(seed)

    def values(self, shape: Shape) -> np.ndarray:
        if self.maxval < self.minval:
            raise ValueError(f"maxval must be >= minval; got minval={self.minval} and maxval={self.maxval}.")
        return random.generator(self.seed).uniform(self.minval, self.maxval, shape)


def compute_fans(
    shape: Sequence[int], input_axes: Sequence[int] | None = None, output_axes: Sequence[int] | None = None
) -> tuple[int, int]:
    """Return how many inputs and outputs an array of weights has.

    Parameters
    ----------
    shape : tuple of int
        The array's.
    input_axes, output_axes : list of int, optional
        The axes that inputs and outputs are along. Without them these are the last two, their sizes each times all
        sizes before, as there are in convolutions' kernels; an array of one axis has that many of both.

    Returns
    -------
    tuple of int
        Fan-in and fan-out.

    Raises
    ------
    ValueError
        For an axis that the array has not.

    Examples
    --------
    >>> from gpumlp import initializers
    >>> initializers.compute_fans((4, 3))
    (4, 3)
    """
    shape = tuple(shape)
    if input_axes is not None and output_axes is not None:
        if far := [axis for axis in (*input_axes, *output_axes) if not -len(shape) <= axis < len(shape)]:
            raise ValueError(f"input_axes and output_axes must be axes of shape {shape}; got {far[0]}.")
        return math.prod(shape[a] for a in input_axes), math.prod(shape[a] for a in output_axes)
    if len(shape) < 2:
        return math.prod(shape), math.prod(shape)
    before = math.prod(shape[:-2])
    return before * shape[-2], before * shape[-1]


MODES = ("fan_in", "fan_out", "fan_avg")
DISTRIBUTIONS = ("uniform", "truncated_normal", "untruncated_normal")


def _mode(value: object) -> str:
    if value not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}; got {value!r}.")
    return str(value)


def _distribution(value: object) -> str:
    name = str(value).lower()
    if name not in (*DISTRIBUTIONS, "normal"):
        raise ValueError(f"distribution must be one of {', '.join(DISTRIBUTIONS)}; got {value!r}.")
    return "truncated_normal" if name == "normal" else name


def _axes(name: str, value: object) -> list[int] | None:
    if value is None:
        return None
    if not isinstance(value, (list, tuple)) or any(type(axis) is not int for axis in value):
        raise ValueError(f"{name} must be a list of whole numbers, or None; got {value!r}.")
    return list(value)


class VarianceScaling(RandomInitializer):
    """Random numbers of mean 0 and variance scale / fan.

    Parameters
    ----------
    scale : float, default 1.0
        Above 0.
    mode : {"fan_in", "fan_out", "fan_avg"}, default "fan_in"
        The fan: the number of inputs, of outputs, or the mean of both; see `compute_fans`.
    distribution : {"truncated_normal", "untruncated_normal", "uniform"}, default "truncated_normal"
        Of the numbers; "normal" is the first. Of the truncated one, the variance is that after the truncation.
    seed : int or SeedGenerator, optional
        See `RandomInitializer`.
    input_axes, output_axes : list of int, optional
        Both or none: see `compute_fans`.

    Raises
    ------
    ValueError
        For a value that an argument cannot have.

    Examples
    --------
    >>> from gpumlp import initializers
    >>> values = initializers.VarianceScaling(2.0, seed=1)((400, 100))
    >>> round(float(values.var()) * 400, 1)
    2.0
    """

    scale: float
    mode: str
    distribution: str

    checks: ClassVar = {
        **RandomInitializer.checks, "scale": functools.partial(number, "scale", low=0.0, above=True), "mode": _mode,
        "distribution": _distribution,
        **{name: functools.partial(_axes, name) for name in ("input_axes", "output_axes")},
    }  # fmt: skip

    def __init__(
        self,
        scale: float = 1.0,
        mode: Mode = "fan_in",
        distribution: Distribution = "truncated_normal",
        seed: Seed = None,
        input_axes: Sequence[int] | None = None,
        output_axes: Sequence[int] | None = None,
    ) -> None:
        if (input_axes is None) != (output_axes is None):
            raise ValueError(f"input_axes and output_axes go together; got {input_axes!r} and {output_axes!r}.")
        self.scale, self.mode, self.distribution = scale, mode, distribution
        self.input_axes, self.output_axes = input_axes, output_axes
        super().__init__(seed)

    def variance(self, shape: Shape) -> float:
        """Return the variance of the numbers in an array of ``shape``."""
        inputs, outputs = compute_fans(shape, self.input_axes, self.output_axes)
        fan = {"fan_in": inputs, "fan_out": outputs, "fan_avg": (inputs + outputs) / 2}[self.mode]
        return self.scale / max(1.0, fan)

    def values(self, shape: Shape) -> np.ndarray:
        source, variance = random.generator(self.seed), self.variance(shape)
        if self.distribution == "uniform":
            limit = math.sqrt(3.0 * variance)
            return source.uniform(-limit, limit, shape)
        if self.distribution == "untruncated_normal":
            return source.standard_normal(shape) * math.sqrt(variance)
        return random.truncated(source, shape) * math.sqrt(variance) / _TRUNCATED_STD


class _Named(VarianceScaling):
    """A `VarianceScaling` of a scale, mode and distribution that its name stands for."""

    how: ClassVar[tuple[float, Mode, Distribution]]

    def __init__(
        self, seed: Seed = None, input_axes: Sequence[int] | None = None, output_axes: Sequence[int] | None = None
    ) -> None:
        super().__init__(*self.how, seed, input_axes, output_axes)


class GlorotUniform(_Named):
    """Uniform in [-limit, limit], limit = sqrt(6 / (fan_in + fan_out)): of variance 2 / (fan_in + fan_out).

    Parameters
    ----------
    seed : int or SeedGenerator, optional
        See `RandomInitializer`.
    input_axes, output_axes : list of int, optional
        Both or none: see `compute_fans`.

    Raises
    ------
    ValueError
        For a value that an argument cannot have.

    Notes
    -----
    Glorot & Bengio 2010.

    Examples
    --------
    >>> from gpumlp import initializers
    >>> values = initializers.GlorotUniform(seed=1)((400, 100))
    >>> round(float(values.var()) * 250, 1)
    1.0
    """

    how = (1.0, "fan_avg", "uniform")


class GlorotNormal(_Named):
    """Truncated normal of variance 2 / (fan_in + fan_out).

    Parameters
    ----------
    seed : int or SeedGenerator, optional
        See `RandomInitializer`.
    input_axes, output_axes : list of int, optional
        Both or none: see `compute_fans`.

    Raises
    ------
    ValueError
        For a value that an argument cannot have.

    Notes
    -----
    Glorot & Bengio 2010.

    Examples
    --------
    >>> from gpumlp import initializers
    >>> values = initializers.GlorotNormal(seed=1)((400, 100))
    >>> round(float(values.var()) * 250, 1)
    1.0
    """

    how = (1.0, "fan_avg", "truncated_normal")


class LecunUniform(_Named):
    """Uniform in [-limit, limit], limit = sqrt(3 / fan_in): of variance 1 / fan_in.

    Parameters
    ----------
    seed : int or SeedGenerator, optional
        See `RandomInitializer`.
    input_axes, output_axes : list of int, optional
        Both or none: see `compute_fans`.

    Raises
    ------
    ValueError
        For a value that an argument cannot have.

    Notes
    -----
    LeCun et al. 1998.

    Examples
    --------
    >>> from gpumlp import initializers
    >>> values = initializers.LecunUniform(seed=1)((400, 100))
    >>> round(float(values.var()) * 400, 1)
    1.0
    """

    how = (1.0, "fan_in", "uniform")


class LecunNormal(_Named):
    """Truncated normal of variance 1 / fan_in.

    Parameters
    ----------
    seed : int or SeedGenerator, optional
        See `RandomInitializer`.
    input_axes, output_axes : list of int, optional
        Both or none: see `compute_fans`.

    Raises
    ------
    ValueError
        For a value that an argument cannot have.

    Notes
    -----
    LeCun et al. 1998; for selu, Klambauer et al. 2017.

    Examples
    --------
    >>> from gpumlp import initializers
    >>> values = initializers.LecunNormal(seed=1)((400, 100))
    >>> round(float(values.var()) * 400, 1)
    1.0
    """

    how = (1.0, "fan_in", "truncated_normal")


class HeUniform(_Named):
    """Uniform in [-limit, limit], limit = sqrt(6 / fan_in): of variance 2 / fan_in, for relu.

    Parameters
    ----------
    seed : int or SeedGenerator, optional
        See `RandomInitializer`.
    input_axes, output_axes : list of int, optional
        Both or none: see `compute_fans`.

    Raises
    ------
    ValueError
        For a value that an argument cannot have.

    Notes
    -----
    He et al. 2015.

    Examples
    --------
    >>> from gpumlp import initializers
    >>> values = initializers.HeUniform(seed=1)((400, 100))
    >>> round(float(values.var()) * 400, 1)
    2.0
    """

    how = (2.0, "fan_in", "uniform")


class HeNormal(_Named):
    """Truncated normal of variance 2 / fan_in, for relu.

    Parameters
    ----------
    seed : int or SeedGenerator, optional
        See `RandomInitializer`.
    input_axes, output_axes : list of int, optional
        Both or none: see `compute_fans`.

    Raises
    ------
    ValueError
        For a value that an argument cannot have.

    Notes
    -----
    He et al. 2015.

    Examples
    --------
    >>> from gpumlp import initializers
    >>> values = initializers.HeNormal(seed=1)((400, 100))
    >>> round(float(values.var()) * 400, 1)
    2.0
    """

    how = (2.0, "fan_in", "truncated_normal")


class Orthogonal(RandomInitializer):
    """A number times orthonormal columns, or rows where there are fewer of these; any such matrix is as likely.

    Parameters
    ----------
    gain : float, default 1.0
        The number.
    seed : int or SeedGenerator, optional
        See `RandomInitializer`.

    Raises
    ------
    ValueError
        For a value that an argument cannot have, and, when it is called, for a shape of one axis.

    Notes
    -----
    Q of the QR decomposition of normal numbers, with the signs that make R's diagonal positive. Of more than two axes,
    all but the last one count as rows (Saxe et al. 2014).

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import initializers
    >>> w = initializers.Orthogonal(seed=1)((5, 3), "float64")
    >>> bool(np.allclose(w.T @ w, np.eye(3)))
    True
    """

    checks: ClassVar = {**RandomInitializer.checks, "gain": functools.partial(number, "gain")}

    def __init__(self, gain: float = 1.0, seed: Seed = None) -> None:
        self.gain = gain
        super().__init__(seed)

    def values(self, shape: Shape) -> np.ndarray:
        if len(shape) < 2:
            raise ValueError(f"Orthogonal makes matrices, of a shape of at least two sizes; got shape={shape}.")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        drawn = random.generator(self.seed).standard_normal((max(rows, columns), min(rows, columns)))
        q, r = np.linalg.qr(drawn)
        q *= np.where(np.diagonal(r) < 0, -1.0, 1.0)  # LAPACK's choice of signs is not a uniform one
        return self.gain * (q.T if rows < columns else q).reshape(shape)
