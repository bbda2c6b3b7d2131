"""What a network is made of first of all: its input, and Dense; what moves and scales; a user's own function."""

from __future__ import annotations

import base64
import functools
import inspect
import marshal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from gpumlp import activations, constraints, ops, regularizers
from gpumlp.layers.activation import Activation
from gpumlp.layers.base import Layer, Shape, WeightSpec, bias_regularizer, initializer_of, whole_number
from gpumlp.naming import flag, neutral, number, settle
from gpumlp.saving import deserialize_keras_object, read_by, serialize_keras_object
from gpumlp.saving.objects import function_named


class InputLayer(Layer):
    """The shape of one sample: ``Input(shape=(4,))`` or ``Input((4,))``.

    ``batch_shape`` is that with the batch's size before it. A batch's size binds nobody: models take any. What Keras
    called ``input_shape`` and ``batch_input_shape`` before is taken by these names as well.
    """

    sparse = ragged = optional = False

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
        input_tensor: object = None,
        tensor: object = None,
        input_shape: object = None,
        batch_input_shape: Sequence[int | None] | None = None,
    ) -> None:
        more = {"sparse": (sparse or None, None), "ragged": (ragged or None, None), "optional": (bool(optional), False)}
        neutral("Input", **more, input_tensor=(input_tensor, None), tensor=(tensor, None))
        shape = input_shape if shape is None else shape
        batch_shape = batch_input_shape if batch_shape is None else batch_shape
        if dtype is not None and np.dtype(dtype).kind not in "biuf":
            raise ValueError(f"dtype must be one of numbers; got {dtype!r}.")
        if batch_shape is not None and batch_size is not None:
            raise ValueError("You cannot pass both `batch_size` and `batch_shape`: the latter has the batch's size.")
        if batch_shape is not None:
            if shape is not None or not isinstance(batch_shape, (tuple, list)):
                raise ValueError(f"Give shape, or a tuple as batch_shape; got {shape!r} and {batch_shape!r}.")
            batch_size, *sizes = batch_shape or (None,)
            shape = tuple(sizes)
        if shape is None:
            raise ValueError("Input needs shape=, the shape of one sample, such as Input(shape=(1,)).")
        self.batch_size = None if batch_size is None else whole_number("batch_size", batch_size)
        super().__init__(name=name, input_shape=shape)

    @property
    def batch_shape(self) -> tuple[int | None, ...]:
        """The shape of a batch; None stands for a size that was not given."""
        return self.batch_size, *(self.given_shape or ())

    def call(self, inputs: object = None, training: bool | None = None) -> Any:
        """Return ``inputs`` as an array; None for nothing."""
        return None if inputs is None else self(inputs, training)

    def get_config(self) -> dict[str, Any]:
        shape = list(self.batch_shape)
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
    """activation(x @ kernel + bias) along the samples' last axis, kernel of shape (inputs, units)."""

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
        self.units = units
        self.activation: Any = activation
        self.use_bias = use_bias
        self.kernel_initializer: Any = kernel_initializer
        self.bias_initializer: Any = bias_initializer
        self.kernel_regularizer: Any = kernel_regularizer
        self.bias_regularizer: Any = bias_regularizer
        self.kernel_constraint: Any = kernel_constraint
        self.bias_constraint: Any = bias_constraint
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)

    def specs(self, shape: Shape) -> list[WeightSpec]:
        kernel = WeightSpec(
            "kernel", (shape[-1], self.units), self.kernel_initializer, self.kernel_regularizer, self.kernel_constraint
        )
        if not self.use_bias:
            return [kernel]
        return [
            kernel,
            WeightSpec("bias", (self.units,), self.bias_initializer, self.bias_regularizer, self.bias_constraint),
        ]

    def result_shape(self, shape: Shape) -> Shape:
        if not shape:
            raise ValueError(f"Dense layer {self.name!r} takes a batch of samples of one axis at least; got one axis.")
        return (*shape[:-1], self.units)


def _numbers(name: str, value: Any) -> Any:
    """Return one number as a float, several as they came; ValueError for anything else, naming it."""
    if np.ndim(value) == 0:
        return number(name, value)
    array = np.array(value)
    if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
        raise ValueError(f"{name} must be a finite number, or several; got {value!r}.")
    return value


class Rescaling(Layer):
    """x * scale + offset, each one number, or several that go with the last axes of a sample."""

    checks: ClassVar = {
        **Layer.checks, "scale": functools.partial(_numbers, "scale"), "offset": functools.partial(_numbers, "offset")
    }  # fmt: skip

    def __init__(self, scale: Any, offset: Any = 0.0, **kwargs: Any) -> None:
        self.scale, self.offset = scale, offset
        super().__init__(**kwargs)

    def result_shape(self, shape: Shape) -> Shape:
        for name in ("scale", "offset"):
            own = np.shape(getattr(self, name))
            if shape and (
                len(own) > len(shape) or any(n not in (1, of) for n, of in zip(own[::-1], shape[::-1], strict=False))
            ):
                raise ValueError(
                    f"{name} of Rescaling layer {self.name!r} must go with samples of shape {shape}; got numbers of "
                    f"shape {own}."
                )
        return shape


class Identity(Layer):
    """x."""


def _of_ops(config: Mapping[str, Any]) -> Any:
    """Return the function of gpumlp.ops that a config describes."""
    return getattr(ops, str(config["config"]).lstrip("_"))


read_by("keras.ops", _of_ops)


@dataclass(frozen=True)
class _Bound:
    """A function with the arguments that it is given beside x; equal to another one of the same."""

    function: Callable[..., Any]
    arguments: Mapping[str, Any] = field(hash=False)

    def __post_init__(self) -> None:
        settle(self, __name__=getattr(self.function, "__name__", type(self.function).__name__))

    def __call__(self, x: Any) -> Any:
        return self.function(x, **self.arguments)


class Lambda(Activation):
    """A function of a user's own as a layer, of one array, by `gpumlp.ops`: of each number, or along the last axis.

    Parameters
    ----------
    function : callable
        From x to an array of x's shape. It is called with symbols and differentiated, as an activation is; in training
        and outside it is the same.
    output_shape : tuple or callable, optional
        The samples' shape, or a function of the shape with the batch first: the one that comes in.
    mask : None
        There are no masks.
    arguments : dict, optional
        What the function is given beside x, by name.

    Raises
    ------
    TypeError
        If the function is not made of gpumlp.ops, or gives anything but a number for each of x's.
    """

    def __init__(
        self, function: Callable[..., Any], output_shape: Any = None, mask: None = None,
        arguments: Mapping[str, Any] | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        neutral("Lambda", mask=(mask, None))
        if not callable(function):
            raise TypeError(f"Lambda takes a function of one array, by gpumlp.ops; got {function!r}.")
        self.function, self.arguments = function, dict(arguments or {})
        self._output_shape = tuple(output_shape) if isinstance(output_shape, list) else output_shape
        Layer.__init__(self, **kwargs)
        try:
            self.activation.formula  # noqa: B018  what cannot be traced is told here
        except TypeError as error:
            raise TypeError(
                f"Lambda layer {self.name!r}: {error} A Lambda's function gives a number for each of its argument's, "
                "by gpumlp.ops, and nothing else; for other shapes there are Reshape, Flatten, Permute, RepeatVector."
            ) from None

    def get_config(self) -> dict[str, Any]:
        """Return what the constructor takes; a function without a name is there as code, which Keras reads."""
        found = super().get_config()
        return {name: v for name, v in found.items() if v is not None or name not in ("output_shape", "mask")}

    def described(self, name: str) -> Any:
        value: Any = {"output_shape": self._output_shape, "mask": None}.get(name, getattr(self, name, None))
        if isinstance(value, activations.Activation) and isinstance(of := activations.serialize(value), str):
            return function_named(of)
        if getattr(value, "__name__", "") != "<lambda>":
            return serialize_keras_object(value)
        code = base64.encodebytes(marshal.dumps(value.__code__)).decode("ascii")
        closure = tuple(cell.cell_contents for cell in value.__closure__ or ()) or None
        return {
            "class_name": "__lambda__", "config": {"code": code, "defaults": value.__defaults__, "closure": closure}
        }  # fmt: skip

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Any = None, safe_mode: Any = None) -> Lambda:
        """Return a new layer of named functions; ValueError for code, which is never executed."""
        own = {k: config[k] for k in ("function", "output_shape", "arguments") if k in config}
        for value in own.values():
            if isinstance(value, Mapping) and value.get("class_name") == "__lambda__":
                raise ValueError(
                    "The config of a Lambda layer has code in it, of a function without a name, which gpumlp never "
                    "executes. Build the model by the code that made it and load its weights, or have the function be "
                    "one with a name, registered by register_keras_serializable or given in custom_objects."
                )
        return super().from_config({**config, **deserialize_keras_object(own, custom_objects)})

    @property
    def activation(self) -> activations.Activation:
        """The function, with its arguments."""
        known = inspect.signature(self.function).parameters if inspect.isfunction(self.function) else ()
        if "training" in known:
            raise TypeError("its function has the argument 'training', and is the same in training and outside it.")
        arguments = {**self.arguments, "mask": None} if "mask" in known else self.arguments
        return activations.Activation(_Bound(self.function, arguments) if arguments else self.function)

    def result_shape(self, shape: Shape) -> Shape:
        if (said := self._output_shape) is not None:
            said = tuple(said((None, *shape))[1:] if callable(said) else np.atleast_1d(said))
            if said != shape:
                raise ValueError(
                    f"output_shape of Lambda layer {self.name!r} must be the shape of its samples, {shape}, which its "
                    f"function gives a number for each number of; got {said}. Put a Reshape on top of it."
                )
        return shape
