"""The operations of layers that bring numbers to a common scale, over the array library.

Samples are seen in a shape in which neighbours of one kind are one axis: what stands along the layer's axes is at 1,
3, ..., everything else, the batch first of all, at 0, 2, ...: mostly (rows, columns).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from gpumlp import layers
from gpumlp.backends import statistics
from gpumlp.backends.contract import Backend
from gpumlp.backends.runtime import Array, DType
from gpumlp.engine.operation import Operation, Site
from gpumlp.layers import Shape

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
        """Where the layer's axes are."""
        return tuple(range(1, len(self.shape), 2))

    def _column(self, a: Array) -> Array:
        """Return an array along the layer's axes so that it is stretched over the others."""
        return a.reshape([size if i % 2 else 1 for i, size in enumerate(self.shape)])

    def _work(self, site: Site, x: Array) -> Array:
        return site.backend.scratch(statistics.WORK, x.shape, x.dtype)


@dataclass(frozen=True)
class BatchNormOp(_Grouped):
    """Statistics of the batch in training, which change their moving averages; those, outside and where frozen."""

    gamma: int | None
    beta: int | None
    epsilon: float
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
        kind = FeatureBatchNormOp if seen == (-1, math.prod(shape)) else cls
        return kind(seen, gamma, beta, layer.epsilon, after, after + 1, layer.momentum)

    def keep(self, backend: Backend, batch: int, size: int, dtype: DType) -> Array | None:
        return backend.empty((2, self.shape[1]), dtype)

    def forward(self, site: Site, x: Array, y: Array, step: int | None) -> None:
        x, y = x.reshape(self.shape), y.reshape(self.shape)
        averages = site.weights[self.mean], site.weights[self.variance]
        gamma, beta = _at(site.weights, self.gamma), _at(site.weights, self.beta)
        if step is None or site.frozen:
            site.backend.fixed_norm(x, gamma, beta, averages, self.epsilon, y)
        else:
            site.backend.batch_norm(x, gamma, beta, averages, self.momentum, self.epsilon, site.memory, y)

    def backward(self, site: Site, dy: Array, x: Array, y: Array, dx: Array | None) -> Array | None:
        x, slope = x.reshape(self.shape), dy.reshape(self.shape)
        below = None if dx is None else dx.reshape(self.shape)
        backend, gamma, variance = site.backend, _at(site.weights, self.gamma), site.weights[self.variance]
        gradients = _at(site.grads, self.gamma), _at(site.grads, self.beta)
        if not (site.frozen or self.resting):
            backend.batch_norm_backward(slope, x, gamma, site.memory, below, *gradients)
            return dx
        if self.resting:
            inverse = 1.0 / backend.xp.sqrt(self._column(variance) + self.epsilon)
            kept = self._column(site.weights[self.mean]), inverse
            statistics.weight_gradients(backend, slope, x, kept, gradients)
        if below is not None:
            backend.fixed_norm_backward(slope, gamma, variance, self.epsilon, below)
        return dx


class FeatureBatchNormOp(BatchNormOp):
    """Each feature has statistics of its own: what there are kernels for."""


@dataclass(frozen=True)
class LayerNormOp(_Grouped):
    """Statistics of each sample, along the layer's axes."""

    gamma: int | None
    beta: int | None
    epsilon: float

    @classmethod
    def of(cls, layer: layers.LayerNormalization, shape: Shape, first: int) -> LayerNormOp:
        """See `operations.LAYERS`."""
        gamma, beta, _ = _places(layer, first)
        return cls(grouped(shape, layer.along(shape)), gamma, beta, layer.epsilon)

    def keep(self, backend: Backend, batch: int, size: int, dtype: DType) -> Array | None:
        return backend.empty((2, batch * size // math.prod(self.shape[1::2])), dtype)

    def _kept(self, site: Site, x: Array) -> tuple[Array, Array]:
        """Return the means and inverse deviations of as many samples as ``x`` has, shaped to stretch."""
        sizes = [1 if axis % 2 else size for axis, size in enumerate(x.shape)]
        mean, inverse = (row[: math.prod(sizes)].reshape(sizes) for row in site.memory)
        return mean, inverse

    def _weights(self, site: Site) -> tuple[Array | None, Array | None]:
        gamma, beta = (_at(site.weights, place) for place in (self.gamma, self.beta))
        return None if gamma is None else self._column(gamma), None if beta is None else self._column(beta)

    def forward(self, site: Site, x: Array, y: Array, step: int | None) -> None:
        xp, x, y, (gamma, beta) = site.backend.xp, x.reshape(self.shape), y.reshape(self.shape), self._weights(site)
        mean, inverse = self._kept(site, x)
        variance = statistics.centre(site.backend, x, y, self.along, mean)
        xp.divide(1.0, xp.sqrt(variance + self.epsilon), out=inverse)
        statistics.scale(xp, y, inverse, gamma, more=beta)

    def backward(self, site: Site, dy: Array, x: Array, y: Array, dx: Array | None) -> Array | None:
        x, slope = x.reshape(self.shape), dy.reshape(self.shape)
        gradients = _at(site.grads, self.gamma), _at(site.grads, self.beta)
        statistics.slope(site.backend, slope, x, self.along, self._kept(site, x), self._weights(site)[0], gradients)
        return dy


def _at(arrays: Sequence[Array], place: int | None) -> Array | None:
    return None if place is None else arrays[place]


def _places(
    layer: layers.BatchNormalization | layers.LayerNormalization, first: int
) -> tuple[int | None, int | None, int]:
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

    def backward(self, site: Site, dy: Array, x: Array, y: Array, dx: Array | None) -> Array | None:
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
        along, given, features = layer.along(shape), layer.constants(shape), math.prod(shape)
        seen, each = grouped(shape, along), None
        if given is not None:  # for each feature
            own = [size if axis in along else 1 for axis, size in enumerate(shape, 1)]
            each = tuple(tuple(np.broadcast_to(a.reshape(own), shape).ravel().tolist()) for a in given)
        if given is not None or seen == (-1, features) or features == 1:
            seen = -1, features
        kind = FeatureNormalizationOp if seen == (-1, features) and not layer.invert else cls
        return kind(seen, first, first + 1, each, layer.invert)  # type: ignore[arg-type]

    def keep(self, backend: Backend, batch: int, size: int, dtype: DType) -> Array | None:
        return None if self.given is None else backend.to_device(np.array(self.given, dtype))

    def _found(self, site: Site) -> tuple[Array, Array]:
        """Return mean and variance."""
        if self.given is None:
            return site.weights[self.mean], site.weights[self.variance]
        return site.memory[0], site.memory[1]

    def _statistics(self, site: Site) -> tuple[Array, Array]:
        """Return mean and deviation, shaped to be stretched."""
        xp = site.backend.xp
        mean, variance = (self._column(a) for a in self._found(site))
        return mean, xp.maximum(xp.sqrt(variance), LEAST_DEVIATION)

    def columns(self, weights: Sequence[Array], features: int) -> npt.NDArray[np.float64]:
        """Return a, b and c for each feature of a sample, [3, features] in double: y = (x - a) * b + c."""
        found = (weights[self.mean], weights[self.variance]) if self.given is None else self.given
        sizes = [1, *self.shape[1:]]
        sizes[0] = features // math.prod(sizes)
        mean, variance = (np.broadcast_to(self._column(np.asarray(a, np.float64)), sizes).ravel() for a in found)
        deviation = np.maximum(np.sqrt(variance), LEAST_DEVIATION)
        nothing = np.zeros(features)
        return np.stack([nothing, deviation, mean] if self.invert else [mean, 1.0 / deviation, nothing])

    def forward(self, site: Site, x: Array, y: Array, step: int | None) -> None:
        xp, (x, y), (mean, deviation) = site.backend.xp, (a.reshape(self.shape) for a in (x, y)), self._statistics(site)
        if self.invert:
            xp.multiply(x, deviation, out=y)
            xp.add(y, mean, out=y)
        else:
            xp.subtract(x, mean, out=y)
            xp.divide(y, deviation, out=y)

    def backward(self, site: Site, dy: Array, x: Array, y: Array, dx: Array | None) -> Array | None:
        xp, slope = site.backend.xp, dy.reshape(self.shape)
        (xp.multiply if self.invert else xp.divide)(slope, self._statistics(site)[1], out=slope)
        return dy


class FeatureNormalizationOp(NormalizationOp):
    """Each feature has a mean and a variance of its own: what there are kernels for."""

    def forward(self, site: Site, x: Array, y: Array, step: int | None) -> None:
        site.backend.fixed_norm(x, None, None, self._found(site), 0.0, y, LEAST_DEVIATION)

    def backward(self, site: Site, dy: Array, x: Array, y: Array, dx: Array | None) -> Array | None:
        site.backend.fixed_norm_backward(dy, None, self._found(site)[1], 0.0, dy, LEAST_DEVIATION)
        return dy
