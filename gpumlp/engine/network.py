"""The network description: layers lowered to a few operations, which is all that a Program needs to know."""

from __future__ import annotations

import math
from collections.abc import Container
from dataclasses import dataclass

from gpumlp.attributes import once, refuse_overrides
from gpumlp.engine.operations import Operation, operation_of
from gpumlp.layers import Layer, Shape, WeightSpec


@dataclass(frozen=True)
class Network:
    """Operations in order; ``sizes[i]`` is the number of features that go into operation i, the last one comes out."""

    ops: tuple[Operation, ...]
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
        return sum(op.products for op in self.ops)

    @once
    def parameters(self) -> int:
        """How many weights there are."""
        return sum(math.prod(spec.shape) for spec in self.weights)

    def beyond(self, kernels: Container[type[Operation]]) -> str:
        """Return the names of its operations that are not among ``kernels``; nothing where all are."""
        names = [type(op).__name__.removesuffix("Op") for op in self.ops if type(op) not in kernels]
        return ", ".join(dict.fromkeys(names))


def describe(stack: list[Layer], input_shape: Shape) -> Network:
    """Return the Network of ``stack`` for samples of ``input_shape``; ValueError where a layer does not fit."""
    ops: list[Operation] = []
    sizes = [math.prod(input_shape)]
    specs: list[WeightSpec] = []
    trainable: list[bool] = []
    shape = input_shape
    for layer in stack:
        refuse_overrides(type(layer), ("output_shape", "specs", "call", "__call__", "initial"))
        before, shape = shape, layer.output_shape(shape)
        own = layer.specs(before)
        op = operation_of(layer, before, len(specs))
        if op is None:
            continue
        ops.append(op)
        specs += own
        trainable += [layer.trainable] * len(own)
        sizes.append(math.prod(shape))
    return Network(tuple(ops), tuple(sizes), input_shape, shape, tuple(specs), tuple(trainable))
