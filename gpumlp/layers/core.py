"""What a network is made of first of all: its input, and Dense; and what changes only scale or shape of samples."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from gpumlp import activations, constraints, regularizers
from gpumlp.layers.activation import Activation
from gpumlp.layers.base import Layer, Shape, WeightSpec, bias_regularizer, initializer_of, whole_number
from gpumlp.naming import flag, neutral, number


class InputLayer(Layer):
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
        batch_shape: Sequence[int | None] | None = None,
        *,
        name: str | None = None,
        optional: bool = False,
    ) -> None:
        more = {"sparse": (sparse or None, None), "ragged": (ragged or None, None), "optional": (bool(optional), False)}
        neutral("Input", **more)
        if dtype is not None and np.dtype(dtype).kind not in "biuf":
            raise ValueError(f"dtype must be one of numbers; got {dtype!r}.")
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

    def get_config(self) -> dict[str, Any]:
        shape = [None, *(self.given_shape or ())]
        return {"name": self.name, "batch_shape": shape, "dtype": self.dtype, "sparse": False, "ragged": False}


Input = InputLayer


def _units(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"units must be a positive integer; got units={value!r}.")
    return int(value)


def _function_of(value: object) -> activations.Activation:
    """Return an activation; a layer that is one counts as its function, as Keras has it."""
    return activations.get(value.activation if isinstance(value, Activation) else value)


class Dense(Layer):
    """activation(x @ kernel + bias), kernel of shape (inputs, units)."""

    weight_names = ("kernel", "bias")
    checks: ClassVar = {
        **Layer.checks, "units": _units, "activation": _function_of, "use_bias": functools.partial(flag, "use_bias"),
        "kernel_initializer": initializer_of, "bias_initializer": initializer_of,
        "kernel_regularizer": regularizers.get, "bias_regularizer": bias_regularizer,
        "kernel_constraint": constraints.get, "bias_constraint": constraints.get,
    }  # fmt: skip

    def __init__(
        self,
        units: int,
        activation: object = None,
        use_bias: bool = True,
        kernel_initializer: object = "glorot_uniform",
        bias_initializer: object = "zeros",
        kernel_regularizer: object = None,
        bias_regularizer: object = None,
        activity_regularizer: object = None,
        kernel_constraint: object = None,
        bias_constraint: object = None,
        **kwargs: Any,
    ) -> None:
        neutral("Dense", activity_regularizer=(activity_regularizer, None))
        self.units = units
        self.activation: Any = activation
        self.use_bias = use_bias
        self.kernel_initializer: Any = kernel_initializer
        self.bias_initializer: Any = bias_initializer
        self.kernel_regularizer: Any = kernel_regularizer
        self.bias_regularizer: Any = bias_regularizer
        self.kernel_constraint: Any = kernel_constraint
        self.bias_constraint: Any = bias_constraint
        super().__init__(**kwargs)

    def specs(self, shape: Shape) -> list[WeightSpec]:
        kernel = WeightSpec(
            "kernel", (shape[0], self.units), self.kernel_initializer, self.kernel_regularizer, self.kernel_constraint
        )
        if not self.use_bias:
            return [kernel]
        return [
            kernel,
            WeightSpec("bias", (self.units,), self.bias_initializer, self.bias_regularizer, self.bias_constraint),
        ]

    def result_shape(self, shape: Shape) -> Shape:
        if len(shape) != 1:
            raise ValueError(
                f"Dense layer {self.name!r} expects samples of one axis; got samples of shape {shape}. "
                "Put a Flatten() before it."
            )
        return (self.units,)


class Flatten(Layer):
    """Samples of any shape become samples of one axis."""

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        neutral("Flatten", data_format=(None if data_format == "channels_last" else data_format, None))
        super().__init__(**kwargs)

    @property
    def data_format(self) -> str:
        """The order in which a sample's axes are taken: as they stand."""
        return "channels_last"

    def result_shape(self, shape: Shape) -> Shape:
        return (math.prod(shape),)


class Rescaling(Layer):
    """x * scale + offset, two numbers."""

    checks: ClassVar = {
        **Layer.checks, "scale": functools.partial(number, "scale"), "offset": functools.partial(number, "offset")
    }  # fmt: skip

    def __init__(self, scale: float, offset: float = 0.0, **kwargs: Any) -> None:
        self.scale, self.offset = scale, offset
        super().__init__(**kwargs)
