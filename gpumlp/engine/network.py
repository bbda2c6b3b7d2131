"""The network description: layers lowered to a few operations, which is all that a Program needs to know."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gpumlp import layers
from gpumlp.activations import Activation
from gpumlp.attributes import once, refuse_overrides
from gpumlp.layers import Layer, Shape, WeightSpec


@dataclass(frozen=True)
class DenseOp:
    """y[B, outputs] = activation(x[B, inputs] @ weights[kernel] + weights[bias]); bias None without one."""

    inputs: int
    outputs: int
    activation: Activation
    kernel: int
    bias: int | None


@dataclass(frozen=True)
class ActivationOp:
    """y = activation(x) over rows of ``row`` elements."""

    activation: Activation
    row: int


@dataclass(frozen=True)
class DropoutOp:
    """In training: zero with probability ``rate``, scale the rest; the mask is a function of ``key`` and the step."""

    rate: float
    key: int


@dataclass(frozen=True)
class AffineOp:
    """y = x * scale + offset."""

    scale: float
    offset: float


Op = DenseOp | ActivationOp | DropoutOp | AffineOp


@dataclass(frozen=True)
class Network:
    """Operations in order; ``sizes[i]`` is the number of features that go into operation i, the last one comes out."""

    ops: tuple[Op, ...]
    sizes: tuple[int, ...]
    input_shape: Shape
    output_shape: Shape
    weights: tuple[WeightSpec, ...]
    trainable: tuple[bool, ...]

    @once
    def numbers(self) -> int:
        """How many numbers a sample is on its way: of all activations."""
        return sum(self.sizes)

    @once
    def products(self) -> int:
        """How many products of numbers a sample takes on its way forward: the elements of all kernels."""
        return sum(op.inputs * op.outputs for op in self.ops if isinstance(op, DenseOp))

    @once
    def parameters(self) -> int:
        """How many weights there are."""
        return sum(math.prod(spec.shape) for spec in self.weights)


def describe(stack: list[Layer], input_shape: Shape) -> Network:
    """Return the Network of ``stack`` for samples of ``input_shape``; ValueError where a layer does not fit."""
    ops: list[Op] = []
    sizes = [math.prod(input_shape)]
    specs: list[WeightSpec] = []
    trainable: list[bool] = []
    shape = input_shape
    for layer in stack:
        refuse_overrides(type(layer), ("output_shape", "specs", "call", "__call__", "initial"))
        before, shape = shape, layer.output_shape(shape)
        own = layer.specs(before)
        match layer:
            case layers.Dense():
                kernel = len(specs)
                bias = kernel + 1 if layer.use_bias else None
                ops.append(DenseOp(before[0], layer.units, layer.activation, kernel, bias))
            case layers.Activation():
                ops.append(ActivationOp(layer.activation, before[-1]))
            case layers.Dropout():
                ops.append(DropoutOp(layer.rate, layer.key))
            case layers.Rescaling():
                ops.append(AffineOp(layer.scale, layer.offset))
            case layers.Flatten() | layers.Input():
                continue  # features are stored flat: nothing to do
            case _:
                raise TypeError(f"gpumlp does not know layers of type {type(layer).__name__}.")
        specs += own
        trainable += [layer.trainable] * len(own)
        sizes.append(math.prod(shape))
    return Network(tuple(ops), tuple(sizes), input_shape, shape, tuple(specs), tuple(trainable))
