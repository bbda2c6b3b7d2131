"""The network description: layers lowered to a few operations, which is all that a Program needs to know."""

from __future__ import annotations

import math
from collections.abc import Callable, Container
from dataclasses import dataclass, field, replace

import numpy.typing as npt

from gpumlp import constraints, regularizers
from gpumlp.attributes import once, refuse_overrides
from gpumlp.backends.runtime import Array
from gpumlp.engine.operations import Operation, operations_of
from gpumlp.layers import Layer, Shape, WeightSpec

NOT_CALLED = (
    "result_shape", "specs", "call", "__call__", "initial", "build", "compute_output_shape", "compute_mask", "add_loss",
)  # fmt: skip
INSTEAD = (
    "There are no layers of one's own: use layers.Lambda, or an activation, of a function of gpumlp.ops, and "
    "regularizers for what is added to the loss."
)


@dataclass(frozen=True)
class Network:
    """Operations in order; ``sizes[i]`` is the number of features that go into operation i, the last one comes out."""

    ops: tuple[Operation, ...]
    sizes: tuple[int, ...]
    input_shape: Shape
    output_shape: Shape
    weights: tuple[WeightSpec, ...]
    trainable: tuple[bool, ...]
    frozen: tuple[bool, ...] = ()  # for each operation whether its layer does not train
    paths: tuple[str, ...] = field(default=(), compare=False)  # what the weights are called: "dense/kernel"
    names: tuple[str, ...] = field(default=(), compare=False)  # of each operation's layer

    def training_as(self, other: Network) -> Network:
        """Return the network in which that trains which trains in ``other``, of the same layers."""
        return replace(self, trainable=other.trainable, frozen=other.frozen)

    def all_frozen(self) -> Network:
        """Return the network in which nothing trains."""
        return replace(self, trainable=(False,) * len(self.trainable), frozen=(True,) * len(self.ops))

    @once
    def numbers(self) -> int:
        """How many numbers a sample is on its way: of all activations."""
        return sum(self.sizes)

    @once
    def products(self) -> int:
        """How many products of numbers a sample takes on its way forward: the elements of all kernels."""
        return sum(op.products for op in self.ops)

    @once
    def rows(self) -> int:
        """How many rows of outputs a sample has: a loss is the mean over them all."""
        return math.prod(self.output_shape[:-1])

    @once
    def parameters(self) -> int:
        """How many weights there are."""
        return sum(math.prod(spec.shape) for spec in self.weights)

    @once
    def constrained(self) -> list[tuple[int, Callable[[Array], npt.ArrayLike]]]:
        """The weights that a constraint holds after each step, by their places: those that train."""
        trained = zip(self.weights, self.trainable, strict=True)
        return [(i, spec.constraint) for i, (spec, trains) in enumerate(trained) if trains and spec.constraint]

    @once
    def penalties(self) -> list[regularizers.Regularizer | None]:
        """The penalty of each weight array that is added to the loss: of those that train."""
        trained = zip(self.weights, self.trainable, strict=True)
        return [spec.regularizer if trains else None for spec, trains in trained]

    @once
    def outline(self) -> dict[str, object]:
        """By name what networks have in common that take the same steps: without the numbers that a step only reads."""
        found: dict[str, object] = {f"operation {i}": op.outline() for i, op in enumerate(self.ops)}
        for i, spec in enumerate(self.weights):
            found[f"the shape of weight array {i}"] = spec.shape
            found[f"the training of weight array {i}"] = self.trainable[i]
        return found | {f"the training of operation {i}": not frozen for i, frozen in enumerate(self.frozen)}

    def bare(self) -> Network:
        """Return the network without its weights' penalties and constraints."""
        weights = tuple(replace(spec, regularizer=None, constraint=None) for spec in self.weights)
        return replace(self, weights=weights)

    def asked(self, training: bool, loss: bool) -> Network:
        """Return the network that gives gradients: see `Operation.asked`."""
        return replace(self, ops=tuple(op.asked(training, loss) for op in self.ops))

    def beyond(self, kernels: Container[type[Operation]]) -> str:
        """Return the names of what is not among ``kernels``; nothing where all is.

        These are operations, and what no table has: constraints, and penalties that are no formulas.
        """
        names = [type(op).__name__.removesuffix("Op") for op in self.ops if type(op) not in kernels]
        names += [constraints.name_of(constraint) for _, constraint in self.constrained]
        names += [type(penalty).__name__ for penalty in self.penalties if penalty and not penalty.by_formula]
        return ", ".join(dict.fromkeys(names))


def describe(stack: list[Layer], input_shape: Shape) -> Network:
    """Return the Network of ``stack`` for samples of ``input_shape``; ValueError where a layer does not fit."""
    ops: list[Operation] = []
    sizes = [math.prod(input_shape)]
    specs: list[WeightSpec] = []
    trainable: list[bool] = []
    frozen: list[bool] = []
    paths: list[str] = []
    names: list[str] = []
    shape = input_shape
    for layer in stack:
        refuse_overrides(type(layer), NOT_CALLED, INSTEAD)
        before, shape = shape, layer.result_shape(shape)
        own = layer.specs(before)
        made = operations_of(layer, before, len(specs))
        ops += made
        sizes += [math.prod(shape)] * len(made)
        specs += own
        paths += [f"{layer.name}/{spec.name}" for spec in own]
        trainable += [layer.trainable and spec.trainable for spec in own]
        frozen += [not layer.trainable] * len(made)
        names += [layer.name] * len(made)
    return Network(
        tuple(ops), tuple(sizes), input_shape, shape, tuple(specs), tuple(trainable), tuple(frozen), tuple(paths),
        tuple(names),
    )  # fmt: skip
