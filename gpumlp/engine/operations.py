"""The operations of a network, each described once: what it computes forward and back, and which layer it is made of.

An operation computes by the kernels of a backend, or by its array library ``backend.xp`` where that has none: so
`LoopProgram` runs every operation on every backend. Programs that do better have a table each, KERNELS, of the
operations that they have kernels for, and a network with another one is left to the next more general Program.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gpumlp import layers
from gpumlp.activations import Activation, linear
from gpumlp.backends.contract import Backend
from gpumlp.layers import Layer, Shape

Array = Any


@dataclass(frozen=True)
class Site:
    """Where an operation works, for one Program."""

    backend: Backend
    number: int  # of the operation in its network
    weights: Sequence[Array]  # the network's, by their places
    grads: Sequence[Array]  # as many
    kept: Array  # what `Operation.keep` has made

    def kept_of(self, x: Array) -> Array:
        """Return what is kept of as many samples as ``x`` has; None where nothing is."""
        return None if self.kept is None else self.kept[: len(x)]


class Operation:
    """Base of all; what makes two of a kind differ stands in their fields."""

    @property
    def products(self) -> int:
        """How many products of numbers a sample takes on its way forward: the elements of a kernel."""
        return 0

    def keep(self, backend: Backend, batch: int, size: int, dtype: Any) -> Array:
        """Return memory for what goes from forward to backward, beside x and y[batch, size]; None for nothing."""
        return None

    def forward(self, site: Site, x: Array, y: Array, step: int | None) -> None:
        """Write ``y`` from ``x``, a row a sample; ``step`` is the training step's number, None outside training."""
        raise NotImplementedError

    def backward(self, site: Site, dy: Array, x: Array, y: Array, dx: Array | None) -> Array:
        """Return the gradient by ``x``: ``dy``, overwritten, or ``dx``, written; and write those by the weights.

        ``dx`` has the shape of ``x``; in training it is None for the first operation, of which nobody asks for it.
        """
        raise NotImplementedError

    def asked(self, training: bool, loss: bool) -> Operation:
        """Return the operation whose way back gives the gradient of a ``loss``, with all penalties, or of the outputs.

        As in ``training``, or as outside of it: there what a mask or a batch's statistics were in training is not.
        """
        return self

    def outline(self) -> Operation:
        """Return it without the numbers that a step only reads, which members of an ensemble may have of their own."""
        return self


def _look_at(layer: Any, width: int) -> None:
    """Raise ValueError where a layer's activation reads what a row of ``width`` elements has not."""
    for formula in (layer.activation.formula.forward, layer.activation.formula.back):
        formula.look_at_columns(f"The activation {layer.activation.name} of layer {layer.name!r}", z=width)


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
        _look_at(layer, layer.units)
        return cls(shape[0], layer.units, layer.activation, first, first + 1 if layer.use_bias else None)

    @property
    def products(self) -> int:
        return self.inputs * self.outputs

    def keep(self, backend: Backend, batch: int, size: int, dtype: Any) -> Array:
        return backend.empty((batch, size), dtype) if self.activation.retains_input else None

    def forward(self, site: Site, x: Array, y: Array, step: int | None) -> None:
        bias = None if self.bias is None else site.weights[self.bias]
        site.backend.dense_forward(x, site.weights[self.kernel], bias, self.activation, y, site.kept_of(x))

    def backward(self, site: Site, dy: Array, x: Array, y: Array, dx: Array | None) -> Array:
        dw, db = site.grads[self.kernel], None if self.bias is None else site.grads[self.bias]
        weight = site.weights[self.kernel]
        site.backend.dense_backward(dy, x, weight, y, site.kept_of(x), self.activation, dx, dw, db)
        return dx


@dataclass(frozen=True)
class ActivationOp(Operation):
    """y = activation(x) over rows of ``row`` elements."""

    activation: Activation
    row: int

    @classmethod
    def of(cls, layer: layers.Activation, shape: Shape, first: int) -> ActivationOp:
        """See `LAYERS`."""
        _look_at(layer, shape[-1])
        return cls(layer.activation, shape[-1])

    def forward(self, site: Site, x: Array, y: Array, step: int | None) -> None:
        site.backend.activation_forward(self.activation, self._rows(x), self._rows(y))

    def backward(self, site: Site, dy: Array, x: Array, y: Array, dx: Array | None) -> Array:
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
    def of(cls, layer: layers.Dropout, shape: Shape, first: int) -> DropoutOp:
        """See `LAYERS`."""
        return cls(layer.rate, layer.key)

    def keep(self, backend: Backend, batch: int, size: int, dtype: Any) -> Array:
        return backend.empty((batch, size), np.float32)

    def forward(self, site: Site, x: Array, y: Array, step: int | None) -> None:
        if step is None or self.rate == 0:
            site.backend.activation_forward(linear, x, y)
        else:
            site.backend.dropout(x, site.kept_of(x), y, self.rate, self.key, site.number, step)

    def backward(self, site: Site, dy: Array, x: Array, y: Array, dx: Array | None) -> Array:
        if self.rate:
            site.backend.multiply(dy, site.kept_of(x))
        return dy

    def asked(self, training: bool, loss: bool) -> DropoutOp:
        return self if training else replace(self, rate=0.0)

    def outline(self) -> DropoutOp:
        return replace(self, rate=0.0, key=0)


@dataclass(frozen=True)
class AffineOp(Operation):
    """y = x * scale + offset."""

    scale: float
    offset: float

    @classmethod
    def of(cls, layer: layers.Rescaling, shape: Shape, first: int) -> AffineOp:
        """See `LAYERS`."""
        return cls(layer.scale, layer.offset)

    def forward(self, site: Site, x: Array, y: Array, step: int | None) -> None:
        site.backend.affine(x, self.scale, self.offset, y)

    def backward(self, site: Site, dy: Array, x: Array, y: Array, dx: Array | None) -> Array:
        site.backend.affine(dy, self.scale, 0.0, dy)
        return dy


def _nothing(layer: Layer, shape: Shape, first: int) -> None:
    """There is nothing to do: features are stored flat."""


# The operation that a layer is, for samples of a shape, where its weights stand from place ``first`` on; None: nothing.
LAYERS: dict[type[Layer], Callable[[Any, Shape, int], Operation | None]] = {
    layers.Dense: DenseOp.of,
    layers.Activation: ActivationOp.of,
    layers.Dropout: DropoutOp.of,
    layers.Rescaling: AffineOp.of,
    layers.Flatten: _nothing,
    layers.Input: _nothing,
}


def operation_of(layer: Layer, shape: Shape, first: int) -> Operation | None:
    """Return the operation that ``layer`` is, by LAYERS; TypeError where neither its class nor a base is there."""
    for kind in type(layer).__mro__:
        if (make := LAYERS.get(kind)) is not None:
            return make(layer, shape, first)
    raise TypeError(f"gpumlp does not know layers of type {type(layer).__name__}.")
