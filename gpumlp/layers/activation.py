"""Activations as layers."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from gpumlp import activations, constraints, objectives, regularizers
from gpumlp.layers.base import Layer, Shape, WeightSpec, initializer_of
from gpumlp.naming import number


class Activation(Layer):
    """An activation as a layer of its own."""

    checks: ClassVar = {**Layer.checks, "activation": activations.get}

    def __init__(self, activation: object, **kwargs: Any) -> None:
        self.activation: Any = activation
        super().__init__(**kwargs)


class _OfConstants(Activation):
    """Base of layers that are one activation, whose constants are attributes of theirs."""

    function: ClassVar[activations.Activation]

    @property
    def activation(self) -> activations.Activation:
        """The activation, with the constants as they are now."""
        return self.function.given(**{name: getattr(self, name) for name in self.function.get_config()})


class ReLU(_OfConstants):
    """`activations.relu` as a layer."""

    function = activations.relu
    checks: ClassVar = {
        **Layer.checks, "max_value": lambda v: None if v is None else number("max_value", v, 0.0),
        **{name: functools.partial(number, name, low=0.0) for name in ("negative_slope", "threshold")},
    }  # fmt: skip

    def __init__(
        self, max_value: float | None = None, negative_slope: float = 0.0, threshold: float = 0.0, **kwargs: Any
    ) -> None:
        self.max_value, self.negative_slope, self.threshold = max_value, negative_slope, threshold
        Layer.__init__(self, **kwargs)


class LeakyReLU(_OfConstants):
    """`activations.leaky_relu` as a layer; ``alpha`` is what older scripts call the slope."""

    function = activations.leaky_relu
    checks: ClassVar = {**Layer.checks, "negative_slope": functools.partial(number, "negative_slope", low=0.0)}

    def __init__(self, negative_slope: float = 0.3, **kwargs: Any) -> None:
        self.negative_slope = kwargs.pop("alpha", negative_slope)
        Layer.__init__(self, **kwargs)


class ELU(_OfConstants):
    """`activations.elu` as a layer."""

    function = activations.elu
    checks: ClassVar = {**Layer.checks, "alpha": functools.partial(number, "alpha", low=0.0)}

    def __init__(self, alpha: float = 1.0, **kwargs: Any) -> None:
        self.alpha = alpha
        Layer.__init__(self, **kwargs)


class Softmax(_OfConstants):
    """`activations.softmax` as a layer: over one axis or several, counted with the batch's, which is none of them."""

    function = activations.softmax
    checks: ClassVar = {**Layer.checks, "axis": functools.partial(objectives.some_axes, "axis")}

    def __init__(self, axis: int | Sequence[int] = -1, **kwargs: Any) -> None:
        self.axis: Any = axis
        Layer.__init__(self, **kwargs)

    @property
    def activation(self) -> activations.Activation:
        """The activation, over the last axis."""
        return activations.softmax

    def axes(self, shape: Shape) -> Shape:
        """Return the axes of a sample of ``shape`` that it goes over, from 0; ValueError where there is none."""
        given, rank = self.axis if isinstance(self.axis, tuple) else (self.axis,), len(shape) + 1
        found = tuple(a % rank - 1 if a is not None and -rank <= a < rank else -1 for a in given)
        if not found or -1 in found or len(set(found)) < len(found):
            raise ValueError(
                f"Softmax layer {self.name!r} goes over axes of its samples, counted with the batch's, 1 to "
                f"{len(shape)}, or -1 for the last; got axis={self.axis!r} for samples of shape {shape}."
            )
        return found

    def result_shape(self, shape: Shape) -> Shape:
        if shape or self.axis != -1:  # an array of one axis is one sample
            self.axes(shape)
        return shape


def _some(value: Any) -> list[int] | None:
    axes = value if isinstance(value, (list, tuple)) or value is None else [value]
    if axes is not None and any(isinstance(a, bool) or not isinstance(a, (int, np.integer)) or a < 1 for a in axes):
        raise ValueError(f"shared_axes are axes of a sample, counted from 1; got {value!r}.")
    return None if axes is None else [int(a) for a in axes]


class PReLU(Layer):
    """x for x >= 0, and alpha * x below, alpha trained: a weight array of a sample's shape (He et al. 2015).

    Along ``shared_axes``, counted from 1, the numbers of a sample share one alpha.
    """

    weight_names = ("alpha",)
    checks: ClassVar = {
        **Layer.checks, "alpha_initializer": initializer_of, "alpha_regularizer": regularizers.get,
        "alpha_constraint": constraints.get, "shared_axes": _some,
    }  # fmt: skip

    def __init__(
        self,
        alpha_initializer: object = "Zeros",
        alpha_regularizer: object = None,
        alpha_constraint: object = None,
        shared_axes: int | Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        self.alpha_initializer: Any = alpha_initializer
        self.alpha_regularizer: Any = alpha_regularizer
        self.alpha_constraint: Any = alpha_constraint
        self.shared_axes: Any = shared_axes
        super().__init__(**kwargs)

    def specs(self, shape: Shape) -> list[WeightSpec]:
        own = tuple(1 if self.shared_axes and i in self.shared_axes else n for i, n in enumerate(shape, 1))
        return [WeightSpec("alpha", own, self.alpha_initializer, self.alpha_regularizer, self.alpha_constraint)]

    def result_shape(self, shape: Shape) -> Shape:
        if self.shared_axes and max(self.shared_axes) > len(shape):
            raise ValueError(
                f"PReLU layer {self.name!r} shares axes {self.shared_axes}, counted from 1; got samples of shape "
                f"{shape}."
            )
        if self.alpha_regularizer is not None and not self.alpha_regularizer.by_formula and len(shape) != 2:
            raise ValueError(
                f"alpha_regularizer of PReLU layer {self.name!r} is of rows or columns: samples must have two axes; "
                f"got samples of shape {shape}."
            )
        return shape
