"""The operations of a network, each described once: what it computes forward and back, and which layer it is made of.

An operation computes by the kernels of a backend, or by its array library ``backend.xp`` where that has none: so
`LoopProgram` runs every operation on every backend. Programs that do better have a table each, KERNELS, of the
operations that they have kernels for, and a network with another one is left to the next more general Program.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gpumlp import layers, regularizers
from gpumlp.activations import KNOWN, Activation, linear
from gpumlp.backends.contract import Backend
from gpumlp.backends.runtime import Array, DType
from gpumlp.engine.noise import AlphaDropoutOp, GaussianDropoutOp, GaussianNoiseOp, SharedDropoutOp
from gpumlp.engine.normalization import BatchNormOp, LayerNormOp, NormalizationOp, UnitNormOp
from gpumlp.engine.operation import Operation as Operation
from gpumlp.engine.operation import Site as Site
from gpumlp.layers import Layer, Shape


def _look_at(layer: layers.Dense | layers.Activation, shape: Shape) -> None:
    """Raise ValueError where a layer's activation reads what a row has not, or another axis than samples' last one."""
    activation: Activation = layer.activation
    who = f"The activation {activation.name} of layer {layer.name!r}"
    for formula in (activation.formula.forward, activation.formula.back):
        formula.look_at_columns(who, z=shape[-1])
    if len(shape) > 1 and activation.rowwise and activation != KNOWN.get(activation.name):
        x = np.random.default_rng(0).standard_normal((2, *shape))
        found = np.asarray(activation.function(x, **activation.get_config()))
        if found.shape != x.shape or not np.allclose(found, activation(x), equal_nan=True):
            raise ValueError(
                f"{who} is a function of another axis than the last one of (batch, {', '.join(map(str, shape))}), or "
                "reads columns by their places: it must go along axis=-1."
            )


@dataclass(frozen=True)
class DenseOp(Operation):
    """y[B, outputs] = activation(x[B, inputs] @ weights[kernel] + weights[bias]); bias None without one."""

    inputs: int
    outputs: int
    activation: Activation
    kernel: int
    bias: int | None

    @classmethod
    def of(cls, layer: layers.Dense, shape: Shape, first: int) -> DenseOp:
        """See `LAYERS`."""
        _look_at(layer, (*shape[:-1], layer.units))
        bias = first + 1 if layer.use_bias else None
        op = cls(shape[-1], layer.units, layer.activation, first, bias)
        return op if len(shape) == 1 else DenseOverRowsOp(**vars(op), rows=math.prod(shape[:-1]))

    @property
    def products(self) -> int:
        return self.inputs * self.outputs

    def keep(self, backend: Backend, batch: int, size: int, dtype: DType) -> Array | None:
        return backend.empty((batch, size), dtype) if self.activation.retains_input else None

    def forward(self, site: Site, x: Array, y: Array, step: int | None) -> None:
        bias = None if self.bias is None else site.weights[self.bias]
        site.backend.dense_forward(x, site.weights[self.kernel], bias, self.activation, y, site.kept_of(x))

    def backward(self, site: Site, dy: Array, x: Array, y: Array, dx: Array | None) -> Array | None:
        dw, db = site.grads[self.kernel], None if self.bias is None else site.grads[self.bias]
        weight = site.weights[self.kernel]
        site.backend.dense_backward(dy, x, weight, y, site.kept_of(x), self.activation, dx, dw, db)
        return dx


@dataclass(frozen=True)
class DenseOverRowsOp(DenseOp):
    """The same of each of ``rows`` rows of a sample, with one kernel."""

    rows: int

    @property
    def products(self) -> int:
        return self.rows * super().products

    def forward(self, site: Site, x: Array, y: Array, step: int | None) -> None:
        super().forward(self._rows(site), x.reshape(-1, self.inputs), y.reshape(-1, self.outputs), step)

    def backward(self, site: Site, dy: Array, x: Array, y: Array, dx: Array | None) -> Array | None:
        dy, y = (a.reshape(-1, self.outputs) for a in (dy, y))
        below = None if dx is None else dx.reshape(-1, self.inputs)
        super().backward(self._rows(site), dy, x.reshape(-1, self.inputs), y, below)
        return dx

    def _rows(self, site: Site) -> Site:
        return site if site.kept is None else replace(site, kept=site.kept.reshape(-1, self.outputs))


@dataclass(frozen=True)
class ActivationOp(Operation):
    """y = activation(x) over rows of ``row`` elements."""

    activation: Activation
    row: int

    @classmethod
    def of(cls, layer: layers.Activation, shape: Shape, first: int) -> ActivationOp:
        """See `LAYERS`."""
        _look_at(layer, shape)
        return cls(layer.activation, shape[-1])

    @classmethod
    def of_softmax(cls, layer: layers.Softmax, shape: Shape, first: int) -> Operations:
        """See `LAYERS`: what it goes over comes last, and goes back."""
        axes = layer.axes(shape)
        op = cls(layer.activation, math.prod(shape[i] for i in axes))
        order = (*(i for i in range(len(shape)) if i not in axes), *axes)
        if order == tuple(range(len(shape))):
            return op
        there = PermuteOp(shape, order)
        return there, op, PermuteOp(tuple(shape[i] for i in order), there.back)

    def forward(self, site: Site, x: Array, y: Array, step: int | None) -> None:
        site.backend.activation_forward(self.activation, self._rows(x), self._rows(y))

    def backward(self, site: Site, dy: Array, x: Array, y: Array, dx: Array | None) -> Array | None:
        site.backend.activation_backward(self.activation, self._rows(dy), self._rows(y), self._rows(x))
        return dy

    def _rows(self, a: Array) -> Array:
        return a.reshape(-1, self.row)


@dataclass(frozen=True)
class DropoutOp(Operation):
    """In training: zero with probability ``rate``, scale the rest; the mask is a function of ``key`` and the step."""

    rate: float
    key: int

    @classmethod
    def of(cls, layer: layers.Dropout, shape: Shape, first: int) -> DropoutOp | SharedDropoutOp:
        """See `LAYERS`."""
        shared = any(layer.noise_shape or ())
        return SharedDropoutOp.of(layer, shape, first) if shared else cls(layer.rate, layer.key)

    def keep(self, backend: Backend, batch: int, size: int, dtype: DType) -> Array | None:
        return backend.empty((batch, size), np.float32)

    def forward(self, site: Site, x: Array, y: Array, step: int | None) -> None:
        if step is None or self.rate == 0:
            site.backend.activation_forward(linear, x, y)
        else:
            mask = site.memory[: len(x)]
            site.backend.dropout(x, mask, y, self.rate, self.key, site.number, step, site.place.first)

    def backward(self, site: Site, dy: Array, x: Array, y: Array, dx: Array | None) -> Array | None:
        if self.rate:
            site.backend.multiply(dy, site.memory[: len(x)])
        return dy

    def asked(self, training: bool, loss: bool) -> DropoutOp:
        return self if training else replace(self, rate=0.0)

    def outline(self) -> DropoutOp:
        return replace(self, rate=0.0, key=0)


@dataclass(frozen=True)
class ActivityOp(Operation):
    """y = x, whose penalty, divided by the batch's size, is added to the loss."""

    regularizer: regularizers.Regularizer | None

    @classmethod
    def of(cls, layer: Layer, shape: Shape) -> ActivityOp:
        """Return what is behind a layer that gives samples of ``shape``, and has an activity regularizer."""
        regularizer = layer.activity_regularizer
        assert regularizer is not None
        if not regularizer.by_formula and len(shape) != 1:
            raise ValueError(
                f"The activity_regularizer of layer {layer.name!r} is of rows or columns, of outputs of shape (batch, "
                f"units); here they are samples of shape {shape}."
            )
        return cls(regularizer)

    def forward(self, site: Site, x: Array, y: Array, step: int | None) -> None:
        site.backend.activation_forward(linear, x, y)

    def penalty(self, site: Site, y: Array) -> float:
        assert self.regularizer is not None
        return regularizers.apply(self.regularizer, site.backend, y, None) / len(y)

    def backward(self, site: Site, dy: Array, x: Array, y: Array, dx: Array | None) -> Array | None:
        if dx is None or self.regularizer is None:
            return dy
        dx[...] = 0.0
        regularizers.apply(self.regularizer, site.backend, y, dx)
        site.backend.affine(dx, 1.0 / len(y), 0.0, dx)
        site.backend.xp.add(dx, dy, out=dx)
        return dx

    def asked(self, training: bool, loss: bool) -> ActivityOp:
        return self if loss else ActivityOp(None)

    def outline(self) -> ActivityOp:
        return ActivityOp(None)


@dataclass(frozen=True)
class PReLUOp(Operation):
    """y = max(x, 0) - weights[alpha] max(-x, 0); alpha has the shape of a sample, or 1 along shared axes."""

    alpha: int
    sample: Shape

    @classmethod
    def of(cls, layer: layers.PReLU, shape: Shape, first: int) -> PReLUOp:
        """See `LAYERS`."""
        return cls(first, shape)

    def forward(self, site: Site, x: Array, y: Array, step: int | None) -> None:
        xp, below = site.backend.xp, self._below(site, x)
        xp.multiply(below, site.weights[self.alpha], out=below)
        x, y = self._samples(x), self._samples(y)
        xp.maximum(x, 0.0, out=y)
        xp.add(y, below, out=y)

    def backward(self, site: Site, dy: Array, x: Array, y: Array, dx: Array | None) -> Array | None:
        xp, alpha, below, dy = site.backend.xp, site.weights[self.alpha], self._below(site, x), self._samples(dy)
        shared = tuple(i for i, n in enumerate(alpha.shape, 1) if n == 1)
        xp.multiply(below, dy, out=below)
        site.grads[self.alpha][...] = below.sum(axis=(0, *shared)).reshape(alpha.shape)
        if dx is not None:
            x = self._samples(x)
            self._samples(dx)[...] = xp.where(x > 0.0, dy, xp.where(x < 0.0, dy * alpha, 0.0 * x))
        return dx

    def _below(self, site: Site, x: Array) -> Array:
        """Return min(x, 0), in work memory."""
        found = site.backend.scratch(0, (len(x), *self.sample), x.dtype)
        site.backend.xp.minimum(self._samples(x), 0.0, out=found)
        return found

    def _samples(self, a: Array) -> Array:
        return a.reshape(-1, *self.sample)


@dataclass(frozen=True)
class PermuteOp(Operation):
    """y: the axes of samples of shape ``sample`` in the order ``axes``, from 0."""

    sample: Shape
    axes: Shape

    @classmethod
    def of(cls, layer: layers.Permute, shape: Shape, first: int) -> PermuteOp:
        """See `LAYERS`."""
        return cls(shape, tuple(i - 1 for i in layer.dims))

    @classmethod
    def of_flatten(cls, layer: layers.Flatten, shape: Shape, first: int) -> PermuteOp | None:
        """See `LAYERS`."""
        as_they_are = layer.data_format == "channels_last" or len(shape) < 2
        return None if as_they_are else cls(shape, (*range(1, len(shape)), 0))

    @property
    def back(self) -> Shape:
        """The order that undoes it."""
        return tuple(self.axes.index(i) for i in range(len(self.axes)))

    def forward(self, site: Site, x: Array, y: Array, step: int | None) -> None:
        self._move(x, self.sample, self.axes, y)

    def backward(self, site: Site, dy: Array, x: Array, y: Array, dx: Array | None) -> Array | None:
        if dx is not None:
            self._move(dy, tuple(self.sample[i] for i in self.axes), self.back, dx)
        return dx

    @staticmethod
    def _move(x: Array, sample: Shape, axes: Shape, y: Array) -> None:
        moved = x.reshape(-1, *sample).transpose(0, *(i + 1 for i in axes))
        y.reshape(moved.shape)[...] = moved


@dataclass(frozen=True)
class RepeatOp(Operation):
    """y: x ``times`` times."""

    times: int

    @classmethod
    def of(cls, layer: layers.RepeatVector, shape: Shape, first: int) -> RepeatOp:
        """See `LAYERS`."""
        return cls(layer.n)

    def forward(self, site: Site, x: Array, y: Array, step: int | None) -> None:
        y.reshape(len(x), self.times, -1)[...] = x[:, None]

    def backward(self, site: Site, dy: Array, x: Array, y: Array, dx: Array | None) -> Array | None:
        if dx is not None:
            dx[...] = dy.reshape(len(x), self.times, -1).sum(axis=1)
        return dx


@dataclass(frozen=True)
class ScaleOp(Operation):
    """y = x * scale + offset, which have a number for each of a sample's."""

    scale: tuple[float, ...]
    offset: tuple[float, ...]

    def keep(self, backend: Backend, batch: int, size: int, dtype: DType) -> Array | None:
        return backend.to_device(np.array([self.scale, self.offset], dtype))

    def forward(self, site: Site, x: Array, y: Array, step: int | None) -> None:
        xp, (scale, offset) = site.backend.xp, site.memory
        xp.multiply(x, scale, out=y)
        xp.add(y, offset, out=y)

    def backward(self, site: Site, dy: Array, x: Array, y: Array, dx: Array | None) -> Array | None:
        site.backend.xp.multiply(dy, site.memory[0], out=dy)
        return dy


@dataclass(frozen=True)
class AffineOp(Operation):
    """y = x * scale + offset."""

    scale: float
    offset: float

    @classmethod
    def of(cls, layer: layers.Rescaling, shape: Shape, first: int) -> AffineOp | ScaleOp:
        """See `LAYERS`."""
        if isinstance(layer.scale, float) and isinstance(layer.offset, float):
            return cls(layer.scale, layer.offset)
        each = (np.broadcast_to(np.asarray(a, np.float64), shape).ravel() for a in (layer.scale, layer.offset))
        return ScaleOp(*(tuple(a.tolist()) for a in each))

    def forward(self, site: Site, x: Array, y: Array, step: int | None) -> None:
        site.backend.affine(x, self.scale, self.offset, y)

    def backward(self, site: Site, dy: Array, x: Array, y: Array, dx: Array | None) -> Array | None:
        site.backend.affine(dy, self.scale, 0.0, dy)
        return dy


def _nothing(layer: Layer, shape: Shape, first: int) -> None:
    """There is nothing to do: features are stored flat."""


# The operation that a layer is, for samples of a shape, where its weights stand from place ``first`` on; None: nothing;
# several, each of which gives as many numbers as the layer does.
Operations = Operation | tuple[Operation, ...] | None
LAYERS: dict[type[Layer], Callable[[Any, Shape, int], Operations]] = {
    layers.Dense: DenseOp.of,
    layers.Activation: ActivationOp.of,
    layers.Softmax: ActivationOp.of_softmax,
    layers.PReLU: PReLUOp.of,
    layers.Dropout: DropoutOp.of,
    layers.AlphaDropout: AlphaDropoutOp.of,
    layers.GaussianNoise: GaussianNoiseOp.of,
    layers.GaussianDropout: GaussianDropoutOp.of,
    layers.Rescaling: AffineOp.of,
    layers.BatchNormalization: BatchNormOp.of,
    layers.LayerNormalization: LayerNormOp.of,
    layers.UnitNormalization: UnitNormOp.of,
    layers.Normalization: NormalizationOp.of,
    layers.Permute: PermuteOp.of,
    layers.RepeatVector: RepeatOp.of,
    layers.ActivityRegularization: _nothing,
    layers.Flatten: PermuteOp.of_flatten,
    layers.Identity: _nothing,
    layers.Input: _nothing,
    layers.Reshape: _nothing,
}


def operations_of(layer: Layer, shape: Shape, first: int) -> list[Operation]:
    """Return the operations that ``layer`` is, by LAYERS, with its penalty; TypeError where neither its class nor a
    base is there."""
    for kind in type(layer).__mro__:
        if (make := LAYERS.get(kind)) is not None:
            made = make(layer, shape, first)
            found = [*made] if isinstance(made, tuple) else [] if made is None else [made]
            if layer.activity_regularizer is not None:
                found.append(ActivityOp.of(layer, layer.result_shape(shape)))
            return found
    raise TypeError(f"gpumlp does not know layers of type {type(layer).__name__}.")
