"""Operations that draw random numbers in training, on the host, beside dropout, which has kernels that draw its own."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Self

import numpy as np
import numpy.typing as npt

from gpumlp import layers, random
from gpumlp.activations import SELU_ALPHA, SELU_SCALE, linear
from gpumlp.backends.contract import Backend
from gpumlp.backends.numpy_backend import kept_scale
from gpumlp.backends.runtime import Array, DType
from gpumlp.engine.operation import Operation, Site
from gpumlp.layers import Shape

Noisy = layers.GaussianNoise | layers.GaussianDropout | layers.Dropout | layers.AlphaDropout
Drawn = npt.NDArray[np.float32]


@dataclass(frozen=True)
class NoiseOp(Operation):
    """In training: y is made of x and of random numbers, a function of ``key``, the layer and the step alone.

    They are drawn on the host, in float32, and copied to a GPU: the same ones on every device. ``noise`` is their
    shape, batch first, None for as many as there are; numbers along an axis where it is 1 share one.
    """

    strength: float  # a standard deviation, or a share of what is dropped; at 0 nothing is done
    key: int
    sample: Shape
    noise: tuple[int | None, *Shape]

    @classmethod
    def of(cls, layer: Noisy, shape: Shape, first: int) -> Self:
        """See `LAYERS`."""
        strength = layer.stddev if isinstance(layer, layers.GaussianNoise) else layer.rate
        noise = layer.noise_shape or (None, *shape)
        each = (of if n is None else n for n, of in zip(noise[1:], shape, strict=True))
        return cls(strength, layer.key, shape, (noise[0], *each))

    def draw(self, numbers: np.random.Generator, shape: Shape) -> Drawn:
        """Return what `apply` and `slope` are given, float32 of ``shape``."""
        raise NotImplementedError

    def apply(self, xp: ModuleType, x: Array, drawn: Array, y: Array) -> None:
        """Write y[B, *sample]; what was drawn goes with it."""
        xp.multiply(x, drawn, out=y)

    def slope(self, xp: ModuleType, dy: Array, drawn: Array) -> None:
        """Overwrite dy[B, *sample] with the gradient by x."""
        xp.multiply(dy, drawn, out=dy)

    def keep(self, backend: Backend, batch: int, size: int, dtype: DType) -> Array | None:
        return backend.empty((1 if self.noise[0] == 1 else batch, *self.noise[1:]), dtype)

    def forward(self, site: Site, x: Array, y: Array, step: int | None) -> None:
        if step is None or self.strength == 0:
            site.backend.activation_forward(linear, x, y)
            return
        batch = site.place.batch(x)
        if self.noise[0] not in (None, 1, batch):
            raise ValueError(
                f"noise_shape {self.noise} of a layer goes with batches of {self.noise[0]} samples; this one has "
                f"{batch}. With None in the first place it goes with any."
            )
        drawn, backend, first = self._drawn(site, x), site.backend, site.place.first
        numbers = random.Counted().at(self.key, site.number, step)
        whole = self.draw(numbers, (1 if self.noise[0] == 1 else batch, *self.noise[1:]))
        backend.assign(drawn, whole if len(whole) == 1 else whole[first : first + len(x)])
        self.apply(backend.xp, self._samples(x), drawn, self._samples(y))

    def backward(self, site: Site, dy: Array, x: Array, y: Array, dx: Array | None) -> Array | None:
        if self.strength:
            self.slope(site.backend.xp, self._samples(dy), self._drawn(site, x))
        return dy

    def _samples(self, a: Array) -> Array:
        return a.reshape(-1, *self.sample)

    def _drawn(self, site: Site, x: Array) -> Array:
        return site.memory if self.noise[0] == 1 else site.memory[: len(x)]

    def asked(self, training: bool, loss: bool) -> NoiseOp:
        return self if training else replace(self, strength=0.0)

    def outline(self) -> NoiseOp:
        return replace(self, strength=0.0, key=0)


class GaussianNoiseOp(NoiseOp):
    """In training: y = x + strength N(0, 1)."""

    def draw(self, numbers: np.random.Generator, shape: Shape) -> Drawn:
        return np.float32(self.strength) * numbers.standard_normal(shape, np.float32)

    def apply(self, xp: ModuleType, x: Array, drawn: Array, y: Array) -> None:
        xp.add(x, drawn, out=y)

    def slope(self, xp: ModuleType, dy: Array, drawn: Array) -> None: ...


class GaussianDropoutOp(NoiseOp):
    """In training: y = x N(1, strength / (1 - strength))."""

    def draw(self, numbers: np.random.Generator, shape: Shape) -> Drawn:
        deviation = math.sqrt(self.strength / (1.0 - self.strength))
        return np.float32(1.0) + np.float32(deviation) * numbers.standard_normal(shape, np.float32)


class SharedDropoutOp(NoiseOp):
    """`DropoutOp` of a shape of its own."""

    def draw(self, numbers: np.random.Generator, shape: Shape) -> Drawn:
        return self._kept(numbers, shape, kept_scale(self.strength))

    def _kept(self, numbers: np.random.Generator, shape: Shape, scale: float) -> Drawn:
        kept = numbers.random(shape, np.float32) >= np.float32(self.strength)
        return kept * np.float32(scale)


class AlphaDropoutOp(SharedDropoutOp):
    """In training: y = a (x or, with probability ``strength``, LIMIT) + b, of the mean and variance of x.

    That is drawn (x - LIMIT) + a LIMIT + b, with a where x is kept in ``drawn``, else 0; b = -a LIMIT strength.
    """

    LIMIT = -SELU_ALPHA * SELU_SCALE  # selu's, far below 0

    @property
    def _a(self) -> float:
        return ((1.0 - self.strength) * (1.0 + self.strength * self.LIMIT**2)) ** -0.5

    def draw(self, numbers: np.random.Generator, shape: Shape) -> Drawn:
        return self._kept(numbers, shape, self._a)

    def apply(self, xp: ModuleType, x: Array, drawn: Array, y: Array) -> None:
        xp.subtract(x, self.LIMIT, out=y)
        xp.multiply(y, drawn, out=y)
        xp.add(y, self._a * self.LIMIT * (1.0 - self.strength), out=y)
