"""Layers: plain descriptions. What they compute stands in the engine and the backends."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpumlp import activations, config, initializers, random, regularizers
from gpumlp.naming import neutral

Shape = tuple[int, ...]
_names: Counter[str] = Counter()


def reset_names() -> None:
    """Start the numbering of automatic names again."""
    _names.clear()


@dataclass(frozen=True)
class WeightSpec:
    """One weight array of a layer: its name, shape, initial values and penalty."""

    name: str
    shape: Shape
    initializer: initializers.Initializer
    regularizer: regularizers.L1L2 | None = None


def whole_number(name: str, value: object, low: int = 1) -> int:
    """Return ``value`` as an int; TypeError or ValueError, naming it, unless it is a whole number >= ``low``."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be a whole number >= {low}; got {value!r}.")
    if value < low:
        raise ValueError(f"{name} must be a whole number >= {low}; got {value!r}.")
    return int(value)


def feature_shape(value: object) -> Shape:
    """Return the shape of one sample from an ``input_shape``; a single int counts as (int,)."""
    sizes = (value,) if isinstance(value, (int, np.integer)) else value
    if not isinstance(sizes, (tuple, list)) or not sizes:
        raise TypeError(f"the input shape must be a tuple of sizes without the batch, such as (1,); got {value!r}.")
    return tuple(whole_number("each size of the input shape", s) for s in sizes)


class Layer:
    """Base of all layers.

    Parameters
    ----------
    name : str, optional
        Made from the class's name and a number when None.
    input_shape, input_dim : optional
        On the first layer of a model: the shape of one sample.
    trainable : bool
        Read by ``Sequential.compile``: a frozen layer's weights are not updated.
    """

    def __init__(
        self,
        *,
        name: str | None = None,
        input_shape: object = None,
        input_dim: int | None = None,
        trainable: bool = True,
    ) -> None:
        if input_shape is None and input_dim is not None:
            input_shape = (input_dim,)
        self.input_shape = None if input_shape is None else feature_shape(input_shape)
        self.trainable = trainable
        if name is None:
            base = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(self).__name__).lower()
            name = f"{base}_{_names[base]}" if _names[base] else base
            _names[base] += 1
        if not isinstance(name, str):
            raise TypeError(f"name must be a string; got {name!r}.")
        self.name = name

    def weights(self, shape: Shape) -> list[WeightSpec]:
        """Return the weight arrays for samples of ``shape``."""
        return []

    def output_shape(self, shape: Shape) -> Shape:
        """Return the shape of one output sample for samples of ``shape``; ValueError where it does not fit."""
        return shape


class Input(Layer):
    """The shape of one sample: ``Input(shape=(4,))`` or ``Input((4,))``.

    ``batch_shape`` is that with the batch's size before it. A batch's size binds nobody: models take any.
    """

    def __init__(
        self,
        shape: object = None,
        batch_size: int | None = None,
        dtype: str | None = None,
        sparse: bool | None = None,
        ragged: bool | None = None,
        batch_shape: tuple[int | None, ...] | None = None,
        *,
        name: str | None = None,
    ) -> None:
        neutral("Input", sparse=(sparse or None, None), ragged=(ragged or None, None))
        if dtype is not None:
            config.float_type(dtype)
        if batch_size is not None:
            whole_number("batch_size", batch_size)
        if batch_shape is not None and batch_size is not None:
            raise ValueError("You cannot pass both `batch_size` and `batch_shape`: the latter has the batch's size.")
        if batch_shape is not None:
            if shape is not None or not isinstance(batch_shape, (tuple, list)):
                raise ValueError(f"Give shape, or a tuple as batch_shape; got {shape!r} and {batch_shape!r}.")
            shape = tuple(batch_shape[1:])
        if shape is None:
            raise ValueError("Input needs shape=, the shape of one sample, such as Input(shape=(1,)).")
        super().__init__(name=name, input_shape=shape)


InputLayer = Input


class Dense(Layer):
    """activation(x @ kernel + bias), kernel of shape (inputs, units)."""

    def __init__(
        self,
        units: int,
        activation: object = None,
        use_bias: bool = True,
        kernel_initializer: object = "glorot_uniform",
        bias_initializer: object = "zeros",
        kernel_regularizer: object = None,
        bias_regularizer: object = None,
        **kwargs: Any,
    ) -> None:
        self.units = whole_number("units", units)
        self.activation = activations.get(activation)
        self.use_bias = bool(use_bias)
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        super().__init__(**kwargs)

    def weights(self, shape: Shape) -> list[WeightSpec]:
        kernel = WeightSpec("kernel", (shape[0], self.units), self.kernel_initializer, self.kernel_regularizer)
        bias = WeightSpec("bias", (self.units,), self.bias_initializer, self.bias_regularizer)
        return [kernel, bias] if self.use_bias else [kernel]

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != 1:
            raise ValueError(
                f"Dense layer {self.name!r} expects samples of one axis; got samples of shape {shape}. "
                "Put a Flatten() before it."
            )
        return (self.units,)


class Activation(Layer):
    """An activation as a layer of its own."""

    def __init__(self, activation: object, **kwargs: Any) -> None:
        self.activation = activations.get(activation)
        super().__init__(**kwargs)


class Dropout(Layer):
    """In training, zero each element with probability ``rate`` and divide the others by 1 - rate."""

    def __init__(self, rate: float, noise_shape: object = None, seed: int | None = None, **kwargs: Any) -> None:
        neutral("Dropout", noise_shape=(noise_shape, None))
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 <= rate < 1:
            raise ValueError(f"rate must lie in [0, 1); got {rate!r}.")
        self.rate = float(rate)
        self.key = random.key() if seed is None else whole_number("seed", seed, 0)
        super().__init__(**kwargs)


class Flatten(Layer):
    """Samples of any shape become samples of one axis."""

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        neutral("Flatten", data_format=(None if data_format == "channels_last" else data_format, None))
        super().__init__(**kwargs)

    def output_shape(self, shape: Shape) -> Shape:
        return (math.prod(shape),)


class Rescaling(Layer):
    """x * scale + offset."""

    def __init__(self, scale: float, offset: float = 0.0, **kwargs: Any) -> None:
        self.scale, self.offset = float(scale), float(offset)
        super().__init__(**kwargs)
