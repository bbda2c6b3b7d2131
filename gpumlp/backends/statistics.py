"""Statistics, and what is made of them, over the array library: the contract of batch normalization for every backend.

Statistics are of two passes, and the mean that rounding has left in the differences is taken out of both (Chan, Golub &
LeVeque 1983): so they are as exact for numbers that are far from 0.
"""

from __future__ import annotations

from types import ModuleType
from typing import Protocol, overload

from gpumlp.backends.runtime import Array
from gpumlp.tape import Scratch

Axes = tuple[int, ...]
Pair = tuple[Array | None, Array | None]  # of gamma and beta, or of mean and inverse
WORK, MORE = -4, -5  # work arrays: those of `numpy_backend` end before


class Library(Protocol):
    """What a backend has for this: its array library, and work arrays."""

    @property
    def xp(self) -> ModuleType: ...

    @property
    def scratch(self) -> Scratch: ...


def centre(on: Library, x: Array, y: Array, over: Axes, mean: Array) -> Array:
    """Write y = x - mean, and the mean over the axes ``over``; return the biased variance. All stretch over x."""
    xp, work = on.xp, on.scratch(WORK, x.shape, x.dtype)
    xp.mean(x, axis=over, keepdims=True, out=mean)
    xp.subtract(x, mean, out=y)
    rest = xp.mean(y, axis=over, keepdims=True)
    xp.add(mean, rest, out=mean)
    xp.subtract(y, rest, out=y)
    xp.multiply(y, y, out=work)
    return xp.mean(work, axis=over, keepdims=True)


def scale(xp: ModuleType, y: Array, *factors: Array | None, more: Array | None = None) -> None:
    """Multiply y by the factors, and add ``more``; what is None is left out."""
    for factor in factors:
        if factor is not None:
            xp.multiply(y, factor, out=y)
    if more is not None:
        xp.add(y, more, out=y)


def weight_gradients(on: Library, dy: Array, x: Array, statistics: Pair, gradients: Pair) -> Array:
    """Write the gradients by gamma and beta, where y = gamma (x - mean) inverse + beta; return (x - mean) inverse.

    What is None is not there; the gradients have the axes beside those of the weights, of size 1, left out.
    """
    xp, normal, work = on.xp, on.scratch(WORK, x.shape, x.dtype), on.scratch(MORE, x.shape, x.dtype)
    (mean, inverse), (dgamma, dbeta), beside = statistics, gradients, tuple(range(0, x.ndim, 2))
    xp.subtract(x, mean, out=normal)
    xp.multiply(normal, inverse, out=normal)
    if dbeta is not None:
        dbeta[...] = xp.sum(dy, axis=beside).reshape(dbeta.shape)
    if dgamma is not None:
        xp.multiply(dy, normal, out=work)
        dgamma[...] = xp.sum(work, axis=beside).reshape(dgamma.shape)
    return normal


def slope(
    on: Library, dy: Array, x: Array, over: Axes, statistics: Pair, gamma: Array | None, gradients: Pair
) -> None:  # fmt: skip
    """Overwrite dy with dx, where the statistics are those of x over some axes, and write `weight_gradients`."""
    normal = weight_gradients(on, dy, x, statistics, gradients)
    xp, work = on.xp, on.scratch(MORE, x.shape, x.dtype)
    scale(xp, dy, gamma)
    xp.multiply(dy, normal, out=work)
    xp.multiply(normal, xp.mean(work, axis=over, keepdims=True), out=normal)
    xp.subtract(dy, xp.mean(dy, axis=over, keepdims=True), out=dy)
    xp.subtract(dy, normal, out=dy)
    scale(xp, dy, statistics[1])


class BatchNorm:
    """Batch normalization of x[B, C], or x[B, C, S]: statistics go over B and S.

    gamma, beta [C] may be None; ``averages``: the moving mean and variance [C]; kept[2, C] goes from forward to back.
    """

    xp: ModuleType
    scratch: Scratch

    def batch_norm(
        self, x: Array, gamma: Array | None, beta: Array | None, averages: tuple[Array, Array], momentum: float,
        epsilon: float, kept: Array, y: Array,
    ) -> None:  # fmt: skip
        """Write y = gamma (x - mean) / sqrt(variance + epsilon) + beta by the batch's, and kept; move the averages."""
        xp, (gamma, beta, mean, inverse) = self.xp, (_columns(a, x) for a in (gamma, beta, *kept))
        variance = centre(self, x, y, tuple(range(0, x.ndim, 2)), mean)
        xp.divide(1.0, xp.sqrt(variance + epsilon), out=inverse)
        scale(xp, y, inverse, gamma, more=beta)
        for average, now in zip(averages, (mean, variance), strict=True):
            xp.multiply(average, momentum, out=average)
            xp.add(average, now.reshape(average.shape) * (1.0 - momentum), out=average)

    def batch_norm_backward(
        self, dy: Array, x: Array, gamma: Array | None, kept: Array, dx: Array | None, dgamma: Array | None,
        dbeta: Array | None,
    ) -> None:  # fmt: skip
        """Write dx (None: nobody asks), dgamma and dbeta [C] (None without the weight); ``dy`` is consumed."""
        over, statistics = tuple(range(0, x.ndim, 2)), (_columns(kept[0], x), _columns(kept[1], x))
        slope(self, dy, x, over, statistics, _columns(gamma, x), (dgamma, dbeta))
        if dx is not None:
            dx[...] = dy

    def fixed_norm(
        self, x: Array, gamma: Array | None, beta: Array | None, averages: tuple[Array, Array], epsilon: float,
        y: Array, least: float = 0.0,
    ) -> None:  # fmt: skip
        """Write y = gamma (x - mean) / max(sqrt(variance + epsilon), least) + beta, by the averages."""
        mean, variance = (_columns(a, x) for a in averages)
        self.xp.subtract(x, mean, out=y)
        scale(self.xp, y, self._inverse(variance, epsilon, least), _columns(gamma, x), more=_columns(beta, x))

    def _inverse(self, variance: Array, epsilon: float, least: float) -> Array:
        return 1.0 / self.xp.maximum(self.xp.sqrt(variance + epsilon), least)

    def fixed_norm_backward(
        self, dy: Array, gamma: Array | None, variance: Array, epsilon: float, dx: Array, least: float = 0.0
    ) -> None:
        """Write dx of `fixed_norm`; it may be dy."""
        self.xp.multiply(dy, self._inverse(_columns(variance, dy), epsilon, least), out=dx)
        scale(self.xp, dx, _columns(gamma, dy))


@overload
def _columns(a: Array, x: Array) -> Array: ...
@overload
def _columns(a: Array | None, x: Array) -> Array | None: ...
def _columns(a: Array | None, x: Array) -> Array | None:
    """Return an array of columns so that it stretches over x; None for None."""
    return None if a is None else a.reshape(1, -1, *[1] * (x.ndim - 2))
