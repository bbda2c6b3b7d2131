"""Initial weights. Fan-in and fan-out of a Dense kernel are its two axes (Glorot & Bengio 2010, He et al. 2015)."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from gpumlp import config, random
from gpumlp.naming import number, resolve
from gpumlp.saving import Configured, deserialize_keras_object, read_by, serialize_keras_object

# standard deviation of a unit normal cut off at two standard deviations
_TRUNCATED_STD = 0.87962566103423978
Shape = tuple[int, ...]


class Initializer(Configured):
    """Calling one with a shape and a dtype, the default type for None, gives a new array.

    One of a user's own has a method ``__call__(self, shape, dtype=None)``.
    """

    def __call__(self, shape: Shape, dtype: object = None) -> np.ndarray:
        wanted: Any = config.floatx() if dtype is None else dtype
        return self.values(tuple(shape)).astype(wanted, copy=False)

    def values(self, shape: Shape) -> np.ndarray:
        """Return a new array of float64."""
        raise NotImplementedError(f"{type(self).__name__} must have a method __call__(self, shape, dtype=None).")

    def clone(self) -> Self:
        """Return another one, made of the same config."""
        return self.from_config(self.get_config())


# ---- without random numbers ------------------------------------------------------------------------------------------


class Zeros(Initializer):
    """All zeros."""

    def values(self, shape: Shape) -> np.ndarray:
        return np.zeros(shape)


class Ones(Initializer):
    """All ones."""

    def values(self, shape: Shape) -> np.ndarray:
        return np.ones(shape)


def _constant(value: Any) -> Any:
    value = deserialize_keras_object(value)  # of an array, in a config
    if not np.ndim(value):
        return number("value", value)
    if not np.isfinite(array := config.floats("value", value, "float64")).all():
        raise ValueError(f"value must be of finite numbers; got {value!r}.")
    return array


class Constant(Initializer):
    """Every element is ``value``, or is the one of an array that stretches to the shape asked for."""

    checks: ClassVar = {"value": _constant}

    def __init__(self, value: Any = 0.0) -> None:
        self.value = value

    def values(self, shape: Shape) -> np.ndarray:
        return np.full(shape, self.value)


class Identity(Initializer):
    """``gain`` on the diagonal of a matrix, and zeros elsewhere."""

    checks: ClassVar = {"gain": functools.partial(number, "gain")}

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = gain

    def values(self, shape: Shape) -> np.ndarray:
        if len(shape) != 2:
            raise ValueError(f"Identity makes matrices, of a shape of two sizes; got shape={shape}.")
        return self.gain * np.eye(*shape)


# ---- random numbers --------------------------------------------------------------------------------------------------


def _seed(value: Any) -> Any:
    if isinstance(value, Mapping):  # of a SeedGenerator, in a config
        return resolve("seed", value, {"seed_generator": random.SeedGenerator}, random.SeedGenerator)
    if value is None or hasattr(value, "next"):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
        raise ValueError(f"seed must be a whole number >= 0, None, or a SeedGenerator; got {value!r}.")
    return int(value)


class RandomInitializer(Initializer):
    """Random numbers, drawn in float64: the same for every dtype.

    A whole number as ``seed`` gives the same ones at every call, a `gpumlp.random.SeedGenerator` others at each; with
    None they come from the package's stream.
    """

    checks: ClassVar = {"seed": _seed}

    def __init__(self, seed: Any = None) -> None:
        self.seed = seed


class _Normal(RandomInitializer):
    checks: ClassVar = {
        **RandomInitializer.checks, "mean": functools.partial(number, "mean"),
        "stddev": functools.partial(number, "stddev", low=0.0),
    }  # fmt: skip

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: Any = None) -> None:
        self.mean, self.stddev = mean, stddev
        super().__init__(seed)


class RandomNormal(_Normal):
    """Normal, of ``mean`` and standard deviation ``stddev``."""

    def values(self, shape: Shape) -> np.ndarray:
        return self.mean + self.stddev * random.generator(self.seed).standard_normal(shape)


class TruncatedNormal(_Normal):
    """As `RandomNormal`, but what is beyond two standard deviations is drawn again."""

    def values(self, shape: Shape) -> np.ndarray:
        return self.mean + self.stddev * random.truncated(random.generator(self.seed), shape)


class RandomUniform(RandomInitializer):
    """Uniform in [``minval``, ``maxval``)."""

    checks: ClassVar = {
        **RandomInitializer.checks, "minval": functools.partial(number, "minval"),
        "maxval": functools.partial(number, "maxval"),
    }  # fmt: skip

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: Any = None) -> None:
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

    They are the sizes of the axes given; else of the last two axes, each times all sizes before these, as there are in
    convolutions' kernels. An array of one axis has that many of both.
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


def _axes(name: str, value: Any) -> list[int] | None:
    if value is None:
        return None
    if not isinstance(value, (list, tuple)) or any(type(axis) is not int for axis in value):
        raise ValueError(f"{name} must be a list of whole numbers, or None; got {value!r}.")
    return list(value)


class VarianceScaling(RandomInitializer):
    """Zero-mean random numbers of variance ``scale / fan``, where ``mode`` says which fan: see `compute_fans`."""

    checks: ClassVar = {
        **RandomInitializer.checks, "scale": functools.partial(number, "scale", low=0.0, above=True), "mode": _mode,
        "distribution": _distribution,
        **{name: functools.partial(_axes, name) for name in ("input_axes", "output_axes")},
    }  # fmt: skip

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: Any = None,
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

    how: ClassVar[tuple[float, str, str]]

    def __init__(
        self, seed: Any = None, input_axes: Sequence[int] | None = None, output_axes: Sequence[int] | None = None
    ) -> None:
        super().__init__(*self.how, seed, input_axes, output_axes)


class GlorotUniform(_Named):
    """Uniform, variance 2 / (fan_in + fan_out)."""

    how = (1.0, "fan_avg", "uniform")


class GlorotNormal(_Named):
    """Truncated normal, variance 2 / (fan_in + fan_out)."""

    how = (1.0, "fan_avg", "truncated_normal")


class LecunUniform(_Named):
    """Uniform, variance 1 / fan_in."""

    how = (1.0, "fan_in", "uniform")


class LecunNormal(_Named):
    """Truncated normal, variance 1 / fan_in."""

    how = (1.0, "fan_in", "truncated_normal")


class HeUniform(_Named):
    """Uniform, variance 2 / fan_in."""

    how = (2.0, "fan_in", "uniform")


class HeNormal(_Named):
    """Truncated normal, variance 2 / fan_in."""

    how = (2.0, "fan_in", "truncated_normal")


class Orthogonal(RandomInitializer):
    """``gain`` times orthonormal columns, or rows where there are fewer of these; any such matrix is as likely.

    Of more than two axes, all but the last one count as rows (Saxe et al. 2014).
    """

    checks: ClassVar = {**RandomInitializer.checks, "gain": functools.partial(number, "gain")}

    def __init__(self, gain: float = 1.0, seed: Any = None) -> None:
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


# ---- names -----------------------------------------------------------------------------------------------------------

KNOWN: dict[str, type[Initializer]] = {
    "zeros": Zeros, "ones": Ones, "constant": Constant, "identity": Identity,
    "glorot_uniform": GlorotUniform, "glorot_normal": GlorotNormal, "he_uniform": HeUniform, "he_normal": HeNormal,
    "lecun_uniform": LecunUniform, "lecun_normal": LecunNormal, "variance_scaling": VarianceScaling,
    "random_normal": RandomNormal, "random_uniform": RandomUniform, "truncated_normal": TruncatedNormal,
    "orthogonal": Orthogonal, "zero": Zeros, "one": Ones, "normal": RandomNormal, "uniform": RandomUniform,
    "identity_initializer": Identity, "orthogonal_initializer": Orthogonal,
}  # fmt: skip
zeros, ones, constant, identity, orthogonal = Zeros, Ones, Constant, Identity, Orthogonal
glorot_uniform, glorot_normal, he_uniform, he_normal = GlorotUniform, GlorotNormal, HeUniform, HeNormal
lecun_uniform, lecun_normal, variance_scaling = LecunUniform, LecunNormal, VarianceScaling
random_normal, random_uniform, truncated_normal = RandomNormal, RandomUniform, TruncatedNormal
IdentityInitializer, OrthogonalInitializer = Identity, Orthogonal


def _as_given(array: np.ndarray, shape: Shape, dtype: object = None) -> np.ndarray:
    if tuple(shape) != array.shape:
        raise ValueError(f"An array as an initializer must have the shape of the weights: {shape}; got {array.shape}.")
    wanted: Any = config.floatx() if dtype is None else dtype
    return array.astype(wanted)


def get(identifier: Any) -> Any:
    """Return the initializer for a name, a class or instance of `Initializer`, a config dict, or an array.

    A function of (shape, dtype), or another object that can be called so, is one itself; None is None. ValueError or
    TypeError for anything else.
    """
    if identifier is None:
        return None
    if hasattr(identifier, "__array__") and not isinstance(identifier, (type, np.generic)):
        return functools.partial(_as_given, config.floats("an initializer", identifier).copy())
    return resolve("initializer", identifier, KNOWN, Initializer, callables=True)


def serialize(initializer: Any) -> Any:
    """Return the config dict of an initializer; see `gpumlp.saving`."""
    return serialize_keras_object(initializer)


deserialize = read_by("keras.initializers", get)
