"""Initial weights. Fan-in and fan-out of a Dense kernel are its two axes (Glorot & Bengio 2010, He et al. 2015)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gpumlp import config, random
from gpumlp.naming import neutral, number, resolve, settle

# standard deviation of a unit normal cut off at two standard deviations
_TRUNCATED_STD = 0.87962566103423978


class Initializer:
    """Calling one with a shape and a dtype, the default type for None, gives a new array."""

    name: ClassVar[str]

    def __call__(self, shape: tuple[int, ...], dtype: object = None) -> np.ndarray:
        wanted: Any = config.floatx() if dtype is None else dtype
        return self.values(tuple(shape)).astype(wanted, copy=False)

    def values(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return a new array of float64."""
        raise NotImplementedError


@dataclass(frozen=True)
class Constant(Initializer):
    """Every element is ``value``, or is the one of an array that stretches to the shape asked for."""

    name = "constant"
    value: float = 0.0

    def __post_init__(self) -> None:
        if np.ndim(self.value):
            if not np.isfinite(array := config.floats("value", self.value, "float64")).all():
                raise ValueError(f"value must be of finite numbers; got {self.value!r}.")
            settle(self, value=array)
        else:
            settle(self, value=number("value", self.value))

    def values(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.full(shape, self.value)


@dataclass(frozen=True)
class Zeros(Initializer):
    """All zeros."""

    name = "zeros"

    def values(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.zeros(shape)


@dataclass(frozen=True)
class Ones(Initializer):
    """All ones."""

    name = "ones"

    def values(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.ones(shape)


@dataclass(frozen=True)
class _Scaled(Initializer):
    """Zero-mean random numbers of variance ``scale / fan``; drawn in float64, the same for every dtype."""

    seed: int | None = None
    input_axes: object = None
    output_axes: object = None
    scale: ClassVar[float] = 1.0
    average: ClassVar[bool] = False  # fan is the mean of fan-in and fan-out, otherwise fan-in

    def __post_init__(self) -> None:
        neutral(type(self).__name__, input_axes=(self.input_axes, None), output_axes=(self.output_axes, None))
        if self.seed is not None and (isinstance(self.seed, bool) or not isinstance(self.seed, (int, np.integer))):
            raise ValueError(f"seed must be a whole number or None; got {self.seed!r}.")
        if self.seed is not None and self.seed < 0:
            raise ValueError(f"seed must be >= 0; got {self.seed!r}.")

    def variance(self, shape: tuple[int, ...]) -> float:
        inputs, outputs = (shape[0], shape[-1]) if shape else (1, 1)
        fan = (inputs + outputs) / 2 if self.average else inputs
        return self.scale / max(1.0, fan)

    def _uniform(self, shape: tuple[int, ...]) -> np.ndarray:
        limit = math.sqrt(3.0 * self.variance(shape))
        return random.generator(self.seed).uniform(-limit, limit, shape)

    def _normal(self, shape: tuple[int, ...]) -> np.ndarray:
        source = random.generator(self.seed)
        values = source.standard_normal(shape)
        while (far := np.abs(values) > 2.0).any():  # drawn again, as Keras does: normal, truncated at 2 sigma
            values[far] = source.standard_normal(int(far.sum()))
        return values * math.sqrt(self.variance(shape)) / _TRUNCATED_STD


class GlorotUniform(_Scaled):
    """Uniform, variance 2 / (fan_in + fan_out)."""

    name = "glorot_uniform"
    average = True

    def values(self, shape: tuple[int, ...]) -> np.ndarray:
        return self._uniform(shape)


class GlorotNormal(_Scaled):
    """Truncated normal, variance 2 / (fan_in + fan_out)."""

    name = "glorot_normal"
    average = True

    def values(self, shape: tuple[int, ...]) -> np.ndarray:
        return self._normal(shape)


class HeUniform(_Scaled):
    """Uniform, variance 2 / fan_in."""

    name = "he_uniform"
    scale = 2.0

    def values(self, shape: tuple[int, ...]) -> np.ndarray:
        return self._uniform(shape)


class HeNormal(_Scaled):
    """Truncated normal, variance 2 / fan_in."""

    name = "he_normal"
    scale = 2.0

    def values(self, shape: tuple[int, ...]) -> np.ndarray:
        return self._normal(shape)


KNOWN: dict[str, type[Initializer]] = {
    c.name: c for c in (Zeros, Ones, Constant, GlorotUniform, GlorotNormal, HeUniform, HeNormal)
}
zeros, ones, constant = Zeros, Ones, Constant
glorot_uniform, glorot_normal, he_uniform, he_normal = GlorotUniform, GlorotNormal, HeUniform, HeNormal


def get(identifier: object) -> Initializer:
    """Return the initializer for a name, a class or instance of `Initializer`, or a config dict.

    ValueError or TypeError for anything else.
    """
    return resolve("initializer", identifier, KNOWN, Initializer)
