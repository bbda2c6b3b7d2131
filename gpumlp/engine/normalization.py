"""The operations of layers that bring numbers to a common scale, over the array library.

Samples are seen in a shape in which neighbours of one kind are one axis: what stands along the layer's axes is at 1,
3, ..., everything else, the batch first of all, at 0, 2, ...: mostly (rows, columns). Statistics are of two passes, and
the mean that rounding has left in the differences is taken out of both (Chan, Golub & LeVeque 1983): so they are as
exact for numbers that are far from 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gpumlp import layers
from gpumlp.backends.contract import Backend
from gpumlp.engine.operation import Operation, Site
from gpumlp.layers import Shape

Array = Any
MEAN, INVERSE = 0, 1  # what is kept: statistics' mean, and 1 / sqrt(variance + epsilon)
WORK, MORE = -4, -5  # work arrays: those of `backends.numpy_backend` end before
LEAST_LENGTH, LEAST_DEVIATION = 1e-12, 1e-7  # Keras's own, of UnitNormalization and of Normalization


def grouped(sample: Shape, along: Sequence[int]) -> Shape:
    """Return the shape in which samples of ``sample`` are seen; ``along`` counts with the batch."""
    shape = [-1]
    for axis, size in enumerate(sample, 1):
        if (axis in along) != (len(shape) - 1) % 2:
            shape.append(size)
        elif len(shape) > 1:
            shape[-1] *= size
    return tuple(shape)


@dataclass(frozen=True)
class _Grouped(Operation):
    """What sees its samples in ``shape``."""

    shape: Shape

    @property
    def along(self) -> tuple[int, ...]:
        """The axes that the layer's are."""
        return tuple(range(1, len(self.shape), 2))

    @property
    def beside(self) -> tuple[int, ...]:
        """All others."""
        return tuple(range(0, len(self.shape), 2))

    def _column(self, a: Array) -> Array:
        """Return an array along the layer's axes so that it is stretched over the others."""
        return a.reshape([size if i % 2 else 1 for i, size in enumerate(self.shape)])

    def _work(self, site: Site, x: Array, which: int = WORK) -> Array:
        return site.backend.scratch(which, x.shape, x.dtype)


@dataclass(frozen=True)
class _ScaledOp(_Grouped):
    """y = gamma * (x - mean) / sqrt(variance + epsilon) + beta; gamma and beta None without them."""

    gamma: int | None
    beta: int | None
    epsilon: float

    @property
    def over(self) -> tuple[int, ...]:
        """The axes that statistics go over."""
        raise NotImplementedError

    def _statistics(self, site: Site, x: Array) -> Array:
        """Return what is kept of as many samples as ``x`` has: means and inverse deviations, shaped to stretch."""
        sizes = [1 if axis in self.over else size for axis, size in enumerate(x.shape)]
        return [site.kept[which][: math.prod(sizes)].reshape(sizes) for which in (MEAN, INVERSE)]

    def _scale(self, site: Site, centred: Array, inverse: Array) -> None:
        """Make y of x - mean, in place."""
        xp = site.backend.xp
        xp.multiply(centred, inverse, out=centred)
        if self.gamma is not None:
            xp.multiply(centred, self._column(site.weights[self.gamma]), out=centred)
        if self.beta is not None:
            xp.add(centred, self._column(site.weights[self.beta]), out=centred)

    def _normalize(self, site: Site, x: Array, y: Array) -> tuple[Array, Array]:
        """Write ``y`` by the statistics of ``x``, which are kept, and return mean and variance."""
        xp, work = site.backend.xp, self._work(site, x)
        mean, inverse = self._statistics(site, x)
        xp.mean(x, axis=self.over, keepdims=True, out=mean)
        xp.subtract(x, mean, out=y)
        rest = xp.mean(y, axis=self.over, keepdims=True)
        xp.add(mean, rest, out=mean)
        xp.subtract(y, rest, out=y)
        xp.multiply(y, y, out=work)
        variance = xp.mean(work, axis=self.over, keepdims=True)
        xp.divide(1.0, xp.sqrt(variance + self.epsilon), out=inverse)
        self._scale(site, y, inverse)
        return mean, variance

    def backward(self, site: Site, dy: Array, x: Array, y: Array, dx: Array | None) -> Array:
        xp, (x, slope) = site.backend.xp, (a.reshape(self.shape) for a in (x, dy))
        mean, inverse = self._statistics(site, x)
        normal, work = self._work(site, x), self._work(site, x, MORE)
        xp.subtract(x, mean, out=normal)
        xp.multiply(normal, inverse, out=normal)
        self._weight_gradients(site, slope, normal, work)
        if self.gamma is not None:
            xp.multiply(slope, self._column(site.weights[self.gamma]), out=slope)
        xp.multiply(slope, normal, out=work)
        xp.multiply(normal, xp.mean(work, axis=self.over, keepdims=True), out=normal)
        xp.subtract(slope, xp.mean(slope, axis=self.over, keepdims=True), out=slope)
        xp.subtract(slope, normal, out=slope)
        xp.multiply(slope, inverse, out=slope)
        return dy

    def _weight_gradients(self, site: Site, slope: Array, normal: Array, work: Array) -> None:
        xp = site.backend.xp
        if self.beta is not None:
            db = site.grads[self.beta]
            db[...] = xp.sum(slope, axis=self.beside).reshape(db.shape)
        if self.gamma is not None:
            dg = site.grads[self.gamma]
            xp.multiply(slope, normal, out=work)
            dg[...] = xp.sum(work, axis=self.beside).reshape(dg.shape)


@dataclass(frozen=True)
class BatchNormOp(_ScaledOp):
    """Statistics of the batch in training, which change their moving averages; those, outside and where frozen."""

    mean: int
    variance: int
    momentum: float
    resting: bool = False  # whether the way back is that outside training, with gradients by the weights

    def asked(self, training: bool, loss: bool) -> BatchNormOp:
        return replace(self, resting=not training)

    @classmethod
    def of(cls, layer: layers.BatchNormalization, shape: Shape, first: int) -> BatchNormOp:
        """See `operations.LAYERS`."""
        gamma, beta, after = _places(layer, first)
        seen = grouped(shape, layer.along(shape))
        return cls(seen, gamma, beta, layer.epsilon, after, after + 1, layer.momentum)

    @property
    def over(self) -> tuple[int, ...]:
        return self.beside

    def keep(self, backend: Backend, batch: int, size: int, dtype: Any) -> Array:
        return backend.empty((2, math.prod(self.shape[1::2])), dtype)

    def forward(self, site: Site, x: Array, y: Array, step: int | None) -> None:
        xp, (x, y) = site.backend.xp, (a.reshape(self.shape) for a in (x, y))
        averages = site.weights[self.mean], site.weights[self.variance]
        if step is None or site.frozen:
            mean, inverse = self._statistics(site, x)
            mean[...] = self._column(averages[0])
            xp.divide(1.0, xp.sqrt(self._column(averages[1]) + self.epsilon), out=inverse)
            xp.subtract(x, mean, out=y)
            self._scale(site, y, inverse)
            return
        for average, now in zip(averages, self._normalize(site, x, y), strict=True):
            xp.multiply(average, self.momentum, out=average)
            xp.add(average, now.reshape(average.shape) * (1.0 - self.momentum), out=average)

    def backward(self, site: Site, dy: Array, x: Array, y: Array, dx: Array | None) -> Array:
        if not (site.frozen or self.resting):
            return super().backward(site, dy, x, y, dx)
        xp, (x, slope) = site.backend.xp, (a.reshape(self.shape) for a in (x, dy))
        mean, inverse = self._statistics(site, x)
        if self.resting:
            normal = self._work(site, x)
            xp.subtract(x, mean, out=normal)
            xp.multiply(normal, inverse, out=normal)
            self._weight_gradients(site, slope, normal, self._work(site, x, MORE))
        xp.multiply(slope, inverse, out=slope)
        if self.gamma is not None:
            xp.multiply(slope, self._column(site.weights[self.gamma]), out=slope)
        return dy


@dataclass(frozen=True)
class LayerNormOp(_ScaledOp):
    """Statistics of each sample, along the layer's axes."""

    @classmethod
    def of(cls, layer: layers.LayerNormalization, shape: Shape, first: int) -> LayerNormOp:
        """See `operations.LAYERS`."""
        gamma, beta, _ = _places(layer, first)
        return cls(grouped(shape, layer.along(shape)), gamma, beta, layer.epsilon)

    @property
    def over(self) -> tuple[int, ...]:
        return self.along

    def keep(self, backend: Backend, batch: int, size: int, dtype: Any) -> Array:
        return backend.empty((2, batch * size // math.prod(self.shape[1::2])), dtype)

    def forward(self, site: Site, x: Array, y: Array, step: int | None) -> None:
        self._normalize(site, x.reshape(self.shape), y.reshape(self.shape))


def _places(layer: layers.BatchNormalization | layers.LayerNormalization, first: int) -> tuple[Any, Any, int]:
    """Return where gamma and beta stand, None without, and the place after them."""
    return (
        first if layer.scale else None,
        first + layer.scale if layer.center else None,
        first + layer.scale + layer.center,
    )


@dataclass(frozen=True)
class UnitNormOp(_Grouped):
    """y = x / max(length, 1e-12), along the layer's axes."""

    @classmethod
    def of(cls, layer: layers.UnitNormalization, shape: Shape, first: int) -> UnitNormOp:
        """See `operations.LAYERS`."""
        return cls(grouped(shape, layer.along(shape)))

    def _lengths(self, site: Site, x: Array) -> Array:
        xp, work = site.backend.xp, self._work(site, x)
        largest = xp.max(xp.absolute(x, out=work), axis=self.along, keepdims=True)
        largest = xp.where(largest > 0, largest, 1.0)  # so that no square is 0 or infinite that need not be
        xp.divide(x, largest, out=work)
        xp.multiply(work, work, out=work)
        return largest * xp.sqrt(xp.sum(work, axis=self.along, keepdims=True))

    def forward(self, site: Site, x: Array, y: Array, step: int | None) -> None:
        xp, (x, y) = site.backend.xp, (a.reshape(self.shape) for a in (x, y))
        xp.divide(x, xp.maximum(self._lengths(site, x), LEAST_LENGTH), out=y)

    def backward(self, site: Site, dy: Array, x: Array, y: Array, dx: Array | None) -> Array:
        xp, (x, y, slope) = site.backend.xp, (a.reshape(self.shape) for a in (x, y, dy))
        lengths, work = self._lengths(site, x), self._work(site, x)
        xp.multiply(slope, y, out=work)
        share = xp.sum(work, axis=self.along, keepdims=True) * (lengths > LEAST_LENGTH)
        xp.multiply(y, share, out=work)
        xp.subtract(slope, work, out=slope)
        xp.divide(slope, xp.maximum(lengths, LEAST_LENGTH), out=slope)
        return dy


@dataclass(frozen=True)
class NormalizationOp(_Grouped):
    """y = (x - mean) / deviation, or with ``invert`` x * deviation + mean; these are weights, or given."""

    mean: int
    variance: int
    given: tuple[tuple[float, ...], tuple[float, ...]] | None
    invert: bool

    @classmethod
    def of(cls, layer: layers.Normalization, shape: Shape, first: int) -> NormalizationOp:
        """See `operations.LAYERS`."""
        found = layer.constants(shape)
        given = None if found is None else tuple(tuple(a.ravel().tolist()) for a in found)
        return cls(grouped(shape, layer.along(shape)), first, first + 1, given, layer.invert)  # type: ignore[arg-type]

    def keep(self, backend: Backend, batch: int, size: int, dtype: Any) -> Array:
        return None if self.given is None else backend.to_device(np.array(self.given, dtype))

    def _statistics(self, site: Site) -> tuple[Array, Array]:
        """Return mean and deviation, shaped to be stretched."""
        xp = site.backend.xp
        found = (site.weights[self.mean], site.weights[self.variance]) if self.given is None else site.kept
        mean, variance = (self._column(a) for a in found)
        return mean, xp.maximum(xp.sqrt(variance), LEAST_DEVIATION)

    def forward(self, site: Site, x: Array, y: Array, step: int | None) -> None:
        xp, (x, y), (mean, deviation) = site.backend.xp, (a.reshape(self.shape) for a in (x, y)), self._statistics(site)
        if self.invert:
            xp.multiply(x, deviation, out=y)
            xp.add(y, mean, out=y)
        else:
            xp.subtract(x, mean, out=y)
            xp.divide(y, deviation, out=y)

    def backward(self, site: Site, dy: Array, x: Array, y: Array, dx: Array | None) -> Array:
        xp, slope = site.backend.xp, dy.reshape(self.shape)
        (xp.multiply if self.invert else xp.divide)(slope, self._statistics(site)[1], out=slope)
        return dy
