"""Activations as layers."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

from gpumlp import activations, objectives
from gpumlp.layers.base import Layer, Shape
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
    """`activations.softmax` as a layer: over the last axis of its samples."""

    function = activations.softmax
    checks: ClassVar = {**Layer.checks, "axis": functools.partial(objectives.some_axes, "axis")}

    def __init__(self, axis: int = -1, **kwargs: Any) -> None:
        self.axis = axis
        Layer.__init__(self, **kwargs)

    @property
    def activation(self) -> activations.Activation:
        """The activation, over the last axis."""
        return activations.softmax

    def result_shape(self, shape: Shape) -> Shape:
        if self.axis not in (-1, len(shape), (-1,), (len(shape),)):
            raise ValueError(
                f"Softmax layer {self.name!r} goes over the last axis of samples, axis=-1; got axis={self.axis!r} for "
                f"samples of shape {shape}."
            )
        return shape
